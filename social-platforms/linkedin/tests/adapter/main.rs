//! The adapter against a LinkedIn that answers what each test says.

mod analytics;
mod connect;
mod media;
mod publish;
mod reconcile;
mod support;
mod validate;
