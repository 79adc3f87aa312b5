//! The control interface: over HTTP under `/_sandbox/`, and as a typed handle within the process.

use crate::answer::{self, Answer, Input, Pairs};
use crate::faults::{ArmedFault, FaultSpec};
use crate::ledger::LedgerEntry;
use crate::oauth::{Grant, IssuedSecret, Platform, ScopeSet};
use crate::requests::{RequestCount, RequestEntry};
use crate::server::Peer;
use crate::settings::Settings;
use crate::world::{Persona, World};
use axum::body::Body;
use http::Request;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What the sandbox's side of things can be asked and told, without HTTP.
#[derive(Debug, Clone)]
pub struct Control {
    world: Arc<World>,
}

/// Tokens that were given out without a browser.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedTokens {
    /// Bearer token.
    pub access_token: String,
    /// Refresh token, if the app and the scopes have one.
    pub refresh_token: Option<String>,
    /// Seconds until the access token ends.
    pub expires_in: i64,
    /// Whose it is, as in the ledger.
    pub account: String,
}

impl fmt::Debug for GrantedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantedTokens").field("account", &self.account).finish_non_exhaustive()
    }
}

/// Which tokens to give out; see [`Control::grant`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// `x`, `linkedin`.
    pub platform: String,
    /// A persona's name.
    pub persona: String,
    /// Scopes, space-separated; absent = all that the app may have.
    #[serde(default)]
    pub scope: Option<String>,
    /// App; absent = `sandbox-{platform}-client`.
    #[serde(default)]
    pub client_id: Option<String>,
}

impl GrantRequest {
    /// All scopes of the network's first app for `persona`.
    #[must_use]
    pub fn new(platform: &str, persona: &str) -> Self {
        Self { platform: platform.to_owned(), persona: persona.to_owned(), scope: None, client_id: None }
    }
}

