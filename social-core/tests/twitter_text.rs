//! The conformance suite of twitter-text, read from the folder that `CONTRACTS_DIR` names, and properties of our own.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::path::PathBuf;

use proptest::prelude::*;
use saphyr::{LoadableYamlNode, Yaml};
use social_core::text::{EntityKind, TextUnit, count, entities, truncate_to, weigh};

const UNITS: [TextUnit; 5] =
    [TextUnit::Weighted, TextUnit::Scalars, TextUnit::Utf16, TextUnit::Graphemes, TextUnit::Bytes];

/// The text of one file of the suite; `None` after saying aloud that the test is skipped.
fn suite(file: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("CONTRACTS_DIR") else {
        assert!(std::env::var_os("CI").is_none(), "CI must set CONTRACTS_DIR");
        eprintln!("skipped: CONTRACTS_DIR is not set, {file} was not run");
        return None;
    };
    let path = PathBuf::from(folder).join("twitter-text").join(file);
    Some(std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Runs `check` on every case of a section and reports all that fail, not only the first.
fn run(file: &str, section: &str, cases: usize, check: impl Fn(&str, &Yaml<'_>) -> Result<(), String>) {
    let Some(text) = suite(file) else { return };
    let documents = Yaml::load_from_str(&text).expect("the suite is YAML");
    let list = documents[0]["tests"][section].as_sequence().expect("a list of cases");
    assert_eq!(list.len(), cases, "{section}: number of cases");
    let failures: Vec<String> = list
        .iter()
        .filter_map(|case| {
            let text = case["text"].as_str().expect("text");
            let failure = check(text, &case["expected"]).err()?;
            Some(format!("{}\n  text: {text:?}\n  {failure}", case["description"].as_str().unwrap_or_default()))
        })
        .collect();
    assert!(failures.is_empty(), "{section}: {} of {cases} fail\n{}", failures.len(), failures.join("\n"));
}

fn same<T: PartialEq + Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("found {found:?}, expected {expected:?}")) }
}

fn values(text: &str, kind: EntityKind) -> Vec<String> {
    entities(text).iter().filter(|e| e.kind == kind).map(|e| e.value(text).to_owned()).collect()
}

fn strings(list: &Yaml<'_>) -> Vec<String> {
    list.as_sequence().expect("a list").iter().map(|v| v.as_str().expect("a string").to_owned()).collect()
}

type Placed = (String, usize, usize);

fn placed(text: &str, kinds: &[EntityKind]) -> Vec<Placed> {
    let found = entities(text).into_iter().filter(|e| kinds.contains(&e.kind));
    found.map(|e| (e.value(text).to_owned(), e.span.utf16_start, e.span.utf16_end)).collect()
}

fn expected_places(list: &Yaml<'_>, value: impl Fn(&Yaml<'_>) -> String) -> Vec<Placed> {
    let index = |case: &Yaml<'_>, i: usize| number(&case["indices"][i]);
    list.as_sequence().expect("a list").iter().map(|case| (value(case), index(case, 0), index(case, 1))).collect()
}

fn number(node: &Yaml<'_>) -> usize {
    node.as_integer().and_then(|n| usize::try_from(n).ok()).expect("a count")
}

fn field(case: &Yaml<'_>, name: &str) -> String {
    case[name].as_str().unwrap_or_default().to_owned()
}

fn weighs_as(text: &str, expected: &Yaml<'_>) -> Result<(), String> {
    let weighed = weigh(text);
    let valid = expected["valid"].as_bool().expect("a truth value");
    same((weighed.weight, weighed.valid), (number(&expected["weightedLength"]), valid))
}

#[test]
fn weights_agree_with_version_3() {
    run("validate.yml", "WeightedTweetsWithDiscountedEmojiCounterTest", 22, weighs_as);
}

#[test]
fn directional_marks_are_weighed_and_invalid_characters_refused() {
    run("validate.yml", "UnicodeDirectionalMarkerCounterTest", 2, weighs_as);
}

