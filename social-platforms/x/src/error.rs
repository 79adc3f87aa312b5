//! The one place where X's errors become ours.
//!
//! X answers in four shapes of JSON, and its edge in HTML or with nothing. A row names the statuses and the sign by which it is known,
//! what it means, and whether it proves that a commit had no effect. The first row that fits counts; what no row knows stays ambiguous.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use social_core::{
    Actor, Effect, Error, ErrorKind, Retry,
    http::Reply,
    rate::RateScope,
    secret::scrub,
    text::{self, TextUnit},
    time::positive,
};

use crate::operation;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// A reset further away than this is not believed: the longest bucket is a day.
const LONGEST_WAIT: Duration = Duration::from_secs(25 * 3600);
/// How much of X's sentence goes into an advice.
const SENTENCE: usize = 200;

/// What an answer other than 2xx means. Effect unknown only for the visible call, and there unless a row proves otherwise.
pub(crate) fn classify(reply: &Reply) -> Error {
    let seen = Seen { reply, fault: Fault::of(reply.body()) };
    let row = row(&seen);
    let error = Error::new(row.kind, reply.operation().clone()).message(row.name.replace('_', " "));
    let error = error.provider(reply.provider(seen.fault.code()));
    let visible = reply.operation().as_str() == operation::COMMIT;
    let error = if visible && row.effect == Effect::Unknown { error } else { error.effect_none() };
    (row.then)(error, &seen)
}

/// The grant does not cover what is asked.
pub(crate) fn missing_permission(operation: &'static str) -> Error {
    permission(Error::new(ErrorKind::Permission, operation).effect_none())
}

fn permission(error: Error) -> Error {
    error
        .retry(Retry::AfterReconnect)
        .advice("X did not allow this with the permissions that were given. Please connect the account again and allow everything.")
}

struct Row {
    name: &'static str,
    /// Any, if empty.
    status: &'static [u16],
    when: fn(&Fault) -> bool,
    kind: ErrorKind,
    effect: Effect,
    then: fn(Error, &Seen) -> Error,
}

struct Seen<'a> {
    reply: &'a Reply,
    fault: Fault,
}

fn row(seen: &Seen) -> &'static Row {
    let status = seen.reply.status();
    let fits = |row: &&Row| (row.status.is_empty() || row.status.contains(&status)) && (row.when)(&seen.fault);
    TABLE.iter().find(fits).unwrap_or(&UNKNOWN)
}

const UNKNOWN: Row = Row {
    name: "unknown",
    status: &[],
    when: |_| true,
    kind: ErrorKind::Unexpected,
    effect: Effect::Unknown,
    then: |e, _| e,
};

