//! Planted secrets and the search for them: put [`Marker`]s where secrets go, let everything run, then [`scan`] whatever was written.

use std::fmt;

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use uuid::Uuid;

/// The part that all markers share, by which they are found.
const CORE: &str = "pLanted7Secret~";

/// A secret that gives itself away. Its value looks like a token, holds characters that encodings change, and is different each time.
#[derive(Clone, PartialEq, Eq)]
pub struct Marker {
    name: String,
    value: String,
}

impl Marker {
    /// A marker with a name for messages, such as `access`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), value: format!("{}/{CORE}+{name}=", Uuid::now_v7().simple()) }
    }

    /// What to plant.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Marker {
    // Tests print what they hold when they fail; that must not look like a leak.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Marker({})", self.name)
    }
}

/// A marker that was found where none may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// How it was written: `plain`, `base64`, `base64url`, `hex`, `percent`, `bytes`.
    pub form: &'static str,
    /// Where, in bytes.
    pub at: usize,
    /// What stands around it.
    pub near: String,
}

/// Every marker in a text: as it is, in base64 and base64url at any alignment, in hexadecimal digits of either case, percent-encoded
/// as far as an encoder may go, and as a list of byte values (the `Debug` of a byte vector).
#[must_use]
pub fn scan(text: &str) -> Vec<Leak> {
    scan_bytes(text.as_bytes())
}

/// As [`scan`], in any bytes: a database file, a log, an answer.
#[must_use]
pub fn scan_bytes(bytes: &[u8]) -> Vec<Leak> {
    let lower = bytes.to_ascii_lowercase();
    let mut leaks = Vec::new();
    for (form, fold, needle) in needles() {
        let haystack = if fold { &lower } else { bytes };
        leaks.extend(positions(haystack, &needle).map(|at| Leak { form, at, near: excerpt(bytes, at) }));
    }
    leaks
}

/// Ends the test if a marker is found.
///
/// # Panics
/// When there is one; the message says where and in which form.
pub fn assert_clean(what: &str, bytes: impl AsRef<[u8]>) {
    let leaks = scan_bytes(bytes.as_ref());
    assert!(leaks.is_empty(), "{what} holds planted secrets: {leaks:#?}");
}

/// Whether these very bytes stand there, raw, in base64 or in hexadecimal digits: for ciphertext that must be there, or must be gone.
#[must_use]
pub fn holds(haystack: &[u8], bytes: &[u8]) -> bool {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![bytes.to_vec()];
    forms.extend(aligned(bytes, &STANDARD));
    forms.iter().any(|form| positions(haystack, form).next().is_some())
        || positions(&haystack.to_ascii_lowercase(), hex.as_bytes()).next().is_some()
}

/// What to look for: the form, whether case is ignored (the needle is lower case then), the bytes.
fn needles() -> Vec<(&'static str, bool, Vec<u8>)> {
    let core = CORE.as_bytes();
    let each =
        |write: fn(u8) -> String, between: &str| core.iter().map(|byte| write(*byte)).collect::<Vec<_>>().join(between);
    // Encoders differ in whether they touch `~`; the part before it is found by the plain search.
    let plain = CORE.trim_end_matches('~').as_bytes().to_vec();
    let mut needles = vec![
        ("plain", false, plain),
        ("hex", true, each(|byte| format!("{byte:02x}"), "").into_bytes()),
        ("percent", true, each(|byte| format!("%{byte:02x}"), "").into_bytes()),
        ("bytes", false, each(|byte| byte.to_string(), ", ").into_bytes()),
        ("bytes", false, each(|byte| byte.to_string(), ",").into_bytes()),
    ];
    needles.extend(aligned(core, &STANDARD).into_iter().map(|needle| ("base64", false, needle)));
    let safe = aligned(core, &URL_SAFE).into_iter().map(|needle| ("base64url", false, needle));
    needles.extend(safe.filter(|(_, _, needle)| needle.iter().any(|byte| b"-_".contains(byte))).collect::<Vec<_>>());
    needles
}

/// The base64 of bytes that stand somewhere in a longer text: three alignments, without the characters that the neighbours share.
fn aligned(bytes: &[u8], engine: &impl base64::Engine) -> Vec<Vec<u8>> {
    let at = |offset: usize| {
        let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
        let text = engine.encode(&padded).into_bytes();
        let from = [0, 2, 3][offset];
        let to = padded.len() * 8 / 6;
        text[from..to].to_vec()
    };
    (0..3).map(at).collect()
}

fn positions<'a>(haystack: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = needle.first().copied();
    haystack
        .windows(needle.len().max(1))
        .enumerate()
        .filter(move |(_, window)| window.first().copied() == first && *window == needle)
        .map(|(at, _)| at)
}

fn excerpt(bytes: &[u8], at: usize) -> String {
    let part = &bytes[at.saturating_sub(40)..bytes.len().min(at + 60)];
    String::from_utf8_lossy(part).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn forms_in(text: &str) -> Vec<&'static str> {
        let mut forms: Vec<_> = scan(text).into_iter().map(|leak| leak.form).collect();
        forms.dedup();
        forms
    }

    #[test]
    fn a_marker_is_found_in_every_form() {
        let marker = Marker::new("access");
        let value = marker.value();
        let percent: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let hex: String = value.bytes().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(forms_in(&format!("token={value}&x")), ["plain"]);
        assert_eq!(forms_in(&hex), ["hex"]);
        assert_eq!(forms_in(&percent), ["percent"]);
        assert_eq!(forms_in(&format!("{:?}", value.as_bytes())), ["bytes"]);
        let encoded = url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>();
        assert_eq!(forms_in(&encoded), ["plain"]);
        for before in ["", "a", "ab", "{\"access\":\""] {
            let text = format!("{before}{value}\"");
            assert!(!scan(&STANDARD.encode(&text)).is_empty(), "base64 behind {before:?}");
            assert!(!scan(&URL_SAFE.encode(&text)).is_empty(), "base64url behind {before:?}");
        }
    }

    #[test]
    fn what_is_not_a_marker_is_not_found() {
        assert_eq!(scan(&format!("{:?} planted secret, pLanted7 {}", Marker::new("refresh"), "ab".repeat(5000))), []);
        assert_eq!(scan(""), []);
        assert_ne!(Marker::new("a").value(), Marker::new("a").value());
    }

    #[test]
    fn given_bytes_are_found_raw_and_encoded() {
        let bytes = b"\x00\xffciphertext\x80";
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        for haystack in [bytes.to_vec(), hex.into_bytes(), STANDARD.encode(bytes).into_bytes()] {
            assert!(holds(&[b"before ".as_slice(), &haystack, b" after"].concat(), bytes));
        }
        assert!(!holds(b"ciphertext", bytes));
    }
}
