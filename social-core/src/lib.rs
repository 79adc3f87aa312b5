//! Traits, state machine and publishing engine.

pub mod http {
    //! The HTTP layer.

    pub mod guarded;
}
pub mod media;
pub mod text;
