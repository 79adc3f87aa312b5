//! Ready-made users, connections with sealed tokens, accounts, drafts, posts and writes. Everything is deterministic but the ids.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use social_core::{
    account::{Account, AccountKind, AccountProfile, AccountStatus, Connection, ConnectionStatus, TokenSet, Version},
    draft::{Attachment, Draft, Link, MediaRef, Override, StoredMedia},
    id::{AccountId, ConnectionId, DeliveryId, LogId, MediaId, PlatformId, PostId, UserId},
    media::{MediaFacts, MediaKind},
    phase::{Checkpoint, PhaseName, RemotePost},
    secret::{AccessToken, RefreshToken},
    store::{
        Delivery, ErrorPatch, Insert, LeaseAfter, LogEntry, NewConnection, NewDelivery, NewPost, PhaseWrite, Post,
        SealedTokens, Store, TokenUpdate, User, WallTime,
    },
    vault::{Binding, KeyRing, Vault},
};

use crate::{
    clock::{secs, t0},
    secrets::Marker,
};

/// A network.
pub const X: PlatformId = PlatformId::from_static("x");
/// Another one.
pub const LINKEDIN: PlatformId = PlatformId::from_static("linkedin");

const OLD_KEY: &str = "old:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const NEW_KEY: &str = "new:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// A ring with the key `new`, which seals, and the key `old`.
#[must_use]
pub fn key_ring() -> KeyRing {
    KeyRing::parse(&format!("{NEW_KEY},{OLD_KEY}")).expect("two good keys")
}

/// A vault over [`key_ring`].
#[must_use]
pub fn vault() -> Vault {
    Vault::new(Arc::new(key_ring()))
}

/// The vault before the key `new` was made: seals with `old`.
#[must_use]
pub fn old_vault() -> Vault {
    Vault::new(Arc::new(KeyRing::parse(OLD_KEY).expect("a good key")))
}

/// A user who has a row.
#[must_use]
pub fn user(email: &str) -> User {
    User { id: UserId::new(), email: email.to_owned(), plan: "free".to_owned(), created_at: t0() }
}

/// A profile on a network; the number makes it another one.
#[must_use]
pub fn profile(number: usize) -> AccountProfile {
    AccountProfile {
        remote_id: format!("remote-{number}"),
        kind: AccountKind::Profile,
        handle: Some(format!("shop_{number}")),
        display_name: format!("Shop {number}"),
        avatar_url: Some(format!("https://img.example/{number}.png")),
        attributes: BTreeMap::from([("level".to_owned(), "basic".to_owned())]),
    }
}

/// A grant that works, for two hours.
#[must_use]
pub fn connection(user: UserId, platform: &PlatformId) -> Connection {
    Connection {
        id: ConnectionId::new(),
        user,
        platform: platform.clone(),
        preset: "member".to_owned(),
        status: ConnectionStatus::Active,
        requested_scopes: vec!["read".to_owned(), "write".to_owned()],
        granted_scopes: vec!["read".to_owned(), "write".to_owned()],
        expires_at: Some(secs(7200)),
        refresh_expires_at: Some(secs(86_400 * 60)),
        refreshable: true,
        version: Version::FIRST,
        created_at: t0(),
        updated_at: t0(),
    }
}

/// Tokens with planted values.
#[must_use]
pub fn tokens(access: &Marker, refresh: &Marker) -> TokenSet {
    let access = AccessToken::new(access.value()).expect("a marker is a token");
    let mut tokens = TokenSet::bearer(access, Some(Duration::from_secs(7200)), t0());
    tokens.refresh = Some(RefreshToken::new(refresh.value()).expect("a marker is a token"));
    tokens
}

/// The place that a connection's tokens are bound to.
#[must_use]
pub fn binding(connection: &Connection, version: Version) -> Binding<'_> {
    Binding {
        table: "connections",
        column: "tokens",
        user: connection.user.uuid(),
        connection: connection.id.uuid(),
        platform: connection.platform.as_str(),
        version: version.0,
    }
}

