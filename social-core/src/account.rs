//! Connections, the accounts that are reached through them, and the tokens that they hold.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    id::{AccountId, ConnectionId, PlatformId, UserId},
    secret::{AccessToken, RefreshToken},
    time::{later, signed},
};

/// What kind of place an account is. Networks use one or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AccountKind {
    /// A person's profile.
    Profile,
    /// A LinkedIn member.
    Member,
    /// A company or other organization.
    Organization,
    /// A Facebook Page.
    Page,
    /// An Instagram professional account.
    Professional,
    /// A video channel.
    Channel,
    /// A TikTok creator.
    Creator,
}

impl AccountKind {
    /// The name as it is stored and shown in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Member => "member",
            Self::Organization => "organization",
            Self::Page => "page",
            Self::Professional => "professional",
            Self::Channel => "channel",
            Self::Creator => "creator",
        }
    }
}

/// What a network tells about an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountProfile {
    /// The network's id of the account.
    pub remote_id: String,
    /// What kind of place it is.
    pub kind: AccountKind,
    /// The name in addresses and mentions, without `@`, if the network has one.
    pub handle: Option<String>,
    /// The name that people read.
    pub display_name: String,
    /// A picture; its address may expire.
    pub avatar_url: Option<String>,
    /// Facts that the adapter needs when it validates or publishes, such as a subscription level.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// Whether posts can go to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AccountStatus {
    /// Yes.
    Active,
    /// Yes, but a permission that was asked for is missing; the connection says which.
    Limited,
    /// Not until the user connects again.
    NeedsReconnect,
    /// The user disconnected it.
    Disconnected,
}

impl AccountStatus {
    /// The name as it is stored and shown in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Limited => "limited",
            Self::NeedsReconnect => "needs_reconnect",
            Self::Disconnected => "disconnected",
        }
    }
}

/// A place where a post can appear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Our id.
    pub id: AccountId,
    /// Whose it is.
    pub user: UserId,
    /// Through which grant it is reached.
    pub connection: ConnectionId,
    /// On which network.
    pub platform: PlatformId,
    /// What the network tells about it.
    pub profile: AccountProfile,
    /// Whether posts can go there.
    pub status: AccountStatus,
    /// When it was first connected.
    pub created_at: Timestamp,
}

/// The state of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConnectionStatus {
    /// It works.
    Active,
    /// It works for less than was asked for.
    Limited,
    /// The network does not accept it any more.
    NeedsReconnect,
}

impl ConnectionStatus {
    /// The name as it is stored and shown in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Limited => "limited",
            Self::NeedsReconnect => "needs_reconnect",
        }
    }
}

/// Counts the changes of a connection's tokens, for compare-and-swap. Starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// The version of tokens that were never replaced.
    pub const FIRST: Self = Self(1);

    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One OAuth grant, without its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Our id.
    pub id: ConnectionId,
    /// Whose grant it is.
    pub user: UserId,
    /// Which network gave it.
    pub platform: PlatformId,
    /// The scope preset that was asked for.
    pub preset: String,
    /// Whether it works.
    pub status: ConnectionStatus,
    /// What was asked for.
    pub requested_scopes: Vec<String>,
    /// What was given.
    pub granted_scopes: Vec<String>,
    /// When the access token ends.
    pub expires_at: Option<Timestamp>,
    /// When the refresh token ends, if the network says so.
    pub refresh_expires_at: Option<Timestamp>,
    /// Whether the grant can be refreshed without a person.
    pub refreshable: bool,
    /// The version of its tokens.
    pub version: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its tokens last changed.
    pub updated_at: Timestamp,
}

impl Connection {
    /// Scopes that were asked for and not given.
    #[must_use]
    pub fn missing_scopes(&self) -> Vec<String> {
        self.requested_scopes.iter().filter(|scope| !self.granted_scopes.contains(scope)).cloned().collect()
    }

    /// When a person must connect again, if that is known: `None` while refreshing is automatic.
    #[must_use]
    pub fn act_by(&self) -> Option<Timestamp> {
        match (self.status, self.refreshable) {
            (ConnectionStatus::NeedsReconnect, _) => Some(self.updated_at),
            (_, true) => self.refresh_expires_at,
            (_, false) => self.expires_at,
        }
    }
}

/// The tokens of a grant, in the clear, for the moment in which they are used. Serialised only into a vault.
#[derive(Clone)]
pub struct TokenSet {
    /// Authorises calls.
    pub access: AccessToken,
    /// Gets the next access token, where the network gives one.
    pub refresh: Option<RefreshToken>,
    /// When `access` ends.
    pub expires_at: Option<Timestamp>,
    /// When `refresh` ends.
    pub refresh_expires_at: Option<Timestamp>,
    /// What was granted; empty where the network does not say.
    pub scopes: Vec<String>,
    /// Secrets of the connection that a network needs besides (a signing key, a server address), by name.
    pub extras: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct PlainTokens {
    access: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh: Option<String>,
    expires_at: Option<Timestamp>,
    refresh_expires_at: Option<Timestamp>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    extras: BTreeMap<String, String>,
}

impl TokenSet {
    /// A bearer token that lives for `life`.
    #[must_use]
    pub fn bearer(access: AccessToken, life: Option<Duration>, now: Timestamp) -> Self {
        Self {
            access,
            refresh: None,
            expires_at: life.map(|life| later(now, signed(life))),
            refresh_expires_at: None,
            scopes: Vec::new(),
            extras: BTreeMap::new(),
        }
    }

    /// The bytes that a vault seals.
    #[must_use]
    pub fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        let plain = PlainTokens {
            access: self.access.expose().to_owned(),
            refresh: self.refresh.as_ref().map(|token| token.expose().to_owned()),
            expires_at: self.expires_at,
            refresh_expires_at: self.refresh_expires_at,
            scopes: self.scopes.clone(),
            extras: self.extras.clone(),
        };
        #[expect(clippy::expect_used, reason = "strings, instants and maps of strings always serialise")]
        let json = serde_json::to_vec(&plain).expect("plain data");
        let PlainTokens { access, refresh, extras, .. } = plain;
        drop((Zeroizing::new(access), refresh.map(Zeroizing::new)));
        extras.into_values().for_each(|value| drop(Zeroizing::new(value)));
        Zeroizing::new(json)
    }

    /// Reads what [`to_plain`](Self::to_plain) wrote. `None` if the bytes are something else.
    #[must_use]
    pub fn from_plain(bytes: &[u8]) -> Option<Self> {
        let plain: PlainTokens = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            access: AccessToken::parse(plain.access)?,
            refresh: plain.refresh.and_then(RefreshToken::parse),
            expires_at: plain.expires_at,
            refresh_expires_at: plain.refresh_expires_at,
            scopes: plain.scopes,
            extras: plain.extras,
        })
    }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSet")
            .field("access", &self.access)
            .field("refresh", &self.refresh)
            .field("expires_at", &self.expires_at)
            .field("scopes", &self.scopes)
            .field("extras", &self.extras.keys())
            .finish_non_exhaustive()
    }
}