const TABLE: &[Row] = &[
    Row {
        name: "token_refused",
        status: &[401],
        when: |_| true,
        kind: ErrorKind::Reconnect,
        effect: Effect::None,
        then: |e, _| e.advice("X no longer accepts this connection. Please connect the account again."),
    },
    Row {
        name: "wrong_token_kind",
        status: &[403],
        when: |f| f.is("unsupported-authentication"),
        kind: ErrorKind::Reconnect,
        effect: Effect::None,
        then: |e, _| e.advice("X wants this account to be connected again, as a user of the app."),
    },
    Row {
        name: "app_read_only",
        status: &[403],
        when: |f| f.is("oauth1-permissions") || f.says("not configured with the appropriate oauth1 app permissions"),
        kind: ErrorKind::Config,
        effect: Effect::None,
        then: |e, _| {
            e.advice("The app on X may only read. Whoever runs this installation has to set it to Read and write; then connect again.")
        },
    },
    Row {
        name: "app_not_enrolled",
        status: &[403],
        when: |f| f.is("client-forbidden") || f.reason == "client-not-enrolled",
        kind: ErrorKind::Config,
        effect: Effect::None,
        then: |e, _| {
            e.retry_after(15 * MINUTE)
                .advice("The app belongs to no project on X. Whoever runs this installation has to add it to one. Posts wait until then.")
        },
    },
    Row {
        name: "app_suspended",
        status: &[403],
        when: |f| f.is("app-suspended"),
        kind: ErrorKind::Config,
        effect: Effect::None,
        then: |e, _| e.advice("X suspended the app. Whoever runs this installation has to settle that with X."),
    },
    Row {
        name: "account_suspended",
        status: &[403],
        when: |f| f.is("user-suspended") || f.code_is(64) || f.says("authentication is suspended"),
        kind: ErrorKind::Permission,
        effect: Effect::None,
        then: |e, _| e.advice("X suspended this account. Please look at x.com what it asks for."),
    },
    Row {
        name: "account_locked",
        status: &[403],
        when: |f| f.says("temporarily locked") || f.code_is(326),
        kind: ErrorKind::Permission,
        effect: Effect::None,
        then: |e, _| e.advice("X locked this account for now. Please sign in on x.com and unlock it."),
    },
    Row {
        name: "usage_cap",
        status: &[403, 429],
        when: |f| f.is("usage-capped") || f.title == "usagecapexceeded",
        kind: ErrorKind::Quota,
        effect: Effect::None,
        then: |e, s| usage_cap(e, until_cap_ends(s)),
    },
    Row {
        name: "looks_automated",
        status: &[],
        when: |f| f.code_is(226) || f.says("looks like it might be automated"),
        kind: ErrorKind::RateLimited,
        effect: Effect::None,
        then: |e, _| {
            e.retry_after(2 * HOUR).actor(Actor::User).limit_scope(RateScope::Account).advice(
                "X finds that this looks automated. We pause for two hours; please look at the account on x.com.",
            )
        },
    },
    Row {
        name: "duplicate",
        status: &[400, 403],
        when: |f| f.says("duplicate content") || f.code_is(187),
        kind: ErrorKind::Duplicate,
        effect: Effect::None,
        then: |e, _| {
            e.advice(
                "X already has a post with this text from this account. Change the text if you want to post again.",
            )
        },
    },
    Row {
        name: "reply_refused",
        status: &[403],
        when: |f| f.says("reply to this conversation is not allowed"),
        kind: ErrorKind::Rejected,
        effect: Effect::None,
        then: |e, _| e.advice("X lets apps answer only posts that mention the account or are its own."),
    },
    Row {
        name: "quote_refused",
        status: &[403],
        when: |f| f.says("quoting this post is not allowed"),
        kind: ErrorKind::Rejected,
        effect: Effect::None,
        then: |e, _| e.advice("X does not let this app quote that post. Put its address into the text instead."),
    },
    Row {
        name: "cashtags",
        status: &[400, 403],
        when: |f| f.says("maximum of one cashtag"),
        kind: ErrorKind::Invalid,
        effect: Effect::None,
        then: |e, _| e.advice("X allows one cashtag in a post. Please remove the others."),
    },
    Row {
        name: "text_too_long",
        status: &[400, 403],
        when: |f| f.says("text is too long") || f.code_is(186),
        kind: ErrorKind::Invalid,
        effect: Effect::None,
        then: |e, _| e.advice("The text is too long for this account on X. Please shorten it."),
    },
    Row {
        name: "feature_refused",
        status: &[403],
        when: |f| f.says("not permitted to access this feature"),
        kind: ErrorKind::Permission,
        effect: Effect::None,
        then: |e, _| e.advice("This account may not use that on X. It may need a Premium subscription."),
    },
    Row {
        name: "video_too_long",
        status: &[400, 403],
        when: |f| f.says("longer than 2 minutes"),
        kind: ErrorKind::Invalid,
        effect: Effect::None,
        then: |e, _| e.advice("X takes videos of up to 2:20 minutes from this account. Please use a shorter one."),
    },
    Row {
        name: "not_permitted",
        status: &[403],
        when: |f| f.says("not permitted to perform this action"),
        kind: ErrorKind::Rejected,
        effect: Effect::None,
        then: |e, _| {
            e.advice("X refused this without saying why. Check the length of the text, the media, and whether it needs Premium.")
        },
    },
    Row {
        name: "invalid_link",
        status: &[400, 403],
        when: |f| f.says("contains an invalid url"),
        kind: ErrorKind::Invalid,
        effect: Effect::None,
        then: |e, _| e.advice("X does not accept an address in the text. Please correct it."),
    },
    Row {
        name: "media_refused",
        status: &[400, 403],
        when: |f| f.says("media ids are invalid") || f.code_is(324),
        kind: ErrorKind::Invalid,
        effect: Effect::None,
        then: |e, _| {
            e.advice("X did not accept the media. A video should be MP4 (H.264), at most 1280 pixels wide and high and 60 frames per second.")
        },
    },
    Row {
        name: "parent_gone",
        status: &[400, 403],
        when: |f| f.says("reply tweet id is invalid") || f.says("quote tweet id is invalid"),
        kind: ErrorKind::NotFound,
        effect: Effect::None,
        then: |e, _| e.advice("The post that this one belongs to is not on X any more."),
    },
    Row {
        name: "not_the_author",
        status: &[403],
        when: |f| f.says("not authorized to delete this"),
        kind: ErrorKind::Permission,
        effect: Effect::None,
        then: |e, _| e.advice("That post belongs to another account."),
    },
    Row {
        name: "permission_missing",
        status: &[403],
        when: |f| {
            f.is("not-authorized-for-resource")
                || f.title == "forbidden" && matches!(f.detail.as_str(), "" | "forbidden")
        },
        kind: ErrorKind::Permission,
        effect: Effect::None,
        then: |e, _| permission(e),
    },
    Row {
        name: "refused",
        status: &[403],
        when: |f| f.title == "forbidden",
        kind: ErrorKind::Rejected,
        effect: Effect::None,
        then: |e, s| s.quoted(e),
    },
    Row {
        name: "credits_depleted",
        status: &[402],
        when: |_| true,
        kind: ErrorKind::Billing,
        effect: Effect::None,
        then: |e, _| {
            e.advice("The credits of the app on X are used up. Whoever runs this installation has to buy more. Posts wait until then.")
        },
    },
    Row {
        name: "not_found",
        status: &[404],
        when: |f| f.is("resource-not-found") || f.empty,
        kind: ErrorKind::NotFound,
        effect: Effect::None,
        then: |e, _| e,
    },
    Row {
        name: "too_large",
        status: &[413],
        when: |_| true,
        kind: ErrorKind::Invalid,
        effect: Effect::Unknown,
        then: |e, _| e.advice("A file is too large for X."),
    },
    Row {
        name: "rate_limited",
        status: &[429],
        when: |_| true,
        kind: ErrorKind::RateLimited,
        effect: Effect::None,
        then: |e, s| rate_limited(e, s.reply),
    },
    Row {
        name: "invalid_request",
        status: &[400],
        when: |f| f.is("invalid-request") || f.title == "invalid request",
        kind: ErrorKind::Invalid,
        effect: Effect::None,
        then: |e, s| s.quoted(e),
    },
    Row {
        name: "no_answer_in_time",
        status: &[408, 504],
        when: |_| true,
        kind: ErrorKind::Timeout,
        effect: Effect::Unknown,
        then: |e, _| e,
    },
    Row {
        name: "unavailable",
        status: &[500, 502, 503],
        when: |_| true,
        kind: ErrorKind::Unavailable,
        effect: Effect::Unknown,
        then: |e, s| match s.reply.retry_after() {
            Some(wait) => e.retry_after(wait),
            None => e,
        },
    },
];

