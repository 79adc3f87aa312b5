//! Connecting accounts: sending a person to a network, and what happens when they come back.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use super::Social;
use crate::{
    account::{Account, AccountStatus, Connection, ConnectionStatus, TokenSet, Version},
    crypto,
    descriptor::RefreshStyle,
    error::{Actor, Error, ErrorKind, Retry},
    id::{AccountId, ConnectionId, PlatformId, UserId},
    keeper::token_binding,
    platform::{AuthorizeRequest, PendingAuthorization},
    secret::{AuthCode, OAuthState, PkceVerifier},
    store::{NewConnection, PendingRow, SealedTokens},
    time::{later, signed},
    vault::{Binding, Sealed},
};

/// How long a person may stay at the network.
const PENDING_LIFE: Duration = Duration::from_secs(10 * 60);

/// A person is about to be sent to a network.
#[derive(Debug)]
#[must_use = "nothing happens before `begin`"]
pub struct ConnectRequest<'a> {
    social: &'a Social,
    user: UserId,
    platform: String,
    callback: Option<String>,
    preset: Option<String>,
    context: Option<String>,
}

/// Where to send the browser, and the cookie that binds the answer to it. Prints neither.
pub struct Started {
    /// Where to send the browser.
    pub url: Url,
    /// Set this as an `HttpOnly`, `SameSite=Lax` cookie (`__Host-` and `Secure` on https) and give it back to [`Social::finish`].
    pub cookie: String,
    /// How long both are good.
    pub life: Duration,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("host", &self.url.host_str()).field("life", &self.life).finish_non_exhaustive()
    }
}

/// What a network appends to the callback address. Prints neither code nor state.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct CallbackQuery {
    /// The code, if the person agreed.
    pub code: Option<String>,
    /// Comes back as it was given.
    pub state: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// The network's sentence about it: untrusted text.
    pub error_description: Option<String>,
    /// Who answers (RFC 9207), where the network says so.
    pub iss: Option<String>,
}

impl fmt::Debug for CallbackQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackQuery")
            .field("code", &self.code.is_some())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl CallbackQuery {
    /// Reads the query part of the callback address.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let pairs: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let take = |name: &str| pairs.get(name).filter(|value| !value.is_empty()).cloned();
        Self {
            code: take("code"),
            state: take("state"),
            error: take("error"),
            error_description: take("error_description"),
            iss: take("iss"),
        }
    }
}

/// A grant and the accounts that it reaches.
#[derive(Debug, Clone)]
pub struct Connected {
    /// Whose they are.
    pub user: UserId,
    /// The grant.
    pub connection: Connection,
    /// The accounts.
    pub accounts: Vec<Account>,
    /// What was given to [`ConnectRequest::context`].
    pub context: Option<String>,
}

impl<'a> IntoIterator for &'a Connected {
    type Item = &'a Account;
    type IntoIter = std::slice::Iter<'a, Account>;
    fn into_iter(self) -> Self::IntoIter {
        self.accounts.iter()
    }
}

impl From<&Account> for AccountId {
    fn from(account: &Account) -> Self {
        account.id
    }
}

impl From<&AccountId> for AccountId {
    fn from(id: &AccountId) -> Self {
        *id
    }
}

/// Why a callback brought no accounts, with what the caller gave when it began, if the callback was ours.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct FinishError {
    /// Why.
    #[source]
    pub error: Error,
    /// A short name for a redirect: `access_denied`, `expired`, `network`, ...
    pub code: &'static str,
    /// What was given to [`ConnectRequest::context`]; `None` if the callback cannot be trusted.
    pub context: Option<String>,
}

impl From<FinishError> for Error {
    fn from(failed: FinishError) -> Self {
        failed.error
    }
}

/// The sealed record of a person who is away.
#[derive(Serialize, Deserialize)]
struct Away {
    redirect_uri: Url,
    preset: String,
    requested_scopes: Vec<String>,
    verifier: Option<String>,
    extras: BTreeMap<String, String>,
    cookie_hash: [u8; 32],
    context: Option<String>,
    /// Where the person was sent to.
    #[serde(default)]
    sent_to: Option<String>,
}

impl Away {
    /// Whether an answer that names its issuer (RFC 9207) is from the server that was asked: exactly the issuer that the adapter knows, or, where
    /// it knows none, one with the origin of the address that the person was sent to.
    fn came_from(&self, issuer: &str) -> bool {
        match (self.extras.get(ISSUER), &self.sent_to) {
            (Some(known), _) => known == issuer,
            (None, Some(origin)) => {
                Url::parse(issuer).is_ok_and(|issuer| issuer.origin().ascii_serialization() == *origin)
            }
            (None, None) => true,
        }
    }
}

/// The name under which an adapter notes in `extras` which issuer it expects.
const ISSUER: &str = "issuer";

fn pending_binding<'a>(user: UserId, platform: &'a PlatformId) -> Binding<'a> {
    let nobody = uuid::Uuid::nil();
    Binding {
        table: "pending_authorizations",
        column: "sealed",
        user: user.uuid(),
        connection: nobody,
        platform: platform.as_str(),
        version: 0,
    }
}

