//! What all routes share.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use social_core::{
    Clock, Error, ErrorKind, Platform, PlatformId, Social, Store, UserId, crypto,
    descriptor::Abilities,
    engine::Retention,
    vault::{KeyRing, Purpose, Vault},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    caller::KeyCache,
    config::{AllowedOrigins, Config, IpNetwork, ReturnUrls, Switch, is_loopback},
    intake::Intake,
    library::ServerLibrary,
    limiter::Limiter,
};

/// An installation with everything that its routes need. Cheap to clone; clones are the same installation.
#[derive(Debug, Clone)]
pub struct State(Arc<Shared>);

/// What all routes share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) social: Social,
    pub(crate) settings: Settings,
    pub(crate) library: ServerLibrary,
    pub(crate) intake: Intake,
    pub(crate) keys: KeyCache,
    pub(crate) limiter: Limiter,
    /// Seals links and people on their way.
    pub(crate) pending: Vault,
    /// Seals stored answers.
    pub(crate) answers: Vault,
    /// Completes when the server stops; endless answers end then.
    pub(crate) stopping: CancellationToken,
    /// Work that goes on when its caller has gone away.
    pub(crate) tasks: TaskTracker,
    pub(crate) listeners: Listeners,
    recorder: Option<PrometheusHandle>,
}

impl std::ops::Deref for State {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What routes need of the configuration, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) public_url: Url,
    pub(crate) admin_key: Option<[u8; 32]>,
    pub(crate) metrics_token: Option<[u8; 32]>,
    pub(crate) allowed_origins: AllowedOrigins,
    pub(crate) return_urls: ReturnUrls,
    pub(crate) trusted_proxies: Vec<IpNetwork>,
    /// The scope presets that operators chose, by network.
    pub(crate) presets: HashMap<PlatformId, String>,
}

impl Settings {
    /// Whether the world reaches this server through TLS.
    pub(crate) fn secure(&self) -> bool {
        self.public_url.scheme() == "https"
    }

    /// Whether only programs on this machine are meant to reach it.
    pub(crate) fn local(&self) -> bool {
        is_loopback(&self.public_url)
    }
}

/// Puts a [`State`] together. A store is needed; networks and the rest have defaults.
#[derive(Debug)]
#[must_use = "nothing exists before `build`"]
pub struct StateBuilder {
    config: Config,
    listening: SocketAddr,
    store: Option<Arc<dyn Store>>,
    platforms: Vec<Arc<dyn Platform>>,
    clock: Option<Arc<dyn Clock>>,
    recorder: Option<PrometheusHandle>,
}

impl State {
    /// Begins with what the operator set.
    pub fn builder(config: Config) -> StateBuilder {
        let listening = config.listen;
        StateBuilder { config, listening, store: None, platforms: Vec::new(), clock: None, recorder: None }
    }

    /// The installation behind the routes.
    #[must_use]
    pub fn social(&self) -> &Social {
        &self.social
    }

    /// How the world reaches this server.
    #[must_use]
    pub fn public_url(&self) -> &Url {
        &self.settings.public_url
    }

    /// Ends endless answers and refuses new ones. Call it when the server stops.
    pub fn begin_stopping(&self) {
        self.stopping.cancel();
    }

    /// Completes when work whose callers have gone away is done too.
    pub async fn finish_tasks(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Removes what earlier processes left of uploads that never ended.
    pub async fn sweep_uploads(&self) {
        self.intake.sweep().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.social.call_context().now()
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.social.call_context().clock().monotonic()
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.social.store()
    }

    pub(crate) fn recorder(&self) -> Option<&PrometheusHandle> {
        self.recorder.as_ref()
    }

    /// What a network can do; nothing, if this installation does not know it any more.
    pub(crate) fn abilities(&self) -> impl Fn(&PlatformId) -> Abilities + '_ {
        |id| self.social.platform(id).map(|platform| platform.descriptor().abilities).unwrap_or_default()
    }
}

