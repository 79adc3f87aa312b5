//! The stored form of a sealed value, and the associated data that ties it to its place.
//!
//! ```text
//! version 1 | algorithm 1 | length of key id | key id | length of wrapped key (2, big endian) | wrapped key | nonce (12) | ciphertext | tag (16)
//! ```

use std::fmt;

use uuid::Uuid;

use super::{Purpose, VaultError, WrappedKey};
use crate::crypto::{NONCE_BYTES, TAG_BYTES};

/// Largest value that can be sealed: 1 MiB.
pub const MAX_PLAINTEXT_BYTES: usize = 1 << 20;

const FORMAT_V1: u8 = 1;
const AES_256_GCM: u8 = 1;
const MAX_WRAPPED_BYTES: usize = 4096;

/// The place that a sealed value belongs to. Opening it anywhere else fails.
///
/// `version` is the version of the row's tokens: with it, an older ciphertext cannot be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// Table of the row.
    pub table: &'a str,
    /// Column of the value.
    pub column: &'a str,
    /// Owner of the row.
    pub user: Uuid,
    /// The connection (or other row id).
    pub connection: Uuid,
    /// Platform id.
    pub platform: &'a str,
    /// Token version of the row.
    pub version: u64,
}

impl Binding<'_> {
    /// Each field with its length in front, so that no two bindings share an encoding.
    pub(super) fn encode(&self, purpose: Purpose) -> Vec<u8> {
        let version = self.version.to_be_bytes();
        let fields: [&[u8]; 8] = [
            b"social/sealed/v1",
            purpose.as_str().as_bytes(),
            self.table.as_bytes(),
            self.column.as_bytes(),
            self.user.as_bytes(),
            self.connection.as_bytes(),
            self.platform.as_bytes(),
            &version,
        ];
        let mut out = Vec::with_capacity(fields.iter().map(|field| field.len() + 8).sum());
        for field in fields {
            out.extend_from_slice(&(field.len() as u64).to_be_bytes());
            out.extend_from_slice(field);
        }
        out
    }
}

/// A sealed value, as a store keeps it. Opaque; its format is versioned.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Takes stored bytes back. Checks the framing only; whether they open is known to [`super::Vault::open`].
    ///
    /// # Errors
    /// `Malformed`. Never panics, whatever the bytes.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self, VaultError> {
        let bytes = bytes.into();
        Parts::read(&bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes to store.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The key-encryption key that is needed to open it.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.parts().key_id
    }

    pub(super) fn assemble(wrapped: &WrappedKey, nonce: &[u8; NONCE_BYTES], body: &[u8]) -> Result<Self, VaultError> {
        let id = wrapped.key_id.as_bytes();
        let mut bytes = Vec::with_capacity(5 + id.len() + wrapped.bytes.len() + NONCE_BYTES + body.len());
        let id_length = u8::try_from(id.len()).map_err(|_| VaultError::Malformed("key id"))?;
        let wrapped_length = u16::try_from(wrapped.bytes.len()).map_err(|_| VaultError::Malformed("wrapped key"))?;
        bytes.extend_from_slice(&[FORMAT_V1, AES_256_GCM, id_length]);
        bytes.extend_from_slice(id);
        bytes.extend_from_slice(&wrapped_length.to_be_bytes());
        bytes.extend_from_slice(&wrapped.bytes);
        bytes.extend_from_slice(nonce);
        bytes.extend_from_slice(body);
        Self::from_bytes(bytes)
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        #[expect(clippy::expect_used, reason = "the only constructor, `from_bytes`, read these bytes before")]
        Parts::read(&self.0).expect("framing was checked")
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(key `{}`, {} bytes)", self.key_id(), self.0.len())
    }
}

pub(super) struct Parts<'a> {
    pub(super) key_id: &'a str,
    wrapped: &'a [u8],
    pub(super) nonce: &'a [u8; NONCE_BYTES],
    /// Ciphertext and tag.
    pub(super) body: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, VaultError> {
        let malformed = VaultError::Malformed;
        let (head, rest) = bytes.split_first_chunk::<3>().ok_or(malformed("too short"))?;
        let [version, algorithm, id_length] = *head;
        if version != FORMAT_V1 {
            return Err(malformed("unknown format version"));
        }
        if algorithm != AES_256_GCM {
            return Err(malformed("unknown algorithm"));
        }
        let (id, rest) = rest.split_at_checked(usize::from(id_length)).ok_or(malformed("too short"))?;
        let key_id = std::str::from_utf8(id).ok().filter(|id| is_key_id(id)).ok_or(malformed("key id"))?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(malformed("too short"))?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length == 0 || length > MAX_WRAPPED_BYTES {
            return Err(malformed("wrapped key"));
        }
        let (wrapped, rest) = rest.split_at_checked(length).ok_or(malformed("too short"))?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(malformed("too short"))?;
        if body.len() < TAG_BYTES {
            return Err(malformed("too short"));
        }
        if body.len() > MAX_PLAINTEXT_BYTES + TAG_BYTES {
            return Err(malformed("too long"));
        }
        Ok(Self { key_id, wrapped, nonce, body })
    }

    pub(super) fn wrapped_key(&self) -> WrappedKey {
        WrappedKey { key_id: self.key_id.to_owned(), bytes: self.wrapped.to_vec() }
    }
}

/// 1 to 32 ASCII letters, digits, `-`, `_`, `.`: too short for a base64 key, so that a key pasted as an id is refused.
pub(super) fn is_key_id(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
