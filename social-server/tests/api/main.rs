//! The API as its callers see it: over the router, without a socket where none is needed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests end the test when something cannot be made"
)]

mod access;
mod connecting;
mod isolation;
mod keyring;
mod limits;
mod media;
mod oauth;
mod once;
mod posts;
mod problems;
mod snapshot;
mod sockets;
mod world;
