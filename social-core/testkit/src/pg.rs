//! A PostgreSQL server for tests: the one that `TEST_DATABASE_URL` names, or a private one that is started from installed programs and ends
//! with the process, however that ends.
//!
//! This is about processes only. Connecting and making databases is the business of whoever tests a store.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use url::Url;

/// A running server.
#[derive(Debug)]
pub struct Server {
    base: Url,
    cluster: Option<Cluster>,
}

/// A private cluster.
#[derive(Debug)]
struct Cluster {
    programs: PathBuf,
    dir: PathBuf,
    account: Option<(u32, u32)>,
    settings: &'static str,
    /// Waits for the end of its standard input, which is the end of this process at the latest, and stops the server then.
    watchdog: Child,
}

/// Nobody needs the data of tests after a loss of power.
const FOR_TESTS: &str = "-c fsync=off -c full_page_writes=off -c max_connections=400 -c shared_buffers=64MB -c max_wal_size=256MB \
     -c autovacuum_naptime=5s";
/// As it is shipped.
const AS_SHIPPED: &str = "";
/// As it is shipped, but for connections: enough for thirty processes of ten.
const FOR_MANY: &str = "-c max_connections=300";

impl Server {
    /// The server of this process: the one that `TEST_DATABASE_URL` names, otherwise a private one that all tests of the process share.
    /// `None` after saying "skipped" if there are no programs to start one from.
    ///
    /// # Panics
    /// If there is none and `REQUIRE_POSTGRES` is `1`, or if a server cannot be started although its programs are installed.
    #[must_use]
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Server>> = OnceLock::new();
        SHARED
            .get_or_init(|| match std::env::var("TEST_DATABASE_URL") {
                Ok(raw) if !raw.is_empty() => {
                    let base = Url::parse(&raw).expect("TEST_DATABASE_URL is an address");
                    Some(Self { base, cluster: None })
                }
                _ => Self::start(),
            })
            .as_ref()
    }

    /// A private server that nobody else uses, for tests that stop and restart it; it ends when it is dropped. `None` as with
    /// [`shared`](Self::shared).
    ///
    /// # Panics
    /// As [`shared`](Self::shared).
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(FOR_TESTS)
    }

    /// A private server with the settings that PostgreSQL is shipped with, so that a commit waits for the disk: for measuring. `None` as with
    /// [`shared`](Self::shared).
    ///
    /// # Panics
    /// As [`shared`](Self::shared).
    #[must_use]
    pub fn start_as_shipped() -> Option<Self> {
        Self::start_with(AS_SHIPPED)
    }

    /// The same with connections for thirty processes of ten.
    ///
    /// # Panics
    /// As [`shared`](Self::shared).
    #[must_use]
    pub fn start_for_many() -> Option<Self> {
        Self::start_with(FOR_MANY)
    }

    /// [`start_as_shipped`](Self::start_as_shipped) with its files below `folder`, whose path has to be short, since a socket lies there too. `None` as with
    /// [`shared`](Self::shared).
    ///
    /// # Panics
    /// As [`shared`](Self::shared).
    #[must_use]
    pub fn start_as_shipped_in(folder: &Path) -> Option<Self> {
        Self::start_in(AS_SHIPPED, folder)
    }

    fn start_with(settings: &'static str) -> Option<Self> {
        Self::start_in(settings, &std::env::temp_dir())
    }

    fn start_in(settings: &'static str, folder: &Path) -> Option<Self> {
        let Some(programs) = programs() else {
            let required = std::env::var("REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
            assert!(!required, "REQUIRE_POSTGRES=1, but initdb, postgres and pg_ctl are not installed");
            eprintln!("skipped: no PostgreSQL (install it or set TEST_DATABASE_URL)");
            return None;
        };
        let cluster = Cluster::create(programs, settings, folder).expect("a private PostgreSQL cluster");
        // The socket lies in a folder that is closed to others, which is all the authentication that is needed.
        let mut base = Url::parse("postgres://postgres@localhost/postgres").expect("an address");
        base.query_pairs_mut().append_pair("host", cluster.dir.to_str().expect("a temporary path is UTF-8"));
        Some(Self { base, cluster: Some(cluster) })
    }

    /// The address of the database in which others are made.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.base.to_string()
    }

    /// The address of a database of that name.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let mut url = self.base.clone();
        url.set_path(database);
        url.to_string()
    }

    /// Whether the server ends with this process, so that nothing has to be tidied up.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.cluster.is_some()
    }

    /// Kills a private server as a crash would.
    ///
    /// # Panics
    /// If it is not private or does not stop.
    pub fn crash(&self) {
        let cluster = self.cluster.as_ref().expect("a private server");
        cluster.control(&["stop", "-m", "immediate"]).expect("the server stops");
    }

    /// Starts a private server again after [`crash`](Self::crash).
    ///
    /// # Panics
    /// If it is not private or does not start.
    pub fn recover(&self) {
        self.cluster.as_ref().expect("a private server").start().expect("the server starts");
    }
}

