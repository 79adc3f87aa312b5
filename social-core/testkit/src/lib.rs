//! What tests of this project share: a clock that stands still, ready-made data, planted secrets, a world with dying workers and lying
//! networks, and the suites that every store and every platform passes.
//!
//! A store is judged by one line in its tests, see [`store_suite!`]; an adapter by another, see [`platform_suite!`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code in a library's clothes: a fixture that cannot be made has to end the test"
)]

pub mod clock;
pub mod fake;
pub mod fixtures;
pub mod model;
pub mod pg;
pub mod platform;
pub mod probe;
pub mod sandboxed;
pub mod secrets;
pub mod store;
pub mod world;
