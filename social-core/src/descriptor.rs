//! Facts about a network as data. Validation, the composer, the documentation tables and the conformance suite all read this one value.

use std::time::Duration;

use serde::Serialize;

use crate::{id::PlatformId, media::MediaKind, rate::RateRule, text::TextUnit};

/// Everything that is known about a network, with the date on which a person last compared it with the network's documentation.
/// An operator may override single numbers before the adapter is built.
#[derive(Debug, Clone, Serialize)]
pub struct PlatformDescriptor {
    /// Its id.
    pub id: PlatformId,
    /// Its name as people write it.
    pub name: String,
    /// The version of its interface that the adapter speaks.
    pub api_version: String,
    /// `YYYY-MM-DD` of the last comparison with the documentation.
    pub checked_on: String,
    /// Where that documentation is.
    pub docs: String,
    /// How accounts are connected.
    pub oauth: OAuthFacts,
    /// How long tokens live.
    pub tokens: TokenFacts,
    /// What a post may say.
    pub text: TextRules,
    /// What it may carry.
    pub media: MediaRules,
    /// What a link is: part of the text, or a card of its own.
    pub link: LinkRules,
    /// How publishing proceeds.
    pub flow: PublishFlow,
    /// How many calls are allowed.
    pub limits: Vec<RateRule>,
    /// What else it can do.
    pub abilities: Abilities,
}

/// How accounts are connected.
#[derive(Debug, Clone, Serialize)]
pub struct OAuthFacts {
    /// Where the person is sent.
    pub authorize_url: String,
    /// Where codes and refresh tokens are exchanged.
    pub token_url: String,
    /// Where tokens are revoked, if the network has such a place.
    pub revoke_url: Option<String>,
    /// Whether a code challenge is sent.
    pub pkce: Pkce,
    /// How the client proves who it is.
    pub client_auth: ClientAuth,
    /// What stands between two scopes in an authorization request.
    pub scope_separator: char,
    /// Sets of scopes that belong together. The first is the default.
    pub presets: Vec<ScopePreset>,
}

impl OAuthFacts {
    /// The preset of that name; the default one for `None`.
    #[must_use]
    pub fn preset(&self, name: Option<&str>) -> Option<&ScopePreset> {
        match name {
            Some(name) => self.presets.iter().find(|preset| preset.name == name),
            None => self.presets.first(),
        }
    }

    /// Makes a preset the default one. `false` if there is none of that name; nothing has changed then.
    #[must_use]
    pub fn make_default(&mut self, name: &str) -> bool {
        let Some(at) = self.presets.iter().position(|preset| preset.name == name) else { return false };
        self.presets[..=at].rotate_right(1);
        true
    }
}

/// Whether a network checks a code challenge (RFC 7636).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pkce {
    /// It does not; the state alone protects.
    None,
    /// It does, with SHA-256.
    S256,
}

/// How a client authenticates at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// HTTP Basic.
    Basic,
    /// Id and secret in the form.
    Body,
}

/// Scopes that are asked for together.
#[derive(Debug, Clone, Serialize)]
pub struct ScopePreset {
    /// Its name in configuration and requests.
    pub name: String,
    /// What it is for, in a sentence.
    pub purpose: String,
    /// The scopes.
    pub scopes: Vec<String>,
}

/// How long tokens live and how they are renewed.
#[derive(Debug, Clone, Serialize)]
pub struct TokenFacts {
    /// Usual life of an access token in seconds.
    pub access_life_s: Option<u64>,
    /// Usual life of a refresh token in seconds.
    pub refresh_life_s: Option<u64>,
    /// How access tokens are renewed.
    pub refresh: RefreshStyle,
}

/// How access tokens are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefreshStyle {
    /// Not at all: the person connects again.
    None,
    /// With a refresh token that stays the same.
    Static,
    /// With a refresh token that can be used once; a second use may end the grant.
    Rotating,
    /// By exchanging the access token itself.
    Exchange,
}

/// What a post may say.
#[derive(Debug, Clone, Serialize)]
pub struct TextRules {
    /// The longest text.
    pub max: usize,
    /// In which unit it is counted.
    pub unit: TextUnit,
    /// Whether a post without media needs text.
    pub required_without_media: bool,
    /// The most parts of a thread, the first included; 1 where there are no threads.
    pub max_thread_parts: usize,
    /// The longest first comment, in scalars or in `unit` as the network counts; `None` where there is none.
    pub first_comment_max: Option<usize>,
}

