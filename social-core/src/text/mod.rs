//! Counting text the way the networks count it.
//!
//! Every network has its own idea of a character. [`count`] answers in the unit that a descriptor names, [`weigh`] adds what
//! is needed to decide about a post on X, and [`entities`] finds what a network will turn into links. All of it is pure: no
//! clock, no network, the same answer every time, in time linear in the length of the text.

mod chars;
mod emoji;
mod entity;
mod link;
mod weight;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

pub use entity::{Entity, EntityKind, Span, entities};
pub use weight::{MAX_WEIGHT, URL_WEIGHT, WeightedText, nfc, weigh};

/// What a network counts when it limits the length of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextUnit {
    /// Weighted characters of twitter-text version 3: links 23, emoji 2, CJK 2, most alphabets 1.
    Weighted,
    /// Unicode scalar values, which most programming languages call code points.
    Scalars,
    /// UTF-16 code units: what JavaScript and Java call the length of a string.
    Utf16,
    /// What a reader sees as one character (extended grapheme clusters).
    Graphemes,
    /// Bytes of UTF-8.
    Bytes,
}

/// Counts `text` in `unit`. Never fails; an empty text counts 0 in every unit.
#[must_use]
pub fn count(unit: TextUnit, text: &str) -> usize {
    match unit {
        TextUnit::Weighted => weigh(text).weight,
        TextUnit::Scalars => text.chars().count(),
        TextUnit::Utf16 => text.encode_utf16().count(),
        TextUnit::Graphemes => text.graphemes(true).count(),
        TextUnit::Bytes => text.len(),
    }
}

/// The longest beginning of `text` that counts at most `max` in `unit` and ends between two visible characters.
///
/// With [`TextUnit::Weighted`] a link that does not fit is left out whole, and where a cut would turn a word into a link the
/// result may be a little shorter than possible. No ellipsis is added: a caller that
/// wants one asks for `max` minus its count.
#[must_use]
pub fn truncate_to(unit: TextUnit, text: &str, max: usize) -> &str {
    if unit == TextUnit::Weighted {
        return weight::truncate(text, max);
    }
    let mut used = 0;
    for (at, cluster) in text.grapheme_indices(true) {
        used += if unit == TextUnit::Graphemes { 1 } else { count(unit, cluster) };
        if used > max {
            return &text[..at];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: &str = "👨‍👩‍👧‍👦";

    #[test]
    fn each_unit_counts_its_own_way() {
        let text = format!("é{FAMILY}故"); // é as one code point
        assert_eq!(count(TextUnit::Graphemes, &text), 3);
        assert_eq!(count(TextUnit::Scalars, &text), 1 + 7 + 1);
        assert_eq!(count(TextUnit::Utf16, &text), 1 + 11 + 1);
        assert_eq!(count(TextUnit::Bytes, &text), 2 + 25 + 3);
        assert_eq!(count(TextUnit::Weighted, &text), 1 + 2 + 2);
    }

    #[test]
    fn nothing_counts_nothing() {
        for unit in [TextUnit::Weighted, TextUnit::Scalars, TextUnit::Utf16, TextUnit::Graphemes, TextUnit::Bytes] {
            assert_eq!(count(unit, ""), 0, "{unit:?}");
            assert_eq!(truncate_to(unit, "", 5), "", "{unit:?}");
            assert_eq!(truncate_to(unit, "abc", 0), "", "{unit:?}");
        }
    }

    #[test]
    fn a_cut_never_splits_a_visible_character() {
        let text = format!("ab{FAMILY}c");
        assert_eq!(truncate_to(TextUnit::Utf16, &text, 12), "ab", "the family needs 11 units");
        assert_eq!(truncate_to(TextUnit::Utf16, &text, 13), format!("ab{FAMILY}"));
        assert_eq!(truncate_to(TextUnit::Bytes, "e\u{301}x", 2), "", "a letter stays with its accent");
        assert_eq!(truncate_to(TextUnit::Graphemes, "a\r\nb", 2), "a\r\n");
        assert_eq!(truncate_to(TextUnit::Scalars, "abc", 3), "abc");
    }

    #[test]
    fn units_keep_their_names_in_json() {
        assert_eq!(serde_json::to_string(&TextUnit::Utf16).unwrap(), "\"utf16\"");
        assert_eq!(serde_json::from_str::<TextUnit>("\"graphemes\"").unwrap(), TextUnit::Graphemes);
    }
}
