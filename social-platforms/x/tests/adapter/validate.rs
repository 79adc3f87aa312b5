use serde_json::{Value, json};
use social_core::{
    Attachment, Draft, Link, MediaId, Publish, Severity,
    draft::StoredMedia,
    media::{MediaFacts, MediaKind},
};
use social_x::X;

use crate::support::{MIB, facts, profile};

const FAMILY: &str = "👨‍👩‍👧‍👦";

fn x() -> X {
    X::builder("id", "secret").build().unwrap()
}

/// Codes of the errors, with `?` behind warnings.
fn codes(draft: &Draft, subscription: Option<&str>) -> Vec<String> {
    let found = x().validate(draft, &profile(subscription));
    assert!(found.iter().all(|violation| violation.platform == Some(X::ID)));
    found
        .into_iter()
        .map(|violation| match violation.severity {
            Severity::Error => violation.code,
            Severity::Warning => violation.code + "?",
        })
        .collect()
}

fn file(facts: MediaFacts) -> Attachment {
    Attachment { media: StoredMedia { id: MediaId::new(), facts }.into(), alt_text: None, title: None }
}

fn image() -> MediaFacts {
    facts(MediaKind::Image, "image/png", 100)
}

fn gif() -> MediaFacts {
    facts(MediaKind::Gif, "image/gif", 100)
}

fn video() -> MediaFacts {
    MediaFacts {
        width: Some(1280),
        height: Some(720),
        duration_ms: Some(10_000),
        ..facts(MediaKind::Video, "video/mp4", 100)
    }
}

fn with(facts: impl IntoIterator<Item = MediaFacts>) -> Draft {
    facts.into_iter().fold(Draft::text("a"), |draft, facts| draft.attach(file(facts)))
}

fn options(value: Value) -> Draft {
    Draft::text("a").option(X::ID, value)
}

#[test]
fn texts_have_a_weight() {
    let link = |text: &str| {
        Draft::text(text).link(Link {
            url: "https://shop.example.com/".into(),
            title: None,
            description: None,
            thumbnail: None,
        })
    };
    let fits = [
        (Draft::text("a".repeat(280)), None),
        (Draft::text(FAMILY.repeat(140)), None),
        (Draft::text("故".repeat(140)), None),
        (link(&"a".repeat(256)), None),
        (Draft::text("a".repeat(25_000)), Some("Premium")),
        (Draft::text(FAMILY.repeat(12_500)), Some("PremiumPlus")),
        (Draft::text("a").then("b".repeat(280)).first_comment(FAMILY.repeat(140)), None),
        (Draft::text("a").first_comment("c".repeat(25_000)), Some("Premium")),
    ];
    for (draft, subscription) in fits {
        assert_eq!(codes(&draft, subscription), Vec::<String>::new());
    }
    let too_long = [
        (Draft::text("a".repeat(281)), None),
        (Draft::text(format!("{}a", FAMILY.repeat(140))), None),
        (Draft::text("故".repeat(141)), None),
        (link(&"a".repeat(257)), None),
        (Draft::text("a".repeat(281)), Some("Basic")),
        (Draft::text("a".repeat(281)), Some("None")),
        (Draft::text("a".repeat(25_001)), Some("Premium")),
        (Draft::text("a").then("b".repeat(281)), None),
        (Draft::text("a").first_comment(format!("{}a", FAMILY.repeat(140))), None),
    ];
    for (draft, subscription) in too_long {
        assert_eq!(codes(&draft, subscription), ["text_too_long"]);
    }
    assert_eq!(codes(&Draft::text(" \n"), None), ["text_missing"]);
    assert_eq!(codes(&Draft::text("a\u{FEFF}"), None), ["text_characters"]);
}

#[test]
fn the_use_of_a_text_is_told_for_the_account() {
    let link = Link { url: "https://shop.example.com/".into(), title: None, description: None, thumbnail: None };
    let draft = Draft::text(FAMILY).link(link);
    let told = |subscription| x().text_use(&draft, &profile(subscription));
    assert_eq!((told(None).used, told(None).limit), (2 + 1 + 23, 280));
    assert_eq!((told(Some("Premium")).used, told(Some("Premium")).limit), (26, 25_000));
}

