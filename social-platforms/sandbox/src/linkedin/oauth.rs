//! OAuth of LinkedIn: client authentication in the body, no PKCE, refresh for partners only, a new scope set ends older tokens.

use crate::answer::{self, Answer, Input, Pairs};
use crate::clock::SECOND;
use crate::consent::{self, Ask};
use crate::lock;
use crate::oauth::{Grant, Issued, Platform, ScopeSet, is_registered_redirect, redirect_to};
use crate::pages;
use crate::world::World;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::Arc;

const CODE_LIFE_S: i64 = 30 * 60;
const TOKEN_LIFE_S: i64 = 60 * 86_400;
const REFRESH_LIFE_S: i64 = 365 * 86_400;

pub(super) fn authorize(world: &Arc<World>, input: &Input) -> Answer {
    let query = input.query();
    let wrong = |text: &str| answer::html(401, pages::message("LinkedIn cannot continue", text));
    let apps = Platform::LinkedIn.apps();
    let Some(app) = query.get("client_id").and_then(|id| apps.iter().position(|app| app.client_id == id)) else {
        return wrong("Client_id doesn't match");
    };
    let redirect_uri = query.get("redirect_uri").unwrap_or_default();
    if !is_registered_redirect(redirect_uri) {
        return wrong("Redirect_uri doesn't match. The sandbox registers loopback addresses only.");
    }
    if query.get("response_type") != Some("code") {
        return wrong("The parameter response_type must be code.");
    }
    let state = query.get("state");
    let asked = query.get("scope").unwrap_or_default();
    let refused =
        asked.split([' ', ',']).filter(|scope| !scope.is_empty()).find(|scope| !apps[app].scopes.contains(scope));
    let scopes = ScopeSet::parse(Platform::LinkedIn, asked).ok().filter(|scopes| !scopes.is_empty());
    let Some(scopes) = scopes.filter(|_| refused.is_none()) else {
        let description = format!("Scope \"{}\" is not authorized for your application", refused.unwrap_or_default());
        let error = [("error", "unauthorized_scope_error"), ("error_description", description.as_str())];
        let parameters: Vec<_> = error.into_iter().chain(state.map(|state| ("state", state))).collect();
        return answer::redirect(302, &redirect_to(redirect_uri, &parameters));
    };
    let ask = Ask {
        platform: Platform::LinkedIn,
        app,
        scopes,
        redirect_uri: redirect_uri.to_owned(),
        state: state.map(str::to_owned),
        challenge: None,
        code_life_s: CODE_LIFE_S,
    };
    consent::decide(world, input, &ask)
}

fn refusal(status: u16, error: &str, description: &str) -> Answer {
    answer::json(status, &json!({ "error": error, "error_description": description }))
}

fn missing(parameter: &str) -> Answer {
    refusal(400, "invalid_request", &format!("A required parameter \"{parameter}\" is missing"))
}

/// The app that calls, from `client_id` and `client_secret` in the body.
fn client(form: &Pairs) -> Result<usize, Answer> {
    let id = form.get("client_id").ok_or_else(|| missing("client_id"))?;
    let secret = form.get("client_secret").ok_or_else(|| missing("client_secret"))?;
    let apps = Platform::LinkedIn.apps();
    let app = apps
        .iter()
        .position(|app| app.client_id == id)
        .ok_or_else(|| refusal(400, "invalid_client_id", "The passed in client_id is invalid"))?;
    if apps[app].secret == Some(secret) {
        Ok(app)
    } else {
        Err(refusal(401, "invalid_client", "Client authentication failed"))
    }
}

pub(super) fn token(world: &Arc<World>, input: &Input) -> Answer {
    let form = input.form();
    let granted = match form.get("grant_type") {
        Some("authorization_code") => exchange(world, &form),
        Some("refresh_token") => refresh(world, &form),
        Some(_) => Err(refusal(400, "unsupported_grant_type", "The passed in grant_type is invalid")),
        None => Err(missing("grant_type")),
    };
    match granted {
        Ok(answer) | Err(answer) => answer,
    }
}

fn without_query(uri: &str) -> &str {
    uri.split('?').next().unwrap_or(uri)
}

fn exchange(world: &Arc<World>, form: &Pairs) -> Result<Answer, Answer> {
    let code = form.get("code").filter(|code| !code.is_empty()).ok_or_else(|| missing("code"))?;
    let redirect_uri = form.get("redirect_uri").ok_or_else(|| missing("redirect_uri"))?;
    let app = client(form)?;
    let now = world.now();
    let code = world.tokens.take_code(code).filter(|code| code.grant.platform == Platform::LinkedIn && !code.used);
    let Some(code) = code else {
        return Err(refusal(401, "invalid_request", "Unable to retrieve access token: authorization code not found"));
    };
    let fits = code.grant.app == app
        && now < code.expires_at
        && without_query(&code.redirect_uri) == without_query(redirect_uri);
    if !fits {
        return Err(refusal(
            400,
            "invalid_redirect_uri",
            "Unable to retrieve access token: appid/redirect uri/code verifier does not match authorization code. \
             Or authorization code expired. Or external member binding exists",
        ));
    }
    Ok(give(world, code.grant, now))
}

