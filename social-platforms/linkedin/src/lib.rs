#![doc = include_str!("../README.md")]

mod analytics;
mod api;
mod connect;
mod descriptor;
mod error;
mod little_text;
mod media;
mod options;
mod publish;
mod reconcile;
mod validate;
mod wire;

use std::fmt;

use jiff::civil::Date;
use social_core::{
    Analytics, ClientSecret, Connect, Credentials, Error, ErrorKind, Platform, PlatformDescriptor, PlatformId, Publish,
    oauth::OAuthClient, secret::SecretError,
};
use url::Url;

pub use options::{LinkedInOptions, Poll, PollDuration, Visibility};

use crate::api::Api;

/// LinkedIn: members and pages, over the versioned Posts API.
#[derive(Debug)]
pub struct LinkedIn {
    descriptor: PlatformDescriptor,
    api: Api,
    oauth: OAuthClient,
}

impl LinkedIn {
    /// LinkedIn's id.
    pub const ID: PlatformId = descriptor::ID;

    /// Begins with the credentials of a LinkedIn app.
    pub fn builder(client_id: impl Into<String>, client_secret: impl Into<String>) -> LinkedInBuilder {
        LinkedInBuilder {
            client_id: client_id.into(),
            client_secret: ClientSecret::new(client_secret),
            preset: None,
            base_url: None,
            api_version: descriptor::VERSION.to_owned(),
            change: None,
        }
    }

    /// The day on which LinkedIn switches a version of its interface (`YYYYMM`) off: as announced, else predicted from the pattern of the
    /// announced ones (the middle of the same month a year later). `None` for what is no version. Calls with a version that is off fail
    /// with `Config`, so warn some weeks before.
    #[must_use]
    pub fn sunset(version: &str) -> Option<Date> {
        descriptor::sunset(version)
    }
}

impl Platform for LinkedIn {
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

    fn sunset(&self) -> Option<Date> {
        Self::sunset(&self.descriptor.api_version)
    }
}

/// From an operator's settings.
impl TryFrom<Credentials> for LinkedIn {
    type Error = Error;

    fn try_from(credentials: Credentials) -> Result<Self, Error> {
        let mut builder = Self::builder(&credentials.client_id, credentials.secret());
        if let Some(base) = credentials.base_url {
            builder = builder.base_url(base);
        }
        if let Some(preset) = credentials.preset {
            builder = builder.preset(preset);
        }
        if let Some(version) = credentials.api_version {
            builder = builder.api_version(version);
        }
        builder.build()
    }
}

type Change = Box<dyn FnOnce(&mut PlatformDescriptor)>;

/// Puts a [`LinkedIn`] together.
#[must_use = "nothing happens before `build`"]
pub struct LinkedInBuilder {
    client_id: String,
    client_secret: Result<ClientSecret, SecretError>,
    preset: Option<String>,
    base_url: Option<Url>,
    api_version: String,
    change: Option<Change>,
}

impl LinkedInBuilder {
    /// The scope preset of connections that name none: `member` (the default) or `page`.
    pub fn preset(mut self, name: impl Into<String>) -> Self {
        self.preset = Some(name.into());
        self
    }

    /// One prefix for all of LinkedIn's hosts: a sandbox, a test or a proxy.
    pub fn base_url(mut self, url: Url) -> Self {
        self.base_url = Some(url);
        self
    }

    /// The version of the interface, `YYYYMM`.
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.api_version = version.into();
        self
    }

    /// Changes single facts: scopes that the app has beyond the presets, the quotas that LinkedIn granted it, limits that have moved.
    pub fn descriptor(mut self, change: impl FnOnce(&mut PlatformDescriptor) + 'static) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    /// Checks everything and builds.
    ///
    /// # Errors
    /// `Config` for missing credentials, an unknown preset, a version that is none, or an address that cannot be a prefix.
    pub fn build(self) -> Result<LinkedIn, Error> {
        let Self { client_id, client_secret, preset, base_url, api_version, change } = self;
        if client_id.trim().is_empty() {
            return Err(config("the LinkedIn client id is empty"));
        }
        let secret = client_secret.map_err(|e| config(format!("the LinkedIn client secret cannot be used: {e}")))?;
        let folded = base_url.is_some();
        let (www, api) = match base_url {
            Some(base) if base.cannot_be_a_base() || !base.has_host() => {
                return Err(config("the LinkedIn base URL is no web address"));
            }
            Some(base) => (base.clone(), base),
            None => (home("https://www.linkedin.com")?, home("https://api.linkedin.com")?),
        };
        let mut descriptor = descriptor::descriptor(&www, &api_version);
        if let Some(change) = change {
            change(&mut descriptor);
        }
        if descriptor::version_month(&descriptor.api_version).is_none() {
            return Err(config("a LinkedIn version is written as year and month, such as 202609"));
        }
        if let Some(name) = preset.filter(|name| !descriptor.oauth.make_default(name)) {
            return Err(config(format!("LinkedIn has no scope preset {name:?}")));
        }
        let api = Api::new(www, api, descriptor.api_version.clone(), folded);
        let oauth = OAuthClient::new(client_id, Some(secret), descriptor.oauth.clone());
        Ok(LinkedIn { descriptor, api, oauth })
    }
}

impl fmt::Debug for LinkedInBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client_id, preset, base_url, api_version, .. } = self;
        f.debug_struct("LinkedInBuilder")
            .field("client_id", client_id)
            .field("preset", preset)
            .field("base_url", base_url)
            .field("api_version", api_version)
            .finish_non_exhaustive()
    }
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "linkedin.build").message(message).effect_none()
}

fn home(raw: &str) -> Result<Url, Error> {
    Url::parse(raw).map_err(|e| config("LinkedIn's own address cannot be parsed").source(e))
}
