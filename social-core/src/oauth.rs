//! The parts of OAuth that networks share, on the `oauth2` crate but over our own HTTP layer. An adapter handles only its quirks.
//!
//! The crate builds addresses, challenges and token requests. Answers are read here, since networks write them in more ways than the
//! standard knows: numbers as text, scopes separated by commas, errors with status 200.

mod fault;
mod reply;

pub use self::{
    fault::{FaultTable, OAuthFault},
    reply::{read_scopes, read_tokens},
};

use std::{
    borrow::Cow,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, CsrfToken, EndpointNotSet, EndpointSet,
    HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenUrl, basic::BasicClient,
};
use url::Url;

use self::fault::Call;
use crate::{
    account::TokenSet,
    context::CallContext,
    descriptor::{ClientAuth, OAuthFacts, Pkce},
    error::{Actor, Error, ErrorKind, Retry},
    http::{Body, Reply},
    id::PlatformId,
    platform::{Authorization, AuthorizeRequest, PendingAuthorization},
    secret::{AuthCode, ClientSecret, PkceVerifier},
    time::BoxFuture,
};

/// Deadline of a call to a token endpoint. A refresh lease is three times as long.
pub const TOKEN_DEADLINE: Duration = Duration::from_secs(20);
/// Longest answer of a token endpoint that is read.
const TOKEN_BODY_CAP: usize = 64 * 1024;

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
    /// `Invalid` for an unknown preset, `Config` for an address that is none.
    pub fn authorize(
        &self,
        platform: &PlatformId,
        request: &AuthorizeRequest,
        extra: &[(&str, &str)],
    ) -> Result<Authorization, Error> {
        const OPERATION: &str = "oauth.authorize";
        let preset = self.facts.preset(request.preset.as_deref()).ok_or_else(|| {
            let names: Vec<_> = self.facts.presets.iter().map(|preset| preset.name.as_str()).collect();
            Error::invalid(OPERATION, format!("there is no such preset; {platform} has {}", names.join(", ")))
        })?;
        let address =
            AuthUrl::new(self.facts.authorize_url.clone()).map_err(|_| bad_address(OPERATION, "authorize"))?;
        let redirect = RedirectUrl::from_url(request.redirect_uri.clone());
        let client = BasicClient::new(ClientId::new(self.id.clone())).set_auth_uri(address).set_redirect_uri(redirect);
        let state = CsrfToken::new(request.state.expose().to_owned());
        let mut builder = client.authorize_url(|| state);
        if self.facts.scope_separator == ' ' {
            builder = builder.add_scopes(preset.scopes.iter().cloned().map(Scope::new));
        } else {
            builder = builder.add_extra_param("scope", preset.scopes.join(&self.facts.scope_separator.to_string()));
        }
        let mut verifier = None;
        if self.facts.pkce == Pkce::S256 {
            let (challenge, made) = PkceCodeChallenge::new_random_sha256();
            let made = PkceVerifier::new(made.secret().as_str());
            verifier = Some(made.map_err(|e| Error::new(ErrorKind::Unexpected, OPERATION).source(e).effect_none())?);
            builder = builder.set_pkce_challenge(challenge);
        }
        for &(name, value) in extra {
            builder = builder.add_extra_param(name, value);
        }
        let (mut url, _) = builder.url();
        // A blank is `+` only in forms. Some networks read addresses by the stricter rule; a literal plus is `%2B` here already.
        let query = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(query.as_deref());
        let pending = PendingAuthorization {
            platform: platform.clone(),
            redirect_uri: request.redirect_uri.clone(),
            preset: preset.name.clone(),
            requested_scopes: preset.scopes.clone(),
            verifier,
            extras: std::collections::BTreeMap::new(),
        };
        Ok(Authorization { url, pending })
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
        const OPERATION: &str = "oauth.exchange";
        let client = self.token_client(OPERATION)?;
        let line = Line::new(cx, OPERATION);
        let mut request = client
            .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
            .set_redirect_uri(Cow::Owned(RedirectUrl::from_url(pending.redirect_uri.clone())));
        if let Some(verifier) = &pending.verifier {
            request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()));
        }
        // The crate's own reading of the answer is stricter than the networks' writing: only its request is used.
        let _ = request.request_async(&line).await;
        self.tokens(Call::Exchange, line)
    }

    /// Trades the refresh token for new tokens, once. An answer without a refresh token keeps the old one; extras are kept.
    ///
    /// # Errors
    /// See [`crate::platform::Connect::refresh`]; `Reconnect` also for a grant that never had a refresh token. The effect is none if the
    /// network provably did not renew anything, so that the same refresh token may be used again without doubt.
    pub async fn refresh(&self, cx: &CallContext, current: &TokenSet) -> Result<TokenSet, Error> {
        const OPERATION: &str = "oauth.refresh";
        let Some(refresh) = &current.refresh else {
            return Err(Error::new(ErrorKind::Reconnect, OPERATION)
                .message("the grant has no refresh token")
                .effect_none());
        };
        let client = self.token_client(OPERATION)?;
        let line = Line::new(cx, OPERATION);
        let token = oauth2::RefreshToken::new(refresh.expose().to_owned());
        let _ = client.exchange_refresh_token(&token).request_async(&line).await;
        self.tokens(Call::Refresh, line).map(|new| reply::renewed(current, new))
    }

    /// Revokes a token at the network's revoke address (RFC 7009). A token that is unknown there is a success.
    ///
    /// # Errors
    /// `Unsupported` where there is no such address; `Config` or transient kinds otherwise.
    pub async fn revoke(&self, cx: &CallContext, token: &str) -> Result<(), Error> {
        const OPERATION: &str = "oauth.revoke";
        let Some(address) = &self.facts.revoke_url else {
            return Err(Error::new(ErrorKind::Unsupported, OPERATION)
                .message("the network has no address for that")
                .effect_none());
        };
        let address = Url::parse(address).map_err(|_| bad_address(OPERATION, "revoke"))?;
        let mut form = vec![("token", token)];
        let mut request = cx.http().post(OPERATION, address).deadline(TOKEN_DEADLINE).body_cap(TOKEN_BODY_CAP);
        match (&self.secret, self.facts.client_auth) {
            (Some(secret), ClientAuth::Basic) => request = request.basic(&self.id, secret),
            (Some(secret), ClientAuth::Body) => {
                form.extend([("client_id", self.id.as_str()), ("client_secret", secret.expose())])
            }
            (None, _) => form.push(("client_id", self.id.as_str())),
        }
        let reply = request.form(form).send().await?;
        if reply.is_success() && OAuthFault::read(&reply).error.is_none() {
            return Ok(());
        }
        match fault::classify(Call::Revoke, &reply, self.faults) {
            // Gone already is what was wanted.
            error if error.kind() == ErrorKind::Reconnect => Ok(()),
            error => Err(error),
        }
    }

    fn token_client(
        &self,
        operation: &'static str,
    ) -> Result<BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>, Error> {
        let address = TokenUrl::new(self.facts.token_url.clone()).map_err(|_| bad_address(operation, "token"))?;
        let auth = match self.facts.client_auth {
            ClientAuth::Basic => AuthType::BasicAuth,
            ClientAuth::Body => AuthType::RequestBody,
        };
        let mut client = BasicClient::new(ClientId::new(self.id.clone())).set_token_uri(address).set_auth_type(auth);
        if let Some(secret) = &self.secret {
            client = client.set_client_secret(oauth2::ClientSecret::new(secret.expose().to_owned()));
        }
        Ok(client)
    }

    fn tokens(&self, call: Call, line: Line<'_>) -> Result<TokenSet, Error> {
        let reply = line.finish()?;
        // Some networks refuse with status 200.
        if !reply.is_success() || OAuthFault::read(&reply).error.is_some() {
            return Err(fault::classify(call, &reply, self.faults));
        }
        read_tokens(&reply)
    }
}

