//! All network adapters behind one feature each.

/// The networks of this build, in the order of their names.
pub const KNOWN: &[&str] = &[
    #[cfg(feature = "linkedin")]
    "linkedin",
    #[cfg(feature = "x")]
    "x",
];