impl Control {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    /// Every visible object, oldest first.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.world.ledger.entries(0, usize::MAX, |_| true).0
    }

    /// Objects from index `from` on.
    #[must_use]
    pub fn ledger_from(&self, from: usize) -> Vec<LedgerEntry> {
        self.world.ledger.entries(from, usize::MAX, |_| true).0
    }

    /// Arms a fault.
    ///
    /// # Errors
    /// A sentence if platform or operation are not known or a number makes no sense.
    pub fn add_fault(&self, spec: FaultSpec) -> Result<ArmedFault, String> {
        let platform = Platform::parse(&spec.platform);
        if platform.is_none() && spec.platform != "*" {
            return Err(format!("there is no platform {}", spec.platform));
        }
        let known = Platform::ALL
            .into_iter()
            .filter(|candidate| platform.is_none_or(|platform| platform == *candidate))
            .any(|candidate| spec.operation == "*" || operations(candidate).contains(&spec.operation.as_str()));
        if !known {
            return Err(format!("there is no operation {}; see GET /_sandbox/operations", spec.operation));
        }
        if spec.probability.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
            return Err("probability must be between 0 and 1".to_owned());
        }
        if let crate::Fault::Answer { status, .. } = spec.fault
            && !(200..=599).contains(&status)
        {
            return Err("status must be between 200 and 599".to_owned());
        }
        Ok(self.world.faults.arm(spec, self.world.seed))
    }

    /// Faults that were armed, with how often they were played.
    #[must_use]
    pub fn faults(&self) -> Vec<ArmedFault> {
        self.world.faults.list()
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.world.faults.disarm(None);
    }

    /// The switches as they are.
    #[must_use]
    pub fn settings(&self) -> Settings {
        (*self.world.settings()).clone()
    }

    /// Changes the switches.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings();
        change(&mut settings);
        self.world.set_settings(settings);
    }

    /// Requests that are still remembered, in the order in which they ended.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestEntry> {
        self.world.requests.entries(|_| true)
    }

    /// How often each operation was asked for.
    #[must_use]
    pub fn request_counts(&self) -> Vec<RequestCount> {
        self.world.requests.counts()
    }

    /// Every code and token that was ever given out, for leak scans.
    #[must_use]
    pub fn issued_secrets(&self) -> Vec<IssuedSecret> {
        self.world.tokens.secrets(|grant| self.world.persona_name(grant))
    }

    /// How often an already rotated refresh token was presented (each time its family died).
    #[must_use]
    pub fn refresh_reuses(&self) -> u64 {
        self.world.tokens.reuses()
    }

    /// The sandbox's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        crate::clock::timestamp(self.world.now())
    }

    /// Moves the sandbox's time forward: tokens expire, processing ends, windows reopen.
    pub fn advance(&self, by: Duration) {
        self.world.time.advance(by);
    }

    /// Everything as at the start: no objects, tokens, faults; settings, personas and time as they were.
    pub fn reset(&self) {
        self.world.reset();
    }

    /// Who can log in at a network.
    #[must_use]
    pub fn personas(&self, platform: Platform) -> Vec<Persona> {
        self.world.personas(platform)
    }

    /// Another persona, without pages or organizations.
    ///
    /// # Errors
    /// A sentence if the name is taken or not 1 to 15 letters, digits or underscores.
    pub fn add_persona(&self, platform: Platform, name: &str) -> Result<Persona, String> {
        self.world.add_persona(platform, name, &Pairs::default())
    }

    /// Tokens as after a consent, without a browser.
    ///
    /// # Errors
    /// A sentence if platform, persona, app or scope do not exist.
    pub fn grant(&self, request: &GrantRequest) -> Result<GrantedTokens, String> {
        let world = &self.world;
        let platform =
            Platform::parse(&request.platform).ok_or_else(|| format!("there is no platform {}", request.platform))?;
        let persona = world
            .persona_index(platform, &request.persona)
            .ok_or_else(|| format!("there is no persona {}", request.persona))?;
        let app = match &request.client_id {
            None => 0,
            Some(id) => platform
                .apps()
                .iter()
                .position(|app| app.client_id == id)
                .ok_or_else(|| format!("there is no app {id}"))?,
        };
        let own = &platform.apps()[app];
        let all = if own.scopes.is_empty() { platform.scopes() } else { own.scopes }.join(" ");
        let scopes = ScopeSet::parse(platform, request.scope.as_deref().unwrap_or(&all))
            .map_err(|scope| format!("there is no scope {scope}"))?;
        let grant = Grant { platform, app, persona, scopes };
        let now = world.now();
        let issued = match platform {
            Platform::X => crate::x::issue(world, grant, now),
            Platform::LinkedIn => crate::linkedin::issue(world, grant, now),
        };
        let account = match platform {
            Platform::X => crate::lock(&world.x).account_of(persona),
            Platform::LinkedIn => crate::lock(&world.linkedin).urn_of(app, persona),
        };
        Ok(GrantedTokens {
            access_token: issued.access,
            refresh_token: issued.refresh,
            expires_in: issued.expires_in,
            account,
        })
    }

    /// What a person does on the network's settings page: ends everything that this persona has granted. Returns how many access tokens ended.
    pub fn revoke_persona(&self, platform: Platform, persona: &str) -> usize {
        let Some(index) = self.world.persona_index(platform, persona) else { return 0 };
        self.world.tokens.revoke_where(|grant| grant.platform == platform && grant.persona == index)
    }
}

pub(crate) fn operations(platform: Platform) -> &'static [&'static str] {
    match platform {
        Platform::X => crate::x::OPERATIONS,
        Platform::LinkedIn => crate::linkedin::OPERATIONS,
    }
}

fn entries(list: &impl Serialize) -> Answer {
    answer::json(200, &json!({ "entries": list }))
}

fn refuse(status: u16, why: impl fmt::Display) -> Answer {
    answer::json(status, &json!({ "error": why.to_string() }))
}

/// Bodies of faults may be large on purpose.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

