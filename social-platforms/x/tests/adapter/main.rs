//! The adapter against a server that plays X, one request at a time.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has to end")]

mod analytics;
mod connect;
mod contract;
mod delete;
mod media;
mod publish;
mod reconcile;
mod support;
mod validate;
