//! Running: the API, the worker, the housekeeping, and an orderly end for all of them.

use std::{future::Future, time::Duration};

use axum::Router;
use jiff::SignedDuration;
use metrics_exporter_prometheus::PrometheusHandle;
use social_core::{Error, ErrorKind, time::later};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::Acceptor,
    app,
    config::Config,
    keys::Missing,
    routes::operations,
    start,
    state::{State, faulty},
};

/// Requests under way may take so long when the server stops.
const GRACE: Duration = Duration::from_secs(20);
/// Everything together, whatever it waits for: whoever asked a process to stop kills it a little later.
const STOP_WITHIN: Duration = Duration::from_secs(24);
/// How often small records are thrown away.
const TIDY_EVERY: Duration = Duration::from_secs(3600);
/// How long answers are kept for their Idempotency-Key.
const ANSWERS_LIFE: SignedDuration = SignedDuration::from_hours(48);
/// How long to wait for a store that went away.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// Which parts run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The API and the worker.
    Both,
    /// The API alone.
    Api,
    /// The worker alone.
    Worker,
}

/// Runs until `stop` completes, then ends everything in order within 25 seconds.
///
/// # Errors
/// Why it could not start, or that a part of it ended by itself.
pub async fn run(
    config: Config,
    role: Role,
    missing: Missing,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let recorder = start::recorder()?;
    let address = match role {
        Role::Worker => config.metrics_listen,
        Role::Both | Role::Api => Some(config.listen),
    };
    let acceptor = match address {
        None => None,
        Some(address) => {
            let bound = Acceptor::bind(address).await;
            let bound = bound.map_err(|e| faulty(format!("cannot listen on {address}: {e}")))?;
            if role != Role::Worker && config.public_url.is_none() && !address.ip().is_loopback() {
                return Err(faulty(format!(
                    "SOCIAL_PUBLIC_URL is not set although the API listens on {address} for others, who would send their keys in clear: set it to \
                     the https:// address that leads here, or to http://localhost:{} where only this machine is to use it",
                    address.port()
                )));
            }
            let bound = bound.most_connections(config.max_connections);
            Some(bound.most_per_address(config.max_connections_per_ip, config.trusted_proxies.iter().copied()))
        }
    };
    let listening = acceptor.as_ref().and_then(|acceptor| acceptor.address().ok()).unwrap_or(config.listen);
    // Links lead to the API, wherever a worker shows its metrics.
    let api = if role == Role::Worker { config.listen } else { listening };
    tokio::pin!(stop);
    // A database that does not answer must not hold up the end.
    let state = tokio::select! {
        state = start::installation(&config, api, missing, Some(recorder.clone())) => state?,
        () = &mut stop => {
            tracing::info!("social-server was stopped before it had started");
            return Ok(());
        }
    };
    start::warn_about(&config, &state);
    let networks: Vec<_> = state.social().platforms().map(|one| one.descriptor().id.to_string()).collect();
    let database = state.social().store().describe();
    tracing::info!(?role, %database, networks = networks.join(","), version = env!("CARGO_PKG_VERSION"), "social-server has started");
    if acceptor.is_some() && role == Role::Worker {
        tracing::info!(%listening, "metrics are served at http://{listening}/metrics");
    } else if acceptor.is_some() {
        tracing::info!(%listening, public_url = %state.public_url(), "the API is served at {}", state.public_url());
    }
    let routes = if role == Role::Worker { operations } else { app };
    let mut running = Running::begin_with(routes, state, acceptor, role != Role::Api, Some(recorder));
    let broken = tokio::select! {
        () = &mut stop => false,
        () = running.broken() => true,
    };
    tracing::info!("social-server is stopping");
    running.finish().await;
    if broken {
        // Whoever watches the process starts it again; half a server would look healthy.
        return Err(Error::new(ErrorKind::Unexpected, "serve")
            .message("a part of the server ended by itself")
            .effect_none());
    }
    tracing::info!("social-server has stopped");
    Ok(())
}

/// The tasks of a running server.
#[derive(Debug)]
pub struct Running {
    state: State,
    stop: CancellationToken,
    api: Option<JoinHandle<()>>,
    worker: Option<JoinHandle<()>>,
    chores: JoinHandle<()>,
}

impl Running {
    /// Begins to serve and to work.
    #[must_use]
    pub fn begin(state: State, acceptor: Option<Acceptor>, works: bool, recorder: Option<PrometheusHandle>) -> Self {
        Self::begin_with(app, state, acceptor, works, recorder)
    }