/// What a post may carry.
#[derive(Debug, Clone, Serialize)]
pub struct MediaRules {
    /// One rule per kind that the network takes.
    pub kinds: Vec<MediaRule>,
    /// Whether different kinds may stand in one post.
    pub mixing: bool,
    /// How files get there.
    pub transport: MediaTransport,
    /// Longest description of a picture, in scalars; `None` where there is none.
    pub alt_text_max: Option<usize>,
}

impl MediaRules {
    /// The rule for a kind, if the network takes it.
    #[must_use]
    pub fn rule(&self, kind: MediaKind) -> Option<&MediaRule> {
        self.kinds.iter().find(|rule| rule.kind == kind)
    }
}

/// How files get to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaTransport {
    /// We send them.
    Upload,
    /// The network fetches them from a public address.
    PublicUrl,
}

/// The limits for one kind of media. `None` means that no limit is known.
#[derive(Debug, Clone, Serialize)]
pub struct MediaRule {
    /// Which kind.
    pub kind: MediaKind,
    /// How many in one post.
    pub max_count: usize,
    /// Accepted types.
    pub mime: Vec<String>,
    /// Smallest size in bytes.
    pub min_bytes: Option<u64>,
    /// Largest size in bytes.
    pub max_bytes: Option<u64>,
    /// Smallest width and height in pixels.
    pub min_side: Option<u32>,
    /// Largest width in pixels.
    pub max_width: Option<u32>,
    /// Largest height in pixels.
    pub max_height: Option<u32>,
    /// Most pixels of one picture.
    pub max_pixels: Option<u64>,
    /// Most frames of an animation.
    pub max_frames: Option<u32>,
    /// Shortest duration in milliseconds.
    pub min_duration_ms: Option<u64>,
    /// Longest duration in milliseconds.
    pub max_duration_ms: Option<u64>,
    /// Narrowest width / height, in thousandths.
    pub min_aspect_milli: Option<u32>,
    /// Widest width / height, in thousandths.
    pub max_aspect_milli: Option<u32>,
}

impl MediaRule {
    /// A rule that limits only the count and the types; the rest is set by field.
    #[must_use]
    pub fn new(kind: MediaKind, max_count: usize, mime: &[&str]) -> Self {
        Self {
            kind,
            max_count,
            mime: mime.iter().map(|&mime| mime.to_owned()).collect(),
            min_bytes: None,
            max_bytes: None,
            min_side: None,
            max_width: None,
            max_height: None,
            max_pixels: None,
            max_frames: None,
            min_duration_ms: None,
            max_duration_ms: None,
            min_aspect_milli: None,
            max_aspect_milli: None,
        }
    }
}

/// What a link is on this network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkRules {
    /// It is written into the text and counts there.
    InText,
    /// It is a card with a title and a picture of its own, and excludes other media.
    Card {
        /// Longest title in scalars.
        title_max: usize,
        /// Longest description in scalars.
        description_max: usize,
    },
}

/// How publishing proceeds.
#[derive(Debug, Clone, Serialize)]
pub struct PublishFlow {
    /// Whether a post may need time after the visible call.
    pub settles: bool,
    /// Whether the network can be asked about a lost commit.
    pub reconciles: bool,
    /// How long prepared things live, in seconds.
    pub container_life_s: Option<u64>,
    /// Whether the network can hold a post back until its time by itself.
    pub native_scheduling: bool,
    /// The longest that the visible call may take, in seconds.
    pub commit_deadline_s: u64,
    /// How many deliveries one worker has in flight at the most. It holds up to half as many again that wait for a place.
    pub max_in_flight: usize,
    /// How long to wait after an ambiguous commit before asking, in seconds.
    pub reconcile_after_s: u64,
}

impl PublishFlow {
    /// The deadline of the visible call.
    #[must_use]
    pub const fn commit_deadline(&self) -> Duration {
        Duration::from_secs(self.commit_deadline_s)
    }

    /// The time between an ambiguous commit and the first question about it.
    #[must_use]
    pub const fn reconcile_after(&self) -> Duration {
        Duration::from_secs(self.reconcile_after_s)
    }
}

/// What else a network can do through its adapter.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Abilities {
    /// Delete a published post.
    pub delete: bool,
    /// Numbers of a post.
    pub post_analytics: bool,
    /// Numbers of an account.
    pub account_analytics: bool,
    /// Polls.
    pub poll: bool,
    /// Threads.
    pub thread: bool,
    /// A first comment under the post.
    pub first_comment: bool,
}