impl StateBuilder {
    /// Where everything is kept.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Adds a network.
    pub fn platform(mut self, platform: Arc<dyn Platform>) -> Self {
        self.platforms.push(platform);
        self
    }

    /// The address that the server really listens on, where the configuration leaves the port open.
    pub fn listening(mut self, address: SocketAddr) -> Self {
        self.listening = address;
        self
    }

    /// Replaces the clock of the operating system.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// What `/metrics` shows besides what is counted when it is asked.
    pub fn recorder(mut self, recorder: PrometheusHandle) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Puts it together. Reads nothing from the store; see [`check_keys`](crate::keys::check) for the proof of the master keys.
    ///
    /// # Errors
    /// `Config` that says what is missing or wrong.
    pub fn build(self) -> Result<State, Error> {
        let Self { config, listening, store, platforms, clock, recorder } = self;
        let store = store.ok_or_else(|| faulty("a store is missing"))?;
        let ring = key_ring(&config)?;
        let public_url = config.public_address(listening);
        let library = ServerLibrary::open(&config.media_dir, ring.signer(Purpose::MediaLinks), public_url.clone())?;
        let mut builder =
            Social::builder().shared_store(store).keys(ring).media(library.clone()).late_limit(config.late_limit.0);
        for platform in platforms {
            builder = builder.shared_platform(platform);
        }
        if let Some(clock) = clock {
            builder = builder.clock(clock);
        }
        let days = |days: u32| (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 3600));
        builder = builder
            .retention(Retention { history: days(config.keep_history_days), media: days(config.keep_media_days) });
        if let Some(folder) = config.spill_folder() {
            builder = builder.spill_dir(folder);
        }
        if config.rate_limits == Switch::Off {
            builder = builder.ignore_rate_limits();
        }
        let social = builder.build()?;
        let hashed = |secret: &crate::config::Secret| crypto::sha256(secret.expose().as_bytes());
        let presets = config
            .networks
            .iter()
            .filter_map(|(name, network)| Some((PlatformId::parse(name).ok()?, network.preset.clone()?)));
        let settings = Settings {
            public_url,
            admin_key: config.admin_key.as_ref().map(hashed),
            metrics_token: config.metrics_token.as_ref().map(hashed),
            allowed_origins: config.allowed_origins.clone(),
            return_urls: config.return_urls.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            presets: presets.collect(),
        };
        let intake = Intake::new(&config, library.clone())?;
        Ok(State(Arc::new(Shared {
            pending: social.vault().for_purpose(Purpose::Pending),
            answers: social.vault().for_purpose(Purpose::Idempotency),
            social,
            settings,
            library,
            intake,
            keys: KeyCache::default(),
            limiter: Limiter::new(&config),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            listeners: Listeners::default(),
            recorder,
        })))
    }
}

/// The master keys of the configuration.
///
/// # Errors
/// `Config` that says what is missing or wrong.
pub fn key_ring(config: &Config) -> Result<KeyRing, Error> {
    let keys = config
        .master_keys
        .as_ref()
        .ok_or_else(|| faulty("SOCIAL_MASTER_KEYS is not set; `social-server keys generate` prints a value for it"))?;
    Ok(KeyRing::parse(keys.expose())?)
}

pub(crate) fn faulty(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "start").message(message).effect_none()
}

/// How many live streams each user has open.
#[derive(Debug, Default, Clone)]
pub(crate) struct Listeners(Arc<Mutex<HashMap<UserId, usize>>>);

/// A place among the listeners; given back when dropped.
#[derive(Debug)]
pub(crate) struct Listening(Listeners, UserId);

impl Listeners {
    /// Takes a place, unless the user has `most` already.
    pub(crate) fn enter(&self, user: UserId, most: usize) -> Option<Listening> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(user).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Listening(self.clone(), user))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}

/// Where the media folder is, as it is shown to operators.
#[must_use]
pub fn media_dir(config: &Config) -> PathBuf {
    std::path::absolute(&config.media_dir).unwrap_or_else(|_| config.media_dir.clone())
}
