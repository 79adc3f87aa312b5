//! Both sides of every limit.

use serde_json::json;
use social_core::{
    Account, Attachment, Draft, Link, MediaId, MediaRef, Publish as _, Severity, Violation,
    draft::StoredMedia,
    media::{MediaFacts, MediaKind},
};
use social_linkedin::LinkedIn;

use crate::support::{facts, member, page, with_options};

fn linkedin() -> LinkedIn {
    LinkedIn::builder("id", "secret").build().unwrap()
}

fn check(draft: &Draft, account: &Account) -> Vec<Violation> {
    linkedin().validate(draft, &account.profile)
}

/// What stops the draft, as `code field`.
fn errors(draft: &Draft) -> Vec<String> {
    errors_on(draft, &member())
}

fn errors_on(draft: &Draft, account: &Account) -> Vec<String> {
    let found = check(draft, account).into_iter().filter(|violation| violation.severity == Severity::Error);
    found.map(|violation| format!("{} {}", violation.code, violation.field)).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn a_text_has_three_thousand_visible_characters() {
    assert_eq!(errors(&Draft::text("é".repeat(3000))), NONE);
    assert_eq!(errors(&Draft::text("😀".repeat(3000))), NONE);
    assert_eq!(errors(&Draft::text("😀".repeat(3001))), ["text_too_long content"]);
    assert_eq!(errors(&Draft::text(" \n")), ["text_missing content"]);
    // A mention counts as its name.
    let mention = "@[Ann](urn:li:person:abc)";
    assert_eq!(errors(&Draft::text(format!("{}{mention}", "a".repeat(2997)))), NONE);
    assert_eq!(errors(&Draft::text(format!("{}{mention}", "a".repeat(2998)))), ["text_too_long content"]);
    let used = linkedin().text_use(&Draft::text(mention), &member().profile);
    assert_eq!((used.used, used.limit), (3, 3000));
}

#[test]
fn a_text_whose_escaped_form_is_longer_is_warned_about() {
    let codes = |text: String| {
        check(&Draft::text(text), &member()).into_iter().map(|violation| violation.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(format!("{}_", "a".repeat(2998))), NONE);
    assert_eq!(codes(format!("{}_", "a".repeat(2999))), ["text_near_limit"]);
    assert_eq!(codes(format!("{}_", "a".repeat(3000))), ["text_too_long"]);
}

#[test]
fn a_link_in_the_text_counts_there_and_a_card_does_not() {
    let url = "https://example.com/12345"; // 25 and the line break
    let link = Link { url: url.into(), title: None, description: None, thumbnail: None };
    let card = Draft::text("a".repeat(3000)).link(link.clone());
    assert_eq!(errors(&card), NONE);
    let inline =
        |count: usize| with_options(Draft::text("a".repeat(count)).link(link.clone()), json!({ "link_in_text": true }));
    assert_eq!(errors(&inline(2974)), NONE);
    assert_eq!(errors(&inline(2975)), ["text_too_long content"]);
    assert_eq!(linkedin().text_use(&inline(2974), &member().profile).used, 3000);
    let image = file(MediaKind::Image, "image/png", |_| {});
    assert_eq!(errors(&Draft::text("a").link(link.clone()).attach(image.clone())), ["link_with_media link"]);
    assert_eq!(errors(&inline(1).attach(image)), NONE);
}

#[test]
fn a_card_has_limits_of_its_own() {
    let draft = |title: usize, description: usize| {
        let link = Link {
            url: "https://example.com".into(),
            title: Some("😀".repeat(title)),
            description: Some("😀".repeat(description)),
            thumbnail: None,
        };
        Draft::text("a").link(link)
    };
    assert_eq!(errors(&draft(400, 4086)), NONE);
    assert_eq!(errors(&draft(401, 4087)), ["text_too_long link.title", "text_too_long link.description"]);
    let thumbnail = |kind, mime| {
        let media = Some(file(kind, mime, |_| {}).media);
        Draft::text("a").link(Link {
            url: "https://example.com".into(),
            title: None,
            description: None,
            thumbnail: media,
        })
    };
    assert_eq!(errors(&thumbnail(MediaKind::Image, "image/png")), NONE);
    assert_eq!(errors(&thumbnail(MediaKind::Document, "application/pdf")), ["media_type link.thumbnail"]);
}

fn file(kind: MediaKind, mime: &str, change: impl FnOnce(&mut MediaFacts)) -> Attachment {
    let mut facts = facts(kind, mime, 100_000);
    (facts.width, facts.height) = (Some(640), Some(480));
    facts.duration_ms = matches!(kind, MediaKind::Video).then_some(5000);
    change(&mut facts);
    Attachment { media: MediaRef::Stored(StoredMedia { id: MediaId::new(), facts }), alt_text: None, title: None }
}

#[test]
fn files_have_counts_types_and_sizes() {
    let with = |files: Vec<Attachment>| files.into_iter().fold(Draft::text("a"), Draft::attach);
    let image = || file(MediaKind::Image, "image/jpeg", |_| {});
    assert_eq!(errors(&with(vec![image(); 20])), NONE);
    assert_eq!(errors(&with(vec![image(); 21])), ["media_too_many media"]);
    assert_eq!(errors(&with(vec![file(MediaKind::Image, "image/webp", |_| {})])), ["media_type media[0]"]);
    let pixels = |width, height| {
        with(vec![file(MediaKind::Image, "image/png", |f| (f.width, f.height) = (Some(width), Some(height)))])
    };
    assert_eq!(errors(&pixels(36_152_319, 1)), NONE);
    assert_eq!(errors(&pixels(36_152_320, 1)), ["media_too_many_pixels media[0]"]);
    let frames = |count| with(vec![file(MediaKind::Gif, "image/gif", |f| f.frames = Some(count))]);
    assert_eq!(errors(&frames(250)), NONE);
    assert_eq!(errors(&frames(251)), ["media_too_many_frames media[0]"]);
    let described = |count: usize| {
        let mut image = image();
        image.alt_text = Some("😀".repeat(count));
        with(vec![image])
    };
    assert_eq!(errors(&described(4086)), NONE);
    assert_eq!(errors(&described(4087)), ["alt_text_too_long media[0].alt_text"]);

    let video = |change: fn(&mut MediaFacts)| errors(&with(vec![file(MediaKind::Video, "video/mp4", change)]));
    assert_eq!(video(|f| (f.size_bytes, f.duration_ms) = (76_800, Some(3000))), NONE);
    assert_eq!(video(|f| f.size_bytes = 76_799), ["media_too_small media[0]"]);
    assert_eq!(video(|f| (f.size_bytes, f.duration_ms) = (500_000_000, Some(1_800_000))), NONE);
    assert_eq!(video(|f| f.size_bytes = 500_000_001), ["media_too_large media[0]"]);
    assert_eq!(video(|f| f.duration_ms = Some(2999)), ["media_too_short media[0]"]);
    assert_eq!(video(|f| f.duration_ms = Some(1_800_001)), ["media_too_long media[0]"]);
    assert_eq!(video(|f| (f.width, f.height) = (Some(240), Some(100))), NONE);
    assert_eq!(video(|f| (f.width, f.height) = (Some(241), Some(100))), ["media_too_broad media[0]"]);
    assert_eq!(video(|f| (f.width, f.height) = (Some(100), Some(240))), NONE);
    assert_eq!(video(|f| (f.width, f.height) = (Some(100), Some(241))), ["media_too_slim media[0]"]);
    let one = || file(MediaKind::Video, "video/mp4", |_| {});
    assert_eq!(errors(&with(vec![one(), one()])), ["media_too_many media"]);
    assert_eq!(errors(&with(vec![one(), image()])), ["media_mixed media"]);

    let document = |bytes| errors(&with(vec![file(MediaKind::Document, "application/pdf", |f| f.size_bytes = bytes)]));
    assert_eq!(document(100_000_000), NONE);
    assert_eq!(document(100_000_001), ["media_too_large media[0]"]);
}

#[test]
fn a_first_comment_has_a_limit_and_threads_do_not_exist() {
    assert_eq!(errors(&Draft::text("a").first_comment("😀".repeat(1250))), NONE);
    assert_eq!(errors(&Draft::text("a").first_comment("😀".repeat(1251))), ["text_too_long first_comment"]);
    assert_eq!(errors(&Draft::text("a").then("b")), ["thread_too_long thread"]);
}

#[test]
fn a_poll_has_limits_and_stands_alone() {
    let poll = |question: usize, options: &[usize]| {
        let options: Vec<_> = options.iter().map(|&length| "😀".repeat(length)).collect();
        with_options(Draft::text("a"), json!({ "poll": { "question": "😀".repeat(question), "options": options } }))
    };
    assert_eq!(errors(&poll(140, &[30, 1])), NONE);
    assert_eq!(errors(&poll(1, &[1, 1, 1, 30])), NONE);
    assert_eq!(errors(&poll(141, &[1, 1])), ["text_too_long options.linkedin.poll.question"]);
    assert_eq!(errors(&poll(1, &[1, 31])), ["text_too_long options.linkedin.poll.options[1]"]);
    assert_eq!(
        errors(&poll(0, &[1, 0])),
        ["text_missing options.linkedin.poll.question", "text_missing options.linkedin.poll.options[1]"]
    );
    for count in [0, 1, 5] {
        assert_eq!(errors(&poll(1, &vec![1; count])), ["poll_options options.linkedin.poll.options"], "{count}");
    }
    let image = file(MediaKind::Image, "image/png", |_| {});
    assert_eq!(errors(&poll(1, &[1, 1]).attach(image)), ["poll_not_alone options.linkedin.poll"]);
}

#[test]
fn options_are_checked() {
    let with = |options| with_options(Draft::text("a"), options);
    let connections = with(json!({ "visibility": "connections" }));
    assert_eq!(errors_on(&connections, &member()), NONE);
    assert_eq!(errors_on(&connections, &page()), ["visibility_unsupported options.linkedin.visibility"]);
    assert_eq!(errors_on(&with(json!({ "visibility": "logged_in" })), &page()), NONE);
    for unknown in
        [json!({ "visibilty": "public" }), json!({ "visibility": "friends" }), json!([]), json!({ "poll": {} })]
    {
        assert_eq!(errors(&with(unknown)), ["options_invalid options.linkedin"]);
    }
    let reshare = |text: &str, parent: &str| with_options(Draft::text(text), json!({ "reshare_parent": parent }));
    for parent in ["urn:li:share:1", "urn:li:ugcPost:1", "urn:li:activity:1"] {
        assert_eq!(errors(&reshare("", parent)), NONE);
    }
    for parent in ["", "1", "urn:li:person:1", "urn:li:share:", "urn:li:share:1x"] {
        assert_eq!(errors(&reshare("a", parent)), ["reshare_invalid options.linkedin.reshare_parent"], "{parent}");
    }
    let image = file(MediaKind::Image, "image/png", |_| {});
    let both = reshare("a", "urn:li:share:1").attach(image);
    assert_eq!(errors(&both), ["reshare_not_alone options.linkedin.reshare_parent"]);
}
