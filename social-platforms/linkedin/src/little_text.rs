//! "Little text", the markup of LinkedIn's commentary. An unescaped reserved character is no error there: LinkedIn answers 201 and
//! drops the text from that point on. So everything that is not meant as markup is escaped, and what is unsure counts as not meant.

/// The characters that mean something to LinkedIn wherever they stand.
const RESERVED: &str = "|{}@[]()<>#\\*_~";

/// Turns a text, as a person wrote it, into little text. `#word` at the beginning of a word stays a hashtag, and
/// `@[Name](urn:li:organization:1)` or `@[Name](urn:li:person:a)` stays a mention; every other reserved character shows as itself.
/// Linear in the length of the text.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut before = None;
    for piece in Pieces(text) {
        match piece {
            Piece::Mention { name, urn } => {
                out.push_str("@[");
                name.chars().for_each(|c| push(&mut out, c));
                out.push_str("](");
                out.push_str(urn);
                out.push(')');
                before = Some(')');
            }
            Piece::Char(c, next) => {
                // Behind anything but white space it is not known what LinkedIn takes for a hashtag.
                let tag = c == '#' && before.is_none_or(char::is_whitespace) && next.is_some_and(char::is_alphanumeric);
                if tag {
                    out.push(c)
                } else {
                    push(&mut out, c)
                }
                before = Some(c);
            }
        }
    }
    out
}

/// What readers will see of a text as a person wrote it: a mention shows as its name.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in Pieces(text) {
        match piece {
            Piece::Mention { name, .. } => out.push_str(name),
            Piece::Char(c, _) => out.push(c),
        }
    }
    out
}

/// What readers see of little text as LinkedIn returns it, where hashtags come back as templates. Never fails: what is no markup
/// is taken literally.
pub(crate) fn plain(wire: &str) -> String {
    let mut out = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if let Some((word, behind)) = template(rest) {
            out.push('#');
            out.push_str(&plain(word));
            rest = behind;
        } else if let Some((name, behind)) = returned_mention(rest) {
            unescape(name, &mut out);
            rest = behind;
        } else if c == '\\' {
            let mut escaped = after.chars();
            out.extend(escaped.next());
            rest = escaped.as_str();
        } else {
            out.push(c);
            rest = after;
        }
    }
    out
}

/// A key under which a text that was sent and the same text as it is returned are equal: markup, white space and addresses (which
/// LinkedIn may have shortened) do not count.
pub(crate) fn fingerprint(wire: &str) -> String {
    let mut key = String::with_capacity(wire.len());
    for word in plain(wire).split_whitespace() {
        match word.find("https://").or_else(|| word.find("http://")) {
            Some(at) => {
                key.push_str(&word[..at]);
                key.push('\0');
            }
            None => key.push_str(word),
        }
    }
    key
}

fn push(out: &mut String, c: char) {
    if RESERVED.contains(c) {
        out.push('\\');
    }
    out.push(c);
}

enum Piece<'t> {
    Mention {
        name: &'t str,
        urn: &'t str,
    },
    /// A character and the one behind it.
    Char(char, Option<char>),
}

/// A text, as a person wrote it, in mentions and single characters.
struct Pieces<'t>(&'t str);

impl<'t> Iterator for Pieces<'t> {
    type Item = Piece<'t>;

    fn next(&mut self) -> Option<Piece<'t>> {
        if let Some((name, urn, behind)) = mention(self.0) {
            self.0 = behind;
            return Some(Piece::Mention { name, urn });
        }
        let mut chars = self.0.chars();
        let c = chars.next()?;
        self.0 = chars.as_str();
        Some(Piece::Char(c, chars.next()))
    }
}

