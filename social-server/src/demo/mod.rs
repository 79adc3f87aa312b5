//! Everything at work in one process: simulated networks, the API, a worker, and a client that knows nothing but HTTP.

mod browser;
mod client;
mod follow;
mod picture;
mod plan;
mod report;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;
use social_core::{crypto, vault::KeyRing};
use social_sandbox::{RunningSandbox, Sandbox};
use tempfile::TempDir;

use self::{
    client::{Client, Trouble},
    follow::Follower,
    plan::{Place, Planned},
};
use crate::{
    accept::Acceptor,
    cli::{log, say},
    config::{Config, LogFormat, NetworkConfig, Secret},
    keys::Missing,
    serve::{self, Running},
    start, telemetry,
};

pub use self::report::Summary;

/// The port of the API unless it is taken or another is asked for.
const USUAL_PORT: u16 = 8080;
/// The whole run may take so long.
const PATIENCE: Duration = Duration::from_secs(50);

/// How the demo runs.
#[derive(Debug, Args)]
pub struct Options {
    /// Ends when everything is published, with a JSON summary as the last line; 0 only if every post is out exactly once.
    #[arg(long)]
    pub once: bool,
    /// The port of the API; 8080 if it is free, else any. The sandbox takes any.
    #[arg(long)]
    pub port: Option<u16>,
    /// Keeps the database here (sqlite://demo.db, postgres://...) instead of in a folder that is removed at the end.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// How many seconds ahead the posts are scheduled.
    #[arg(long, value_name = "SECONDS", default_value_t = 4)]
    pub ahead: u64,
    /// How long the simulated networks work on uploaded files.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub processing_ms: u64,
}

