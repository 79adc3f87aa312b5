//! The API as its callers see it: over the router, without a socket where none is needed.

mod access;
mod connecting;
mod isolation;
mod media;
mod posts;
mod problems;
mod snapshot;
mod sockets;
mod world;
