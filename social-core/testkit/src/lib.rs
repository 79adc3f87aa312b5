//! Conformance suites for platforms and stores, and what tests need besides.

pub mod probe;
pub mod platform;
pub mod world;