impl Seen<'_> {
    /// An advice with X's own sentence in it.
    fn quoted(&self, error: Error) -> Error {
        if self.fault.sentence.is_empty() {
            return error;
        }
        let sentence = scrub(&self.fault.sentence);
        error.advice(format!("X refused this: {}", text::truncate_to(TextUnit::Scalars, &sentence, SENTENCE)))
    }
}

/// X says that a cap of a day or a billing cycle is reached. When a cycle ends is not said; asking again costs nothing.
fn until_cap_ends(seen: &Seen) -> Duration {
    if seen.fault.period != "daily" {
        return 6 * HOUR;
    }
    let passed = seen.reply.received_at().as_second().rem_euclid(86_400);
    Duration::from_secs(86_400 - passed.unsigned_abs())
}

fn usage_cap(error: Error, wait: Duration) -> Error {
    error
        .retry_after(wait)
        .actor(Actor::Operator)
        .limit_scope(RateScope::App)
        .advice("The app has used up what X allows it for now. Posts wait until X allows more.")
}

fn rate_limited(error: Error, reply: &Reply) -> Error {
    let hint = rate_hint(reply);
    let error = match hint.scope {
        Some(scope) => error.limit_scope(scope),
        None => error,
    };
    match hint
        .free_at
        .and_then(|at| positive(at.duration_since(reply.received_at())))
        .filter(|wait| *wait <= LONGEST_WAIT)
    {
        Some(wait) => error.retry_after(wait),
        // Room in every bucket and refused all the same: that is a cap, and asking every minute does not help.
        None if hint.room && reply.retry_after().is_none() => usage_cap(error, 15 * MINUTE),
        None => error.retry_after(reply.retry_after().unwrap_or(MINUTE)),
    }
}

