//! The adapter against a server that plays X, one request at a time.

mod analytics;
mod connect;
mod contract;
mod delete;
mod media;
mod publish;
mod reconcile;
mod support;
mod validate;
