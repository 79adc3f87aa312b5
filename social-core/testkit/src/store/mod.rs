//! The suite that every store passes: one test for each promise of the traits in `social_core::store`.
