//! An ordinary client of the networks: reqwest and the oauth2 crate, nothing of this project.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a part of tests; each program uses its own share"
)]

use oauth2::basic::BasicClient;
use oauth2::{AuthType, AuthUrl, ClientId, ClientSecret, RedirectUrl, TokenUrl};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use social_sandbox::{Control, GrantRequest, ManualClock, RunningSandbox, Sandbox, Settings};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CALLBACK: &str = "http://127.0.0.1:9/callback";

pub(crate) type OAuthClient = oauth2::Client<
    oauth2::basic::BasicErrorResponse,
    oauth2::basic::BasicTokenResponse,
    oauth2::basic::BasicTokenIntrospectionResponse,
    oauth2::StandardRevocableToken,
    oauth2::basic::BasicRevocationErrorResponse,
    oauth2::EndpointSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointSet,
>;

/// A sandbox whose clock stands still, and a client that follows no redirect.
pub(crate) struct World {
    pub(crate) sandbox: RunningSandbox,
    pub(crate) http: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let clock = Arc::new(ManualClock::new("2026-11-20T12:00:00Z".parse().unwrap()));
        let sandbox = Sandbox::new().seed(7).settings(settings).clock(clock).start().await.unwrap();
        let http = Client::builder().redirect(Policy::none()).timeout(Duration::from_secs(20)).build().unwrap();
        Self { sandbox, http }
    }

    pub(crate) fn control(&self) -> &Control {
        self.sandbox.control()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.control().advance(by);
    }

    pub(crate) fn token(&self, platform: &str, persona: &str) -> String {
        self.control().grant(&GrantRequest::new(platform, persona)).unwrap().access_token
    }

    pub(crate) fn token_with(&self, platform: &str, persona: &str, scope: &str) -> String {
        let request = GrantRequest { scope: Some(scope.to_owned()), ..GrantRequest::new(platform, persona) };
        self.control().grant(&request).unwrap().access_token
    }

    pub(crate) fn x(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.base_url("x"))
    }

    pub(crate) fn linkedin(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.base_url("linkedin"))
    }

    pub(crate) fn x_client(&self) -> OAuthClient {
        BasicClient::new(ClientId::new("sandbox-x-client".to_owned()))
            .set_client_secret(ClientSecret::new("sandbox-x-secret".to_owned()))
            .set_auth_uri(AuthUrl::new(self.x("/i/oauth2/authorize")).unwrap())
            .set_token_uri(TokenUrl::new(self.x("/2/oauth2/token")).unwrap())
            .set_redirect_uri(RedirectUrl::new(CALLBACK.to_owned()).unwrap())
    }

    pub(crate) fn linkedin_client(&self, app: &str) -> OAuthClient {
        BasicClient::new(ClientId::new(format!("sandbox-{app}-client")))
            .set_client_secret(ClientSecret::new(format!("sandbox-{app}-secret")))
            .set_auth_type(AuthType::RequestBody)
            .set_auth_uri(AuthUrl::new(self.linkedin("/oauth/v2/authorization")).unwrap())
            .set_token_uri(TokenUrl::new(self.linkedin("/oauth/v2/accessToken")).unwrap())
            .set_redirect_uri(RedirectUrl::new(CALLBACK.to_owned()).unwrap())
    }

    /// Opens an authorization URL and gives the query of the redirect.
    pub(crate) async fn consent(&self, url: &str, how: &str) -> HashMap<String, String> {
        let reply = self.http.get(format!("{url}&{how}")).send().await.unwrap();
        assert_eq!(reply.status(), 302, "{}", reply.text().await.unwrap());
        let location = reply.headers()["location"].to_str().unwrap();
        assert!(location.starts_with(CALLBACK), "{location}");
        url::Url::parse(location).unwrap().query_pairs().into_owned().collect()
    }

    pub(crate) async fn post_x(&self, token: &str, body: &Value) -> (u16, Value) {
        answer(self.http.post(self.x("/2/tweets")).bearer_auth(token).json(body)).await
    }

    pub(crate) async fn get_x(&self, token: &str, path: &str) -> (u16, Value) {
        answer(self.http.get(self.x(path)).bearer_auth(token)).await
    }

    /// A LinkedIn call with the headers that each must have.
    pub(crate) fn rest(&self, method: reqwest::Method, token: &str, path: &str) -> RequestBuilder {
        self.http
            .request(method, self.linkedin(path))
            .bearer_auth(token)
            .header("LinkedIn-Version", "202609")
            .header("X-Restli-Protocol-Version", "2.0.0")
    }
}

/// Status and JSON body; `null` for an empty one.
pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let reply = request.send().await.unwrap();
    let status = reply.status().as_u16();
    let text = reply.text().await.unwrap();
    (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect(&text) })
}

/// How the oauth2 crate reaches the network.
pub(crate) async fn transport(request: oauth2::HttpRequest) -> Result<oauth2::HttpResponse, reqwest::Error> {
    let (parts, body) = request.into_parts();
    let client = Client::builder().redirect(Policy::none()).build()?;
    let reply = client.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body).send().await?;
    let mut response = oauth2::http::Response::builder().status(reply.status());
    for (name, value) in reply.headers() {
        response = response.header(name, value);
    }
    Ok(response.body(reply.bytes().await?.to_vec()).unwrap())
}

/// The smallest things that pass for what they are.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

pub(crate) fn mp4(bytes: usize, seconds: u32) -> Vec<u8> {
    let boxed = |kind: &[u8; 4], payload: &[u8]| {
        let mut out = u32::try_from(payload.len() + 8).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(kind);
        out.extend_from_slice(payload);
        out
    };
    let mut header = vec![0_u8; 100];
    header[12..16].copy_from_slice(&1_000_u32.to_be_bytes());
    header[16..20].copy_from_slice(&(seconds * 1_000).to_be_bytes());
    let mut file = boxed(b"ftyp", b"isom\0\0\0\0");
    file.extend(boxed(b"moov", &boxed(b"mvhd", &header)));
    let rest = bytes.saturating_sub(file.len() + 8);
    file.extend(boxed(b"mdat", &vec![0x5A; rest]));
    file
}
