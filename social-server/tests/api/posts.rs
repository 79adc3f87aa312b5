//! Scheduling and what comes after it.

use serde_json::{Value, json};
use social_core::{Error, ErrorKind, Reconciled};
use social_testkit::fake::Turn;

use crate::world::{Tenant, World};

async fn schedule(world: &World, tenant: &Tenant, body: Value) -> Value {
    world.post("/post/schedule", &tenant.key, body).await.expect(201)
}

async fn post(world: &World, tenant: &Tenant, id: &Value) -> Value {
    world.get(&format!("/posts/{}", id.as_str().unwrap()), &tenant.key).await.expect(200)
}

fn violations(problem: &Value) -> Vec<(&str, &str)> {
    let all = problem["violations"].as_array().unwrap();
    all.iter().map(|one| (one["code"].as_str().unwrap(), one["field"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_post_is_scheduled_published_and_told_about() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({ "content": "Hello", "accounts": accounts, "scheduled_time": "2026-11-22T10:00:00+01:00" });
    let answer = world.post("/post/schedule", &tenant.key, body).await;
    let place = answer.header("location").unwrap().to_owned();
    let made = answer.expect(201);
    assert_eq!(place, format!("/posts/{}", made["id"].as_str().unwrap()));
    assert_eq!(
        (made["status"].as_str(), made["scheduled_time"].as_str()),
        (Some("pending"), Some("2026-11-22T09:00:00Z"))
    );
    assert_eq!(made["deliveries"].as_array().unwrap().len(), 2);
    for delivery in made["deliveries"].as_array().unwrap() {
        assert_eq!((delivery["platform"].as_str(), delivery["phase"].as_str()), (Some("x"), Some("scheduled")));
        assert!(delivery["id"].is_string() && delivery["account_id"].is_string());
    }
    world.work().await;
    assert_eq!(post(&world, &tenant, &made["id"]).await["status"], "pending", "never early");
    world.advance(3600);
    world.work().await;
    let out = post(&world, &tenant, &made["id"]).await;
    assert_eq!((out["status"].as_str(), out["content"].as_str()), (Some("published"), Some("Hello")));
    let delivery = &out["deliveries"][0];
    assert_eq!(delivery["phase"], "published");
    assert!(delivery["remote_id"].as_str().unwrap().starts_with("fake-"));
    assert!(delivery["permalink"].as_str().unwrap().starts_with("https://fake.example/"));
    assert!(delivery["published_at"].as_str().unwrap().ends_with('Z'));
    assert!(delivery["error"].is_null() && delivery["attempt"].is_u64() && delivery["due_at"].is_string());
    let actions = delivery["actions"].as_array().unwrap();
    let of = |name: &str| actions.iter().find(|action| action["name"] == name).unwrap();
    assert_eq!(
        (of("cancel")["allowed"].as_bool(), of("delete_remote")["allowed"].as_bool()),
        (Some(false), Some(true))
    );
    assert!(of("cancel")["reason"].is_string() && of("delete_remote")["reason"].is_null());
    let logs = world.get(&format!("/logs?post_id={}", out["id"].as_str().unwrap()), &tenant.key).await.expect(200);
    let events: Vec<_> = logs["items"].as_array().unwrap().iter().map(|row| row["event"].as_str().unwrap()).collect();
    assert!(
        events.contains(&"published") && events.contains(&"committing") && events.contains(&"scheduled"),
        "{events:?}"
    );
    for field in ["id", "post_id", "delivery_id", "platform", "event", "success", "attempt", "response", "created_at"] {
        assert!(logs["items"][0].get(field).is_some(), "{field}");
    }
    let gone = format!("/deliveries/{}/remote", delivery["id"].as_str().unwrap());
    assert_eq!(world.call("DELETE", &gone, &tenant.key, None).await.expect(200)["deleted"], true);
}

#[tokio::test]
async fn without_a_time_a_post_goes_out_at_once_to_all_accounts_of_the_networks() {
    let world = World::new();
    let (tenant, _) = world.connected("a@example.com").await;
    world.connect(&tenant, "linkedin").await;
    let made = schedule(&world, &tenant, json!({ "content": "Hello", "platforms": ["x", "linkedin"] })).await;
    assert_eq!(made["scheduled_time"], "2026-11-22T08:00:00Z");
    assert_eq!(made["deliveries"].as_array().unwrap().len(), 3);
    world.work().await;
    assert_eq!(post(&world, &tenant, &made["id"]).await["status"], "published");
    let none = json!({ "content": "a", "platforms": ["x", "chirp"] });
    let problem = world.post("/post/schedule", &tenant.key, none).await.refused(422, "invalid");
    assert_eq!(violations(&problem), [("platform_unknown", "platforms[1]")]);
}

#[tokio::test]
async fn a_wall_clock_time_keeps_its_zone() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body =
        json!({ "content": "a", "accounts": accounts, "local_time": "2027-03-28T02:30", "time_zone": "Europe/Berlin" });
    let made = schedule(&world, &tenant, body).await;
    assert_eq!(made["scheduled_time"], "2027-03-28T01:30:00Z", "a skipped time moves forward");
    assert_eq!(
        (made["local_time"].as_str(), made["time_zone"].as_str()),
        (Some("2027-03-28T02:30"), Some("Europe/Berlin"))
    );
}

#[tokio::test]
async fn what_a_network_would_refuse_is_refused_at_once_and_one_by_one() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let to = |more: Value| {
        let mut body = json!({ "content": "a", "accounts": [accounts[0]] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, expected) in [
        (to(json!({ "content": "x".repeat(101) })), ("text_too_long", "content")),
        (to(json!({ "content": "" })), ("text_missing", "content")),
        (to(json!({ "thread": ["b", ""] })), ("text_missing", "thread[1]")),
        (to(json!({ "first_comment": "c" })), ("first_comment_unsupported", "first_comment")),
        (to(json!({ "link": "ftp://a" })), ("link_invalid", "link.url")),
        (to(json!({ "link": { "url": "nothing" } })), ("link_invalid", "link.url")),
        (to(json!({ "scheduled_time": "2026-11-22T09:00:00" })), ("time_naive", "scheduled_time")),
        (to(json!({ "scheduled_time": "2026-11-22T05:00:00Z" })), ("time_past", "scheduled_time")),
        (to(json!({ "scheduled_time": "2036-11-22T05:00:00Z" })), ("time_too_far", "scheduled_time")),
        (to(json!({ "local_time": "2026-11-23T09:00" })), ("time_zone_missing", "time_zone")),
        (to(json!({ "accounts": [] })), ("accounts_count", "accounts")),
        (to(json!({ "platforms": ["x"] })), ("target_twice", "platforms")),
        (json!({ "content": "a" }), ("target_missing", "accounts")),
        (to(json!({ "media": [{}] })), ("media_source", "media[0]")),
        (to(json!({ "media_url": "http://127.0.0.1/a.png" })), ("media_url", "media[0].url")),
        (to(json!({ "media_url": "https://169.254.169.254/latest" })), ("media_url", "media[0].url")),
        (to(json!({ "media": [{ "url": "file:///etc/passwd" }] })), ("media_url", "media[0].url")),
        (to(json!({ "options": { "chirp": {} } })), ("platform_unknown", "options.chirp")),
        (to(json!({ "contents": "b" })), ("unknown_field", "contents")),
        (to(json!({ "thread": "b" })), ("wrong_type", "thread")),
        (to(json!({ "link": { "url": "https://a.example", "titel": "b" } })), ("unknown_field", "link.titel")),
    ] {
        let problem = world.post("/post/schedule", &tenant.key, body.clone()).await.refused(422, "invalid");
        assert!(violations(&problem).contains(&expected), "{body}: {problem}");
        assert!(problem["violations"][0]["message"].is_string() && problem["violations"][0]["advice"].is_string());
    }
    let other = json!({ "overrides": { "0198f3a0-0000-7000-8000-000000000000": { "content": "b" } } });
    let problem = world.post("/post/schedule", &tenant.key, to(other)).await.refused(422, "invalid");
    assert_eq!(violations(&problem)[0].0, "account_not_chosen");
    let both = json!({ "content": "x".repeat(101), "accounts": accounts });
    let problem = world.post("/post/schedule", &tenant.key, both).await.refused(422, "invalid");
    let named: Vec<_> = problem["violations"].as_array().unwrap().iter().map(|one| one["account_id"].clone()).collect();
    assert_eq!(named, accounts.iter().map(|id| json!(id)).collect::<Vec<_>>(), "one for each account");
    assert_eq!(
        (problem["violations"][0]["limit"].as_u64(), problem["violations"][0]["actual"].as_u64()),
        (Some(100), Some(101))
    );
    assert_eq!(world.get("/posts", &tenant.key).await.expect(200)["items"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn each_account_can_say_something_else() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({
        "content": "for both", "accounts": accounts, "thread": ["second part"],
        "overrides": { accounts[1].as_str(): { "content": "for one", "thread": [] } },
        "options": { "x": { "anything": true } }, "link": { "url": "https://a.example/", "title": "A" },
    });
    let made = schedule(&world, &tenant, body).await;
    assert_eq!(made["overrides"][accounts[1].as_str()]["content"], "for one");
    assert_eq!((made["link"]["title"].as_str(), made["options"]["x"]["anything"].as_bool()), (Some("A"), Some(true)));
    world.work().await;
    let mut texts: Vec<_> = world.network.posts().into_iter().map(|post| (post.account, post.text)).collect();
    texts.sort();
    let expected = [("x-0", "for both"), ("x-0", "second part"), ("x-1", "for one")];
    assert_eq!(texts, expected.map(|(account, text)| (account.to_owned(), text.to_owned())));
    let out = post(&world, &tenant, &made["id"]).await;
    let threaded = out["deliveries"].as_array().unwrap().iter().find(|d| d["account_id"] == accounts[0]).unwrap();
    assert_eq!(threaded["parts"].as_array().unwrap().len(), 2);
    assert_eq!(threaded["permalink"], threaded["parts"][0]["permalink"], "a thread is found at its beginning");
}

#[tokio::test]
async fn a_check_stores_nothing_and_counts_text() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({ "content": "äöü🎉", "accounts": accounts, "scheduled_time": "2026-11-23T09:00:00Z" });
    let found = world.post("/post/validate", &tenant.key, body).await.expect(200);
    assert_eq!((found["ok"].as_bool(), found["violations"].clone()), (Some(true), json!([])));
    assert_eq!(found["accounts"][0]["text"], json!({ "used": 4, "limit": 100, "unit": "scalars" }));
    let body = json!({ "content": "x".repeat(101), "accounts": accounts });
    let found = world.post("/post/validate", &tenant.key, body).await.expect(200);
    assert_eq!(found["ok"], false);
    assert_eq!(
        (found["violations"][0]["severity"].as_str(), found["violations"][0]["account_id"].as_str()),
        (Some("error"), Some(accounts[0].as_str()))
    );
    let unseen = json!({ "content": "", "accounts": accounts, "media_url": "https://a.example/a.png" });
    let found = world.post("/post/validate", &tenant.key, unseen).await.expect(200);
    assert_eq!((found["ok"].as_bool(), violations(&found)), (Some(true), vec![("media_not_seen", "media")]));
    assert_eq!(world.get("/posts", &tenant.key).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_post_is_changed_moved_canceled_and_tried_again() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({ "content": "first", "accounts": accounts, "first_comment": null, "scheduled_time": "2026-11-22T10:00:00Z" });
    let made = schedule(&world, &tenant, body).await;
    let path = format!("/posts/{}", made["id"].as_str().unwrap());
    let patch = async |body: Value| world.call("PATCH", &path, &tenant.key, Some(body)).await;
    let edited = patch(json!({ "content": "second", "thread": ["more"] })).await.expect(200);
    assert_eq!((edited["content"].as_str(), edited["thread"][0].as_str()), (Some("second"), Some("more")));
    assert_eq!(edited["scheduled_time"], "2026-11-22T10:00:00Z", "what is absent stays");
    let moved = patch(json!({ "local_time": "2026-11-22T12:00", "time_zone": "Europe/Berlin", "thread": null }))
        .await
        .expect(200);
    assert_eq!((moved["scheduled_time"].as_str(), moved["thread"].clone()), (Some("2026-11-22T11:00:00Z"), json!([])));
    assert_eq!(moved["time_zone"], "Europe/Berlin");
    patch(json!({ "scheduled_time": "2026-11-22T12:00" })).await.refused(422, "invalid");
    patch(json!({ "content": "x".repeat(101) })).await.refused(422, "invalid");
    patch(json!({ "accounts": [] })).await.refused(422, "invalid");
    let canceled = world.call("DELETE", &path, &tenant.key, None).await.expect(200);
    assert_eq!(canceled["status"], "canceled");
    assert_eq!(world.call("DELETE", &path, &tenant.key, None).await.expect(200)["status"], "canceled", "repeatable");
    patch(json!({ "content": "third" })).await.refused(409, "conflict");
    world.advance(4 * 3600);
    world.work().await;
    assert!(world.network.posts().is_empty(), "a canceled post does not go out");
    let again = world.call("POST", &format!("{path}/retry"), &tenant.key, None).await.expect(200);
    assert_eq!(again["status"], "pending");
    world.work().await;
    assert_eq!(post(&world, &tenant, &made["id"]).await["status"], "published");
    patch(json!({ "content": "third" })).await.refused(409, "conflict");
    world.call("DELETE", &path, &tenant.key, None).await.refused(409, "conflict");
    world.call("POST", &format!("{path}/retry"), &tenant.key, None).await.refused(409, "conflict");
    assert_eq!(world.network.posts().len(), 2);
}

#[tokio::test]
async fn a_failure_says_who_must_do_what() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let refusal = Error::new(ErrorKind::Rejected, "publish.commit")
        .advice("Take the word out.")
        .provider(social_core::ProviderError { status: Some(403), code: Some("187".into()), ..Default::default() })
        .effect_none();
    world.network.next("commit", Turn::Fail(refusal));
    let made = schedule(&world, &tenant, json!({ "content": "a", "accounts": [accounts[0]] })).await;
    world.work().await;
    let out = post(&world, &tenant, &made["id"]).await;
    let delivery = &out["deliveries"][0];
    assert_eq!((out["status"].as_str(), delivery["phase"].as_str()), (Some("failed"), Some("failed")));
    let error = &delivery["error"];
    assert_eq!((error["kind"].as_str(), error["advice"].as_str()), (Some("rejected"), Some("Take the word out.")));
    assert_eq!((error["provider"]["status"].as_u64(), error["provider"]["code"].as_str()), (Some(403), Some("187")));
    assert_eq!((error["actor"].as_str(), error["retry_after"].is_null()), (Some("user"), true));
}

#[tokio::test]
async fn a_person_decides_about_a_delivery_in_doubt() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let doubtful = async |text: &str| {
        world.network.next("commit", Turn::FailAfter(Error::new(ErrorKind::Timeout, "publish.commit")));
        world.network.next("reconcile", Turn::Say(Reconciled::CannotTell));
        let made = schedule(&world, &tenant, json!({ "content": text, "accounts": [accounts[0]] })).await;
        for _ in 0..20 {
            world.work().await;
            world.advance(60);
        }
        let out = post(&world, &tenant, &made["id"]).await;
        assert_eq!(
            (out["status"].as_str(), out["deliveries"][0]["phase"].as_str()),
            (Some("unconfirmed"), Some("unconfirmed"))
        );
        (made["id"].clone(), format!("/deliveries/{}/resolve", out["deliveries"][0]["id"].as_str().unwrap()))
    };
    let (id, resolve) = doubtful("one").await;
    for bad in [
        json!({ "outcome": "perhaps" }),
        json!({ "outcome": "not_published" }),
        json!({ "outcome": "published", "then": "resend" }),
        json!({ "outcome": "published", "permalink": "javascript:alert(1)" }),
        json!({ "outcome": "not_published", "then": "fail", "permalink": "https://a.example" }),
    ] {
        world.post(&resolve, &tenant.key, bad).await.refused(422, "invalid");
    }
    let seen = json!({ "outcome": "published", "permalink": "https://fake.example/seen" });
    let delivery = world.post(&resolve, &tenant.key, seen.clone()).await.expect(200);
    assert_eq!(
        (delivery["phase"].as_str(), delivery["permalink"].as_str()),
        (Some("published"), Some("https://fake.example/seen"))
    );
    assert_eq!(post(&world, &tenant, &id).await["status"], "published");
    world.post(&resolve, &tenant.key, seen).await.refused(409, "conflict");
    let (_, resolve) = doubtful("two").await;
    let failed =
        world.post(&resolve, &tenant.key, json!({ "outcome": "not_published", "then": "fail" })).await.expect(200);
    assert_eq!(failed["phase"], "failed");
    let (id, resolve) = doubtful("three").await;
    let before = world.network.posts().len();
    world.post(&resolve, &tenant.key, json!({ "outcome": "not_published", "then": "resend" })).await.expect(200);
    world.work().await;
    assert_eq!(post(&world, &tenant, &id).await["status"], "published");
    assert_eq!(world.network.posts().len(), before + 1, "a person asked for it");
}

#[tokio::test]
async fn the_same_key_makes_one_post_however_often_it_is_sent() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let (other, others) = world.connected("b@example.com").await;
    let body = json!({ "content": "a", "accounts": accounts });
    let send = async |body: &Value, key: &str| {
        world.keyed("POST", "/post/schedule", &tenant.key, Some(body.clone()), Some(key)).await
    };
    let first = send(&body, "order-17").await;
    assert_eq!(first.header("idempotency-replayed"), None);
    let first = first.expect(201);
    let again = send(&body, "order-17").await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.expect(201), first);
    send(&json!({ "content": "b", "accounts": accounts }), "order-17").await.refused(422, "idempotency_mismatch");
    send(&body, "").await.refused(400, "idempotency_key_invalid");
    send(&body, &"k".repeat(256)).await.refused(400, "idempotency_key_invalid");
    // A refusal is not kept: a corrected request may use the key.
    send(&json!({ "content": "x".repeat(101), "accounts": accounts }), "order-18").await.refused(422, "invalid");
    send(&body, "order-18").await.expect(201);
    // Another user's key is another key.
    let theirs = json!({ "content": "a", "accounts": others });
    let theirs = world.keyed("POST", "/post/schedule", &other.key, Some(theirs), Some("order-17")).await.expect(201);
    assert_ne!(theirs["id"], first["id"]);
    let listed = world.get("/posts", &tenant.key).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    // Other writes too, and the answers are sealed.
    let link = async || {
        world
            .keyed("POST", "/auth/links", &tenant.key, Some(json!({ "platform": "x" })), Some("link-1"))
            .await
            .expect(201)
    };
    let url = link().await["url"].as_str().unwrap().to_owned();
    assert_eq!(link().await["url"], url.as_str());
    let secret = url.rsplit('=').next().unwrap();
    assert!(!world.store.dump().contains(secret), "an answer is stored in the clear");
}

#[tokio::test]
async fn a_hundred_equal_requests_at_once_make_one_post() {
    let world = std::sync::Arc::new(World::with(|config| config.request_limits = social_server::config::Switch::Off));
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({ "content": "a", "accounts": accounts });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (world, tenant, body) = (world.clone(), tenant.clone(), body.clone());
        tasks.spawn(async move { world.keyed("POST", "/post/schedule", &tenant.key, Some(body), Some("same")).await });
    }
    let mut made = std::collections::BTreeSet::new();
    for answer in tasks.join_all().await {
        match answer.status.as_u16() {
            201 => drop(made.insert(answer.json()["id"].as_str().unwrap().to_owned())),
            409 => drop(answer.refused(409, "idempotency_running")),
            other => panic!("{other}: {answer:?}"),
        }
    }
    assert_eq!(made.len(), 1);
    assert_eq!(world.get("/posts", &tenant.key).await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    for hour in 10..15 {
        let time = format!("2026-11-22T{hour}:00:00Z");
        schedule(&world, &tenant, json!({ "content": time, "accounts": [accounts[0]], "scheduled_time": time })).await;
    }
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = world.get(&format!("/posts?limit=2{after}"), &tenant.key).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|post| post["content"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|a, b| a > b), "latest first: {seen:?}");
    let count = async |query: &str| {
        world.get(&format!("/posts?{query}"), &tenant.key).await.expect(200)["items"].as_array().unwrap().len()
    };
    assert_eq!(count("status=pending").await, 5);
    assert_eq!(count("status=published").await, 0);
    assert_eq!(count("platform=linkedin").await, 0);
    assert_eq!(count(&format!("account_id={}", accounts[0])).await, 5);
    assert_eq!(count("from=2026-11-22T12:00:00Z&to=2026-11-22T14:00:00Z").await, 2);
    for bad in ["limit=0", "limit=201", "limit=x", "status=odd", "after=made-up", "color=red", "from=today"] {
        world.get(&format!("/posts?{bad}"), &tenant.key).await.refused(422, "invalid");
    }
}