    fn begin_with(
        routes: fn(State) -> Router,
        state: State,
        acceptor: Option<Acceptor>,
        works: bool,
        recorder: Option<PrometheusHandle>,
    ) -> Self {
        let stop = CancellationToken::new();
        let api = acceptor.map(|acceptor| {
            let (routes, stop) = (routes(state.clone()), stop.clone());
            tokio::spawn(async move { acceptor.serve(routes, stop, GRACE).await })
        });
        let worker = works.then(|| tokio::spawn(work(state.clone(), stop.clone())));
        let chores = tokio::spawn(tidy(state.clone(), recorder));
        Self { state, stop, api, worker, chores }
    }

    /// The installation that runs.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Completes when the API or the worker has ended although nobody asked: a fault of ours.
    async fn broken(&mut self) {
        async fn ended(task: &mut Option<JoinHandle<()>>) {
            match task {
                Some(running) => {
                    if let Err(error) = running.await {
                        tracing::error!(%error, "a part of the server broke off");
                    }
                    *task = None;
                }
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = ended(&mut self.api) => {}
            () = ended(&mut self.worker) => {}
        }
    }

    /// Stops accepting and claiming, finishes what is under way, and returns when everything has ended.
    pub async fn finish(self) {
        let Self { state, stop, api, worker, chores } = self;
        let end = Instant::now() + STOP_WITHIN;
        state.begin_stopping();
        stop.cancel();
        chores.abort();
        for mut task in [api, worker].into_iter().flatten() {
            match tokio::time::timeout_at(end, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a part of the server broke off"),
                Err(_) => {
                    // What it held is found again when its lease has ended.
                    task.abort();
                    tracing::warn!("a part of the server did not end in time and was cut short");
                }
            }
        }
        if tokio::time::timeout_at(end, async {
            state.finish_tasks().await;
            state.social().keeper().finish().await;
        })
        .await
        .is_err()
        {
            tracing::warn!(
                "work whose callers had gone away, or new tokens that were not stored yet, took too long and were cut short"
            );
        }
    }
}

/// Works until it is stopped. A store that cannot be reached is waited for.
async fn work(state: State, stop: CancellationToken) {
    loop {
        let worker = state.social().worker();
        match Box::pin(worker.run_until(stop.clone().cancelled_owned())).await {
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => tracing::warn!("the worker ended by itself and is started again"),
            Err(error) => tracing::warn!(%error, "the worker could not start; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(STORE_PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Throws away what nobody needs any more.
async fn tidy(state: State, recorder: Option<PrometheusHandle>) {
    state.sweep_uploads().await;
    let mut hour = tokio::time::interval(TIDY_EVERY);
    let mut upkeep = tokio::time::interval(Duration::from_secs(5));
    let mut clock = tokio::time::interval(Duration::from_secs(30));
    loop {
        tokio::select! {
            // The worker does the same; a process without one refreshes tokens under leases too, and has to agree about the time.
            _ = clock.tick() => {
                if let Err(error) = state.social().calibrate().await {
                    tracing::warn!(%error, "the clock could not be compared with the database's");
                }
                // Tokens that a refresh of this process brought while the database was away.
                if let Err(error) = state.social().recover().await {
                    tracing::warn!(%error, "what was kept on disk could not be brought into the database yet");
                }
            }
            _ = upkeep.tick() => {
                if let Some(recorder) = &recorder {
                    recorder.run_upkeep();
                }
            }
            _ = hour.tick() => {
                state.sweep_uploads().await;
                let (store, now) = (state.social().store(), state.social().call_context().now());
                let purged = async {
                    store.purge_pending(now).await?;
                    store.purge_idempotent(later(now, -ANSWERS_LIFE)).await
                };
                if let Err(error) = purged.await {
                    tracing::warn!(%error, "old records could not be thrown away; trying again later");
                }
            }
        }
    }
}

/// Completes when the process is asked to stop: SIGTERM or SIGINT. From this call on, and not only when somebody waits for it, the process
/// no longer dies of SIGTERM: one that comes during the start ends the process in order too.
pub fn asked_to_stop() -> impl Future<Output = ()> + Send {
    #[cfg(unix)]
    let terminate = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate())
    };
    async move {
        #[cfg(unix)]
        if let Ok(mut terminate) = terminate {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = tokio::signal::ctrl_c() => return,
            }
        }
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
