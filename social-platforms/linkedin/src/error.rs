//! The one place where LinkedIn's answers become our errors; those of the token endpoint follow the general table of `social_core::oauth`.
//! Each row has an answer in `tests/fixtures/errors`.

use std::time::Duration;

use social_core::{Actor, CallContext, Error, ErrorKind, Retry, http::Reply, rate::RateScope};

use crate::wire::Fault;

/// How long to leave a network alone that does not speak our version any more: only an operator can mend it.
const VERSION_PAUSE: Duration = Duration::from_secs(3600);
/// LinkedIn gives no time with its refusals.
const THROTTLE_PAUSE: Duration = Duration::from_secs(60);
/// How long LinkedIn needs for media that it still works on.
const MEDIA_PAUSE: Duration = Duration::from_secs(90);
/// Daily limits end for everybody at once; callers come back within this time.
const MIDNIGHT_SPREAD: f64 = 600.0;

const POSTS: [&str; 3] = ["urn:li:share:", "urn:li:ugcPost:", "urn:li:activity:"];

/// What an answer that is no success means.
pub(crate) fn classify(cx: &CallContext, reply: &Reply) -> Error {
    table(reply, cx.chance().unit())
}

fn table(reply: &Reply, chance: f64) -> Error {
    use ErrorKind as K;
    let fault = Fault::of(reply);
    let new = |kind| Error::new(kind, reply.operation().clone());
    let error = match (reply.status(), fault.code()) {
        (401, "REVOKED_ACCESS_TOKEN") => withdrawn(new(K::Reconnect)),
        (401, _) if fault.service_code == Some(65601) => withdrawn(new(K::Reconnect)),
        (401, "EXPIRED_ACCESS_TOKEN") => expired(new(K::Reconnect)),
        (401, _) if fault.service_code == Some(65602) => expired(new(K::Reconnect)),
        (401, _) => new(K::Reconnect).message("the access token is not accepted"),

        (403, _) if fault.says("resource is forbidden") => new(K::Permission)
            .message("the media or post may not be used (yet)")
            .retry(Retry::Backoff),
        (403, _) => new(K::Permission).message("a scope or a product of the app is missing").advice(
            "LinkedIn does not let this connection do that. Connect the account again and allow everything that is asked; if that does \
             not help, whoever runs this installation has to add the product to the LinkedIn app.",
        ),
        // LinkedIn gives this one as 400 although it is about permissions.
        (400, _) if fault.says("organization permissions must be used") => new(K::Permission)
            .message("the connection may not act for the organization")
            .advice("This connection may not post for the page. Ask a page admin for the role of content admin, then connect LinkedIn again \
                     with page access."),

        (400, "VERSION_MISSING") => new(K::Config).message("the version header is missing"),
        (426, _) => new(K::Config)
            .message("LinkedIn has switched this version of its interface off")
            .retry_after(VERSION_PAUSE)
            .advice("The LinkedIn version of this installation is out of date. Please tell whoever runs it; posts wait until then."),

        (400, "MEDIA_ASSET_WAITING_UPLOAD") => media_pending(new(K::Unavailable)),
        (400, _) if fault.says("still processing") => media_pending(new(K::Unavailable)),
        (400, "MEDIA_ASSET_PROCESSING_FAILED" | "UPDATING_ASSET_FAILED" | "INVALID_VIDEO_ID") => {
            new(K::Rejected).message("LinkedIn cannot use the media").advice("LinkedIn cannot use a file of this post. Please use another one.")
        }
        (400, "EXPIRED_UPLOAD_URL") => new(K::Unavailable).message("the time for the upload is over"),
        (400, "FIELD_LENGTH_TOO_LONG") => {
            new(K::Rejected).message("a text is too long").advice("LinkedIn finds a text of this post too long. Please shorten it.")
        }
        (400, "INVALID_VALUE_BLANK_FIELD" | "MISSING_FIELD") => {
            new(K::Rejected).message("a text is missing").advice("LinkedIn misses a text in this post. Please write something.")
        }
        (400, _) => new(K::Rejected).message("LinkedIn refused the request"),

        (404 | 410, _) => new(K::NotFound).message("LinkedIn does not know it"),
        // Effect unknown on purpose: asking with the identical body is both the one repetition that LinkedIn wants and safe.
        (409, _) => new(K::Conflict).message("a write conflict"),
        (411, _) => new(K::Unexpected).message("LinkedIn misses the length of the request").retry(Retry::Never).actor(Actor::Operator),
        (413, _) => new(K::Rejected).message("the file is too large").advice("LinkedIn finds a file too large. Please use a smaller one."),
        (415, _) => {
            new(K::Rejected).message("the type of the file is not accepted").advice("LinkedIn does not take this type of file. Please use another.")
        }

        (422, _) if is_duplicate(&fault) => match named_post(&fault.message) {
            Some(urn) => new(K::Duplicate).message(format!("LinkedIn has this already as {urn}")),
            None => new(K::Rejected).message("LinkedIn has something like this already"),
        },
        (422, _) => new(K::Rejected).message("LinkedIn refused the content"),

        (429, _) if fault.says("APPLICATION DAY") => {
            daily(new(K::Quota), reply, chance, "the daily limit of the application is used up")
                .limit_scope(RateScope::App)
                .actor(Actor::Operator)
        }
        (429, _) if fault.says("DAY") => {
            daily(new(K::Quota), reply, chance, "the daily limit of the member is used up").limit_scope(RateScope::Account)
        }
        (429, _) => new(K::RateLimited).message("too many calls").retry_after(reply.retry_after().unwrap_or(THROTTLE_PAUSE)),

        (408, _) => new(K::Timeout),
        (500..=599, _) => new(K::Unavailable),
        _ => new(K::Unexpected),
    };
    let error = if proves_no_effect(reply.status(), &fault) { error.effect_none() } else { error };
    error.provider(reply.provider(fault.shown_code()))
}