#[test]
fn urls_are_found() {
    let check = |text: &str, expected: &Yaml<'_>| same(values(text, EntityKind::Url), strings(expected));
    run("extract.yml", "urls", 91, check);
    run("extract.yml", "tco_urls_with_params", 5, check);
}

#[test]
fn urls_are_found_in_place() {
    let check = |text: &str, expected: &Yaml<'_>| {
        same(placed(text, &[EntityKind::Url]), expected_places(expected, |case| field(case, "url")))
    };
    run("extract.yml", "urls_with_indices", 10, check);
    run("extract.yml", "urls_with_directional_markers", 2, check);
}

#[test]
fn hashtags_are_found() {
    let check = |text: &str, expected: &Yaml<'_>| same(values(text, EntityKind::Hashtag), strings(expected));
    run("extract.yml", "hashtags", 65, check);
    run("extract.yml", "hashtags_from_astral", 3, check);
    run("extract.yml", "hashtags_with_indices", 8, |text, expected| {
        same(placed(text, &[EntityKind::Hashtag]), expected_places(expected, |case| field(case, "hashtag")))
    });
}

#[test]
fn mentions_and_lists_are_found() {
    run("extract.yml", "mentions", 23, |text, expected| same(values(text, EntityKind::Mention), strings(expected)));
    run("extract.yml", "mentions_with_indices", 3, |text, expected| {
        same(placed(text, &[EntityKind::Mention]), expected_places(expected, |case| field(case, "screen_name")))
    });
    run("extract.yml", "mentions_or_lists_with_indices", 5, |text, expected| {
        let name = |case: &Yaml<'_>| field(case, "screen_name") + &field(case, "list_slug");
        same(placed(text, &[EntityKind::Mention, EntityKind::List]), expected_places(expected, name))
    });
}

#[test]
fn cashtags_are_found() {
    run("extract.yml", "cashtags", 8, |text, expected| same(values(text, EntityKind::Cashtag), strings(expected)));
    run("extract.yml", "cashtags_with_indices", 2, |text, expected| {
        same(placed(text, &[EntityKind::Cashtag]), expected_places(expected, |case| field(case, "cashtag")))
    });
}

#[test]
fn top_level_domains_are_known() {
    let check = |text: &str, expected: &Yaml<'_>| same(values(text, EntityKind::Url), strings(expected));
    run("tlds.yml", "country", 315, check);
    run("tlds.yml", "generic", 1259, check);
}

