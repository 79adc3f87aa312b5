//! One error type that answers five questions: what happened, may we try again, could it already be public, who must do what,
//! and what the network said.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    rate::RateScope,
    validate::Violation,
    vault::{KeyRingError, VaultError},
};

/// What happened, in the words that callers branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operator's configuration is wrong: credentials, permissions of the app, a sunset API version.
    Config,
    /// The request cannot be right, whoever sends it.
    Invalid,
    /// The network understood and refused.
    Rejected,
    /// The network says that it has this post already.
    Duplicate,
    /// The connection is no longer accepted; the user has to connect again.
    Reconnect,
    /// The connection is fine but may not do this.
    Permission,
    /// Too many calls; waiting helps.
    RateLimited,
    /// A cap over a longer period is used up.
    Quota,
    /// The operator's bill with the network.
    Billing,
    /// The network or a dependency does not answer properly.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// Somebody else changed the thing meanwhile.
    Conflict,
    /// It is not there (or not yours, which looks the same).
    NotFound,
    /// The network has no such ability.
    Unsupported,
    /// Our own store failed.
    Storage,
    /// Nobody foresaw this answer.
    Unexpected,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 16] = [
        Self::Config,
        Self::Invalid,
        Self::Rejected,
        Self::Duplicate,
        Self::Reconnect,
        Self::Permission,
        Self::RateLimited,
        Self::Quota,
        Self::Billing,
        Self::Unavailable,
        Self::Timeout,
        Self::Conflict,
        Self::NotFound,
        Self::Unsupported,
        Self::Storage,
        Self::Unexpected,
    ];

    /// The name as it is written in JSON, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Invalid => "invalid",
            Self::Rejected => "rejected",
            Self::Duplicate => "duplicate",
            Self::Reconnect => "reconnect",
            Self::Permission => "permission",
            Self::RateLimited => "rate_limited",
            Self::Quota => "quota",
            Self::Billing => "billing",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Unsupported => "unsupported",
            Self::Storage => "storage",
            Self::Unexpected => "unexpected",
        }
    }
}

/// Whether trying again can help, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Retry {
    /// The same request will fail again.
    Never,
    /// Later, at a time that the retry policy chooses.
    Backoff,
    /// Not before this much time has passed; uses no attempt.
    After(Duration),
    /// When the user has connected the account again; uses no attempt.
    AfterReconnect,
}

/// Whether the failed call may have had its effect all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Proof that nothing became public.
    None,
    /// It may be public. Only reading it back or a person can tell.
    Unknown,
}

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The person whose account or post it is.
    User,
    /// Whoever runs the installation.
    Operator,
    /// The network; waiting may help.
    Network,
    /// Nobody; it mends itself.
    Nobody,
}

/// What was being done, such as `publish.commit` or `oauth.refresh`. Names are public: hosts build dashboards on them.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Operation(Cow<'static, str>);

impl Operation {
    /// An operation named in the source.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Operation {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the network said, short and without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProviderError {
    /// HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The network's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What to quote to the network's support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The beginning of the answer, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Inner {
    kind: ErrorKind,
    retry: Retry,
    effect: Effect,
    actor: Actor,
    operation: Operation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'static, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    advice: Option<Cow<'static, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<ProviderError>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<RateScope>,
    #[serde(skip)]
    violations: Vec<Violation>,
    #[serde(skip)]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What went wrong and what to do about it. One pointer wide. Serialises without its source.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Inner>);

impl Error {
    /// An error of `kind` during `operation`, with the retry and the actor that usually go with the kind.
    /// Its effect is [`Effect::Unknown`] until [`effect_none`](Self::effect_none) proves otherwise.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: impl Into<Operation>) -> Self {
        use ErrorKind as K;
        let (retry, actor) = match kind {
            K::Config => (Retry::Never, Actor::Operator),
            K::Invalid | K::Rejected | K::Duplicate | K::Permission | K::NotFound | K::Unsupported => {
                (Retry::Never, Actor::User)
            }
            K::Reconnect => (Retry::AfterReconnect, Actor::User),
            K::RateLimited | K::Quota => (Retry::After(Duration::from_secs(60)), Actor::Nobody),
            K::Billing => (Retry::After(Duration::from_secs(900)), Actor::Operator),
            K::Unavailable | K::Timeout => (Retry::Backoff, Actor::Network),
            K::Conflict => (Retry::Backoff, Actor::Nobody),
            K::Storage => (Retry::Backoff, Actor::Operator),
            K::Unexpected => (Retry::Backoff, Actor::Network),
        };
        Self(Box::new(Inner {
            kind,
            retry,
            effect: Effect::Unknown,
            actor,
            operation: operation.into(),
            message: None,
            advice: None,
            provider: None,
            scope: None,
            violations: Vec::new(),
            source: None,
        }))
    }

