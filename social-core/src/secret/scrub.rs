//! Removing what looks like a credential from text that others wrote.

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// Shortest run of token characters that is judged without a telling name in front of it.
const RUN_MIN: usize = 24;
/// Longest run of letters or of digits that passes as a word or as a number.
const PLAIN_MAX: usize = 48;

/// Returns the text with everything token-like replaced by `[redacted]`.
///
/// Two passes. The first removes the values of telling names (`access_token`, `client_secret`, `code`, `state`, `Authorization`, ...)
/// in JSON, escaped JSON, form, query and header notation, and what follows `Bearer`, `Basic` and `DPoP`. The second removes runs of
/// 24 or more base64 or hex characters that mix letters and digits. URNs, numeric ids, plain words, ordinary URLs, error codes such
/// as `190` or `DUPLICATE_POST`, and sentences stay.
///
/// Meant for short excerpts of network replies; the time grows linearly with the text. Repeating it changes nothing.
#[must_use]
pub fn scrub(text: &str) -> String {
    scrub_runs(&scrub_named(text))
}

// ---- first pass: values with a telling name ----

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    /// Always a credential.
    Secret,
    /// A credential in OAuth, but also an error code or a status elsewhere.
    Ambiguous,
    /// A header whose whole value goes.
    Header,
    /// An authentication scheme; the credential follows after a space.
    Scheme,
}

fn name_of(word: &str) -> Option<Name> {
    let plain: String = word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "code" | "state" => return Some(Name::Ambiguous),
        "authorization" | "proxyauthorization" | "cookie" | "setcookie" => return Some(Name::Header),
        "bearer" | "basic" | "dpop" => return Some(Name::Scheme),
        "authcode" | "authorizationcode" | "oauthstate" | "sig" | "signedrequest" | "appsecretproof" | "credential" => {
            return Some(Name::Secret);
        }
        _ => {}
    }
    const ENDINGS: [&str; 9] =
        ["token", "secret", "password", "passwd", "verifier", "assertion", "signature", "apikey", "privatekey"];
    ENDINGS.iter().any(|ending| plain.ends_with(ending)).then_some(Name::Secret)
}

fn scrub_named(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        if !is_name_char(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_name_char(bytes[at]) {
            at += 1;
        }
        let Some(name) = name_of(&text[start..at]) else { continue };
        let value = match name {
            Name::Scheme => scheme_value(text, at),
            _ => named_value(text, start, at, name),
        };
        if let Some((from, to)) = value {
            out.push_str(&text[copied..from]);
            out.push_str(REDACTED);
            copied = to;
            at = to;
        }
    }
    out.push_str(&text[copied..]);
    out
}

fn is_name_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The span of a credential behind `Bearer ` and the like; a plain word ("bearer token expired") is left alone.
fn scheme_value(text: &str, at: usize) -> Option<(usize, usize)> {
    let from = skip(text, at, b" +");
    if from == at {
        return None;
    }
    let to = end_of_bare(text, from);
    let value = &text[from..to];
    (!value.is_empty() && !value.starts_with('[') && !is_sentence_word(value)).then_some((from, to))
}

