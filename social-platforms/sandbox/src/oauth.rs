//! Registered apps, authorization codes and tokens of all networks.

use crate::lock;
use crate::rng::Rng;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use url::Url;

/// A network of this sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Platform {
    /// X.
    X,
    /// LinkedIn.
    LinkedIn,
}

impl Platform {
    pub(crate) const ALL: [Self; 2] = [Self::X, Self::LinkedIn];

    /// The id that starts the network's paths.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::LinkedIn => "linkedin",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::X => "X",
            Self::LinkedIn => "LinkedIn",
        }
    }

    /// The network of that id.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|platform| platform.as_str() == id)
    }

    /// All scopes of the network; their order gives each its bit.
    pub(crate) fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::X => crate::x::SCOPES,
            Self::LinkedIn => crate::linkedin::SCOPES,
        }
    }

    pub(crate) fn apps(self) -> &'static [App] {
        match self {
            Self::X => crate::x::APPS,
            Self::LinkedIn => crate::linkedin::APPS,
        }
    }
}

/// A registered application.
#[derive(Debug, Clone, Copy)]
pub(crate) struct App {
    pub(crate) client_id: &'static str,
    /// None: a public client.
    pub(crate) secret: Option<&'static str>,
    pub(crate) name: &'static str,
    /// Scopes it may ask for; empty = all of the network.
    pub(crate) scopes: &'static [&'static str],
    /// LinkedIn: programmatic refresh tokens.
    pub(crate) partner: bool,
}

/// A set of scopes of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ScopeSet(u32);

impl ScopeSet {
    /// Splits on white space and commas.
    ///
    /// # Errors
    /// The first scope that the network does not know.
    pub(crate) fn parse(platform: Platform, text: &str) -> Result<Self, String> {
        let mut set = 0;
        for scope in text.split([' ', ',', '\t', '\n']).filter(|scope| !scope.is_empty()) {
            let bit = platform.scopes().iter().position(|known| *known == scope).ok_or_else(|| scope.to_owned())?;
            set |= 1 << bit;
        }
        Ok(Self(set))
    }

    pub(crate) fn names(self, platform: Platform) -> Vec<&'static str> {
        let scopes = platform.scopes().iter().enumerate();
        scopes.filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, scope)| *scope).collect()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn has(self, platform: Platform, scope: &str) -> bool {
        platform.scopes().iter().position(|known| *known == scope).is_some_and(|bit| self.0 >> bit & 1 == 1)
    }
}

/// Who let which app do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Grant {
    pub(crate) platform: Platform,
    /// Index into [`Platform::apps`].
    pub(crate) app: usize,
    /// Index of the persona in the network's state.
    pub(crate) persona: usize,
    pub(crate) scopes: ScopeSet,
}

impl Grant {
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.scopes.has(self.platform, scope)
    }

    pub(crate) fn app(&self) -> &'static App {
        &self.platform.apps()[self.app]
    }
}

/// All tokens that descend from one consent.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) alive: AtomicBool,
    pub(crate) authorized_at: i64,
}

#[derive(Debug)]
pub(crate) struct AccessToken {
    pub(crate) grant: Grant,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) revoked: AtomicBool,
    pub(crate) family: Arc<Family>,
}

impl AccessToken {
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed) || !self.family.alive.load(Ordering::Relaxed)
    }

    pub(crate) fn is_usable(&self, now: i64) -> bool {
        !self.is_revoked() && now < self.expires_at
    }
}

#[derive(Debug, Clone)]
pub(crate) struct RefreshToken {
    pub(crate) grant: Grant,
    pub(crate) family: Arc<Family>,
    pub(crate) rotated: bool,
    pub(crate) expires_at: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Challenge {
    pub(crate) method: ChallengeMethod,
    pub(crate) value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChallengeMethod {
    S256,
    Plain,
}

impl Challenge {
    pub(crate) fn accepts(&self, verifier: &str) -> bool {
        match self.method {
            ChallengeMethod::Plain => self.value == verifier,
            ChallengeMethod::S256 => self.value == URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes())),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) grant: Grant,
    pub(crate) redirect_uri: String,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) used: bool,
}

/// One secret that the sandbox has given out. Search everything that your program prints for `value`.
#[derive(Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct IssuedSecret {
    /// `x`, `linkedin`.
    pub platform: String,
    /// `code`, `access_token`, `refresh_token`, `id_token`.
    pub kind: String,
    /// The secret.
    pub value: String,
    /// The persona's name.
    pub persona: String,
    /// The app that it was given to.
    pub client_id: String,
    /// When.
    pub issued_at: Timestamp,
}

impl fmt::Debug for IssuedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedSecret")
            .field("platform", &self.platform)
            .field("kind", &self.kind)
            .field("persona", &self.persona)
            .field("client_id", &self.client_id)
            .field("issued_at", &self.issued_at)
            .finish_non_exhaustive()
    }
}

