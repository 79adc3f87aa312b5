//! What a caller may send and how much of it: sizes, depths, times, requests.

use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::{StreamExt as _, stream};
use http::{Request, header};
use serde_json::json;
use social_server::{Peer, serve::Running};
use social_testkit::fake::Turn;

use crate::world::{Answer, Tenant, World};

async fn to_schedule(world: &World, tenant: &Tenant, once: Option<&str>, body: Body) -> Answer {
    let mut request = Request::post("/post/schedule")
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(once) = once {
        request = request.header("idempotency-key", once);
    }
    world.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn bodies_end_at_a_mebibyte_and_64_levels() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let nested = |depth: usize| format!("{}{}", "{\"a\":".repeat(depth), "1".to_owned() + &"}".repeat(depth));
    for (body, status, code) in [
        (format!("{{\"content\":\"{}\"}}", "a".repeat(1024 * 1024 - 14)), 422, "invalid"),
        (format!("{{\"content\":\"{}\"}}", "a".repeat(1024 * 1024 - 13)), 413, "payload_too_large"),
        (nested(64), 422, "invalid"),
        (nested(65), 400, "invalid_json"),
        ("[".repeat(1024 * 1024), 400, "invalid_json"),
    ] {
        for once in [None, Some("once")] {
            to_schedule(&world, &tenant, once, Body::from(body.clone())).await.refused(status, code);
        }
    }
    // The end is found while the body arrives, whatever length it announced or not.
    let piece = Bytes::from(vec![b' '; 64 * 1024]);
    let pieces = stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone())).take(10_000);
    to_schedule(&world, &tenant, None, Body::from_stream(pieces)).await.refused(413, "payload_too_large");
}

#[tokio::test]
async fn heads_end_too() {
    let world = World::new();
    let long = |length: usize| Request::get(format!("/healthz?a={}", "a".repeat(length)));
    let many = |count: usize| {
        (0..count).fold(Request::get("/healthz"), |request, number| request.header(format!("x-{number}"), "a"))
    };
    let large = |length: usize| Request::get("/healthz").header("x-a", "a".repeat(length));
    for (request, status, code) in [
        (long(8 * 1024 - 11), 200, ""),
        (long(8 * 1024), 414, "uri_too_long"),
        (many(64), 200, ""),
        (many(65), 431, "headers_too_large"),
        (large(32 * 1024 - 3), 200, ""),
        (large(32 * 1024), 431, "headers_too_large"),
    ] {
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        if status == 200 {
            assert_eq!(answer.status, 200, "{answer:?}");
        } else {
            answer.refused(status, code);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_stop_or_drip_are_let_go() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let drip = || {
        stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        })
    };
    for once in [None, Some("once")] {
        for body in [Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()), Body::from_stream(drip())] {
            let started = tokio::time::Instant::now();
            let answer = to_schedule(&world, &tenant, once, body).await;
            assert_eq!(answer.header("connection"), Some("close"), "the rest is not waited for");
            answer.refused(408, "request_timeout");
            assert!(started.elapsed() <= Duration::from_secs(13), "{:?}", started.elapsed());
        }
    }
}

#[tokio::test]
async fn requests_are_counted_by_address_before_anybody_looks_at_a_key() {
    let world = World::with(|config| config.requests_per_second_ip = 1);
    let tenant = world.tenant("a@example.com").await;
    let from = async |ip: &str, key: &str| {
        let request = Request::get("/accounts")
            .extension(Peer(format!("{ip}:1").parse().unwrap()))
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        world.send(request.body(Body::empty()).unwrap()).await
    };
    for left in (0..10).rev() {
        let answer = from("192.0.2.1", &tenant.key).await;
        let said = answer.header("ratelimit").unwrap().to_owned();
        assert!(said.starts_with(&format!("\"address\";r={left};t=10, \"key\";r=")), "{said}");
        let policy = answer.header("ratelimit-policy").unwrap().to_owned();
        assert_eq!(policy, "\"address\";q=10;w=10, \"key\";q=2000;w=10");
        answer.expect(200);
    }
    // A good key does not help, and a bad one is not even looked at.
    for key in [tenant.key.as_str(), "guess", ""] {
        let refused = from("192.0.2.1", key).await;
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.header("ratelimit"), Some("\"address\";r=0;t=1"));
        assert_eq!(refused.header("ratelimit-policy"), Some("\"address\";q=10;w=10"));
        assert_eq!(refused.refused(429, "too_many_requests")["retry_after"], 1);
    }
    from("192.0.2.2", &tenant.key).await.expect(200);
    world.advance(1);
    from("192.0.2.1", &tenant.key).await.expect(200);
}

#[tokio::test]
async fn requests_are_counted_by_key_wherever_they_come_from() {
    let world = World::with(|config| config.requests_per_second_key = 1);
    let tenant = world.tenant("a@example.com").await;
    let further = world.key(&tenant, &[]).await;
    let from = async |number: usize, key: &str| {
        let request = Request::get("/accounts")
            .extension(Peer(format!("192.0.2.{number}:1").parse().unwrap()))
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        world.send(request.body(Body::empty()).unwrap()).await
    };
    for number in 0..10 {
        from(number, &tenant.key).await.expect(200);
    }
    let refused = from(11, &tenant.key).await;
    let said = refused.header("ratelimit").unwrap().to_owned();
    assert!(said.ends_with("\"key\";r=0;t=1"), "{said}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.refused(429, "too_many_requests");
    from(11, &further).await.expect(200);
}

#[tokio::test]
async fn probes_do_not_write_more_often_than_once_a_second() {
    let world = World::new();
    let before = world.probe.checks();
    for _ in 0..50 {
        world.get("/readyz", "").await.expect(200);
    }
    assert_eq!(world.probe.checks() - before, 1);
    world.advance(1);
    world.get("/readyz", "").await.expect(200);
    assert_eq!(world.probe.checks() - before, 2);
}

#[tokio::test]
async fn a_key_ends_itself_and_others_only_with_the_right_to() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let id = |key: &str| key.split('_').nth(2).unwrap().to_owned();
    let (poster, manager, other) = (
        world.key(&tenant, &["posts:write"]).await,
        world.key(&tenant, &["keys:write"]).await,
        world.key(&tenant, &["posts:read"]).await,
    );
    let delete = async |key: &str, id: String| world.call("DELETE", &format!("/keys/{id}"), key, None).await;
    delete(&poster, id(&other)).await.refused(403, "missing_scope");
    delete(&poster, id(&tenant.key)).await.refused(403, "missing_scope");
    world.get("/posts", &other).await.expect(200);
    delete(&manager, id(&other)).await.expect(204);
    world.get("/posts", &other).await.refused(401, "unauthorized");
    delete(&poster, id(&poster)).await.expect(204);
    world.post("/post/validate", &poster, json!({})).await.refused(401, "unauthorized");
    delete(&tenant.key, id(&manager)).await.expect(204);
}

#[tokio::test(start_paused = true)]
async fn an_end_comes_in_time_whatever_hangs() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    world.network.next("commit", Turn::Hang);
    world.post("/post/schedule", &tenant.key, json!({ "content": "a", "accounts": [accounts[0]] })).await.expect(201);
    let running = Running::begin(world.state.clone(), None, true, None);
    while world.network.calls("commit") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A worker in the middle of a visible call, and work whose caller has gone away: neither ends by itself.
    world.state.outlive(std::future::pending());
    let asked = tokio::time::Instant::now();
    running.finish().await;
    assert!(asked.elapsed() <= Duration::from_secs(25), "{:?}", asked.elapsed());
}
