//! Connecting accounts: the way to a network and back. What it must refuse by the numbers stands in `oauth.rs`.

use serde_json::json;
use social_server::config::ReturnUrls;

use crate::world::{Answer, Tenant, World, query};

/// A browser that stands at the network: its cookies and the state that it will come back with.
struct Away {
    cookies: String,
    state: String,
    sent: Answer,
}

async fn away(world: &World, tenant: &Tenant, body: serde_json::Value) -> Away {
    let path = world.link(tenant, body).await;
    let sent = world.browse(&path, "").await;
    assert_eq!(sent.status, 303, "{sent:?}");
    Away { cookies: sent.cookies(), state: query(&sent.location(), "state"), sent }
}

fn back(platform: &str, state: &str) -> String {
    format!("/auth/callback/{platform}?code=good&state={state}")
}

async fn accounts(world: &World, tenant: &Tenant) -> usize {
    world.get("/accounts", &tenant.key).await.expect(200)["items"].as_array().unwrap().len()
}

fn https() -> World {
    World::with(|config| {
        config.public_url = Some("https://social.example".parse().unwrap());
        config.return_urls = "https://app.example".parse::<ReturnUrls>().unwrap();
    })
}

#[tokio::test]
async fn a_person_connects_and_comes_back_to_the_application() {
    let world = https();
    let tenant = world.tenant("a@example.com").await;
    let body = json!({ "platform": "x", "return_to": "https://app.example/settings?tab=1" });
    let link = world.post("/auth/links", &tenant.key, body).await.expect(201);
    let url: url::Url = link["url"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        (url.origin().ascii_serialization().as_str(), url.path()),
        ("https://social.example", "/auth/connect/x")
    );
    let sent = world.browse(&url[url::Position::BeforePath..], "").await;
    assert_eq!(sent.status, 303);
    assert_eq!(query(&sent.location(), "redirect_uri"), "https://social.example/auth/callback/x");
    let cookie = sent.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-social_connect_"), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure", "; Max-Age=600"] {
        assert!(cookie.contains(part), "{part} is missing: {cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let done = world.browse(&back("x", &query(&sent.location(), "state")), &sent.cookies()).await;
    assert_eq!(done.status, 303);
    assert_eq!(done.location().as_str(), "https://app.example/settings?tab=1&connected=x");
    assert_eq!(done.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(done.header("cache-control"), Some("no-store"));
    assert!(done.header("set-cookie").unwrap().contains("Max-Age=0"));
    let listed = world.get("/accounts", &tenant.key).await.expect(200);
    let first = &listed["items"][0];
    for field in ["id", "platform", "kind", "handle", "display_name", "status", "connection_id", "expires_at"] {
        assert!(first[field].is_string(), "{field}: {first}");
    }
    assert!(first["avatar_url"].is_null() && listed["next"].is_null());
    let connections = world.get("/connections", &tenant.key).await.expect(200);
    let connection = &connections["items"][0];
    assert_eq!(connection["accounts"].as_array().unwrap().len(), 2);
    assert_eq!(
        connection["scopes"],
        json!({ "requested": ["read", "write"], "granted": ["read", "write"], "missing": [] })
    );
    assert!(connection["act_by"].is_null(), "{connection}");
}

#[tokio::test]
async fn without_a_place_to_return_to_there_is_a_small_page() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let away = away(&world, &tenant, json!({ "platform": "x" })).await;
    let cookie = away.sent.header("set-cookie").unwrap();
    assert!(cookie.starts_with("social_connect_") && !cookie.contains("Secure"), "{cookie}");
    let done = world.browse(&back("x", &away.state), &away.cookies).await;
    assert_eq!((done.status.as_u16(), done.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(String::from_utf8_lossy(&done.bytes).contains("Fake x is connected"));
    assert!(done.header("content-security-policy").unwrap().contains("default-src 'none'"));
}

#[tokio::test]
async fn two_tabs_do_not_undo_each_other() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let (x, linkedin) = (
        away(&world, &tenant, json!({ "platform": "x" })).await,
        away(&world, &tenant, json!({ "platform": "linkedin" })).await,
    );
    let both = format!("{}; {}", x.cookies, linkedin.cookies);
    assert_eq!(world.browse(&back("x", &x.state), &both).await.status, 200);
    assert_eq!(world.browse(&back("linkedin", &linkedin.state), &both).await.status, 200);
    assert_eq!(accounts(&world, &tenant).await, 3);
}

#[tokio::test]
async fn a_link_works_once_for_its_network_and_not_for_programs_that_look_ahead() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let path = world.link(&tenant, json!({ "platform": "x" })).await;
    world.call("HEAD", &path, "", None).await.status.is_client_error().then_some(()).unwrap();
    let prefetch =
        http::Request::builder().uri(&path).header("sec-purpose", "prefetch").body(axum::body::Body::empty());
    world.send(prefetch.unwrap()).await.refused(503, "prefetch");
    assert_eq!(world.browse(&path, "").await.status, 303);
    world.browse(&path, "").await.refused(410, "link_expired");
    let other = world.link(&tenant, json!({ "platform": "x" })).await.replace("/connect/x", "/connect/linkedin");
    world.browse(&other, "").await.refused(410, "link_expired");
    let old = world.link(&tenant, json!({ "platform": "x" })).await;
    world.advance(600);
    world.browse(&old, "").await.refused(410, "link_expired");
    world.browse("/auth/connect/x", "").await.refused(400, "link_missing");
    world.browse("/auth/connect/nowhere?link=a", "").await.refused(404, "not_found");
    // A state is no link and a link is no state.
    let away = away(&world, &tenant, json!({ "platform": "x" })).await;
    world.browse(&format!("/auth/connect/x?link={}", away.state), "").await.refused(410, "link_expired");
    let path = world.link(&tenant, json!({ "platform": "x" })).await;
    let secret = path.rsplit('=').next().unwrap();
    world.browse(&back("x", secret), &away.cookies).await.refused(400, "expired");
    assert!(!world.store.dump().contains(secret), "the link's secret is in the store");
}

#[tokio::test]
async fn whoever_says_no_comes_back_with_a_code_and_no_text_of_the_network() {
    let world = https();
    let tenant = world.tenant("a@example.com").await;
    let body = json!({ "platform": "x", "return_to": "/done" });
    for (query, expected) in [
        ("error=access_denied&error_description=%3Cscript%3E", "access_denied"),
        ("error=server_error&error_description=marker", "network"),
        ("code=bad-code", "network"),
    ] {
        let away = away(&world, &tenant, body.clone()).await;
        let done = world.browse(&format!("/auth/callback/x?{query}&state={}", away.state), &away.cookies).await;
        assert_eq!(done.status, 303);
        assert_eq!(done.location().as_str(), format!("https://social.example/done?error={expected}"));
    }
    assert_eq!(accounts(&world, &tenant).await, 0);
}

#[tokio::test]
async fn browsers_get_a_page_and_programs_a_problem() {
    let world = World::new();
    let request = http::Request::builder()
        .uri("/auth/callback/x?error=%3Cb%3E&error_description=%3Cscript%3Ealert(1)%3C/script%3E")
        .header("accept", "text/html,*/*;q=0.8");
    let page = world.send(request.body(axum::body::Body::empty()).unwrap()).await;
    let text = String::from_utf8_lossy(&page.bytes);
    assert_eq!(page.status, 400);
    assert!(text.contains("<h1>Nothing was connected</h1>") && !text.contains("script"), "{text}");
}

#[tokio::test]
async fn foreign_places_to_return_to_are_refused() {
    let world = https();
    let tenant = world.tenant("a@example.com").await;
    for bad in [
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "https://app.example@evil.example/",
        "https://app.example.evil.example/",
        "https://evil.example/",
        "javascript:alert(1)",
        "http://app.example/",
        "https://xn--pp-6kc.example/",
        "",
    ] {
        let body = json!({ "platform": "x", "return_to": bad });
        let problem = world.post("/auth/links", &tenant.key, body).await.refused(422, "invalid");
        assert_eq!(problem["violations"][0]["field"], "return_to", "{bad:?}");
    }
    let unknown = world.post("/auth/links", &tenant.key, json!({ "platform": "chirp" })).await;
    assert_eq!(unknown.refused(422, "invalid")["violations"][0]["code"], "platform_unknown");
    let preset = json!({ "platform": "x", "preset": "everything" });
    let preset = world.post("/auth/links", &tenant.key, preset).await;
    assert_eq!(preset.refused(422, "invalid")["violations"][0]["code"], "preset_unknown");
}

#[tokio::test]
async fn tokens_are_nowhere_in_the_clear() {
    let world = World::new();
    let (tenant, _) = world.connected("a@example.com").await;
    let dump = world.store.dump();
    assert!(!dump.contains("fake-access") && !dump.contains("fake-refresh"), "tokens are in the store");
    for path in ["/accounts", "/connections", "/logs"] {
        let text = String::from_utf8(world.get(path, &tenant.key).await.bytes).unwrap();
        assert!(!text.contains("fake-access") && !text.contains("fake-refresh"), "{path}");
    }
}

#[tokio::test]
async fn disconnecting_one_account_keeps_the_grant_that_others_use() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    world.advance(3600);
    let refreshed = world.call("POST", &format!("/accounts/{}/refresh", accounts[0]), &tenant.key, None).await;
    assert_eq!(refreshed.expect(200)["status"], "active");
    assert_eq!(world.network.calls("refresh"), 1);
    let first = world.call("DELETE", &format!("/accounts/{}", accounts[0]), &tenant.key, None).await.expect(200);
    assert_eq!((first["erased"].as_bool(), first["revoked"].as_bool()), (Some(false), Some(false)));
    let left = world.get("/accounts", &tenant.key).await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    world.get(&format!("/accounts/{}", accounts[0]), &tenant.key).await.refused(404, "not_found");
    let last = world.call("DELETE", &format!("/accounts/{}", accounts[1]), &tenant.key, None).await.expect(200);
    assert_eq!((last["erased"].as_bool(), last["revoked"].as_bool()), (Some(true), Some(true)));
    let connections = world.get("/connections", &tenant.key).await.expect(200);
    assert_eq!(connections["items"], json!([]));
}
