//! Where a scenario plays: a database, a sandbox, connected accounts, and processes over them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use social_core::{
    Account, DeliveryId, Error, ErrorKind, MediaRef, PhaseName, Platform, PostId, Scheduler as _, Social, UserId,
    account::AccountKind, library::DirectoryLibrary, media::sample, social::CallbackQuery, store::User, vault::KeyRing,
};
use social_platforms::{LinkedIn, X};
use url::Url;

use crate::{
    Failure,
    child::{SandboxConfig, WorkerConfig},
    clock::{Pace, WarpClock, after},
    database::{Backup, Database},
    disk::Disk,
    evidence::{self, Evidence},
    hurried::Hurried,
    load::{Files, Shape},
    process::Process,
    sandbox::SandboxProcess,
    scenario::Run,
};

/// So many people are connected at once.
const TOGETHER: usize = 8;
/// How long files are processed, in the run's time.
const PROCESSING_MS: u64 = 4_000;
/// How long posts are offered to a database that is away or held up, in real time.
const HELD_UP: Duration = Duration::from_secs(10);
/// Access tokens live longer than any run, unless a scenario wants otherwise.
const LONG_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a stage is made of.
#[derive(Debug, Clone, Copy)]
pub struct StageOptions {
    /// How much faster time passes.
    pub speed: u32,
    /// People on X.
    pub x: usize,
    /// Members of LinkedIn.
    pub members: usize,
    /// Whether two pages of LinkedIn are connected too.
    pub pages: bool,
    /// Whether the networks' limits hold, in the sandbox and for workers.
    pub limits: bool,
    /// Whether there are files in the mix that a network works on for a while: it wants to be asked about them only every ten seconds or so.
    pub slow_files: bool,
    /// How long access tokens live, in the run's time. Renewing them has a scenario of its own.
    pub token_life: Duration,
    /// The size of a disk of its own for the database, in MB. Only who may mount one can have it.
    pub disk_mb: Option<u32>,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self {
            speed: 1,
            x: 8,
            members: 4,
            pages: true,
            limits: false,
            slow_files: true,
            token_life: LONG_LIFE,
            disk_mb: None,
        }
    }
}

/// An account that posts are sent to.
#[derive(Debug, Clone)]
pub struct Place {
    /// The account.
    pub account: Account,
    /// The persona that owns it: faults can be aimed at it.
    pub persona: String,
}

/// What was scheduled, for comparing later.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Which post of the run.
    pub number: usize,
    /// The post.
    pub post: PostId,
    /// Its delivery.
    pub delivery: DeliveryId,
    /// What it is made of.
    pub shape: Shape,
    /// Where it goes.
    pub place: usize,
    /// When it is due.
    pub due: Timestamp,
}

/// A running stage. Everything ends with it.
#[derive(Debug)]
pub struct Stage {
    pace: Pace,
    limits: bool,
    slow_files: bool,
    keys: String,
    user: UserId,
    social: Social,
    places: Vec<Place>,
    files: Files,
    planned: Mutex<Vec<Planned>>,
    next: AtomicUsize,
    children: AtomicUsize,
    sandbox: SandboxProcess,
    database: Database,
    disk: Option<Disk>,
    folder: PathBuf,
}

impl Stage {
    /// Starts a database and a sandbox, and connects accounts through the sandbox's consent pages.
    ///
    /// # Errors
    /// If any of that does not work.
    pub async fn set(run: &Run, options: StageOptions) -> Result<Self, Failure> {
        let folder = run.folder()?;
        let disk = options.disk_mb.map(Disk::mount).transpose()?;
        let database = match &disk {
            Some(disk) => Database::open_on(run.store, disk.path())?,
            None => Database::open(run.store, &folder)?,
        };
        let pace = Pace::from_now(options.speed);
        let config = SandboxConfig {
            seed: run.seed,
            pace,
            processing_ms: PROCESSING_MS,
            limits: options.limits,
            token_life_s: options.token_life.as_secs(),
        };
        let sandbox = SandboxProcess::start(&folder, &config).await?;
        let (ring, keys) = KeyRing::generate("chaos")?;
        let social = installation(&database, ring, &folder, sandbox.url(), pace).await?;
        let user = UserId::new();
        let row = User { id: user, email: "chaos@example.org".into(), plan: "chaos".into(), created_at: pace.now() };
        if !social.store().insert_user(&row).await? {
            return Err("the database is not empty".into());
        }
        let image = MediaRef::Bytes(sample::png(64, 48).into());
        let video = MediaRef::Bytes(sample::Mp4::new(640, 360, 5_000).total_bytes(120_000).bytes().into());
        let files = Files {
            image: MediaRef::Stored(social.take_in(user, &image).await?),
            video: MediaRef::Stored(social.take_in(user, &video).await?),
        };
        let mut stage = Self {
            pace,
            limits: options.limits,
            slow_files: options.slow_files,
            keys: keys.to_string(),
            user,
            social,
            places: Vec::new(),
            files,
            planned: Mutex::default(),
            next: AtomicUsize::new(1),
            children: AtomicUsize::new(1),
            sandbox,
            database,
            disk,
            folder,
        };
        stage.places = stage.connect_all(options).await?;
        Ok(stage)
    }