/// The span of the value that belongs to the name at `start..at`, if there is one and it should go.
fn named_value(text: &str, start: usize, at: usize, name: Name) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let quoted_name = start > 0 && matches!(bytes[start - 1], b'"' | b'\'');
    let mut cursor = at;
    if quoted_name {
        cursor = skip(text, cursor, b"\\");
        cursor += usize::from(matches!(bytes.get(cursor), Some(b'"' | b'\'')));
    }
    cursor = skip(text, cursor, b" \t\r\n");
    let separator = *bytes.get(cursor)?;
    // A comma separates name and value in the debug form of a list of pairs.
    if !(matches!(separator, b':' | b'=') || separator == b',' && quoted_name) {
        return None;
    }
    cursor += 1;
    cursor += usize::from(separator == b'=' && bytes.get(cursor) == Some(&b'>'));
    let after_separator = cursor;
    cursor = skip(text, cursor, b" \t");
    if separator != b'=' {
        cursor = skip(text, cursor, b" \t\r\n");
    }

    let escapes = skip(text, cursor, b"\\");
    if let Some(quote @ (b'"' | b'\'')) = bytes.get(escapes).copied() {
        let from = escapes + 1;
        let to = end_of_quoted(text, from, quote, escapes - cursor);
        let value = &text[from..to];
        let keep = value.is_empty()
            || separator == b',' && !quoted_name
            || name == Name::Ambiguous && separator != b'=' && (is_short_number(value, 10) || is_enum_word(value));
        return (!keep).then_some((from, to));
    }
    if name == Name::Header {
        let to = text[cursor..].find(['\r', '\n', '"', '\'']).map_or(text.len(), |length| cursor + length);
        let value = &text[cursor..to];
        return (!value.trim().is_empty() && !value.starts_with('[')).then_some((cursor, to));
    }
    if separator == b',' || (separator == b'=' && cursor > after_separator && name == Name::Ambiguous) {
        return None;
    }
    let to = end_of_bare(text, cursor);
    let value = &text[cursor..to];
    let keep = value.is_empty()
        || value.starts_with(['[', '{', '('])
        || matches!(value, "null" | "true" | "false" | "none" | "None")
        || name == Name::Ambiguous && is_short_number(value, if separator == b'=' { 6 } else { 10 })
        || separator == b':' && is_sentence_word(value);
    (!keep).then_some((cursor, to))
}

fn skip(text: &str, mut at: usize, set: &[u8]) -> usize {
    while text.as_bytes().get(at).is_some_and(|byte| set.contains(byte)) {
        at += 1;
    }
    at
}

/// End of a quoted value: the next quote behind as many backslashes as stood before the opening one (JSON inside JSON), or the end
/// of a cut text.
fn end_of_quoted(text: &str, from: usize, quote: u8, escapes: usize) -> usize {
    let bytes = text.as_bytes();
    let mut run = 0;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        if *byte == b'\\' {
            run += 1;
            continue;
        }
        if *byte == quote && run <= escapes {
            return at - run;
        }
        run = 0;
    }
    text.len()
}

fn end_of_bare(text: &str, from: usize) -> usize {
    let stop = |c: char| {
        c.is_whitespace() || matches!(c, '&' | ',' | ';' | '}' | ']' | ')' | '"' | '\'' | '<' | '>' | '\\' | '#')
    };
    // A value that begins with our own mark was scrubbed before; its bracket is not a delimiter.
    if text[from..].starts_with(REDACTED) {
        return from + REDACTED.len();
    }
    text[from..].find(stop).map_or(text.len(), |length| from + length)
}

fn is_short_number(value: &str, digits: usize) -> bool {
    let number = value.strip_prefix('-').unwrap_or(value);
    !number.is_empty() && number.len() <= digits && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// `DUPLICATE_POST`, `access_denied`, `Processing`: letters of one case in words, as codes and states are written.
fn is_enum_word(value: &str) -> bool {
    value.len() <= PLAIN_MAX && value.split(['_', '-', '.', ' ']).all(|word| word.len() <= 16 && is_cased_word(word))
}

/// A word as it stands in a sentence, with its punctuation.
fn is_sentence_word(value: &str) -> bool {
    let word = value.trim_end_matches(['.', ':', '!', '?', '/']);
    word.len() <= 16 && is_cased_word(word)
        || !value.is_ascii() && value.chars().all(|c| c.is_alphabetic() || c.is_ascii_punctuation())
}

fn is_cased_word(word: &str) -> bool {
    let rest = word.get(1..).unwrap_or_default();
    word.bytes().all(|b| b.is_ascii_alphabetic())
        && (rest.bytes().all(|b| b.is_ascii_lowercase()) || word.bytes().all(|b| b.is_ascii_uppercase()))
}

// ---- second pass: long runs that look random ----

fn scrub_runs(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        if !is_run_char(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_run_char(bytes[at]) {
            at += 1;
        }
        let end = start + text[start..at].trim_end_matches(['.', '!', '-', '/']).len();
        let run = &text[start..end];
        if run.len() < RUN_MIN || !looks_random(run) || is_urn_tail(&text[copied..start], end - start) {
            continue;
        }
        out.push_str(&text[copied..start + random_from(run)]);
        out.push_str(REDACTED);
        copied = end;
        // Padding belongs to what it pads.
        while bytes.get(copied) == Some(&b'=') {
            copied += 1;
        }
        at = at.max(copied);
    }
    out.push_str(&text[copied..]);
    out
}

fn is_run_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-+/.~!|%".contains(&byte)
}

