//! What an adapter is given for a call. Everything that it may use is in here; it has no other way to the world.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use url::Url;

use crate::{
    account::{Account, TokenSet},
    draft::{Draft, StoredMedia},
    error::{Error, ErrorKind},
    http::Http,
    id::DeliveryId,
    library::MediaLibrary,
    media::MediaSource,
    phase::RemotePost,
    rate::{Observation, RateScope},
    secret::AccessToken,
    time::{Chance, Clock},
};

/// For calls that belong to no delivery: connecting, revoking, numbers.
#[derive(Debug, Clone)]
pub struct CallContext {
    http: Http,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
}

impl CallContext {
    /// Puts a context together.
    #[must_use]
    pub fn new(http: Http, clock: Arc<dyn Clock>, chance: Arc<dyn Chance>) -> Self {
        Self { http, clock, chance }
    }

    /// Sends requests.
    #[must_use]
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where jitter comes from.
    #[must_use]
    pub fn chance(&self) -> &dyn Chance {
        &*self.chance
    }
}

/// For calls that publish one delivery.
#[derive(Debug)]
pub struct PublishContext<'a> {
    /// The general part.
    pub call: &'a CallContext,
    /// Which delivery.
    pub delivery: DeliveryId,
    /// To which account.
    pub account: &'a Account,
    /// With which tokens.
    pub tokens: &'a TokenSet,
    /// What to say there: overrides are applied.
    pub draft: &'a Draft,
    /// The parts that are out already, in order.
    pub parts: &'a [RemotePost],
    /// When the visible call that is in doubt was first permitted; the present instant outside of reconciling.
    pub attempted_at: Timestamp,
    /// The call in doubt was made before a backup was put back, and what was prepared for it is forgotten: ids of files in the checkpoint are
    /// not those of the call, and to send again would not be to send the same. Reconciling must only read then.
    pub prepared_again: bool,
    /// Ids on the network that other deliveries of ours already claim: reconciling must not adopt them.
    pub taken: &'a HashSet<String>,
    media: &'a dyn MediaLibrary,
    visible: Http,
    seen: Mutex<Vec<RateSeen>>,
}

/// What a network said about one of its limits in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateSeen {
    /// The operation that the limit is about, as in the descriptor's rules.
    pub operation: String,
    /// Whom it counts for.
    pub scope: RateScope,
    /// What it said.
    pub observation: Observation,
}

impl<'a> PublishContext<'a> {
    /// Puts a context together, as the driver does; tests of adapters use it too.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "one place that names them all, called by the driver and by tests")]
    pub fn new(
        call: &'a CallContext,
        delivery: DeliveryId,
        account: &'a Account,
        tokens: &'a TokenSet,
        draft: &'a Draft,
        parts: &'a [RemotePost],
        attempted_at: Timestamp,
        taken: &'a HashSet<String>,
        media: &'a dyn MediaLibrary,
    ) -> Self {
        let visible = call.http().commit_lane();
        Self {
            call,
            delivery,
            account,
            tokens,
            draft,
            parts,
            attempted_at,
            prepared_again: false,
            taken,
            media,
            visible,
            seen: Mutex::default(),
        }
    }

    /// Notes what an answer said about a limit, for the rate ledger; `None` is ignored.
    pub fn observe(&self, operation: &str, scope: RateScope, observation: Option<Observation>) {
        if let Some(observation) = observation {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(RateSeen { operation: operation.to_owned(), scope, observation });
        }
    }

    /// Takes what was noted.
    #[must_use]
    pub fn take_observed(&self) -> Vec<RateSeen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends reads and invisible preparation.
    #[must_use]
    pub fn http(&self) -> &Http {
        self.call.http()
    }

    /// Sends the visible call: no retry, no redirect. Use it in `commit` once, and where reconciling means sending the identical call.
    #[must_use]
    pub fn visible(&self) -> &Http {
        &self.visible
    }

    /// The access token.
    #[must_use]
    pub fn token(&self) -> &AccessToken {
        &self.tokens.access
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.call.now()
    }

    /// Opens a stored file for ranged reading.
    ///
    /// # Errors
    /// `Storage` with effect none if it is not there any more.
    pub async fn open(&self, media: &StoredMedia) -> Result<Arc<dyn MediaSource>, Error> {
        self.media.open(media.id).await
    }

    /// A public address of a stored file, for networks that fetch by themselves.
    ///
    /// # Errors
    /// `Config` if this installation has no public address.
    pub fn public_url(&self, media: &StoredMedia) -> Result<Url, Error> {
        self.media.public_url(media.id).ok_or_else(|| {
            Error::new(ErrorKind::Config, "media.public_url")
                .message("this installation has no public address for media")
                .effect_none()
        })
    }
}
