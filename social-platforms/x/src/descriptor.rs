//! Facts about X as data.

use std::time::Duration;

use social_core::{
    PlatformDescriptor, PlatformId,
    descriptor::{
        Abilities, ClientAuth, LinkRules, MediaRule, MediaRules, MediaTransport, OAuthFacts, Pkce, PublishFlow,
        RefreshStyle, ScopePreset, TextRules, TokenFacts,
    },
    media::MediaKind,
    rate::{RateRule, RateScope, WindowKind},
    text::{MAX_WEIGHT, TextUnit},
};

use crate::operation;

pub(crate) const ID: PlatformId = PlatformId::from_static("x");

/// The longest text of an account with a Premium subscription.
const PREMIUM_TEXT: usize = 25_000;
/// The longest edge of a video, and that of an account with a Premium subscription.
const VIDEO_EDGE: u32 = 1280;
const PREMIUM_VIDEO_EDGE: u32 = 1920;
const VIDEO_BYTES: u64 = 512 * MIB;
/// What the upload endpoint takes at the very most.
const PREMIUM_VIDEO_BYTES: u64 = 17_179_869_184;
const VIDEO_MS: u64 = 140_000;

/// What a still picture may weigh, and what is sent in one request.
pub(crate) const IMAGE_BYTES: u64 = 5 * MIB;
pub(crate) const MIB: u64 = 1024 * 1024;

/// The operations by which the engine asks for room: one visible call, and the uploads before it.
pub(crate) const PUBLISH_LIMIT: &str = "publish";
const MEDIA_LIMIT: &str = "media";

pub(crate) const WRITE_SCOPE: &str = "tweet.write";
pub(crate) const MEDIA_SCOPE: &str = "media.write";

/// The descriptor with the network's own addresses.
pub(crate) fn descriptor() -> PlatformDescriptor {
    PlatformDescriptor {
        id: ID,
        name: "X".to_owned(),
        api_version: "2".to_owned(),
        checked_on: "2026-11-22".to_owned(),
        docs: "https://docs.x.com/x-api/posts/manage-tweets/introduction".to_owned(),
        oauth: OAuthFacts {
            authorize_url: "https://x.com/i/oauth2/authorize".to_owned(),
            token_url: "https://api.x.com/2/oauth2/token".to_owned(),
            revoke_url: Some("https://api.x.com/2/oauth2/revoke".to_owned()),
            pkce: Pkce::S256,
            client_auth: ClientAuth::Basic,
            scope_separator: ' ',
            presets: vec![ScopePreset {
                name: "publish".to_owned(),
                purpose: "Publish and delete posts with media, and read their numbers.".to_owned(),
                scopes: ["tweet.read", WRITE_SCOPE, "users.read", MEDIA_SCOPE, "offline.access"]
                    .map(str::to_owned)
                    .to_vec(),
            }],
        },
        // The life of a refresh token is not documented.
        tokens: TokenFacts { access_life_s: Some(7200), refresh_life_s: None, refresh: RefreshStyle::Rotating },
        text: TextRules {
            max: MAX_WEIGHT,
            unit: TextUnit::Weighted,
            required_without_media: true,
            // A bound of our own, the one of the network's composer: its interface names none.
            max_thread_parts: 25,
            first_comment_max: Some(MAX_WEIGHT),
        },
        media: MediaRules {
            kinds: media_kinds(),
            mixing: false,
            transport: MediaTransport::Upload,
            alt_text_max: Some(1000),
        },
        link: LinkRules::InText,
        flow: PublishFlow {
            settles: false,
            reconciles: true,
            container_life_s: Some(86_400),
            native_scheduling: false,
            commit_deadline_s: 30,
            max_in_flight: 256,
            reconcile_after_s: 30,
        },
        limits: limits(),
        abilities: Abilities {
            delete: true,
            post_analytics: true,
            account_analytics: true,
            poll: true,
            thread: true,
            first_comment: true,
        },
    }
}

