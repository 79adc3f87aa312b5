//! What the sandbox breaks on purpose, and its control interface.

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use social_sandbox::{Fault, FaultSpec, NamedFault, Sandbox, When};
use std::time::{Duration, Instant};
use support::{World, answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const RESET: Fault = Fault::Named(NamedFault::Reset);

fn on_create(when: When, fault: Fault) -> FaultSpec {
    FaultSpec::new("x", "posts.create", when, fault)
}

#[tokio::test]
async fn a_reset_before_has_no_effect_and_a_reset_after_has() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    let send =
        |text: &str| world.http.post(world.x("/2/tweets")).bearer_auth(&token).json(&json!({ "text": text })).send();
    world.control().add_fault(on_create(When::Before, RESET).times(1)).unwrap();
    assert!(send("before").await.is_err());
    assert!(world.control().ledger().is_empty());
    world.control().add_fault(on_create(When::After, RESET).times(1)).unwrap();
    assert!(send("after").await.is_err());
    assert_eq!(world.control().ledger().len(), 1);
    assert_eq!(send("after").await.unwrap().status(), 403, "it is there, a second one is a duplicate");
    assert_eq!(send("third").await.unwrap().status(), 201);
    let requests = world.control().requests();
    assert_eq!(requests.iter().map(|request| request.status).collect::<Vec<_>>(), [None, None, Some(403), Some(201)]);
    assert!(requests[0].faulted && !requests[3].faulted);
    assert_eq!(requests[0].headers["authorization"], "[redacted]");
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_an_orderly_end() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    world.control().add_fault(on_create(When::After, RESET)).unwrap();
    let mut stream = TcpStream::connect(world.sandbox.address()).await.unwrap();
    let body = r#"{"text":"hi"}"#;
    let request = format!(
        "POST /x/2/tweets HTTP/1.1\r\nhost: sandbox\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(answer.is_empty(), "{answer:?}");
    assert_eq!(world.control().ledger().len(), 1);
}

#[tokio::test]
async fn an_answer_is_replaced_before_or_after_the_effect() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    let gateway = |when| {
        let fault = json!({
            "platform": "x", "operation": "posts.create", "when": when, "times": 1,
            "fault": { "status": 503, "body": "<html>upstream</html>", "headers": { "retry-after": "7" } }
        });
        answer(world.http.post(format!("{}/_sandbox/faults", world.sandbox.url())).json(&fault))
    };
    for (when, effects) in [("before", 0), ("after", 1)] {
        let (status, armed) = gateway(when).await;
        assert_eq!((status, &armed["entries"][0]["hits"]), (201, &json!(0)));
        let request = world.http.post(world.x("/2/tweets")).bearer_auth(&token).json(&json!({ "text": when }));
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.headers()["retry-after"], "7");
        assert_eq!(reply.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(reply.text().await.unwrap(), "<html>upstream</html>");
        assert_eq!(world.control().ledger().len(), effects, "{when}");
    }
    assert!(world.control().faults().iter().all(|fault| fault.hits == 1));
}

#[tokio::test]
async fn an_after_fault_waits_for_an_effect() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    world.control().add_fault(on_create(When::After, RESET).times(1)).unwrap();
    assert_eq!(world.post_x(&token, &json!({ "text": "" })).await.0, 400, "refused, so there is nothing to lose");
    let lost = world.http.post(world.x("/2/tweets")).bearer_auth(&token).json(&json!({ "text": "a" })).send().await;
    assert!(lost.is_err());
}

#[tokio::test]
async fn an_empty_answer_keeps_its_status_and_loses_the_id() {
    let world = World::new().await;
    let token = world.token("linkedin", "ada");
    let author = world.control().personas(social_sandbox::Platform::LinkedIn)[0].account.clone();
    world
        .control()
        .add_fault(FaultSpec::new("linkedin", "posts.create", When::After, Fault::Named(NamedFault::Empty)))
        .unwrap();
    let body = json!({
        "author": author, "commentary": "no id", "visibility": "PUBLIC", "lifecycleState": "PUBLISHED",
        "distribution": { "feedDistribution": "MAIN_FEED" }
    });
    let reply = world.rest(Method::POST, &token, "/rest/posts").json(&body).send().await.unwrap();
    assert_eq!(reply.status(), 201);
    assert!(!reply.headers().contains_key("x-restli-id"));
    assert_eq!(world.control().ledger().len(), 1);
}

