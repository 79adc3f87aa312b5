//! What a network is to this crate: the traits that an adapter implements.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    account::{Account, AccountProfile, TokenSet},
    context::{CallContext, PublishContext},
    descriptor::PlatformDescriptor,
    draft::Draft,
    error::Error,
    id::{PlatformId, RemotePostId},
    phase::{Checkpoint, RemotePost},
    secret::{AuthCode, ClientSecret, OAuthState, PkceVerifier},
    text::{self, TextUnit},
    validate::{self, Violation},
};

/// A network.
pub trait Platform: Debug + Send + Sync + 'static {
    /// Facts as data: they drive validation, the composer, the documentation and the tests.
    fn descriptor(&self) -> &PlatformDescriptor;
    /// How accounts are connected.
    fn connect(&self) -> &dyn Connect;
    /// How posts are published.
    fn publish(&self) -> &dyn Publish;
    /// Numbers, where the network gives any.
    fn analytics(&self) -> Option<&dyn Analytics> {
        None
    }
    /// The day on which the network switches the version off that this adapter speaks, where it does such a thing.
    fn sunset(&self) -> Option<Date> {
        None
    }
}

/// What an operator sets about a network: every adapter is made from it with `try_from`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// The client id of the app that is registered with the network.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Option<ClientSecret>,
    /// One prefix instead of all hosts of the network.
    pub base_url: Option<Url>,
    /// The scope preset of connections that name none.
    pub preset: Option<String>,
    /// The version of the network's interface to speak.
    pub api_version: Option<String>,
}

impl Credentials {
    /// A client without more; the rest is set by field.
    #[must_use]
    pub fn new(client_id: impl Into<String>) -> Self {
        Self { client_id: client_id.into(), client_secret: None, base_url: None, preset: None, api_version: None }
    }

    /// The secret as builders take it. One that is missing is empty, which they refuse.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.client_secret.as_ref().map_or("", ClientSecret::expose)
    }
}

/// How accounts of a network are connected.
#[async_trait]
pub trait Connect: Send + Sync {
    /// The address to send the person to, and what to keep until they come back. Repeatable; nothing is granted yet.
    ///
    /// # Errors
    /// `Invalid` for an unknown preset; whatever a network says that wants to be called first.
    async fn authorize(&self, cx: &CallContext, request: &AuthorizeRequest) -> Result<Authorization, Error>;

    /// Trades a code for tokens. A code works once: this is never tried again.
    ///
    /// # Errors
    /// `Rejected` if the code is used, expired or foreign; `Config` if the client is; `Unavailable` or `Timeout` otherwise.
    async fn exchange(
        &self,
        cx: &CallContext,
        code: AuthCode,
        pending: &PendingAuthorization,
    ) -> Result<TokenSet, Error>;

    /// Gets new tokens for a grant. Where refresh tokens rotate, only the `TokenKeeper` may call it.
    ///
    /// # Errors
    /// `Reconnect` only if the grant is dead for certain; `Config` for a wrong client; transient kinds otherwise.
    async fn refresh(&self, cx: &CallContext, current: &TokenSet) -> Result<TokenSet, Error>;

    /// Tells the network to forget the grant. Repeatable; a grant that is gone already is a success.
    ///
    /// # Errors
    /// `Unsupported` where there is no such call.
    async fn revoke(&self, cx: &CallContext, current: &TokenSet) -> Result<(), Error>;

    /// The accounts that the grant reaches. Read-only.
    ///
    /// # Errors
    /// `Reconnect`, `Permission` or transient kinds.
    async fn accounts(&self, cx: &CallContext, current: &TokenSet) -> Result<Vec<AccountProfile>, Error>;
}

/// How posts of a network are published. Everything before the public moment may be repeated; the public moment is one call.
#[async_trait]
pub trait Publish: Send + Sync {
    /// The network's facts, for the default of [`validate`](Self::validate).
    fn descriptor(&self) -> &PlatformDescriptor;

    /// What is wrong with a (resolved) draft for an account. Pure.
    fn validate(&self, draft: &Draft, account: &AccountProfile) -> Vec<Violation> {
        validate::by_descriptor(self.descriptor(), draft, account)
    }

    /// How much of the allowed text a (resolved) draft uses on an account, as the network counts. Pure.
    fn text_use(&self, draft: &Draft, _account: &AccountProfile) -> TextUse {
        let descriptor = self.descriptor();
        let text = validate::full_text(descriptor, draft);
        TextUse {
            used: text::count(descriptor.text.unit, &text),
            limit: descriptor.text.max,
            unit: descriptor.text.unit,
        }
    }

