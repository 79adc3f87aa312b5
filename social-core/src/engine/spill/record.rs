//! What is kept, as a line of text.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::late::Late;
use crate::{
    account::{ConnectionStatus, Version},
    crypto::sha256,
    error::Error,
    id::{ConnectionId, LogId},
    phase::PhaseName,
    store::{PhaseWrite, SealedTokens, Store, Swap, TokenUpdate},
    vault::Sealed,
};

/// Version of the lines' form.
const FORM: &str = "v1";

/// The doubt that an outcome ends: where the delivery stood, and when the visible call was permitted. It tells this call from later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) before: PhaseName,
    pub(crate) since: Option<Timestamp>,
}

/// What tells records apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Outcome(LogId),
    Tokens(ConnectionId, Version),
}

/// One thing that the store has to learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
// Not tagged from inside: a checkpoint is JSON that is carried along unread, which cannot be looked for behind a tag.
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Outcome { before: PhaseName, since: Option<Timestamp>, write: Box<PhaseWrite> },
    Tokens(Box<KeptTokens>),
}

/// A token update with its ciphertext as text.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptTokens {
    connection: ConnectionId,
    seen: Version,
    sealed: String,
    expires_at: Option<Timestamp>,
    refresh_expires_at: Option<Timestamp>,
    refreshable: bool,
    granted_scopes: Vec<String>,
    status: ConnectionStatus,
    at: Timestamp,
}

impl fmt::Debug for KeptTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptTokens")
            .field("connection", &self.connection)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl KeptTokens {
    /// Puts the tokens into the store, if those that they replace are still there.
    pub(super) async fn replay(&self, store: &dyn Store) -> Result<Late, Error> {
        let sealed = STANDARD.decode(&self.sealed).ok().and_then(|bytes| Sealed::from_bytes(bytes).ok());
        let Some(sealed) = sealed else {
            return Err(Error::storage("spill.tokens", "kept tokens have another framing").effect_none());
        };
        let update = TokenUpdate {
            tokens: SealedTokens(sealed),
            expires_at: self.expires_at,
            refresh_expires_at: self.refresh_expires_at,
            refreshable: self.refreshable,
            granted_scopes: self.granted_scopes.clone(),
            status: self.status,
            at: self.at,
        };
        Ok(match store.replace(self.connection, self.seen, &update).await? {
            Swap::Done => Late::Recorded,
            Swap::Stale => Late::Obsolete,
        })
    }
}

impl Record {
    pub(super) fn outcome(write: &PhaseWrite, doubt: Doubt) -> Self {
        Self::Outcome { before: doubt.before, since: doubt.since, write: Box::new(write.clone()) }
    }

    pub(super) fn tokens(connection: ConnectionId, seen: Version, update: &TokenUpdate) -> Self {
        Self::Tokens(Box::new(KeptTokens {
            connection,
            seen,
            sealed: STANDARD.encode(update.tokens.0.as_bytes()),
            expires_at: update.expires_at,
            refresh_expires_at: update.refresh_expires_at,
            refreshable: update.refreshable,
            granted_scopes: update.granted_scopes.clone(),
            status: update.status,
            at: update.at,
        }))
    }

    pub(super) fn key(&self) -> Key {
        match self {
            Self::Outcome { write, .. } => Key::Outcome(write.log.id),
            Self::Tokens(kept) => Key::Tokens(kept.connection, kept.seen),
        }
    }

    /// One line, with its end: form, checksum, JSON.
    pub(super) fn to_line(&self) -> String {
        #[expect(clippy::expect_used, reason = "strings, numbers, instants and JSON values always serialise")]
        let json = serde_json::to_string(self).expect("plain data");
        format!("{FORM} {} {json}\n", checksum(&json))
    }

    /// Reads a line without its end. `None` if it is not as it was written.
    pub(super) fn from_line(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let (form, rest) = line.split_once(' ')?;
        let (sum, json) = rest.split_once(' ')?;
        if form != FORM || sum != checksum(json) {
            return None;
        }
        serde_json::from_str(json).ok()
    }
}

fn checksum(json: &str) -> String {
    sha256(json.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
