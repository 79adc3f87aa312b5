//! The commands of the binary.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use social_core::{Error, vault::KeyRing};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, LogFormat},
    doctor,
    keys::{self, Missing},
    openapi,
    serve::{self, Role},
    start,
    state::key_ring,
    telemetry,
};

const ENVIRONMENT: &str = "\
Settings come from a TOML file (--config) and from the environment, which wins. In the file a setting has the name of its variable in
small letters without SOCIAL_, and networks stand in tables: [networks.x] client_id = \"...\". Unknown settings are errors.

  SOCIAL_DATABASE_URL        sqlite://social.db (default) or postgres://user:password@host/name; DATABASE_URL counts too
  SOCIAL_LISTEN              address and port of the API (127.0.0.1:8080); PORT counts too and then means all addresses
  SOCIAL_PUBLIC_URL          how the world reaches the API, such as https://social.example; http only for loopback addresses
  SOCIAL_MASTER_KEYS         id:base64[,id:base64...] as `keys generate` prints them; the first one seals (needed)
  SOCIAL_ADMIN_KEY           the key that makes users and keys
  SOCIAL_METRICS_TOKEN       lets a collector read /metrics; the admin key does too
  SOCIAL_METRICS_LISTEN      address and port where `worker` answers /metrics, /healthz and /readyz (none)
  SOCIAL_ALLOWED_ORIGINS     web origins whose pages may call the API, separated by commas; `https://shop-*-team.vercel.app` is a pattern
  SOCIAL_RETURN_URLS         where browsers may be sent back to after connecting: origins or addresses, separated by commas
  SOCIAL_TRUSTED_PROXIES     whose X-Forwarded-* headers are believed: addresses, networks, or `private`

  SOCIAL_X_CLIENT_ID, SOCIAL_X_CLIENT_SECRET                credentials of the app at X; without an id the network is not there
  SOCIAL_LINKEDIN_CLIENT_ID, SOCIAL_LINKEDIN_CLIENT_SECRET  the same for LinkedIn
  SOCIAL_<NETWORK>_BASE_URL  one prefix instead of all hosts of the network: the sandbox, a test
  SOCIAL_<NETWORK>_PRESET    the scope preset unless a request names one, such as LinkedIn's `member` or `page`
  SOCIAL_<NETWORK>_API_VERSION  the version of the network's interface, such as LinkedIn's 202609

  SOCIAL_MEDIA_DIR           where uploaded files are kept (social-media)
  SOCIAL_SPILL_DIR           a folder on a disk that outlives this process, for what the database cannot take while it is away: outcomes
                             and sealed tokens (`outcomes` in the media folder); off for none
  SOCIAL_MEDIA_MAX_BYTES     the largest file (5000000000)
  SOCIAL_MEDIA_QUOTA_BYTES   what the files of one user may take together (50000000000)
  SOCIAL_KEEP_HISTORY_DAYS   for how long the history with the networks' answers is kept (90; 0 is for ever); posts and their ends stay
  SOCIAL_KEEP_MEDIA_DAYS     for how long a file that no open post uses is kept after its upload (0, which is for ever)
  SOCIAL_FETCH_ALLOW         networks that `media_url` may lead to although they are not public, separated by commas (none)
  SOCIAL_FETCH_HTTP          on: `media_url` may begin with http:// (off)
  SOCIAL_FETCH_PORTS         further ports, besides 80 and 443, that `media_url` may lead to
  SOCIAL_LATE_LIMIT          how late a post may go out before it counts as missed, such as `60 min` (the default)
  SOCIAL_RATE_LIMITS         off: posts never wait for the networks' limits; for tests and private networks (on)
  SOCIAL_REQUEST_LIMITS      off: callers of the API are not limited (on)
  SOCIAL_REQUESTS_PER_SECOND_IP, SOCIAL_REQUESTS_PER_SECOND_KEY  on average (400, 200); ten seconds' worth may come at once
  SOCIAL_MAX_CONNECTIONS     connections that are served at once (8192)
  SOCIAL_MAX_CONNECTIONS_PER_IP  of one address (512); trusted proxies and this machine may have any number
  SOCIAL_LOG, SOCIAL_LOG_FORMAT  what is logged, such as `info,social_core=debug`; json, text or auto";

const RESTORED: &str = "\
What it does: every post that has not ended and is due by now, or was begun, is looked for on its network when a worker runs. It is
published if it is there; sent if it is proven not to be there and not too late; and left to a person (`unconfirmed`) where the network
cannot be read, as with LinkedIn's members. Nobody who worked on the database before can write to it any more.

Tokens need nothing: a token that was replaced after the backup is tried once, and the network's refusal asks the person to connect again.
Repeating the command makes the networks be asked once more, and is harmless otherwise. Settings are those of `serve`.";

