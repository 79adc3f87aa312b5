//! The sandbox in a process of its own, through its control interface.

use std::{path::Path, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use social_sandbox::{ArmedFault, FaultSpec, LedgerEntry, Persona, RequestEntry};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{Failure, child::SandboxConfig, process::Process};

/// A running sandbox.
#[derive(Debug)]
pub struct SandboxProcess {
    _process: Process,
    url: String,
    client: reqwest::Client,
}

impl SandboxProcess {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start(folder: &Path, config: &SandboxConfig) -> Result<Self, Failure> {
        let config = serde_json::to_string(config)?;
        let mut process = Process::start("sandbox", folder, &["sandbox", &config], &[])?;
        let output = process.take_output().ok_or("the sandbox has no output")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await??;
        let url = line.ok_or("the sandbox ended before it listened; see its log")?;
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { _process: process, url, client })
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The base address of a network: `http://127.0.0.1:PORT/x`.
    #[must_use]
    pub fn base_url(&self, platform: &str) -> String {
        format!("{}/{platform}", self.url)
    }

    /// A client without redirects, as a browser that is watched.
    #[must_use]
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Asks the control interface.
    ///
    /// # Errors
    /// If it refuses, with its sentence.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        answer(self.client.get(format!("{}/_sandbox/{path}", self.url)).send().await?).await
    }

    /// Tells the control interface.
    ///
    /// # Errors
    /// If it refuses, with its sentence.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        answer(self.client.post(format!("{}/_sandbox/{path}", self.url)).json(body).send().await?).await
    }

    /// Every visible object that was ever created, oldest first.
    ///
    /// # Errors
    /// If the sandbox does not answer.
    pub async fn ledger(&self) -> Result<Vec<LedgerEntry>, Failure> {
        Ok(self.get::<List<LedgerEntry>>("ledger").await?.entries)
    }

    /// The requests that are remembered.
    ///
    /// # Errors
    /// If the sandbox does not answer.
    pub async fn requests(&self) -> Result<Vec<RequestEntry>, Failure> {
        Ok(self.get::<List<RequestEntry>>("requests").await?.entries)
    }

    /// The faults that were armed, with how often they were played.
    ///
    /// # Errors
    /// If the sandbox does not answer.
    pub async fn faults(&self) -> Result<Vec<ArmedFault>, Failure> {
        Ok(self.get::<List<ArmedFault>>("faults").await?.entries)
    }

    /// Arms faults.
    ///
    /// # Errors
    /// If one makes no sense to the sandbox.
    pub async fn arm(&self, faults: &[FaultSpec]) -> Result<Vec<ArmedFault>, Failure> {
        Ok(self.post::<List<ArmedFault>>("faults", &faults).await?.entries)
    }

    /// Removes all faults.
    ///
    /// # Errors
    /// If the sandbox does not answer.
    pub async fn disarm(&self) -> Result<(), Failure> {
        let sent = self.client.delete(format!("{}/_sandbox/faults", self.url)).send().await?;
        answer::<Value>(sent).await.map(drop)
    }

    /// Changes settings; any part of them.
    ///
    /// # Errors
    /// If one is unknown.
    pub async fn set(&self, settings: &Value) -> Result<(), Failure> {
        self.post::<Value>("settings", settings).await.map(drop)
    }

    /// Makes somebody who can log in.
    ///
    /// # Errors
    /// If the name is taken or impossible.
    pub async fn persona(&self, platform: &str, name: &str) -> Result<Persona, Failure> {
        self.post("personas", &json!({ "platform": platform, "name": name })).await
    }
}

#[derive(serde::Deserialize)]
struct List<T> {
    entries: Vec<T>,
}

async fn answer<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, Failure> {
    let (status, body) = (response.status(), response.bytes().await?);
    if !status.is_success() {
        return Err(format!("the sandbox answered {status}: {}", String::from_utf8_lossy(&body)).into());
    }
    Ok(serde_json::from_slice(&body)?)
}
