//! Connects social accounts by OAuth and publishes scheduled posts: never twice, never silently lost.
//!
//! This crate holds the traits, the data, the state machine and the engine. It knows no network, no SQL and no web framework.
//! An application meets [`Social`] first and the rest only when it needs it.

pub mod account;
pub mod context;
pub mod crypto;
pub mod descriptor;
pub mod draft;
pub mod driver;
pub mod engine;
pub mod error;
pub mod http;
pub mod id;
pub mod keeper;
pub mod library;
pub mod media;
pub mod memory;
pub mod meter;
pub mod oauth;
pub mod phase;
pub mod platform;
pub mod rate;
pub mod retry;
pub mod secret;
pub mod social;
pub mod store;
pub mod text;
pub mod time;
pub mod trace;
pub mod validate;
pub mod vault;

pub use account::{Account, AccountKind, AccountProfile, AccountStatus, Connection, ConnectionStatus, TokenSet};
pub use context::{CallContext, PublishContext};
pub use descriptor::PlatformDescriptor;
pub use draft::{Attachment, Draft, Link, MediaRef};
pub use error::{Actor, Effect, Error, ErrorKind, Operation, ProviderError, Retry};
pub use id::{AccountId, ConnectionId, DeliveryId, LogId, MediaId, PlatformId, PostId, RemotePostId, UserId};
pub use phase::{Checkpoint, Event, IllegalTransition, Phase, PhaseName, RemotePost};
pub use platform::{
    Analytics, Authorization, AuthorizeRequest, Committed, Connect, Credentials, Deleted, PendingAuthorization,
    Platform, Prepared, Publish, Reconciled, Settled,
};
pub use secret::{AccessToken, AuthCode, ClientSecret, PkceVerifier, RefreshToken};
pub use social::{Scheduler, Social};
pub use store::{JobStore, Store, TokenStore};
pub use time::{Clock, SystemClock};
pub use validate::{Severity, Violation};
