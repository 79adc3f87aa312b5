//! Nobody reaches another user's things: every route with an id, taken from the OpenAPI document, with the ids of somebody else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn foreign_ids_are_not_there_on_any_route() {
    let world = World::new();
    let (owner, accounts) = world.connected("owner@example.com").await;
    let (stranger, own) = world.connected("stranger@example.com").await;
    let body = json!({ "content": "secret plan", "accounts": [accounts[0]], "scheduled_time": "2026-11-23T10:00:00Z" });
    let post = world.post("/post/schedule", &owner.key, body).await.expect(201);
    let connections = world.get("/connections", &owner.key).await.expect(200);
    let png = social_core::media::sample::png(4, 4);
    let upload = http::Request::post("/media").header("authorization", format!("Bearer {}", owner.key));
    let media = world.send(upload.body(axum::body::Body::from(png)).unwrap()).await.expect(201);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let theirs: BTreeMap<&str, String> = BTreeMap::from([
        ("accounts", accounts[0].clone()),
        ("connections", text(&connections["items"][0]["id"])),
        ("posts", text(&post["id"])),
        ("deliveries", text(&post["deliveries"][0]["id"])),
        ("media", text(&media["id"])),
        ("keys", owner.key.split('_').nth(2).unwrap().to_owned()),
    ]);
    let before = world.store.dump();
    let document: Value = serde_json::from_str(&social_server::openapi::json()).unwrap();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.contains("{id}") && !path.contains("{delivery_id}") {
            continue;
        }
        let subject = match path.as_str() {
            "/analytics/posts/{delivery_id}" => "deliveries",
            "/analytics/accounts/{id}" => "accounts",
            other => other.trim_start_matches('/').split('/').next().unwrap(),
        };
        let id = theirs.get(subject).unwrap_or_else(|| panic!("no id for {path}: the route is new, add one"));
        let path = path.replace("{id}", id).replace("{delivery_id}", id);
        for method in item.as_object().unwrap().keys() {
            let body = match method.as_str() {
                "patch" => Some(json!({ "content": "taken over" })),
                "post" if path.ends_with("/resolve") => Some(json!({ "outcome": "published" })),
                _ => None,
            };
            let answer = world.call(&method.to_uppercase(), &path, &stranger.key, body).await;
            let text = String::from_utf8_lossy(&answer.bytes).into_owned();
            assert!(!text.contains("secret plan") && !text.contains("owner@"), "{method} {path}: {text}");
            answer.refused(404, "not_found");
            tried += 1;
        }
    }
    assert!(tried >= 15, "{tried} routes");
    // Ids in queries and bodies.
    let (account, post_id, media_id) = (&theirs["accounts"], &theirs["posts"], &theirs["media"]);
    for path in [
        format!("/posts?account_id={account}"),
        format!("/logs?post_id={post_id}"),
        format!("/logs?delivery_id={}", theirs["deliveries"]),
    ] {
        world.get(&path, &stranger.key).await.refused(404, "not_found");
    }
    for body in [
        json!({ "content": "a", "accounts": [account] }),
        json!({ "content": "a", "accounts": [own[0], account] }),
        json!({ "content": "a", "accounts": [own[0]], "media": [{ "id": media_id }] }),
        json!({ "content": "a", "accounts": [own[0]], "link": { "url": "https://a.example", "thumbnail": media_id } }),
    ] {
        world.post("/post/schedule", &stranger.key, body.clone()).await.refused(404, "not_found");
        world.post("/post/validate", &stranger.key, body).await.refused(404, "not_found");
    }
    assert_eq!(before, world.store.dump(), "something of the owner changed");
    // Lists show nothing of theirs.
    for path in ["/posts", "/logs", "/accounts", "/connections"] {
        let text = String::from_utf8(world.get(path, &stranger.key).await.bytes).unwrap();
        for id in theirs.values() {
            assert!(!text.contains(id.as_str()), "{path} shows {id}");
        }
    }
}

/// Routes and methods as the router has them.
fn routed() -> BTreeSet<(String, String)> {
    let code = include_str!("../../src/routes/mod.rs");
    let mut found = BTreeSet::new();
    for line in code.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
        let (path, handlers) = line.split_once("\",").unwrap();
        for method in ["get", "post", "patch", "delete", "put", "any"] {
            let there = handlers.match_indices(&format!("{method}(")).any(|(at, _)| !handlers[..at].ends_with("::"));
            if there {
                found.insert((path.to_owned(), method.to_owned()));
            }
        }
    }
    found
}

/// The tests below walk through the document. What is routed and not described would escape them.
#[test]
fn everything_that_is_routed_is_described() {
    let document: Value = serde_json::from_str(&social_server::openapi::json()).unwrap();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        described.extend(item.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())));
    }
    // The description itself, which holds nothing of anybody's.
    let itself = ["/", "/docs", "/docs/{asset}", "/openapi.json"].map(|path| (path.to_owned(), "get".to_owned()));
    let routed: BTreeSet<_> = routed().into_iter().filter(|route| !itself.contains(route)).collect();
    assert!(routed.len() > 30, "{routed:?}");
    assert_eq!(routed, described, "the router on the left, the document on the right");
}

#[tokio::test]
async fn every_route_of_the_document_wants_a_key_unless_it_says_otherwise() {
    let world = World::new();
    let document: Value = serde_json::from_str(&social_server::openapi::json()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let open = operation.get("security").is_none() || path == "/metrics";
            let concrete = path.replace("{id}", "0198f3a0-0000-7000-8000-000000000000");
            let concrete = concrete.replace("{delivery_id}", "0198f3a0-0000-7000-8000-000000000000");
            let body = matches!(method.as_str(), "post" | "patch").then(|| json!({}));
            let answer = world.call(&method.to_uppercase(), &concrete, "", body).await;
            assert_eq!(answer.status == 401, !open, "{method} {path} answered {}", answer.status);
        }
    }
}

#[tokio::test]
async fn what_is_no_id_is_not_there() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    for path in ["/posts/1", "/posts/..%2fusers", "/posts/%00", "/media/x", "/deliveries/-1", "/accounts/null"] {
        world.get(path, &tenant.key).await.refused(404, "not_found");
    }
}
