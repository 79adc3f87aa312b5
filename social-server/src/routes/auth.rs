//! Connecting: a one-time link, the way to the network, and the way back.

use axum::{
    extract::{Path, RawQuery, State as Extract},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use social_core::{
    PlatformId, UserId, crypto,
    social::{CallbackQuery, FinishError},
    store::PendingRow,
    time::later,
    vault::{Binding, Sealed},
};
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use super::page;
use crate::{
    body::Json,
    caller::{Caller, Scope},
    problem::Problem,
    state::State,
    views::LinkView,
};

/// How long a link can be opened.
const LINK_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// A link to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectBody {
    /// Which network.
    #[schema(example = "x")]
    platform: String,
    /// Which set of permissions, such as `member` or `page`; see `GET /platforms`.
    #[serde(default)]
    preset: Option<String>,
    /// Where the browser goes afterwards: a path on this server, or an address that the operator allows.
    #[serde(default)]
    return_to: Option<String>,
}

/// What a link stands for, sealed.
#[derive(Serialize, Deserialize)]
struct Intent {
    preset: Option<String>,
    return_to: Option<String>,
}

/// Makes a link with which a person connects accounts of one network in a browser. Good for ten minutes and one use.
#[utoipa::path(post, path = "/auth/links", tag = "connect", request_body = ConnectBody, responses((status = 201, body = LinkView)),
    security(("key" = [])))]
pub(crate) async fn create_link(
    Extract(state): Extract<State>,
    caller: Caller,
    Json(body): Json<ConnectBody>,
) -> Result<(StatusCode, axum::Json<LinkView>), Problem> {
    let user = caller.may(Scope::AccountsWrite)?;
    let platform = PlatformId::parse(&body.platform).ok();
    let adapter = platform.as_ref().and_then(|id| state.social.platform(id).ok());
    let (Some(platform), Some(adapter)) = (platform, adapter) else {
        let known = state.social.platforms().map(|one| one.descriptor().id.to_string()).collect::<Vec<_>>().join(", ");
        let message = format!("this installation has no network of that name; it has: {known}");
        return Err(Problem::field("platform_unknown", "platform", message, "Choose another network."));
    };
    if adapter.descriptor().oauth.preset(body.preset.as_deref()).is_none() {
        let presets = adapter.descriptor().oauth.presets.iter().map(|preset| preset.name.as_str()).collect::<Vec<_>>();
        let advice = format!("Use one of: {}.", presets.join(", "));
        return Err(Problem::field("preset_unknown", "preset", "this network has no such preset", advice));
    }
    let settings = &state.settings;
    let return_to = match &body.return_to {
        Some(wanted) => Some(settings.return_urls.resolve(&settings.public_url, wanted).ok_or_else(|| {
            let advice = "Use a path on this server, or ask the operator to add the address to SOCIAL_RETURN_URLS.";
            Problem::field("return_to_refused", "return_to", "browsers are not sent to this address", advice)
        })?),
        None => None,
    };
    let intent = Intent { preset: body.preset, return_to: return_to.map(String::from) };
    let secret = crypto::random_token(32);
    let plain = serde_json::to_vec(&intent).map_err(|error| Problem::internal(error.to_string()))?;
    let sealed = state.pending.seal(&binding(user, &platform), &plain).await.map_err(social_core::Error::from)?;
    let expires_at = later(state.now(), LINK_LIFE);
    let row = PendingRow {
        key: link_hash(&secret),
        user,
        platform: platform.clone(),
        sealed: sealed.as_bytes().to_vec(),
        expires_at,
    };
    state.store().insert_pending(&row).await?;
    let mut url = address(&state, &format!("auth/connect/{platform}"))?;
    url.query_pairs_mut().append_pair("link", &secret);
    Ok((StatusCode::CREATED, axum::Json(LinkView { url: url.into(), expires_at })))
}

