//! What an operator sets: defaults, then a TOML file, then the environment. Unknown keys are errors that name the key.

mod environment;
mod parse;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    providers::{Format, Toml},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, de};
use social_core::ClientSecret;
use url::Url;

use self::environment::Environment;
pub use self::parse::{AllowedOrigins, Network as IpNetwork, ReturnUrls};

/// Settings of the server. Every field is also an environment variable: `SOCIAL_` and the name in capitals.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Config {
    /// Where everything is kept: `sqlite://social.db` or `postgres://user:password@host/name`. `DATABASE_URL` counts too.
    pub database_url: Secret,
    /// Address and port to listen on. `PORT` counts too and then means all addresses.
    pub listen: SocketAddr,
    /// How the world reaches this server, such as `https://social.example`. Callback addresses and links are made from it.
    pub public_url: Option<Url>,
    /// The master keys, `id:base64` separated by commas; the first one seals.
    pub master_keys: Option<Secret>,
    /// The key that makes users and keys. Without it nobody can.
    pub admin_key: Option<Secret>,
    /// Lets a metrics collector read `/metrics` and nothing else.
    pub metrics_token: Option<Secret>,
    /// Where a worker without an API answers `/metrics`, `/healthz` and `/readyz`; nowhere unless set.
    pub metrics_listen: Option<SocketAddr>,
    /// Web origins whose pages may call the API.
    pub allowed_origins: AllowedOrigins,
    /// Where a browser may be sent back to after connecting.
    pub return_urls: ReturnUrls,
    /// Proxies whose `X-Forwarded-*` headers are believed: addresses, networks, or `private` for all private ones.
    pub trusted_proxies: Vec<IpNetwork>,
    /// `off` keeps the ledger of the networks' limits but never lets a post wait for it.
    pub rate_limits: Switch,
    /// `off` lets everybody send as many requests to this server as they like.
    pub request_limits: Switch,
    /// Requests per second that one address may send on average; ten seconds' worth may come at once.
    pub requests_per_second_ip: u32,
    /// Requests per second that one key may send on average; ten seconds' worth may come at once.
    pub requests_per_second_key: u32,
    /// Where uploaded files are kept.
    pub media_dir: PathBuf,
    /// Where outcomes and sealed tokens are kept on disk while the database is away; a folder `outcomes` in the media folder unless set,
    /// `off` for none.
    pub spill_dir: Option<PathBuf>,
    /// The largest file that is taken, in bytes.
    pub media_max_bytes: u64,
    /// What the files of one user may take together, in bytes.
    pub media_quota_bytes: u64,
    /// Days for which the history and the networks' answers in it are kept; 0 is for ever. Posts and what became of them stay.
    pub keep_history_days: u32,
    /// Days for which a file is kept that no open post uses, counted from its upload; 0 is for ever.
    pub keep_media_days: u32,
    /// Networks that `media_url` may lead to although they are not public. Opens them to every user.
    pub fetch_allow: Vec<IpNetwork>,
    /// `on` lets `media_url` begin with `http://`.
    pub fetch_http: Switch,
    /// Further ports, besides 80 and 443, that `media_url` may lead to.
    pub fetch_ports: Vec<u16>,
    /// How late a post may go out before it counts as missed, such as `60 min` or a number of seconds.
    pub late_limit: Span,
    /// Connections that are served at once.
    pub max_connections: usize,
    /// Connections that one address may have at once. Trusted proxies and this machine may have any number.
    pub max_connections_per_ip: usize,
    /// `json`, `text`, or `auto`: text on a terminal, JSON elsewhere.
    pub log_format: LogFormat,
    /// What is logged, such as `info` or `info,social_core=debug`.
    pub log: String,
    /// The networks by name, each with its credentials. In the environment: `SOCIAL_X_CLIENT_ID` and so on.
    pub networks: BTreeMap<String, NetworkConfig>,
}

/// The credentials of one network.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// The client id of the app that is registered with the network. Without one the network is not there.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<Secret>,
    /// One prefix instead of all hosts of the network: for the sandbox and for tests.
    pub base_url: Option<Url>,
    /// The scope preset that is asked for unless a request says otherwise.
    pub preset: Option<String>,
    /// The version of the network's interface to speak.
    pub api_version: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database_url: Secret::from("sqlite://social.db"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: None,
            master_keys: None,
            admin_key: None,
            metrics_token: None,
            metrics_listen: None,
            allowed_origins: AllowedOrigins::default(),
            return_urls: ReturnUrls::default(),
            trusted_proxies: Vec::new(),
            rate_limits: Switch::On,
            request_limits: Switch::On,
            requests_per_second_ip: 400,
            requests_per_second_key: 200,
            media_dir: PathBuf::from("social-media"),
            spill_dir: None,
            media_max_bytes: 5_000_000_000,
            media_quota_bytes: 50_000_000_000,
            keep_history_days: 90,
            keep_media_days: 0,
            fetch_allow: Vec::new(),
            fetch_http: Switch::Off,
            fetch_ports: Vec::new(),
            late_limit: Span(social_core::social::DEFAULT_LATE_LIMIT),
            max_connections: 8192,
            max_connections_per_ip: 512,
            log_format: LogFormat::Auto,
            log: "info".to_owned(),
            networks: BTreeMap::new(),
        }
    }
}

