//! A database for one run, with connected accounts and stored posts.

use std::{sync::Arc, time::Duration};

use clap::ValueEnum;
use jiff::Timestamp;
use social_core::{
    AccountKind, AccountProfile, AccountStatus, Connection, ConnectionId, ConnectionStatus, DeliveryId, Draft, PlatformId, PostId, Social,
    Store, TokenSet, User, UserId,
    account::Version,
    keeper::token_binding,
    secret::AccessToken,
    store::{NewConnection, NewDelivery, NewPost, Post, SealedTokens},
    vault::KeyRing,
};
use social_store::{PgStore, SqliteStore};
use tempfile::TempDir;

use crate::Failure;

/// Posts per transaction while filling.
const BATCH: usize = 1_000;
const X: PlatformId = PlatformId::from_static("x");

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A file in a temporary folder.
    Sqlite,
    /// A private cluster from installed binaries, unless a URL is given.
    Postgres,
}

/// A database for one run.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
    url: String,
    _folder: Option<TempDir>,
}

impl Database {
    /// An empty, migrated database.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn open(kind: Kind, url: Option<String>) -> Result<Self, Failure> {
        let (url, folder) = match (kind, url) {
            (_, Some(url)) => (url, None),
            (Kind::Sqlite, None) => {
                let folder = TempDir::new()?;
                (format!("sqlite://{}", folder.path().join("bench.db").display()), Some(folder))
            }
            (Kind::Postgres, None) => {
                let cluster = social_testkit::pg::cluster().ok_or("no PostgreSQL: install its server binaries or give --database-url")?;
                (cluster.fresh_database("bench")?, None)
            }
        };
        Ok(Self { kind, url, _folder: folder })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A store over it.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(social_store::open(&self.url).await?)
    }

    /// Stores posts in large transactions; much faster than one by one, and outside of what is measured.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn insert(&self, posts: &[NewPost]) -> Result<(), Failure> {
        match self.kind {
            Kind::Sqlite => {
                let pool = sqlx::SqlitePool::connect(&self.url).await?;
                for batch in posts.chunks(BATCH) {
                    let mut transaction = pool.begin().await?;
                    for post in batch {
                        let _ = SqliteStore::insert_post_in(&mut transaction, post).await?;
                    }
                    transaction.commit().await?;
                }
                pool.close().await;
            }
            Kind::Postgres => {
                let pool = sqlx::PgPool::connect(&self.url).await?;
                for batch in posts.chunks(BATCH) {
                    let mut transaction = pool.begin().await?;
                    for post in batch {
                        let _ = PgStore::insert_post_in(&mut transaction, post).await?;
                    }
                    transaction.commit().await?;
                }
                sqlx::query("analyze").execute(&pool).await?;
                pool.close().await;
            }
        }
        Ok(())
    }
}

/// A user with accounts on X, each under a connection of its own.
#[derive(Debug)]
pub struct Tenant {
    /// Whose they are.
    pub user: UserId,
    /// The accounts.
    pub accounts: Vec<social_core::Account>,
}

/// Stores a user with so many accounts, with sealed tokens.
///
/// # Errors
/// `Storage`.
pub async fn tenant(social: &Social, accounts: usize) -> Result<Tenant, Failure> {
    let store = social.store();
    let now = Timestamp::now();
    let user = User { id: UserId::new(), email: "bench@example.org".into(), plan: "bench".into(), created_at: now };
    store.insert_user(&user).await?;
    let mut stored = Vec::with_capacity(accounts);
    for number in 0..accounts {
        let id = ConnectionId::new();
        let life = Duration::from_secs(7 * 24 * 3600);
        let token = AccessToken::new(format!("bench-token-{number}-0123456789abcdef0123456789abcdef"))?;
        let tokens = TokenSet::bearer(token, Some(life), now);
        let sealed = social.vault().seal(&token_binding(user.id, id, &X, Version::FIRST), &tokens.to_plain()).await?;
        let connection = Connection {
            id,
            user: user.id,
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
        let remote_user = format!("{number}");
        let profile = AccountProfile {
            remote_id: remote_user.clone(),
            kind: AccountKind::Profile,
            handle: Some(format!("bench{number}")),
            display_name: format!("Bench {number}"),
            avatar_url: None,
            attributes: Default::default(),
        };
        store.insert(&NewConnection { connection, tokens: SealedTokens(sealed), remote_user }).await?;
        stored.extend(store.save_accounts(id, &[profile], AccountStatus::Active, now).await?);
    }
    Ok(Tenant { user: user.id, accounts: stored })
}

/// Text posts spread over the accounts, each due at the instant that `due` gives for its number; the text tells both.
pub fn posts(tenant: &Tenant, number: usize, due: impl Fn(usize) -> Timestamp) -> Vec<NewPost> {
    let now = Timestamp::now();
    let post = |n: usize| {
        let at = due(n);
        let account = &tenant.accounts[n % tenant.accounts.len()];
        let draft = Draft::text(format!("A post of ordinary length for measuring, id={n} due={}", at.as_microsecond()));
        let post = Post { id: PostId::new(), user: tenant.user, draft, scheduled_at: at, wall: None, created_at: now, updated_at: now };
        NewPost {
            post,
            deliveries: vec![NewDelivery { id: DeliveryId::new(), account: account.id, platform: X }],
            late_limit: Duration::from_secs(24 * 3600),
            idempotency: None,
        }
    };
    (0..number).map(post).collect()
}

/// An installation over a store, with the X adapter pointed at a target; limits are kept in the ledger but never wait.
///
/// # Errors
/// If it cannot be put together.
pub fn social(store: Arc<dyn Store>, keys: &str, target: &str) -> Result<Social, Failure> {
    let x = social_x::X::builder("bench", "bench-secret").base_url(target.parse()?).build()?;
    Ok(Social::builder().shared_store(store).keys(KeyRing::parse(keys)?).platform(x).ignore_rate_limits().build()?)
}
