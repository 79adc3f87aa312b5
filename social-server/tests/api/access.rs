//! Who may do what: keys, scopes, limits.

use axum::body::Body;
use http::{Request, header};
use serde_json::json;
use social_server::key::FreshKey;

use crate::world::{ADMIN, World};

#[tokio::test]
async fn users_and_keys_are_made_by_the_admin_alone() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let user = json!({ "email": "b@example.com" });
    for key in ["", "wrong", "sk_live_x_y", &tenant.key[..tenant.key.len() - 1], &ADMIN[1..]] {
        let refused = world.post("/users", key, user.clone()).await;
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"social\""));
        refused.refused(401, "unauthorized");
    }
    world.post("/users", &tenant.key, user.clone()).await.refused(403, "admin_key_needed");
    world.get("/users", &tenant.key).await.refused(403, "admin_key_needed");
    world
        .post("/keys", &tenant.key, json!({ "user_id": tenant.id, "name": "n" }))
        .await
        .refused(403, "admin_key_needed");
    world.get("/accounts", ADMIN).await.refused(403, "user_key_needed");
    let made = world.post("/users", ADMIN, json!({ "email": "b@example.com", "plan": "pro" })).await.expect(201);
    assert_eq!((made["email"].as_str(), made["plan"].as_str()), (Some("b@example.com"), Some("pro")));
    assert!(made["created_at"].as_str().unwrap().ends_with('Z'), "{made}");
    world.post("/users", ADMIN, user).await.refused(409, "email_taken");
    let listed = world.get("/users?limit=1", ADMIN).await.expect(200);
    let next = listed["next"].as_str().unwrap();
    let rest = world.get(&format!("/users?limit=1&after={next}"), ADMIN).await.expect(200);
    assert_eq!((rest["items"][0]["email"].as_str(), rest["next"].is_null()), (Some("b@example.com"), true));
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_only_as_a_hash() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    assert!(tenant.key.starts_with("sk_live_"));
    let secret = tenant.key.rsplit('_').next().unwrap();
    assert!(!world.store.dump().contains(secret), "the key is in the store");
    world.get("/accounts", &tenant.key).await.expect(200);
    let stranger = FreshKey::make().unwrap();
    world.get("/accounts", stranger.key.expose()).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn a_deleted_or_ended_key_works_no_more() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let other = world.tenant("b@example.com").await;
    let body = json!({ "user_id": tenant.id, "name": "short", "expires_at": "2026-11-22T08:01:00Z" });
    let short = world.post("/keys", ADMIN, body).await.expect(201);
    let short = short["key"].as_str().unwrap();
    world.get("/accounts", short).await.expect(200);
    world.advance(60);
    world.get("/accounts", short).await.refused(401, "unauthorized");
    let id = tenant.key.split('_').nth(2).unwrap();
    world.call("DELETE", &format!("/keys/{id}"), &other.key, None).await.refused(404, "not_found");
    world.get("/accounts", &tenant.key).await.expect(200);
    world.call("DELETE", &format!("/keys/{id}"), ADMIN, None).await.expect(204);
    world.get("/accounts", &tenant.key).await.refused(401, "unauthorized");
    world.call("DELETE", &format!("/keys/{id}"), ADMIN, None).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_key_with_scopes_does_only_what_they_say() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let body = json!({ "user_id": tenant.id, "name": "reader", "scopes": ["posts:read", "media:read"] });
    let reader = world.post("/keys", ADMIN, body).await.expect(201);
    let reader = reader["key"].as_str().unwrap();
    world.get("/posts", reader).await.expect(200);
    world.get("/logs", reader).await.expect(200);
    world.get("/accounts", reader).await.refused(403, "missing_scope");
    world.post("/auth/links", reader, json!({ "platform": "x" })).await.refused(403, "missing_scope");
    world.post("/post/schedule", reader, json!({ "content": "a", "accounts": [] })).await.refused(403, "missing_scope");
    world.call("POST", "/media", reader, None).await.refused(403, "missing_scope");
    let wrong = json!({ "user_id": tenant.id, "name": "", "scopes": ["posts:all"] });
    let problem = world.post("/keys", ADMIN, wrong).await.refused(422, "invalid");
    let fields: Vec<_> =
        problem["violations"].as_array().unwrap().iter().map(|v| v["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["name", "scopes[0]"]);
    let nobody = json!({ "user_id": "0198f3a0-0000-7000-8000-000000000000", "name": "n" });
    world.post("/keys", ADMIN, nobody).await.refused(404, "not_found");
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let request = Request::builder()
        .uri("/accounts")
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .header(header::AUTHORIZATION, "Bearer other")
        .body(Body::empty())
        .unwrap();
    world.send(request).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn too_many_requests_are_turned_away_with_the_time_to_wait() {
    let world = World::with(|config| config.requests_per_second_key = 1);
    let tenant = world.tenant("a@example.com").await;
    let other = world.tenant("b@example.com").await;
    for _ in 0..10 {
        let answer = world.get("/accounts", &tenant.key).await;
        assert!(answer.header("ratelimit").is_some());
        answer.expect(200);
    }
    let refused = world.get("/accounts", &tenant.key).await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    let body = refused.refused(429, "too_many_requests");
    assert_eq!(body["retry_after"], 1);
    world.get("/accounts", &other.key).await.expect(200);
    world.advance(1);
    world.get("/accounts", &tenant.key).await.expect(200);
}

#[tokio::test]
async fn guessing_keys_is_slow() {
    let world = World::with(|config| config.requests_per_second_ip = 20);
    let mut refused = 0;
    for _ in 0..30 {
        if world.get("/accounts", "guess").await.status == 429 {
            refused += 1;
        }
    }
    assert!(refused >= 15, "{refused} of 30 guesses were turned away");
}