impl<'a> ConnectRequest<'a> {
    pub(super) fn new(social: &'a Social, user: UserId, platform: &str) -> Self {
        Self { social, user, platform: platform.to_owned(), callback: None, preset: None, context: None }
    }

    /// Where the network sends the person back to. It must be registered with the network, to the letter.
    pub fn callback(mut self, url: &str) -> Self {
        self.callback = Some(url.to_owned());
        self
    }

    /// Which scope preset; the network's default for `None`.
    pub fn preset(mut self, preset: Option<&str>) -> Self {
        self.preset = preset.map(str::to_owned);
        self
    }

    /// Something of the caller's that comes back with [`Connected`], such as where to go afterwards. It is sealed.
    pub fn context(mut self, context: Option<String>) -> Self {
        self.context = context;
        self
    }

    /// Asks the adapter for the address and remembers, sealed, who was sent where. Good for ten minutes and one use.
    ///
    /// # Errors
    /// `NotFound` for an unknown platform, `Invalid` for a bad callback or preset, `Storage`.
    pub async fn begin(self) -> Result<Started, Error> {
        const OPERATION: &str = "connect.begin";
        let inner = &self.social.inner;
        let id = PlatformId::parse(&self.platform).map_err(|e| Error::invalid(OPERATION, e.to_string()))?;
        let platform = inner.platform(&id)?;
        let callback = self.callback.ok_or_else(|| Error::invalid(OPERATION, "the callback address is missing"))?;
        let callback =
            Url::parse(&callback).map_err(|_| Error::invalid(OPERATION, "the callback address is not a URL"))?;
        let (state, cookie) = (crypto::random_token(32), crypto::random_token(32));
        let unusable = |e| Error::new(ErrorKind::Unexpected, OPERATION).source(e).effect_none();
        let request =
            AuthorizeRequest::new(callback, OAuthState::new(state.clone()).map_err(unusable)?).preset(self.preset);
        let authorization = platform.connect().authorize(&inner.cx, &request).await?;
        let PendingAuthorization { platform, redirect_uri, preset, requested_scopes, verifier, extras } =
            authorization.pending;
        let away = Away {
            redirect_uri,
            preset,
            requested_scopes,
            verifier: verifier.map(|verifier| verifier.expose().to_owned()),
            extras,
            cookie_hash: crypto::sha256(cookie.as_bytes()),
            context: self.context,
            sent_to: Some(authorization.url.origin().ascii_serialization()),
        };
        let plain =
            zeroize::Zeroizing::new(serde_json::to_vec(&away).map_err(|e| Error::invalid(OPERATION, e.to_string()))?);
        let sealed = inner.vault.seal(&pending_binding(self.user, &platform), &plain).await?;
        let now = inner.cx.now();
        let row = PendingRow {
            key: crypto::sha256(state.as_bytes()),
            user: self.user,
            platform,
            sealed: sealed.as_bytes().to_vec(),
            expires_at: later(now, signed(PENDING_LIFE)),
        };
        inner.store.insert_pending(&row).await?;
        Ok(Started { url: authorization.url, cookie, life: PENDING_LIFE })
    }
}

impl Social {
    /// Takes a person back who was sent to a network: checks that this browser began it, trades the code for tokens, seals them, and finds the
    /// accounts. Accounts that were connected before keep their ids, and their waiting posts go on. Works once per `begin`.
    ///
    /// # Errors
    /// [`FinishError`] with `code` `access_denied` if the person said no, `expired` for a state that is foreign, used, too old or from another
    /// browser or platform, `no_accounts` if the grant reaches none, `network` otherwise.
    pub async fn finish(&self, platform: &str, query: &CallbackQuery, cookie: &str) -> Result<Connected, FinishError> {
        let distrust = |why: &'static str| FinishError {
            error: Error::new(ErrorKind::Rejected, "connect.finish")
                .message(why)
                .advice("This connection attempt is no longer valid. Please start connecting again.")
                .effect_none(),
            code: "expired",
            context: None,
        };
        let fail = |error: Error, code, context: &Option<String>| FinishError { error, code, context: context.clone() };
        let inner = &self.inner;
        let id = PlatformId::parse(platform).map_err(|_| distrust("there is no such platform"))?;
        let adapter = inner.platform(&id).map_err(|_| distrust("there is no such platform"))?;
        let state = query.state.as_deref().ok_or_else(|| distrust("the state is missing"))?;
        let now = inner.cx.now();
        let row = inner.store.take_pending(&crypto::sha256(state.as_bytes()), now).await;
        let row = row.map_err(|error| fail(error, "storage", &None))?;
        let row = row.ok_or_else(|| distrust("the state is unknown, used or expired"))?;
        if row.platform != id {
            return Err(distrust("the state belongs to another platform"));
        }
        let plain = match Sealed::from_bytes(row.sealed) {
            Ok(sealed) => inner.vault.open(&pending_binding(row.user, &id), &sealed).await,
            Err(error) => Err(error),
        };
        let plain = plain.map_err(|error| fail(error.into(), "storage", &None))?;
        let away: Away =
            serde_json::from_slice(&plain).map_err(|_| distrust("the record of this attempt cannot be read"))?;
        if !crypto::same_bytes(&away.cookie_hash, &crypto::sha256(cookie.as_bytes())) {
            return Err(distrust("the attempt was begun in another browser"));
        }
        if query.iss.as_deref().is_some_and(|issuer| !away.came_from(issuer)) {
            return Err(distrust("the answer comes from another server than the one that was asked"));
        }
        let context = away.context.clone();