#[test]
fn threads_have_at_most_25_parts() {
    let thread = |parts: usize| (1..parts).fold(Draft::text("1"), |draft, _| draft.then("next"));
    assert!(codes(&thread(25), None).is_empty());
    assert_eq!(codes(&thread(26), None), ["thread_too_long"]);
}

#[test]
fn one_cashtag_is_allowed_and_mentions_of_others_are_a_warning() {
    assert!(codes(&Draft::text("$ABC rises, $5 lost"), None).is_empty());
    assert_eq!(codes(&Draft::text("$ABC and $XYZ"), None), ["too_many_cashtags"]);
    assert_eq!(codes(&Draft::text("a").then("$ABC and $ABC"), None), ["too_many_cashtags"]);
    assert!(codes(&Draft::text("we are @Shop"), None).is_empty());
    assert_eq!(codes(&Draft::text("hello @other"), None), ["mentions_restricted?"]);
    assert_eq!(codes(&Draft::text("a").first_comment("thanks @other"), None), ["mentions_restricted?"]);
}

#[test]
fn media_have_limits_on_both_sides() {
    type Case = (Draft, &'static [&'static str]);
    let bytes = |facts: MediaFacts, size_bytes: usize| MediaFacts { size_bytes: size_bytes as u64, ..facts };
    let size = |facts: MediaFacts, width, height| MediaFacts { width: Some(width), height: Some(height), ..facts };
    let lasts = |ms| MediaFacts { duration_ms: Some(ms), ..video() };
    let frames = |facts: MediaFacts, frames| MediaFacts { frames: Some(frames), ..facts };
    let rate = |milli| MediaFacts { frame_rate_milli: Some(milli), ..video() };
    let cases: Vec<Case> = vec![
        (with((0..4).map(|_| image())), &[]),
        (with((0..5).map(|_| image())), &["media_too_many"]),
        (with([bytes(image(), 5 * MIB)]), &[]),
        (with([bytes(image(), 5 * MIB + 1)]), &["media_too_large"]),
        (with([facts(MediaKind::Image, "image/tiff", 1)]), &["media_type"]),
        (with([facts(MediaKind::Document, "application/pdf", 1)]), &["media_unsupported"]),
        (with([bytes(gif(), 15 * MIB)]), &[]),
        (with([bytes(gif(), 15 * MIB + 1)]), &["media_too_large"]),
        (with([gif(), gif()]), &["media_too_many"]),
        (with([image(), gif()]), &["media_mixed"]),
        (with([image(), video()]), &["media_mixed"]),
        (with([frames(size(gif(), 1280, 1080), 217)]), &[]),
        (with([frames(size(gif(), 1280, 1080), 218)]), &["media_too_many_pixels"]),
        (with([frames(size(gif(), 100, 100), 351)]), &["media_too_many_frames"]),
        (with([size(gif(), 1281, 100)]), &["media_too_wide"]),
        (with([size(gif(), 100, 1081)]), &["media_too_high"]),
        (with([bytes(video(), 512 * MIB)]), &[]),
        (with([bytes(video(), 512 * MIB + 1)]), &["media_too_large"]),
        (with([video(), video()]), &["media_too_many"]),
        (with([lasts(500)]), &[]),
        (with([lasts(499)]), &["media_too_short"]),
        (with([lasts(140_000)]), &[]),
        (with([lasts(140_001)]), &["media_too_long"]),
        (with([size(video(), 720, 1280)]), &[]),
        (with([size(video(), 1281, 720)]), &["media_too_wide"]),
        (with([size(video(), 720, 1281)]), &["media_too_high"]),
        (with([size(video(), 1080, 1080)]), &["media_may_be_refused?"]),
        (with([size(video(), 96, 32)]), &[]),
        (with([size(video(), 97, 32)]), &["media_too_broad"]),
        (with([size(video(), 90, 31)]), &["media_too_narrow"]),
        (with([size(video(), 100, 300)]), &[]),
        (with([size(video(), 100, 301)]), &["media_too_slim"]),
        (with([rate(60_000)]), &[]),
        (with([rate(60_001)]), &["media_may_be_refused?"]),
    ];
    for (draft, expected) in cases {
        assert_eq!(codes(&draft, None), expected, "{:?}", draft.media);
    }
}

