#![doc = include_str!("../README.md")]

mod analytics;
mod connect;
mod descriptor;
mod error;
mod publish;
mod wire;

use social_core::{
    Analytics, ClientSecret, Connect, Credentials, Error, ErrorKind, Platform, PlatformDescriptor, Publish,
    http::Reply, oauth::OAuthClient,
};
use url::Url;

/// The network Chirp.
#[derive(Debug)]
pub struct Chirp {
    descriptor: PlatformDescriptor,
    oauth: OAuthClient,
    /// Where programs talk to it.
    api: Url,
    /// Where people look at it.
    site: Url,
}

impl Chirp {
    /// Begins with the credentials of an app from Chirp's developer page.
    pub fn builder(client_id: impl Into<String>, client_secret: impl Into<String>) -> ChirpBuilder {
        ChirpBuilder { client_id: client_id.into(), client_secret: ClientSecret::parse(client_secret), base_url: None }
    }

    /// An address of the interface; each piece of the path is percent-encoded.
    fn endpoint(&self, path: &[&str]) -> Url {
        below(&self.api, path)
    }

    /// Where people find a post.
    fn permalink(&self, handle: &str, id: &str) -> String {
        below(&self.site, &[&format!("@{handle}"), id]).into()
    }
}

impl Platform for Chirp {
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

/// Puts [`Chirp`] together.
#[derive(Debug)]
#[must_use = "nothing happens before `build`"]
pub struct ChirpBuilder {
    client_id: String,
    client_secret: Option<ClientSecret>,
    base_url: Option<Url>,
}

impl ChirpBuilder {
    /// One prefix instead of all hosts of the network, for tests.
    pub fn base_url(mut self, url: Url) -> Self {
        self.base_url = Some(url);
        self
    }

    /// Checks what was given.
    ///
    /// # Errors
    /// `Config` if a credential is empty or the base is no web address.
    pub fn build(self) -> Result<Chirp, Error> {
        let wrong = |message: &'static str| Error::new(ErrorKind::Config, "chirp.build").message(message).effect_none();
        if self.client_id.trim().is_empty() {
            return Err(wrong("the client id is empty"));
        }
        let secret =
            self.client_secret.ok_or_else(|| wrong("the client secret is empty or holds control characters"))?;
        let live = |host: &str| Url::parse(host).map_err(|_| wrong("an address of Chirp cannot be parsed"));
        let (api, site) = match self.base_url {
            Some(base) if !base.has_host() => return Err(wrong("the base is no web address")),
            Some(base) => (base.clone(), base),
            None => (live("https://api.chirp.example")?, live("https://chirp.example")?),
        };
        let descriptor = descriptor::descriptor(&api);
        let oauth = OAuthClient::new(self.client_id, Some(secret), descriptor.oauth.clone());
        Ok(Chirp { descriptor, oauth, api, site })
    }
}

/// From an operator's settings. Chirp has neither presets nor versions to choose from.
impl TryFrom<Credentials> for Chirp {
    type Error = Error;

    fn try_from(credentials: Credentials) -> Result<Self, Error> {
        if credentials.api_version.is_some() || credentials.preset.as_deref().is_some_and(|name| name != "publish") {
            let message = "Chirp has one preset, `publish`, and one version: leave them out";
            return Err(Error::new(ErrorKind::Config, "chirp.build").message(message).effect_none());
        }
        let mut builder = Self::builder(&credentials.client_id, credentials.secret());
        if let Some(base) = credentials.base_url {
            builder = builder.base_url(base);
        }
        builder.build()
    }
}

fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    // The builder accepts only addresses with a host, and those have paths.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// The answer of an invisible call; anything but 2xx is an error of the table.
fn succeeded(reply: Reply) -> Result<Reply, Error> {
    if reply.is_success() { Ok(reply) } else { Err(error::classify(&reply)) }
}