/// `@[Name](urn)` at the beginning of `text`: the name, the URN and what follows.
fn mention(text: &str) -> Option<(&str, &str, &str)> {
    let inner = text.strip_prefix("@[")?;
    // Stopping at the first of these keeps the whole scan linear.
    let end = inner.find(|c: char| matches!(c, '[' | ']') || c.is_control())?;
    let (name, behind) = inner.split_at(end);
    let behind = behind.strip_prefix("](")?;
    let id_at = if behind.starts_with("urn:li:organization:") {
        "urn:li:organization:".len()
    } else if behind.starts_with("urn:li:person:") {
        "urn:li:person:".len()
    } else {
        return None;
    };
    let digits_only = id_at > "urn:li:person:".len();
    let is_id = |b: &u8| b.is_ascii_digit() || !digits_only && (b.is_ascii_alphabetic() || matches!(b, b'_' | b'-'));
    let id_end = id_at + behind.as_bytes()[id_at..].iter().take_while(|b| is_id(b)).count();
    let after = behind[id_end..].strip_prefix(')')?;
    (id_end > id_at && !name.trim().is_empty()).then(|| (name, &behind[..id_end], after))
}

/// `{hashtag|\#|word}` at the beginning of `wire`: the word and what follows.
fn template(wire: &str) -> Option<(&str, &str)> {
    let inner = wire.strip_prefix("{hashtag|")?;
    let word = inner.strip_prefix("\\#|").or_else(|| inner.strip_prefix("#|"))?;
    let end = unescaped(word, '}')?;
    Some((&word[..end], &word[end + 1..]))
}

/// `@[Name](anything)` at the beginning of `wire`: the name, still escaped, and what follows.
fn returned_mention(wire: &str) -> Option<(&str, &str)> {
    let inner = wire.strip_prefix("@[")?;
    let end = unescaped(inner, ']')?;
    let target = inner[end + 1..].strip_prefix("(urn:")?;
    let close = target.find(')')?;
    Some((&inner[..end], &target[close + 1..]))
}