#[tokio::test]
async fn a_grant_that_ends_before_the_post_is_pointed_out() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let far = json!({ "content": "a", "accounts": [accounts[0]], "scheduled_time": "2027-11-22T10:00:00Z" });
    let made = schedule(&world, &tenant, far.clone()).await;
    assert_eq!(made["warnings"], json!([]), "a grant that renews itself does not end");
    world.advance(3600);
    world.network.next("refresh", Turn::Fail(Error::new(ErrorKind::Reconnect, "oauth.refresh").effect_none()));
    let refresh = world.call("POST", &format!("/accounts/{}/refresh", accounts[0]), &tenant.key, None).await;
    refresh.refused(409, "reconnect");
    let made = schedule(&world, &tenant, far).await;
    assert_eq!(violations(&json!({ "violations": made["warnings"] })), [("grant_ends_before", "scheduled_time")]);
    assert_eq!(made["warnings"][0]["severity"], "warning");
}

#[tokio::test]
async fn a_change_that_is_based_on_something_old_is_refused() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({ "content": "first", "accounts": [accounts[0]], "scheduled_time": "2026-11-23T10:00:00Z" });
    let made = world.post("/post/schedule", &tenant.key, body).await;
    let tag = made.header("etag").unwrap().to_owned();
    let path = format!("/posts/{}", made.expect(201)["id"].as_str().unwrap());
    let patch = async |tag: Option<&str>, content: &str| {
        let mut request = http::Request::patch(&path)
            .header("authorization", format!("Bearer {}", tenant.key))
            .header("content-type", "application/json");
        if let Some(tag) = tag {
            request = request.header("if-match", tag);
        }
        let body = axum::body::Body::from(json!({ "content": content }).to_string());
        world.send(request.body(body).unwrap()).await
    };
    assert_eq!(world.get(&path, &tenant.key).await.header("etag"), Some(tag.as_str()));
    // Two people read the same; the second one is told.
    let second = patch(Some(&tag), "second").await;
    let newer = second.header("etag").unwrap().to_owned();
    assert_ne!(newer, tag);
    second.expect(200);
    patch(Some(&tag), "third").await.refused(412, "precondition_failed");
    patch(Some("\"\""), "third").await.refused(412, "precondition_failed");
    patch(Some("W/x, nonsense"), "third").await.refused(412, "precondition_failed");
    assert_eq!(world.get(&path, &tenant.key).await.expect(200)["content"], "second");
    let either = format!("{tag}, {newer}");
    patch(Some(&either), "third").await.expect(200);
    patch(Some("*"), "fourth").await.expect(200);
    patch(None, "fifth").await.expect(200);
    assert_eq!(world.get(&path, &tenant.key).await.expect(200)["content"], "fifth");
}

