//! What must not be in a log: keys, links, tokens, texts, e-mail addresses. Alone in its program: what other tests do to the log of a
//! process would disturb it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests end the test when something cannot be made, and this one needs few of them"
)]

#[path = "api/world.rs"]
mod world;

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::world::{ADMIN, World, path_of, query};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn nothing_secret_or_private_is_logged_at_any_level() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("trace,hyper=info,tower=info")
        .json()
        .with_writer(captured.clone())
        .finish();
    // One thread runs the whole test, so that nothing of it goes elsewhere.
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new();
    let tenant = world.tenant("private.person@example.com").await;
    let link = world.link(&tenant, json!({ "platform": "x", "return_to": "/done" })).await;
    let sent = world.browse(&link, "").await;
    let state = query(&sent.location(), "state");
    let back = format!("/auth/callback/x?code=marker-code-1&state={state}");
    assert_eq!(world.browse(&back, &sent.cookies()).await.status, 303);
    world.browse(&back, &sent.cookies()).await.refused(400, "expired");
    let accounts = world.get("/accounts", &tenant.key).await.expect(200);
    let account = accounts["items"][0]["id"].clone();
    let body = json!({ "content": "a very private text", "accounts": [account] });
    world.keyed("POST", "/post/schedule", &tenant.key, Some(body), Some("private-order-number")).await.expect(201);
    world.work().await;
    let png = social_core::media::sample::png(4, 4);
    let upload = http::Request::post("/media").header("authorization", format!("Bearer {}", tenant.key));
    let media = world.send(upload.body(axum::body::Body::from(png)).unwrap()).await.expect(201);
    let preview = path_of(media["url"].as_str().unwrap());
    assert_eq!(world.get(&preview, "").await.status, 200);
    world.get("/accounts", "sk_live_wrong").await.refused(401, "unauthorized");
    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    for line in
        ["was answered with 201", "is scheduled", "a file was taken in", "/auth/callback/{platform}", "/m/{token}"]
    {
        assert!(log.contains(line), "the log is silent about {line:?}");
    }
    let cookies = sent.cookies();
    let secrets = [
        ("the address of a person", "private.person"),
        ("a text", "a very private text"),
        ("the admin key", ADMIN),
        ("a key", tenant.key.rsplit('_').next().unwrap()),
        ("a link", link.rsplit('=').next().unwrap()),
        ("a state", &state),
        ("a code", "marker-code-1"),
        ("a cookie", cookies.split('=').nth(1).unwrap()),
        ("a token", "fake-access"),
        ("a token", "fake-refresh"),
        ("a signed address", preview.rsplit('/').next().unwrap()),
        ("a master key", world.keys.split(':').nth(1).unwrap()),
    ];
    for (what, secret) in secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what} is in the log: {line:?}");
    }
}
