//! Keeps tokens fresh: opens them, refreshes them once for all who ask, and says when a person has to connect again.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    account::{TokenSet, Version},
    context::CallContext,
    error::{Error, ErrorKind},
    id::{ConnectionId, PlatformId},
    platform::Platform,
    store::TokenStore,
    vault::Vault,
};

/// The adapters of an installation by platform.
pub type Platforms = Arc<BTreeMap<PlatformId, Arc<dyn Platform>>>;

/// Opens and refreshes the tokens of connections.
#[derive(Debug)]
pub struct TokenKeeper {
    store: Arc<dyn TokenStore>,
    vault: Arc<Vault>,
    platforms: Platforms,
    cx: CallContext,
}

/// What [`TokenKeeper::sweep`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Grants that were refreshed.
    pub refreshed: usize,
    /// Grants that a person must renew.
    pub dead: usize,
    /// Refreshes that failed for now.
    pub failed: usize,
}

impl TokenKeeper {
    /// A keeper over a store.
    #[must_use]
    pub fn new(store: Arc<dyn TokenStore>, vault: Arc<Vault>, platforms: Platforms, cx: CallContext) -> Self {
        Self { store, vault, platforms, cx }
    }

    /// The tokens of a connection, good for at least the margin: refreshed first where that is due and possible. `known` is the version that
    /// the caller saw in the store: tokens of that version that are in memory and fresh are given without asking the store.
    ///
    /// # Errors
    /// `Reconnect` if the grant is dead, `Config` if our client is refused or the master key is missing, transient kinds if it could not be
    /// refreshed for now and the old token has ended.
    pub async fn tokens(&self, id: ConnectionId, known: Option<Version>) -> Result<Arc<TokenSet>, Error> {
        let _ = (id, known, &self.store, &self.vault, &self.platforms, &self.cx);
        Err(Error::new(ErrorKind::Unsupported, "keeper.tokens"))
    }

    /// The network refused `used`, which was believed to be valid: refreshes once for all who report it. Tokens that somebody replaced
    /// meanwhile are given as they are.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens).
    pub async fn refused(&self, id: ConnectionId, used: &TokenSet) -> Result<Arc<TokenSet>, Error> {
        let _ = (id, used);
        Err(Error::new(ErrorKind::Unsupported, "keeper.refused"))
    }

    /// Refreshes what would end soon and what was not used for a day. Run it every few minutes; safe in many processes at once.
    ///
    /// # Errors
    /// `Storage`. A grant that could not be refreshed is counted, not an error.
    pub async fn sweep(&self, limit: usize) -> Result<Swept, Error> {
        let _ = limit;
        Err(Error::new(ErrorKind::Unsupported, "keeper.sweep"))
    }
}
