//! OAuth 2.0 of X: PKCE is mandatory, codes live 30 s, refresh tokens rotate and a reused one ends its family.

use crate::answer::{self, Answer, Input, Pairs};
use crate::consent::{self, Ask};
use crate::oauth::{App, Challenge, ChallengeMethod, Family, Grant, Issued, Platform, ScopeSet, basic_credentials};
use crate::oauth::{is_pkce_value, is_registered_redirect};
use crate::pages;
use crate::world::World;
use serde_json::json;
use std::sync::Arc;

const CODE_LIFE_S: i64 = 30;
const TOKEN_LIFE_S: i64 = 7_200;
/// Six months.
const REFRESH_LIFE: i64 = 183 * 86_400 * 1_000_000;

pub(super) fn authorize(world: &Arc<World>, input: &Input) -> Answer {
    match ask(&input.query()) {
        Ok(ask) => consent::decide(world, input, &ask),
        Err(why) => answer::html(
            400,
            pages::message("Something went wrong", &format!("You weren't able to give access to the App. {why}")),
        ),
    }
}

fn ask(query: &Pairs) -> Result<Ask, String> {
    let need = |name: &str| query.get(name).ok_or_else(|| format!("The parameter {name} is missing."));
    let client_id = need("client_id")?;
    let app =
        Platform::X.apps().iter().position(|app| app.client_id == client_id).ok_or("The client_id is unknown.")?;
    let redirect_uri = need("redirect_uri")?;
    if !is_registered_redirect(redirect_uri) {
        return Err("The redirect_uri is not registered; the sandbox registers loopback addresses only.".to_owned());
    }
    if need("response_type")? != "code" {
        return Err("The response_type must be code.".to_owned());
    }
    let state = need("state")?;
    if state.len() > 500 {
        return Err("The state is longer than 500 characters.".to_owned());
    }
    let value = need("code_challenge")?;
    let method = match need("code_challenge_method")? {
        "S256" if value.len() == 43 && is_pkce_value(value) => ChallengeMethod::S256,
        "plain" if is_pkce_value(value) => ChallengeMethod::Plain,
        "S256" | "plain" => return Err("The code_challenge is malformed.".to_owned()),
        _ => return Err("The code_challenge_method must be S256 or plain.".to_owned()),
    };
    let scopes =
        ScopeSet::parse(Platform::X, need("scope")?).map_err(|scope| format!("The scope {scope} is unknown."))?;
    if scopes.is_empty() {
        return Err("The scope is empty.".to_owned());
    }
    Ok(Ask {
        platform: Platform::X,
        app,
        scopes,
        redirect_uri: redirect_uri.to_owned(),
        state: Some(state.to_owned()),
        challenge: Some(Challenge { method, value: value.to_owned() }),
        code_life_s: CODE_LIFE_S,
    })
}

fn refusal(status: u16, error: &str, description: &str) -> Answer {
    answer::json(status, &json!({ "error": error, "error_description": description }))
}

fn invalid(description: &str) -> Answer {
    refusal(400, "invalid_request", description)
}

fn missing(parameter: &str) -> Answer {
    invalid(&format!("Missing required parameter [{parameter}]."))
}

/// The app that calls the token endpoint: Basic for a confidential one, `client_id` in the body for a public one.
fn client(input: &Input, form: &Pairs) -> Result<(usize, &'static App), Answer> {
    let unauthorized = || refusal(401, "unauthorized_client", "Missing valid authorization header");
    let apps = Platform::X.apps();
    let find = |id: &str| apps.iter().position(|app| app.client_id == id);
    if let Some(header) = input.header("authorization") {
        let (id, secret) = basic_credentials(header).ok_or_else(unauthorized)?;
        let index = find(&id).ok_or_else(unauthorized)?;
        if apps[index].secret != Some(secret.as_str()) {
            return Err(unauthorized());
        }
        if form.get("client_id").is_some_and(|in_body| in_body != id.as_str()) {
            return Err(invalid("Value passed for the client id was invalid."));
        }
        return Ok((index, &apps[index]));
    }
    let index = find(form.get("client_id").ok_or_else(|| missing("client_id"))?).ok_or_else(unauthorized)?;
    if apps[index].secret.is_some() { Err(unauthorized()) } else { Ok((index, &apps[index])) }
}

