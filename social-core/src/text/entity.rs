//! What X turns into something clickable: links, mentions, lists, hashtags and cashtags.

use serde::{Deserialize, Serialize};

use super::chars::{
    Scan, is_directional, is_hashtag_char, is_hashtag_letter, is_latin_accent, is_punctuation, is_space,
};
use super::link;

/// A stretch of a text in bytes of UTF-8 and in UTF-16 code units. Ends are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// First UTF-16 code unit.
    pub utf16_start: usize,
    /// One past the last UTF-16 code unit.
    pub utf16_end: usize,
}

impl Span {
    pub(super) fn new(scan: &Scan, start: usize, end: usize) -> Self {
        Self {
            start: scan.byte(start),
            end: scan.byte(end),
            utf16_start: scan.utf16(start),
            utf16_end: scan.utf16(end),
        }
    }

    /// The stretch itself, empty when `text` is not the text that the span was found in.
    #[must_use]
    pub fn of<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// What a stretch of text will become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EntityKind {
    /// A link, with or without a scheme.
    Url,
    /// `@name`.
    Mention,
    /// `@name/list`.
    List,
    /// `#word`.
    Hashtag,
    /// `$SYMBOL`.
    Cashtag,
}

/// Something clickable inside a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entity {
    /// What it is.
    pub kind: EntityKind,
    /// Where it is, with its sign (`@`, `#`, `$`).
    pub span: Span,
}

impl Entity {
    /// The entity without its sign: the link, the name, `name/list`, the word or the symbol.
    #[must_use]
    pub fn value<'t>(&self, text: &'t str) -> &'t str {
        let whole = self.span.of(text);
        match self.kind {
            EntityKind::Url => whole,
            _ => whole.char_indices().nth(1).map_or("", |(at, _)| &whole[at..]),
        }
    }
}

/// Finds everything clickable in `text`, in the order of the text and without overlaps: what lies inside a link is not
/// found again. Pure, and linear in the length of the text.
#[must_use]
pub fn entities(text: &str) -> Vec<Entity> {
    let scan = Scan::new(text);
    let mut found: Vec<(EntityKind, usize, usize)> =
        link::find(&scan).into_iter().map(|link| (EntityKind::Url, link.start, link.end)).collect();
    mentions(&scan, &mut found);
    hashtags(&scan, &mut found);
    cashtags(&scan, &mut found);
    found.sort_by_key(|(_, start, _)| *start);
    let mut free_from = 0;
    found.retain(|(_, start, end)| {
        let free = *start >= free_from;
        if free {
            free_from = *end;
        }
        free
    });
    found.into_iter().map(|(kind, start, end)| Entity { kind, span: Span::new(&scan, start, end) }).collect()
}

fn is_at_sign(c: char) -> bool {
    matches!(c, '@' | '＠')
}