/// The same for an account with a Premium subscription. A number that the operator changed holds for every account.
pub(crate) fn for_premium(mut facts: PlatformDescriptor) -> PlatformDescriptor {
    fn raise<T: PartialEq>(number: &mut T, usual: T, premium: T) {
        if *number == usual {
            *number = premium;
        }
    }
    raise(&mut facts.text.max, MAX_WEIGHT, PREMIUM_TEXT);
    raise(&mut facts.text.first_comment_max, Some(MAX_WEIGHT), Some(PREMIUM_TEXT));
    for rule in facts.media.kinds.iter_mut().filter(|rule| rule.kind == MediaKind::Video) {
        raise(&mut rule.max_bytes, Some(VIDEO_BYTES), Some(PREMIUM_VIDEO_BYTES));
        raise(&mut rule.max_duration_ms, Some(VIDEO_MS), None);
        raise(&mut rule.max_width, Some(VIDEO_EDGE), Some(PREMIUM_VIDEO_EDGE));
        raise(&mut rule.max_height, Some(VIDEO_EDGE), Some(PREMIUM_VIDEO_EDGE));
    }
    facts
}

fn media_kinds() -> Vec<MediaRule> {
    let image = MediaRule::new(MediaKind::Image, 4, &["image/jpeg", "image/png", "image/webp"]);
    let gif = MediaRule::new(MediaKind::Gif, 1, &["image/gif"]);
    let video = MediaRule::new(MediaKind::Video, 1, &["video/mp4", "video/quicktime", "video/webm", "video/mp2t"]);
    vec![
        MediaRule { max_bytes: Some(IMAGE_BYTES), ..image },
        MediaRule {
            max_bytes: Some(15 * MIB),
            max_width: Some(1280),
            max_height: Some(1080),
            max_frames: Some(350),
            ..gif
        },
        MediaRule {
            max_bytes: Some(VIDEO_BYTES),
            min_side: Some(32),
            max_width: Some(VIDEO_EDGE),
            max_height: Some(VIDEO_EDGE),
            min_duration_ms: Some(500),
            max_duration_ms: Some(VIDEO_MS),
            min_aspect_milli: Some(333),
            max_aspect_milli: Some(3000),
            ..video
        },
    ]
}

/// The documented limits. Those of an account hold across all developer apps, those of an app across all accounts.
fn limits() -> Vec<RateRule> {
    const QUARTER: Duration = Duration::from_secs(900);
    const DAY: Duration = Duration::from_secs(86_400);
    let rule = |name: &str, per, operations: &[&str], amount, window| RateRule {
        name: name.to_owned(),
        per,
        operations: operations.iter().map(|&operation| operation.to_owned()).collect(),
        amount,
        window,
        kind: WindowKind::Fixed,
    };
    let account = |name, operations, amount| rule(name, RateScope::Account, operations, amount, QUARTER);
    let app = |name, operations, amount| rule(name, RateScope::App, operations, amount, QUARTER);
    let app_day = |name, operations, amount| rule(name, RateScope::App, operations, amount, DAY);
    vec![
        account("publish", &[PUBLISH_LIMIT], 100),
        app_day("publish_day", &[PUBLISH_LIMIT], 10_000),
        account("delete", &[operation::DELETE], 50),
        account("profile", &[operation::ACCOUNTS, operation::ACCOUNT_NUMBERS], 75),
        account("timeline", &[operation::TIMELINE], 900),
        app("timeline_app", &[operation::TIMELINE], 10_000),
        account("read", &[operation::POST_NUMBERS], 5000),
        app("read_app", &[operation::POST_NUMBERS], 3500),
        account("media", &[MEDIA_LIMIT], 500),
        app_day("media_day", &[MEDIA_LIMIT], 50_000),
        account("media_open", &[operation::INITIALIZE], 1875),
        app_day("media_open_day", &[operation::INITIALIZE], 180_000),
        account("media_append", &[operation::APPEND], 1875),
        app_day("media_append_day", &[operation::APPEND], 180_000),
        account("media_close", &[operation::FINALIZE], 1875),
        app_day("media_close_day", &[operation::FINALIZE], 180_000),
        account("media_status", &[operation::STATUS], 1000),
        app_day("media_status_day", &[operation::STATUS], 100_000),
        account("media_alt_text", &[operation::DESCRIBE], 500),
        app_day("media_alt_text_day", &[operation::DESCRIBE], 50_000),
    ]
}
