//! Looks at everything that has to be right before a post can go out.

use std::{path::Path, process::ExitCode, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Serialize;
use social_core::{
    Error, Store,
    rate::{PlatformStop, RateLedger, RateMode, Stop},
    vault::{KeyRing, Vault},
};

use crate::{
    cli::say,
    config::{Config, Switch},
    keys::{self, Missing},
    start,
    state::{key_ring, media_dir},
};

/// How much room there should be for files.
const ENOUGH_BYTES: u64 = 2_000_000_000;
const PATIENCE: Duration = Duration::from_secs(15);

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    result: Mark,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, result: Mark::Ok, found: found.into(), fix: None });
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding { check, result: Mark::Warn, found: found.into(), fix: Some(fix.into()) });
    }

    fn fail(&mut self, check: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding { check, result: Mark::Fail, found: found.into(), fix: Some(fix.into()) });
    }
}

/// Looks at everything and prints what it found.
pub(crate) async fn run(file: Option<&Path>, json: bool) -> ExitCode {
    let mut findings = Findings::default();
    match Config::load(file) {
        Ok(config) => examine(&config, &mut findings).await,
        Err(error) => findings.fail(
            "configuration",
            error.to_string(),
            "Correct the setting; `social-server serve --help` lists all of them.",
        ),
    }
    let failed = findings.0.iter().any(|finding| finding.result == Mark::Fail);
    if json {
        say(&serde_json::to_string_pretty(&serde_json::json!({ "ok": !failed, "findings": findings.0 }))
            .unwrap_or_default());
    } else {
        for Finding { check, result, found, fix } in &findings.0 {
            let mark = match result {
                Mark::Ok => "ok  ",
                Mark::Warn => "warn",
                Mark::Fail => "FAIL",
            };
            say(&format!("{mark}  {check}: {found}"));
            if let Some(fix) = fix {
                say(&format!("      -> {fix}"));
            }
        }
        say(if failed { "\nSomething is wrong." } else { "\nEverything that was looked at is in order." });
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn examine(config: &Config, findings: &mut Findings) {
    findings.ok("configuration", "it can be read");
    addresses(config, findings);
    access(config, findings);
    networks(config, findings);
    let ring = match key_ring(config) {
        Ok(ring) => {
            findings.ok("master keys", format!("{} sealing, {} in all", ring.primary_id(), ring.ids().count()));
            Some(ring)
        }
        Err(error) => {
            let fix =
                "Set SOCIAL_MASTER_KEYS to what `social-server keys generate` prints, and keep a copy in a safe place.";
            findings.fail("master keys", detail(&error), fix);
            None
        }
    };
    if let Some(file) = missing_file(config.database_url.expose()) {
        // A look makes nothing: opening would.
        findings.warn(
            "database",
            format!("the file {file} is not there yet"),
            "`social-server serve`, `worker` and `migrate` make it. If there should be one, look at SOCIAL_DATABASE_URL.",
        );
    } else {
        open_database(config, ring, findings).await;
    }
    media(config, findings).await;
    if let Some(folder) = config.spill_folder() {
        spill(&folder, findings).await;
    }
    match TimeZone::get("Europe/Berlin") {
        Ok(_) => findings.ok("time zones", "the database of zones is there"),
        Err(_) => findings.fail("time zones", "the database of zones is not there", "Install tzdata."),
    }
}

/// The file of an SQLite database that does not exist.
fn missing_file(url: &str) -> Option<String> {
    let rest = url.strip_prefix("sqlite:")?.trim_start_matches("//");
    let file = rest.split('?').next().unwrap_or_default();
    (!file.is_empty() && file != ":memory:" && !Path::new(file).exists()).then(|| file.to_owned())
}

async fn open_database(config: &Config, ring: Option<KeyRing>, findings: &mut Findings) {
    match tokio::time::timeout(PATIENCE, start::open_store(config)).await {
        Ok(Ok(store)) => {
            database(&*store, ring, findings).await;
            stops(config, &*store, findings).await;
        }
        Ok(Err(error)) => {
            findings.fail(
                "database",
                detail(&error),
                "Look at SOCIAL_DATABASE_URL, and whether the database runs and lets this user in.",
            );
        }
        Err(_) => findings.fail(
            "database",
            "no answer in time",
            "Look at SOCIAL_DATABASE_URL, and whether the database can be reached.",
        ),
    }
}

fn detail(error: &Error) -> String {
    let mut text = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    if let Some(cause) = std::error::Error::source(error) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text} ({cause})");
        }
    }
    text
}