/// Runs the demo to its end.
pub async fn run(options: Options) -> ExitCode {
    let level = std::env::var("SOCIAL_LOG").unwrap_or_else(|_| "warn,social_server::accept=error".to_owned());
    log(&Config { log: level, log_format: LogFormat::Text, ..Config::default() });
    let once = options.once;
    let stop = serve::asked_to_stop();
    tokio::pin!(stop);
    let stage = match Stage::set(&options).await {
        Ok(stage) => stage,
        Err(trouble) => return failed(once, &trouble),
    };
    let played = tokio::select! {
        played = tokio::time::timeout(PATIENCE, stage.play(&options)) => played,
        () = &mut stop => {
            stage.clear().await;
            return ExitCode::FAILURE;
        }
    };
    let code = match played.unwrap_or_else(|_| Err("the demo took too long".into())) {
        Ok((summary, key)) => {
            if once {
                say(&summary.json().to_string());
            } else {
                stage.invite(&key);
                stop.await;
                say("Stopping.");
            }
            if summary.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(trouble) => failed(once, &trouble),
    };
    stage.clear().await;
    telemetry::finish().await;
    code
}

fn failed(once: bool, trouble: &Trouble) -> ExitCode {
    say(&format!("The demo failed: {trouble}"));
    if once {
        say(&json!({ "ok": false, "error": trouble.to_string() }).to_string());
    }
    ExitCode::FAILURE
}

/// What the demo plays on: simulated networks and a server in front of them.
#[derive(Debug)]
pub struct Stage {
    sandbox: RunningSandbox,
    running: Running,
    url: String,
    admin_key: String,
    database: String,
    folder: TempDir,
}

impl Stage {
    /// Starts everything on loopback addresses.
    ///
    /// # Errors
    /// A sentence for whoever runs it.
    pub async fn set(options: &Options) -> Result<Self, Trouble> {
        let settings = social_sandbox::Settings { processing_ms: options.processing_ms, ..Default::default() };
        let sandbox = Sandbox::new().seed(20_261_122).settings(settings).start().await?;
        let folder = tempfile::tempdir()?;
        let database =
            options.database.clone().unwrap_or_else(|| format!("sqlite://{}", folder.path().join("demo.db").display()));
        // An id of its own for each run: a database that is kept remembers earlier ones.
        let (_, keys) =
            KeyRing::generate(&format!("demo-{}", crypto::random_token(6))).map_err(|error| error.to_string())?;
        let admin_key = crypto::random_token(24);
        let acceptor = bind(options.port).await?;
        let listening = acceptor.address()?;
        let config = Config {
            database_url: Secret::from(database.clone()),
            listen: listening,
            master_keys: Some(Secret::from(keys.as_str())),
            admin_key: Some(Secret::from(admin_key.clone())),
            media_dir: media_folder(&folder, options),
            networks: ["x", "linkedin"].into_iter().map(|name| (name.to_owned(), network(&sandbox, name))).collect(),
            ..Config::default()
        };
        // A database that is kept was sealed by the keys of an earlier demo, which nobody has any more.
        let missing = if options.database.is_some() { Missing::Allow } else { Missing::Refuse };
        let recorder = start::recorder().ok();
        let state = start::installation(&config, listening, missing, recorder.clone()).await;
        let state = state.map_err(|error| error.to_string())?;
        let url = state.public_url().as_str().trim_end_matches('/').to_owned();
        let running = Running::begin(state, Some(acceptor), true, recorder);
        Ok(Self { sandbox, running, url, admin_key, database, folder })
    }

    /// Plays the whole demo as a client; answers with what became of it and a key to try things by hand.
    ///
    /// # Errors
    /// A sentence for whoever runs it.
    pub async fn play(&self, options: &Options) -> Result<(Summary, String), Trouble> {
        let started = Instant::now();
        say(&format!("Simulated networks   {}   (what was published, as people see it)", self.sandbox.url()));
        say(&format!("API                  {}   (description: {}/docs)", self.url, self.url));
        say(&format!("Database             {}", shown(&self.database)));
        say("");
        let admin = Client::new(&self.url, &self.admin_key)?;
        let email = format!("demo-{}@example.com", crypto::random_token(6).to_lowercase());
        let user = admin.post("/users", &json!({ "email": email, "plan": "demo" })).await?;
        let key = admin.post("/keys", &json!({ "user_id": user["id"], "name": "demo" })).await?;
        let key = key["key"].as_str().ok_or("the API gave no key")?.to_owned();
        let client = Client::new(&self.url, &key)?;
        say("Connecting accounts, as three people in three browsers would:");
        for (platform, persona, preset) in
            [("x", "ada", None), ("linkedin", "linus", Some("member")), ("linkedin", "ada", Some("page"))]
        {
            browser::connect(&client, platform, persona, preset).await?;
        }
        let places = plan::places(&client).await?;
        say("");
        say("Uploading pictures, a video and a document:");
        let files = plan::upload(&client).await?;
        say("");
        say(&format!("Scheduling, {} seconds ahead:", options.ahead));
        let planned = plan::schedule(&client, &places, &files, Duration::from_secs(options.ahead)).await?;
        say("");
        say("What happens now, live from GET /events:");
        let follower = Follower::begin(&client, &planned).await?;
        let ended = plan::wait(&client, &planned).await?;
        follower.end().await;
        say("");
        let ledger = Client::new(&self.sandbox.url(), "")?.get("/_sandbox/ledger").await?;
        let summary = Summary::new(&ended, &ledger, started.elapsed());
        summary.print();
        Ok((summary, key))
    }

    fn invite(&self, key: &str) {
        let Self { url, admin_key, .. } = self;
        let sandbox = self.sandbox.url();
        say("");
        say("Everything stays up. Look around:");
        say(&format!("  {sandbox}/   what was published, as people see it"));
        say(&format!("  {url}/docs   the API, with a form to try each call; give it the key below"));
        say(&format!("  {url}/metrics   what is counted"));
        say("");
        say("Try it by hand:");
        say(&format!("  export API={url} KEY={key} ADMIN={admin_key}   (the last one makes users and keys)"));
        say(&format!("  curl -s {url}/accounts -H \"Authorization: Bearer $KEY\""));
        say(&format!(
            "  curl -s {url}/post/schedule -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\"
        ));
        say("       -d '{\"content\": \"Hello from curl\", \"platforms\": [\"x\", \"linkedin\"]}'");
        say(&format!(
            "  curl -s {url}/auth/links -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' -d '{{\"platform\": \"x\"}}'"
        ));
        say("       and open the link in a browser to connect another account");
        say(&format!("  curl -sN {url}/events -H \"Authorization: Bearer $KEY\"   live changes"));
        say(&format!("  curl -s {sandbox}/_sandbox/ledger   every object that ever became visible"));
        say("  curl -s -X POST \\");
        say(&format!(
            "       {sandbox}/_sandbox/faults -d '{{\"platform\":\"x\",\"operation\":\"posts.create\",\"when\":\"after\",\"fault\":\"reset\",\"times\":1}}'"
        ));
        say("       and the next post on X loses its answer: it is asked for, never sent twice");
        say("");
        say("Ctrl-C ends it.");
    }

    /// The simulated networks.
    #[must_use]
    pub fn sandbox(&self) -> &RunningSandbox {
        &self.sandbox
    }

    /// Where the API is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the database and the files are, unless a database was given.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops everything.
    pub async fn clear(self) {
        self.running.finish().await;
        self.sandbox.stop().await;
    }
}

async fn bind(port: Option<u16>) -> Result<Acceptor, Trouble> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match port {
        Some(port) => {
            Ok(Acceptor::bind(at(port)).await.map_err(|error| format!("port {port} cannot be used: {error}"))?)
        }
        None => match Acceptor::bind(at(USUAL_PORT)).await {
            Ok(acceptor) => Ok(acceptor),
            Err(_) => Ok(Acceptor::bind(at(0)).await?),
        },
    }
}

fn network(sandbox: &RunningSandbox, name: &str) -> NetworkConfig {
    NetworkConfig {
        client_id: Some(format!("sandbox-{name}-client")),
        client_secret: Some(Secret::from(format!("sandbox-{name}-secret"))),
        base_url: sandbox.base_url(name).parse().ok(),
        ..NetworkConfig::default()
    }
}

/// Files live as long as the database that knows them.
fn media_folder(folder: &TempDir, options: &Options) -> PathBuf {
    if options.database.is_some() { PathBuf::from("social-media") } else { folder.path().join("media") }
}

/// An address of a database without what stands before its host.
fn shown(database: &str) -> String {
    match (database.split_once("://"), database.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://***@{rest}"),
        _ => database.to_owned(),
    }
}

/// How a place is called in what is printed.
fn name_of(place: &Place) -> String {
    match &place.handle {
        Some(handle) => format!("@{handle}"),
        None => place.display_name.clone(),
    }
}

/// The words that a line about a delivery begins with.
fn subject(planned: &Planned, delivery: &str) -> Option<String> {
    let place = planned.place_of(delivery)?;
    Some(format!("{:<9} {:<19} {:<10}", place.platform, name_of(place), planned.flavor))
}