    async fn connect_all(&self, options: StageOptions) -> Result<Vec<Place>, Failure> {
        let mut people: Vec<(&str, String, Option<&str>)> = Vec::new();
        people.extend((0..options.x).map(|n| ("x", format!("x{n:04}"), None)));
        people.extend((0..options.members).map(|n| ("linkedin", format!("li{n:04}"), Some("member"))));
        for (platform, name, _) in &people {
            self.sandbox.persona(platform, name).await?;
        }
        if options.pages {
            people.extend(["ada", "grace"].map(|name| ("linkedin", name.to_owned(), Some("page"))));
        }
        let mut places = Vec::new();
        for group in people.chunks(TOGETHER) {
            let group = group.iter().map(|(platform, name, preset)| async move {
                let accounts = self.connect(platform, name, *preset).await?;
                Ok::<_, Failure>((name.clone(), accounts))
            });
            for connected in futures_util::future::join_all(group).await {
                let (persona, accounts) = connected?;
                let place = |account| Place { account, persona: persona.clone() };
                places.extend(accounts.into_iter().map(place));
            }
        }
        // Whoever asks for a page gets the person too, and two may act for one page.
        let mut seen = BTreeSet::new();
        places.retain(|place: &Place| {
            let page = place.account.profile.kind == AccountKind::Organization;
            let own = ["ada", "grace"].contains(&place.persona.as_str());
            (page || !own) && seen.insert(place.account.id)
        });
        Ok(places)
    }

    /// Connects what a persona owns, as a browser would, and answers with the accounts.
    ///
    /// # Errors
    /// If the sandbox or the SDK refuses.
    pub async fn connect(&self, platform: &str, persona: &str, preset: Option<&str>) -> Result<Vec<Account>, Failure> {
        let callback = format!("http://127.0.0.1:8080/auth/callback/{platform}");
        let started = self.social.connect(&self.user, platform).callback(&callback).preset(preset).begin().await?;
        let mut consent = started.url;
        consent.query_pairs_mut().append_pair("auto", "approve").append_pair("persona", persona);
        let answer = self.sandbox.client().get(consent).send().await?;
        let back = answer.headers().get("location").ok_or_else(|| format!("{persona} was not sent back"))?;
        let back: Url = back.to_str()?.parse()?;
        let query = CallbackQuery::parse(back.query().unwrap_or_default());
        Ok(self.social.finish(platform, &query, &started.cookie).await?.accounts)
    }

