//! The seam behind which key-encryption keys live.

use std::fmt::Debug;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::VaultError;
use crate::crypto::KEY_BYTES;

/// What a key is used for. Purposes have separate keys: what one sealed, no other opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Access and refresh tokens, and secrets kept beside them.
    Tokens,
    /// Authorizations under way: PKCE verifiers and what the callback needs.
    Pending,
    /// Stored answers of idempotent requests.
    Idempotency,
    /// Signed public media links.
    MediaLinks,
    /// Signed paging cursors.
    Cursors,
    /// Secrets of outgoing webhooks.
    Webhooks,
}

impl Purpose {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 6] =
        [Self::Tokens, Self::Pending, Self::Idempotency, Self::MediaLinks, Self::Cursors, Self::Webhooks];

    /// The name that enters key derivation and associated data; never changes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Pending => "pending",
            Self::Idempotency => "idempotency",
            Self::MediaLinks => "media-links",
            Self::Cursors => "cursors",
            Self::Webhooks => "webhooks",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// A data key encrypted by a key-encryption key. The bytes are the provider's own format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The key that wrapped it; 1 to 32 ASCII letters, digits, `-`, `_` or `.`.
    pub key_id: String,
    /// At most 4096 bytes.
    pub bytes: Vec<u8>,
}

/// Wraps and unwraps data keys: a [`super::KeyRing`], or an adapter to a key service.
///
/// `context` says what the data key belongs to; it must be authenticated, so that `unwrap` fails with another context. It holds no
/// secrets and may be logged by a key service. Every call is safe to repeat and to cancel.
#[async_trait]
pub trait KeyProvider: Debug + Send + Sync {
    /// Encrypts a data key with the named key.
    ///
    /// # Errors
    /// `UnknownKey`, or `Unavailable`.
    async fn wrap(
        &self,
        key_id: &str,
        purpose: Purpose,
        data_key: &[u8; KEY_BYTES],
        context: &[u8],
    ) -> Result<WrappedKey, VaultError>;

    /// Decrypts a data key with the key that it names.
    ///
    /// # Errors
    /// `UnknownKey`, `Corrupted` when the bytes or the context differ, or `Unavailable`.
    async fn unwrap(
        &self,
        purpose: Purpose,
        wrapped: &WrappedKey,
        context: &[u8],
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError>;

    /// The id of the key that new values are sealed with.
    fn primary_id(&self) -> &str;

    /// Whether `unwrap` could open what this key wrapped.
    fn knows(&self, key_id: &str) -> bool;
}
