//! Opened tokens in memory.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    account::{TokenSet, Version},
    id::ConnectionId,
};

/// Beyond this many, tokens are opened again when they are needed: that costs microseconds.
const MOST: usize = 8192;

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<ConnectionId, Entry>,
    /// Tokens that a network gave and the store has not taken yet. The only copy.
    unsaved: HashMap<ConnectionId, (Version, Arc<TokenSet>)>,
}

#[derive(Debug)]
struct Entry {
    version: Version,
    tokens: Arc<TokenSet>,
    /// Until when they may be given out without looking into the store.
    fresh_until: Option<Timestamp>,
}

impl Cache {
    /// Tokens that are at least as new as `known` and need no look into the store.
    pub(super) fn fresh(&self, id: ConnectionId, known: Option<Version>, now: Timestamp) -> Option<Arc<TokenSet>> {
        // Version 0 is how a claim says that the connection was erased: only the store knows what is true then.
        let known = match known {
            Some(Version(0)) => return None,
            known => known,
        };
        // Newer than anything in the store, which may be out of reach.
        if let Some((seen, tokens)) = self.unsaved.get(&id)
            && known.is_none_or(|known| known <= *seen)
        {
            return Some(Arc::clone(tokens));
        }
        let entry = self.entries.get(&id)?;
        let fresh =
            known.is_some_and(|known| entry.version >= known) && entry.fresh_until.is_none_or(|until| now < until);
        fresh.then(|| Arc::clone(&entry.tokens))
    }

    /// Tokens of exactly this version, fresh or not.
    pub(super) fn opened(&self, id: ConnectionId, version: Version) -> Option<Arc<TokenSet>> {
        self.entries.get(&id).filter(|entry| entry.version == version).map(|entry| Arc::clone(&entry.tokens))
    }

    pub(super) fn keep(
        &mut self,
        id: ConnectionId,
        version: Version,
        tokens: &Arc<TokenSet>,
        fresh_until: Option<Timestamp>,
    ) {
        if self.entries.len() >= MOST && !self.entries.contains_key(&id) {
            self.entries.clear();
        }
        self.entries.insert(id, Entry { version, tokens: Arc::clone(tokens), fresh_until });
    }

    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.entries.remove(&id);
        self.unsaved.remove(&id);
    }

    /// Remembers tokens that replace those of `seen` and could not be stored.
    pub(super) fn keep_unsaved(&mut self, id: ConnectionId, seen: Version, tokens: &Arc<TokenSet>) {
        self.unsaved.insert(id, (seen, Arc::clone(tokens)));
    }

    pub(super) fn unsaved(&self, id: ConnectionId, seen: Version) -> Option<Arc<TokenSet>> {
        self.unsaved.get(&id).filter(|(version, _)| *version == seen).map(|(_, tokens)| Arc::clone(tokens))
    }

    pub(super) fn forget_unsaved(&mut self, id: ConnectionId) {
        self.unsaved.remove(&id);
    }
}
