//! The front door: what an embedding application sees first.

mod actions;
mod connect;
mod manage;
mod schedule;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

pub use self::{
    actions::{Action, actions},
    connect::{CallbackQuery, ConnectRequest, Connected, FinishError, Started},
    manage::{CancelOutcome, Change, Disconnected, Resolution},
    schedule::{AccountTextUse, Preview, ScheduleRequest, Scheduled, ScheduledDraft, Scheduler},
};
use crate::{
    context::CallContext,
    driver::LEASE_MARGIN,
    engine::{Recovered, Retention, Tidied, Worker, spill::Spill},
    error::{Error, ErrorKind},
    http::Http,
    id::{PlatformId, UserId},
    keeper::{Platforms, TokenKeeper},
    library::{MediaLibrary, MemoryLibrary},
    meter::Meter,
    platform::Platform,
    rate::{PlatformStop, RateLedger, RateMode},
    retry::RetryPolicy,
    store::{RestoreMark, Restored, Store},
    time::{Chance, Clock, SeededChance, SystemClock},
    vault::{KeyProvider, KeyRing, Vault},
};

/// How late a delivery may become unless the post says otherwise.
pub const DEFAULT_LATE_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Connects accounts and publishes posts over a store. Cheap to clone; clones are the same installation.
#[derive(Debug, Clone)]
pub struct Social {
    pub(crate) inner: Arc<Inner>,
}

/// What all parts of an installation share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) platforms: Platforms,
    pub(crate) keeper: Arc<TokenKeeper>,
    pub(crate) library: Arc<dyn MediaLibrary>,
    pub(crate) rates: Arc<RateLedger>,
    pub(crate) cx: CallContext,
    pub(crate) retry: RetryPolicy,
    pub(crate) late_limit: Duration,
    pub(crate) lease: Duration,
    pub(crate) spill: Arc<Spill>,
    pub(crate) retention: Retention,
    pub(crate) calibrating: tokio::sync::Mutex<()>,
    pub(crate) meter: Meter,
}

impl Social {
    /// Begins an installation.
    #[must_use]
    pub fn builder() -> SocialBuilder {
        SocialBuilder::default()
    }

