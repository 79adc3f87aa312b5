//! Emoji as one unit: which sequences of code points a network draws as a single picture.
//!
//! Single pictures come from Unicode's own tables. Sequences joined by a zero width joiner follow the patterns of Unicode's
//! recommended set, written as rules instead of a list of several thousand entries. A joined sequence outside that set is
//! drawn as several pictures and counted as such, which is also the larger count.

use icu_properties::props::{Emoji, EmojiModifierBase};
use icu_properties::{CodePointSetData, CodePointSetDataBorrowed};

static EMOJI: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<Emoji>();
static TAKES_SKIN_TONE: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<EmojiModifierBase>();

const JOINER: char = '\u{200D}';
const TEXT_STYLE: char = '\u{FE0E}';
const EMOJI_STYLE: char = '\u{FE0F}';
const KEYCAP: char = '\u{20E3}';
const BLACK_FLAG: char = '\u{1F3F4}';
/// The longest recommended sequence joins four pictures.
const MAX_PARTS: usize = 4;

const MAN: char = '👨';
const WOMAN: char = '👩';
const PERSON: char = '🧑';
const HEART: char = '\u{2764}';
const RIGHTWARDS: char = '\u{27A1}';

/// Signs and tools that make a person a professional, give them hair, or help them move.
const ROLES: &str = "⚕⚖✈🌾🍳🍼🎓🎤🎨🏫🏭💻💼🔧🔬🚀🚒🦯🦰🦱🦲🦳🦼🦽";
/// Roles that only a person without a stated gender takes.
const PERSON_ROLES: &str = "🎄🩰";
/// Roles that may also face right.
const MOVING_ROLES: &str = "🦯🦼🦽";
/// Pictures that take a female or male sign.
const GENDERED: &str =
    "⛹🏃🏄🏊🏋🏌👮👯👰👱👳👷💁💂💆💇🕵🙅🙆🙇🙋🙍🙎🚣🚴🚵🚶🤦🤵🤷🤸🤹🤼🤽🤾🦸🦹🧍🧎🧏🧔🧖🧗🧘🧙🧚🧛🧜🧝🧞🧟";
/// Those of them that may also face right.
const MOVING: &str = "🏃🚶🧎";
/// Pairs without people.
const PAIRS: [[char; 2]; 19] = [
    ['👁', '🗨'],
    ['🏳', '🌈'],
    ['🏳', '⚧'],
    ['🏴', '☠'],
    ['🐕', '🦺'],
    ['🐈', '⬛'],
    ['🐻', '❄'],
    ['🐦', '⬛'],
    ['🐦', '🔥'],
    ['😮', '💨'],
    ['😵', '💫'],
    ['😶', '🌫'],
    ['❤', '🔥'],
    ['❤', '🩹'],
    ['🍋', '🟩'],
    ['🍄', '🟫'],
    ['⛓', '💥'],
    ['🙂', '↔'],
    ['🙂', '↕'],
];
/// Regions with a flag.
const REGIONS: &str = "AC AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW \
    BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CP CQ CR CU CV CW CX CY CZ DE DG DJ DK DM DO DZ EA EC EE EG EH ER ES ET EU FI FJ \
    FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU IC ID IE IL IM IN IO IQ IR IS IT JE \
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS \
    MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA \
    SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM UN \
    US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// How many characters at the beginning of `chars` form one emoji; `None` when they begin with something else.
pub(super) fn leading(chars: &[char]) -> Option<usize> {
    let first = *chars.first()?;
    if first.is_ascii() {
        return keycap(chars);
    }
    if let Some(letter) = regional_letter(first) {
        let second = regional_letter(*chars.get(1)?)?;
        return is_region(letter, second).then_some(2);
    }
    if let Some(length) = regional_flag(chars) {
        return Some(length);
    }
    let mut parts = Vec::with_capacity(MAX_PARTS);
    let mut ends = Vec::with_capacity(MAX_PARTS);
    let mut at = 0;
    while parts.len() < MAX_PARTS {
        let Some((part, length)) = part(&chars[at..]) else { break };
        at += length;
        parts.push(part);
        ends.push(at);
        if chars.get(at) != Some(&JOINER) {
            break;
        }
        at += 1;
    }
    (1..=parts.len()).rev().find(|&n| is_recommended(&parts[..n])).map(|n| ends[n - 1])
}

