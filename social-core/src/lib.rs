//! Traits, state machine and publishing engine.

pub mod text;
