//! What is known about Chirp, as data. Each number stands here once, with the day on which a person compared it with the documentation.

use std::time::Duration;

use social_core::{
    PlatformDescriptor, PlatformId,
    descriptor::{
        Abilities, ClientAuth, LinkRules, MediaRule, MediaRules, MediaTransport, OAuthFacts, Pkce, PublishFlow,
        RefreshStyle, ScopePreset, TextRules, TokenFacts,
    },
    media::MediaKind,
    rate::{RateRule, RateScope, WindowKind},
    text::TextUnit,
};
use url::Url;

pub(crate) const ID: PlatformId = PlatformId::from_static("chirp");

pub(crate) fn descriptor(api: &Url) -> PlatformDescriptor {
    let api = api.as_str().trim_end_matches('/');
    PlatformDescriptor {
        id: ID,
        name: "Chirp".to_owned(),
        api_version: "1".to_owned(),
        checked_on: "2026-11-22".to_owned(),
        docs: "https://developers.chirp.example/posting".to_owned(),
        oauth: OAuthFacts {
            authorize_url: format!("{api}/oauth/authorize"),
            token_url: format!("{api}/oauth/token"),
            revoke_url: Some(format!("{api}/oauth/revoke")),
            pkce: Pkce::S256,
            client_auth: ClientAuth::Basic,
            scope_separator: ' ',
            presets: vec![ScopePreset {
                name: "publish".to_owned(),
                purpose: "Publish and delete chirps, and read their numbers.".to_owned(),
                scopes: ["chirps.read", "chirps.write", "offline"].map(str::to_owned).to_vec(),
            }],
        },
        tokens: TokenFacts { access_life_s: Some(3600), refresh_life_s: None, refresh: RefreshStyle::Static },
        text: TextRules {
            max: 300,
            unit: TextUnit::Graphemes,
            required_without_media: true,
            max_thread_parts: 1,
            first_comment_max: None,
        },
        media: MediaRules {
            kinds: vec![MediaRule {
                max_bytes: Some(2_000_000),
                ..MediaRule::new(MediaKind::Image, 4, &["image/jpeg", "image/png"])
            }],
            mixing: false,
            transport: MediaTransport::Upload,
            alt_text_max: Some(500),
        },
        link: LinkRules::InText,
        flow: PublishFlow {
            settles: false,
            reconciles: true,
            container_life_s: Some(3600),
            native_scheduling: false,
            commit_deadline_s: 20,
            max_in_flight: 64,
            // Chirp shows new posts in its lists after up to ten seconds: asked earlier, "not there" would prove nothing.
            reconcile_after_s: 30,
        },
        limits: vec![RateRule {
            name: "publish".to_owned(),
            per: RateScope::Account,
            operations: vec!["publish".to_owned()],
            amount: 50,
            window: Duration::from_secs(900),
            kind: WindowKind::Fixed,
        }],
        abilities: Abilities {
            delete: true,
            post_analytics: true,
            account_analytics: true,
            poll: false,
            thread: false,
            first_comment: false,
        },
    }
}