impl Cluster {
    fn create(programs: PathBuf, settings: &'static str, folder: &Path) -> io::Result<Self> {
        // Short, since the path of a socket must be.
        let dir = folder.join(format!("spg-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        // PostgreSQL refuses to run as root.
        let account = if fs::metadata(&dir)?.uid() == 0 { Some(unprivileged()?) } else { None };
        if let Some((user, group)) = account {
            chown(&dir, Some(user), Some(group))?;
        }
        let mut watchdog = command(Path::new("/bin/sh"), account, &dir);
        let script = "trap '' INT TERM HUP; cat; \"$1/pg_ctl\" -D \"$2/data\" stop -m immediate -w; rm -rf \"$2\"";
        watchdog.args(["-c", script, "sh"]).arg(&programs).arg(&dir);
        let watchdog = watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let cluster = Self { programs, dir, account, settings, watchdog };
        let mut initdb = command(&cluster.programs.join("initdb"), account, &cluster.dir);
        initdb.args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"]);
        done(initdb.arg(cluster.dir.join("data")).output()?)?;
        cluster.start()?;
        Ok(cluster)
    }

    fn start(&self) -> io::Result<()> {
        let options = format!("-k '{}' -c listen_addresses='' {}", self.dir.display(), self.settings);
        let log = self.dir.join("log");
        self.control(&["start", "-w", "-t", "120", "-o", &options, "-l", log.to_str().unwrap_or("/dev/null")])
    }

    fn control(&self, arguments: &[&str]) -> io::Result<()> {
        let mut control = command(&self.programs.join("pg_ctl"), self.account, &self.dir);
        // The server inherits these, and a pipe that stays open would be waited for.
        control.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = control.arg("-D").arg(self.dir.join("data")).args(arguments).status()?;
        if status.success() {
            return Ok(());
        }
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        Err(io::Error::other(format!("pg_ctl {} failed: {log}", arguments.first().unwrap_or(&""))))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

fn command(program: &Path, account: Option<(u32, u32)>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env("LC_ALL", "C").env_remove("PGDATA").env_remove("PGHOST").env_remove("PGPORT");
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
    command
}

fn done(output: Output) -> io::Result<()> {
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// The folder of the newest installed programs.
fn programs() -> Option<PathBuf> {
    let complete = |dir: &PathBuf| ["initdb", "postgres", "pg_ctl"].iter().all(|name| dir.join(name).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    let installed = found.into_iter().rev().map(|(_, dir)| dir);
    // Names in the path may be links to where the programs find the rest of them.
    let linked = std::env::split_paths(&path)
        .filter_map(|dir| Some(fs::canonicalize(dir.join("pg_ctl")).ok()?.parent()?.to_owned()));
    std::env::split_paths(&path).chain(linked).chain(installed).find(complete)
}

/// An account without rights, for when we are root.
fn unprivileged() -> io::Result<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd")?;
    let of = |wanted: &str| {
        accounts.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, user, group, ..] = fields.as_slice() else { return None };
            (*name == wanted).then(|| Some((user.parse().ok()?, group.parse().ok()?))).flatten()
        })
    };
    of("postgres")
        .or_else(|| of("nobody"))
        .ok_or_else(|| io::Error::other("no unprivileged account to run PostgreSQL as"))
}
