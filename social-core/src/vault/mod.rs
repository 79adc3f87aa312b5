//! Sealing of tokens and other secrets before they reach a store.
//!
//! Every value is encrypted with AES-256-GCM under a data key of its own, and the data key is wrapped by a key-encryption key that a
//! [`KeyProvider`] holds: a [`KeyRing`] from the environment, or a key service. What is sealed is bound to its place (table, column,
//! user, connection, platform, version), so that it cannot be moved to another row or put back after it was replaced.
//!
//! Rotation changes the wrapping only: [`Vault::rewrap`] never touches the encrypted value.

mod envelope;
mod keyring;
mod provider;

pub use envelope::{Binding, MAX_PLAINTEXT_BYTES, Sealed};
pub use keyring::{KeyRing, KeyRingError, Signer};
pub use provider::{KeyProvider, Purpose, WrappedKey};

use std::sync::Arc;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::crypto::{self, AeadKey, KEY_BYTES, NONCE_BYTES};

/// Why something could not be sealed or opened. Never contains key material or plaintext.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The bytes were changed, belong to another place or version, or were sealed by another key with the same id.
    #[error(
        "sealed data does not open with key `{key_id}`: it was changed, moved, or sealed with another key of that id"
    )]
    Corrupted {
        /// The key that the data names.
        key_id: String,
    },
    /// The data names a key that the provider does not have.
    #[error("key `{key_id}` is not available; add it again or restore it")]
    UnknownKey {
        /// The missing key.
        key_id: String,
    },
    /// The bytes are not in the format of [`Sealed`].
    #[error("sealed data is malformed: {0}")]
    Malformed(&'static str),
    /// More than [`MAX_PLAINTEXT_BYTES`] were to be sealed.
    #[error("{bytes} bytes are too many to seal")]
    TooLarge {
        /// Size of the plaintext in bytes.
        bytes: usize,
    },
    /// The key provider cannot be reached or refused; trying again later may help.
    #[error("the key provider is unavailable: {0}")]
    Unavailable(String),
}

/// Seals and opens values for one [`Purpose`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    provider: Arc<dyn KeyProvider>,
    purpose: Purpose,
}

impl Vault {
    /// A vault for [`Purpose::Tokens`].
    #[must_use]
    pub fn new(provider: Arc<dyn KeyProvider>) -> Self {
        Self { provider, purpose: Purpose::Tokens }
    }

    /// The same keys for another purpose. What one purpose sealed, another cannot open.
    #[must_use]
    pub fn for_purpose(&self, purpose: Purpose) -> Self {
        Self { provider: Arc::clone(&self.provider), purpose }
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn primary_id(&self) -> &str {
        self.provider.primary_id()
    }

    /// Whether what names this key could be opened.
    #[must_use]
    pub fn knows(&self, key_id: &str) -> bool {
        self.provider.knows(key_id)
    }

    /// Encrypts a value for its place. Twice the same input gives different bytes.
    ///
    /// # Errors
    /// `TooLarge`, or `Unavailable` from the key provider.
    pub async fn seal(&self, binding: &Binding<'_>, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        self.seal_with(self.provider.primary_id(), binding, plaintext).await
    }

    /// Decrypts a value, given the place it was sealed for. The returned buffer is wiped when it is dropped.
    ///
    /// # Errors
    /// `Corrupted` when bytes, place or version differ, `UnknownKey`, or `Unavailable` from the key provider.
    pub async fn open(&self, binding: &Binding<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let context = binding.encode(self.purpose);
        let parts = sealed.parts();
        let corrupted = || VaultError::Corrupted { key_id: parts.key_id.to_owned() };
        let data_key = self.provider.unwrap(self.purpose, &parts.wrapped_key(), &context).await?;
        let key = AeadKey::new(&data_key).map_err(|_| corrupted())?;
        key.open(parts.nonce, &context, parts.body).map_err(|_| corrupted())
    }

    /// Wraps the data key again under the primary key, or returns `None` when that is already the case.
    ///
    /// The encrypted value stays as it is, so place and version stay too: replace the bytes only while the row still holds the old
    /// ones. Repeatable.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn rewrap(&self, binding: &Binding<'_>, sealed: &Sealed) -> Result<Option<Sealed>, VaultError> {
        let parts = sealed.parts();
        if parts.key_id == self.provider.primary_id() {
            return Ok(None);
        }
        let context = binding.encode(self.purpose);
        let data_key = self.provider.unwrap(self.purpose, &parts.wrapped_key(), &context).await?;
        let wrapped = self.provider.wrap(self.provider.primary_id(), self.purpose, &data_key, &context).await?;
        Sealed::assemble(&wrapped, parts.nonce, parts.body).map(Some)
    }

    /// A known value sealed with the named key. The store keeps one per key id; see [`check_canary`](Self::check_canary).
    ///
    /// # Errors
    /// `UnknownKey`, or `Unavailable` from the key provider.
    pub async fn canary(&self, key_id: &str) -> Result<Sealed, VaultError> {
        self.seal_with(key_id, &canary_binding(key_id), CANARY).await
    }

    /// Proves that the key with this id is the one that made the canary, not a newer key under an old name.
    ///
    /// # Errors
    /// `UnknownKey` when the key is missing, `Corrupted` when it is another key, `Unavailable` from the key provider.
    pub async fn check_canary(&self, key_id: &str, canary: &Sealed) -> Result<(), VaultError> {
        let corrupted = || VaultError::Corrupted { key_id: key_id.to_owned() };
        if canary.key_id() != key_id {
            return Err(corrupted());
        }
        let plain = self.open(&canary_binding(key_id), canary).await?;
        if plain.as_slice() == CANARY { Ok(()) } else { Err(corrupted()) }
    }

    async fn seal_with(&self, key_id: &str, binding: &Binding<'_>, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        if plaintext.len() > MAX_PLAINTEXT_BYTES {
            return Err(VaultError::TooLarge { bytes: plaintext.len() });
        }
        let context = binding.encode(self.purpose);
        // A key for one value: its nonce could even be constant, and no count of uses has to be kept.
        let data_key = Zeroizing::new(crypto::random_bytes::<KEY_BYTES>());
        let nonce = crypto::random_bytes::<NONCE_BYTES>();
        let wrapped = self.provider.wrap(key_id, self.purpose, &data_key, &context).await?;
        let mut body = Vec::with_capacity(plaintext.len() + crypto::TAG_BYTES);
        AeadKey::new(&data_key)
            .and_then(|key| key.seal_into(&nonce, &context, plaintext, &mut body))
            .map_err(|_| VaultError::Unavailable("the cipher failed".into()))?;
        Sealed::assemble(&wrapped, &nonce, &body)
    }
}

const CANARY: &[u8] = b"this key is the right one";

fn canary_binding(key_id: &str) -> Binding<'_> {
    Binding {
        table: "vault_canaries",
        column: key_id,
        user: Uuid::nil(),
        connection: Uuid::nil(),
        platform: "",
        version: 0,
    }
}

#[cfg(test)]
mod tests;