fn is_hash_sign(c: char) -> bool {
    matches!(c, '#' | '＃')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// `free_from` in these functions is where the previous find ended: a sign needs a character of its own before it.
fn mentions(scan: &Scan, found: &mut Vec<(EntityKind, usize, usize)>) {
    let mut free_from = 0;
    for at in 0..scan.len() {
        if at < free_from || !is_at_sign(scan.chars[at]) || !may_precede_mention(scan, at, free_from) {
            continue;
        }
        let name_end = scan.run(at + 1, at + 21, is_word);
        if name_end == at + 1 {
            continue;
        }
        let mut kind = EntityKind::Mention;
        let mut end = name_end;
        if scan.at(name_end) == Some('/') && scan.at(name_end + 1).is_some_and(|c| c.is_ascii_alphabetic()) {
            kind = EntityKind::List;
            end = scan.run(name_end + 2, name_end + 26, |c| is_word(c) || c == '-');
        }
        free_from = end;
        let spoilt = scan.at(end).is_some_and(|c| is_at_sign(c) || is_latin_accent(c)) || scan.starts_with(end, "://");
        if !spoilt {
            found.push((kind, at, end));
        }
    }
}

fn may_precede_mention(scan: &Scan, at: usize, free_from: usize) -> bool {
    if at == 0 {
        return true;
    }
    if at - 1 < free_from {
        return false;
    }
    let before = scan.chars[at - 1];
    if !is_word(before) && !is_at_sign(before) && !matches!(before, '!' | '#' | '$' | '%' | '&' | '*') {
        return true;
    }
    // "RT@name" is a mention although a letter precedes the sign.
    at >= free_from + 2
        && scan.starts_with(at - 2, "rt")
        && (at == 2
            || (at >= free_from + 3 && {
                let c = scan.chars[at - 3];
                !is_word(c) && !matches!(c, '+' | '~' | '.' | '-')
            }))
}

fn hashtags(scan: &Scan, found: &mut Vec<(EntityKind, usize, usize)>) {
    let mut free_from = 0;
    for at in 0..scan.len() {
        if at < free_from || !is_hash_sign(scan.chars[at]) {
            continue;
        }
        let bounded = at == 0
            || (at > free_from && {
                let before = scan.chars[at - 1];
                matches!(before, '\u{FE0E}' | '\u{FE0F}') || !(is_hashtag_char(before) || before == '&')
            });
        if !bounded || matches!(scan.at(at + 1), Some('\u{FE0F}' | '\u{20E3}')) {
            continue;
        }
        let end = scan.run(at + 1, scan.len(), is_hashtag_char);
        if !scan.chars[at + 1..end].iter().any(|c| is_hashtag_letter(*c)) {
            continue;
        }
        free_from = end;
        if !scan.at(end).is_some_and(is_hash_sign) && !scan.starts_with(end, "://") {
            found.push((EntityKind::Hashtag, at, end));
        }
    }
}

fn cashtags(scan: &Scan, found: &mut Vec<(EntityKind, usize, usize)>) {
    let mut free_from = 0;
    for at in 0..scan.len() {
        let bounded =
            at == 0 || (at > free_from && (is_space(scan.chars[at - 1]) || is_directional(scan.chars[at - 1])));
        if at < free_from || scan.chars[at] != '$' || !bounded {
            continue;
        }
        let symbol_end = scan.run(at + 1, at + 8, |c| c.is_ascii_alphabetic());
        if !(1..=6).contains(&(symbol_end - at - 1)) {
            continue;
        }
        let ends_here = |end: usize| scan.at(end).is_none_or(|c| is_space(c) || c == '\u{FEFF}' || is_punctuation(c));
        let suffixed = matches!(scan.at(symbol_end), Some('.' | '_'))
            .then(|| scan.run(symbol_end + 1, symbol_end + 3, |c| c.is_ascii_alphabetic()))
            .filter(|end| *end > symbol_end + 1 && ends_here(*end));
        if let Some(end) = suffixed.or_else(|| ends_here(symbol_end).then_some(symbol_end)) {
            free_from = end;
            found.push((EntityKind::Cashtag, at, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(EntityKind, &str)> {
        entities(text).iter().map(|e| (e.kind, e.value(text))).collect()
    }

    #[test]
    fn everything_clickable_is_found_in_order() {
        let text = "RT @ann: #rust at example.com/a $XYZ by @bob/crabs";
        assert_eq!(
            found(text),
            [
                (EntityKind::Mention, "ann"),
                (EntityKind::Hashtag, "rust"),
                (EntityKind::Url, "example.com/a"),
                (EntityKind::Cashtag, "XYZ"),
                (EntityKind::List, "bob/crabs"),
            ]
        );
    }

    #[test]
    fn nothing_is_found_inside_a_link() {
        assert_eq!(found("https://example.com/@ann#rust"), [(EntityKind::Url, "https://example.com/@ann#rust")]);
    }

    #[test]
    fn spans_count_bytes_and_utf16_apart() {
        let text = "🔥é #tag";
        let tag = entities(text)[0].span;
        assert_eq!((tag.start, tag.end), (7, 11));
        assert_eq!((tag.utf16_start, tag.utf16_end), (4, 8));
        assert_eq!(tag.of(text), "#tag");
        assert_eq!(tag.of("é"), "", "a foreign text gives nothing");
    }
}