/// Planted tokens, sealed for a version of a connection.
pub async fn sealed(vault: &Vault, connection: &Connection, version: Version) -> SealedTokens {
    let plain = tokens(&Marker::new("access"), &Marker::new("refresh")).to_plain();
    SealedTokens(vault.seal(&binding(connection, version), &plain).await.expect("a key ring seals"))
}

/// A connection with planted, sealed tokens.
pub async fn new_connection(user: UserId, platform: &PlatformId) -> NewConnection {
    let connection = connection(user, platform);
    let tokens = sealed(&vault(), &connection, connection.version).await;
    let remote_user = format!("person-{}", connection.id);
    NewConnection { connection, tokens, remote_user }
}

/// New tokens for a connection whose version is `seen`.
pub async fn token_update(connection: &Connection, seen: Version, at: Timestamp) -> TokenUpdate {
    TokenUpdate {
        tokens: sealed(&vault(), connection, seen.next()).await,
        expires_at: Some(social_core::time::later(at, jiff::SignedDuration::from_secs(7200))),
        refresh_expires_at: connection.refresh_expires_at,
        refreshable: connection.refreshable,
        granted_scopes: connection.granted_scopes.clone(),
        status: connection.status,
        at,
    }
}

/// A stored grant and its accounts.
#[derive(Debug, Clone)]
pub struct Connected {
    /// Whose they are.
    pub user: UserId,
    /// The grant.
    pub connection: Connection,
    /// What it reaches.
    pub accounts: Vec<Account>,
}

/// Stores a connection of a user with accounts numbered from 0 to below `accounts`.
pub async fn connect(store: &dyn Store, user: UserId, platform: &PlatformId, accounts: usize) -> Connected {
    let new = new_connection(user, platform).await;
    store.insert(&new).await.expect("a new connection is stored");
    let profiles: Vec<_> = (0..accounts).map(profile).collect();
    let accounts = store
        .save_accounts(new.connection.id, &profiles, AccountStatus::Active, t0())
        .await
        .expect("accounts are stored");
    Connected { user, connection: new.connection, accounts }
}

/// A text without anything special.
#[must_use]
pub fn draft() -> Draft {
    Draft::text("Hello from the lighthouse")
}

/// A draft that uses everything that a draft can have.
#[must_use]
pub fn full_draft(account: AccountId) -> Draft {
    let link = Link {
        url: "https://shop.example/?a=1&b=%20".to_owned(),
        title: Some("Shop".to_owned()),
        description: None,
        thumbnail: Some(MediaRef::Stored(image())),
    };
    let video = Attachment { media: MediaRef::Stored(video()), alt_text: None, title: Some("A \"title\"".to_owned()) };
    Draft::text(UNICODE)
        .attach(Attachment { media: MediaRef::Stored(image()), alt_text: Some("a lighthouse".to_owned()), title: None })
        .attach(video)
        .link(link)
        .then("second part")
        .then("")
        .first_comment("first!")
        .option(X, json!({ "reply": "everyone", "n": 1.5, "list": [null, true] }))
        .override_for(account, Override { text: Some("only here".to_owned()), ..Override::default() })
}

/// What breaks careless stores: joined and flagged emoji, right-to-left and combining text, quotes, wildcards, line ends, private use.
pub const UNICODE: &str = "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪 é e\u{301} שלום مرحبا 東京 ẞ \u{202e}rtl\u{202c} 'a' \"b\" \\n %s _ % -- ; DROP\r\n\t\u{feff}\u{e000}\u{10ffff} \u{2028}end";

/// A picture that was taken in.
#[must_use]
pub fn image() -> StoredMedia {
    stored(MediaKind::Image, "image/png", 12_345, None)
}

/// A film that was taken in.
#[must_use]
pub fn video() -> StoredMedia {
    stored(MediaKind::Video, "video/mp4", 4_000_000_000_000, Some(3_599_999))
}

