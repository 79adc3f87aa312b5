//! The error table of token endpoints.

use std::time::Duration;

use serde_json::Value;

use crate::{
    error::{Actor, Error, ErrorKind, Retry},
    http::Reply,
};

/// What a token endpoint says when it refuses (RFC 6749 section 5.2). Both fields are untrusted text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OAuthFault {
    /// The code, such as `invalid_grant`.
    pub error: Option<String>,
    /// The network's sentence.
    pub error_description: Option<String>,
}

impl OAuthFault {
    /// Reads a body; anything that is not such a fault becomes the default.
    #[must_use]
    pub fn read(reply: &Reply) -> Self {
        let body: Value = serde_json::from_slice(reply.body()).unwrap_or_default();
        let text =
            |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        Self { error: text("error"), error_description: text("error_description") }
    }
}

/// A network's own rows of the error table for its token endpoint; `None` leaves the answer to the general rows.
pub type FaultTable = fn(&Reply, &OAuthFault) -> Option<Error>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Exchange,
    Refresh,
    Revoke,
}

/// What an answer that brought no tokens means.
///
/// A grant is called dead only when the network says so in known words; everything else keeps it. A 4xx proves that nothing was renewed.
pub(super) fn classify(call: Call, reply: &Reply, faults: FaultTable) -> Error {
    let fault = OAuthFault::read(reply);
    if let Some(error) = faults(reply, &fault) {
        return error;
    }
    let code = fault.error.as_deref().unwrap_or_default();
    let sentence = fault.error_description.as_deref().unwrap_or_default().to_ascii_lowercase();
    let error = |kind| Error::new(kind, reply.operation().clone());
    let error = match (code, reply.status()) {
        (
            "invalid_client"
            | "invalid_client_id"
            | "unauthorized_client"
            | "deleted_client"
            | "unsupported_grant_type"
            | "invalid_scope"
            | "redirect_uri_mismatch",
            _,
        ) => error(ErrorKind::Config)
            .message("the network does not accept the credentials or settings of this application"),
        (
            "invalid_grant" | "invalid_redirect_uri" | "interaction_required" | "consent_required" | "login_required",
            _,
        ) => dead(call, reply),
        ("invalid_token" | "token_expired", _) if call == Call::Revoke => dead(call, reply),
        ("invalid_request", _) if names_a_dead_grant(&sentence) => dead(call, reply),
        ("invalid_request", _) => error(ErrorKind::Config).message("the network does not understand the token request"),
        ("slow_down", _) | (_, 429) => {
            error(ErrorKind::RateLimited).retry_after(reply.retry_after().unwrap_or(Duration::from_secs(60)))
        }
        ("temporarily_unavailable" | "server_error", _) | (_, 500..=599) => match reply.retry_after() {
            Some(wait) => error(ErrorKind::Unavailable).retry_after(wait),
            None => error(ErrorKind::Unavailable),
        },
        (_, 408) => error(ErrorKind::Timeout),
        // Without a code: a firewall in front of the network, not the network.
        ("", 403) => error(ErrorKind::Unavailable).message("something in front of the token endpoint refused the call"),
        (_, 401 | 403 | 404 | 405) => error(ErrorKind::Config).message("the token endpoint refused this application"),
        (_, 400..=499) if call == Call::Exchange => dead(call, reply),
        _ => error(ErrorKind::Unexpected).message("the token endpoint gave an answer that nobody foresaw"),
    };
    let settled = match reply.status() {
        408 => false,
        400..=499 => true,
        // Refusals that come with status 200.
        200..=299 => !matches!(error.kind(), ErrorKind::Unexpected | ErrorKind::Unavailable),
        _ => false,
    };
    let error = if settled { error.effect_none() } else { error };
    // The beginning of a success may hold tokens in a form that no filter knows.
    let mut provider = reply.provider(fault.error.clone());
    if reply.is_success() {
        provider.excerpt = None;
    }
    error.provider(provider)
}

fn dead(call: Call, reply: &Reply) -> Error {
    let operation = reply.operation().clone();
    match call {
        Call::Exchange => Error::new(ErrorKind::Rejected, operation)
            .message("the network does not accept the code")
            .advice("This attempt to connect took too long or was used already. Please start connecting again.")
            .retry(Retry::Never)
            .actor(Actor::User),
        Call::Refresh | Call::Revoke => {
            Error::new(ErrorKind::Reconnect, operation).message("the network ended this grant")
        }
    }
}

/// Networks that put everything under `invalid_request` say in the sentence whether it is the grant.
fn names_a_dead_grant(sentence: &str) -> bool {
    const SUBJECTS: [&str; 5] = ["token", "authorization code", "authorization grant", "code verifier", "grant"];
    const VERDICTS: [&str; 6] = ["invalid", "expired", "revoked", "not found", "already", "does not match"];
    let has = |words: &[&str]| words.iter().any(|word| sentence.contains(word));
    has(&SUBJECTS) && has(&VERDICTS) && !sentence.contains("missing") && !sentence.contains("parameter")
}