fn binding(user: UserId, platform: &PlatformId) -> Binding<'_> {
    Binding {
        table: "auth_links",
        column: "sealed",
        user: user.uuid(),
        connection: Uuid::nil(),
        platform: platform.as_str(),
        version: 0,
    }
}

/// Links and states live in one table; the prefix keeps one from being taken for the other.
fn link_hash(secret: &str) -> [u8; 32] {
    crypto::sha256(format!("link:{secret}").as_bytes())
}

fn address(state: &State, path: &str) -> Result<Url, Problem> {
    state.settings.public_url.join(path).map_err(|_| Problem::internal("the public address takes no path"))
}

/// Opens a link: sends the browser to the network and ties the answer to this browser.
#[utoipa::path(get, path = "/auth/connect/{platform}", tag = "connect",
    params(("platform" = String, Path, description = "Which network"), ("link" = String, Query, description = "The secret of a link")),
    responses((status = 303, description = "To the network."), (status = 410, description = "The link was used or has ended.")))]
pub(crate) async fn connect(
    Extract(state): Extract<State>,
    method: Method,
    headers: HeaderMap,
    Path(platform): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    match begin(&state, &method, &headers, &platform, query.as_deref().unwrap_or_default()).await {
        Ok(response) => response,
        Err(problem) => page::refusal(&headers, "This link does not work", problem),
    }
}

async fn begin(
    state: &State,
    method: &Method,
    headers: &HeaderMap,
    platform: &str,
    query: &str,
) -> Result<Response, Problem> {
    only_by_a_person(method, headers)?;
    let id = PlatformId::parse(platform).map_err(|_| Problem::not_found())?;
    state.social.platform(&id)?;
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let secret = pairs.find(|(name, _)| name == "link").map(|(_, value)| value.into_owned());
    let secret = secret.filter(|secret| !secret.is_empty()).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "link_missing", "the address has no link; POST /auth/links makes one")
            .advice("Please start connecting again from the application.")
    })?;
    let gone = || {
        Problem::new(StatusCode::GONE, "link_expired", "the link is unknown, used or too old")
            .advice("This link was used already or is too old. Please start connecting again.")
    };
    let row = state.store().take_pending(&link_hash(&secret), state.now()).await?.ok_or_else(gone)?;
    if row.platform != id {
        return Err(gone());
    }
    let sealed = Sealed::from_bytes(row.sealed).map_err(social_core::Error::from)?;
    let plain = state.pending.open(&binding(row.user, &id), &sealed).await.map_err(social_core::Error::from)?;
    let intent: Intent = serde_json::from_slice(&plain).map_err(|_| gone())?;
    let preset = intent.preset.or_else(|| state.settings.presets.get(&id).cloned());
    let callback = address(state, &format!("auth/callback/{id}"))?;
    let started = state
        .social
        .connect(&row.user, id.as_str())
        .callback(callback.as_str())
        .preset(preset.as_deref())
        .context(intent.return_to)
        .begin()
        .await?;
    let oauth_state = started.url.query_pairs().find(|(name, _)| name == "state").map(|(_, value)| value.into_owned());
    let name = cookie_name(state, oauth_state.as_deref());
    let cookie = set_cookie(state, &name, &started.cookie, started.life.as_secs());
    Ok(redirect(&started.url, Some(cookie)))
}

/// Programs that look at links before people do must not use them up.
fn only_by_a_person(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if *method != Method::GET {
        return Err(Problem::of_status(StatusCode::METHOD_NOT_ALLOWED).header(header::ALLOW, "GET"));
    }
    let purpose = ["sec-purpose", "purpose", "x-purpose", "x-moz"];
    let ahead = purpose.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
    if ahead.into_iter().any(|value| value.contains("prefetch") || value.contains("preview")) {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "prefetch",
            "this address works once and is not fetched ahead",
        ));
    }
    Ok(())
}