fn addresses(config: &Config, findings: &mut Findings) {
    let url = config.public_address(config.listen);
    match &config.public_url {
        Some(_) => findings.ok("public address", url.to_string()),
        None if config.listen.ip().is_loopback() => {
            findings.warn(
                "public address",
                format!("{url}, which only this machine can reach"),
                "Set SOCIAL_PUBLIC_URL where others are to connect accounts.",
            );
        }
        None => findings.fail(
            "public address",
            "SOCIAL_PUBLIC_URL is not set although the API listens for others",
            "Set SOCIAL_PUBLIC_URL to the https:// address of this server.",
        ),
    }
    if url.scheme() == "https" && config.trusted_proxies.is_empty() {
        findings.warn(
            "proxies",
            "the address is https, so there is a proxy, and none is trusted",
            "Set SOCIAL_TRUSTED_PROXIES to the proxy's address or network, or callers cannot be told apart.",
        );
    }
}

fn access(config: &Config, findings: &mut Findings) {
    match &config.admin_key {
        Some(key) if key.expose().len() >= 24 => findings.ok("admin key", "it is set"),
        Some(_) => findings.warn("admin key", "it is short", "Use 32 random characters for SOCIAL_ADMIN_KEY."),
        None => findings.warn("admin key", "it is not set", "Set SOCIAL_ADMIN_KEY, or nobody can make users and keys."),
    }
    if config.rate_limits == Switch::Off {
        findings.warn(
            "rate limits",
            "off",
            "Remove SOCIAL_RATE_LIMITS=off unless this is a test: networks block apps that pass their limits.",
        );
    }
}

fn networks(config: &Config, findings: &mut Findings) {
    if config.networks.values().all(|network| network.client_id.is_none()) {
        // As the server sees it: it starts, so that users and keys can be made.
        findings.warn(
            "networks",
            "none is configured, so nothing can be published",
            "Set SOCIAL_X_CLIENT_ID and SOCIAL_X_CLIENT_SECRET, for example.",
        );
    }
    let base = config.public_address(config.listen);
    for (name, network) in config.networks.iter().filter(|(_, network)| network.client_id.is_some()) {
        let platform = match start::network_of(name, network) {
            Ok(platform) => platform,
            Err(error) => {
                findings.fail(
                    "network",
                    detail(&error),
                    format!("Correct the SOCIAL_{}_* settings.", name.to_uppercase()),
                );
                continue;
            }
        };
        let callback = base.join(&format!("auth/callback/{name}")).map(String::from).unwrap_or_default();
        let place = network
            .base_url
            .as_ref()
            .map_or(String::new(), |base| format!(", at {base} instead of the network itself"));
        findings.ok("network", format!("{name}: register {callback} as redirect URI, to the letter{place}"));
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        if let Some(day) = platform.sunset() {
            let version = &platform.descriptor().api_version;
            let left = today.until(day).map(|span| span.get_days()).unwrap_or_default();
            let text = format!("{name}: version {version} is switched off on {day}");
            let fix =
                format!("Set SOCIAL_{}_API_VERSION to a newer version, or update this program.", name.to_uppercase());
            match left {
                ..0 => findings.fail("version", text, fix),
                0..45 => findings.warn("version", text, fix),
                _ => findings.ok("version", text),
            }
        }
    }
}

async fn database(store: &dyn Store, ring: Option<KeyRing>, findings: &mut Findings) {
    match store.check().await {
        Ok(()) => findings.ok("database", format!("{}, it can be read and written", store.describe())),
        Err(error) => {
            findings.fail("database", detail(&error), "Look at the database's disk and rights.");
            return;
        }
    }
    if let Some(ring) = ring {
        let vault = Vault::new(std::sync::Arc::new(ring));
        match keys::prove(store, &vault, Missing::Refuse).await {
            Ok(()) => findings.ok("sealed tokens", "the keys are those that sealed them"),
            Err(error) => findings.fail("sealed tokens", detail(&error), "Put the key back into SOCIAL_MASTER_KEYS."),
        }
    }
    match store.clock_offset(Timestamp::now()).await {
        Ok(offset) if offset.abs() > SignedDuration::from_secs(2) => findings.warn(
            "clock",
            format!("this machine and the database differ by {offset:#}"),
            "Let both keep time by NTP. Publishing follows the database's clock.",
        ),
        Ok(_) => findings.ok("clock", "this machine and the database agree"),
        Err(error) => findings.warn("clock", detail(&error), "Look at the database."),
    }
}

