//! A client of the API: HTTP and JSON, nothing else.

use std::time::Duration;

use reqwest::{Method, Response, header};
use serde_json::Value;
use social_core::crypto;

/// Why the demo cannot go on, as a sentence.
#[derive(Debug)]
pub struct Trouble(String);

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Trouble {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url().to_string())
    }
}

/// Speaks for one key.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Client {
    pub(super) fn new(base: &str, key: &str) -> Result<Self, Trouble> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key: key.to_owned() })
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        if self.key.is_empty() { request } else { request.bearer_auth(&self.key) }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Trouble> {
        answered(path, self.request(Method::GET, path).send().await?).await
    }

    /// Sends JSON. Every write has an Idempotency-Key, as every client's should.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        let request = self.request(Method::POST, path).header("idempotency-key", crypto::random_token(16)).json(body);
        answered(path, request.send().await?).await
    }

    pub(super) async fn upload(&self, mime: &str, bytes: Vec<u8>) -> Result<Value, Trouble> {
        let request = self.request(Method::POST, "/media").header(header::CONTENT_TYPE, mime).body(bytes);
        answered("/media", request.send().await?).await
    }

    /// An answer that does not end.
    pub(super) async fn stream(&self, path: &str) -> Result<Response, Trouble> {
        let response = self.request(Method::GET, path).send().await?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(format!("{path} answered {}", response.status()).into())
        }
    }

    /// What a browser does: no key, but a cookie.
    pub(super) async fn browse(&self, url: &str, cookies: &str) -> Result<Response, Trouble> {
        let mut request = self.http.get(url).header(header::ACCEPT, "text/html");
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies);
        }
        Ok(request.send().await?)
    }
}

async fn answered(path: &str, response: Response) -> Result<Value, Trouble> {
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    if status.is_success() {
        return Ok(body);
    }
    let detail = body["detail"].as_str().unwrap_or("without a reason");
    Err(format!("{path} answered {status}: {detail} {}", body["violations"]).into())
}