/// One picture of a sequence with its skin tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    base: char,
    tone: Option<char>,
}

fn part(chars: &[char]) -> Option<(Part, usize)> {
    let base = *chars.first()?;
    if base.is_ascii() || !EMOJI.contains(base) {
        return None;
    }
    match chars.get(1) {
        Some(&tone @ '\u{1F3FB}'..='\u{1F3FF}') if TAKES_SKIN_TONE.contains(base) => {
            Some((Part { base, tone: Some(tone) }, 2))
        }
        Some(&EMOJI_STYLE) => Some((Part { base, tone: None }, 2)),
        Some(&TEXT_STYLE) => None,
        // These two are letters in most texts and pictures only on request.
        _ if matches!(base, '©' | '®') => None,
        _ => Some((Part { base, tone: None }, 1)),
    }
}

fn keycap(chars: &[char]) -> Option<usize> {
    if !matches!(chars.first()?, '0'..='9' | '#' | '*') {
        return None;
    }
    let styled = usize::from(chars.get(1) == Some(&EMOJI_STYLE));
    (chars.get(1 + styled) == Some(&KEYCAP)).then_some(2 + styled)
}

fn regional_letter(c: char) -> Option<char> {
    let offset = u32::from(c).checked_sub(0x1F1E6)?;
    u8::try_from(offset).ok().filter(|o| *o < 26).map(|o| char::from(b'A' + o))
}

fn is_region(first: char, second: char) -> bool {
    REGIONS.split_ascii_whitespace().any(|region| region.chars().eq([first, second]))
}

/// England, Scotland and Wales: a black flag followed by the region in tag characters.
fn regional_flag(chars: &[char]) -> Option<usize> {
    if *chars.first()? != BLACK_FLAG {
        return None;
    }
    ["gbeng", "gbsct", "gbwls"].iter().find_map(|region| {
        let tags = region.chars().filter_map(|c| char::from_u32(0xE0000 + u32::from(c))).chain(['\u{E007F}']);
        let rest = chars.get(1..=region.len() + 1)?;
        rest.iter().copied().eq(tags).then_some(region.len() + 2)
    })
}

/// Whether Unicode recommends drawing `parts`, joined, as one picture.
fn is_recommended(parts: &[Part]) -> bool {
    let plain = parts.iter().all(|p| p.tone.is_none());
    match parts {
        [_] => true,
        [a, b] if plain && PAIRS.contains(&[a.base, b.base]) => true,
        [person, role] if is_adult(person.base) && among(ROLES, *role) => true,
        [person, role] if person.base == PERSON && among(PERSON_ROLES, *role) => true,
        [person, role, right] if is_adult(person.base) && among(MOVING_ROLES, *role) && is(*right, RIGHTWARDS) => true,
        [mover, right] if among_bases(MOVING, *mover) && is(*right, RIGHTWARDS) => true,
        [mover, sign, right] if among_bases(MOVING, *mover) && is_gender(*sign) && is(*right, RIGHTWARDS) => true,
        [person, sign] if among_bases(GENDERED, *person) && is_gender(*sign) => true,
        [Part { base: '🫱', tone: Some(a) }, Part { base: '🫲', tone: Some(b) }] => a != b,
        [a, heart, b] if is(*heart, HEART) => is_couple(*a, *b),
        [a, heart, kiss, b] if is(*heart, HEART) && is(*kiss, '💋') => is_couple(*a, *b),
        [a, hands, b] if is(*hands, '🤝') => holds_hands(*a, *b),
        [a, game, b] if is(*game, '🐰') || is(*game, '🫯') => {
            a.base == b.base && is_adult(a.base) && tones_differ(*a, *b)
        }
        _ => plain && is_family(parts),
    }
}

fn is_adult(base: char) -> bool {
    matches!(base, MAN | WOMAN | PERSON)
}

fn is(part: Part, base: char) -> bool {
    part == Part { base, tone: None }
}

