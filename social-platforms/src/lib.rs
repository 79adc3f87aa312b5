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

use social_core::{ClientSecret, Error, ErrorKind, Platform};
use url::Url;

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

/// What every adapter is made from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// The client id of the app that is registered with the network.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Option<ClientSecret>,
    /// One prefix instead of all hosts of the network.
    pub base_url: Option<Url>,
    /// The scope preset of connections that name none.
    pub preset: Option<String>,
    /// The version of the network's interface to speak.
    pub api_version: Option<String>,
}

impl Credentials {
    /// A client without more; the rest is set by field.
    #[must_use]
    pub fn new(client_id: impl Into<String>) -> Self {
        Self { client_id: client_id.into(), client_secret: None, base_url: None, preset: None, api_version: None }
    }
}

/// Makes the adapter of a network.
///
/// # Errors
/// `Config` for a network that this build does not have, for missing or unusable credentials, and for a setting that the network does not
/// know.
pub fn build(network: &str, credentials: Credentials) -> Result<Arc<dyn Platform>, Error> {
    match network {
        #[cfg(feature = "x")]
        "x" => {
            let mut builder = X::builder(credentials.client_id, exposed(credentials.client_secret.as_ref()));
            if credentials.api_version.is_some() {
                return Err(config("X has no versions to choose from: leave the API version out"));
            }
            if let Some(base) = credentials.base_url {
                builder = builder.base_url(base);
            }
            let preset = credentials.preset;
            let unknown = preset.clone();
            let x = builder
                .descriptor(move |facts| {
                    let presets = &mut facts.oauth.presets;
                    let at = preset.and_then(|name| presets.iter().position(|preset| preset.name == name));
                    if let Some(at) = at {
                        presets[..=at].rotate_right(1);
                    }
                })
                .build()?;
            if let Some(name) = unknown.filter(|name| x.descriptor().oauth.preset(Some(name)).is_none()) {
                return Err(config(format!("X has no scope preset {name:?}")));
            }
            Ok(Arc::new(x))
        }
        #[cfg(feature = "linkedin")]
        "linkedin" => {
            let mut builder = LinkedIn::builder(credentials.client_id, exposed(credentials.client_secret.as_ref()));
            if let Some(base) = credentials.base_url {
                builder = builder.base_url(base);
            }
            if let Some(preset) = credentials.preset {
                builder = builder.preset(preset);
            }
            if let Some(version) = credentials.api_version {
                builder = builder.api_version(version);
            }
            Ok(Arc::new(builder.build()?))
        }
        _ => {
            drop(credentials);
            let known = KNOWN.join(", ");
            Err(config(format!("this build knows no network named {network}; it knows: {known}")))
        }
    }
}

/// The day on which a network switches the version that its adapter speaks off, where it does such a thing (`YYYY-MM-DD`).
#[must_use]
pub fn sunset(platform: &dyn Platform) -> Option<String> {
    let descriptor = platform.descriptor();
    match descriptor.id.as_str() {
        #[cfg(feature = "linkedin")]
        "linkedin" => LinkedIn::sunset(&descriptor.api_version).map(|day| day.to_string()),
        _ => None,
    }
}

/// A secret that is missing is refused by the adapters themselves, with its name.
#[cfg(any(feature = "x", feature = "linkedin"))]
fn exposed(secret: Option<&ClientSecret>) -> String {
    secret.map(|secret| secret.expose().to_owned()).unwrap_or_default()
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "platforms.build").message(message).effect_none()
}

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials { client_secret: ClientSecret::parse("marker-secret"), ..Credentials::new("id") }
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
            let preset = Credentials { preset: Some("no-such-preset".into()), ..credentials() };
            let error = build(name, preset).unwrap_err().to_string();
            assert!(error.contains("no-such-preset") && !error.contains("marker-secret"), "{error}");
        }
    }

    #[cfg(feature = "linkedin")]
    #[test]
    fn a_preset_becomes_the_default() {
        let page = build("linkedin", Credentials { preset: Some("page".into()), ..credentials() }).unwrap();
        assert_eq!(page.descriptor().oauth.preset(None).unwrap().name, "page");
    }
}
