//! The page on which a persona lets an app act for it, and its automatic form.

use crate::answer::{self, Answer, Input, Pairs};
use crate::oauth::{Challenge, Grant, Platform, ScopeSet, redirect_to};
use crate::pages;
use crate::world::World;
use std::sync::Arc;

/// A valid request for consent.
pub(crate) struct Ask {
    pub(crate) platform: Platform,
    pub(crate) app: usize,
    pub(crate) scopes: ScopeSet,
    pub(crate) redirect_uri: String,
    pub(crate) state: Option<String>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) code_life_s: i64,
}

/// Shows the page, or acts on a decision: `auto=approve|deny` with an optional `persona=` in the query, or the page's form.
pub(crate) fn decide(world: &Arc<World>, input: &Input, ask: &Ask) -> Answer {
    let query = input.query();
    let posted = input.parts.method == http::Method::POST;
    let form = if posted { input.form() } else { Pairs::default() };
    let decision = if posted { form.get("decision") } else { query.get("auto") };
    let personas = world.personas(ask.platform);
    let Some(decision) = decision else {
        return answer::html(200, pages::consent(ask, &personas, query.get("persona")));
    };
    let status = if posted { 303 } else { 302 };
    let state = ask.state.as_deref().map(|state| ("state", state));
    let name = form.get("persona").or_else(|| query.get("persona"));
    match decision {
        "approve" => {
            let persona = match name {
                None => 0,
                Some(name) => match world.persona_index(ask.platform, name) {
                    Some(persona) => persona,
                    None => return answer::html(400, pages::message("Unknown persona", "Choose one that exists.")),
                },
            };
            let grant = Grant { platform: ask.platform, app: ask.app, persona, scopes: ask.scopes };
            let now = world.now();
            let code = world.tokens.new_code(grant, &ask.redirect_uri, ask.challenge.clone(), now, ask.code_life_s);
            let parameters: Vec<_> = state.into_iter().chain([("code", &*code)]).collect();
            answer::redirect(status, &redirect_to(&ask.redirect_uri, &parameters))
        }
        "deny" => {
            let refusal: &[(&str, &str)] = match ask.platform {
                Platform::X => &[("error", "access_denied")],
                Platform::LinkedIn => &[
                    ("error", "user_cancelled_authorize"),
                    ("error_description", "The user cancelled the authorization"),
                ],
            };
            let parameters: Vec<_> = refusal.iter().copied().chain(state).collect();
            answer::redirect(status, &redirect_to(&ask.redirect_uri, &parameters))
        }
        _ => answer::html(400, pages::message("Unknown decision", "It is approve or deny.")),
    }
}
