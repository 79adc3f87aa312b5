use std::{collections::BTreeMap, sync::Arc};

use base64::Engine as _;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use super::*;
use crate::{
    crypto,
    descriptor::ScopePreset,
    error::Effect,
    http::Http,
    secret::{AccessToken, OAuthState, RefreshToken},
    time::{ManualClock, SeededChance},
};

const MARKER: &str = "marker-7Hq2-secret";

fn start() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn context() -> CallContext {
    let clock = Arc::new(ManualClock::at(start()));
    CallContext::new(Http::new(clock.clone()).unwrap(), clock, Arc::new(SeededChance::new(1)))
}

fn facts(base: &str) -> OAuthFacts {
    let preset = |name: &str, scopes: &[&str]| ScopePreset {
        name: name.into(),
        purpose: String::new(),
        scopes: scopes.iter().map(|&scope| scope.into()).collect(),
    };
    OAuthFacts {
        authorize_url: format!("{base}/authorize?theme=dark"),
        token_url: format!("{base}/token"),
        revoke_url: Some(format!("{base}/revoke")),
        pkce: Pkce::S256,
        client_auth: ClientAuth::Basic,
        scope_separator: ' ',
        presets: vec![preset("post", &["tweet.read", "offline.access"]), preset("page", &["w+all"])],
    }
}

fn client(facts: OAuthFacts) -> OAuthClient {
    OAuthClient::new("my-client", ClientSecret::parse(MARKER), facts)
}

fn request() -> AuthorizeRequest {
    AuthorizeRequest::new("https://app.example/callback/x".parse().unwrap(), OAuthState::new("st&te+1").unwrap())
}

fn platform() -> PlatformId {
    PlatformId::from_static("x")
}

fn pending(verifier: Option<&str>) -> PendingAuthorization {
    PendingAuthorization {
        platform: platform(),
        redirect_uri: "https://app.example/callback/x".parse().unwrap(),
        preset: "post".into(),
        requested_scopes: vec!["tweet.read".into()],
        verifier: verifier.and_then(PkceVerifier::parse),
        extras: BTreeMap::new(),
    }
}

fn current() -> TokenSet {
    TokenSet {
        access: AccessToken::new("old-access").unwrap(),
        refresh: RefreshToken::parse("old-refresh"),
        expires_at: Some(start()),
        refresh_expires_at: Some(start() + SignedDuration::from_hours(24)),
        scopes: vec!["tweet.read".into()],
        extras: BTreeMap::from([("server".to_owned(), "https://s.example".to_owned())]),
    }
}

async fn server(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

fn pairs(url: &Url) -> BTreeMap<String, String> {
    url.query_pairs().into_owned().collect()
}

async fn sent_form(server: &MockServer) -> (BTreeMap<String, String>, Option<String>) {
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1, "exactly one request");
    let form = url::form_urlencoded::parse(&requests[0].body).into_owned().collect();
    let authorization = requests[0].headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    (form, authorization)
}

fn reply(status: u16, body: &str) -> Reply {
    Reply::new(
        "oauth.test",
        StatusCode::from_u16(status).unwrap(),
        HeaderMap::new(),
        body.as_bytes().to_vec().into(),
        start(),
    )
}

// ---- authorize ----

