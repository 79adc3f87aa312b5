//! The parts of OAuth that networks share, on the `oauth2` crate but over our own HTTP layer. An adapter handles only its quirks.

use crate::{
    account::TokenSet,
    context::CallContext,
    descriptor::OAuthFacts,
    error::{Error, ErrorKind},
    http::Reply,
    id::PlatformId,
    platform::{Authorization, AuthorizeRequest, PendingAuthorization},
    secret::{AuthCode, ClientSecret},
};

/// What a token endpoint says when it refuses (RFC 6749 section 5.2). Both fields are untrusted text.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct OAuthFault {
    /// The code, such as `invalid_grant`.
    pub error: Option<String>,
    /// The network's sentence.
    pub error_description: Option<String>,
}

/// A network's own rows of the error table for its token endpoint; `None` leaves the answer to the general rows.
pub type FaultTable = fn(&Reply, &OAuthFault) -> Option<Error>;

/// A client registered with a network.
#[derive(Debug)]
pub struct OAuthClient {
    id: String,
    secret: Option<ClientSecret>,
    facts: OAuthFacts,
    faults: FaultTable,
}

impl OAuthClient {
    /// A client with the network's facts (addresses, PKCE, authentication, presets).
    #[must_use]
    pub fn new(id: impl Into<String>, secret: Option<ClientSecret>, facts: OAuthFacts) -> Self {
        Self { id: id.into(), secret, facts, faults: |_, _| None }
    }

    /// Adds the network's own rows to the error table.
    #[must_use]
    pub fn faults(mut self, faults: FaultTable) -> Self {
        self.faults = faults;
        self
    }

    /// Builds the address to send the person to, with `extra` pairs in its query. Pure but for the verifier, which is fresh each time.
    ///
    /// # Errors
    /// `Invalid` for an unknown preset.
    pub fn authorize(
        &self,
        platform: &PlatformId,
        request: &AuthorizeRequest,
        extra: &[(&str, &str)],
    ) -> Result<Authorization, Error> {
        let _ = (platform, request, extra);
        Err(Error::new(ErrorKind::Unsupported, "oauth.authorize"))
    }

    /// Trades a code for tokens, once.
    ///
    /// # Errors
    /// See [`crate::platform::Connect::exchange`].
    pub async fn exchange(
        &self,
        cx: &CallContext,
        code: AuthCode,
        pending: &PendingAuthorization,
    ) -> Result<TokenSet, Error> {
        let _ = (cx, code, pending);
        Err(Error::new(ErrorKind::Unsupported, "oauth.exchange"))
    }

    /// Trades the refresh token for new tokens, once. An answer without a refresh token keeps the old one; extras are kept.
    ///
    /// # Errors
    /// See [`crate::platform::Connect::refresh`].
    pub async fn refresh(&self, cx: &CallContext, current: &TokenSet) -> Result<TokenSet, Error> {
        let _ = (cx, current);
        Err(Error::new(ErrorKind::Unsupported, "oauth.refresh"))
    }

    /// Revokes a token at the network's revoke address (RFC 7009). A token that is unknown there is a success.
    ///
    /// # Errors
    /// `Unsupported` where there is no such address; `Config` or transient kinds otherwise.
    pub async fn revoke(&self, cx: &CallContext, token: &str) -> Result<(), Error> {
        let _ = (cx, token);
        Err(Error::new(ErrorKind::Unsupported, "oauth.revoke"))
    }
}
