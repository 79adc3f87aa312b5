//! All network adapters behind one feature each.

#[cfg(feature = "linkedin")]
pub use social_linkedin::{self as linkedin, LinkedIn};
#[cfg(feature = "x")]
pub use social_x::{self as x, X};

/// The networks of this build, in the order of their names.
pub const KNOWN: &[&str] = &[
    #[cfg(feature = "linkedin")]
    "linkedin",
    #[cfg(feature = "x")]
    "x",
];

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
