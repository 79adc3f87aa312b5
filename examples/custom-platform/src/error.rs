//! The one place where Chirp's errors become ours. Each row has an answer in `tests/fixtures`.

use std::time::Duration;

use social_core::{Error, ErrorKind, http::Reply};

use crate::wire::Fault;

/// Chirp's windows are fifteen minutes long.
const WINDOW: Duration = Duration::from_secs(900);

/// What an answer other than 2xx means.
pub(crate) fn classify(reply: &Reply) -> Error {
    use ErrorKind as K;
    let fault: Fault = reply.json_or_default();
    let new = |kind| Error::new(kind, reply.operation().clone());
    let error = match (reply.status(), fault.code.as_deref()) {
        (401, _) => new(K::Reconnect)
            .message("the access token is not accepted")
            .advice("Chirp no longer accepts this connection. Please connect the account again."),
        (403, Some("suspended")) => new(K::Permission)
            .message("the account is suspended")
            .advice("Chirp has suspended this account. Please look at what Chirp says about it."),
        (403, _) => new(K::Permission).message("the connection may not do this"),
        (404, _) => new(K::NotFound).message("Chirp does not know it"),
        (409, Some("duplicate")) => new(K::Duplicate).message("Chirp has this already"),
        (413, _) => new(K::Rejected)
            .message("the picture is too large")
            .advice("Chirp finds a picture of this post too large. Please use a smaller one."),
        (422, _) => new(K::Rejected).message("Chirp refused the content"),
        (429, _) => new(K::RateLimited).message("too many calls").retry_after(reply.retry_after().unwrap_or(WINDOW)),
        (400..=499, _) => new(K::Rejected).message("Chirp refused the request"),
        (500..=599, _) => new(K::Unavailable).message("Chirp does not answer properly"),
        _ => new(K::Unexpected).message("an answer that nobody foresaw"),
    };
    let error = if proves_no_effect(reply.status(), &fault) { error.effect_none() } else { error };
    error.provider(reply.provider(fault.code))
}

/// Chirp documents that a 4xx with its own code was refused before anything was made. 401 and 429 are given before a request is looked at,
/// whoever gives them. A 4xx without a code may come from something on the way, and proves nothing.
fn proves_no_effect(status: u16, fault: &Fault) -> bool {
    matches!(status, 401 | 429) || ((400..=499).contains(&status) && fault.code.is_some() && fault.message.is_some())
}