pub(crate) async fn serve(world: &Arc<World>, request: Request<Body>) -> Answer {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else { return refuse(413, "the body is too large") };
    let bound = world.bound.get().cloned();
    let input = Input { parts: Arc::new(parts), body: body.to_bytes(), bound };
    let control = Control::new(Arc::clone(world));
    let path = input.parts.uri.path().to_owned();
    let pieces: Vec<&str> = path.split('/').skip(2).filter(|piece| !piece.is_empty()).collect();
    match (input.parts.method.as_str(), pieces.as_slice()) {
        ("GET", ["ledger"]) => ledger(world, &input.query()),
        ("GET", ["live.js"]) => crate::pages::live_script(),
        ("GET", ["revision"]) => answer::json(200, &json!({ "revision": world.ledger.revision() })),
        ("GET", ["faults"]) => entries(&control.faults()),
        ("POST", ["faults"]) => add_faults(&control, &input),
        ("DELETE", ["faults"]) => answer::json(200, &json!({ "removed": world.faults.disarm(None) })),
        ("DELETE", ["faults", id]) => match id.parse().map(|id| world.faults.disarm(Some(id))) {
            Ok(1) => answer::json(200, &json!({ "removed": 1 })),
            _ => refuse(404, "there is no such fault"),
        },
        ("GET", ["settings"]) => answer::json(200, &*world.settings()),
        ("POST" | "PATCH", ["settings"]) => change_settings(world, &input),
        ("POST", ["reset"]) => {
            control.reset();
            answer::json(200, &json!({ "reset": true }))
        }
        ("GET", ["requests"]) => requests(world, &input.query()),
        ("GET", ["clock"]) => answer::json(200, &json!({ "now": control.now() })),
        ("POST", ["clock"]) => advance(&control, &input),
        ("GET", ["operations"]) => list_operations(),
        ("GET", ["apps"]) => list_apps(),
        ("GET", ["personas"]) => {
            entries(&Platform::ALL.iter().flat_map(|platform| control.personas(*platform)).collect::<Vec<_>>())
        }
        ("POST", ["personas"]) => add_persona(world, &input),
        ("POST", ["grants"]) => grant(&control, &input),
        ("POST", ["revoke"]) => revoke(&control, &input),
        ("GET", ["tokens"]) => {
            answer::json(200, &json!({ "issued": world.tokens.issued(), "refresh_reuses": control.refresh_reuses() }))
        }
        ("GET", ["secrets"]) => secrets(&control, &input),
        ("GET", ["media", id]) => media(world, &input, id),
        _ => refuse(404, "there is no such control; see the README of social-sandbox"),
    }
}

fn ledger(world: &World, query: &Pairs) -> Answer {
    let number = |name: &str, default: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let fits = |name: &str, value: &str| query.get(name).is_none_or(|wanted| wanted == value);
    let (list, total) = world.ledger.entries(number("from", 0), number("limit", usize::MAX), |entry| {
        fits("platform", &entry.platform)
            && (fits("account", &entry.account) || fits("account", &entry.handle))
            && fits("kind", &entry.kind)
            && fits("id", &entry.id)
    });
    answer::json(200, &json!({ "entries": list, "total": total }))
}

fn requests(world: &World, query: &Pairs) -> Answer {
    let fits = |name: &str, value: &str| query.get(name).is_none_or(|wanted| wanted == value);
    let list = world.requests.entries(|entry| fits("platform", &entry.platform) && fits("operation", &entry.operation));
    answer::json(200, &json!({ "entries": list, "counts": world.requests.counts() }))
}

fn add_faults(control: &Control, input: &Input) -> Answer {
    let specs = match serde_json::from_slice::<Value>(&input.body) {
        Ok(Value::Array(list)) => list,
        Ok(value) => vec![value],
        Err(error) => return refuse(400, error),
    };
    let mut armed = Vec::new();
    for spec in specs {
        match serde_json::from_value::<FaultSpec>(spec).map_err(|error| error.to_string()) {
            Ok(spec) => match control.add_fault(spec) {
                Ok(fault) => armed.push(fault),
                Err(why) => return refuse(400, why),
            },
            Err(why) => return refuse(400, why),
        }
    }
    answer::json(201, &json!({ "entries": armed }))
}

fn change_settings(world: &World, input: &Input) -> Answer {
    let changed = serde_json::from_slice(&input.body)
        .map_err(|error| error.to_string())
        .and_then(|patch| world.settings().patched(&patch));
    match changed {
        Ok(settings) => {
            world.set_settings(settings.clone());
            answer::json(200, &settings)
        }
        Err(why) => refuse(400, why),
    }
}

fn advance(control: &Control, input: &Input) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Advance {
        advance_ms: u64,
    }
    match serde_json::from_slice::<Advance>(&input.body) {
        Ok(body) => {
            control.advance(Duration::from_millis(body.advance_ms));
            answer::json(200, &json!({ "now": control.now() }))
        }
        Err(error) => refuse(400, error),
    }
}