/// What a token endpoint hands out.
pub(crate) struct Issued {
    pub(crate) access: String,
    pub(crate) expires_in: i64,
    pub(crate) refresh: Option<String>,
}

#[derive(Clone)]
struct SecretRecord {
    kind: &'static str,
    value: Arc<str>,
    grant: Grant,
    at: i64,
}

#[derive(Default)]
struct Inner {
    codes: HashMap<Arc<str>, Code>,
    refresh: HashMap<Arc<str>, RefreshToken>,
    secrets: Vec<SecretRecord>,
}

/// Every code and token of the sandbox.
pub(crate) struct TokenBook {
    access: RwLock<HashMap<Arc<str>, Arc<AccessToken>>>,
    inner: Mutex<Inner>,
    rng: Mutex<Rng>,
    reuses: AtomicU64,
}

impl fmt::Debug for TokenBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBook").finish_non_exhaustive()
    }
}

impl TokenBook {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            access: RwLock::default(),
            inner: Mutex::default(),
            rng: Mutex::new(Rng::new(seed)),
            reuses: AtomicU64::new(0),
        }
    }

    fn secret(&self, platform: Platform, kind: &str, now: i64) -> Arc<str> {
        let mut rng = lock(&self.rng);
        let text = match (platform, kind) {
            (Platform::X, _) => {
                let short = match kind {
                    "code" => "ac",
                    "refresh_token" => "rt",
                    _ => "at",
                };
                STANDARD.encode(format!("{}:{}:1:1:{short}:1", rng.letters(44), now / 1_000)).replace('=', "")
            }
            (Platform::LinkedIn, "code") => format!("AQ{}", rng.letters(118)),
            (Platform::LinkedIn, "refresh_token") => format!("AQW{}", rng.letters(350)),
            (Platform::LinkedIn, _) => format!("AQX{}", rng.letters(350)),
        };
        Arc::from(text)
    }

    pub(crate) fn new_code(
        &self,
        grant: Grant,
        redirect_uri: &str,
        challenge: Option<Challenge>,
        now: i64,
        life_s: i64,
    ) -> Arc<str> {
        let value = self.secret(grant.platform, "code", now);
        let code = Code {
            grant,
            redirect_uri: redirect_uri.to_owned(),
            challenge,
            issued_at: now,
            expires_at: now + life_s * 1_000_000,
            used: false,
        };
        let mut inner = lock(&self.inner);
        inner.codes.insert(Arc::clone(&value), code);
        inner.secrets.push(SecretRecord { kind: "code", value: Arc::clone(&value), grant, at: now });
        value
    }

    /// The code, which is used up by this call. A code that was used before comes back with `used` set.
    pub(crate) fn take_code(&self, value: &str) -> Option<Code> {
        let mut inner = lock(&self.inner);
        let code = inner.codes.get_mut(value)?;
        let seen = code.clone();
        code.used = true;
        Some(seen)
    }

    /// Gives out an access token, and a refresh token that lives for `refresh_life_s` if that is given.
    pub(crate) fn issue(
        &self,
        grant: Grant,
        family: &Arc<Family>,
        now: i64,
        life_s: i64,
        refresh_until: Option<i64>,
    ) -> Issued {
        let access = self.secret(grant.platform, "access_token", now);
        let token = AccessToken {
            grant,
            issued_at: now,
            expires_at: now + life_s * 1_000_000,
            revoked: AtomicBool::new(false),
            family: Arc::clone(family),
        };
        self.access.write().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&access), Arc::new(token));
        let refresh = refresh_until.map(|_| self.secret(grant.platform, "refresh_token", now));
        let mut inner = lock(&self.inner);
        inner.secrets.push(SecretRecord { kind: "access_token", value: Arc::clone(&access), grant, at: now });
        if let (Some(refresh), Some(expires_at)) = (&refresh, refresh_until) {
            let record = RefreshToken { grant, family: Arc::clone(family), rotated: false, expires_at };
            inner.refresh.insert(Arc::clone(refresh), record);
            inner.secrets.push(SecretRecord { kind: "refresh_token", value: Arc::clone(refresh), grant, at: now });
        }
        Issued { access: access.to_string(), expires_in: life_s, refresh: refresh.map(|refresh| refresh.to_string()) }
    }

    pub(crate) fn note_secret(&self, kind: &'static str, value: &str, grant: Grant, now: i64) {
        lock(&self.inner).secrets.push(SecretRecord { kind, value: Arc::from(value), grant, at: now });
    }

    pub(crate) fn new_family(&self, now: i64) -> Arc<Family> {
        Arc::new(Family { alive: AtomicBool::new(true), authorized_at: now })
    }

    pub(crate) fn access(&self, token: &str) -> Option<Arc<AccessToken>> {
        self.access.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    pub(crate) fn refresh(&self, token: &str) -> Option<RefreshToken> {
        lock(&self.inner).refresh.get(token).cloned()
    }

    /// Uses a rotating refresh token up. A second use kills the whole family and gives `None`.
    pub(crate) fn rotate(&self, token: &str, app: usize, now: i64) -> Option<RefreshToken> {
        let mut inner = lock(&self.inner);
        let record = inner.refresh.get_mut(token)?;
        if record.grant.app != app {
            return None;
        }
        if record.rotated {
            record.family.alive.store(false, Ordering::SeqCst);
            self.reuses.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        if now >= record.expires_at || !record.family.alive.load(Ordering::SeqCst) {
            return None;
        }
        record.rotated = true;
        Some(record.clone())
    }

    /// How many codes and tokens were given out.
    pub(crate) fn issued(&self) -> usize {
        lock(&self.inner).secrets.len()
    }

    /// How often an already rotated refresh token was presented.
    pub(crate) fn reuses(&self) -> u64 {
        self.reuses.load(Ordering::SeqCst)
    }

    /// Ends a token. A refresh token takes its whole family with it. False if nobody knows it.
    pub(crate) fn revoke(&self, token: &str) -> bool {
        if let Some(refresh) = self.refresh(token) {
            refresh.family.alive.store(false, Ordering::SeqCst);
            return true;
        }
        self.access(token).is_some_and(|access| {
            access.revoked.store(true, Ordering::SeqCst);
            true
        })
    }

    /// Ends every access token and family for which `which` holds; returns how many access tokens that were.
    pub(crate) fn revoke_where(&self, which: impl Fn(&Grant) -> bool) -> usize {
        let mut ended = 0;
        for token in self.access.read().unwrap_or_else(PoisonError::into_inner).values() {
            if which(&token.grant) && !token.is_revoked() {
                token.revoked.store(true, Ordering::SeqCst);
                token.family.alive.store(false, Ordering::SeqCst);
                ended += 1;
            }
        }
        ended
    }

    pub(crate) fn secrets(&self, persona: impl Fn(&Grant) -> String) -> Vec<IssuedSecret> {
        // Copied first: naming a persona takes the lock of its network, which must never be taken inside this one.
        let records = lock(&self.inner).secrets.clone();
        let shown = records.iter().map(|record| IssuedSecret {
            platform: record.grant.platform.as_str().to_owned(),
            kind: record.kind.to_owned(),
            value: record.value.to_string(),
            persona: persona(&record.grant),
            client_id: record.grant.app().client_id.to_owned(),
            issued_at: crate::clock::timestamp(record.at),
        });
        shown.collect()
    }

    /// Forgets everything. Chance goes on, so that no old token comes to life again.
    pub(crate) fn clear(&self) {
        self.access.write().unwrap_or_else(PoisonError::into_inner).clear();
        *lock(&self.inner) = Inner::default();
        self.reuses.store(0, Ordering::SeqCst);
    }
}

/// Only a redirect to this machine is registered, with any port and path.
pub(crate) fn is_registered_redirect(redirect_uri: &str) -> bool {
    let Ok(url) = Url::parse(redirect_uri) else { return false };
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    local && matches!(url.scheme(), "http" | "https") && url.fragment().is_none()
}

/// `redirect_uri` with more query parameters. The URI was checked by [`is_registered_redirect`] before.
pub(crate) fn redirect_to(redirect_uri: &str, parameters: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse(redirect_uri) else { return redirect_uri.to_owned() };
    url.query_pairs_mut().extend_pairs(parameters);
    url.to_string()
}

/// Client id and secret of a Basic header, percent-decoded as RFC 6749 section 2.3.1 wants.
pub(crate) fn basic_credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |text: &str| {
        url::form_urlencoded::parse(format!("v={text}").as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decode(id)?, decode(secret)?))
}

/// RFC 7636: 43 to 128 unreserved characters.
pub(crate) fn is_pkce_value(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_redirects_are_registered() {
        for good in
            ["http://127.0.0.1:80/cb", "http://localhost:3000/x?y=1", "http://[::1]/", "https://app.localhost/cb"]
        {
            assert!(is_registered_redirect(good), "{good}");
        }
        for bad in [
            "https://example.com/cb",
            "http://127.0.0.1.example.com/",
            "ftp://localhost/",
            "//localhost/",
            "http://localhost/#f",
        ] {
            assert!(!is_registered_redirect(bad), "{bad}");
        }
    }

    #[test]
    fn a_challenge_of_rfc_7636_accepts_its_verifier() {
        let value = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned();
        let challenge = Challenge { method: ChallengeMethod::S256, value };
        assert!(challenge.accepts("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!challenge.accepts("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK"));
    }
}
