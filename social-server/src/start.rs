//! From settings to a running installation: store, networks, proof of the keys.

use std::{net::SocketAddr, sync::Arc};

use metrics_exporter_prometheus::PrometheusHandle;
use social_core::{Error, Platform, Store};
use social_platforms::Credentials;

pub use crate::metrics::recorder;
use crate::{
    config::{Config, NetworkConfig, Switch},
    keys::{self, Missing},
    state::{State, faulty, key_ring},
};

/// The adapters of all networks that have a client id.
///
/// # Errors
/// `Config` that names the network.
pub fn networks(config: &Config) -> Result<Vec<Arc<dyn Platform>>, Error> {
    let configured = config.networks.iter().filter(|(_, network)| network.client_id.is_some());
    configured.map(|(name, network)| network_of(name, network)).collect()
}

/// The adapter of one network.
///
/// # Errors
/// `Config` that names the network.
pub fn network_of(name: &str, network: &NetworkConfig) -> Result<Arc<dyn Platform>, Error> {
    let mut credentials = Credentials::new(network.client_id.clone().unwrap_or_default());
    credentials.client_secret = network.client_secret.as_ref().and_then(crate::config::Secret::client_secret);
    credentials.base_url = network.base_url.clone();
    credentials.preset = network.preset.clone();
    credentials.api_version = network.api_version.clone();
    social_platforms::build(name, credentials).map_err(|error| {
        let detail = error.detail().unwrap_or("it cannot be used").to_owned();
        faulty(format!("{name}: {detail} (see SOCIAL_{}_*)", name.to_uppercase())).source(error)
    })
}

/// Opens the store and brings its schema up to date.
///
/// # Errors
/// `Config` or `Storage`, without the address.
pub async fn open_store(config: &Config) -> Result<Arc<dyn Store>, Error> {
    social_store::open(config.database_url.expose()).await
}

/// Everything that a server or a worker needs, proven to fit together.
///
/// # Errors
/// `Config` for missing or wrong keys and credentials, `Storage` for a store that does not answer.
pub async fn installation(
    config: &Config,
    listening: SocketAddr,
    missing: Missing,
    recorder: Option<PrometheusHandle>,
) -> Result<State, Error> {
    let ring = key_ring(config)?;
    let platforms = networks(config)?;
    let store = open_store(config).await?;
    let mut builder = State::builder(config.clone()).listening(listening).store(store.clone());
    for platform in platforms {
        builder = builder.platform(platform);
    }
    if let Some(recorder) = recorder {
        builder = builder.recorder(recorder);
    }
    let state = builder.build()?;
    keys::check(&*store, &ring, state.social().vault(), missing).await?;
    Ok(state)
}

/// Says what an operator should know before it goes wrong.
pub fn warn_about(config: &Config, state: &State) {
    if config.rate_limits == Switch::Off {
        tracing::warn!(
            "SOCIAL_RATE_LIMITS is off: posts never wait for the networks' limits; the networks may block the app"
        );
    }
    if config.request_limits == Switch::Off {
        tracing::warn!("SOCIAL_REQUEST_LIMITS is off: anybody may send as many requests as they like");
    }
    if config.admin_key.is_none() {
        tracing::warn!("SOCIAL_ADMIN_KEY is not set: nobody can make users and keys");
    }
    if config.admin_key.as_ref().is_some_and(|key| key.expose().len() < 24) {
        tracing::warn!("SOCIAL_ADMIN_KEY is short and may be guessed: use 32 random characters");
    }
    if state.social().platforms().next().is_none() {
        tracing::warn!(
            "no network is configured, so nothing can be published: set SOCIAL_X_CLIENT_ID and SOCIAL_X_CLIENT_SECRET, for example"
        );
    }
    if !config.fetch_allow.is_empty() {
        tracing::warn!("SOCIAL_FETCH_ALLOW opens networks that are not public to every user");
    }
}