/// Networks that take nothing from the whole installation, as its workers have learnt.
async fn stops(config: &Config, store: &dyn Store, findings: &mut Findings) {
    let unknown = "Correct what the other findings say and look again: whether a network takes anything is not known.";
    let networks = match start::networks(config) {
        Ok(networks) => networks,
        Err(error) => return findings.warn("network stop", detail(&error), unknown),
    };
    let rules = networks.iter().map(|one| (one.descriptor().id.to_string(), one.descriptor().limits.clone()));
    let ledger = RateLedger::new(RateMode::On, rules);
    let states = match store.buckets(&ledger.stop_keys()).await {
        Ok(states) => states,
        Err(error) => return findings.warn("network stop", detail(&error), unknown),
    };
    for PlatformStop { platform, reason, rule, until } in ledger.stops(Timestamp::now(), &states) {
        let text = format!(
            "{platform} takes nothing from this installation ({}, rule {rule}); tried again at {until}",
            reason.as_str()
        );
        match reason {
            Stop::Billing => findings.fail("network stop", text, "Pay the bill, or buy credits, at the network."),
            Stop::Config => findings.fail(
                "network stop",
                text,
                "Look at the app at the network: credentials, permissions, the version of the interface. The history of a waiting post has the details.",
            ),
            _ => findings.warn("network stop", text, "Wait; or raise the limit in the settings if the network gave you a larger one."),
        }
    }
}

/// The folder for what the database cannot take at the moment.
async fn spill(folder: &Path, findings: &mut Findings) {
    let shown = folder.display().to_string();
    if !folder.exists() {
        findings.ok("outcomes folder", format!("{shown} is made when it is needed"));
        return;
    }
    let probe = folder.join(format!(".doctor-{}", std::process::id()));
    let written = async {
        tokio::fs::write(&probe, b"x").await?;
        tokio::fs::remove_file(&probe).await?;
        let mut entries = tokio::fs::read_dir(folder).await?;
        let mut aside = 0;
        while let Some(entry) = entries.next_entry().await? {
            aside += usize::from(entry.file_name().to_string_lossy().starts_with("unreadable-"));
        }
        std::io::Result::Ok(aside)
    };
    match written.await {
        Ok(0) => findings.ok("outcomes folder", format!("{shown} can be written")),
        Ok(aside) => findings.warn(
            "outcomes folder",
            format!("{shown} holds {aside} files with lines that could not be used"),
            "Look at them and at the posts concerned, and remove them.",
        ),
        Err(error) => findings.fail(
            "outcomes folder",
            format!("{shown} cannot be written: {error}"),
            "Give this user the right to write there, or set SOCIAL_SPILL_DIR.",
        ),
    }
}

async fn media(config: &Config, findings: &mut Findings) {
    let folder = media_dir(config);
    let shown = folder.display().to_string();
    if !folder.exists() {
        findings.warn(
            "media folder",
            format!("{shown} is not there yet"),
            "The server makes it. If there should be one, look at SOCIAL_MEDIA_DIR.",
        );
        return;
    }
    // The only way to know is to write; nothing is left behind.
    let probe = folder.join(format!(".doctor-{}.part", std::process::id()));
    let written = tokio::fs::write(&probe, b"x").await;
    let removed = tokio::fs::remove_file(&probe).await;
    match written.and(removed) {
        Ok(()) => findings.ok("media folder", format!("{shown} can be written")),
        Err(error) => {
            findings.fail(
                "media folder",
                format!("{shown} cannot be written: {error}"),
                "Give this user the right to write there, or set SOCIAL_MEDIA_DIR.",
            );
            return;
        }
    }
    match free_bytes(&folder).await {
        Some(free) if free < ENOUGH_BYTES => {
            findings.warn(
                "disk space",
                format!("{} MB are free for files", free / 1_000_000),
                "Make room, or set SOCIAL_MEDIA_DIR to a larger disk.",
            );
        }
        Some(free) => findings.ok("disk space", format!("{} GB are free for files", free / 1_000_000_000)),
        None => findings.warn("disk space", "this system does not say", "Look yourself."),
    }
}

/// Free bytes on the disk of a folder, as the system's own program says.
async fn free_bytes(folder: &Path) -> Option<u64> {
    let output = tokio::process::Command::new("df").arg("-Pk").arg(folder).output();
    let output = tokio::time::timeout(PATIENCE, output).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kilobytes: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kilobytes * 1024)
}
