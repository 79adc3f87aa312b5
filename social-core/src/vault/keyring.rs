//! Key-encryption keys from the environment.

use std::fmt;

use async_trait::async_trait;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::envelope::is_key_id;
use super::{KeyProvider, Purpose, VaultError, WrappedKey};
use crate::crypto::{self, AeadKey, KEY_BYTES, NONCE_BYTES, Prf, TAG_BYTES};

/// Why a key ring was refused. Names keys by id or position, never by value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// The environment variable is not set, or is not text.
    #[error("{variable} is not set; `social-server keys generate` prints a value for it")]
    Missing {
        /// Name of the variable.
        variable: String,
    },
    /// There is no key at all.
    #[error("no key given; the form is `id:base64`, several are separated by commas")]
    Empty,
    /// An entry is not `id:base64`. Its text is not shown, since it may be a key.
    #[error(
        "key number {position} does not have the form `id:base64` with an id of 1 to 32 letters, digits, `-`, `_` or `.`"
    )]
    Form {
        /// Counted from 1.
        position: usize,
    },
    /// Two entries have the same id.
    #[error("key id `{id}` is given twice")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// The key is not base64.
    #[error("key `{id}` is not valid base64")]
    Base64 {
        /// The id.
        id: String,
    },
    /// The key does not have 32 bytes.
    #[error("key `{id}` has {bytes} bytes, it must have 32")]
    Length {
        /// The id.
        id: String,
        /// What it has.
        bytes: usize,
    },
    /// The key is one byte repeated, which no generator gives.
    #[error("key `{id}` is a placeholder; `social-server keys generate` prints a real one")]
    Placeholder {
        /// The id.
        id: String,
    },
    /// Two ids have the same key.
    #[error("keys `{first}` and `{second}` are the same; a rotation needs a new key")]
    SameKey {
        /// The earlier id.
        first: String,
        /// The later id.
        second: String,
    },
}

/// Key-encryption keys held in memory: the first seals, all open.
///
/// From each key, HKDF-SHA-256 derives separate sub-keys per [`Purpose`], for wrapping and for signing; the key itself is then wiped.
/// Each wrapping uses a key derived from a fresh 128-bit salt beside a fresh 96-bit nonce, so that the number of values sealed with
/// one key has no practical limit.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<RingKey>,
}

#[derive(Clone)]
struct RingKey {
    id: String,
    wrap: [Prf; Purpose::ALL.len()],
    sign: [Prf; Purpose::ALL.len()],
}

impl KeyRing {
    /// Reads the variable, in the form that [`parse`](Self::parse) takes.
    ///
    /// # Errors
    /// `Missing` when it is not set, otherwise as [`parse`](Self::parse).
    pub fn from_env(variable: &str) -> Result<Self, KeyRingError> {
        let text = std::env::var(variable).map_err(|_| KeyRingError::Missing { variable: variable.to_owned() })?;
        Self::parse(&Zeroizing::new(text))
    }

