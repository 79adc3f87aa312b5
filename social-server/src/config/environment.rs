//! The environment as a source of settings. Values are taken as they are: a secret that looks like a number stays a text.

use figment::{
    Error, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::ConfigError;

/// Variables with one value.
const TEXTS: &[&str] = &[
    "database_url",
    "listen",
    "public_url",
    "master_keys",
    "admin_key",
    "metrics_token",
    "rate_limits",
    "request_limits",
    "media_dir",
    "spill_dir",
    "fetch_http",
    "late_limit",
    "log_format",
    "log",
];
const NUMBERS: &[&str] = &[
    "requests_per_second_ip",
    "requests_per_second_key",
    "media_max_bytes",
    "media_quota_bytes",
    "max_connections",
    "keep_history_days",
    "keep_media_days",
];
/// Variables with values between commas.
const LISTS: &[&str] = &["allowed_origins", "return_urls", "trusted_proxies", "fetch_allow"];
const NUMBER_LISTS: &[&str] = &["fetch_ports"];
/// What each network has: `SOCIAL_X_CLIENT_ID`.
const OF_NETWORKS: &[&str] = &["client_id", "client_secret", "base_url", "preset", "api_version"];
/// Read elsewhere.
const OTHER: &[&str] = &["config"];

pub(super) struct Environment(Dict);

impl Environment {
    pub(super) fn read(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut found = Dict::new();
        let mut networks = Dict::new();
        let (mut database, mut port) = (None, None);
        for (name, value) in variables {
            match name.as_str() {
                "DATABASE_URL" => database = Some(value),
                "PORT" => port = Some(value),
                _ => {
                    let Some(key) = name.strip_prefix("SOCIAL_") else { continue };
                    // An empty variable is how many hosts say "not set".
                    if !value.trim().is_empty() {
                        put(&mut found, &mut networks, &key.to_lowercase(), &name, value)?;
                    }
                }
            }
        }
        if let Some(url) = database.filter(|url| !url.trim().is_empty()) {
            found.entry("database_url".to_owned()).or_insert_with(|| Value::from(url));
        }
        if let Some(port) = port.filter(|port| !port.trim().is_empty()) {
            found.entry("listen".to_owned()).or_insert_with(|| Value::from(format!("0.0.0.0:{}", port.trim())));
        }
        if !networks.is_empty() {
            found.insert("networks".to_owned(), Value::from(networks));
        }
        Ok(Self(found))
    }
}

fn put(found: &mut Dict, networks: &mut Dict, key: &str, name: &str, value: String) -> Result<(), ConfigError> {
    let number =
        |raw: &str| raw.trim().parse::<u64>().map_err(|_| ConfigError(format!("{name} must be a whole number")));
    let pieces = || value.split(',').map(str::trim).filter(|piece| !piece.is_empty());
    let value = if OTHER.contains(&key) {
        return Ok(());
    } else if TEXTS.contains(&key) {
        Value::from(value.trim().to_owned())
    } else if NUMBERS.contains(&key) {
        Value::from(number(&value)?)
    } else if LISTS.contains(&key) {
        Value::from(pieces().map(str::to_owned).collect::<Vec<_>>())
    } else if NUMBER_LISTS.contains(&key) {
        Value::from(pieces().map(number).collect::<Result<Vec<_>, _>>()?)
    } else {
        let of_network =
            OF_NETWORKS.iter().find_map(|field| Some((key.strip_suffix(field)?.strip_suffix('_')?, *field)));
        let Some((network, field)) = of_network.filter(|(network, _)| social_platforms::KNOWN.contains(network)) else {
            return Err(ConfigError(format!(
                "there is no setting named {name}; `social-server serve --help` lists them"
            )));
        };
        let entry = networks.entry(network.to_owned()).or_insert_with(|| Value::from(Dict::new()));
        if let Value::Dict(_, fields) = entry {
            fields.insert(field.to_owned(), Value::from(value.trim().to_owned()));
        }
        return Ok(());
    };
    found.insert(key.to_owned(), value);
    Ok(())
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("the environment (SOCIAL_*)")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}
