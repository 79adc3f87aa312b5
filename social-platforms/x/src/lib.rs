#![doc = include_str!("../README.md")]

mod analytics;
mod connect;
mod descriptor;
mod error;
mod media;
mod options;
mod progress;
mod publish;
mod reconcile;
mod validate;
mod wire;

use social_core::{
    Analytics, ClientSecret, Connect, Credentials, Error, ErrorKind, Platform, PlatformDescriptor, PlatformId, Publish,
    TokenSet,
    http::{Reply, Request},
    oauth::OAuthClient,
};
use url::Url;

pub use self::{
    options::{Poll, ReplySettings, XOptions},
    wire::Vocabulary,
};

/// Names of the calls, as they stand in errors, rate rules and metrics.
pub(crate) mod operation {
    pub(crate) const COMMIT: &str = "publish.commit";
    pub(crate) const PREPARE: &str = "publish.prepare";
    pub(crate) const TIMELINE: &str = "publish.reconcile";
    pub(crate) const DELETE: &str = "publish.delete";
    pub(crate) const UPLOAD: &str = "media.upload";
    pub(crate) const INITIALIZE: &str = "media.initialize";
    pub(crate) const APPEND: &str = "media.append";
    pub(crate) const FINALIZE: &str = "media.finalize";
    pub(crate) const STATUS: &str = "media.status";
    pub(crate) const DESCRIBE: &str = "media.describe";
    pub(crate) const ACCOUNTS: &str = "connect.accounts";
    pub(crate) const POST_NUMBERS: &str = "analytics.posts";
    pub(crate) const ACCOUNT_NUMBERS: &str = "analytics.account";
}

/// The network X.
#[derive(Debug)]
pub struct X {
    descriptor: PlatformDescriptor,
    premium: PlatformDescriptor,
    oauth: OAuthClient,
    /// Where people look at posts.
    site: Url,
    /// Where programs make them.
    api: Url,
    /// Where a post is made: the one address that every post needs.
    tweets: Url,
    vocabulary: Vocabulary,
    quotes: bool,
}

impl X {
    /// The id of this platform: `x`.
    pub const ID: PlatformId = descriptor::ID;

    /// Begins with the credentials of a confidential client ("Web App" or "Automated App") of X's developer console.
    pub fn builder(client_id: impl Into<String>, client_secret: impl Into<String>) -> XBuilder {
        XBuilder {
            client_id: client_id.into(),
            client_secret: ClientSecret::parse(client_secret),
            base_url: None,
            preset: None,
            overrides: Vec::new(),
            vocabulary: Vocabulary::default(),
            quotes: false,
        }
    }

    /// An address of the programming interface; each piece of the path is percent-encoded.
    fn endpoint(&self, path: &[&str]) -> Url {
        below(&self.api, path)
    }

    /// Where people find a post.
    fn permalink(&self, handle: Option<&str>, id: &str) -> String {
        match handle {
            Some(handle) => below(&self.site, &[handle, "status", id]),
            None => below(&self.site, &["i", "web", "status", id]),
        }
        .into()
    }
}

fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    // The builder accepts only bases that have a path.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// Sends a call that is not visible to the public. Anything but 2xx is an error of the table.
async fn ask(request: Request<'_>) -> Result<Reply, Error> {
    let reply = request.send().await.map_err(Error::effect_none)?;
    if reply.is_success() { Ok(reply) } else { Err(error::classify(&reply)) }
}

/// Refuses a call for which the grant is known to be too small.
fn require(tokens: &TokenSet, scope: &str, operation: &'static str) -> Result<(), Error> {
    if tokens.scopes.is_empty() || tokens.scopes.iter().any(|granted| granted == scope) {
        return Ok(());
    }
    Err(error::missing_permission(operation).message(format!("the scope {scope} was not granted")))
}

impl Platform for X {
    fn descriptor(&self) -> &PlatformDescriptor {
        &self.descriptor
    }

    fn connect(&self) -> &dyn Connect {
        self
    }

    fn publish(&self) -> &dyn Publish {
        self
    }

    fn analytics(&self) -> Option<&dyn Analytics> {
        Some(self)
    }
}