    /// Reads `id:base64,id2:base64`: keys of 32 bytes in either base64 alphabet, with or without padding. White space and empty
    /// entries are ignored. The first key becomes the primary key.
    ///
    /// # Errors
    /// A [`KeyRingError`] that names the entry by position or id.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        let mut keys: Vec<(String, Zeroizing<[u8; KEY_BYTES]>)> = Vec::new();
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        for (index, entry) in entries.enumerate() {
            let form = KeyRingError::Form { position: index + 1 };
            let Some((id, encoded)) = entry.split_once(':') else { return Err(form) };
            let (id, encoded) = (id.trim(), encoded.trim());
            if !is_key_id(id) {
                return Err(form);
            }
            if keys.iter().any(|(other, _)| other == id) {
                return Err(KeyRingError::DuplicateId { id: id.to_owned() });
            }
            let key = decode(id, encoded)?;
            if let Some((first, _)) =
                keys.iter().find(|(_, other)| crypto::same_bytes(other.as_slice(), key.as_slice()))
            {
                return Err(KeyRingError::SameKey { first: first.clone(), second: id.to_owned() });
            }
            keys.push((id.to_owned(), key));
        }
        if keys.is_empty() {
            return Err(KeyRingError::Empty);
        }
        Ok(Self { keys: keys.iter().map(|(id, key)| RingKey::derive(id, key)).collect() })
    }

    /// Makes a ring of one new key, and the line `id:base64` that [`parse`](Self::parse) reads.
    ///
    /// # Errors
    /// `Form` when the id cannot be one.
    pub fn generate(id: &str) -> Result<(Self, Zeroizing<String>), KeyRingError> {
        if !is_key_id(id) {
            return Err(KeyRingError::Form { position: 1 });
        }
        let key = Zeroizing::new(crypto::random_bytes::<KEY_BYTES>());
        let line = Zeroizing::new(format!("{id}:{}", Zeroizing::new(STANDARD.encode(key.as_slice())).as_str()));
        Ok((Self { keys: vec![RingKey::derive(id, &key)] }, line))
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn primary_id(&self) -> &str {
        self.keys.first().map_or("", |key| key.id.as_str())
    }

    /// All ids, the primary one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// Signs and verifies short-lived values (links, cursors) with the keys of this ring.
    #[must_use]
    pub fn signer(&self, purpose: Purpose) -> Signer {
        Signer { keys: self.keys.iter().map(|key| key.sign[purpose.index()].clone()).collect() }
    }

    fn find(&self, id: &str) -> Result<&RingKey, VaultError> {
        self.keys.iter().find(|key| key.id == id).ok_or_else(|| VaultError::UnknownKey { key_id: id.to_owned() })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("ids", &self.ids().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

fn decode(id: &str, encoded: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyRingError> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let id = || id.to_owned();
    let standard = Zeroizing::new(encoded.replace('-', "+").replace('_', "/"));
    let bytes =
        LENIENT.decode(standard.as_bytes()).map(Zeroizing::new).map_err(|_| KeyRingError::Base64 { id: id() })?;
    let key: [u8; KEY_BYTES] =
        bytes.as_slice().try_into().map_err(|_| KeyRingError::Length { id: id(), bytes: bytes.len() })?;
    let key = Zeroizing::new(key);
    if key.iter().all(|byte| *byte == key[0]) {
        return Err(KeyRingError::Placeholder { id: id() });
    }
    Ok(key)
}

impl RingKey {
    fn derive(id: &str, key: &[u8; KEY_BYTES]) -> Self {
        let sub_key = |kind: &str, purpose: Purpose| {
            let info = format!("social/{kind}/v1/{}", purpose.as_str());
            Prf::new(crypto::hkdf_sha256(b"social/keyring", key, info.as_bytes()).as_slice())
        };
        Self {
            id: id.to_owned(),
            wrap: Purpose::ALL.map(|purpose| sub_key("wrap", purpose)),
            sign: Purpose::ALL.map(|purpose| sub_key("sign", purpose)),
        }
    }

    /// The key for one wrapping.
    fn wrapping_key(&self, purpose: Purpose, salt: &[u8]) -> Result<AeadKey, crypto::Refused> {
        let key = Zeroizing::new(self.wrap[purpose.index()].compute(&[b"social/wrap-key/v1", salt]));
        AeadKey::new(&key)
    }
}

const SALT_BYTES: usize = 16;
/// Salt, nonce, encrypted data key, tag.
const WRAPPED_BYTES: usize = SALT_BYTES + NONCE_BYTES + KEY_BYTES + TAG_BYTES;

#[async_trait]
impl KeyProvider for KeyRing {
    async fn wrap(
        &self,
        key_id: &str,
        purpose: Purpose,
        data_key: &[u8; KEY_BYTES],
        context: &[u8],
    ) -> Result<WrappedKey, VaultError> {
        let key = self.find(key_id)?;
        let salt = crypto::random_bytes::<SALT_BYTES>();
        let nonce = crypto::random_bytes::<NONCE_BYTES>();
        let mut bytes = Vec::with_capacity(WRAPPED_BYTES);
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(&nonce);
        let mut sealed = Vec::with_capacity(KEY_BYTES + TAG_BYTES);
        key.wrapping_key(purpose, &salt)
            .and_then(|cipher| cipher.seal_into(&nonce, context, data_key, &mut sealed))
            .map_err(|_| VaultError::Unavailable("the cipher failed".into()))?;
        bytes.extend_from_slice(&sealed);
        Ok(WrappedKey { key_id: key_id.to_owned(), bytes })
    }

    async fn unwrap(
        &self,
        purpose: Purpose,
        wrapped: &WrappedKey,
        context: &[u8],
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
        let key = self.find(&wrapped.key_id)?;
        let opened = (|| {
            let (salt, rest) = wrapped.bytes.split_first_chunk::<SALT_BYTES>()?;
            let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>()?;
            let plain = key.wrapping_key(purpose, salt).ok()?.open(nonce, context, body).ok()?;
            plain.as_slice().try_into().ok().map(Zeroizing::new)
        })();
        opened.ok_or_else(|| VaultError::Corrupted { key_id: wrapped.key_id.clone() })
    }

    fn primary_id(&self) -> &str {
        Self::primary_id(self)
    }

    fn knows(&self, key_id: &str) -> bool {
        self.find(key_id).is_ok()
    }
}

/// Signs with the primary key of a [`KeyRing`] and accepts signatures of all its keys (HMAC-SHA-256 under a sub-key).
#[derive(Debug, Clone)]
pub struct Signer {
    keys: Vec<Prf>,
}

impl Signer {
    /// The signature of a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.keys.first().map_or([0; 32], |key| key.compute(&[message]))
    }

    /// Whether one of the keys made this signature, compared in constant time.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.keys.iter().any(|key| key.verify(message, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(byte: u8) -> String {
        let mut key = [byte; KEY_BYTES];
        key[0] ^= 0xff;
        STANDARD.encode(key)
    }

    #[test]
    fn the_first_key_is_primary_and_all_are_known() {
        let text = format!(" new : {} ,\n old:{}, ", encoded(1), encoded(2).trim_end_matches('='));
        let ring = KeyRing::parse(&text).unwrap();
        assert_eq!(ring.primary_id(), "new");
        assert_eq!(ring.ids().collect::<Vec<_>>(), ["new", "old"]);
        assert!(ring.knows("old") && !ring.knows("older"));
    }

    #[test]
    fn both_base64_alphabets_are_read() {
        let mut key = [0xfb_u8; KEY_BYTES];
        key[31] = 1;
        let standard = STANDARD.encode(key);
        assert!(standard.contains('+'));
        let other = standard.replace('+', "-").replace('/', "_");
        assert_eq!(
            KeyRing::parse(&format!("a:{standard},b:{other}")).unwrap_err(),
            KeyRingError::SameKey { first: "a".into(), second: "b".into() }
        );
    }

    #[test]
    fn mistakes_are_named_without_the_key() {
        let good = encoded(1);
        let id = || "k1".to_owned();
        for (text, expected) in [
            (String::new(), KeyRingError::Empty),
            (" , ,".into(), KeyRingError::Empty),
            (good.clone(), KeyRingError::Form { position: 1 }),
            (format!("k0:{good},{good}"), KeyRingError::Form { position: 2 }),
            (format!("{good}:k1"), KeyRingError::Form { position: 1 }),
            (format!(":{good}"), KeyRingError::Form { position: 1 }),
            (format!("a b:{good}"), KeyRingError::Form { position: 1 }),
            (format!("k1:{good},k1:{}", encoded(2)), KeyRingError::DuplicateId { id: id() }),
            ("k1:not*base64".into(), KeyRingError::Base64 { id: id() }),
            (format!("k1:{}", STANDARD.encode([1; 31])), KeyRingError::Length { id: id(), bytes: 31 }),
            (format!("k1:{}", STANDARD.encode([1; 33])), KeyRingError::Length { id: id(), bytes: 33 }),
            ("k1:".into(), KeyRingError::Length { id: id(), bytes: 0 }),
            (format!("k1:{}", STANDARD.encode([0; 32])), KeyRingError::Placeholder { id: id() }),
        ] {
            let error = KeyRing::parse(&text).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains(&good), "{error}");
        }
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = KeyRing::from_env("SOCIAL_TEST_NO_SUCH_KEYS").unwrap_err();
        assert_eq!(error, KeyRingError::Missing { variable: "SOCIAL_TEST_NO_SUCH_KEYS".into() });
    }

    #[test]
    fn a_generated_line_gives_the_same_keys() {
        let (ring, line) = KeyRing::generate("k2026").unwrap();
        let again = KeyRing::parse(&line).unwrap();
        assert_eq!(ring.signer(Purpose::Cursors).sign(b"x"), again.signer(Purpose::Cursors).sign(b"x"));
        assert_ne!(*KeyRing::generate("k2026").unwrap().1, *line);
        assert!(KeyRing::generate("not an id").is_err());
        assert_eq!(format!("{ring:?}"), "KeyRing { ids: [\"k2026\"], .. }");
    }

    #[test]
    fn signatures_survive_rotation_and_keep_to_their_purpose() {
        let (_, old_line) = KeyRing::generate("old").unwrap();
        let (_, new_line) = KeyRing::generate("new").unwrap();
        let old = KeyRing::parse(&old_line).unwrap();
        let both = KeyRing::parse(&format!("{},{}", *new_line, *old_line)).unwrap();
        let signature = old.signer(Purpose::MediaLinks).sign(b"link");
        assert!(both.signer(Purpose::MediaLinks).verify(b"link", &signature));
        assert!(!both.signer(Purpose::Cursors).verify(b"link", &signature));
        assert!(!both.signer(Purpose::MediaLinks).verify(b"links", &signature));
        assert_ne!(both.signer(Purpose::MediaLinks).sign(b"link"), signature);
        assert!(!old.signer(Purpose::MediaLinks).verify(b"link", &both.signer(Purpose::MediaLinks).sign(b"link")));
    }
}
