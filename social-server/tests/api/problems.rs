//! Refusals have one form, whatever is sent; and every answer carries the headers that protect it.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, header};
use serde_json::json;
use social_server::{Peer, config::AllowedOrigins};
use social_testkit::fake::{FakeNetwork, FakePlatform};

use crate::world::{ADMIN, World};

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path)
}

#[tokio::test]
async fn garbage_is_refused_in_one_form() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let send = async |kind: Option<&str>, body: Vec<u8>| {
        let mut request =
            request("POST", "/post/schedule").header(header::AUTHORIZATION, format!("Bearer {}", tenant.key));
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        world.send(request.body(Body::from(body)).unwrap()).await
    };
    let json = Some("application/json");
    send(json, b"{".to_vec()).await.refused(400, "invalid_json");
    send(json, Vec::new()).await.refused(400, "invalid_json");
    send(json, b"\xff\xfe".to_vec()).await.refused(400, "invalid_json");
    send(json, b"[]".to_vec()).await.refused(422, "invalid");
    send(json, b"null".to_vec()).await.refused(422, "invalid");
    send(json, [b"[".repeat(100_000), b"]".repeat(100_000)].concat()).await.refused(400, "invalid_json");
    send(json, b"{\"content\":\"a\\u0000\"}".to_vec()).await.refused(422, "invalid");
    send(Some("text/plain"), b"{}".to_vec()).await.refused(415, "unsupported_media_type");
    send(None, b"{}".to_vec()).await.refused(415, "unsupported_media_type");
    send(Some("application/json; charset=utf-8"), b"{}".to_vec()).await.refused(422, "invalid");
    let large = serde_json::to_vec(&json!({ "content": "a".repeat(1024 * 1024), "accounts": accounts })).unwrap();
    send(json, large.clone()).await.refused(413, "payload_too_large");
    let keyed = request("POST", "/post/schedule")
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .header(header::CONTENT_TYPE, "application/json")
        .header("idempotency-key", "large");
    world.send(keyed.body(Body::from(large)).unwrap()).await.refused(413, "payload_too_large");
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refused_in_the_same_form() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    world.get("/nowhere", &tenant.key).await.refused(404, "no_such_route");
    world.get("/docs/../Cargo.toml", "").await.refused(404, "no_such_route");
    world.get("/m/made-up", "").await.refused(404, "not_found");
    let answer = world.call("PUT", "/post/schedule", &tenant.key, None).await;
    assert_eq!(answer.header("allow"), Some("POST"));
    answer.refused(405, "method_not_allowed");
    world.call("DELETE", "/healthz", "", None).await.refused(405, "method_not_allowed");
}

#[tokio::test]
async fn every_answer_is_protected() {
    let world = World::with(|config| config.public_url = Some("https://social.example".parse().unwrap()));
    for path in ["/healthz", "/nowhere", "/docs", "/platforms", "/auth/callback/x"] {
        let answer = world.get(path, "").await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"), "{path}");
        assert!(answer.header("x-request-id").unwrap().len() >= 8, "{path}");
    }
    let local = World::new().get("/healthz", "").await;
    assert_eq!(local.header("strict-transport-security"), None, "never on a loopback address");
}

#[tokio::test]
async fn a_proxys_request_id_is_kept_if_it_is_plain() {
    let world = World::new();
    for (given, kept) in [("abcd-1234", true), ("a", false), ("a\"b<script>", false), ("x".repeat(65).as_str(), false)]
    {
        let sent = request("GET", "/nowhere").header("x-request-id", given).body(Body::empty()).unwrap();
        let answer = world.send(sent).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert_eq!(id == given, kept, "{given}");
        assert_eq!(answer.json()["request_id"], id.as_str());
    }
}

