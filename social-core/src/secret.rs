//! Types for values that must not be shown, and [`scrub`] for text that others wrote.
//!
//! Every type here prints as `Name([redacted])`, is wiped from memory when dropped, and can be neither serialised, shown nor
//! compared with `==`. The only way to the value is `expose`, so that a search for that word lists every place of use.
//!
//! ```compile_fail
//! let token = social_core::secret::AccessToken::new("abc")?;
//! println!("{token}"); // not Display
//! # Ok::<(), social_core::secret::SecretError>(())
//! ```
//! ```compile_fail
//! let token = social_core::secret::AccessToken::new("abc")?;
//! serde_json::to_string(&token).ok(); // not Serialize
//! # Ok::<(), social_core::secret::SecretError>(())
//! ```
//! ```compile_fail
//! let token = social_core::secret::AccessToken::new("abc")?;
//! let _ = token == token; // not PartialEq: use `same`
//! # Ok::<(), social_core::secret::SecretError>(())
//! ```
//! ```compile_fail
//! let verifier = social_core::secret::PkceVerifier::new("abc")?;
//! let _ = verifier.clone(); // used once, therefore not Clone
//! # Ok::<(), social_core::secret::SecretError>(())
//! ```

mod scrub;

pub use scrub::{REDACTED, scrub};

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroize as _;

/// Why a text was not accepted as a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Empty, or nothing but white space. Storing it would overwrite a good token with nothing.
    #[error("the value is empty")]
    Empty,
    /// Contains a control character such as a line break, which could split a header.
    #[error("the value contains a control character")]
    ControlCharacter,
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident $(: $also:ident)?) => {
        $(#[$doc])*
        $(#[derive($also)])?
        pub struct $name(SecretString);

        impl $name {
            /// Takes the value over.
            ///
            /// # Errors
            /// When it is empty or contains a control character. The error does not contain the value.
            pub fn new(raw: impl Into<String>) -> Result<Self, SecretError> {
                checked(raw.into()).map(Self)
            }

            /// The same as [`new`](Self::new) for optional fields of replies: an unusable value becomes `None`.
            #[must_use]
            pub fn parse(raw: impl Into<String>) -> Option<Self> {
                Self::new(raw).ok()
            }

            /// The raw value. Call it where the request is built and nowhere else.
            #[must_use]
            pub fn expose(&self) -> &str {
                self.0.expose_secret()
            }

            /// Compares with a received value, in a time that depends on the lengths only.
            #[must_use]
            pub fn same(&self, other: &str) -> bool {
                crate::crypto::same_bytes(self.expose().as_bytes(), other.as_bytes())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    };
}

secret! {
    /// Lets its bearer act for an account.
    AccessToken: Clone
}
secret! {
    /// Buys new access tokens. Where a network rotates it, each value can be used once.
    RefreshToken: Clone
}
secret! {
    /// The application's own password at a network.
    ClientSecret: Clone
}
secret! {
    /// What a network hands to the callback. It is exchanged once.
    AuthCode
}
secret! {
    /// The PKCE secret of one authorization. Not `Clone`, since a second use would be a fault.
    PkceVerifier
}
secret! {
    /// The `state` of one authorization; proves that a callback belongs to a request that started here.
    OAuthState
}
secret! {
    /// The value of the cookie that binds an authorization to the browser that began it.
    BindingSecret
}
secret! {
    /// A secret without a name of its own, such as a per-connection key kept beside the tokens.
    OpaqueSecret: Clone
}

fn checked(mut raw: String) -> Result<SecretString, SecretError> {
    let fault = if raw.trim().is_empty() {
        Some(SecretError::Empty)
    } else if raw.chars().any(char::is_control) {
        Some(SecretError::ControlCharacter)
    } else {
        None
    };
    if let Some(fault) = fault {
        raw.zeroize();
        return Err(fault);
    }
    // Shrinking a string may move it and leave the old copy behind; copy it ourselves and wipe the original.
    if raw.capacity() == raw.len() {
        return Ok(SecretString::from(raw));
    }
    let exact = SecretString::from(raw.as_str());
    raw.zeroize();
    Ok(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_name_and_never_the_value() {
        let token = AccessToken::new("marker-5d1").unwrap();
        assert_eq!(format!("{token:?}"), "AccessToken([redacted])");
        assert_eq!(format!("{:#?}", Some(PkceVerifier::new("marker-5d1"))), {
            "Some(\n    Ok(\n        PkceVerifier([redacted]),\n    ),\n)"
        });
        assert_eq!(token.expose(), "marker-5d1");
        assert_eq!(token.clone().expose(), "marker-5d1");
    }

    #[test]
    fn an_empty_value_is_never_a_secret() {
        for raw in ["", " ", "\t\n", "\u{a0}"] {
            assert_eq!(RefreshToken::new(raw).unwrap_err(), SecretError::Empty, "{raw:?}");
            assert!(RefreshToken::parse(raw).is_none(), "{raw:?}");
        }
        for raw in ["a\nb", "a\rb", "a\0", "\u{7f}a"] {
            assert_eq!(RefreshToken::new(raw).unwrap_err(), SecretError::ControlCharacter, "{raw:?}");
        }
        assert!(RefreshToken::parse("a b").is_some());
    }

    #[test]
    fn same_compares_values() {
        let state = OAuthState::new("abc").unwrap();
        assert!(state.same("abc"));
        for other in ["", "ab", "abd", "abcd"] {
            assert!(!state.same(other), "{other:?}");
        }
    }
}