/// Puts [`X`] together.
#[must_use = "a builder does nothing until it is built"]
pub struct XBuilder {
    client_id: String,
    client_secret: Option<ClientSecret>,
    base_url: Option<Url>,
    preset: Option<String>,
    overrides: Vec<Override>,
    vocabulary: Vocabulary,
    quotes: bool,
}

/// From an operator's settings. X has no versions to choose from.
impl TryFrom<Credentials> for X {
    type Error = Error;

    fn try_from(credentials: Credentials) -> Result<Self, Error> {
        let mut builder = Self::builder(&credentials.client_id, credentials.secret());
        if credentials.api_version.is_some() {
            return Err(wrong("X has no versions to choose from: leave the API version out"));
        }
        if let Some(base) = credentials.base_url {
            builder = builder.base_url(base);
        }
        if let Some(preset) = credentials.preset {
            builder = builder.preset(preset);
        }
        builder.build()
    }
}

type Override = Box<dyn FnOnce(&mut PlatformDescriptor) + Send>;

impl XBuilder {
    /// One prefix instead of all hosts of the network: `{base}/i/oauth2/authorize`, `{base}/2/...`, `{base}/{handle}/status/{id}`.
    pub fn base_url(mut self, base: Url) -> Self {
        self.base_url = Some(base);
        self
    }

    /// The scope preset of connections that name none.
    pub fn preset(mut self, name: impl Into<String>) -> Self {
        self.preset = Some(name.into());
        self
    }

    /// Changes facts, such as a limit that the network grants to this operator. May be given several times.
    pub fn descriptor(mut self, change: impl FnOnce(&mut PlatformDescriptor) + Send + 'static) -> Self {
        self.overrides.push(Box::new(change));
        self
    }

    /// Which words reading requests use; X accepts both.
    pub fn vocabulary(mut self, vocabulary: Vocabulary) -> Self {
        self.vocabulary = vocabulary;
        self
    }

    /// Allows quoting posts of others. X refuses that to all but Enterprise apps.
    pub fn allow_quotes(mut self) -> Self {
        self.quotes = true;
        self
    }

    /// Checks what was given.
    ///
    /// # Errors
    /// `Config` if a credential is empty, the preset is unknown or the base cannot carry a path.
    pub fn build(self) -> Result<X, Error> {
        if self.client_id.trim().is_empty() {
            return Err(wrong("the client id is empty"));
        }
        let secret =
            self.client_secret.ok_or_else(|| wrong("the client secret is empty or holds control characters"))?;
        let mut facts = descriptor::descriptor();
        let (site, api) = match self.base_url {
            Some(base) if base.cannot_be_a_base() => return Err(wrong("the base address cannot carry a path")),
            Some(base) => {
                facts.oauth.authorize_url = below(&base, &["i", "oauth2", "authorize"]).into();
                facts.oauth.token_url = below(&base, &["2", "oauth2", "token"]).into();
                facts.oauth.revoke_url = Some(below(&base, &["2", "oauth2", "revoke"]).into());
                (base.clone(), base)
            }
            None => (live("https://x.com"), live("https://api.x.com")),
        };
        for change in self.overrides {
            change(&mut facts);
        }
        if let Some(name) = self.preset.filter(|name| !facts.oauth.make_default(name)) {
            return Err(wrong(format!("X has no scope preset {name:?}")));
        }
        Ok(X {
            premium: descriptor::for_premium(facts.clone()),
            oauth: OAuthClient::new(self.client_id, Some(secret), facts.oauth.clone()).faults(connect::oauth_fault),
            descriptor: facts,
            site,
            tweets: below(&api, &["2", "tweets"]),
            api,
            vocabulary: self.vocabulary,
            quotes: self.quotes,
        })
    }
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "x.build").message(message).effect_none()
}

#[expect(clippy::expect_used, reason = "called with two constants above, both absolute addresses")]
fn live(address: &str) -> Url {
    Url::parse(address).expect("a constant address")
}

impl std::fmt::Debug for XBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XBuilder")
            .field("client_id", &self.client_id)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}