/// Why the settings cannot be used. Names the key and never shows a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

impl Config {
    /// Reads the file, if there is one, and then the environment of this process.
    ///
    /// # Errors
    /// [`ConfigError`] that names the key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        // A variable that is no text is none of ours; one with our prefix is a mistake.
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => variables.push((name, value)),
                (Ok(name), Err(_)) if name.starts_with("SOCIAL_") => {
                    return Err(ConfigError(format!("{name} is not text")));
                }
                _ => {}
            }
        }
        Self::load_from(file, variables)
    }

    /// The same with variables that are handed in.
    ///
    /// # Errors
    /// [`ConfigError`] that names the key.
    pub fn load_from(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError(format!("the configuration file {} is not there", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let environment = Environment::read(variables)?;
        let config: Self = figment.merge(environment).extract().map_err(|error| describe(&error))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let Some(url) = &self.public_url {
            let refuse = |why: &str| Err(ConfigError(format!("public_url (SOCIAL_PUBLIC_URL) {why}")));
            let secure = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
            if !secure {
                return refuse(
                    "must begin with https:// unless its host is a loopback address: keys and tokens would travel in clear",
                );
            }
            if !url.username().is_empty()
                || url.password().is_some()
                || url.query().is_some()
                || url.fragment().is_some()
            {
                return refuse("must be a plain address without user name, query and fragment");
            }
            if url.path() != "/" {
                return refuse("must not have a path: give this server a host name of its own");
            }
        }
        for (name, network) in &self.networks {
            if !social_platforms::KNOWN.contains(&name.as_str()) {
                let known = social_platforms::KNOWN.join(", ");
                return Err(ConfigError(format!("this build knows no network named {name}; it knows: {known}")));
            }
            if network.client_id.is_none() && network.client_secret.is_some() {
                let name = name.to_uppercase();
                return Err(ConfigError(format!(
                    "SOCIAL_{name}_CLIENT_SECRET is set but SOCIAL_{name}_CLIENT_ID is not"
                )));
            }
        }
        Ok(())
    }

    /// Where what the database cannot take is kept meanwhile; `None` if it was switched off.
    #[must_use]
    pub fn spill_folder(&self) -> Option<PathBuf> {
        match &self.spill_dir {
            Some(folder) if folder.as_os_str() == "off" => None,
            Some(folder) => Some(folder.clone()),
            None => Some(self.media_dir.join("outcomes")),
        }
    }

    /// How the world reaches this server: what was set, or the address that it listens on.
    #[must_use]
    pub fn public_address(&self, listening: SocketAddr) -> Url {
        self.public_url.clone().unwrap_or_else(|| {
            let host = match listening.ip() {
                ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                ip => ip,
            };
            let address = SocketAddr::new(host, listening.port());
            #[expect(clippy::expect_used, reason = "an address and a port always make a URL")]
            Url::parse(&format!("http://{address}/")).expect("an address is a host")
        })
    }
}

/// Whether only programs on the same machine can be meant.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn describe(error: &figment::Error) -> ConfigError {
    let mut lines = Vec::new();
    for error in error.clone() {
        let key = error.path.join(".");
        let place = error.metadata.as_ref().map_or(String::new(), |from| match &from.source {
            Some(figment::Source::File(path)) => format!(" in {}", path.display()),
            _ => format!(" in {}", from.name),
        });
        lines.push(match &error.kind {
            figment::error::Kind::UnknownField(field, _) => {
                let whole = if key.is_empty() || key.ends_with(field.as_str()) {
                    key.clone()
                } else {
                    format!("{key}.{field}")
                };
                let whole = if whole.is_empty() { field.clone() } else { whole };
                format!("there is no setting named {whole}{place}")
            }
            kind if key.is_empty() => format!("{kind}{place}"),
            kind => format!("{key}: {kind}{place}"),
        });
    }
    ConfigError(lines.join("; "))
}

/// A value that is never shown.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The raw value. Call it where it is used and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The value as an adapter takes it.
    #[must_use]
    pub fn client_secret(&self) -> Option<ClientSecret> {
        ClientSecret::parse(self.expose())
    }
}

impl From<&str> for Secret {
    fn from(raw: &str) -> Self {
        Self(SecretString::from(raw))
    }
}

impl From<String> for Secret {
    fn from(raw: String) -> Self {
        Self(SecretString::from(raw))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes")
            }
            fn visit_str<E: de::Error>(self, raw: &str) -> Result<Secret, E> {
                if raw.trim().is_empty() { Err(E::custom("it is empty")) } else { Ok(Secret::from(raw.trim())) }
            }
            // The usual messages would show the value.
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(E::custom("it must be a text in quotes"))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom("it must be a text in quotes"))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::custom("it must be a text in quotes"))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Text,
}

