//! The line between caller and server: who is at its other end, whether it is encrypted, and the headers that every answer carries.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::{
    extract::{Request, State as Extract},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use crate::{problem::Problem, state::State};

/// The address at the other end of the connection. Whoever accepts connections puts it into the request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Whom a request comes from, with what trusted proxies say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    /// The address.
    pub(crate) ip: IpAddr,
    /// Whether the line to the first proxy is encrypted, if a trusted proxy says so.
    pub(crate) https: Option<bool>,
    /// Whether the request comes from this machine and through no proxy.
    pub(crate) direct_local: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), https: None, direct_local: false }
    }
}

const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

/// Works out who calls. `X-Forwarded-*` is believed from configured peers only, and read from its end: what stands further left was
/// written by strangers.
fn client(state: &State, peer: Option<Peer>, headers: &HeaderMap) -> Client {
    let Some(Peer(peer)) = peer else { return Client { direct_local: true, ..Client::default() } };
    let trusted = |ip: IpAddr| state.settings.trusted_proxies.iter().any(|network| network.contains(ip));
    let forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
    let direct = Client {
        ip: peer.ip().to_canonical(),
        https: None,
        direct_local: peer.ip().to_canonical().is_loopback() && !forwarded,
    };
    if !trusted(peer.ip()) {
        return direct;
    }
    let list = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|one| one.trim().to_owned()).collect()
    };
    let hops: Vec<Option<IpAddr>> = list("x-forwarded-for").iter().map(|hop| hop.parse().ok()).collect();
    let stranger = hops.iter().rev().find(|hop| !hop.is_some_and(trusted));
    let ip = stranger.copied().flatten().unwrap_or(direct.ip);
    let https = list("x-forwarded-proto").last().map(|scheme| scheme.eq_ignore_ascii_case("https"));
    Client { ip: ip.to_canonical(), https, direct_local: direct.direct_local }
}

/// Notes who calls; where the world uses https, an unencrypted request of a browser is sent there and one of a program is refused:
/// a key that came in clear must not be used again.
pub(crate) async fn line(Extract(state): Extract<State>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let client = client(&state, peer, request.headers());
    request.extensions_mut().insert(client);
    let probe = matches!(request.uri().path(), "/healthz" | "/readyz");
    let mut response = if state.settings.secure() && client.https == Some(false) && !probe {
        unencrypted(&state, request.method(), request.uri(), request.headers())
    } else {
        next.run(request).await
    };
    protect(&state, response.headers_mut());
    response
}

fn unencrypted(state: &State, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response {
    let browser = matches!(*method, Method::GET | Method::HEAD) && !headers.contains_key(header::AUTHORIZATION);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    if browser
        && let Some(url) =
            state.settings.public_url.join(target).ok().filter(|url| url.origin() == state.settings.public_url.origin())
    {
        let location = HeaderValue::from_str(url.as_str());
        if let Ok(location) = location {
            return (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response();
        }
    }
    Problem::new(
        StatusCode::FORBIDDEN,
        "https_required",
        "this request came unencrypted; if it carried a key, the key is burnt",
    )
    .advice("Use https, delete the key that was sent and make a new one.")
    .into_response()
}

/// Headers that every answer carries unless its route set its own.
fn protect(state: &State, headers: &mut HeaderMap) {
    let defaults = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "interest-cohort=()"),
    ];
    for (name, value) in defaults {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if state.settings.secure() && !state.settings.local() {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}
