//! The descriptor, and both sides of its limits.

use jiff::Timestamp;
use social_core::{
    Account, Attachment, Draft,
    descriptor::{Pkce, RefreshStyle},
    draft::{MediaRef, StoredMedia},
    id::MediaId,
    media::{MediaFacts, MediaKind},
    store::JobStore as _,
    text::{self, TextUnit},
    validate::{Severity, Violation},
};

use crate::world::{Harness, START, World};

/// Every fact of the descriptor makes sense, and it can be read by clients.
pub async fn the_descriptor_is_well_formed<H: Harness>() {
    let net = H::boot(START.parse().expect("a literal instant")).await;
    let platform = net.platform();
    let facts = platform.descriptor();
    assert!(!facts.name.is_empty() && !facts.api_version.is_empty());
    assert!(facts.docs.starts_with("https://"), "where is the documentation?");
    assert!(
        format!("{}T00:00:00Z", facts.checked_on).parse::<Timestamp>().is_ok(),
        "checked_on is a date, not {:?}",
        facts.checked_on
    );
    assert!(facts.text.max > 0 && facts.text.max_thread_parts >= 1);
    assert_eq!(facts.abilities.thread, facts.text.max_thread_parts > 1, "thread ability and rule must agree");
    assert_eq!(
        facts.abilities.first_comment,
        facts.text.first_comment_max.is_some(),
        "first comment ability and rule must agree"
    );
    assert_eq!(facts.abilities.post_analytics || facts.abilities.account_analytics, platform.analytics().is_some());
    assert!(!facts.oauth.presets.is_empty(), "at least one scope preset");
    for preset in &facts.oauth.presets {
        assert!(!preset.name.is_empty() && !preset.purpose.is_empty() && !preset.scopes.is_empty(), "{preset:?}");
    }
    for url in [Some(&facts.oauth.authorize_url), Some(&facts.oauth.token_url), facts.oauth.revoke_url.as_ref()]
        .into_iter()
        .flatten()
    {
        assert!(url.parse::<url::Url>().is_ok(), "{url}");
    }
    if facts.tokens.refresh == RefreshStyle::Rotating {
        assert!(facts.oauth.pkce == Pkce::S256, "networks that rotate refresh tokens check PKCE");
    }
    for rule in &facts.media.kinds {
        assert!(rule.max_count >= 1 && !rule.mime.is_empty(), "{rule:?}");
        assert!(rule.min_bytes.unwrap_or(0) <= rule.max_bytes.unwrap_or(u64::MAX), "{rule:?}");
        assert!(rule.min_duration_ms.unwrap_or(0) <= rule.max_duration_ms.unwrap_or(u64::MAX), "{rule:?}");
    }
    assert!(facts.flow.max_in_flight >= 1);
    assert!((1..=30).contains(&facts.flow.commit_deadline_s), "the lease is 60 s and must hold two calls");
    let json = serde_json::to_value(facts).expect("a descriptor can be served");
    assert_eq!(json["id"], facts.id.as_str());
}

fn errors<H: Harness>(world: &World<H>, account: &Account, draft: &Draft) -> Vec<Violation> {
    let mut found = world.net.platform().publish().validate(draft, &account.profile);
    found.retain(|violation| violation.severity == Severity::Error);
    found
}

/// A text of the greatest length is accepted here and by the network; one more is refused here, with limit and actual.
pub async fn text_limits_hold_on_both_sides<H: Harness>() {
    let world = World::<H>::start().await;
    let platform = world.net.platform();
    let account = world.accounts[0].clone();
    let limit = platform.publish().text_use(&Draft::text("a"), &account.profile);
    for unit in ["a", "é", "故", "😀", "👨‍👩‍👧‍👦"] {
        let weight = text::count(limit.unit, unit).max(1);
        let fits = unit.repeat(limit.limit / weight);
        let found = errors(&world, &account, &Draft::text(fits.clone()));
        assert!(found.is_empty(), "{} x {unit} is within the limit: {found:?}", limit.limit / weight);
        let found = errors(&world, &account, &Draft::text(format!("{fits}{unit}")));
        let violation = found.first().unwrap_or_else(|| panic!("one {unit} too many must be refused"));
        assert_eq!(violation.code, "text_too_long");
        assert_eq!(violation.limit, Some(limit.limit as u64));
        assert!(violation.actual > violation.limit && violation.unit.is_some() && !violation.advice.is_empty());
    }
    // The network agrees about the longest text.
    let longest = crate::world::Shape::one(
        "the longest text",
        Draft::text("é".repeat(limit.limit / text::count(limit.unit, "é").max(1))),
    );
    let delivery = world.publish(&longest).await;
    crate::world::assert_published_once(&world, &longest, &delivery, "at the limit");
    assert!(world.net.visible()[0].text.chars().filter(|c| *c == 'é').count() >= 1, "the text arrived");
    assert_ne!(limit.unit, TextUnit::Bytes, "byte limits need their own test here");
}

/// As many files as allowed are accepted, one more is refused, and different kinds do not mix where the descriptor says so.
pub async fn media_counts_hold_on_both_sides<H: Harness>() {
    let world = World::<H>::start().await;
    let platform = world.net.platform();
    let rules = &platform.descriptor().media;
    let account = world.accounts[0].clone();
    let file = |kind: MediaKind, mime: &str| {
        let facts = MediaFacts {
            kind,
            mime: mime.to_owned(),
            size_bytes: 100_000,
            width: Some(640),
            height: Some(480),
            duration_ms: matches!(kind, MediaKind::Video).then_some(5_000),
            frames: matches!(kind, MediaKind::Gif).then_some(2),
            video_codec: None,
            audio_codec: None,
            frame_rate_milli: None,
            sha256: None,
        };
        let title = matches!(kind, MediaKind::Document).then(|| "A title".to_owned());
        Attachment { media: MediaRef::Stored(StoredMedia { id: MediaId::new(), facts }), alt_text: None, title }
    };
    for rule in &rules.kinds {
        let draft = |count: usize| {
            (0..count).fold(Draft::text("files"), |draft, _| draft.attach(file(rule.kind, &rule.mime[0])))
        };
        let found = errors(&world, &account, &draft(rule.max_count));
        assert!(found.is_empty(), "{} x {:?}: {found:?}", rule.max_count, rule.kind);
        let found = errors(&world, &account, &draft(rule.max_count + 1));
        assert!(
            found.iter().any(|v| v.code == "media_too_many" && v.limit == Some(rule.max_count as u64)),
            "{:?}: {found:?}",
            rule.kind
        );
        if let Some(max_bytes) = rule.max_bytes {
            let mut large = draft(1);
            if let MediaRef::Stored(stored) = &mut large.media[0].media {
                stored.facts.size_bytes = max_bytes + 1;
            }
            let found = errors(&world, &account, &large);
            assert!(found.iter().any(|v| v.code == "media_too_large" && v.actual == Some(max_bytes + 1)), "{found:?}");
        }
    }
    if let [first, second, ..] = &rules.kinds[..]
        && !rules.mixing
    {
        let mixed =
            Draft::text("mixed").attach(file(first.kind, &first.mime[0])).attach(file(second.kind, &second.mime[0]));
        let found = errors(&world, &account, &mixed);
        assert!(found.iter().any(|violation| violation.code == "media_mixed"), "{found:?}");
    }
    assert!(world.memory.depth().await.expect("memory does not fail").is_empty(), "validating schedules nothing");
}