/// One cookie per attempt, so that two tabs do not undo each other.
fn cookie_name(state: &State, oauth_state: Option<&str>) -> String {
    let prefix = if state.settings.secure() { "__Host-" } else { "" };
    let attempt = oauth_state.map_or(String::new(), |value| {
        let hash = crypto::sha256(value.as_bytes());
        hash[..8].iter().fold("_".to_owned(), |name, byte| name + &format!("{byte:02x}"))
    });
    format!("{prefix}social_connect{attempt}")
}

fn set_cookie(state: &State, name: &str, value: &str, life_s: u64) -> String {
    let secure = if state.settings.secure() { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Lax{secure}")
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn redirect(to: &Url, cookie: Option<String>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().append(name, value);
        }
    };
    put(header::LOCATION, to.as_str());
    if let Some(cookie) = cookie {
        put(header::SET_COOKIE, &cookie);
    }
    response
}

/// Where a network sends the person back to: keeps the grant and its accounts, and sends the browser home.
#[utoipa::path(get, path = "/auth/callback/{platform}", tag = "connect",
    params(("platform" = String, Path, description = "Which network"),
        ("state" = Option<String>, Query, description = "Comes back from the network"),
        ("code" = Option<String>, Query, description = "From the network, if the person agreed"),
        ("error" = Option<String>, Query, description = "From the network, if not")),
    responses((status = 303, description = "To `return_to`, with `?connected=x` or `?error=code`."),
        (status = 200, description = "A small page, where there is no `return_to`.", content_type = "text/html", body = String),
        (status = 400, description = "The attempt is not valid: other browser, used, too old, other network.")))]
pub(crate) async fn callback(
    Extract(state): Extract<State>,
    method: Method,
    headers: HeaderMap,
    Path(platform): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    if let Err(problem) = only_by_a_person(&method, &headers) {
        return problem.into_response();
    }
    let query = CallbackQuery::parse(query.as_deref().unwrap_or_default());
    let names = [query.state.as_deref(), None].map(|attempt| cookie_name(&state, attempt));
    let (name, value) = names.iter().find_map(|name| Some((name, cookie(&headers, name)?))).unwrap_or((&names[0], ""));
    let finished = state.social.finish(&platform, &query, value).await;
    let forget = Some(set_cookie(&state, name, "", 0));
    let target = |context: Option<&str>, pair: (&str, &str)| {
        let settings = &state.settings;
        let mut url = context.and_then(|wanted| settings.return_urls.resolve(&settings.public_url, wanted))?;
        url.query_pairs_mut().append_pair(pair.0, pair.1);
        Some(url)
    };
    match finished {
        Ok(connected) => {
            if let Some(url) = target(connected.context.as_deref(), ("connected", &platform)) {
                return redirect(&url, forget);
            }
            let name = state.social.platform(&connected.connection.platform);
            let name = name.map_or(platform, |found| found.descriptor().name.clone());
            let accounts: Vec<String> = connected.accounts.iter().map(|a| a.profile.display_name.clone()).collect();
            let title = format!("{name} is connected");
            with_cookie(page::page(StatusCode::OK, &title, "You can close this window.", &accounts), forget)
        }
        Err(FinishError { error, code, context }) => {
            tracing::info!(
                platform.id = platform,
                code,
                kind = error.kind().as_str(),
                "a connection attempt ended without accounts"
            );
            if let Some(url) = target(context.as_deref(), ("error", code)) {
                return redirect(&url, forget);
            }
            let status = match code {
                "expired" => StatusCode::BAD_REQUEST,
                "access_denied" | "no_accounts" => StatusCode::FORBIDDEN,
                "storage" => StatusCode::SERVICE_UNAVAILABLE,
                "scope_not_allowed" => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::BAD_GATEWAY,
            };
            let detail = error.detail().unwrap_or("the accounts were not connected").to_owned();
            let problem = Problem::new(status, code, detail).advice(error.advice_text());
            with_cookie(page::refusal(&headers, "Nothing was connected", problem), forget)
        }
    }
}

fn with_cookie(mut response: Response, cookie: Option<String>) -> Response {
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