#[test]
fn the_address_carries_what_the_network_needs() {
    let made =
        client(facts("https://n.example")).authorize(&platform(), &request(), &[("prompt", "consent now")]).unwrap();
    let query = pairs(&made.url);
    let verifier = made.pending.verifier.as_ref().unwrap().expose();
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(crypto::sha256(verifier.as_bytes()));
    let expected = [
        ("theme", "dark"),
        ("response_type", "code"),
        ("client_id", "my-client"),
        ("state", "st&te+1"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
        ("redirect_uri", "https://app.example/callback/x"),
        ("scope", "tweet.read offline.access"),
        ("prompt", "consent now"),
    ];
    assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert!((43..=128).contains(&verifier.len()));
    let raw = made.url.as_str();
    assert!(raw.contains("tweet.read%20offline.access") && raw.contains("st%26te%2B1") && !raw.contains('+'), "{raw}");
    assert!(!raw.contains(verifier) && !raw.contains(MARKER));
    assert_eq!(made.pending.requested_scopes, ["tweet.read", "offline.access"]);
}

#[test]
fn every_authorization_has_its_own_verifier() {
    let client = client(facts("https://n.example"));
    let verifier =
        || client.authorize(&platform(), &request(), &[]).unwrap().pending.verifier.unwrap().expose().to_owned();
    assert_ne!(verifier(), verifier());
}

#[test]
fn a_network_without_challenge_and_with_commas_gets_what_it_knows() {
    let facts = OAuthFacts { pkce: Pkce::None, scope_separator: ',', ..facts("https://n.example") };
    let made = client(facts).authorize(&platform(), &request(), &[]).unwrap();
    let query = pairs(&made.url);
    assert_eq!(query["scope"], "tweet.read,offline.access");
    assert!(!query.contains_key("code_challenge") && made.pending.verifier.is_none());
}

#[test]
fn presets_are_chosen_by_name() {
    let client = client(facts("https://n.example"));
    let made = client.authorize(&platform(), &request().preset(Some("page".into())), &[]).unwrap();
    assert_eq!((made.pending.preset.as_str(), pairs(&made.url)["scope"].as_str()), ("page", "w+all"));
    let error = client.authorize(&platform(), &request().preset(Some("nope".into())), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("post, page"), "{error}");
}

// ---- exchange and refresh ----

#[tokio::test]
async fn a_confidential_client_authenticates_as_the_network_wants() {
    for (auth, secret) in [(ClientAuth::Basic, true), (ClientAuth::Body, true), (ClientAuth::Basic, false)] {
        let server =
            server(ResponseTemplate::new(200).set_body_json(json!({"access_token": "a1", "expires_in": 7200}))).await;
        let facts = OAuthFacts { client_auth: auth, ..facts(&server.uri()) };
        let client = OAuthClient::new("my-client", if secret { ClientSecret::parse(MARKER) } else { None }, facts);
        let code = AuthCode::new("the-code").unwrap();
        let tokens = client.exchange(&context(), code, &pending(Some(&"v".repeat(43)))).await.unwrap();
        assert_eq!(tokens.access.expose(), "a1");
        assert_eq!(tokens.expires_at, Some(start() + SignedDuration::from_hours(2)));
        let (form, authorization) = sent_form(&server).await;
        assert_eq!(form["grant_type"], "authorization_code");
        assert_eq!(form["code"], "the-code");
        assert_eq!(form["redirect_uri"], "https://app.example/callback/x");
        assert_eq!(form["code_verifier"], "v".repeat(43));
        let basic =
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("my-client:{MARKER}")));
        let expected = match (auth, secret) {
            (ClientAuth::Basic, true) => (None, None, Some(basic)),
            (ClientAuth::Body, true) => (Some("my-client"), Some(MARKER), None),
            (_, false) => (Some("my-client"), None, None),
        };
        let field = |name: &str| form.get(name).map(String::as_str);
        assert_eq!((field("client_id"), field("client_secret"), authorization), expected, "{auth:?}");
    }
}

#[tokio::test]
async fn a_refresh_keeps_what_the_answer_leaves_out() {
    for (what, answer, refresh, refresh_ends, scopes) in [
        (
            "nothing new",
            json!({"access_token": "a2", "expires_in": "3600"}),
            "old-refresh",
            Some(24),
            vec!["tweet.read"],
        ),
        (
            "empty text",
            json!({"access_token": "a2", "refresh_token": "", "scope": ""}),
            "old-refresh",
            Some(24),
            vec!["tweet.read"],
        ),
        (
            "a new one",
            json!({"access_token": "a2", "refresh_token": "r2", "scope": "b,c d"}),
            "r2",
            None,
            vec!["b", "c", "d"],
        ),
        (
            "the same one",
            json!({"access_token": "a2", "refresh_token": "old-refresh"}),
            "old-refresh",
            Some(24),
            vec!["tweet.read"],
        ),
        (
            "a new end",
            json!({"access_token": "a2", "refresh_token": "r2", "refresh_token_expires_in": 7200.0}),
            "r2",
            Some(2),
            vec!["tweet.read"],
        ),
    ] {
        let server = server(ResponseTemplate::new(200).set_body_json(&answer)).await;
        let tokens = client(facts(&server.uri())).refresh(&context(), &current()).await.unwrap();
        assert_eq!(tokens.access.expose(), "a2", "{what}");
        assert_eq!(tokens.refresh.as_ref().map(RefreshToken::expose), Some(refresh), "{what}");
        let hours = |hours| start() + SignedDuration::from_hours(hours);
        assert_eq!(tokens.refresh_expires_at, refresh_ends.map(hours), "{what}");
        assert_eq!(tokens.scopes, scopes, "{what}");
        assert_eq!(tokens.extras, current().extras, "{what}");
        let (form, _) = sent_form(&server).await;
        assert_eq!((form["grant_type"].as_str(), form["refresh_token"].as_str()), ("refresh_token", "old-refresh"));
    }
}

