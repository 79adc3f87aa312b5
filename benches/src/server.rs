//! A server process to be asked.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use social_core::secret::OpaqueSecret;
use tempfile::TempDir;

use crate::{Failure, process::Process};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `social-server serve --no-worker` without limits on requests. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
    admin_key: OpaqueSecret,
    folder: TempDir,
}

impl Server {
    /// Starts the program over a database and waits until it can serve.
    ///
    /// # Errors
    /// If it cannot be started, ends, or is not ready within half a minute; with what it said.
    pub async fn start(
        program: &Path,
        database_url: &str,
        keys: &str,
        client: &reqwest::Client,
    ) -> Result<Self, Failure> {
        let folder = TempDir::new()?;
        let admin_key = OpaqueSecret::new(social_core::crypto::random_token(32))?;
        // Nobody else is expected to take the port in between; if so, the server says so and ends.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(program);
        // What is set here for another server must not change this one.
        let inherited = std::env::vars().map(|(name, _)| name);
        for name in inherited.filter(|name| name.starts_with("SOCIAL_") || name == "DATABASE_URL" || name == "PORT") {
            command.env_remove(name);
        }
        let log = folder.path().join("server.log");
        command
            .args(["serve", "--no-worker"])
            .current_dir(folder.path())
            .env("SOCIAL_DATABASE_URL", database_url)
            .env("SOCIAL_LISTEN", address.to_string())
            .env("SOCIAL_MASTER_KEYS", keys)
            .env("SOCIAL_ADMIN_KEY", admin_key.expose())
            .env("SOCIAL_MEDIA_DIR", folder.path().join("media"))
            .env("SOCIAL_REQUEST_LIMITS", "off")
            .env("SOCIAL_LOG", "warn")
            .env("SOCIAL_X_CLIENT_ID", "bench")
            .env("SOCIAL_X_CLIENT_SECRET", "bench-secret")
            // Nothing is published: there is no worker.
            .env("SOCIAL_X_BASE_URL", "http://127.0.0.1:9")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let child = command.spawn().map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let mut server = Self { child, url: format!("http://{address}"), admin_key, folder };
        let begin = Instant::now();
        loop {
            let ready = client.get(format!("{}/readyz", server.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("the server ended with {status}: {}", server.log()).into());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("the server is not ready: {}", server.log()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The program of that name in the folder of this one.
    ///
    /// # Errors
    /// If it was not built.
    pub fn program_beside() -> Result<PathBuf, Failure> {
        let program = std::env::current_exe()?.with_file_name("social-server");
        if program.is_file() {
            Ok(program)
        } else {
            Err("social-server was not built beside this program; build it or give --server".into())
        }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process, to be looked at.
    #[must_use]
    pub fn process(&self) -> Process {
        Process::with_id(self.child.id())
    }

    /// Makes a user. Answers with its id.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn make_user(&self, client: &reqwest::Client) -> Result<String, Failure> {
        self.make(client, "users", json!({ "email": "bench@example.org", "plan": "bench" }), "id").await
    }

    /// Makes a key for a user. Answers with the key.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn make_key(&self, client: &reqwest::Client, user: &str) -> Result<String, Failure> {
        self.make(client, "keys", json!({ "user_id": user, "name": "bench" }), "key").await
    }

    async fn make(&self, client: &reqwest::Client, what: &str, body: Value, field: &str) -> Result<String, Failure> {
        let request = client.post(format!("{}/{what}", self.url)).bearer_auth(self.admin_key.expose()).json(&body);
        let answer = request.send().await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        let found = body.get(field).and_then(Value::as_str).filter(|_| status.is_success());
        Ok(found.ok_or_else(|| format!("POST /{what} was answered with {status}: {}", body["detail"]))?.to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