fn bad_address(operation: &'static str, which: &str) -> Error {
    Error::new(ErrorKind::Config, operation)
        .message(format!("the {which} address of the network is not a URL"))
        .retry(Retry::Never)
        .actor(Actor::Operator)
        .effect_none()
}

/// Carries the crate's request over our HTTP layer and keeps the answer for our own reading.
struct Line<'a> {
    cx: &'a CallContext,
    operation: &'static str,
    outcome: Mutex<Option<Result<Reply, Error>>>,
}

/// Tells the crate that there is nothing for it to read.
#[derive(Debug, thiserror::Error)]
#[error("the answer was taken")]
struct Taken;

impl<'a> Line<'a> {
    fn new(cx: &'a CallContext, operation: &'static str) -> Self {
        Self { cx, operation, outcome: Mutex::new(None) }
    }

    fn finish(self) -> Result<Reply, Error> {
        let outcome = self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.unwrap_or_else(|| {
            Err(Error::invalid(self.operation, "the token request could not be built").actor(Actor::Operator))
        })
    }

    async fn carry(&self, request: HttpRequest) -> Result<Reply, Error> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string()).map_err(|_| bad_address(self.operation, "token"))?;
        let mut ours = self.cx.http().request(self.operation, head.method, url);
        for name in ["accept", "content-type", "authorization"] {
            if let Some(value) = head.headers.get(name).and_then(|value| value.to_str().ok()) {
                ours = ours.header(name, value);
            }
        }
        ours.body(Body::Bytes(body.into())).deadline(TOKEN_DEADLINE).body_cap(TOKEN_BODY_CAP).send().await
    }
}

impl<'c> AsyncHttpClient<'c> for Line<'_> {
    type Error = Taken;
    type Future = BoxFuture<'c, Result<HttpResponse, Taken>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let outcome = self.carry(request).await;
            *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            Err(Taken)
        })
    }
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("operation", &self.operation).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