    /// Shorthand for an [`ErrorKind::Invalid`] without effect.
    #[must_use]
    pub fn invalid(operation: impl Into<Operation>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, operation).message(message).effect_none()
    }

    /// Shorthand for an [`ErrorKind::NotFound`] without effect.
    #[must_use]
    pub fn not_found(operation: impl Into<Operation>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, operation).message(message).effect_none()
    }

    /// Shorthand for an [`ErrorKind::Conflict`] without effect that trying again does not cure.
    #[must_use]
    pub fn conflict(operation: impl Into<Operation>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict, operation).message(message).retry(Retry::Never).actor(Actor::User).effect_none()
    }

    /// Shorthand for a failure of a store.
    #[must_use]
    pub fn storage(
        operation: impl Into<Operation>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorKind::Storage, operation).message("the database did not do what was asked").source(source)
    }

    /// Says what happened, for a log: lower case, no full stop, no secret.
    #[must_use]
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// One sentence that tells a shop owner what to do.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Proves that nothing became public.
    #[must_use]
    pub fn effect_none(mut self) -> Self {
        self.0.effect = Effect::None;
        self
    }

    /// Takes the proof back: it may be public.
    #[must_use]
    pub fn effect_unknown(mut self) -> Self {
        self.0.effect = Effect::Unknown;
        self
    }

    /// Replaces the retry that goes with the kind.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Shorthand for [`Retry::After`].
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        self.retry(Retry::After(wait))
    }

    /// Replaces the actor that goes with the kind.
    #[must_use]
    pub fn actor(mut self, actor: Actor) -> Self {
        self.0.actor = actor;
        self
    }

    /// Adds what the network said.
    #[must_use]
    pub fn provider(mut self, provider: ProviderError) -> Self {
        self.0.provider = Some(provider);
        self
    }

    /// Says whose limit it is, where the network tells.
    #[must_use]
    pub fn limit_scope(mut self, scope: RateScope) -> Self {
        self.0.scope = Some(scope);
        self
    }

    /// Adds what is wrong with a draft, one by one.
    #[must_use]
    pub fn violations(mut self, violations: Vec<Violation>) -> Self {
        self.0.violations = violations;
        self
    }

    /// Adds the technical cause. It is shown by `Debug` and the error chain, never serialised.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn retry_hint(&self) -> Retry {
        self.0.retry
    }

    /// Whether it may be public all the same.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// Who must act.
    #[must_use]
    pub fn who(&self) -> Actor {
        self.0.actor
    }

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.0.operation
    }

    /// What the network said, if it said anything.
    #[must_use]
    pub fn provider_error(&self) -> Option<&ProviderError> {
        self.0.provider.as_ref()
    }

    /// Whose limit it is, where the network tells. A bill and a faulty set-up concern the whole app.
    #[must_use]
    pub fn scope(&self) -> Option<RateScope> {
        self.0.scope.or(matches!(self.0.kind, ErrorKind::Billing | ErrorKind::Config).then_some(RateScope::App))
    }

    /// What is wrong with a draft, one by one; empty unless a draft was refused.
    #[must_use]
    pub fn violated(&self) -> &[Violation] {
        &self.0.violations
    }

    /// The technical sentence, if there is one.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// The sentence for a shop owner: the one that was given, or a general one for the kind.
    #[must_use]
    pub fn advice_text(&self) -> &str {
        use ErrorKind as K;
        self.0.advice.as_deref().unwrap_or(match self.0.kind {
            K::Config => "The installation is not set up correctly for this network. Please tell whoever runs it.",
            K::Invalid => "Something in this post is not accepted. Please change it and try again.",
            K::Rejected => "The network refused this post. Please look at what it said and change the post.",
            K::Duplicate => {
                "The network already has a post with this content. Change the text if you want to post again."
            }
            K::Reconnect => "The network no longer accepts this connection. Please connect the account again.",
            K::Permission => {
                "This account may not do that. Connect it again and allow what is asked, or ask its administrator."
            }
            K::RateLimited => "The network asks for a pause. The post goes out by itself afterwards.",
            K::Quota => "A limit of the network is used up for now. The post goes out by itself when it is free again.",
            K::Billing => "The network wants its bill paid by whoever runs this installation. Posts wait until then.",
            K::Unavailable | K::Timeout => "The network is not answering properly. We try again by ourselves.",
            K::Conflict => "Somebody changed this meanwhile. Please look at it again.",
            K::NotFound => "This is not there any more.",
            K::Unsupported => "This network cannot do that.",
            K::Storage => "Our own storage has a problem. Please tell whoever runs this installation.",
            K::Unexpected => {
                "The network gave an answer that we do not understand. Please check on the network itself."
            }
        })
    }
}

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        Self::new(ErrorKind::Config, "vault")
            .message(error.to_string())
            .advice("Stored tokens cannot be opened. Whoever runs this installation has to look at its master keys.")
            .source(error)
            .effect_none()
    }
}

impl From<KeyRingError> for Error {
    fn from(error: KeyRingError) -> Self {
        Self::new(ErrorKind::Config, "keys").message(error.to_string()).source(error).effect_none()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} during {}", self.0.kind.as_str().replace('_', " "), self.0.operation)?;
        if let Some(message) = &self.0.message {
            write!(f, ": {message}")?;
        }
        if let Some(provider) = &self.0.provider
            && let Some(status) = provider.status
        {
            write!(f, " (status {status}")?;
            if let Some(code) = &provider.code {
                write!(f, ", code {code}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_starts_as_effect_unknown_and_survives_json() {
        let error = Error::new(ErrorKind::RateLimited, "publish.commit")
            .retry_after(Duration::from_secs(90))
            .provider(ProviderError { status: Some(429), ..ProviderError::default() });
        assert_eq!(error.effect(), Effect::Unknown);
        let json = serde_json::to_string(&error).unwrap();
        let back: Error = serde_json::from_str(&json).unwrap();
        assert_eq!(back.kind(), ErrorKind::RateLimited);
        assert_eq!(back.retry_hint(), Retry::After(Duration::from_secs(90)));
        assert_eq!(back.to_string(), "rate limited during publish.commit (status 429)");
    }

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