    /// Agrees with the database about the time. Workers do it by themselves every 30 seconds; a process without one does it now and then.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn calibrate(&self) -> Result<(), Error> {
        crate::engine::calibrate(&self.inner).await
    }

    /// Brings into the store what could not be written while it was away and was kept on disk (see [`SocialBuilder::spill_dir`]): by this
    /// process, or by others that have died and used the same folder. Workers do it by themselves; a process without one may do it now and
    /// then. Repeatable, and safe in many processes at once.
    ///
    /// # Errors
    /// `Storage`; what is left is tried again with the next call.
    pub async fn recover(&self) -> Result<Recovered, Error> {
        self.inner.spill.recover(&*self.inner.store, self.inner.cx.now()).await
    }

    /// Makes data that were put back from a backup safe to go on with: whatever may have gone out since is looked for on its network before
    /// anything is sent, and where that cannot be read a person decides. Call it once, after the data were put back and before a worker
    /// runs. `backup_at` is when the backup was taken (an earlier instant is safe); `all` includes what is due in the future, in case it was
    /// moved forward after the backup. Repeatable: the networks are asked once more then.
    ///
    /// Tokens need no mark. A refresh token that was replaced after the backup is dead already, and the one that replaced it is not here: the
    /// keeper tries once, and the network's refusal asks the person to connect again.
    ///
    /// # Errors
    /// `Conflict` if a worker holds deliveries, unless `even_if_held`: nothing has changed then. `Storage`.
    pub async fn restored(
        &self,
        backup_at: Option<jiff::Timestamp>,
        all: bool,
        even_if_held: bool,
    ) -> Result<Restored, Error> {
        self.calibrate().await?;
        let now = self.inner.cx.now();
        if backup_at.is_some_and(|at| at > now) {
            return Err(Error::invalid("restored", "the backup cannot have been taken in the future"));
        }
        let done = self.inner.store.mark_restored(&RestoreMark { now, backup_at, all, even_if_held }).await?;
        if done.held > 0 && !even_if_held {
            let held = done.held;
            return Err(Error::conflict(
                "restored",
                format!("{held} deliveries are held by a worker, or were when the backup was taken"),
            )
            .advice("Stop all workers, wait until their leases have ended (a minute), and try again."));
        }
        tracing::warn!(to_look = done.to_look, in_doubt = done.in_doubt, since = ?done.since, "the data are those of a backup: the networks are asked before anything is sent");
        Ok(done)
    }

    /// Throws away what is older than [`SocialBuilder::retention`] says, in small portions with pauses. Workers do it once a day; this is for
    /// installations without one. Repeatable, and safe in many processes at once.
    ///
    /// # Errors
    /// `Storage`; what was thrown away by then stays so.
    pub async fn tidy(&self) -> Result<Tidied, Error> {
        crate::engine::tidy(&self.inner).await
    }

    /// Which of a user's files no post names, whatever became of the post. It looks through all of the user's posts. Repeatable.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn unnamed_files(
        &self,
        user: UserId,
        mut files: Vec<crate::id::MediaId>,
    ) -> Result<Vec<crate::id::MediaId>, Error> {
        crate::engine::keep_named(&self.inner, user, None, &mut files).await?;
        Ok(files)
    }

    /// How many outcomes and tokens wait on disk for the store to answer again.
    #[must_use]
    pub fn kept_on_disk(&self) -> usize {
        self.inner.spill.kept()
    }

    /// A worker that publishes what is due; run it in this process or in many.
    #[must_use]
    pub fn worker(&self) -> Worker {
        Worker::new(self.inner.clone())
    }

    /// The adapter of a network.
    ///
    /// # Errors
    /// `NotFound` if this installation has none of that name.
    pub fn platform(&self, id: &PlatformId) -> Result<&Arc<dyn Platform>, Error> {
        self.inner.platform(id)
    }

    /// The adapters of this installation in the order of their ids.
    pub fn platforms(&self) -> impl Iterator<Item = &Arc<dyn Platform>> {
        self.inner.platforms.values()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> &Arc<Vault> {
        &self.inner.vault
    }

    /// Keeps tokens fresh.
    #[must_use]
    pub fn keeper(&self) -> &Arc<TokenKeeper> {
        &self.inner.keeper
    }

    /// Where the bytes of media live.
    #[must_use]
    pub fn library(&self) -> &Arc<dyn MediaLibrary> {
        &self.inner.library
    }

    /// What the installation knows of its use of the networks' limits.
    #[must_use]
    pub fn rates(&self) -> &Arc<RateLedger> {
        &self.inner.rates
    }

    /// Networks that take nothing from the whole installation for now, as all workers over the store know it: a bill, a version that was
    /// switched off, a limit of the app.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn stops(&self) -> Result<Vec<PlatformStop>, Error> {
        let states = self.inner.store.buckets(&self.inner.rates.stop_keys()).await?;
        Ok(self.inner.rates.stops(self.inner.cx.now(), &states))
    }

    /// For calls to a network outside of a delivery.
    #[must_use]
    pub fn call_context(&self) -> &CallContext {
        &self.inner.cx
    }

    /// Begins to connect accounts of a network for a user.
    pub fn connect(&self, user: &UserId, platform: &str) -> ConnectRequest<'_> {
        ConnectRequest::new(self, *user, platform)
    }

    /// Begins to schedule a post.
    pub fn schedule(&self, user: &UserId, draft: crate::draft::Draft) -> ScheduledDraft<'_> {
        ScheduledDraft::new(self, *user, draft)
    }
}

impl Inner {
    pub(crate) fn platform(&self, id: &PlatformId) -> Result<&Arc<dyn Platform>, Error> {
        self.platforms.get(id).ok_or_else(|| {
            let known = self.platforms.keys().map(PlatformId::as_str).collect::<Vec<_>>().join(", ");
            Error::not_found("platform", format!("there is no platform named {id} here; there is: {known}"))
                .advice("This installation does not know that network.")
        })
    }
}

/// Puts an installation together. A store and keys are needed; everything else has a default.
#[derive(Debug, Default)]
pub struct SocialBuilder {
    store: Option<Arc<dyn Store>>,
    keys: Option<Arc<dyn KeyProvider>>,
    platforms: BTreeMap<PlatformId, Arc<dyn Platform>>,
    library: Option<Arc<dyn MediaLibrary>>,
    clock: Option<Arc<dyn Clock>>,
    chance: Option<Arc<dyn Chance>>,
    retry: Option<RetryPolicy>,
    late_limit: Option<Duration>,
    lease: Option<Duration>,
    ignore_limits: bool,
    spill_dir: Option<PathBuf>,
    retention: Retention,
}

impl SocialBuilder {
    /// Where everything is kept.
    #[must_use]
    pub fn store(self, store: impl Store) -> Self {
        self.shared_store(Arc::new(store))
    }

    /// Where everything is kept, shared with the host.
    #[must_use]
    pub fn shared_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// The master keys that wrap the data keys of connections.
    #[must_use]
    pub fn keys(self, keys: KeyRing) -> Self {
        self.key_provider(Arc::new(keys))
    }

