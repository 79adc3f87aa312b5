//! What the operator of the sandbox can turn while it runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whether rate limits and daily caps are enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limits {
    /// As the networks do, with their headers.
    Real,
    /// Never refuse and send no rate headers.
    Off,
}

/// State of the X developer account that pays for calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XCredits {
    /// Calls are paid for.
    Available,
    /// Every call answers 402 CreditsDepleted.
    Depleted,
    /// Every call answers 429 UsageCapExceeded.
    Capped,
}

/// Which of the two bodies X gives to a 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XLimitBody {
    /// `about:blank` problem, "Too Many Requests".
    Problem,
    /// The old list with code 88.
    V1,
}

/// Vocabulary of X answers when the request does not show one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XDialect {
    /// `tweet.fields`, `edit_history_tweet_ids`.
    Legacy,
    /// `post.fields`, `edit_history_post_ids`.
    Current,
}

/// All switches. `POST /_sandbox/settings` takes any part of it as JSON; unknown names are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Added to each answer of a network; half before and half after the effect. With it, an effect happens even if the client leaves.
    pub latency_ms: u64,
    /// At most so much is added to the latency of each answer, evenly by chance.
    pub latency_spread_ms: u64,
    /// How long uploaded media stays in processing.
    pub processing_ms: u64,
    /// How long a new post stays out of timelines and finders.
    pub visibility_delay_ms: u64,
    /// Life of access tokens issued from now on; `null` = the network's own (X 7200 s, LinkedIn 60 days).
    pub access_token_ttl_s: Option<u64>,
    /// Rate limits and caps.
    pub limits: Limits,
    /// How many requests `GET /_sandbox/requests` remembers; the oldest go first.
    pub request_log_limit: usize,
    /// How many bytes of the body of each request that is read whole `GET /_sandbox/requests` remembers. Bodies with credentials are not
    /// kept.
    pub request_log_body_bytes: usize,
    /// X refuses the same text of the same author for so long; 0 = never.
    pub x_duplicate_window_s: u64,
    /// X developer account.
    pub x_credits: XCredits,
    /// Body of X 429 answers.
    pub x_limit_body: XLimitBody,
    /// Vocabulary when the request does not show one.
    pub x_dialect: XDialect,
    /// Let self-serve apps quote (the network does not).
    pub x_allow_quotes: bool,
    /// Give `&`, `<` and `>` in returned text as HTML entities, as some deployments see it.
    pub x_html_escape: bool,
    /// Posts per user and 15 minutes.
    pub x_user_posts_per_15min: u64,
    /// Posts per app and 24 hours.
    pub x_app_posts_per_day: u64,
    /// Versions that `LinkedIn-Version` may name.
    pub linkedin_active_versions: Vec<String>,
    /// LinkedIn refuses the identical post of the same author for so long; 0 = never.
    pub linkedin_duplicate_window_s: u64,
    /// How long LinkedIn's duplicate check does not yet see a new post.
    pub linkedin_duplicate_lag_ms: u64,
    /// Posts per member and UTC day.
    pub linkedin_member_posts_per_day: u64,
    /// Posts per app and UTC day.
    pub linkedin_app_posts_per_day: u64,
    /// Any other call per member and UTC day, for each operation.
    pub linkedin_member_calls_per_day: u64,
    /// Any other call per app and UTC day, for each operation.
    pub linkedin_app_calls_per_day: u64,
    /// Calls per member and minute over all operations; beyond it the message names no counter.
    pub linkedin_burst_per_minute: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            latency_spread_ms: 0,
            processing_ms: 2_000,
            visibility_delay_ms: 0,
            access_token_ttl_s: None,
            limits: Limits::Real,
            request_log_limit: 20_000,
            request_log_body_bytes: 0,
            x_duplicate_window_s: 86_400,
            x_credits: XCredits::Available,
            x_limit_body: XLimitBody::Problem,
            x_dialect: XDialect::Legacy,
            x_allow_quotes: false,
            x_html_escape: false,
            x_user_posts_per_15min: 100,
            x_app_posts_per_day: 10_000,
            linkedin_active_versions: (202_601..=202_611).map(|version| version.to_string()).collect(),
            linkedin_duplicate_window_s: 600,
            linkedin_duplicate_lag_ms: 0,
            linkedin_member_posts_per_day: 150,
            linkedin_app_posts_per_day: 100_000,
            linkedin_member_calls_per_day: 5_000,
            linkedin_app_calls_per_day: 500_000,
            linkedin_burst_per_minute: 600,
        }
    }
}

impl Settings {
    /// These settings with the members of `patch` (a JSON object) replaced.
    ///
    /// # Errors
    /// A sentence if `patch` is not an object, names an unknown setting or holds a wrong type.
    pub fn patched(&self, patch: &Value) -> Result<Self, String> {
        let Value::Object(changes) = patch else { return Err("settings must be a JSON object".to_owned()) };
        let Value::Object(mut all) = serde_json::to_value(self).map_err(|error| error.to_string())? else {
            return Err("settings must be a JSON object".to_owned());
        };
        for (name, value) in changes {
            all.insert(name.clone(), value.clone());
        }
        serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())
    }
}