/// Whether this refusal shows that nothing was made. Some statuses are given before a request is looked at, whoever gives them; of the
/// others only LinkedIn's own sentence counts, not that of something on the way.
fn proves_no_effect(status: u16, fault: &Fault) -> bool {
    match status {
        401 | 411 | 413 | 415 | 426 | 429 => true,
        408 | 409 => false,
        400..=499 => fault.is_recognised(),
        _ => false,
    }
}

fn withdrawn(error: Error) -> Error {
    error
        .message("the grant was withdrawn")
        .advice("LinkedIn says that this connection was withdrawn. Please connect the account again.")
}

fn expired(error: Error) -> Error {
    error
        .message("the access token has expired")
        .advice("The connection to LinkedIn has run out. Please connect the account again.")
}

fn media_pending(error: Error) -> Error {
    error
        .message("LinkedIn is still working on the media")
        .retry_after(MEDIA_PAUSE)
        .actor(Actor::Nobody)
        .advice("LinkedIn is still preparing a file of this post. It goes out by itself afterwards.")
}

fn daily(error: Error, reply: &Reply, chance: f64, message: &'static str) -> Error {
    const DAY: i64 = 24 * 3600;
    let into_day = reply.received_at().as_second().rem_euclid(DAY);
    let left = Duration::from_secs(u64::try_from(DAY - into_day).unwrap_or_default());
    let spread = Duration::from_secs_f64(MIDNIGHT_SPREAD * chance.clamp(0.0, 1.0));
    error
        .message(message)
        .retry_after(left + spread)
        .advice("LinkedIn allows no more today. The post goes out by itself after midnight UTC.")
}

fn is_duplicate(fault: &Fault) -> bool {
    fault.has_code(&["DUPLICATE_POST"]) || fault.says("duplicate")
}

/// The post that a refusal as duplicate names. Only a share, a post or an activity is one.
pub(crate) fn duplicate_of(reply: &Reply) -> Option<String> {
    let fault = Fault::of(reply);
    if reply.status() == 422 && is_duplicate(&fault) { named_post(&fault.message) } else { None }
}

fn named_post(message: &str) -> Option<String> {
    let (at, prefix) = POSTS.iter().filter_map(|prefix| Some((message.find(prefix)?, prefix))).min()?;
    let digits = message[at + prefix.len()..].bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| message[at..at + prefix.len() + digits].to_owned())
}

/// What a refusal says about uploaded media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaFault {
    /// Not usable yet.
    Pending,
    /// Not usable any more: another upload may help.
    Lost,
}

