//! Reading what token endpoints answer.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    account::TokenSet,
    error::{Error, ErrorKind, ProviderError},
    http::Reply,
    secret::{AccessToken, RefreshToken},
    time::{later, signed},
};

/// Longer lives are not believed.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Reads tokens from a successful answer, in the standard form or one level down in `data`, as some networks write it.
///
/// Lives may be numbers or text; a life of zero counts as unstated. Scopes may be separated by blanks or commas, or be a list; without
/// any the set is empty. Empty tokens count as absent.
///
/// # Errors
/// `Unexpected` with effect unknown if there is no access token. The error holds nothing of the body.
pub fn read_tokens(reply: &Reply) -> Result<TokenSet, Error> {
    let body: Value = serde_json::from_slice(reply.body()).unwrap_or_default();
    let fields = [&body, &body["data"], &body["data"][0]]
        .into_iter()
        .filter_map(Value::as_object)
        .find(|o| o.contains_key("access_token"));
    let tokens = fields.and_then(|fields| from_fields(fields, reply.received_at()));
    tokens.ok_or_else(|| {
        Error::new(ErrorKind::Unexpected, reply.operation().clone())
            .message("the answer holds no access token")
            .provider(ProviderError { status: Some(reply.status()), ..ProviderError::default() })
    })
}

/// Splits granted scopes as networks write them: text with blanks or commas, or a list.
#[must_use]
pub fn read_scopes(value: &Value) -> Vec<String> {
    let split =
        |text: &str| text.split([' ', ',']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let mut scopes = match value {
        Value::String(text) => split(text),
        Value::Array(list) => list.iter().filter_map(Value::as_str).flat_map(split).collect(),
        _ => Vec::new(),
    };
    let mut seen = std::collections::HashSet::new();
    scopes.retain(|scope| seen.insert(scope.clone()));
    scopes
}

fn from_fields(fields: &Map<String, Value>, now: Timestamp) -> Option<TokenSet> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let end = |names: &[&str]| {
        let life = names.iter().find_map(|name| seconds(fields.get(*name)?))?;
        Some(later(now, signed(life)))
    };
    Some(TokenSet {
        access: text("access_token").and_then(AccessToken::parse)?,
        refresh: text("refresh_token").and_then(RefreshToken::parse),
        expires_at: end(&["expires_in"]),
        refresh_expires_at: end(&["refresh_token_expires_in", "refresh_expires_in"]),
        scopes: ["scope", "permissions"].iter().find_map(|name| fields.get(*name)).map(read_scopes).unwrap_or_default(),
        extras: BTreeMap::new(),
    })
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let believable = seconds >= 1.0;
    believable.then(|| Duration::try_from_secs_f64(seconds.floor()).map_or(LONGEST_LIFE, |life| life.min(LONGEST_LIFE)))
}

/// The tokens after a refresh: what the answer leaves out stays as it was.
pub(super) fn renewed(current: &TokenSet, new: TokenSet) -> TokenSet {
    let same_refresh = match (&current.refresh, &new.refresh) {
        (Some(old), Some(new)) => old.same(new.expose()),
        _ => true,
    };
    // An end that was stated for a token that is replaced says nothing about the new one.
    let refresh_expires_at = new.refresh_expires_at.or(if same_refresh { current.refresh_expires_at } else { None });
    let mut extras = current.extras.clone();
    extras.extend(new.extras);
    TokenSet {
        access: new.access,
        refresh: new.refresh.or_else(|| current.refresh.clone()),
        expires_at: new.expires_at,
        refresh_expires_at,
        scopes: if new.scopes.is_empty() { current.scopes.clone() } else { new.scopes },
        extras,
    }
}