    /// Master keys that live elsewhere, such as in a key management service.
    #[must_use]
    pub fn key_provider(mut self, keys: Arc<dyn KeyProvider>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Adds a network. A second adapter for the same network replaces the first.
    #[must_use]
    pub fn platform(self, platform: impl Platform) -> Self {
        self.shared_platform(Arc::new(platform))
    }

    /// Adds a network whose adapter is shared.
    #[must_use]
    pub fn shared_platform(mut self, platform: Arc<dyn Platform>) -> Self {
        self.platforms.insert(platform.descriptor().id.clone(), platform);
        self
    }

    /// Where the bytes of media live; in memory unless said otherwise.
    #[must_use]
    pub fn media(self, library: impl MediaLibrary) -> Self {
        self.shared_media(Arc::new(library))
    }

    /// Where the bytes of media live, shared with the host.
    #[must_use]
    pub fn shared_media(mut self, library: Arc<dyn MediaLibrary>) -> Self {
        self.library = Some(library);
        self
    }

    /// Replaces the clock of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Replaces the source of jitter.
    #[must_use]
    pub fn chance(mut self, chance: Arc<dyn Chance>) -> Self {
        self.chance = Some(chance);
        self
    }

    /// Replaces the policy for what failed without effect.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Replaces [`DEFAULT_LATE_LIMIT`].
    #[must_use]
    pub fn late_limit(mut self, limit: Duration) -> Self {
        self.late_limit = Some(limit);
        self
    }

    /// How long a worker owns what it claimed; 60 seconds unless said otherwise. It must exceed twice the longest commit deadline.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// A folder on a local disk for what the store cannot take at the moment: outcomes of visible calls, and sealed tokens that replaced
    /// others. They survive the end of the process there and are the first to be written when the store answers again. All processes
    /// of a machine may share the folder. Without one, what the store has not taken is lost with the process, and each delivery
    /// concerned is found out by asking the network, or by a person where it cannot be asked.
    #[must_use]
    pub fn spill_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spill_dir = Some(folder.into());
        self
    }

    /// How long the history and files are kept, instead of [`Retention::default`]. Workers throw away what is older once a day.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Keeps the rate ledger but never waits for it: for tests and private networks.
    #[must_use]
    pub fn ignore_rate_limits(mut self) -> Self {
        self.ignore_limits = true;
        self
    }

    /// Puts it together.
    ///
    /// # Errors
    /// `Config` if the store or the keys are missing, if a network's commit deadline does not fit into the lease twice, or if the HTTP client
    /// cannot be built.
    pub fn build(self) -> Result<Social, Error> {
        let missing = |what: &'static str| Error::new(ErrorKind::Config, "social.build").message(what).effect_none();
        let store = self.store.ok_or_else(|| missing("a store is missing: call .store(...)"))?;
        let keys = self.keys.ok_or_else(|| missing("the master keys are missing: call .keys(...)"))?;
        let lease = self.lease.unwrap_or(Duration::from_secs(60));
        for platform in self.platforms.values() {
            // The heartbeat keeps two thirds of a lease, and the call has to fit into what is left with a margin.
            let deadline = platform.descriptor().flow.commit_deadline();
            if deadline * 2 > lease || (deadline + LEASE_MARGIN) * 3 >= lease * 2 {
                let id = &platform.descriptor().id;
                return Err(missing("the lease is too short").message(format!(
                    "the lease must hold the commit deadline of {id} twice, and fit it with 5 s into two thirds"
                )));
            }
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let chance = self.chance.unwrap_or_else(|| Arc::new(SeededChance::from_entropy()));
        let cx = CallContext::new(Http::new(clock.clone())?, clock, chance);
        let vault = Arc::new(Vault::new(keys));
        let platforms: Platforms = Arc::new(self.platforms);
        let tokens: Arc<dyn crate::store::TokenStore> = store.clone();
        let spill = Arc::new(self.spill_dir.map(Spill::in_folder).unwrap_or_default());
        let keeper = TokenKeeper::new(tokens, vault.clone(), platforms.clone(), cx.clone()).spilling(spill.clone());
        let keeper = Arc::new(keeper);
        let rules = platforms.values().map(|platform| {
            let descriptor = platform.descriptor();
            (descriptor.id.to_string(), descriptor.limits.clone())
        });
        let mode = if self.ignore_limits { RateMode::Off } else { RateMode::On };
        let rates = Arc::new(RateLedger::new(mode, rules));
        Ok(Social {
            inner: Arc::new(Inner {
                store,
                vault,
                platforms,
                keeper,
                library: self.library.unwrap_or_else(|| Arc::new(MemoryLibrary::default())),
                rates,
                cx,
                retry: self.retry.unwrap_or_default(),
                late_limit: self.late_limit.unwrap_or(DEFAULT_LATE_LIMIT),
                lease,
                spill,
                retention: self.retention,
                calibrating: tokio::sync::Mutex::default(),
                meter: Meter::default(),
            }),
        })
    }
}
