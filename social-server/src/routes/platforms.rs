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
    /// Everything else: `api_version`, `checked_on`, `docs`, `oauth`, `tokens`, `text`, `media`, `link`, `flow`, `limits`, `abilities`.
    #[serde(flatten)]
    #[schema(value_type = Object, additional_properties = true)]
    facts: Value,
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