/// Where the part to remove begins. A URL keeps its host and the words of its path in front of the first random segment; behind it,
/// everything goes, since base64 may contain slashes. Anything else goes as a whole.
fn random_from(run: &str) -> usize {
    if !run.starts_with('/') {
        return 0;
    }
    let mut at = 0;
    for segment in run.split('/') {
        let atoms = Atoms::of(segment);
        if atoms.odd > 0 || atoms.mixed > 0 && segment.len() > 12 {
            return at;
        }
        at += segment.len() + 1;
    }
    0
}

/// `urn:li:share:...` and the like: an identifier, however it is spelled, up to a sane length. `before` is what stands in front of it.
fn is_urn_tail(before: &str, length: usize) -> bool {
    if length > PLAIN_MAX {
        return false;
    }
    let in_urn = |b: &&u8| b.is_ascii_alphanumeric() || **b == b':' || **b == b'_';
    let head = before.as_bytes().iter().rev().take(PLAIN_MAX).take_while(in_urn).count();
    let head = &before[before.len() - head..];
    head.ends_with(':') && (head.starts_with("urn:") || head.contains(":urn:")) && head.matches(':').count() >= 3
}

fn looks_random(run: &str) -> bool {
    let atoms = Atoms::of(run);
    let has_digit = run.bytes().any(|byte| byte.is_ascii_digit());
    atoms.odd >= 8 && (has_digit || atoms.odd >= 20) || atoms.mixed >= 3
}

/// What a run is made of when it is cut at its punctuation.
struct Atoms {
    /// Characters in atoms that are neither a word, nor a number, nor a short name with a number.
    odd: usize,
    /// Atoms such as `v26` or `h264`. A few are normal, many are a grouped key.
    mixed: usize,
}

impl Atoms {
    fn of(run: &str) -> Self {
        let mut atoms = Self { odd: 0, mixed: 0 };
        for atom in run.split(|c: char| !c.is_ascii_alphanumeric()).filter(|atom| !atom.is_empty()) {
            if is_short_mix(atom) {
                atoms.mixed += 1;
            } else if !is_plain_atom(atom) {
                atoms.odd += atom.len();
            }
        }
        atoms
    }
}

fn is_short_mix(atom: &str) -> bool {
    let letters = atom.bytes().take_while(u8::is_ascii_alphabetic).count();
    let digits = atom.len() - letters;
    (1..=4).contains(&letters)
        && (1..=3).contains(&digits)
        && atom.bytes().skip(letters).all(|byte| byte.is_ascii_digit())
        && is_cased_word(&atom[..letters])
}

fn is_plain_atom(atom: &str) -> bool {
    if atom.len() >= PLAIN_MAX {
        return false;
    }
    atom.bytes().all(|byte| byte.is_ascii_digit()) || is_camel_case(atom)
}