#[tokio::test]
async fn silence_and_dripping_take_their_time() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    world.control().add_fault(on_create(When::After, Fault::Hang { hang_ms: 150, late: false }).times(1)).unwrap();
    let start = Instant::now();
    assert_eq!(world.post_x(&token, &json!({ "text": "slow" })).await.0, 201);
    assert!(start.elapsed() >= Duration::from_millis(150));

    world.control().add_fault(on_create(When::Before, Fault::Hang { hang_ms: 60_000, late: false }).times(1)).unwrap();
    let request = world.http.post(world.x("/2/tweets")).bearer_auth(&token).json(&json!({ "text": "impatient" }));
    assert!(request.timeout(Duration::from_millis(50)).send().await.unwrap_err().is_timeout());
    assert_eq!(world.control().ledger().len(), 1, "who leaves in the silence before has caused nothing");

    world.control().add_fault(on_create(When::After, Fault::Slow { slow_bytes_per_s: 400 }).times(1)).unwrap();
    let start = Instant::now();
    let (status, body) = world.post_x(&token, &json!({ "text": "drip" })).await;
    let bytes = body.to_string().len();
    assert_eq!(status, 201);
    assert!(start.elapsed() >= Duration::from_millis(bytes as u64 * 1_000 / 400 - 50), "{bytes} bytes");

    world.control().add_fault(on_create(When::After, Fault::Cut { cut_after_bytes: 10 }).times(1)).unwrap();
    let reply = world.http.post(world.x("/2/tweets")).bearer_auth(&token).json(&json!({ "text": "cut" })).send().await;
    assert!(reply.unwrap().bytes().await.is_err(), "half an answer");
    assert_eq!(world.control().ledger().len(), 3);
}

#[tokio::test]
async fn under_latency_an_effect_happens_even_if_the_client_leaves() {
    let world = World::with(|settings| settings.latency_ms = 100).await;
    let token = world.token("x", "ada");
    let request = world.http.post(world.x("/2/tweets")).bearer_auth(&token).json(&json!({ "text": "gone" }));
    assert!(request.timeout(Duration::from_millis(10)).send().await.is_err());
    for _ in 0..200 {
        if !world.control().ledger().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the post never appeared");
}

#[tokio::test]
async fn chance_repeats_under_its_seed_and_accounts_are_told_apart() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let world = World::new().await;
        let token = world.token("x", "ada");
        let fault = Fault::Answer { status: 500, body: Value::Null, headers: Default::default() };
        world.control().add_fault(on_create(When::Before, fault).probability(0.5, 42)).unwrap();
        let mut run = Vec::new();
        for index in 0..20 {
            run.push(world.post_x(&token, &json!({ "text": index.to_string() })).await.0);
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&500) && runs[0].contains(&201), "{runs:?}");

    let world = World::new().await;
    let (ada, grace) = (world.token("x", "ada"), world.token("x", "grace"));
    let fault = json!({
        "platform": "x", "operation": "*", "when": "before", "account": "grace", "skip": 1, "fault": { "status": 500 }
    });
    let faults = format!("{}/_sandbox/faults", world.sandbox.url());
    assert_eq!(answer(world.http.post(&faults).json(&fault)).await.0, 201);
    assert_eq!(world.get_x(&grace, "/2/users/me").await.0, 200, "the first passes");
    assert_eq!(world.get_x(&grace, "/2/users/me").await.0, 500);
    assert_eq!(world.get_x(&ada, "/2/users/me").await.0, 200);
    assert_eq!(answer(world.http.delete(&faults)).await.1, json!({ "removed": 1 }));
    assert_eq!(world.get_x(&grace, "/2/users/me").await.0, 200);
}