#[tokio::test]
async fn a_grant_without_refresh_token_is_not_sent_anywhere() {
    let server = server(ResponseTemplate::new(200)).await;
    let error =
        client(facts(&server.uri())).refresh(&context(), &TokenSet { refresh: None, ..current() }).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Reconnect, Effect::None));
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[test]
fn tokens_are_read_in_every_form_that_networks_write() {
    let read = |body: Value| read_tokens(&reply(200, &body.to_string()));
    let life = |body: Value| read(body).unwrap().expires_at.map(|end| end.duration_since(start()).as_secs());
    for (expires_in, expected) in [
        (json!(7200), Some(7200)),
        (json!("7200"), Some(7200)),
        (json!(" 7200 "), Some(7200)),
        (json!(7200.9), Some(7200)),
        (json!(0), None),
        (json!(-5), None),
        (json!("soon"), None),
        (json!(null), None),
        (json!([1]), None),
        (json!(1e300), Some(10 * 366 * 24 * 3600)),
    ] {
        assert_eq!(life(json!({"access_token": "a", "expires_in": expires_in})), expected, "{expires_in}");
    }
    for (scope, expected) in [
        (json!("a b"), vec!["a", "b"]),
        (json!("a,b"), vec!["a", "b"]),
        (json!("a, b  a"), vec!["a", "b"]),
        (json!(["a", "b,c"]), vec!["a", "b", "c"]),
        (json!(7), vec![]),
    ] {
        assert_eq!(read(json!({"access_token": "a", "scope": scope})).unwrap().scopes, expected, "{scope}");
    }
    assert_eq!(read(json!({"data": [{"access_token": "a", "permissions": "x,y"}]})).unwrap().scopes, ["x", "y"]);
    assert_eq!(read(json!({"data": {"access_token": "a", "refresh_expires_in": 60}})).unwrap().refresh_expires_at, {
        Some(start() + SignedDuration::from_mins(1))
    });
    for body in
        [json!({}), json!({"access_token": ""}), json!({"access_token": 5}), json!([]), json!({"access_token": " "})]
    {
        let error = read(body.clone()).unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unexpected, Effect::Unknown), "{body}");
    }
}

// ---- the error table ----

#[test]
fn refusals_are_sorted_by_who_must_act() {
    use ErrorKind as K;
    let body = |error: &str, description: &str| json!({"error": error, "error_description": description}).to_string();
    let known = Effect::None;
    for (status, body, on_exchange, on_refresh, effect) in [
        (400, body("invalid_grant", "Token has been expired or revoked."), K::Rejected, K::Reconnect, known),
        (200, body("invalid_grant", ""), K::Rejected, K::Reconnect, known),
        (400, body("invalid_request", "Value passed for the token was invalid."), K::Rejected, K::Reconnect, known),
        (
            400,
            body("invalid_request", "Value passed for the authorization code was invalid."),
            K::Rejected,
            K::Reconnect,
            known,
        ),
        (
            400,
            body("invalid_request", "The provided authorization grant or refresh token is invalid, expired or revoked"),
            K::Rejected,
            K::Reconnect,
            known,
        ),
        (
            401,
            body("invalid_request", "Unable to retrieve access token: authorization code not found"),
            K::Rejected,
            K::Reconnect,
            known,
        ),
        (400, body("invalid_redirect_uri", "code verifier does not match"), K::Rejected, K::Reconnect, known),
        (
            400,
            body("invalid_request", "A required parameter \"refresh_token\" is missing"),
            K::Config,
            K::Config,
            known,
        ),
        (401, body("unauthorized_client", "Missing valid authorization header"), K::Config, K::Config, known),
        (401, body("invalid_client", ""), K::Config, K::Config, known),
        (400, body("invalid_client_id", ""), K::Config, K::Config, known),
        (400, body("unsupported_grant_type", ""), K::Config, K::Config, known),
        (401, String::new(), K::Config, K::Config, known),
        (404, "<html>".into(), K::Config, K::Config, known),
        (403, "<html>Attention Required</html>".into(), K::Unavailable, K::Unavailable, known),
        (429, String::new(), K::RateLimited, K::RateLimited, known),
        (400, body("slow_down", ""), K::RateLimited, K::RateLimited, known),
        (400, body("something_new", "who knows"), K::Rejected, K::Unexpected, known),
        (400, "{\"error\":{\"message\":\"nested\"}}".into(), K::Rejected, K::Unexpected, known),
        (500, String::new(), K::Unavailable, K::Unavailable, Effect::Unknown),
        (503, "<html>".into(), K::Unavailable, K::Unavailable, Effect::Unknown),
        (200, body("server_error", ""), K::Unavailable, K::Unavailable, Effect::Unknown),
        (408, String::new(), K::Timeout, K::Timeout, Effect::Unknown),
        (302, String::new(), K::Unexpected, K::Unexpected, Effect::Unknown),
    ] {
        for (call, expected) in [(Call::Exchange, on_exchange), (Call::Refresh, on_refresh)] {
            let error = fault::classify(call, &reply(status, &body), |_, _| None);
            assert_eq!((error.kind(), error.effect()), (expected, effect), "{call:?} {status} {body}");
            assert_eq!(error.provider_error().unwrap().status, Some(status));
        }
    }
}