pub(crate) fn media_fault(reply: &Reply) -> Option<MediaFault> {
    let fault = Fault::of(reply);
    if reply.status() != 400 {
        None
    } else if fault.has_code(&["MEDIA_ASSET_WAITING_UPLOAD"]) || fault.says("still processing") {
        Some(MediaFault::Pending)
    } else if fault.has_code(&[
        "MEDIA_ASSET_PROCESSING_FAILED",
        "UPDATING_ASSET_FAILED",
        "INVALID_VIDEO_ID",
        "EXPIRED_UPLOAD_URL",
    ]) {
        Some(MediaFault::Lost)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use http::{HeaderMap, HeaderValue, StatusCode};
    use jiff::Timestamp;
    use serde::Deserialize;
    use serde_json::Value;
    use social_core::{Effect, ErrorKind};

    use super::*;

    /// An answer with what it must become.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        #[serde(default = "commit")]
        operation: String,
        status: u16,
        /// JSON, or a string that is sent as it is.
        body: Value,
        expect: Expected,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Expected {
        kind: ErrorKind,
        /// `never`, `backoff`, `after_reconnect` or seconds.
        retry: Value,
        effect: Effect,
        actor: Actor,
        code: Option<String>,
        #[serde(default)]
        message: String,
        duplicate_of: Option<String>,
        /// Whose limit it is.
        scope: Option<RateScope>,
    }

    fn commit() -> String {
        "publish.commit".to_owned()
    }

    fn reply(row: &Row) -> Reply {
        let operation: &'static str = row.operation.clone().leak();
        let body = match &row.body {
            Value::String(raw) => raw.clone(),
            json => json.to_string(),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-li-uuid", HeaderValue::from_static("AAYb"));
        let at: Timestamp = "2026-11-22T18:00:00Z".parse().unwrap();
        Reply::new(operation, StatusCode::from_u16(row.status).unwrap(), headers, body.into(), at)
    }

    fn rows(folder: &str) -> Vec<(String, Row)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
        let mut rows = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let row =
                serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
            rows.push((name, row));
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    fn check(name: &str, row: &Row, error: &Error) {
        let expect = &row.expect;
        let retry: Value = match error.retry_hint() {
            Retry::Never => "never".into(),
            Retry::Backoff => "backoff".into(),
            Retry::AfterReconnect => "after_reconnect".into(),
            Retry::After(wait) => wait.as_secs().into(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(error.kind(), expect.kind, "{name}");
        assert_eq!(retry, expect.retry, "{name}");
        assert_eq!(error.effect(), expect.effect, "{name}");
        assert_eq!(error.who(), expect.actor, "{name}");
        assert!(error.to_string().contains(&expect.message), "{name}: {error}");
        let provider = error.provider_error().unwrap();
        assert_eq!(provider.code, expect.code, "{name}");
        assert_eq!((provider.status, provider.request_id.as_deref()), (Some(row.status), Some("AAYb")), "{name}");
    }

    #[test]
    fn every_answer_of_the_interface_has_its_row() {
        let rows = rows("errors");
        assert!(rows.len() >= 35, "{} rows", rows.len());
        for (name, row) in &rows {
            let reply = reply(row);
            check(name, row, &table(&reply, 0.5));
            assert_eq!(duplicate_of(&reply), row.expect.duplicate_of, "{name}");
            assert_eq!(table(&reply, 0.5).scope(), row.expect.scope, "{name}");
        }
    }

    #[test]
    fn a_daily_limit_ends_after_midnight_and_not_for_all_at_once() {
        let (_, row) = rows("errors").into_iter().find(|(name, _)| name == "429-application-day").unwrap();
        let wait = |chance| table(&reply(&row), chance).retry_hint();
        assert_eq!(wait(0.0), Retry::After(Duration::from_secs(6 * 3600)));
        assert_eq!(wait(1.0), Retry::After(Duration::from_secs(6 * 3600 + 600)));
    }

    #[test]
    fn no_answer_to_a_create_is_proof_unless_the_table_says_so() {
        for status in 100..1000 {
            for body in ["", "<html>sorry</html>", "{}", "[]", "null", "{\"message\":7}"] {
                let row =
                    Row { body: body.into(), status, operation: commit(), expect: rows("errors").remove(0).1.expect };
                let proven = matches!(status, 401 | 411 | 413 | 415 | 426 | 429);
                assert_eq!(table(&reply(&row), 0.0).effect() == Effect::None, proven, "{status} {body}");
            }
        }
    }

    #[test]
    fn only_posts_are_taken_from_a_refusal() {
        assert_eq!(
            named_post("duplicate of urn:li:ugcPost:12, see urn:li:share:3").as_deref(),
            Some("urn:li:ugcPost:12")
        );
        for text in ["", "urn:li:share:", "urn:li:share:x1", "urn:li:image:5", "urn:li:person:9"] {
            assert_eq!(named_post(text), None, "{text}");
        }
    }
}