#[tokio::test]
async fn pages_of_listed_origins_may_call_and_look_alikes_may_not() {
    let world = World::with(|config| {
        config.allowed_origins =
            "https://app.example,https://proj-*-team.vercel.app".parse::<AllowedOrigins>().unwrap();
    });
    let preflight = async |origin: &str| {
        let sent = request("OPTIONS", "/post/schedule")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,idempotency-key");
        world.send(sent.body(Body::empty()).unwrap()).await
    };
    for origin in ["https://app.example", "https://proj-abc123-team.vercel.app"] {
        let answer = preflight(origin).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert!(answer.header("access-control-allow-headers").unwrap().contains("idempotency-key"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert!(answer.header("vary").unwrap().to_lowercase().contains("origin"));
        let plain = world.send(request("GET", "/nowhere").header("origin", origin).body(Body::empty()).unwrap()).await;
        assert_eq!(plain.header("access-control-allow-origin"), Some(origin), "refusals can be read too");
    }
    for origin in [
        "https://app.example.evil.com",
        "https://proj-abc-team.vercel.app.evil.com",
        "http://app.example",
        "https://app.example:8443",
        "https://evil.vercel.app",
        "https://proj-abc-other.vercel.app",
        "https://proj-abc.evil.com-team.vercel.app",
        "https://proj-ABC-team.vercel.app",
        "http://proj-abc-team.vercel.app",
        "https://proj-abc-team.vercel.app:8443",
        "https://app.example.",
        "https://APP.EXAMPLE",
        "https://app.example/",
        "https://sub.app.example",
        "https://appxexample",
        "file://",
        "null",
    ] {
        let answer = preflight(origin).await;
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
        assert!(answer.header("vary").unwrap().to_lowercase().contains("origin"), "{origin}");
    }
}

#[tokio::test]
async fn names_from_networks_are_text_on_our_pages() {
    let network = FakeNetwork::default();
    let name = |facts: &mut social_core::PlatformDescriptor| facts.name = "<img src=x onerror=\"alert('1')\">&".into();
    let x: Arc<dyn social_core::Platform> = Arc::new(FakePlatform::new("x", network.clone()).facts(name));
    let world = World::over(network, vec![x], |_| {});
    let tenant = world.tenant("a@example.com").await;
    let path = world.link(&tenant, json!({ "platform": "x" })).await;
    let sent = world.browse(&path, "").await;
    let back = format!("/auth/callback/x?code=good&state={}", crate::world::query(&sent.location(), "state"));
    let page = world.browse(&back, &sent.cookies()).await;
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(text.contains("&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp; is connected"), "{text}");
    assert!(!text.contains("<img") && !text.contains("<script"), "{text}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("script-src"), "{policy}");
}

#[tokio::test]
async fn what_a_request_says_is_no_markup_in_the_answer() {
    let world = World::new();
    let evil = "%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for path in [
        format!("/{evil}"),
        format!("/auth/connect/{evil}?link={evil}"),
        format!("/auth/callback/{evil}?state={evil}&error={evil}"),
        format!("/auth/connect/x?link={evil}"),
        format!("/m/{evil}"),
        format!("/docs/{evil}"),
    ] {
        let request = request("GET", &path).header(header::ACCEPT, "text/html").body(Body::empty()).unwrap();
        let answer = world.send(request).await;
        let text = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.bytes));
        assert!(!text.contains("<script"), "{path}: {text}");
        assert!(answer.status.is_client_error(), "{path}: {text}");
    }
    // Where a request is quoted in JSON, browsers must not guess.
    let tenant = world.tenant("a@example.com").await;
    let answer = world.get("/posts?%3Cscript%3E=1", &tenant.key).await;
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

#[tokio::test]
async fn other_words_of_proxies_change_nothing() {
    let world = World::with(|config| {
        config.public_url = Some("https://social.example".parse().unwrap());
        config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let send = async |peer: &str, name: &str, value: &str| {
        let sent = request("GET", "/users")
            .extension(Peer(peer.parse().unwrap()))
            .header(header::AUTHORIZATION, format!("Bearer {ADMIN}"))
            .header(name, value);
        world.send(sent.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    // The last hop is the proxy's own word; what stands before it was written by strangers.
    for (peer, name, value, status) in [
        ("10.0.0.1:1", "x-forwarded-proto", "http", 403),
        ("10.0.0.1:1", "x-forwarded-proto", "https, http", 403),
        ("10.0.0.1:1", "x-forwarded-proto", "http, https", 200),
        ("10.0.0.1:1", "x-forwarded-proto", "HTTPS", 200),
        ("[::ffff:10.0.0.1]:1", "x-forwarded-proto", "http", 403),
        ("192.0.2.1:1", "x-forwarded-proto", "http", 200),
        ("10.0.0.1:1", "forwarded", "proto=http", 200),
        ("10.0.0.1:1", "x-forwarded-ssl", "off", 200),
    ] {
        assert_eq!(send(peer, name, value).await, status, "{peer} {name}: {value}");
    }
}

#[tokio::test]
async fn proxies_are_believed_only_if_they_are_trusted() {
    let world = World::with(|config| {
        config.public_url = Some("https://social.example".parse().unwrap());
        config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        config.requests_per_second_ip = 1;
    });
    let from = |peer: &str, path: &str, forwarded: Option<&str>, scheme: Option<&str>, key: Option<&str>| {
        let mut sent = request("GET", path).extension(Peer(peer.parse().unwrap()));
        if let Some(forwarded) = forwarded {
            sent = sent.header("x-forwarded-for", forwarded);
        }
        if let Some(scheme) = scheme {
            sent = sent.header("x-forwarded-proto", scheme);
        }
        if let Some(key) = key {
            sent = sent.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        sent.body(Body::empty()).unwrap()
    };
    // Unencrypted: browsers are sent to https by an address from the configuration, keys are burnt, probes pass.
    let sent = from("10.0.0.1:1", "/docs?x=1", Some("192.0.2.1"), Some("http"), None);
    let moved = world.send(sent).await;
    assert_eq!((moved.status.as_u16(), moved.location().as_str()), (308, "https://social.example/docs?x=1"));
    let sent = from("10.0.0.1:1", "/users", Some("192.0.2.1"), Some("http"), Some(ADMIN));
    world.send(sent).await.refused(403, "https_required");
    let sent = from("10.0.0.1:1", "/healthz", None, Some("http"), None);
    assert_eq!(world.send(sent).await.status, 200);
    let sent = from("10.0.0.1:1", "/users", Some("192.0.2.1"), Some("https"), Some(ADMIN));
    assert_eq!(world.send(sent).await.status, 200);
    // A stranger's word counts for nothing.
    let sent = from("192.0.2.9:1", "/docs", Some("127.0.0.1"), Some("http"), None);
    assert_eq!(world.send(sent).await.status, 200);
    // Callers are told apart by what the proxy saw, not by what they say themselves.
    let spend = async |forwarded: &str| {
        let sent = from("10.0.0.1:1", "/healthz", Some(forwarded), None, None);
        world.send(sent).await.status.as_u16()
    };
    let mut statuses = Vec::new();
    for number in 0..12 {
        statuses.push(spend(&format!("198.51.100.{number}, 203.0.113.7")).await);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 2, "{statuses:?}");
    assert_eq!(spend("203.0.113.8").await, 200);
}

#[tokio::test]
async fn metrics_are_open_on_this_machine_alone() {
    let local = World::new();
    let answer = local.get("/metrics", "").await;
    assert!(String::from_utf8_lossy(&answer.bytes).contains("social_database_up 1"), "{answer:?}");
    let proxied = request("GET", "/metrics")
        .extension(Peer("127.0.0.1:1".parse().unwrap()))
        .header("x-forwarded-for", "192.0.2.1")
        .body(Body::empty())
        .unwrap();
    local.send(proxied).await.refused(401, "unauthorized");
    let remote =
        request("GET", "/metrics").extension(Peer("192.0.2.1:1".parse().unwrap())).body(Body::empty()).unwrap();
    local.send(remote).await.refused(401, "unauthorized");
    let world = World::with(|config| {
        config.public_url = Some("https://social.example".parse().unwrap());
        config.metrics_token = Some("collector-token".into());
    });
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({ "content": "a", "accounts": accounts, "scheduled_time": "2026-11-23T10:00:00Z" });
    world.post("/post/schedule", &tenant.key, body).await.expect(201);
    world.get("/metrics", "").await.refused(401, "unauthorized");
    world.get("/metrics", &tenant.key).await.refused(401, "unauthorized");
    assert_eq!(world.get("/metrics", ADMIN).await.status, 200);
    let answer = world.get("/metrics", "collector-token").await;
    let text = String::from_utf8(answer.bytes).unwrap();
    assert!(text.contains("social_queue_depth{platform=\"x\",phase=\"scheduled\"} 2"), "{text}");
    world.get("/users", "collector-token").await.refused(401, "unauthorized");
}

#[tokio::test]
async fn probes_and_descriptions_need_no_key() {
    let world = World::new();
    assert_eq!(world.get("/healthz", "").await.expect(200)["status"], "ok");
    assert_eq!(world.get("/readyz", "").await.expect(200)["status"], "ok");
    let platforms = world.get("/platforms", "").await.expect(200);
    let x = platforms["items"].as_array().unwrap().iter().find(|one| one["id"] == "x").unwrap();
    assert_eq!((x["name"].as_str(), x["text"]["max"].as_u64()), (Some("Fake x"), Some(100)));
    assert_eq!(x["callback_url"], "http://127.0.0.1:8080/auth/callback/x");
    assert_eq!(x["oauth"]["presets"][0]["name"], "default");
    assert!(!platforms.to_string().contains("secret"), "{platforms}");
    assert!(world.get("/openapi.json", "").await.expect(200)["paths"]["/post/schedule"]["post"].is_object());
    for (path, kind) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ("/docs/style.css", "text/css; charset=utf-8"),
    ] {
        let answer = world.get(path, "").await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(kind)), "{path}");
        let text = String::from_utf8(answer.bytes).unwrap();
        assert!(!text.contains("http://") && !text.contains("//cdn"), "{path} fetches from elsewhere");
    }
    world.state.begin_stopping();
    world.get("/readyz", "").await.refused(503, "not_ready");
}