#[test]
fn a_network_may_add_its_own_rows() {
    let table: FaultTable = |reply, fault| {
        (fault.error.as_deref() == Some("weird")).then(|| Error::new(ErrorKind::Billing, reply.operation().clone()))
    };
    let weird = json!({"error": "weird"}).to_string();
    assert_eq!(fault::classify(Call::Refresh, &reply(400, &weird), table).kind(), ErrorKind::Billing);
    let grant = json!({"error": "invalid_grant"}).to_string();
    assert_eq!(fault::classify(Call::Refresh, &reply(400, &grant), table).kind(), ErrorKind::Reconnect);
}

#[tokio::test]
async fn a_lost_answer_is_in_doubt_and_an_unreadable_one_too() {
    let server = server(ResponseTemplate::new(200).set_body_string(format!("access_token={MARKER}"))).await;
    let error = client(facts(&server.uri())).refresh(&context(), &current()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unexpected, Effect::Unknown));
    assert!(!format!("{error} {error:?}").contains(MARKER), "{error:?}");

    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = client(facts(&format!("http://127.0.0.1:{port}"))).refresh(&context(), &current()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
}

#[tokio::test]
async fn no_error_shows_a_secret() {
    let echo = json!({"error": "invalid_grant", "error_description": format!("refresh_token={MARKER} code={MARKER}"), "access_token": MARKER});
    for status in [200, 400, 500] {
        let server = server(ResponseTemplate::new(status).set_body_json(&echo)).await;
        let error = client(facts(&server.uri())).refresh(&context(), &current()).await.unwrap_err();
        let printed = format!("{error} {error:?} {}", serde_json::to_string(&error).unwrap());
        assert!(!printed.contains(MARKER), "{printed}");
    }
    let printed = format!("{:?}", client(facts("https://n.example")));
    assert!(printed.contains("ClientSecret([redacted])") && !printed.contains(MARKER), "{printed}");
}

// ---- revoke ----

#[tokio::test]
async fn revoking_what_is_gone_is_a_success() {
    for (status, body, expected) in [
        (200, json!({"revoked": true}), None),
        (200, Value::Null, None),
        (400, json!({"error": "invalid_token"}), None),
        (400, json!({"error": "invalid_request", "error_description": "token is already revoked"}), None),
        (401, json!({"error": "invalid_client"}), Some(ErrorKind::Config)),
        (503, Value::Null, Some(ErrorKind::Unavailable)),
    ] {
        let server = server(ResponseTemplate::new(status).set_body_json(&body)).await;
        let outcome = client(facts(&server.uri())).revoke(&context(), "the-token").await;
        assert_eq!(outcome.err().map(|error| error.kind()), expected, "{status} {body}");
        let (form, authorization) = sent_form(&server).await;
        assert_eq!(form["token"], "the-token");
        assert!(authorization.is_some_and(|value| value.starts_with("Basic ")));
    }
    let none = OAuthFacts { revoke_url: None, ..facts("https://n.example") };
    assert_eq!(client(none).revoke(&context(), "t").await.unwrap_err().kind(), ErrorKind::Unsupported);
}
