//! Character classes of twitter-text, and a text prepared for scanning by character.

use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointMapDataBorrowed};

static CATEGORY: CodePointMapDataBorrowed<'static, GeneralCategory> = CodePointMapData::<GeneralCategory>::new();

/// A text as characters, with the way back to byte and UTF-16 offsets.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) chars: Vec<char>,
    bytes: Vec<usize>,
    utf16: Vec<usize>,
}

impl Scan {
    pub(super) fn new(text: &str) -> Self {
        let mut scan = Self { chars: Vec::new(), bytes: Vec::new(), utf16: Vec::new() };
        let mut utf16 = 0;
        for (byte, c) in text.char_indices() {
            scan.chars.push(c);
            scan.bytes.push(byte);
            scan.utf16.push(utf16);
            utf16 += c.len_utf16();
        }
        scan.bytes.push(text.len());
        scan.utf16.push(utf16);
        scan
    }

    pub(super) fn len(&self) -> usize {
        self.chars.len()
    }

    pub(super) fn at(&self, index: usize) -> Option<char> {
        self.chars.get(index).copied()
    }

    /// The byte offset of the character at `index`, which may be one past the end.
    pub(super) fn byte(&self, index: usize) -> usize {
        self.bytes[index]
    }

    /// The UTF-16 offset of the character at `index`, which may be one past the end.
    pub(super) fn utf16(&self, index: usize) -> usize {
        self.utf16[index]
    }

    /// Whether the text at `index` begins with `ascii`, whatever the case of its letters.
    pub(super) fn starts_with(&self, index: usize, ascii: &str) -> bool {
        ascii.chars().enumerate().all(|(i, want)| self.at(index + i).is_some_and(|c| c.eq_ignore_ascii_case(&want)))
    }

    /// The end of the longest stretch from `from` to `limit` whose characters all satisfy `class`.
    pub(super) fn run(&self, from: usize, limit: usize, class: impl Fn(char) -> bool) -> usize {
        let limit = limit.min(self.len());
        (from..limit).find(|&i| !class(self.chars[i])).unwrap_or(limit.max(from))
    }
}

/// Code points that no post may hold.
pub(super) fn is_invalid(c: char) -> bool {
    matches!(c, '\u{FFFE}' | '\u{FEFF}' | '\u{FFFF}')
}

/// Marks that switch the writing direction; they end a link.
pub(super) fn is_directional(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2066}'..='\u{2069}')
}

pub(super) fn is_space(c: char) -> bool {
    matches!(
        c,
        '\u{9}'..='\u{D}'
            | ' '
            | '\u{85}'
            | '\u{A0}'
            | '\u{1680}'
            | '\u{180E}'
            | '\u{2000}'..='\u{200A}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202F}'
            | '\u{205F}'
            | '\u{3000}'
    )
}

/// ASCII punctuation except the quotation mark and the grave accent, which twitter-text leaves out.
pub(super) fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() && !matches!(c, '"' | '`')
}

/// Whether a host name label may begin and end with `c`.
pub(super) fn is_domain_char(c: char) -> bool {
    !(is_punctuation(c) || is_space(c) || is_invalid(c) || is_directional(c))
}

pub(super) fn is_latin_accent(c: char) -> bool {
    matches!(
        c,
        '\u{C0}'..='\u{D6}'
            | '\u{D8}'..='\u{F6}'
            | '\u{F8}'..='\u{24F}'
            | '\u{253}'
            | '\u{254}'
            | '\u{256}'
            | '\u{257}'
            | '\u{259}'
            | '\u{25B}'
            | '\u{263}'
            | '\u{268}'
            | '\u{26F}'
            | '\u{272}'
            | '\u{289}'
            | '\u{28B}'
            | '\u{2BB}'
            | '\u{300}'..='\u{36F}'
            | '\u{1E00}'..='\u{1EFF}'
    )
}

pub(super) fn is_cyrillic(c: char) -> bool {
    matches!(c, '\u{400}'..='\u{4FF}')
}

/// Letters and marks of every script: a hashtag needs at least one.
pub(super) fn is_hashtag_letter(c: char) -> bool {
    let category = CATEGORY.get(c);
    GeneralCategoryGroup::Letter.contains(category) || GeneralCategoryGroup::Mark.contains(category)
}

/// Everything that may stand inside a hashtag.
pub(super) fn is_hashtag_char(c: char) -> bool {
    is_hashtag_letter(c)
        || CATEGORY.get(c) == GeneralCategory::DecimalNumber
        || matches!(
            c,
            '_' | '\u{200C}'
                | '\u{200D}'
                | '\u{A67E}'
                | '\u{5BE}'
                | '\u{5F3}'
                | '\u{5F4}'
                | '\u{FF5E}'
                | '\u{301C}'
                | '\u{309B}'
                | '\u{309C}'
                | '\u{30A0}'
                | '\u{30FB}'
                | '\u{3003}'
                | '\u{F0B}'
                | '\u{F0C}'
                | '\u{B7}'
        )
}