    /// Does the next piece of invisible work. May be repeated from any earlier checkpoint, and be cancelled at any point.
    ///
    /// # Errors
    /// Any kind; the driver treats the effect as none, since nothing here is visible.
    async fn prepare(&self, cx: &PublishContext<'_>, from: Option<Checkpoint>) -> Result<Prepared, Error>;

    /// Makes the one visible call, through [`PublishContext::visible`]. The driver has written "about to commit" before.
    ///
    /// # Errors
    /// With effect unknown unless the adapter's table proves that nothing became public.
    async fn commit(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Committed, Error>;

    /// Asks whether the network has finished with what it accepted. Read-only.
    ///
    /// # Errors
    /// Transient kinds are asked again; others end as unconfirmed. A refusal by the network is [`Settled::Rejected`].
    async fn settle(&self, cx: &PublishContext<'_>, from: Checkpoint) -> Result<Settled, Error>;

    /// Asks whether a commit whose answer was lost has landed. Never adds a second visible post.
    ///
    /// # Errors
    /// Transient kinds are asked again.
    async fn reconcile(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Reconciled, Error>;

    /// Deletes a published post. One that is gone already is a success.
    ///
    /// # Errors
    /// `Unsupported` where there is no such call.
    async fn delete(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        account: &Account,
        id: &RemotePostId,
    ) -> Result<Deleted, Error>;
}

/// How much of the allowed text is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TextUse {
    /// So much.
    pub used: usize,
    /// Of so much.
    pub limit: usize,
    /// In this unit.
    pub unit: TextUnit,
}

/// What the application wants when it sends a person to a network.
#[derive(Debug)]
#[non_exhaustive]
pub struct AuthorizeRequest {
    /// Where the network sends the person back to.
    pub redirect_uri: Url,
    /// Which scope preset; the network's first for `None`.
    pub preset: Option<String>,
    /// Comes back with the person.
    pub state: OAuthState,
    /// Which server, for networks that have many.
    pub server: Option<String>,
}

impl AuthorizeRequest {
    /// A request for the default preset.
    #[must_use]
    pub fn new(redirect_uri: Url, state: OAuthState) -> Self {
        Self { redirect_uri, preset: None, state, server: None }
    }

    /// Asks for a preset by name.
    #[must_use]
    pub fn preset(mut self, preset: Option<String>) -> Self {
        self.preset = preset;
        self
    }
}

/// Where to send the person, and what to keep. The address holds the state and is not printed.
pub struct Authorization {
    /// Where to send the person.
    pub url: Url,
    /// What to keep, sealed, until they come back.
    pub pending: PendingAuthorization,
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorization")
            .field("host", &self.url.host_str())
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

/// What is kept between sending a person away and their coming back.
#[derive(Debug)]
pub struct PendingAuthorization {
    /// The network.
    pub platform: PlatformId,
    /// The address that was given to the network, to be given again.
    pub redirect_uri: Url,
    /// The preset that was asked for.
    pub preset: String,
    /// The scopes that were asked for.
    pub requested_scopes: Vec<String>,
    /// Proves that the code is ours, where the network checks it.
    pub verifier: Option<PkceVerifier>,
    /// Whatever else the adapter needs.
    pub extras: BTreeMap<String, String>,
}

/// What [`Publish::prepare`] achieved.
#[derive(Debug)]
#[must_use]
pub enum Prepared {
    /// A step is done; call again from here.
    Again(Checkpoint),
    /// The network needs time.
    Wait {
        /// Where to go on.
        at: Checkpoint,
        /// When to look again.
        poll_after: Duration,
    },
    /// The visible call may be made.
    Ready(Checkpoint),
}

/// What [`Publish::commit`] achieved.
#[derive(Debug)]
#[must_use]
pub enum Committed {
    /// It is out, whole.
    Published(RemotePost),
    /// A part is out; a thread part or the first comment follows.
    Next {
        /// Where to go on.
        at: Checkpoint,
        /// What is out.
        part: RemotePost,
    },
    /// The network took it and is still working.
    Settling {
        /// What to ask for.
        at: Checkpoint,
        /// When to ask.
        poll_after: Duration,
    },
}

/// What [`Publish::settle`] found.
#[derive(Debug)]
#[must_use]
pub enum Settled {
    /// It is out.
    Published(RemotePost),
    /// Not yet.
    Wait {
        /// What to ask for.
        at: Checkpoint,
        /// When to ask again.
        poll_after: Duration,
    },
    /// The network refused it in the end.
    Rejected(Error),
}

/// What [`Publish::reconcile`] found.
#[derive(Debug)]
#[must_use]
pub enum Reconciled {
    /// It is out.
    Published(RemotePost),
    /// The part is out; another follows.
    Next {
        /// Where to go on.
        at: Checkpoint,
        /// What is out.
        part: RemotePost,
    },
    /// The network took it and is still working.
    Settling {
        /// What to ask for.
        at: Checkpoint,
        /// When to ask.
        poll_after: Duration,
    },
    /// Proof that it is not out.
    NotPublished,
    /// Too early to tell. The checkpoint may remember what was seen.
    AskAgain {
        /// What to remember; the same as before if nothing.
        at: Checkpoint,
        /// When to ask again.
        after: Duration,
    },
    /// The network cannot be asked, or its answer settles nothing.
    CannotTell,
}

/// What [`Publish::delete`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone now.
    Now,
    /// It was gone already.
    Before,
}

/// Numbers of posts and accounts.
#[async_trait]
pub trait Analytics: Send + Sync {
    /// The numbers of some posts of an account; posts of which the network says nothing are left out. Read-only.
    ///
    /// # Errors
    /// `Permission` or `Unsupported` where the grant or the account has no numbers; transient kinds otherwise.
    async fn posts(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        account: &Account,
        ids: &[RemotePostId],
    ) -> Result<Vec<PostMetrics>, Error>;

    /// The numbers of an account. Read-only.
    ///
    /// # Errors
    /// As [`posts`](Self::posts).
    async fn account(&self, cx: &CallContext, tokens: &TokenSet, account: &Account) -> Result<AccountMetrics, Error>;
}

/// Numbers of one post. A number that the network does not give is absent, not zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostMetrics {
    /// Which post.
    pub id: RemotePostId,
    /// By name: `impressions`, `likes`, `comments`, `shares`, `clicks`, `saves`, `views`, `reach`, and the network's own.
    pub values: BTreeMap<String, i64>,
    /// When they were read.
    pub at: Timestamp,
}

/// Numbers of one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountMetrics {
    /// By name: `followers`, `following`, `posts`, and the network's own.
    pub values: BTreeMap<String, i64>,
    /// When they were read.
    pub at: Timestamp,
}
