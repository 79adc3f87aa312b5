//! Traits, state machine and publishing engine.

pub mod media;
pub mod text;