        if let Some(refused) = &query.error {
            return Err(self.denied(adapter.descriptor().name.as_str(), refused, context));
        }
        let code = query.code.clone().and_then(AuthCode::parse).ok_or_else(|| distrust("the code is missing"))?;
        let pending = PendingAuthorization {
            platform: id.clone(),
            redirect_uri: away.redirect_uri,
            preset: away.preset,
            requested_scopes: away.requested_scopes,
            verifier: away.verifier.and_then(PkceVerifier::parse),
            extras: away.extras,
        };
        let tokens = adapter.connect().exchange(&inner.cx, code, &pending).await;
        let tokens = tokens.map_err(|error| fail(error, "network", &context))?;
        let profiles = adapter.connect().accounts(&inner.cx, &tokens).await;
        let profiles = profiles.map_err(|error| fail(error, "network", &context))?;
        if profiles.is_empty() {
            let error = Error::new(ErrorKind::Permission, "connect.accounts")
                .message("the grant reaches no account")
                .advice("There is no account that this login may post for. Please log in as somebody who may.")
                .effect_none();
            return Err(fail(error, "no_accounts", &context));
        }
        let connection = self.keep_grant(row.user, &pending, &tokens, &profiles[0].remote_id).await;
        let connection = connection.map_err(|error| fail(error, "storage", &context))?;
        let status =
            if connection.status == ConnectionStatus::Limited { AccountStatus::Limited } else { AccountStatus::Active };
        let saved = async {
            let accounts = inner.store.save_accounts(connection.id, &profiles, status, now).await?;
            for account in &accounts {
                inner.store.release_reconnected(account.id, now).await?;
            }
            Ok(accounts)
        };
        let accounts = saved.await.map_err(|error| fail(error, "storage", &context))?;
        tracing::info!(user.id = %row.user, platform.id = %id, accounts = accounts.len(), "accounts of {id} were connected");
        Ok(Connected { user: row.user, connection, accounts, context })
    }

    fn denied(&self, name: &str, refused: &str, context: Option<String>) -> FinishError {
        // The network's own sentence is untrusted and stays out of everything.
        let by_person = ["access_denied", "user_cancelled_login", "user_cancelled_authorize"].contains(&refused);
        let (kind, code) = match refused {
            _ if by_person => (ErrorKind::Rejected, "access_denied"),
            "unauthorized_scope_error" | "invalid_scope" => (ErrorKind::Config, "scope_not_allowed"),
            _ => (ErrorKind::Rejected, "network"),
        };
        let advice = match code {
            "access_denied" => format!("{name} was not connected because access was not allowed."),
            "scope_not_allowed" => {
                format!(
                    "{name} does not let this app ask for these permissions. Whoever runs the installation has to apply for them."
                )
            }
            _ => format!("{name} did not connect. Please try again."),
        };
        let error = Error::new(kind, "connect.consent")
            .message("the network sent the person back without a code")
            .advice(advice);
        FinishError { error: error.retry(Retry::Never).actor(Actor::User).effect_none(), code, context }
    }

    async fn keep_grant(
        &self,
        user: UserId,
        pending: &PendingAuthorization,
        tokens: &TokenSet,
        remote: &str,
    ) -> Result<Connection, Error> {
        let inner = &self.inner;
        let now = inner.cx.now();
        let id = ConnectionId::new();
        let style = inner.platform(&pending.platform)?.descriptor().tokens.refresh;
        // Where the access token itself is exchanged, there is no refresh token and a person is not needed all the same.
        let exchanges = style == RefreshStyle::Exchange;
        let granted = if tokens.scopes.is_empty() { pending.requested_scopes.clone() } else { tokens.scopes.clone() };
        let mut connection = Connection {
            id,
            user,
            platform: pending.platform.clone(),
            preset: pending.preset.clone(),
            status: ConnectionStatus::Active,
            requested_scopes: pending.requested_scopes.clone(),
            granted_scopes: granted,
            expires_at: tokens.expires_at,
            refresh_expires_at: tokens.refresh_expires_at,
            refreshable: tokens.refresh.is_some() || exchanges,
            version: Version::FIRST,
            created_at: now,
            updated_at: now,
        };
        if !connection.missing_scopes().is_empty() {
            connection.status = ConnectionStatus::Limited;
        }
        let binding = token_binding(user, id, &pending.platform, Version::FIRST);
        let sealed = inner.vault.seal(&binding, &tokens.to_plain()).await?;
        let new = NewConnection { connection, tokens: SealedTokens(sealed), remote_user: remote.to_owned() };
        inner.store.insert(&new).await?;
        Ok(new.connection)
    }
}
