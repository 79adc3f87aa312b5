//! Idempotency keys at their edges: requests that are cut off, keys with fewer rights, answers that were forgotten.

use std::time::Duration;

use serde_json::{Value, json};
use social_server::State;
use social_testkit::fake::Turn;

use crate::world::World;

/// Lets work go on whose caller has gone away.
async fn settle(state: &State) {
    state.finish_tasks().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ran_out_of_time_leaves_its_key_free() {
    let world = World::new();
    let path = published(&world).await;
    world.network.next("delete", Turn::Hang);
    let send = || world.keyed("DELETE", &path.1, &path.0, None, Some("once"));
    let started = tokio::time::Instant::now();
    send().await.refused(504, "timeout");
    assert_eq!(started.elapsed().as_secs(), Duration::from_secs(90).as_secs());
    settle(&world.state).await;
    let again = send().await;
    assert_eq!(again.header("idempotency-replayed"), None);
    again.expect(200);
}

/// A key, and the address at which its published post is deleted on the network.
async fn published(world: &World) -> (String, String) {
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({ "content": "a", "accounts": [accounts[0]] });
    let post = world.post("/post/schedule", &tenant.key, body).await.expect(201);
    world.work().await;
    (tenant.key, format!("/deliveries/{}/remote", post["deliveries"][0]["id"].as_str().unwrap()))
}

#[tokio::test]
async fn a_request_that_met_a_fault_of_ours_leaves_its_key_free() {
    let world = World::new();
    let (key, path) = published(&world).await;
    world.network.next("delete", Turn::Panic);
    let send = || world.keyed("DELETE", &path, &key, None, Some("once"));
    send().await.refused(500, "internal");
    settle(&world.state).await;
    send().await.expect(200);
    assert_eq!(send().await.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn an_answer_is_repeated_only_to_keys_that_could_have_asked() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let spare = world.key(&tenant, &[]).await;
    let scheduled = json!({ "content": "a", "accounts": [accounts[0]], "scheduled_time": "2026-11-23T10:00:00Z" });
    let post = world.post("/post/schedule", &tenant.key, scheduled.clone()).await.expect(201);
    let published =
        world.post("/post/schedule", &tenant.key, json!({ "content": "b", "accounts": [accounts[0]] })).await;
    let published = published.expect(201)["deliveries"][0]["id"].as_str().unwrap().to_owned();
    world.work().await;
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    let connection = id(&world.get("/connections", &tenant.key).await.expect(200)["items"][0]["id"]);
    let reader = world.key(&tenant, &["media:read"]).await;
    // Every write of the document, in an order in which all of them succeed.
    let calls: Vec<(&str, &str, String, Option<Value>)> = vec![
        ("POST", "/post/schedule", "/post/schedule".into(), Some(scheduled.clone())),
        ("POST", "/post/validate", "/post/validate".into(), Some(scheduled)),
        ("PATCH", "/posts/{id}", format!("/posts/{}", id(&post["id"])), Some(json!({ "content": "c" }))),
        ("DELETE", "/posts/{id}", format!("/posts/{}", id(&post["id"])), None),
        ("POST", "/posts/{id}/retry", format!("/posts/{}/retry", id(&post["id"])), None),
        ("DELETE", "/deliveries/{id}/remote", format!("/deliveries/{published}/remote"), None),
        ("POST", "/auth/links", "/auth/links".into(), Some(json!({ "platform": "x" }))),
        ("POST", "/accounts/{id}/refresh", format!("/accounts/{}/refresh", accounts[0]), None),
        ("DELETE", "/accounts/{id}", format!("/accounts/{}", accounts[0]), None),
        ("DELETE", "/connections/{id}", format!("/connections/{connection}"), None),
        ("DELETE", "/keys/{id}", format!("/keys/{}", spare.split('_').nth(2).unwrap()), None),
    ];
    for (number, (method, _, path, body)) in calls.iter().enumerate() {
        let once = format!("call-{number}");
        let send =
            |key: String| world.keyed(method, path, Box::leak(key.into_boxed_str()), body.clone(), Some(once.as_str()));
        let first = send(tenant.key.clone()).await;
        assert!(first.status.is_success(), "{method} {path}: {first:?}");
        send(reader.clone()).await.refused(403, "missing_scope");
        let again = send(tenant.key.clone()).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{method} {path}");
        assert_eq!((again.status, &again.bytes), (first.status, &first.bytes));
        assert_eq!(again.header("location"), first.header("location"), "{method} {path}");
    }
    // None was forgotten. What is left belongs to the admin, looks at scopes itself, or needs a delivery in doubt.
    let document: Value = serde_json::from_str(&social_server::openapi::json()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|method| *method != "get") {
            let here = calls.iter().any(|(known, route, ..)| known.eq_ignore_ascii_case(method) && route == path);
            let elsewhere = ["/users", "/keys", "/media", "/deliveries/{id}/resolve"].contains(&path.as_str());
            assert!(here || elsewhere, "{method} {path} is new: add it");
        }
    }
}

#[tokio::test]
async fn repeated_answers_say_where_the_thing_is() {
    let world = World::new();
    let user = json!({ "email": "b@example.com" });
    for (path, body) in [("/users", user)] {
        let send = || world.keyed("POST", path, crate::world::ADMIN, Some(body.clone()), Some("once"));
        let (first, again) = (send().await, send().await);
        assert!(first.header("location").unwrap().starts_with("/users/"));
        assert_eq!(again.header("location"), first.header("location"));
    }
}

#[tokio::test]
async fn a_post_remembers_its_key_for_longer_than_the_answer_is_kept() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body =
        |text: &str| json!({ "content": text, "accounts": [accounts[0]], "scheduled_time": "2026-12-22T10:00:00Z" });
    let send = |text: &str| world.keyed("POST", "/post/schedule", &tenant.key, Some(body(text)), Some("order-17"));
    let first = send("a").await.expect(201);
    world.advance(50 * 3600);
    let store: &dyn social_core::Store = &world.store;
    let now = social_core::Clock::now(&world.clock);
    assert_eq!(store.purge_idempotent(now).await.unwrap(), 1, "as the housekeeping does after two days");
    assert_eq!(send("a").await.expect(201)["id"], first["id"], "the same request");
    assert_eq!(store.purge_idempotent(jiff::Timestamp::MAX).await.unwrap(), 1);
    send("b").await.refused(422, "idempotency_mismatch");
    assert_eq!(world.get("/posts", &tenant.key).await.expect(200)["items"].as_array().unwrap().len(), 1);
}
