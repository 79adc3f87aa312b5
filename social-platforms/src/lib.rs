//! All network adapters behind one feature each, and their making from plain settings.
//!
//! ```
//! use social_platforms::{Credentials, build};
//!
//! let mut credentials = Credentials::new("client-id");
//! credentials.client_secret = social_core::ClientSecret::parse("client-secret");
//! let platform = build("x", credentials)?;
//! assert_eq!(platform.descriptor().id.as_str(), "x");
//! # Ok::<(), social_core::Error>(())
//! ```

use std::sync::Arc;

pub use social_core::Credentials;
use social_core::{Error, ErrorKind, Platform};

/// What this build has: one line for each network, from which everything else here follows.
macro_rules! networks {
    ($($feature:literal => $library:ident::$adapter:ident,)+) => {
        $(
            #[cfg(feature = $feature)]
            pub use ::$library::$adapter;
        )+

        /// The networks of this build, in the order of their names.
        pub const KNOWN: &[&str] = &[$(#[cfg(feature = $feature)] $feature,)+];

        /// Makes the adapter of a network.
        ///
        /// # Errors
        /// `Config` for a network that this build does not have, for missing or unusable credentials, and for a setting that the network
        /// does not know.
        pub fn build(network: &str, credentials: Credentials) -> Result<Arc<dyn Platform>, Error> {
            match network {
                $(
                    #[cfg(feature = $feature)]
                    $feature => Ok(Arc::new($adapter::try_from(credentials)?)),
                )+
                _ => {
                    drop(credentials);
                    let known = KNOWN.join(", ");
                    let message = format!("this build knows no network named {network}; it knows: {known}");
                    Err(Error::new(ErrorKind::Config, "platforms.build").message(message).effect_none())
                }
            }
        }
    };
}

networks! {
    "linkedin" => linkedin::LinkedIn,
    "x" => x::X,
}

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;

#[cfg(test)]
mod tests {
    use social_core::ClientSecret;

    use super::*;

    fn credentials() -> Credentials {
        let mut credentials = Credentials::new("id");
        credentials.client_secret = ClientSecret::parse("marker-secret");
        credentials
    }

    #[test]
    fn every_known_network_is_made_and_called_by_its_name() {
        for name in KNOWN {
            let platform = build(name, credentials()).unwrap();
            assert_eq!(platform.descriptor().id.as_str(), *name);
        }
        assert!(build("chirp", credentials()).is_err());
    }

    #[test]
    fn missing_secrets_and_unknown_settings_are_named() {
        for name in KNOWN {
            let error = build(name, Credentials::new("id")).unwrap_err().to_string();
            assert!(error.contains("secret"), "{error}");
            let mut preset = credentials();
            preset.preset = Some("no-such-preset".into());
            let error = build(name, preset).unwrap_err().to_string();
            assert!(error.contains("no-such-preset") && !error.contains("marker-secret"), "{error}");
        }
    }

    #[cfg(feature = "linkedin")]
    #[test]
    fn a_preset_becomes_the_default() {
        let mut page = credentials();
        page.preset = Some("page".into());
        let page = build("linkedin", page).unwrap();
        assert_eq!(page.descriptor().oauth.preset(None).unwrap().name, "page");
    }
}