/// A length of time: a number of seconds, or a text such as `90 min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Length;
        impl de::Visitor<'_> for Length {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds or a text such as `90 min`")
            }
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
                Ok(Span(Duration::from_secs(seconds)))
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                u64::try_from(seconds).map(|s| Span(Duration::from_secs(s))).map_err(|_| E::custom("it is negative"))
            }
            fn visit_str<E: de::Error>(self, raw: &str) -> Result<Span, E> {
                if let Ok(seconds) = raw.trim().parse() {
                    return Ok(Span(Duration::from_secs(seconds)));
                }
                let span: jiff::SignedDuration = raw.parse().map_err(|_| E::custom("it is no length of time"))?;
                Duration::try_from(span).map(Span).map_err(|_| E::custom("it is negative"))
            }
        }
        deserializer.deserialize_any(Length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load_from(None, variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("social.toml");
        let text = "media_max_bytes = 7\nlog = \"warn\"\n[networks.x]\nclient_id = \"from-file\"\n";
        std::fs::write(&file, text).unwrap();
        let variables = [("SOCIAL_LOG", "debug"), ("SOCIAL_X_CLIENT_SECRET", "marker-secret"), ("HOME", "/")];
        let config = Config::load_from(Some(&file), variables.map(|(k, v)| (k.to_owned(), v.to_owned()))).unwrap();
        assert_eq!((config.media_max_bytes, config.log.as_str()), (7, "debug"));
        assert_eq!(config.networks["x"].client_id.as_deref(), Some("from-file"));
        assert_eq!(config.database_url.expose(), "sqlite://social.db");
        assert!(!format!("{config:?}").contains("marker-secret"));
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_key() {
        let error = load(&[("SOCIAL_MASTER_KEY", "marker-secret")]).unwrap_err().to_string();
        assert!(error.contains("SOCIAL_MASTER_KEY") && !error.contains("marker-secret"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("social.toml");
        for (text, key) in [("lissten = \"x\"", "lissten"), ("[networks.x]\nclientid = \"x\"", "networks.x.clientid")] {
            std::fs::write(&file, text).unwrap();
            let error = Config::load_from(Some(&file), []).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        let error = load(&[("SOCIAL_CHIRP_CLIENT_ID", "a")]).unwrap_err().to_string();
        assert!(error.contains("SOCIAL_CHIRP_CLIENT_ID"), "{error}");
    }

    #[test]
    fn names_of_hosting_platforms_count_unless_ours_are_set() {
        let config = load(&[("DATABASE_URL", "postgres://a"), ("PORT", "9000")]).unwrap();
        assert_eq!(
            (config.database_url.expose(), config.listen.to_string().as_str()),
            ("postgres://a", "0.0.0.0:9000")
        );
        let ours = [
            ("DATABASE_URL", "postgres://a"),
            ("SOCIAL_DATABASE_URL", "sqlite://b"),
            ("PORT", "9000"),
            ("SOCIAL_LISTEN", "127.0.0.1:1"),
        ];
        let config = load(&ours).unwrap();
        assert_eq!((config.database_url.expose(), config.listen.port()), ("sqlite://b", 1));
    }

    #[test]
    fn a_public_address_without_encryption_is_refused_unless_it_is_loopback() {
        for (url, good) in [
            ("https://social.example", true),
            ("http://127.0.0.1:8080", true),
            ("http://localhost:8080", true),
            ("http://[::1]:8080", true),
            ("http://social.example", false),
            ("http://10.0.0.1", false),
            ("http://localhost.evil.example", false),
            ("https://user@social.example", false),
            ("https://social.example/base", false),
            ("ftp://127.0.0.1", false),
        ] {
            assert_eq!(load(&[("SOCIAL_PUBLIC_URL", url)]).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn values_that_look_like_numbers_stay_secrets_and_errors_do_not_show_them() {
        let config = load(&[("SOCIAL_ADMIN_KEY", "12345"), ("SOCIAL_X_CLIENT_ID", "777")]).unwrap();
        assert_eq!(config.admin_key.unwrap().expose(), "12345");
        assert_eq!(config.networks["x"].client_id.as_deref(), Some("777"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("social.toml");
        std::fs::write(&file, "admin_key = 424242").unwrap();
        let error = Config::load_from(Some(&file), []).unwrap_err().to_string();
        assert!(error.contains("admin_key") && !error.contains("424242"), "{error}");
    }

    #[test]
    fn lists_and_lengths_are_read() {
        let config = load(&[
            ("SOCIAL_LATE_LIMIT", "90 min"),
            ("SOCIAL_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
            ("SOCIAL_FETCH_PORTS", "8080,9090"),
            ("SOCIAL_RATE_LIMITS", "off"),
        ])
        .unwrap();
        assert_eq!(config.late_limit, Span(Duration::from_secs(5400)));
        assert_eq!((config.trusted_proxies.len(), config.fetch_ports.as_slice()), (2, &[8080, 9090][..]));
        assert_eq!(config.rate_limits, Switch::Off);
        assert!(load(&[("SOCIAL_RATE_LIMITS", "of")]).is_err());
        assert!(load(&[("SOCIAL_MAX_CONNECTIONS", "many")]).is_err());
    }
}