/// Tokens after a new consent. A scope set that differs from the member's last one for this app ends what came before.
pub(super) fn issue(world: &World, grant: Grant, now: i64) -> Issued {
    let before = lock(&world.linkedin).consents.insert((grant.app, grant.persona), grant.scopes);
    if before.is_some_and(|scopes| scopes != grant.scopes) {
        world.tokens.revoke_where(|other| {
            other.platform == Platform::LinkedIn && other.app == grant.app && other.persona == grant.persona
        });
    }
    let refresh_until = grant.app().partner.then_some(now + REFRESH_LIFE_S * SECOND);
    world.tokens.issue(grant, &world.tokens.new_family(now), now, life(world), refresh_until)
}

fn life(world: &World) -> i64 {
    world.settings().access_token_ttl_s.and_then(|ttl| i64::try_from(ttl).ok()).unwrap_or(TOKEN_LIFE_S)
}

fn give(world: &World, grant: Grant, now: i64) -> Answer {
    let issued = issue(world, grant, now);
    let mut body = answer_body(&issued, grant);
    if let Some(refresh) = &issued.refresh {
        body["refresh_token"] = json!(refresh);
        body["refresh_token_expires_in"] = json!(REFRESH_LIFE_S);
    }
    if grant.has("openid") {
        body["id_token"] = json!(id_token(world, grant, now));
    }
    answer::with_header(answer::json(200, &body), "cache-control", "no-store")
}

fn answer_body(issued: &Issued, grant: Grant) -> Value {
    json!({
        "access_token": issued.access,
        "expires_in": issued.expires_in,
        "scope": grant.scopes.names(Platform::LinkedIn).join(","),
        "token_type": "Bearer"
    })
}

/// A signed identity token. The signature is an HMAC with the client secret, because the sandbox publishes no keys.
fn id_token(world: &World, grant: Grant, now: i64) -> String {
    let (subject, name) = {
        let state = lock(&world.linkedin);
        (state.subject(grant.app, grant.persona), state.members[grant.persona].display_name.clone())
    };
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encode(&json!({ "alg": "HS256", "typ": "JWT" }));
    let claims = encode(&json!({
        "iss": "https://www.linkedin.com/oauth",
        "aud": grant.app().client_id,
        "sub": subject,
        "name": name,
        "iat": now / SECOND,
        "exp": now / SECOND + 3_600
    }));
    let key = hmac::Key::new(hmac::HMAC_SHA256, grant.app().secret.unwrap_or_default().as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, format!("{header}.{claims}").as_bytes()));
    let token = format!("{header}.{claims}.{signature}");
    world.tokens.note_secret("id_token", &token, grant, now);
    token
}

/// A new access token; the refresh token and its end stay what they were.
fn refresh(world: &Arc<World>, form: &Pairs) -> Result<Answer, Answer> {
    let token = form.get("refresh_token").filter(|token| !token.is_empty()).ok_or_else(|| missing("refresh_token"))?;
    let app = client(form)?;
    let now = world.now();
    let known = world.tokens.refresh(token).filter(|known| {
        known.grant.platform == Platform::LinkedIn
            && known.grant.app == app
            && now < known.expires_at
            && known.family.alive.load(std::sync::atomic::Ordering::SeqCst)
    });
    let Some(known) = known else {
        return Err(refusal(
            400,
            "invalid_request",
            "The provided authorization grant or refresh token is invalid, expired or revoked.",
        ));
    };
    let left = (known.expires_at - now) / SECOND;
    // Near the end of the grant, the access token ends with it.
    let issued = world.tokens.issue(known.grant, &known.family, now, life(world).min(left), None);
    let mut body = answer_body(&issued, known.grant);
    body["refresh_token"] = json!(token);
    body["refresh_token_expires_in"] = json!(left);
    Ok(answer::with_header(answer::json(200, &body), "cache-control", "no-store"))
}

pub(super) fn introspect(world: &Arc<World>, input: &Input) -> Answer {
    let form = input.form();
    let app = match client(&form) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let Some(token) = form.get("token") else { return missing("token") };
    let now = world.now();
    let Some(access) = world
        .tokens
        .access(token)
        .filter(|access| access.grant.platform == Platform::LinkedIn && access.grant.app == app)
    else {
        return answer::json(200, &json!({ "active": false }));
    };
    let status = if access.is_revoked() {
        "revoked"
    } else if now >= access.expires_at {
        "expired"
    } else {
        "active"
    };
    answer::json(
        200,
        &json!({
            "active": status == "active",
            "status": status,
            "client_id": access.grant.app().client_id,
            "authorized_at": access.family.authorized_at / SECOND,
            "created_at": access.issued_at / SECOND,
            "expires_at": access.expires_at / SECOND,
            "scope": access.grant.scopes.names(Platform::LinkedIn).join(","),
            "auth_type": "3L"
        }),
    )
}

pub(super) fn revoke(world: &Arc<World>, input: &Input) -> Answer {
    let form = input.form();
    let app = match client(&form) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let Some(token) = form.get("token") else { return missing("token") };
    let owner = world.tokens.access(token).map(|token| token.grant);
    let owner = owner.or_else(|| world.tokens.refresh(token).map(|token| token.grant));
    if owner.is_some_and(|grant| grant.platform == Platform::LinkedIn && grant.app == app) {
        world.tokens.revoke(token);
    }
    answer::empty(200)
}