/// Connects social accounts and publishes scheduled posts: never twice, never silently lost.
#[derive(Debug, Parser)]
#[command(name = "social-server", version, after_long_help = ENVIRONMENT, max_term_width = 140)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the settings are.
#[derive(Debug, Args)]
struct Settings {
    /// A TOML file with settings; the environment wins over it.
    #[arg(long, env = "SOCIAL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows everything at work with a simulated X and LinkedIn: connects accounts, uploads, schedules, publishes. Needs nothing.
    Demo(crate::demo::Options),
    /// Serves the API and publishes what is due.
    #[command(after_long_help = ENVIRONMENT)]
    Serve {
        #[command(flatten)]
        settings: Settings,
        /// Serves the API only; `social-server worker` publishes, here or on other machines.
        #[arg(long)]
        no_worker: bool,
        /// Starts although a master key is missing: what it sealed cannot be used until it is back.
        #[arg(long)]
        allow_missing_keys: bool,
    },
    /// Publishes what is due, without an API. Any number may run over one database.
    #[command(after_long_help = ENVIRONMENT)]
    Worker {
        #[command(flatten)]
        settings: Settings,
        /// Starts although a master key is missing: what it sealed cannot be used until it is back.
        #[arg(long)]
        allow_missing_keys: bool,
    },
    /// Brings the database's schema up to date, and ends. `serve` and `worker` do it too.
    #[command(after_long_help = ENVIRONMENT)]
    Migrate {
        #[command(flatten)]
        settings: Settings,
    },
    /// Makes, shows and rotates the master keys that seal the tokens.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Looks at everything that has to be right, and says what to do about what is not. Ends with 1 if something is wrong.
    #[command(after_long_help = ENVIRONMENT)]
    Doctor {
        #[command(flatten)]
        settings: Settings,
        /// Prints the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes a database that was put back from a backup safe to go on with: whatever may have gone out since is looked for on its network
    /// before anything is sent. Call it after the backup was put back and before a server or a worker starts.
    #[command(after_long_help = RESTORED)]
    Restored {
        #[command(flatten)]
        settings: Settings,
        /// When the backup was taken, such as 2026-11-21T03:00:00Z; an earlier instant is safe, a later one is not. Unless said, the history
        /// in the backup tells it.
        #[arg(long, value_name = "INSTANT")]
        backup_at: Option<jiff::Timestamp>,
        /// Also looks for posts that are due in the future, because their time may have been moved forward after the backup.
        #[arg(long)]
        all: bool,
        /// Goes on although deliveries are held by a worker. Only if you know that none runs.
        #[arg(long)]
        even_if_held: bool,
    },
    /// Prints the OpenAPI document of the API.
    Openapi,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Prints a new master key as one line `id:base64`, the form that SOCIAL_MASTER_KEYS takes.
    Generate {
        /// The id of the key: letters, digits, `-`, `_` and `.`; k and today's date unless said.
        #[arg(long)]
        id: Option<String>,
    },
    /// Shows how many connections each master key seals, and whether the keys at hand are the right ones.
    #[command(after_long_help = ENVIRONMENT)]
    Status {
        #[command(flatten)]
        settings: Settings,
    },
    /// Wraps all tokens under the first key of SOCIAL_MASTER_KEYS, while servers and workers go on. Afterwards the others may be removed, two days later: answers for idempotency keys live that long.
    #[command(after_long_help = ENVIRONMENT)]
    Rotate {
        #[command(flatten)]
        settings: Settings,
    },
}

impl Settings {
    fn load(&self) -> Result<Config, ExitCode> {
        Config::load(self.config.as_deref()).map_err(|error| {
            complain(&format!("the configuration cannot be used: {error}"));
            ExitCode::from(2)
        })
    }
}

/// Runs a command to its end.
pub async fn main(cli: Cli) -> ExitCode {
    match carry_out(cli.command).await {
        Ok(code) | Err(code) => code,
    }
}

async fn carry_out(command: Command) -> Result<ExitCode, ExitCode> {
    match command {
        Command::Demo(options) => Ok(Box::pin(crate::demo::run(options)).await),
        Command::Serve { settings, no_worker, allow_missing_keys } => {
            let role = if no_worker { Role::Api } else { Role::Both };
            serve_as(&settings, role, allow_missing_keys).await
        }
        Command::Worker { settings, allow_missing_keys } => serve_as(&settings, Role::Worker, allow_missing_keys).await,
        Command::Migrate { settings } => {
            let config = settings.load()?;
            let store = start::open_store(&config).await.map_err(failed)?;
            say(&format!("The schema is up to date: {}.", store.describe()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Keys { command } => keys_command(command).await,
        Command::Doctor { settings, json } => Ok(doctor::run(settings.config.as_deref(), json).await),
        Command::Restored { settings, backup_at, all, even_if_held } => {
            let config = settings.load()?;
            log(&config);
            let listening = config.listen;
            let state = start::installation(&config, listening, Missing::Refuse, None).await.map_err(failed)?;
            let done = state.social().restored(backup_at, all, even_if_held).await.map_err(failed)?;
            let since = done.since.map_or_else(String::new, |since| format!(", from {since} on"));
            say(&format!(
                "{} deliveries may have gone out since the backup: the networks are asked about them before anything is sent{since}.",
                done.to_look
            ));
            say(&format!("{} deliveries were in doubt already when the backup was taken: the same.", done.in_doubt));
            say(&format!("{} deliveries wait for their time or for a person.", done.left));
            say("Start the servers and workers now.");
            Ok(ExitCode::SUCCESS)
        }
        Command::Openapi => {
            say(openapi::json().trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn serve_as(settings: &Settings, role: Role, allow_missing_keys: bool) -> Result<ExitCode, ExitCode> {
    let config = settings.load()?;
    log(&config);
    let missing = if allow_missing_keys { Missing::Allow } else { Missing::Refuse };
    let ended = Box::pin(serve::run(config, role, missing, serve::asked_to_stop())).await;
    telemetry::finish().await;
    ended.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

async fn keys_command(command: KeysCommand) -> Result<ExitCode, ExitCode> {
    match command {
        KeysCommand::Generate { id } => {
            let id = id.unwrap_or_else(|| {
                // Two keys of one day stand side by side during a rotation.
                let random: String =
                    social_core::crypto::random_bytes::<2>().iter().map(|byte| format!("{byte:02x}")).collect();
                format!("k{}-{random}", jiff::Timestamp::now().strftime("%Y%m%d"))
            });
            let (_, line) = KeyRing::generate(&id).map_err(|error| failed(error.into()))?;
            say(&line);
            Ok(ExitCode::SUCCESS)
        }
        KeysCommand::Status { settings } => {
            let config = settings.load()?;
            let ring = key_ring(&config).map_err(failed)?;
            let store = start::open_store(&config).await.map_err(failed)?;
            let vault = social_core::vault::Vault::new(std::sync::Arc::new(ring.clone()));
            let usage = store.key_usage().await.map_err(failed)?;
            let mut ids: Vec<&str> = ring.ids().collect();
            ids.extend(usage.iter().map(|(id, _)| id.as_str()).filter(|id| !ring.ids().any(|known| known == *id)));
            for id in ids {
                let count = usage.iter().find(|(used, _)| used == id).map_or(0, |(_, count)| *count);
                let role = match (ring.primary_id() == id, vault.knows(id)) {
                    (true, _) => "seals",
                    (false, true) if count == 0 => "opens only, may be removed two days after its last use",
                    (false, true) => "opens only",
                    (false, false) => "MISSING",
                };
                say(&format!("{id}\t{count} connections\t{role}"));
            }
            keys::prove(&*store, &vault, Missing::Refuse).await.map_err(failed)?;
            Ok(ExitCode::SUCCESS)
        }
        KeysCommand::Rotate { settings } => {
            let config = settings.load()?;
            log(&config);
            let ring = key_ring(&config).map_err(failed)?;
            let store = start::open_store(&config).await.map_err(failed)?;
            let vault = social_core::vault::Vault::new(std::sync::Arc::new(ring.clone()));
            keys::check(&*store, &ring, &vault, Missing::Refuse).await.map_err(failed)?;
            let done = keys::rotate(&*store, &vault).await.map_err(failed)?;
            let keys::Rotated { rewrapped, changed, failed } = done;
            say(&format!(
                "{rewrapped} connections are sealed by {} now, {changed} had changed meanwhile, {failed} failed.",
                ring.primary_id()
            ));
            Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn failed(error: Error) -> ExitCode {
    complain(&error.to_string());
    let mut cause = std::error::Error::source(&error);
    while let Some(one) = cause {
        complain(&format!("  because: {one}"));
        cause = one.source();
    }
    ExitCode::FAILURE
}

/// Prints a line for people or programs. A reader that has gone away is no failure.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "social-server: {line}");
}

/// Sets the log up, once per process. Logs go to the error stream; answers of commands to the output.
pub(crate) fn log(config: &Config) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| {
        complain("SOCIAL_LOG cannot be understood; logging `info`");
        EnvFilter::new("info")
    });
    let terminal = std::io::stderr().is_terminal();
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    #[cfg(feature = "otel")]
    if let Some(traces) = telemetry::layer() {
        use tracing_subscriber::{Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};
        let lines = fmt::layer().with_writer(std::io::stderr);
        let lines = if json {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        } else {
            lines.with_ansi(terminal).boxed()
        };
        drop(tracing_subscriber::registry().with(traces).with(lines.with_filter(filter)).try_init());
        return;
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(terminal).try_init()
    };
    // A second call in one process, as in tests, changes nothing.
    drop(set);
}
