//! What tests of this project share: a clock that stands still, ready-made data, planted secrets, and the suite that every store passes.
//!
//! A store is judged by one line in its tests; see [`store_suite!`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code in a library's clothes: a fixture that cannot be made has to end the test"
)]

pub mod clock;
pub mod fixtures;
pub mod secrets;
pub mod store;