#[test]
fn both_sides_of_280() {
    let cases: [(&str, &str, usize); 12] = [
        ("letter", "a", 1),
        ("accented letter of two code points", "e\u{301}", 1),
        ("Cyrillic", "ж", 1),
        ("CJK", "故", 2),
        ("kana", "か", 2),
        ("emoji", "😷", 2),
        ("family", "👨‍👩‍👧‍👦", 2),
        ("skin tone", "👍🏽", 2),
        ("flag", "🇩🇪", 2),
        ("regional flag", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", 2),
        ("keycap", "1️⃣", 2),
        ("link", "https://example.com/a/very/long/path/that/counts/as/twenty-three/characters?all=the&same=1 ", 24),
    ];
    for (name, unit, weight) in cases {
        let whole = 280 / weight;
        let full = unit.repeat(whole) + &"x".repeat(280 - whole * weight);
        let over = format!("{full}x");
        assert_eq!((weigh(&full).weight, weigh(&full).valid), (280, true), "{name}");
        assert_eq!((weigh(&over).weight, weigh(&over).valid), (281, false), "{name}");
        assert_eq!(count(TextUnit::Weighted, &full), 280, "{name}");
        assert!(weigh(&over).fits(281) && !weigh(&over).fits(280), "{name}");
    }
}

#[test]
fn what_may_or_may_not_be_a_link_gets_the_larger_count() {
    // This top level domain came after the network's published list.
    assert_eq!(weigh("a.kids").weight, 23, "short: as a link");
    let long = format!("https://example.kids/{}", "x".repeat(40));
    assert_eq!(weigh(&long).weight, long.len(), "long: as text");
    assert_eq!(weigh("a.com").weight, 23);
    assert_eq!(weigh(&long.replace("kids", "com")).weight, 23);
    assert_eq!(weigh("a.nosuchname").weight, 12);
}

#[test]
fn an_empty_text_or_one_with_refused_code_points_is_not_valid() {
    assert!(!weigh("").valid);
    for refused in ['\u{FFFE}', '\u{FEFF}', '\u{FFFF}'] {
        let weighed = weigh(&format!("a{refused}"));
        assert!(!weighed.valid && !weighed.clean && !weighed.fits(1000), "{refused:?}");
    }
    assert!(weigh("a").valid);
}

#[test]
fn links_are_reported_where_the_author_wrote_them() {
    let text = "Cafe\u{301} e\u{301}.com https://example.com/x"; // not in NFC
    let urls: Vec<&str> = weigh(text).urls.iter().map(|span| span.of(text)).collect();
    assert_eq!(urls, ["e\u{301}.com", "https://example.com/x"]);
}

#[test]
fn a_link_is_cut_off_whole() {
    let text = "read https://example.com/a/long/path/to/something now";
    assert_eq!(truncate_to(TextUnit::Weighted, text, 27), "read ");
    assert_eq!(truncate_to(TextUnit::Weighted, text, 28), "read https://example.com/a/long/path/to/something");
    assert_eq!(truncate_to(TextUnit::Weighted, text, 32), text);
}

/// Texts made of what the rules care about, so that chance finds their corners.
fn spiky() -> impl Strategy<Value = String> {
    let corners = [
        "http://",
        "https://t.co/",
        "example",
        ".com",
        ".comm",
        ".",
        "..",
        "-",
        "_",
        "@",
        "#",
        "$",
        "＃",
        "/",
        "(",
        ")",
        "?",
        "xn--",
        "。",
        "👨",
        "\u{200D}",
        "👩",
        "👧",
        "🏽",
        "❤",
        "\u{FE0F}",
        "\u{FE0E}",
        "\u{20E3}",
        "1",
        "🇩",
        "🇪",
        "🏴",
        "\u{E0067}",
        "\u{E007F}",
        "é",
        "e\u{301}",
        "故",
        "みんな",
        "पा",
        "\u{202A}",
        "\u{FEFF}",
        "RT",
        ":",
        "\n",
        "\r\n",
        " ",
    ];
    let piece = prop_oneof![
        "[ -~]{0,6}",
        any::<char>().prop_map(String::from),
        prop::sample::select(corners.to_vec()).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn ascii_without_links_weighs_its_length(text in "[ -\\-/-~]{0,300}") {
        prop_assert_eq!(weigh(&text).weight, text.len());
    }

    #[test]
    fn any_text_is_counted_without_panic(text in spiky()) {
        let weighed = weigh(&text);
        prop_assert_eq!(weighed.weight == 0, text.is_empty());
        prop_assert_eq!(weighed.valid, weighed.fits(280));
        for unit in UNITS {
            prop_assert!(unit == TextUnit::Weighted || count(unit, &text) <= text.len());
        }
    }

    #[test]
    fn entities_lie_inside_the_text_and_apart(text in spiky()) {
        let mut free_from = 0;
        for entity in entities(&text) {
            let span = entity.span;
            prop_assert!(span.start >= free_from && span.end > span.start);
            free_from = span.end;
            prop_assert_eq!(span.of(&text).encode_utf16().count(), span.utf16_end - span.utf16_start);
            prop_assert_eq!(text[..span.start].encode_utf16().count(), span.utf16_start);
            prop_assert!(!entity.value(&text).is_empty());
        }
    }

    #[test]
    fn a_cut_text_fits(text in spiky(), max in 0usize..60) {
        for unit in UNITS {
            let cut = truncate_to(unit, &text, max);
            prop_assert!(text.starts_with(cut));
            prop_assert!(count(unit, cut) <= max, "{:?}: {:?}", unit, cut);
            let clusters = |part: &str| count(TextUnit::Graphemes, part);
            prop_assert_eq!(clusters(cut) + clusters(&text[cut.len()..]), clusters(&text));
            if count(unit, &text) <= max {
                prop_assert_eq!(cut, &text);
            }
        }
    }
}