/// Letters only, and every capital starts a hump of at least two letters (or all are capitals).
fn is_camel_case(atom: &str) -> bool {
    if !atom.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return false;
    }
    if is_cased_word(atom) {
        return true;
    }
    let bytes = atom.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| {
        byte.is_ascii_lowercase() || at > 0 && bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase) || at == 0
    }) && bytes.len() > 1
        && !(bytes[0].is_ascii_uppercase() && bytes[1].is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_helps_a_reader_stays() {
        for text in [
            "",
            "Error validating access token: Session has expired on Thursday, 19-Nov-26 10:00:00 PST.",
            r#"{"error":{"message":"Invalid OAuth access token - Cannot parse access token","type":"OAuthException","code":190,"error_subcode":463,"fbtrace_id":"AbC1dEfGh2I"}}"#,
            r#"{"message":"Content is a duplicate of urn:li:share:7123456789012345678","status":422,"code":"DUPLICATE_POST"}"#,
            "urn:li:digitalmediaAsset:C5522AQGTYER3k3ByHQabcdEF12 was refused",
            r#"{"title":"Forbidden","type":"about:blank","status":403,"detail":"You are not allowed to create a Tweet with duplicate content."}"#,
            "https://graph.facebook.com/v26.0/me/accounts failed",
            "https://api.x.com/2/tweets/1234567890123456789012345 is gone",
            "https://developers.google.com/youtube/v3/guides/uploading_a_video",
            r#"{"id":"1234567890123456789","media_id":1455952740635586573,"expires_in":7200,"state":"succeeded"}"#,
            r#"{"data":{"publish_id":"v_pub_file~v2-1.123456789012345678"},"error":{"code":"spam_risk_too_many_posts"}}"#,
            "code=190 state: PROCESSING",
            "The bearer token is missing. Basic authentication is not supported.",
            "Rate limit exceeded, try again at 2026-11-22T10:11:12.123456Z",
            "Donaudampfschifffahrtsgesellschaftskapitän und 東京タワーの写真をアップロードしました",
            r#"{"access_token":null,"token":""}"#,
            "LINKEDIN_VERSION_202611_IS_NOT_ACTIVE",
        ] {
            assert_eq!(scrub(text), text);
        }
    }

    #[test]
    fn telling_names_lose_their_values() {
        for (text, expected) in [
            (r#"{"access_token":"abc","expires_in":7200}"#, r#"{"access_token":"[redacted]","expires_in":7200}"#),
            (r#"{ "refresh_token" : "a b\"c" , "x":1}"#, r#"{ "refresh_token" : "[redacted]" , "x":1}"#),
            (r#"{"body":"{\"id_token\":\"ab.c\",\"n\":1}"}"#, r#"{"body":"{\"id_token\":\"[redacted]\",\"n\":1}"}"#),
            ("{'client_secret': 'abc'}", "{'client_secret': '[redacted]'}"),
            (r#"{"access_token":"cut of"#, r#"{"access_token":"[redacted]"#),
            ("grant_type=authorization_code&code=abc&code_verifier=x~y&redirect_uri=z", {
                "grant_type=authorization_code&code=[redacted]&code_verifier=[redacted]&redirect_uri=z"
            }),
            ("https://app.example/callback/x?state=abc&code=def#_=_", {
                "https://app.example/callback/x?state=[redacted]&code=[redacted]#_=_"
            }),
            ("GET /me?access_token=EAAB&fields=id", "GET /me?access_token=[redacted]&fields=id"),
            ("Authorization: Bearer abc def\r\nAccept: */*", "Authorization: [redacted]\r\nAccept: */*"),
            (r#""authorization": "Basic YWJj""#, r#""authorization": "[redacted]""#),
            ("sent Bearer a1b2c3 twice", "sent Bearer [redacted] twice"),
            ("Basic dXNlcjpwYXNz", "Basic [redacted]"),
            (r#"[("code", "abc1"), ("client_id", "me")]"#, r#"[("code", "[redacted]"), ("client_id", "me")]"#),
            (r#"{"code":"AQTxy9","state":"s3cret"}"#, r#"{"code":"[redacted]","state":"[redacted]"}"#),
            ("Invalid token: abc123", "Invalid token: [redacted]"),
            ("Set-Cookie: sid=1; Path=/", "Set-Cookie: [redacted]"),
            ("x-api-key: 9f8e", "x-api-key: [redacted]"),
        ] {
            assert_eq!(scrub(text), expected, "from {text}");
        }
    }

    #[test]
    fn long_random_runs_go() {
        for (text, expected) in [
            ("got ya29.a0AfH6SMBx7-kQ9_zzYt3PpLm4 back", "got [redacted] back"),
            ("(act.Ab12Cd34Ef56Gh78Ij90Kl!5689.va)", "([redacted])"),
            ("1234567890|Ab12Cd34Ef56Gh78Ij90Kl12", "[redacted]"),
            ("d41d8cd98f00b204e9800998ecf8427e.", "[redacted]."),
            ("dGhpcyBpcyBhIHNlY3JldCB0b2tlbg==", "[redacted]"),
            ("https://up.example/dms/D4E10AQFoyyAjHPMQuQ/ab9?x=1", "https://up.example/dms/[redacted]?x=1"),
            ("abc123-def456-abc789-def012", "[redacted]"),
        ] {
            assert_eq!(scrub(text), expected, "from {text}");
        }
    }

    /// Tokens as they are issued: base64url, base64, hex, with dots; long enough to be real.
    fn token() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 24..90).prop_map(|raw| base64_with(&raw, b"-_")),
            prop::collection::vec(any::<u8>(), 24..90).prop_map(|raw| base64_with(&raw, b"+/")),
            prop::collection::vec(any::<u8>(), 20..40)
                .prop_map(|raw| raw.iter().map(|byte| format!("{byte:02x}")).collect()),
            prop::collection::vec(any::<u8>(), 60..90).prop_map(|raw| {
                let text = base64_with(&raw, b"-_");
                format!("{}.{}", &text[..30], &text[30..])
            }),
        ]
        .prop_filter("mixes letters and digits", |token: &String| {
            // All-zero bytes and the like are not what a random generator gives.
            let distinct = token.chars().collect::<std::collections::BTreeSet<_>>().len();
            distinct >= 10
                && token.bytes().any(|b| b.is_ascii_digit())
                && token.bytes().any(|b| b.is_ascii_alphabetic())
        })
    }

    fn base64_with(raw: &[u8], last: &[u8; 2]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(raw);
        text.replace('+', &char::from(last[0]).to_string()).replace('/', &char::from(last[1]).to_string())
    }

    fn leaks(output: &str, token: &str) -> bool {
        token.as_bytes().windows(14).any(|piece| output.as_bytes().windows(14).any(|window| window == piece))
    }

    proptest! {
        #[test]
        fn a_planted_token_never_survives(token in token(), before in "[ -~äß東]{0,30}", after in "[ -~äß東]{0,30}", form in 0..9) {
            let text = match form {
                0 => format!(r#"{before}{{"access_token":"{token}","n":1}}{after}"#),
                1 => format!("{before}?code={token}&x={after}"),
                2 => format!("Authorization: Bearer {token}\n{after}"),
                3 => format!("{before} {token} {after}"),
                4 => format!(r#"{{\"refresh_token\":\"{token}\"}}"#),
                5 => format!("{before}, '{token}' {after}"),
                // Inside a path, tokens are written in the alphabet without slashes.
                6 => format!("https://media.example/upload/{}?n=1", token.replace('/', "_")),
                7 => format!("client_secret={token}"),
                _ => format!("<b>{token}</b>"),
            };
            let output = scrub(&text);
            prop_assert!(!leaks(&output, &token), "{text:?} became {output:?}");
        }

        #[test]
        fn short_values_of_telling_names_never_survive(
            value in "[A-Za-z]{3}[0-9]{3}[A-Za-z0-9]{1,12}",
            name in prop::sample::select(vec!["access_token", "refresh_token", "code", "client_secret", "code_verifier", "state", "fb_exchange_token"]),
            form in 0..4,
        ) {
            let text = match form {
                0 => format!(r#"{{"a":1,"{name}":"{value}"}}"#),
                1 => format!("a=1&{name}={value}&b=2"),
                2 => format!("{name}: {value}"),
                _ => format!(r#"[("{name}", "{value}")]"#),
            };
            let output = scrub(&text);
            prop_assert!(!output.contains(&value), "{text:?} became {output:?}");
        }

        #[test]
        fn any_text_is_accepted_and_a_second_pass_changes_nothing(text in any::<String>()) {
            let once = scrub(&text);
            prop_assert_eq!(scrub(&once), once);
        }

        #[test]
        fn markup_soup_is_stable(text in r#"([a-z]{1,6}|token|code|state|Bearer|"|'|\\|:|=|,|&| |\[redacted\]|[A-Za-z0-9]{20,30}|\{|\}|/|urn:li:x:){0,20}"#) {
            let once = scrub(&text);
            prop_assert_eq!(scrub(&once), once);
        }
    }
}