#[tokio::test]
async fn a_post_that_was_deleted_there_says_so_and_its_history_once() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let (stranger, _) = world.connected("b@example.com").await;
    let made = schedule(&world, &tenant, json!({ "content": "a", "accounts": [accounts[0]] })).await;
    world.work().await;
    let out = post(&world, &tenant, &made["id"]).await;
    let delivery = out["deliveries"][0].clone();
    assert!(delivery["deleted_at"].is_null() && delivery["published_at"].is_string(), "{delivery}");
    let path = format!("/deliveries/{}", delivery["id"].as_str().unwrap());
    world.advance(60);
    for already in [false, true] {
        let answer = world.call("DELETE", &format!("{path}/remote"), &tenant.key, None).await.expect(200);
        assert_eq!(answer["deleted"], true, "{already}");
    }
    let list = world.get("/posts", &tenant.key).await.expect(200)["items"][0]["deliveries"][0].clone();
    let one = world.get(&path, &tenant.key).await.expect(200);
    for shown in [post(&world, &tenant, &made["id"]).await["deliveries"][0].clone(), list, one] {
        assert_eq!(shown["deleted_at"], "2026-11-22T08:01:00Z", "{shown}");
        assert_eq!(shown["phase"], "published", "it was out");
        let actions = shown["actions"].as_array().unwrap();
        let delete = actions.iter().find(|action| action["name"] == "delete_remote").unwrap();
        assert_eq!(delete["allowed"], false, "{delete}");
    }
    let logs = world.get("/logs", &tenant.key).await.expect(200);
    let events = logs["items"].as_array().unwrap().iter().filter(|row| row["event"] == "deleted_remote");
    assert_eq!(events.count(), 1);
    world.get(&path, &stranger.key).await.refused(404, "not_found");
}
