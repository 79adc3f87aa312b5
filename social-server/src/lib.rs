//! A thin HTTP server over [`social_core::Social`]: parse, authorise, call the core, answer.
//!
//! [`app`] gives all routes as one router, for this crate's own binary, for tests without a socket, and for hosts that serve it
//! beside their own routes.

pub mod accept;
pub mod body;
pub mod caller;
pub mod cli;
pub mod config;
pub mod demo;
mod doctor;
mod front;
mod idempotency;
mod intake;
pub mod key;
pub mod keys;
mod library;
mod limiter;
mod listeners;
pub mod metrics;
pub mod openapi;
pub mod problem;
mod readiness;
mod routes;
pub mod serve;
pub mod start;
mod state;
mod telemetry;
mod transport;
pub mod views;

pub use idempotency::IDEMPOTENCY_KEY;
pub use library::ServerLibrary;
pub use routes::app;
pub use state::{State, StateBuilder, key_ring, media_dir};
pub use transport::Peer;