fn stored(kind: MediaKind, mime: &str, size_bytes: u64, duration_ms: Option<u64>) -> StoredMedia {
    let facts = MediaFacts {
        kind,
        mime: mime.to_owned(),
        size_bytes,
        width: Some(1080),
        height: Some(1920),
        duration_ms,
        frames: None,
        video_codec: duration_ms.map(|_| "avc1".to_owned()),
        audio_codec: None,
        frame_rate_milli: duration_ms.map(|_| 29_970),
        sha256: Some("ab".repeat(32)),
    };
    StoredMedia { id: MediaId::new(), facts }
}

/// A post to these accounts at a time, made at [`t0`], one delivery each.
#[must_use]
pub fn new_post(user: UserId, accounts: &[Account], at: Timestamp) -> NewPost {
    let delivery = |account: &Account| NewDelivery {
        id: DeliveryId::new(),
        account: account.id,
        platform: account.platform.clone(),
    };
    NewPost {
        post: Post {
            id: PostId::new(),
            user,
            draft: draft(),
            scheduled_at: at,
            wall: None,
            created_at: t0(),
            updated_at: t0(),
        },
        deliveries: accounts.iter().map(delivery).collect(),
        late_limit: Duration::from_secs(3600),
        idempotency: None,
    }
}

/// Stores a post to these accounts at a time.
pub async fn schedule(store: &dyn Store, user: UserId, accounts: &[Account], at: Timestamp) -> NewPost {
    let new = new_post(user, accounts, at);
    assert_eq!(store.insert_post(&new).await.expect("a post is stored"), Insert::Stored);
    new
}

/// A wish for nine o'clock in Berlin.
#[must_use]
pub fn wall() -> WallTime {
    WallTime { local_time: "2026-06-01T14:00".to_owned(), time_zone: "Europe/Berlin".to_owned() }
}

/// A small checkpoint.
#[must_use]
pub fn checkpoint(step: &str) -> Checkpoint {
    Checkpoint::write(3, &json!({ "step": step, "offset": 7 }))
}

/// A row for the history.
#[must_use]
pub fn entry(event: &str, at: Timestamp) -> LogEntry {
    LogEntry { id: LogId::new(), event: event.to_owned(), success: None, response: Value::Null, at }
}

/// A write that leads a delivery to a phase under the epoch that it was read with, keeps the lease and changes nothing else. Phases have
/// a checkpoint where they can, `published` has a remote post.
#[must_use]
pub fn write(delivery: &Delivery, phase: PhaseName, at: Timestamp) -> PhaseWrite {
    PhaseWrite {
        delivery: delivery.id,
        epoch: delivery.epoch,
        phase,
        checkpoint: (!matches!(
            phase,
            PhaseName::Scheduled | PhaseName::Published | PhaseName::Missed | PhaseName::Canceled
        ))
        .then(|| checkpoint(phase.as_str())),
        remote: (phase == PhaseName::Published).then(|| remote(delivery.id)),
        part: None,
        attempt: delivery.attempt,
        crashes: delivery.crashes,
        wake_at: delivery.wake_at.filter(|_| !phase.is_final()),
        due_at: None,
        committing_since: delivery.committing_since,
        error: ErrorPatch::Keep,
        lease: LeaseAfter::Keep,
        log: entry(phase.as_str(), at),
    }
}

/// What the network shows for a delivery.
#[must_use]
pub fn remote(delivery: DeliveryId) -> RemotePost {
    RemotePost::new(format!("post-{delivery}"), format!("https://network.example/post-{delivery}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sealed_tokens_open_in_their_place() {
        let connection = connection(UserId::new(), &X);
        let sealed = sealed(&old_vault(), &connection, Version::FIRST).await;
        let plain = vault().open(&binding(&connection, Version::FIRST), &sealed.0).await.unwrap();
        assert!(TokenSet::from_plain(&plain).unwrap().refresh.is_some());
    }
}