/// Where `end` stands without a backslash before it.
fn unescaped(text: &str, end: char) -> Option<usize> {
    let mut skip = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if skip => skip = false,
            '\\' => skip = true,
            _ if c == end => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str, out: &mut String) {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' { out.extend(chars.next()) } else { out.push(c) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads little text as LinkedIn does: what readers see, up to the first reserved character that is neither escaped nor markup.
    /// Shares nothing with the code above on purpose.
    fn shown(wire: &str) -> (String, bool) {
        let chars: Vec<char> = wire.chars().collect();
        let (mut seen, mut at) = (String::new(), 0);
        let is_reserved = |c: char| "\\|{}@[]()<>#*_~".chars().any(|r| r == c);
        while at < chars.len() {
            let c = chars[at];
            if c == '\\' && at + 1 < chars.len() && is_reserved(chars[at + 1]) {
                seen.push(chars[at + 1]);
                at += 2;
            } else if c == '#'
                && (at == 0 || chars[at - 1].is_whitespace())
                && chars.get(at + 1).is_some_and(|next| next.is_alphanumeric())
            {
                seen.push('#');
                at += 1;
            } else if c == '@' && chars.get(at + 1) == Some(&'[') {
                let mut name = String::new();
                let mut i = at + 2;
                while i < chars.len() && chars[i] != ']' {
                    if chars[i] == '\\' {
                        i += 1;
                    } else if is_reserved(chars[i]) {
                        return (seen, true);
                    }
                    name.push(chars[i]);
                    i += 1;
                }
                let rest: String = chars[i.min(chars.len())..].iter().collect();
                let urn_end = rest.find(')').unwrap_or(0);
                if !rest.starts_with("](urn:li:") || name.is_empty() || rest[2..urn_end].contains([' ', '(', '@']) {
                    return (seen, true);
                }
                seen.push_str(&name);
                at = i + rest[..=urn_end].chars().count();
            } else if is_reserved(c) {
                return (seen, true);
            } else {
                seen.push(c);
                at += 1;
            }
        }
        (seen, false)
    }

    #[test]
    fn the_oracle_truncates_where_linkedin_does() {
        assert_eq!(shown("sale (today)"), ("sale ".to_owned(), true));
        assert_eq!(shown("sale \\(today\\)"), ("sale (today)".to_owned(), false));
        assert_eq!(shown("a #b c_d").0, "a #b c");
        assert_eq!(shown("hi @[Ann \\(x\\)](urn:li:person:1)!").0, "hi Ann (x)!");
    }

    #[test]
    fn all_fifteen_reserved_characters_are_escaped() {
        assert_eq!(RESERVED.chars().count(), 15);
        for c in RESERVED.chars() {
            assert_eq!(escape(&format!("a{c} b")), format!("a\\{c} b"));
        }
    }

    #[test]
    fn hashtags_stay_live_only_at_the_beginning_of_a_word() {
        for (text, wire) in [
            ("#rust", "#rust"),
            ("we #rust_lang now", "we #rust\\_lang now"),
            ("line\n#2026 #größe", "line\n#2026 #größe"),
            ("C# and a#b", "C\\# and a\\#b"),
            ("# alone ##two (#in)", "\\# alone \\#\\#two \\(\\#in\\)"),
            ("#️⃣ key", "\\#️⃣ key"),
            ("https://example.com/a_(b)~c#d", "https://example.com/a\\_\\(b\\)\\~c\\#d"),
        ] {
            assert_eq!(escape(text), wire, "{text}");
        }
    }

    #[test]
    fn a_well_formed_mention_passes_and_a_broken_one_is_text() {
        let good = "thanks @[Acme (UK)](urn:li:organization:123)!";
        assert_eq!(escape(good), "thanks @[Acme \\(UK\\)](urn:li:organization:123)!");
        assert_eq!(visible(good), "thanks Acme (UK)!");
        assert_eq!(visible("@[Ann](urn:li:person:a-b_C9)"), "Ann");
        for text in [
            "@[Acme](urn:li:organization:abc)",
            "@[Acme](urn:li:share:1)",
            "@[](urn:li:person:a)",
            "@[ ](urn:li:person:a)",
            "@[Acme](urn:li:person:)",
            "@[Acme](urn:li:person:a",
            "@[A\nB](urn:li:person:a)",
            "@[A[B]](urn:li:person:a)",
        ] {
            assert_eq!(visible(text), text);
            assert!(escape(text).starts_with("\\@\\["), "{text}");
        }
    }

    #[test]
    fn a_returned_text_equals_the_sent_one() {
        let sent =
            escape("New: @[Acme](urn:li:organization:1) #rust_lang\n(see https://example.com/very/long_path) 🎉");
        let back = "New: @[Acme](urn:li:organization:1) {hashtag|\\#|rust_lang}\n\\(see https://lnkd.in/abc\\) 🎉";
        assert_eq!(fingerprint(&sent), fingerprint(back));
        assert_ne!(fingerprint(&sent), fingerprint("New: Acme"));
        assert_eq!(plain("{hashtag|#|a\\_b} \\{x\\} {y"), "#a_b {x} {y");
        assert_eq!(fingerprint("  "), "");
    }

    /// Text that is rich in what could go wrong.
    fn any_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => any::<char>().prop_map(String::from),
            4 => proptest::sample::select(RESERVED.chars().collect::<Vec<_>>()).prop_map(String::from),
            2 => "[a-z #_\\n]{1,6}",
            1 => Just("@[Ann (x)](urn:li:person:a_1)".to_owned()),
            1 => Just("@[Acme](urn:li:organization:12".to_owned()),
            1 => Just("{hashtag|\\#|word}".to_owned()),
            1 => Just("👩🏽‍💻".to_owned()),
            1 => Just("https://example.com/a_(b)#c~d".to_owned()),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_is_ever_truncated(text in any_text()) {
            let wire = escape(&text);
            let (seen, truncated) = shown(&wire);
            prop_assert!(!truncated, "{wire:?}");
            prop_assert_eq!(&seen, &visible(&text));
            prop_assert_eq!(plain(&wire), seen);
        }
    }
}
