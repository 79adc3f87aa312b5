//! API keys: `sk_live_<id>_<secret and checksum>`. The secret has 256 bits of chance, so its SHA-256 is all that is kept.

use social_core::{crypto, secret::OpaqueSecret};
use uuid::Uuid;

const PREFIX: &str = "sk_live_";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// 256 bits in base 32.
const SECRET_CHARS: usize = 52;
/// 30 bits: a mistyped or cut-off key is told apart without asking the store.
const CHECKSUM_CHARS: usize = 6;

/// A key that was just made.
#[derive(Debug)]
pub struct FreshKey {
    /// Its public part.
    pub id: Uuid,
    /// The whole key, to be shown once.
    pub key: OpaqueSecret,
    /// What is kept of the secret part.
    pub hash: [u8; 32],
}

impl FreshKey {
    /// Makes a key.
    #[must_use]
    pub fn make() -> Option<Self> {
        let id = Uuid::now_v7();
        let secret = base32(&crypto::random_bytes::<32>(), SECRET_CHARS);
        let body = format!("{PREFIX}{}_{secret}", id.simple());
        let whole = format!("{body}{}", checksum(&body));
        Some(Self { id, key: OpaqueSecret::parse(whole)?, hash: crypto::sha256(secret.as_bytes()) })
    }
}

/// What a caller showed, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownKey {
    /// The public part.
    pub id: Uuid,
    /// The hash of the secret part.
    pub hash: [u8; 32],
}

impl ShownKey {
    /// Takes a key apart. `None` for anything that cannot be one: wrong form, or wrong checksum.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        let rest = raw.strip_prefix(PREFIX)?;
        let (id, tail) = rest.split_once('_')?;
        if id.len() != 32 || tail.len() != SECRET_CHARS + CHECKSUM_CHARS || !tail.is_ascii() {
            return None;
        }
        let (secret, check) = tail.split_at(SECRET_CHARS);
        let body = raw.get(..raw.len() - CHECKSUM_CHARS)?;
        let id = Uuid::try_parse(id).ok()?;
        (checksum(body) == check).then(|| Self { id, hash: crypto::sha256(secret.as_bytes()) })
    }
}

fn checksum(body: &str) -> String {
    base32(&crypto::sha256(body.as_bytes()), CHECKSUM_CHARS)
}

/// The first `chars` digits of the bytes in base 32.
fn base32(bytes: &[u8], chars: usize) -> String {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    (0..chars)
        .map(|digit| {
            let value = (0..5).fold(0, |value, i| value << 1 | bit(digit * 5 + i));
            char::from(ALPHABET[value])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_any_changed_character_is_noticed() {
        let fresh = FreshKey::make().unwrap();
        let raw = fresh.key.expose();
        let shown = ShownKey::parse(raw).unwrap();
        assert_eq!((shown.id, shown.hash), (fresh.id, fresh.hash));
        for at in 0..raw.len() {
            let mut other = raw.as_bytes().to_vec();
            other[at] = if other[at] == b'b' { b'c' } else { b'b' };
            assert_eq!(ShownKey::parse(std::str::from_utf8(&other).unwrap()), None, "character {at}");
        }
        assert_eq!(ShownKey::parse(&raw[..raw.len() - 1]), None);
        assert_eq!(ShownKey::parse(&format!("{raw}a")), None);
        assert_eq!(ShownKey::parse(""), None);
        assert_eq!(ShownKey::parse("sk_live_é"), None);
        assert_eq!(format!("{:?}", fresh.key), "OpaqueSecret([redacted])");
    }

    #[test]
    fn two_keys_differ() {
        let (a, b) = (FreshKey::make().unwrap(), FreshKey::make().unwrap());
        assert_ne!(a.hash, b.hash);
        assert_ne!(a.id, b.id);
    }
}