    /// How time passes here.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The present instant of the run.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.social.call_context().clock().now()
    }

    /// The installation of this process: it schedules, asks and decides, and runs no worker.
    #[must_use]
    pub fn social(&self) -> &Social {
        &self.social
    }

    /// Whose everything is.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Where posts can go.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The networks.
    #[must_use]
    pub fn sandbox(&self) -> &SandboxProcess {
        &self.sandbox
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The database's own disk, if the options asked for one.
    #[must_use]
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Puts a backup back: nobody else may work on the database then.
    ///
    /// # Errors
    /// If it cannot be put back or opened.
    pub async fn restore(&mut self, backup: &Backup) -> Result<(), Failure> {
        self.database.restore(backup)?;
        let ring = KeyRing::parse(&self.keys)?;
        self.social = installation(&self.database, ring, &self.folder, self.sandbox.url(), self.pace).await?;
        Ok(())
    }

    /// Where database, files and logs are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The line that `SOCIAL_MASTER_KEYS` takes.
    #[must_use]
    pub fn keys(&self) -> &str {
        &self.keys
    }

    /// What was scheduled so far, in the order of numbers.
    #[must_use]
    pub fn planned(&self) -> Vec<Planned> {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        planned.sort_by_key(|one| one.number);
        planned
    }

    /// Schedules a post of that shape to a place, due so long from now in the run's time.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn post(&self, shape: Shape, place: usize, ahead: Duration) -> Result<Planned, Failure> {
        let number = self.number();
        let due = after(self.now(), ahead);
        self.take(number, (shape, place), (!ahead.is_zero()).then_some(due), HELD_UP).await
    }

    /// The same, over a database that may be away: with one key until it is taken.
    ///
    /// # Errors
    /// If it is not taken within `patience`, in real time.
    pub async fn insist(
        &self,
        shape: Shape,
        place: usize,
        ahead: Duration,
        patience: Duration,
    ) -> Result<Planned, Failure> {
        let (number, due) = (self.number(), after(self.now(), ahead));
        self.take(number, (shape, place), Some(due), patience).await
    }

    /// The same key makes one post, however often it is sent.
    async fn take(
        &self,
        number: usize,
        (shape, place): (Shape, usize),
        due: Option<Timestamp>,
        patience: Duration,
    ) -> Result<Planned, Failure> {
        let started = Instant::now();
        loop {
            match self.send(number, shape, place, due).await {
                Ok(planned) => return Ok(planned),
                Err(error) if error.kind() == ErrorKind::Storage && started.elapsed() < patience => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The number of the next post, for whoever schedules it in another way and [adopts](Self::adopt) it.
    pub fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Remembers a post that was scheduled in another way.
    pub fn adopt(&self, planned: Planned) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).push(planned);
    }

    async fn send(&self, number: usize, shape: Shape, place: usize, due: Option<Timestamp>) -> Result<Planned, Error> {
        let gone = |what: &'static str| Error::new(ErrorKind::Unexpected, "chaos.post").message(what);
        let account = &self.places.get(place).ok_or_else(|| gone("there is no such place"))?.account;
        let draft = shape.draft(number, &self.files);
        let mut scheduled = self.social.schedule(&self.user, draft).on([account]).key(format!("chaos-{number}"));
        if let Some(due) = due {
            scheduled = scheduled.at(due);
        }
        let stored = scheduled.send().await?;
        let delivery = stored.deliveries.first().ok_or_else(|| gone("a post without a delivery"))?.id;
        let planned = Planned { number, post: stored.post.id, delivery, shape, place, due: stored.post.scheduled_at };
        self.adopt(planned.clone());
        Ok(planned)
    }

    /// Schedules so many posts of mixed shapes over all places, due by chance within `spread` of the run's time.
    ///
    /// # Errors
    /// If one is refused.
    pub async fn load(
        &self,
        random: &mut crate::random::Random,
        posts: usize,
        spread: Duration,
    ) -> Result<(), Failure> {
        for _ in 0..posts {
            let (shape, place) = self.any(random);
            self.post(shape, place, random.between(Duration::ZERO, spread)).await?;
        }
        Ok(())
    }

    /// A mixed shape and a place by chance.
    pub fn any(&self, random: &mut crate::random::Random) -> (Shape, usize) {
        let place = random.place(self.places.len());
        let platform = self.places.get(place).map_or("x", |place| place.account.platform.as_str());
        let shape = match Shape::by_chance(random, platform) {
            Shape::Image | Shape::Video if !self.slow_files && platform == "linkedin" => Shape::Text,
            Shape::Video if !self.slow_files => Shape::Image,
            shape => shape,
        };
        (shape, place)
    }

    /// Tries deliveries again that were parked: a delivery that three workers in a row died with, or lost their lease with, is suspected of
    /// killing them and fails with a notice. Here it is innocent, and a person presses "try again". Answers with how many there were.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn retry_parked(&self, evidence: &Evidence) -> Result<usize, Failure> {
        let mut parked = 0;
        let failed = evidence.deliveries.iter().filter(|delivery| delivery.phase == PhaseName::Failed);
        let failed: BTreeSet<usize> = failed.map(|delivery| delivery.number).collect();
        for planned in self.planned().iter().filter(|planned| failed.contains(&planned.number)) {
            let found = self.social.delivery(self.user, planned.delivery).await?;
            if found.error.is_some_and(|error| error.contains("workers died repeatedly")) {
                self.social.retry(self.user, planned.post).await?;
                parked += 1;
            }
        }
        Ok(parked)
    }

    /// Waits until nothing is open, trying again what was parked. Answers with how much that was.
    ///
    /// # Errors
    /// As [`drained`](Self::drained).
    pub async fn drained_with_patience(&self, patience: Duration) -> Result<usize, Failure> {
        let mut parked = 0;
        for _ in 0..5 {
            self.drained(patience).await?;
            let again = self.retry_parked(&self.evidence().await?).await?;
            parked += again;
            if again == 0 {
                break;
            }
        }
        Ok(parked)
    }

    /// What a worker of this stage is told; change what should be different.
    #[must_use]
    pub fn worker_config(&self) -> WorkerConfig {
        WorkerConfig {
            name: format!("worker{:04}", self.children.fetch_add(1, Ordering::Relaxed)),
            database_url: self.database.url().to_owned(),
            keys: self.keys.clone(),
            sandbox: self.sandbox.url().to_owned(),
            media: self.folder().join("media").display().to_string(),
            pace: self.pace,
            wrong_ms: 0,
            in_flight: 0,
            limits: self.limits,
            spill: None,
        }
    }

    /// Starts a worker process over the SDK.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn worker(&self, config: &WorkerConfig) -> Result<Process, Failure> {
        let json = serde_json::to_string(config)?;
        Process::start(&config.name, self.folder(), &["worker", &json], &[])
    }

    /// The environment of the production program on this stage. Its clock is the machine's, so the stage's speed must be 1.
    #[must_use]
    pub fn server_variables(&self) -> Vec<(&'static str, String)> {
        let media = self.folder().join("media").display().to_string();
        let mut variables = vec![
            ("SOCIAL_DATABASE_URL", self.database.url().to_owned()),
            ("SOCIAL_MASTER_KEYS", self.keys.clone()),
            ("SOCIAL_ADMIN_KEY", "admin-key-of-the-chaos-0123456789".to_owned()),
            ("SOCIAL_LISTEN", "127.0.0.1:0".to_owned()),
            ("SOCIAL_MEDIA_DIR", media),
            ("SOCIAL_RATE_LIMITS", if self.limits { "on" } else { "off" }.to_owned()),
            ("SOCIAL_LATE_LIMIT", "10000 min".to_owned()),
            ("SOCIAL_LOG", "info".to_owned()),
            ("SOCIAL_X_CLIENT_ID", "sandbox-x-client".to_owned()),
            ("SOCIAL_X_CLIENT_SECRET", "sandbox-x-secret".to_owned()),
            ("SOCIAL_X_BASE_URL", self.sandbox.base_url("x")),
            ("SOCIAL_LINKEDIN_CLIENT_ID", "sandbox-linkedin-client".to_owned()),
            ("SOCIAL_LINKEDIN_CLIENT_SECRET", "sandbox-linkedin-secret".to_owned()),
            ("SOCIAL_LINKEDIN_BASE_URL", self.sandbox.base_url("linkedin")),
        ];
        variables.sort_unstable();
        variables
    }

    /// Starts the production program with these arguments, or another build of it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn server(&self, arguments: &[&str], program: Option<&Path>) -> Result<Process, Failure> {
        self.server_with(arguments, program, &[])
    }

    /// The same with other settings.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn server_with(
        &self,
        arguments: &[&str],
        program: Option<&Path>,
        settings: &[(&'static str, String)],
    ) -> Result<Process, Failure> {
        let name = format!("server{:04}", self.children.fetch_add(1, Ordering::Relaxed));
        let mut variables = self.server_variables();
        variables.retain(|(name, _)| settings.iter().all(|(other, _)| other != name));
        variables.extend_from_slice(settings);
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match program {
            Some(program) => Process::start_program(program, &name, self.folder(), arguments, &variables),
            None => Process::start(&name, self.folder(), &[&["server", "--"], arguments].concat(), &variables),
        }
    }

    /// Where a server of this stage listens, as soon as it does.
    ///
    /// # Errors
    /// If it does not come to it.
    pub async fn served_at(&self, server: &Process) -> Result<String, Failure> {
        let (log, started) = (self.folder.join(format!("{}.log", server.name())), Instant::now());
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let found = text.split_once("the API is served at http://").map(|(_, rest)| rest);
            if let Some(address) = found.and_then(|rest| rest.split(['/', '"', ' ', '\n']).next()) {
                return Ok(format!("http://{address}"));
            }
            if started.elapsed() > Duration::from_secs(60) {
                return Err(format!("{} does not serve; see its log", server.name()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nothing is open any more but what waits for a person. Answers with how much of that there is.
    ///
    /// # Errors
    /// If it takes longer than `patience`, in real time.
    pub async fn drained(&self, patience: Duration) -> Result<u64, Failure> {
        let started = Instant::now();
        loop {
            let depth = self.social.store().depth().await;
            // The database may be the one that is tormented.
            if let Ok(depth) = depth {
                let of_a_person = |phase: &str| ["unconfirmed", "awaiting_reconnect"].contains(&phase);
                let (waiting, open): (Vec<_>, Vec<_>) =
                    depth.into_iter().partition(|(_, phase, _)| of_a_person(phase.as_str()));
                if open.is_empty() {
                    return Ok(waiting.iter().map(|(_, _, count)| count).sum());
                }
                if started.elapsed() > patience {
                    let open: Vec<_> =
                        open.iter().map(|(network, phase, n)| format!("{n} {phase} on {network}")).collect();
                    return Err(format!("still open after {} s: {}", patience.as_secs(), open.join(", ")).into());
                }
            } else if started.elapsed() > patience {
                return Err("the database does not answer any more".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything that the checker judges, as it stands now.
    ///
    /// # Errors
    /// If store or sandbox do not answer.
    pub async fn evidence(&self) -> Result<Evidence, Failure> {
        let evidence = evidence::collect(self).await?;
        // For whoever looks into the folder afterwards: the database may be gone then.
        let unsettled = evidence.deliveries.iter().filter(|delivery| delivery.phase != PhaseName::Published);
        let told: String = unsettled.map(|delivery| format!("{delivery:#?}\n")).collect();
        std::fs::write(self.folder.join("unsettled.txt"), told)?;
        Ok(evidence)
    }

    /// Sets the latency of the networks: at least so many real milliseconds, and at most.
    ///
    /// # Errors
    /// If the sandbox does not answer.
    pub async fn latency(&self, least_ms: u64, most_ms: u64) -> Result<(), Failure> {
        let spread = most_ms.saturating_sub(least_ms);
        self.sandbox.set(&json!({ "latency_ms": least_ms, "latency_spread_ms": spread })).await
    }
}

/// An installation over the stage's database that schedules and asks.
async fn installation(
    database: &Database,
    ring: KeyRing,
    folder: &Path,
    sandbox: &str,
    pace: Pace,
) -> Result<Social, Failure> {
    let mut social = Social::builder()
        .shared_store(database.store_at(pace).await?)
        .keys(ring)
        .media(DirectoryLibrary::open(folder.join("media"))?)
        .clock(Arc::new(WarpClock::new(pace, SignedDuration::ZERO)))
        .late_limit(Duration::from_secs(7 * 24 * 3600))
        .ignore_rate_limits();
    for platform in platforms(sandbox, pace)? {
        social = social.shared_platform(platform);
    }
    Ok(social.build()?)
}

/// The adapters, pointed at a sandbox.
///
/// # Errors
/// If one refuses its settings.
pub fn platforms(sandbox: &str, pace: Pace) -> Result<Vec<Arc<dyn Platform>>, Failure> {
    let base = |platform: &str| format!("{sandbox}/{platform}").parse::<Url>();
    let x = X::builder("sandbox-x-client", "sandbox-x-secret").base_url(base("x")?).build()?;
    let linkedin = LinkedIn::builder("sandbox-linkedin-client", "sandbox-linkedin-secret");
    let linkedin = linkedin.base_url(base("linkedin")?).build()?;
    let hurried = |platform: Arc<dyn Platform>| -> Arc<dyn Platform> {
        if pace.speed > 1 { Arc::new(Hurried::new(platform, pace)) } else { platform }
    };
    Ok(vec![hurried(Arc::new(x)), hurried(Arc::new(linkedin))])
}
