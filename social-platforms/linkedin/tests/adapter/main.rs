//! The adapter against a LinkedIn that answers what each test says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has to end")]

mod analytics;
mod connect;
mod media;
mod publish;
mod reconcile;
mod support;
mod validate;
