//! An installation with connected accounts and stored posts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use social_core::{
    AccessToken, Account, AccountKind, AccountProfile, AccountStatus, Connection, ConnectionId, ConnectionStatus,
    DeliveryId, Draft, PlatformId, PostId, Social, Store, TokenSet, UserId,
    account::Version,
    keeper::token_binding,
    library::DirectoryLibrary,
    media::MediaKind,
    social::SocialBuilder,
    store::{NewConnection, NewDelivery, NewPost, Post, SealedTokens, User},
    vault::KeyRing,
};

use crate::Failure;

const X: PlatformId = PlatformId::from_static("x");
/// Grants are made so many at a time.
const TOGETHER: usize = 50;

/// An installation over a store, with the X adapter pointed at a target; limits are kept in the ledger but never wait.
///
/// # Errors
/// If it cannot be put together.
pub fn social(store: Arc<dyn Store>, keys: &str, target: &str) -> Result<Social, Failure> {
    Ok(builder(store, keys, target)?.build()?)
}

/// The same with a folder for media.
///
/// # Errors
/// If it cannot be put together.
pub fn social_with_media(
    store: Arc<dyn Store>,
    keys: &str,
    target: &str,
    media: DirectoryLibrary,
) -> Result<Social, Failure> {
    Ok(builder(store, keys, target)?.media(media).build()?)
}

fn builder(store: Arc<dyn Store>, keys: &str, target: &str) -> Result<SocialBuilder, Failure> {
    let x = social_x::X::builder("bench", "bench-secret").base_url(target.parse()?).descriptor(|facts| {
        // X takes 512 MiB from most accounts; how fast an upload is shows better with more.
        for rule in facts.media.kinds.iter_mut().filter(|rule| rule.kind == MediaKind::Video) {
            rule.max_bytes = None;
        }
    });
    let x = x.build()?;
    Ok(Social::builder().shared_store(store).keys(KeyRing::parse(keys)?).platform(x).ignore_rate_limits())
}

/// A user with accounts on X, each under a connection of its own.
#[derive(Debug)]
pub struct Tenant {
    /// Whose they are.
    pub user: UserId,
    /// The accounts.
    pub accounts: Vec<Account>,
}

/// Stores a user with so many accounts.
///
/// # Errors
/// `Storage`, or if the database already holds the user of an earlier run.
pub async fn tenant(social: &Social, accounts: usize) -> Result<Tenant, Failure> {
    let user = User {
        id: UserId::new(),
        email: "bench@example.org".into(),
        plan: "bench".into(),
        created_at: Timestamp::now(),
    };
    if !social.store().insert_user(&user).await? {
        return Err("the database holds an earlier run; give an empty one".into());
    }
    connect(social, user.id, accounts).await
}

/// Connects so many accounts for a user, with sealed tokens that last longer than any run.
///
/// # Errors
/// `Storage`.
pub async fn connect(social: &Social, user: UserId, accounts: usize) -> Result<Tenant, Failure> {
    let mut stored = Vec::with_capacity(accounts);
    for first in (0..accounts).step_by(TOGETHER) {
        let mut group = tokio::task::JoinSet::new();
        for number in first..accounts.min(first + TOGETHER) {
            let social = social.clone();
            group.spawn(async move { connect_one(&social, user, number).await });
        }
        for connected in group.join_all().await {
            stored.extend(connected?);
        }
    }
    Ok(Tenant { user, accounts: stored })
}

async fn connect_one(social: &Social, user: UserId, number: usize) -> Result<Vec<Account>, Failure> {
    let (store, now, id) = (social.store(), Timestamp::now(), ConnectionId::new());
    let token = AccessToken::new(format!("bench-token-{number}-0123456789abcdef0123456789abcdef"))?;
    let tokens = TokenSet::bearer(token, Some(Duration::from_secs(7 * 24 * 3600)), now);
    let sealed = social.vault().seal(&token_binding(user, id, &X, Version::FIRST), &tokens.to_plain()).await?;
    let connection = Connection {
        id,
        user,
        platform: X,
        preset: "default".into(),
        status: ConnectionStatus::Active,
        requested_scopes: Vec::new(),
        granted_scopes: Vec::new(),
        expires_at: tokens.expires_at,
        refresh_expires_at: None,
        refreshable: false,
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    let remote_user = number.to_string();
    let profile = AccountProfile {
        remote_id: remote_user.clone(),
        kind: AccountKind::Profile,
        handle: Some(format!("bench{number}")),
        display_name: format!("Bench {number}"),
        avatar_url: None,
        attributes: BTreeMap::new(),
    };
    store.insert(&NewConnection { connection, tokens: SealedTokens(sealed), remote_user }).await?;
    Ok(store.save_accounts(id, &[profile], AccountStatus::Active, now).await?)
}

/// Text posts spread over the accounts, each due at the instant that `due` gives for its number; the text tells both. They are made one by
/// one, so that a long list of them does not count as memory of what is measured.
pub fn posts<D: Fn(usize) -> Timestamp>(
    tenant: &Tenant,
    number: usize,
    due: D,
) -> impl Iterator<Item = NewPost> + use<'_, D> {
    let now = Timestamp::now();
    (0..number).map(move |n| {
        let at = due(n);
        let account = &tenant.accounts[n % tenant.accounts.len()];
        let draft = Draft::text(text(n, at));
        let post = Post {
            id: PostId::new(),
            user: tenant.user,
            draft,
            scheduled_at: at,
            wall: None,
            created_at: now,
            updated_at: now,
        };
        NewPost {
            post,
            deliveries: vec![NewDelivery { id: DeliveryId::new(), account: account.id, platform: X }],
            late_limit: Duration::from_secs(24 * 3600),
            idempotency: None,
        }
    })
}

/// What a post says: a target finds its number and its time in it.
#[must_use]
pub fn text(number: usize, due: Timestamp) -> String {
    format!("A post of ordinary length for measuring, id={number} due={}", due.as_microsecond())
}