/// What the rate headers of an answer say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RateHint {
    /// When the last of the buckets that are used up is free again.
    pub free_at: Option<Timestamp>,
    /// Whose bucket that is.
    pub scope: Option<RateScope>,
    /// Whether buckets are named and all of them have room.
    pub room: bool,
}

/// Reads the rate headers of an answer. They may be missing and are never the only truth.
pub(crate) fn rate_hint(reply: &Reply) -> RateHint {
    let (mut hint, mut named, mut used_up) = (RateHint::default(), false, false);
    for (bucket, scope) in [
        ("x-rate-limit", RateScope::Account),
        ("x-app-limit-24hour", RateScope::App),
        ("x-user-limit-24hour", RateScope::Account),
    ] {
        let remaining = reply.header(&format!("{bucket}-remaining"));
        let Some(remaining) = remaining.and_then(|raw| raw.trim().parse::<i64>().ok()) else { continue };
        named = true;
        if remaining <= 0 {
            used_up = true;
            let free_at = reply.unix_seconds(&format!("{bucket}-reset"));
            if hint.scope.is_none() || free_at > hint.free_at {
                (hint.free_at, hint.scope) = (free_at, Some(scope));
            }
        }
    }
    hint.room = named && !used_up;
    hint
}

/// What a body says, whatever its shape. Texts are in lower case, but for the sentence.
#[derive(Debug, Default)]
struct Fault {
    empty: bool,
    title: String,
    detail: String,
    reason: String,
    period: String,
    /// The most telling sentence, as X wrote it.
    sentence: String,
    /// All texts.
    said: String,
    /// Last pieces of the type addresses; their host differs.
    types: Vec<String>,
    codes: Vec<i64>,
}

impl Fault {
    fn of(body: &[u8]) -> Self {
        let mut fault = Self { empty: body.trim_ascii().is_empty(), ..Self::default() };
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return fault };
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        fault.title = text("title").trim().to_ascii_lowercase();
        fault.detail = text("detail").trim().to_ascii_lowercase();
        fault.reason = text("reason").to_ascii_lowercase();
        fault.period = text("period").to_ascii_lowercase();
        let errors = body.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut sentences = Vec::new();
        for member in errors.iter().filter_map(Value::as_object).chain([&body]) {
            sentences.extend(["message", "detail", "title"].iter().filter_map(|&name| member.get(name)?.as_str()));
            fault.codes.extend(member.get("code").and_then(Value::as_i64));
            if let Some(kind) = member.get("type").and_then(Value::as_str) {
                fault.types.push(kind.rsplit('/').next().unwrap_or_default().to_ascii_lowercase());
            }
        }
        fault.sentence = sentences.first().map(|&sentence| sentence.to_owned()).unwrap_or_default();
        fault.said = sentences.join("\n").to_ascii_lowercase();
        fault
    }

    fn says(&self, phrase: &str) -> bool {
        self.said.contains(phrase)
    }

    fn is(&self, kind: &str) -> bool {
        self.types.iter().any(|known| known == kind)
    }

    fn code_is(&self, code: i64) -> bool {
        self.codes.contains(&code)
    }

    /// What X calls it, for support.
    fn code(&self) -> Option<String> {
        let kind = self.types.iter().find(|kind| *kind != "about:blank").cloned();
        kind.or_else(|| self.codes.first().map(i64::to_string))
            .or_else(|| (!self.title.is_empty()).then(|| self.title.clone()))
    }
}

/// Whether a body with 2xx says that the thing it was about does not exist.
pub(crate) fn says_not_found(errors: &[Value]) -> bool {
    errors.iter().any(|error| {
        error.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("/resource-not-found"))
    })
}

#[cfg(test)]
mod tests;
