//! Randomness, hashes and the one cipher of the project, all from one provider.
//!
//! Nothing else in the workspace names the provider, so that it can be replaced (or swapped for its FIPS build) here.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

/// Length of an AES-256 key in bytes.
pub const KEY_BYTES: usize = 32;
/// Length of an AES-GCM nonce in bytes.
pub const NONCE_BYTES: usize = 12;
/// Length of an AES-GCM tag in bytes.
pub const TAG_BYTES: usize = 16;

/// Bytes from the operating system's generator, fit for keys, nonces and tokens.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    fill_random(&mut bytes);
    bytes
}

/// A random token with `bytes` bytes of entropy, as base64url without padding (32 bytes become 43 characters).
#[must_use]
pub fn random_token(bytes: usize) -> String {
    let mut raw = Zeroizing::new(vec![0_u8; bytes]);
    fill_random(&mut raw);
    URL_SAFE_NO_PAD.encode(raw.as_slice())
}

/// SHA-256 of the data.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0_u8; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// HMAC-SHA-256 of the data. A key of any length is accepted; 32 random bytes are right.
#[must_use]
pub fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    Prf::new(key).compute(&[data])
}

/// Compares an HMAC-SHA-256 with what was received, in a time that does not depend on where they differ.
#[must_use]
pub fn hmac_sha256_verify(key: &[u8], data: &[u8], received: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), data, received).is_ok()
}

/// HKDF-SHA-256 (RFC 5869) with one output block: a sub-key of a key for one purpose.
#[must_use]
pub fn hkdf_sha256(salt: &[u8], key: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let extracted = Zeroizing::new(hmac_sha256(salt, key));
    Zeroizing::new(Prf::new(extracted.as_slice()).compute(&[info, &[1]]))
}

/// Equality in a time that depends on the lengths only.
#[must_use]
pub fn same_bytes(left: &[u8], right: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    left.ct_eq(right).into()
}

fn fill_random(bytes: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "the provider aborts the process itself when the system has no entropy")]
    rand::fill(bytes).expect("the system's random generator answers");
}

/// HMAC-SHA-256 with its key already expanded, for keys that are used many times.
#[derive(Clone)]
pub(crate) struct Prf(hmac::Key);

impl Prf {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    pub(crate) fn compute(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut out = [0_u8; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    pub(crate) fn verify(&self, data: &[u8], received: &[u8]) -> bool {
        hmac::verify(&self.0, data, received).is_ok()
    }
}

impl fmt::Debug for Prf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prf([redacted])")
    }
}

/// The cipher refused: a wrong key, changed bytes or other associated data. It cannot tell which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cipher refused the data")]
pub(crate) struct Refused;

/// AES-256-GCM under one key.
///
/// The caller chooses nonces and must never use one twice with the same key; [`crate::vault`] is the only caller.
pub(crate) struct AeadKey(LessSafeKey);

impl AeadKey {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Result<Self, Refused> {
        UnboundKey::new(&AES_256_GCM, key).map(|key| Self(LessSafeKey::new(key))).map_err(|_| Refused)
    }

    /// Appends ciphertext and tag to `out`.
    pub(crate) fn seal_into(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let start = out.len();
        out.extend_from_slice(plaintext);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = match out.get_mut(start..) {
            Some(body) => self.0.seal_in_place_separate_tag(nonce, Aad::from(associated), body),
            None => return Err(Refused),
        };
        match sealed {
            Ok(tag) => {
                out.extend_from_slice(tag.as_ref());
                Ok(())
            }
            Err(_) => {
                out.zeroize();
                Err(Refused)
            }
        }
    }

    /// Opens ciphertext followed by its tag. The buffer is wiped when it is dropped.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(Refused)?;
        let (body, tag) = sealed.split_at_checked(length).ok_or(Refused)?;
        let mut plain = Zeroizing::new(vec![0_u8; length]);
        self.0
            .open_separate_gather(Nonce::assume_unique_for_key(*nonce), Aad::from(associated), body, tag, &mut plain)
            .map_err(|_| Refused)?;
        Ok(plain)
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        assert!(text.len().is_multiple_of(2), "whole bytes: {text}");
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    struct Vector {
        key: &'static str,
        nonce: &'static str,
        associated: &'static str,
        plain: &'static str,
        sealed: &'static str,
    }

    /// Test cases 13 to 16 of the GCM submission to NIST (256-bit keys, 96-bit nonces).
    const GCM: [Vector; 4] = [
        Vector {
            key: "0000000000000000000000000000000000000000000000000000000000000000",
            nonce: "000000000000000000000000",
            associated: "",
            plain: "",
            sealed: "530f8afbc74536b9a963b4f1c4cb738b",
        },
        Vector {
            key: "0000000000000000000000000000000000000000000000000000000000000000",
            nonce: "000000000000000000000000",
            associated: "",
            plain: "00000000000000000000000000000000",
            sealed: "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
        },
        Vector {
            key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            nonce: "cafebabefacedbaddecaf888",
            associated: "",
            plain: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
            sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                     8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad\
                     b094dac5d93471bdec1a502270e3cc6c",
        },
        Vector {
            key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            nonce: "cafebabefacedbaddecaf888",
            associated: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            plain: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
            sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                     8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662\
                     76fc6ece0f4e1768cddf8853bb2d551b",
        },
    ];

    #[test]
    fn the_cipher_answers_the_published_vectors() {
        for (index, vector) in GCM.iter().enumerate() {
            let key = AeadKey::new(&hex(vector.key).try_into().unwrap()).unwrap();
            let nonce: [u8; NONCE_BYTES] = hex(vector.nonce).try_into().unwrap();
            let (associated, plain, sealed) = (hex(vector.associated), hex(vector.plain), hex(vector.sealed));
            let mut out = Vec::new();
            key.seal_into(&nonce, &associated, &plain, &mut out).unwrap();
            assert_eq!(out, sealed, "sealing vector {index}");
            assert_eq!(key.open(&nonce, &associated, &sealed).unwrap().as_slice(), plain, "opening vector {index}");
        }
    }

    #[test]
    fn an_input_shorter_than_a_tag_is_refused() {
        let key = AeadKey::new(&[7; KEY_BYTES]).unwrap();
        for length in 0..TAG_BYTES {
            assert_eq!(key.open(&[0; NONCE_BYTES], b"", &vec![0; length]).unwrap_err(), Refused, "{length} bytes");
        }
    }

    #[test]
    fn hashes_answer_the_published_vectors() {
        assert_eq!(sha256(b"abc").to_vec(), hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
        // RFC 4231, test case 2.
        let expected = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(hmac_sha256(b"Jefe", b"what do ya want for nothing?").to_vec(), expected);
        assert!(hmac_sha256_verify(b"Jefe", b"what do ya want for nothing?", &expected));
        assert!(!hmac_sha256_verify(b"Jefe", b"what do ya want for nothing!", &expected));
        assert!(!hmac_sha256_verify(b"Jefe", b"what do ya want for nothing?", &expected[..31]));
        assert!(!hmac_sha256_verify(b"Jefe", b"what do ya want for nothing?", b""));
        // RFC 5869, test case 1, first block.
        let derived = hkdf_sha256(&hex("000102030405060708090a0b0c"), &[0x0b; 22], &hex("f0f1f2f3f4f5f6f7f8f9"));
        assert_eq!(derived.to_vec(), hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
    }

    #[test]
    fn random_tokens_differ_and_have_the_promised_length() {
        assert_eq!(random_token(32).len(), 43);
        assert_ne!(random_token(32), random_token(32));
        assert_ne!(random_bytes::<16>(), random_bytes::<16>());
    }
}
