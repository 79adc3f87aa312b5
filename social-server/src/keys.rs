//! Master keys: the proof at the start that they are the right ones, and their rotation.

use social_core::{
    Error, Store,
    id::ConnectionId,
    keeper::token_binding,
    store::{SealedTokens, Swap},
    vault::{KeyRing, Sealed, Vault, VaultError},
};

use crate::state::faulty;

/// How many connections are read at once while keys are rotated.
const BATCH: usize = 100;
/// How often a rotation goes through all connections: what was refreshed meanwhile is sealed by the new key already.
const ROUNDS: usize = 3;

/// What to do about a key that sealed something and is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Refuse to start.
    Refuse,
    /// Start all the same: the accounts behind it cannot post until they are connected again.
    Allow,
}

/// Proves that each key is the one that its id stood for before, and that no key is missing that something is sealed with. Remembers
/// new ids.
///
/// # Errors
/// `Config` that names the key id, `Storage`.
pub async fn check(store: &dyn Store, ring: &KeyRing, vault: &Vault, missing: Missing) -> Result<(), Error> {
    let known = store.canaries().await?;
    let usage = store.key_usage().await?;
    for (id, canary) in &known {
        let proof = match Sealed::from_bytes(canary.clone()) {
            Ok(sealed) => vault.check_canary(id, &sealed).await,
            Err(error) => Err(error),
        };
        let used = usage.iter().find(|(used, _)| used == id).map_or(0, |(_, count)| *count);
        match proof {
            Ok(()) => {}
            Err(VaultError::UnknownKey { .. }) if used == 0 => {
                tracing::debug!(key.id = %id, "master key {id} has retired");
            }
            Err(VaultError::UnknownKey { .. }) if missing == Missing::Allow => {
                tracing::warn!(key.id = %id, connections = used, "master key {id} is missing: {used} connections cannot be used");
            }
            Err(VaultError::UnknownKey { .. }) => {
                return Err(faulty(format!(
                    "master key {id} is missing, and {used} connections are sealed with it: add it to SOCIAL_MASTER_KEYS again, behind the others \
                     (`--allow-missing-keys` starts without those connections)"
                )));
            }
            Err(VaultError::Corrupted { .. } | VaultError::Malformed(_)) => {
                return Err(faulty(format!(
                    "master key {id} is not the key that this id stood for: restore the old value, or give the new key an id of its own"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    for (id, count) in &usage {
        if *count > 0 && missing == Missing::Refuse && !vault.knows(id) {
            return Err(faulty(format!("master key {id} is missing, and {count} connections are sealed with it")));
        }
    }
    for id in ring.ids() {
        if !known.iter().any(|(known, _)| known == id) {
            let canary = vault.canary(id).await?;
            store.insert_canary(id, canary.as_bytes()).await?;
        }
    }
    Ok(())
}

/// What a rotation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Connections that are sealed by the first key now.
    pub rewrapped: u64,
    /// Connections that changed meanwhile, which is as good.
    pub changed: u64,
    /// Connections that could not be opened.
    pub failed: u64,
}

/// Wraps the tokens of all connections under the first key. Online: servers and workers go on; repeatable, and may be stopped at any time.
///
/// # Errors
/// `Storage`. Tokens that cannot be opened are counted, not an error.
pub async fn rotate(store: &dyn Store, vault: &Vault) -> Result<Rotated, Error> {
    let mut done = Rotated::default();
    for round in 0..ROUNDS {
        let mut after: Option<ConnectionId> = None;
        let (mut seen, mut failed) = (0, 0);
        loop {
            let batch = store.not_sealed_by(vault.primary_id(), after, BATCH).await?;
            for id in &batch {
                seen += 1;
                match rewrap(store, vault, *id).await? {
                    Rewrap::Done => done.rewrapped += 1,
                    Rewrap::Changed => done.changed += 1,
                    Rewrap::Failed => failed += 1,
                }
            }
            match batch.last() {
                Some(last) if batch.len() == BATCH => after = Some(*last),
                _ => break,
            }
        }
        done.failed = failed;
        if seen == failed || round + 1 == ROUNDS {
            break;
        }
    }
    Ok(done)
}

enum Rewrap {
    Done,
    Changed,
    Failed,
}

async fn rewrap(store: &dyn Store, vault: &Vault, id: ConnectionId) -> Result<Rewrap, Error> {
    let Some(found) = store.get(id).await? else { return Ok(Rewrap::Changed) };
    let connection = &found.connection;
    let binding = token_binding(connection.user, id, &connection.platform, connection.version);
    match vault.rewrap(&binding, &found.tokens.0).await {
        Ok(None) => Ok(Rewrap::Changed),
        Ok(Some(sealed)) => match store.rewrap(id, connection.version, &found.tokens, &SealedTokens(sealed)).await? {
            Swap::Done => Ok(Rewrap::Done),
            Swap::Stale => Ok(Rewrap::Changed),
        },
        Err(error) => {
            tracing::warn!(connection.id = %id, %error, "the tokens of a connection could not be wrapped again");
            Ok(Rewrap::Failed)
        }
    }
}