#[test]
fn premium_raises_the_limits_of_videos() {
    let long = MediaFacts {
        duration_ms: Some(3_600_000),
        size_bytes: 600 * MIB as u64,
        width: Some(1920),
        height: Some(1080),
        ..video()
    };
    assert!(codes(&with([long.clone()]), Some("Premium")).is_empty());
    assert_eq!(codes(&with([MediaFacts { width: Some(1921), ..long }]), Some("Premium")), ["media_too_wide"]);
}

#[test]
fn a_number_that_the_operator_changed_holds_for_everybody() {
    let x = X::builder("id", "secret").descriptor(|facts| facts.text.max = 100).build().unwrap();
    for subscription in [None, Some("Premium")] {
        assert!(x.validate(&Draft::text("a".repeat(100)), &profile(subscription)).is_empty());
        assert_eq!(x.validate(&Draft::text("a".repeat(101)), &profile(subscription)).len(), 1);
    }
}

#[test]
fn descriptions_have_1000_characters_and_none_for_videos() {
    let described =
        |facts: MediaFacts, alt: String| Draft::text("a").attach(Attachment { alt_text: Some(alt), ..file(facts) });
    assert!(codes(&described(image(), "🌊".repeat(1000)), None).is_empty());
    assert_eq!(codes(&described(image(), "🌊".repeat(1001)), None), ["alt_text_too_long"]);
    assert_eq!(codes(&described(video(), "a wave".into()), None), ["alt_text_unsupported?"]);
    assert!(codes(&described(video(), " ".into()), None).is_empty());
}

#[test]
fn polls_have_rules() {
    let poll =
        |answers: &[&str], minutes: i64| options(json!({"poll": {"options": answers, "duration_minutes": minutes}}));
    let (longest, too_long) = ("🌊".repeat(25), "🌊".repeat(26));
    let cases: [(Draft, &[&str]); 10] = [
        (poll(&["a", "b"], 5), &[]),
        (poll(&["a", "b", "c", &longest], 10_080), &[]),
        (poll(&["a"], 5), &["poll_options"]),
        (poll(&["a", "b", "c", "d", "e"], 5), &["poll_options"]),
        (poll(&["a", &too_long], 5), &["poll_option_too_long"]),
        (poll(&["a", " "], 5), &["poll_option_empty"]),
        (poll(&["a", "b"], 4), &["poll_duration"]),
        (poll(&["a", "b"], 10_081), &["poll_duration"]),
        (poll(&["a", "b"], -1), &["options_invalid"]),
        (poll(&["a", "b"], 5).attach(file(image())), &["options_exclusive"]),
    ];
    for (draft, expected) in cases {
        assert_eq!(codes(&draft, None), expected, "{:?}", draft.options);
    }
}

#[test]
fn other_options_have_rules() {
    let cases: [(Value, &[&str]); 8] = [
        (json!({}), &[]),
        (
            json!({"reply_settings": "verified", "made_with_ai": true, "paid_partnership": true, "community_id": "9"}),
            &[],
        ),
        (json!({"reply_settings": "everyone"}), &["options_invalid"]),
        (json!({"reply_setting": "verified"}), &["options_invalid"]),
        (json!("verified"), &["options_invalid"]),
        (json!({"community_id": "https://x.com/i/communities/9"}), &["id_invalid"]),
        (json!({"community_id": "9".repeat(20)}), &["id_invalid"]),
        (json!({"quote_tweet_id": "9"}), &["quote_unsupported"]),
    ];
    for (value, expected) in cases {
        assert_eq!(codes(&options(value.clone()), None), expected, "{value}");
    }
    let x = X::builder("id", "secret").allow_quotes().build().unwrap();
    assert!(x.validate(&options(json!({"quote_tweet_id": "9"})), &profile(None)).is_empty());
    let found = x.validate(&options(json!({"quote_tweet_id": "9"})).attach(file(image())), &profile(None));
    assert_eq!(found[0].code, "options_exclusive");
}