fn among(set: &str, part: Part) -> bool {
    part.tone.is_none() && set.contains(part.base)
}

fn among_bases(set: &str, part: Part) -> bool {
    set.contains(part.base)
}

fn is_gender(part: Part) -> bool {
    among("♀♂", part)
}

/// Two people of different skin tones; those of one tone have a code point of their own.
fn tones_differ(a: Part, b: Part) -> bool {
    matches!((a.tone, b.tone), (Some(a), Some(b)) if a != b)
}

fn is_couple(a: Part, b: Part) -> bool {
    match (a.base, b.base) {
        (WOMAN, MAN | WOMAN) | (MAN, MAN) => a.tone.is_some() == b.tone.is_some(),
        (PERSON, PERSON) => tones_differ(a, b),
        _ => false,
    }
}

fn holds_hands(a: Part, b: Part) -> bool {
    match (a.base, b.base) {
        (PERSON, PERSON) => a.tone.is_some() == b.tone.is_some(),
        (WOMAN, MAN | WOMAN) | (MAN, MAN) => tones_differ(a, b),
        _ => false,
    }
}

/// One or two adults with one or two children.
fn is_family(parts: &[Part]) -> bool {
    let bases: Vec<char> = parts.iter().map(|p| p.base).collect();
    let adults = bases.iter().take_while(|b| is_adult(**b)).count();
    let (adults, children) = bases.split_at(adults);
    match adults {
        [MAN | WOMAN] | [MAN, MAN | WOMAN] | [WOMAN, WOMAN] => {
            matches!(children, ['👦' | '👧'] | ['👧', '👦' | '👧'] | ['👦', '👦'])
        }
        [PERSON] | [PERSON, PERSON] => matches!(children, ['🧒'] | ['🧒', '🧒']),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(text: &str) -> Option<usize> {
        leading(&text.chars().collect::<Vec<_>>())
    }

    #[test]
    fn whole_sequences_are_one_emoji() {
        for text in [
            "😀",
            "☺",
            "☺️",
            "1️⃣",
            "1⃣",
            "#️⃣",
            "🇩🇪",
            "🇺🇳",
            "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
            "🏴󠁧󠁢󠁷󠁬󠁳󠁿",
            "👍🏽",
            "👩🏾‍🚀",
            "🧑‍🎄",
            "🕵️‍♀️",
            "🕵🏿‍♂️",
            "👨‍👩‍👧‍👦",
            "👩‍👦‍👦",
            "🧑‍🧑‍🧒‍🧒",
            "👩‍❤️‍💋‍👨",
            "👩🏻‍❤️‍👩🏿",
            "🧑🏻‍🤝‍🧑🏿",
            "🫱🏻‍🫲🏿",
            "🏳️‍🌈",
            "🏴‍☠️",
            "❤️‍🔥",
            "🐦‍🔥",
            "🙂‍↔️",
            "🚶🏽‍♀️‍➡️",
            "👨‍🦽‍➡️",
            "©️",
            "♂️",
        ] {
            assert_eq!(length(text), Some(text.chars().count()), "{text}");
        }
    }

    #[test]
    fn only_recommended_sequences_are_joined() {
        assert_eq!(length("👍‍👎"), Some(1), "two thumbs are drawn apart");
        assert_eq!(length("👨‍👩‍👧‍👦‍👦"), Some(7), "the fifth member stands apart");
        assert_eq!(length("👩‍🎄"), Some(1), "only a person without a stated gender has that form");
        assert_eq!(length("😀🏽"), Some(1), "a face takes no skin tone");
        assert_eq!(length("🇩🇦"), None, "no region of that name");
        assert_eq!(length("🏴󠁧󠁢󠁮󠁩󠁲󠁿"), Some(1), "a flag without a picture");
    }

    #[test]
    fn letters_and_signs_are_not_emoji() {
        for text in ["", "a", "1", "#", "1\u{FE0F}", "©", "®", "☺\u{FE0E}", "故", "\u{200D}", "\u{FE0F}", "🇩"] {
            assert_eq!(length(text), None, "{text:?}");
        }
    }
}