fn list_operations() -> Answer {
    let list: Vec<Value> = Platform::ALL
        .into_iter()
        .flat_map(|platform| {
            operations(platform).iter().map(move |name| json!({ "platform": platform, "operation": name }))
        })
        .collect();
    entries(&list)
}

fn list_apps() -> Answer {
    let list: Vec<Value> = Platform::ALL
        .into_iter()
        .flat_map(|platform| {
            platform.apps().iter().map(move |app| {
                json!({
                    "platform": platform,
                    "client_id": app.client_id,
                    "client_secret": app.secret,
                    "name": app.name,
                    "refresh_tokens": platform == Platform::X || app.partner,
                    "scopes": if app.scopes.is_empty() { platform.scopes() } else { app.scopes }
                })
            })
        })
        .collect();
    entries(&list)
}

fn add_persona(world: &World, input: &Input) -> Answer {
    let body: Value = match serde_json::from_slice(&input.body) {
        Ok(body) => body,
        Err(error) => return refuse(400, error),
    };
    let Some(platform) = body["platform"].as_str().and_then(Platform::parse) else {
        return refuse(400, "platform must be x or linkedin");
    };
    let name = body["name"].as_str().unwrap_or_default();
    let encoded = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(["display_name", "subscription_type"].iter().filter_map(|key| Some((key, body[*key].as_str()?))))
        .finish();
    match world.add_persona(platform, name, &Pairs::parse(encoded.as_bytes())) {
        Ok(persona) => answer::json(201, &persona),
        Err(why) => refuse(400, why),
    }
}

fn grant(control: &Control, input: &Input) -> Answer {
    let granted = serde_json::from_slice::<GrantRequest>(&input.body)
        .map_err(|error| error.to_string())
        .and_then(|request| control.grant(&request));
    match granted {
        Ok(tokens) => answer::json(201, &tokens),
        Err(why) => refuse(400, why),
    }
}

fn revoke(control: &Control, input: &Input) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Revoke {
        platform: String,
        persona: String,
    }
    let body: Revoke = match serde_json::from_slice(&input.body) {
        Ok(body) => body,
        Err(error) => return refuse(400, error),
    };
    match Platform::parse(&body.platform) {
        Some(platform) => answer::json(200, &json!({ "revoked": control.revoke_persona(platform, &body.persona) })),
        None => refuse(400, "there is no such platform"),
    }
}

fn secrets(control: &Control, input: &Input) -> Answer {
    let local = input.parts.extensions.get::<Peer>().is_none_or(|peer| peer.0.ip().is_loopback());
    if local { entries(&control.issued_secrets()) } else { refuse(403, "secrets are shown to this machine only") }
}

fn media(world: &World, input: &Input, id: &str) -> Answer {
    let Some(kept) = id.parse().ok().and_then(|id| world.media.kept(id)) else {
        return refuse(404, "these bytes are not kept");
    };
    // Uploaded bytes are shown as what they are or not at all: never as a page of this origin.
    let shown = kept.mime != crate::media::UNKNOWN;
    let kind = if shown { kept.mime } else { "application/octet-stream" };
    let total = kept.bytes.len();
    let range = input.header("range").and_then(|range| range.strip_prefix("bytes=")).and_then(|range| {
        let (from, to) = range.split_once('-')?;
        let from = from.parse::<usize>().ok()?;
        let to = to.parse::<usize>().unwrap_or(total.saturating_sub(1)).min(total.saturating_sub(1));
        (from <= to).then_some((from, to))
    });
    let reply = match range {
        Some((from, to)) => {
            let reply = answer::bytes(206, kind, kept.bytes.slice(from..=to));
            answer::with_header(reply, "content-range", &format!("bytes {from}-{to}/{total}"))
        }
        None => answer::bytes(200, kind, kept.bytes),
    };
    let reply = answer::with_header(reply, "accept-ranges", "bytes");
    let reply = answer::with_header(reply, "x-sandbox-complete", if kept.whole { "true" } else { "false" });
    let reply =
        answer::with_header(reply, "content-security-policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'");
    answer::with_header(reply, "x-content-type-options", "nosniff")
}