pub(super) fn token(world: &Arc<World>, input: &Input) -> Answer {
    if !input.is_form() {
        return invalid("Content-Type must be application/x-www-form-urlencoded");
    }
    let form = input.form();
    let (app, _) = match client(input, &form) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    match form.get("grant_type") {
        Some("authorization_code") => exchange(world, &form, app),
        Some("refresh_token") => refresh(world, &form, app),
        Some(_) => refusal(400, "unsupported_grant_type", "Value passed for the grant type was invalid."),
        None => missing("grant_type"),
    }
}

fn exchange(world: &Arc<World>, form: &Pairs, app: usize) -> Answer {
    let mut values = [""; 3];
    for (value, name) in values.iter_mut().zip(["code", "redirect_uri", "code_verifier"]) {
        match form.get(name) {
            Some(given) if !given.is_empty() => *value = given,
            _ => return missing(name),
        }
    }
    let [code, redirect_uri, verifier] = values;
    let bad = || invalid("Value passed for the authorization code was invalid.");
    let now = world.now();
    let Some(code) = world.tokens.take_code(code).filter(|code| code.grant.platform == Platform::X) else {
        return bad();
    };
    let fits = !code.used
        && now < code.expires_at
        && code.grant.app == app
        && code.redirect_uri == redirect_uri
        && is_pkce_value(verifier)
        && code.challenge.is_some_and(|challenge| challenge.accepts(verifier));
    if !fits {
        return bad();
    }
    let family = world.tokens.new_family(code.issued_at);
    give(world, now, code.grant, &family)
}

fn refresh(world: &Arc<World>, form: &Pairs, app: usize) -> Answer {
    let Some(token) = form.get("refresh_token").filter(|token| !token.is_empty()) else {
        return missing("refresh_token");
    };
    let now = world.now();
    match world.tokens.rotate(token, app, now) {
        Some(old) if old.grant.platform == Platform::X => give(world, now, old.grant, &old.family),
        _ => invalid("Value passed for the token was invalid."),
    }
}

/// Tokens for this grant, as the token endpoint gives them.
pub(super) fn issue(world: &World, now: i64, grant: Grant, family: &Arc<Family>) -> Issued {
    let life = world.settings().access_token_ttl_s.and_then(|ttl| i64::try_from(ttl).ok()).unwrap_or(TOKEN_LIFE_S);
    let refresh_until = grant.has("offline.access").then_some(now + REFRESH_LIFE);
    world.tokens.issue(grant, family, now, life, refresh_until)
}

fn give(world: &World, now: i64, grant: Grant, family: &Arc<Family>) -> Answer {
    let Issued { access, expires_in, refresh } = issue(world, now, grant, family);
    let mut body = json!({
        "token_type": "bearer",
        "expires_in": expires_in,
        "access_token": access,
        "scope": grant.scopes.names(Platform::X).join(" ")
    });
    if let Some(refresh) = refresh {
        body["refresh_token"] = json!(refresh);
    }
    answer::with_header(answer::json(200, &body), "cache-control", "no-store")
}

pub(super) fn revoke(world: &Arc<World>, input: &Input) -> Answer {
    let form = input.form();
    let (app, _) = match client(input, &form) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let Some(token) = form.get("token") else { return missing("token") };
    let owner = world.tokens.access(token).map(|token| token.grant);
    let owner = owner.or_else(|| world.tokens.refresh(token).map(|token| token.grant));
    match owner {
        Some(grant) if grant.platform != Platform::X || grant.app != app => {
            invalid("Value passed for the token was invalid.")
        }
        // RFC 7009: an unknown token is as good as revoked.
        _ => {
            world.tokens.revoke(token);
            answer::json(200, &json!({ "revoked": true }))
        }
    }
}
