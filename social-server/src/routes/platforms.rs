//! The networks of this installation and what is known of them.

use axum::{Json, extract::State as Extract};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{problem::Problem, state::State, views::Page};

/// A network: its descriptor, with its limits for text and files, its scope presets and its abilities.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlatformView {
    /// Its id, such as `x`.
    id: String,
    /// Its name as people write it.
    name: String,
    /// The address to register as redirect URI with the network.
    callback_url: String,
    /// What the adapter knows of its network.
    #[serde(flatten)]
    #[schema(value_type = Facts)]
    facts: Value,
}

/// What a composer needs to know of a network. There is more in the answer: `tokens`, `flow`, `limits`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the main parts of the core's descriptor")]
struct Facts {
    /// The version of its interface that is spoken.
    api_version: String,
    /// The day on which a person last compared this with the network's documentation.
    checked_on: String,
    /// Where that documentation is.
    docs: String,
    oauth: OAuthFacts,
    text: TextFacts,
    media: MediaFacts,
    abilities: AbilityFacts,
    /// `in_text`, or `{"card": {"title_max", "description_max"}}`.
    link: Value,
}

/// How accounts are connected.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the main parts of the core's descriptor")]
struct OAuthFacts {
    /// Sets of permissions; the first is the default.
    presets: Vec<PresetFacts>,
}

/// Permissions that are asked for together.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the main parts of the core's descriptor")]
struct PresetFacts {
    /// For `preset` in `POST /auth/links`.
    name: String,
    /// What it is for.
    purpose: String,
    scopes: Vec<String>,
}

/// What a post may say.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the main parts of the core's descriptor")]
struct TextFacts {
    /// The longest text.
    max: u64,
    /// In which unit it is counted: `weighted`, `scalars`, `utf16`, `graphemes` or `bytes`.
    unit: String,
    /// Whether a post without files needs text.
    required_without_media: bool,
    /// The most parts of a thread, the first included; 1 where there are none.
    max_thread_parts: u64,
    /// The longest first comment; null where there is none.
    first_comment_max: Option<u64>,
}

/// What a post may carry.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the main parts of the core's descriptor")]
struct MediaFacts {
    kinds: Vec<KindFacts>,
    /// Whether different kinds may stand in one post.
    mixing: bool,
    /// `upload`, or `public_url` where the network fetches by itself.
    transport: String,
    /// The longest description of a picture; null where there is none.
    alt_text_max: Option<u64>,
}

/// The limits for one kind of file. Null where no limit is known.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the main parts of the core's descriptor")]
struct KindFacts {
    /// `image`, `gif`, `video` or `document`.
    kind: String,
    /// How many in one post.
    max_count: u64,
    mime: Vec<String>,
    min_bytes: Option<u64>,
    max_bytes: Option<u64>,
    min_side: Option<u32>,
    max_width: Option<u32>,
    max_height: Option<u32>,
    max_pixels: Option<u64>,
    max_frames: Option<u32>,
    min_duration_ms: Option<u64>,
    max_duration_ms: Option<u64>,
    /// Width / height, in thousandths.
    min_aspect_milli: Option<u32>,
    max_aspect_milli: Option<u32>,
}

/// What else the network can do.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the main parts of the core's descriptor")]
struct AbilityFacts {
    delete: bool,
    post_analytics: bool,
    account_analytics: bool,
    poll: bool,
    thread: bool,
    first_comment: bool,
}

/// Lists the networks with the facts that a composer needs. Needs no key.
#[utoipa::path(get, path = "/platforms", tag = "accounts", responses((status = 200, body = Page<PlatformView>)))]
pub(crate) async fn list(Extract(state): Extract<State>) -> Result<Json<Page<PlatformView>>, Problem> {
    let mut items = Vec::new();
    for platform in state.social.platforms() {
        let descriptor = platform.descriptor();
        let mut facts = serde_json::to_value(descriptor).map_err(|error| Problem::internal(error.to_string()))?;
        if let Value::Object(facts) = &mut facts {
            facts.retain(|name, _| name != "id" && name != "name");
        }
        let callback = state.settings.public_url.join(&format!("auth/callback/{}", descriptor.id));
        items.push(PlatformView {
            id: descriptor.id.to_string(),
            name: descriptor.name.clone(),
            callback_url: callback.map(String::from).unwrap_or_default(),
            facts,
        });
    }
    Ok(Json(Page::whole(items)))
}
