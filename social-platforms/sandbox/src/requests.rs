//! What clients asked for, without what they must keep secret.

use crate::clock::timestamp;
use crate::lock;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// One request to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEntry {
    /// HTTP method.
    pub method: String,
    /// Path and query as sent; codes, tokens and secrets in the query are replaced.
    pub path: String,
    /// `x`, `linkedin`.
    pub platform: Cow<'static, str>,
    /// The named operation, or `unknown`.
    pub operation: Cow<'static, str>,
    /// What was answered; `null` if the connection was dropped or the client left first.
    pub status: Option<u16>,
    /// Whether a fault was played on it.
    pub faulted: bool,
    /// When it arrived.
    pub at: Timestamp,
    /// Request headers; credentials are replaced by `[redacted]`.
    pub headers: BTreeMap<String, String>,
    /// The beginning of the body, where the setting `request_log_body_bytes` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// How often an operation was asked for since the start or the last reset, and never forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCount {
    /// `x`, `linkedin`.
    pub platform: Cow<'static, str>,
    /// The named operation.
    pub operation: Cow<'static, str>,
    /// Requests.
    pub count: u64,
    /// Those among them that were answered below 400.
    pub succeeded: u64,
}

/// Owned copies in few pieces: the header values of a request are slices of its connection's read buffer, which must not live on here.
#[derive(Debug)]
struct Record {
    method: http::Method,
    path: Box<str>,
    /// `name\0value\0` for each header.
    headers: Box<str>,
    body: Option<Box<str>>,
    platform: &'static str,
    operation: &'static str,
    status: Option<u16>,
    faulted: bool,
    at: i64,
}

#[derive(Debug, Default)]
struct Inner {
    records: VecDeque<Record>,
    counts: HashMap<(&'static str, &'static str), (u64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct RequestLog(Mutex<Inner>);

impl RequestLog {
    fn push(&self, record: Record, limit: usize) {
        let mut inner = lock(&self.0);
        let count = inner.counts.entry((record.platform, record.operation)).or_default();
        count.0 += 1;
        count.1 += u64::from(record.status.is_some_and(|status| status < 400));
        while inner.records.len() >= limit.max(1) {
            inner.records.pop_front();
        }
        if limit > 0 {
            inner.records.push_back(record);
        }
    }

    pub(crate) fn entries(&self, keep: impl Fn(&RequestEntry) -> bool) -> Vec<RequestEntry> {
        lock(&self.0).records.iter().map(Record::entry).filter(keep).collect()
    }

    pub(crate) fn counts(&self) -> Vec<RequestCount> {
        let mut counts: Vec<_> = lock(&self.0)
            .counts
            .iter()
            .map(|((platform, operation), (count, succeeded))| RequestCount {
                platform: Cow::Borrowed(platform),
                operation: Cow::Borrowed(operation),
                count: *count,
                succeeded: *succeeded,
            })
            .collect();
        counts.sort_by(|a, b| (&a.platform, &a.operation).cmp(&(&b.platform, &b.operation)));
        counts
    }

    pub(crate) fn clear(&self) {
        *lock(&self.0) = Inner::default();
    }
}

impl Record {
    fn entry(&self) -> RequestEntry {
        let mut pieces = self.headers.split('\0');
        let headers = std::iter::from_fn(|| Some((pieces.next()?.to_owned(), pieces.next()?.to_owned())));
        RequestEntry {
            method: self.method.to_string(),
            path: self.path.to_string(),
            platform: Cow::Borrowed(self.platform),
            operation: Cow::Borrowed(self.operation),
            status: self.status,
            faulted: self.faulted,
            at: timestamp(self.at),
            headers: headers.collect(),
            body: self.body.as_deref().map(str::to_owned),
        }
    }
}

fn redacted_headers(headers: &http::HeaderMap) -> String {
    let mut out = String::with_capacity(256);
    for (name, value) in headers {
        let shown = match name.as_str() {
            "authorization" | "proxy-authorization" | "cookie" => Cow::Borrowed("[redacted]"),
            _ => String::from_utf8_lossy(value.as_bytes()),
        };
        for piece in [name.as_str(), &*shown] {
            out.push_str(piece);
            out.push('\0');
        }
    }
    out
}

fn redacted_path(uri: &http::Uri) -> String {
    const SECRET: &[&str] = &["code", "token", "access_token", "refresh_token", "client_secret", "code_verifier"];
    let Some(query) = uri.query() else { return uri.path().to_owned() };
    let shown: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if SECRET.contains(&name) => format!("{name}=[redacted]"),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{}?{}", uri.path(), shown.join("&"))
}

/// Writes the log line when it is dropped, so that a client that leaves in the middle is recorded too.
pub(crate) struct LogLine {
    pub(crate) world: Arc<crate::world::World>,
    pub(crate) parts: Arc<http::request::Parts>,
    pub(crate) platform: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) status: Option<u16>,
    pub(crate) faulted: bool,
    pub(crate) at: i64,
    pub(crate) limit: usize,
    pub(crate) body: Option<Box<str>>,
    pub(crate) body_limit: usize,
}

impl LogLine {
    /// Remembers the beginning of a body that was read whole.
    pub(crate) fn remember(&mut self, body: &[u8]) {
        if self.body_limit > 0 && !self.operation.starts_with("oauth.") {
            let head = &body[..body.len().min(self.body_limit)];
            self.body = Some(String::from_utf8_lossy(head).into_owned().into_boxed_str());
        }
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let record = Record {
            method: self.parts.method.clone(),
            path: redacted_path(&self.parts.uri).into_boxed_str(),
            headers: redacted_headers(&self.parts.headers).into_boxed_str(),
            body: self.body.take(),
            platform: self.platform,
            operation: self.operation,
            status: self.status,
            faulted: self.faulted,
            at: self.at,
        };
        self.world.requests.push(record, self.limit);
    }
}