#[tokio::test]
async fn the_control_interface_refuses_what_it_does_not_know() {
    let world = World::new().await;
    let at = |path: &str| format!("{}/_sandbox/{path}", world.sandbox.url());
    let bad = [
        json!({ "platform": "x", "operation": "posts.creat", "when": "before", "fault": "reset" }),
        json!({ "platform": "y", "operation": "*", "when": "before", "fault": "reset" }),
        json!({ "platform": "x", "operation": "*", "when": "before", "fault": "explode" }),
        json!({ "platform": "x", "operation": "*", "when": "before", "fault": "reset", "time": 1 }),
        json!({ "platform": "x", "operation": "*", "when": "before", "fault": "reset", "probability": 2.0 }),
    ];
    for fault in bad {
        assert_eq!(answer(world.http.post(at("faults")).json(&fault)).await.0, 400, "{fault}");
    }
    assert_eq!(answer(world.http.post(at("settings")).json(&json!({ "latency": 1 }))).await.0, 400);
    let (status, settings) =
        answer(world.http.post(at("settings")).json(&json!({ "limits": "off", "processing_ms": 5 }))).await;
    assert_eq!((status, &settings["limits"], &settings["latency_ms"]), (200, &json!("off"), &json!(0)));
    let (_, before) = answer(world.http.get(at("clock"))).await;
    let (_, after) = answer(world.http.post(at("clock")).json(&json!({ "advance_ms": 60_000 }))).await;
    assert_ne!(before, after);
    let (_, operations) = answer(world.http.get(at("operations"))).await;
    assert!(
        operations["entries"].as_array().unwrap().contains(&json!({ "platform": "x", "operation": "posts.create" }))
    );
    assert_eq!(answer(world.http.get(at("nothing"))).await.0, 404);

    let grant = json!({ "platform": "x", "persona": "ada", "scope": "tweet.read users.read" });
    let (status, tokens) = answer(world.http.post(at("grants")).json(&grant)).await;
    assert_eq!(status, 201);
    let token = tokens["access_token"].as_str().unwrap();
    let (_, secrets) = answer(world.http.get(at("secrets"))).await;
    assert!(secrets["entries"].as_array().unwrap().iter().any(|secret| secret["value"] == token));
    assert_eq!(world.get_x(token, "/2/users/me").await.0, 200);
    let (_, revoked) = answer(world.http.post(at("revoke")).json(&json!({ "platform": "x", "persona": "ada" }))).await;
    assert_eq!(revoked["revoked"], 1);
    assert_eq!(world.get_x(token, "/2/users/me").await.0, 401);
    let (_, requests) = answer(world.http.get(at("requests?operation=users.me"))).await;
    assert_eq!(requests["entries"].as_array().unwrap().len(), 2);
    assert_eq!(requests["counts"][0], json!({ "platform": "x", "operation": "users.me", "count": 2, "succeeded": 1 }));

    let persona = json!({ "platform": "x", "name": "shop_1", "display_name": "Shop 1" });
    assert_eq!(answer(world.http.post(at("personas")).json(&persona)).await.0, 201);
    assert_eq!(answer(world.http.post(at("personas")).json(&persona)).await.0, 400, "taken");
    let shop = world.token("x", "shop_1");
    assert_eq!(world.post_x(&shop, &json!({ "text": "open" })).await.0, 201);
    assert_eq!(answer(world.http.post(at("reset"))).await.0, 200);
    assert_eq!(world.get_x(&shop, "/2/users/me").await.0, 401);
    assert_eq!(answer(world.http.get(at("ledger"))).await.1, json!({ "entries": [], "total": 0 }));
    assert_eq!(answer(world.http.get(at("settings"))).await.1["limits"], "real");
}

#[tokio::test]
async fn the_ledger_keeps_the_order_of_creation() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    for index in 0..20 {
        assert_eq!(world.post_x(&token, &json!({ "text": format!("n{index}") })).await.0, 201);
    }
    let (_, body) = answer(world.http.get(format!("{}/_sandbox/ledger", world.sandbox.url()))).await;
    let entries = body["entries"].as_array().unwrap();
    let texts: Vec<&str> = entries.iter().map(|entry| entry["text"].as_str().unwrap()).collect();
    assert_eq!(texts, (0..20).map(|index| format!("n{index}")).collect::<Vec<_>>());
    let ids: Vec<u64> = entries.iter().map(|entry| entry["id"].as_str().unwrap().parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b));
    for key in ["platform", "account", "id", "kind", "text", "media", "in_reply_to", "created_at", "deleted_at"] {
        assert!(entries[0].get(key).is_some(), "{key}");
    }
    let (_, tail) = answer(world.http.get(format!("{}/_sandbox/ledger?from=18", world.sandbox.url()))).await;
    assert_eq!((tail["entries"].as_array().unwrap().len(), &tail["total"]), (2, &json!(20)));
}

#[tokio::test]
async fn the_timeline_shows_markup_as_text() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    world.post_x(&token, &json!({ "text": "<script>alert(1)</script> https://example.com/?a=\"b" })).await;
    let reply = world.http.get(world.sandbox.url()).send().await.unwrap();
    assert!(reply.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    let page = reply.text().await.unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"));
}

#[tokio::test]
async fn the_same_seed_gives_the_same_tokens() {
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let world = World::new().await;
        tokens.push((world.token("x", "ada"), world.token("linkedin", "ada")));
    }
    assert_eq!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn a_router_without_a_socket_shares_the_control() {
    use tower::ServiceExt;
    let sandbox = Sandbox::new();
    let router = sandbox.router();
    let request = axum::extract::Request::builder().uri("/x/2/users/me").body(axum::body::Body::empty()).unwrap();
    let reply = router.oneshot(request).await.unwrap();
    assert_eq!(reply.status(), 401);
    assert_eq!(sandbox.control().requests().len(), 1);
}

#[tokio::test]
async fn stopping_closes_the_port() {
    let world = World::new().await;
    let address = world.sandbox.address();
    let idle = TcpStream::connect(address).await.unwrap();
    world.sandbox.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    drop(idle);
}
