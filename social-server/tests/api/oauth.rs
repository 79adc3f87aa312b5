//! The duties of an OAuth client, one test each: O1 to O9 of the table in docs/security.md. Where the network's own rules matter, the network
//! is the sandbox.

use std::{collections::BTreeSet, sync::Arc};

use axum::body::Body;
use http::{Request, header};
use serde_json::{Value, json};
use social_core::{Platform, descriptor::ScopePreset};
use social_platforms::Credentials;
use social_sandbox::{RunningSandbox, Sandbox};
use social_server::{Peer, config::ReturnUrls};
use social_testkit::fake::{FakeNetwork, FakePlatform};

use crate::world::{Tenant, World, path_of, query};

const CLIENT: (&str, &str) = ("sandbox-x-client", "sandbox-x-secret");

/// An installation in front of the sandbox's X.
struct AtSandbox {
    world: World,
    sandbox: RunningSandbox,
    web: reqwest::Client,
}

impl AtSandbox {
    async fn new() -> Self {
        let sandbox = Sandbox::new().seed(1).start().await.unwrap();
        let mut credentials = Credentials::new(CLIENT.0);
        credentials.client_secret = social_core::ClientSecret::parse(CLIENT.1);
        credentials.base_url = sandbox.base_url("x").parse().ok();
        let x = social_platforms::build("x", credentials).unwrap();
        let world = World::over(FakeNetwork::default(), vec![x], |_| {});
        let web = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { world, sandbox, web }
    }

    /// Goes to the network: the address there, and the cookies of the browser.
    async fn leave(&self, tenant: &Tenant) -> (url::Url, String) {
        let path = self.world.link(tenant, json!({ "platform": "x" })).await;
        let sent = self.world.browse(&path, "").await;
        assert_eq!(sent.status, 303, "{sent:?}");
        (sent.location(), sent.cookies())
    }

    /// Presses the button there: the way back.
    async fn agree(&self, mut at: url::Url) -> url::Url {
        at.query_pairs_mut().append_pair("auto", "approve");
        let answer = self.web.get(at).send().await.unwrap();
        answer.headers()["location"].to_str().unwrap().parse().unwrap()
    }

    /// What the network's token endpoint says to a code.
    async fn exchange(&self, back: &url::Url, verifier: Option<&str>) -> (u16, Value) {
        let (code, redirect) = (query(back, "code"), "http://127.0.0.1:8080/auth/callback/x");
        let mut form = vec![("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", redirect)];
        form.extend(verifier.map(|verifier| ("code_verifier", verifier)));
        let request = self.web.post(format!("{}/2/oauth2/token", self.sandbox.base_url("x")));
        let answer = request.basic_auth(CLIENT.0, Some(CLIENT.1)).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

async fn accounts(world: &World, tenant: &Tenant) -> usize {
    world.get("/accounts", &tenant.key).await.expect(200)["items"].as_array().unwrap().len()
}

/// Sent to the network, with the state and the cookies.
async fn away(world: &World, tenant: &Tenant, body: Value) -> (String, String) {
    let path = world.link(tenant, body).await;
    let sent = world.browse(&path, "").await;
    (query(&sent.location(), "state"), sent.cookies())
}

fn back(state: &str) -> String {
    format!("/auth/callback/x?code=good&state={state}")
}

#[tokio::test]
async fn o1_a_callback_counts_once_and_in_the_browser_that_began_it() {
    let world = World::new();
    let (tenant, victim) = (world.tenant("a@example.com").await, world.tenant("b@example.com").await);
    let x = json!({ "platform": "x" });
    // An attacker hands the address of a callback of their own to somebody else: with no cookie, and with the cookie of another attempt.
    for foreign in ["", "theirs"] {
        let (state, _) = away(&world, &tenant, x.clone()).await;
        let (_, theirs) = away(&world, &victim, x.clone()).await;
        let cookies = if foreign.is_empty() { String::new() } else { theirs };
        world.browse(&back(&state), &cookies).await.refused(400, "expired");
    }
    // Twice, at another network, too late, and made up.
    let (state, cookies) = away(&world, &tenant, x.clone()).await;
    assert_eq!(world.browse(&back(&state), &cookies).await.status, 200);
    world.browse(&back(&state), &cookies).await.refused(400, "expired");
    let (state, cookies) = away(&world, &tenant, x.clone()).await;
    world.browse(&back(&state).replace("/x?", "/linkedin?"), &cookies).await.refused(400, "expired");
    let (state, cookies) = away(&world, &tenant, x.clone()).await;
    world.advance(601);
    world.browse(&back(&state), &cookies).await.refused(400, "expired");
    world.browse(&back("made-up"), &cookies).await.refused(400, "expired");
    // Two at once: one wins.
    let (state, cookies) = away(&world, &tenant, x).await;
    let path = back(&state);
    let (a, b) = tokio::join!(world.browse(&path, &cookies), world.browse(&path, &cookies));
    assert_eq!(BTreeSet::from([a.status.as_u16(), b.status.as_u16()]), BTreeSet::from([200, 400]));
    assert_eq!((accounts(&world, &tenant).await, accounts(&world, &victim).await), (2, 0));
}

#[tokio::test]
async fn o2_a_code_is_worth_nothing_without_the_verifier_that_nobody_sees() {
    let at = AtSandbox::new().await;
    let tenant = at.world.tenant("a@example.com").await;
    let mut challenges = BTreeSet::new();
    for wrong in [None, Some("x".repeat(43))] {
        let (consent, _) = at.leave(&tenant).await;
        assert_eq!(query(&consent, "code_challenge_method"), "S256");
        let challenge = query(&consent, "code_challenge");
        assert_eq!(challenge.len(), 43, "{challenge}");
        assert!(challenges.insert(challenge), "a verifier for each attempt");
        // Somebody who stole the code on its way.
        let stolen = at.agree(consent).await;
        let (status, said) = at.exchange(&stolen, wrong.as_deref()).await;
        assert!((400..500).contains(&status), "{status} {said}");
    }
    let (consent, cookies) = at.leave(&tenant).await;
    let address = consent.to_string();
    let home = at.agree(consent).await;
    // What the address tells is the hash; the verifier is sealed and nowhere else.
    assert!(!address.contains("verifier") && !at.world.store.dump().contains("code_verifier"));
    assert_eq!(at.world.browse(&path_of(home.as_str()), &cookies).await.status, 200);
    assert!(accounts(&at.world, &tenant).await > 0);
    let tokens = at.sandbox.issued_secrets();
    let dump = at.world.store.dump();
    assert!(!tokens.is_empty() && tokens.iter().all(|token| !dump.contains(&token.value)), "a secret is in the clear");
}

#[tokio::test]
async fn o3_an_answer_of_another_server_is_not_believed() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let body = json!({ "platform": "x" });
    // The network's own name for itself is compared, and its code is not traded in elsewhere.
    for (issuer, good) in [
        ("https%3A%2F%2Ffake.example", true),
        ("https%3A%2F%2Ffake.example.evil.example", false),
        ("https%3A%2F%2Fevil.example", false),
        ("http%3A%2F%2Ffake.example", false),
        ("fake.example", false),
    ] {
        let (state, cookies) = away(&world, &tenant, body.clone()).await;
        let answer = world.browse(&format!("{}&iss={issuer}", back(&state)), &cookies).await;
        assert_eq!(answer.status == 200, good, "{issuer}: {answer:?}");
    }
    // Each network has a callback of its own, and the record says which.
    let mut callbacks = BTreeSet::new();
    for platform in ["x", "linkedin"] {
        let path = world.link(&tenant, json!({ "platform": platform })).await;
        let sent = world.browse(&path, "").await;
        callbacks.insert(query(&sent.location(), "redirect_uri"));
    }
    assert_eq!(callbacks.len(), 2);
}

#[tokio::test]
async fn o4_browsers_are_sent_only_where_the_operator_says() {
    let world = World::with(|config| {
        config.public_url = Some("https://social.example".parse().unwrap());
        config.return_urls = "https://app.example".parse::<ReturnUrls>().unwrap();
    });
    let tenant = world.tenant("a@example.com").await;
    for bad in [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "https:evil.example",
        "https://app.example@evil.example/",
        "https://app.example:pw@evil.example/",
        "https://app.example.evil.example/",
        "https://xn--pp-6kc.example/",
        "https://app.example:444/",
        "http://app.example/",
        "javascript:alert(1)",
        "data:text/html,x",
    ] {
        let body = json!({ "platform": "x", "return_to": bad });
        let problem = world.post("/auth/links", &tenant.key, body).await.refused(422, "invalid");
        assert_eq!(problem["violations"][0]["code"], "return_to_refused", "{bad:?}");
    }
    let body = json!({ "platform": "x", "return_to": "https://app.example/done" });
    let (state, cookies) = away(&world, &tenant, body).await;
    let done = world.browse(&back(&state), &cookies).await;
    assert_eq!(done.status, 303, "what follows a form is not repeated with it");
    assert_eq!(done.location().as_str(), "https://app.example/done?connected=x", "neither code nor state goes along");
    assert_eq!((done.header("referrer-policy"), done.header("cache-control")), (Some("no-referrer"), Some("no-store")));
}

#[tokio::test]
async fn o5_a_refresh_token_is_used_once_however_many_ask() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    world.advance(3600);
    let path = format!("/accounts/{}/refresh", accounts[0]);
    let asked = (0..16).map(|_| world.call("POST", &path, &tenant.key, None));
    for answer in futures_util::future::join_all(asked).await {
        answer.expect(200);
    }
    assert_eq!(world.network.calls("refresh"), 1, "the second use of a token would make the network end the grant");
}

#[tokio::test]
async fn o6_what_was_not_granted_is_shown_before_a_post_fails() {
    let network = FakeNetwork::default();
    let wide = |facts: &mut social_core::PlatformDescriptor| {
        let scopes = ["read", "write", "numbers"].map(Into::into).into();
        facts.oauth.presets.push(ScopePreset { name: "wide".into(), purpose: "More.".into(), scopes });
    };
    let x: Arc<dyn Platform> = Arc::new(FakePlatform::new("x", network.clone()).facts(wide));
    let world = World::over(network, vec![x], |_| {});
    let tenant = world.tenant("a@example.com").await;
    let (state, cookies) = away(&world, &tenant, json!({ "platform": "x", "preset": "wide" })).await;
    assert_eq!(world.browse(&back(&state), &cookies).await.status, 200);
    let connection = world.get("/connections", &tenant.key).await.expect(200)["items"][0].clone();
    assert_eq!(connection["status"], "limited");
    assert_eq!(
        connection["scopes"],
        json!({ "requested": ["read", "write", "numbers"], "granted": ["read", "write"], "missing": ["numbers"] })
    );
    let accounts = world.get("/accounts", &tenant.key).await.expect(200);
    assert!(accounts["items"].as_array().unwrap().iter().all(|account| account["status"] == "limited"), "{accounts}");
}

#[tokio::test]
async fn o7_no_network_is_told_of_a_resource_that_it_did_not_ask_for() {
    let at = AtSandbox::new().await;
    let tenant = at.world.tenant("a@example.com").await;
    let (consent, _) = at.leave(&tenant).await;
    let names: BTreeSet<_> = consent.query_pairs().map(|(name, _)| name.into_owned()).collect();
    let known =
        ["response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"];
    assert_eq!(names, known.map(str::to_owned).into(), "an address says what OAuth says and nothing more");
}

#[tokio::test]
async fn o8_addresses_come_from_the_configuration_and_never_from_a_request() {
    let world = World::with(|config| {
        config.public_url = Some("https://social.example".parse().unwrap());
        config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let tenant = world.tenant("a@example.com").await;
    for peer in ["192.0.2.1:1", "10.0.0.1:1"] {
        let lying = |method: &str, path: &str| {
            Request::builder()
                .method(method)
                .uri(path)
                .extension(Peer(peer.parse().unwrap()))
                .header(header::HOST, "evil.example")
                .header("x-forwarded-host", "evil.example")
                .header("x-forwarded-proto", "https")
                .header("forwarded", "host=evil.example;proto=https")
        };
        let link = lying("POST", "/auth/links")
            .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
            .header(header::CONTENT_TYPE, "application/json");
        let link = world.send(link.body(Body::from(json!({ "platform": "x" }).to_string())).unwrap()).await.expect(201);
        let url = link["url"].as_str().unwrap();
        assert!(url.starts_with("https://social.example/auth/connect/x?"), "{url}");
        let sent = world.send(lying("GET", &path_of(url)).body(Body::empty()).unwrap()).await;
        assert_eq!(query(&sent.location(), "redirect_uri"), "https://social.example/auth/callback/x", "{peer}");
    }
}

#[tokio::test]
async fn o9_what_a_network_says_is_neither_shown_nor_passed_on() {
    let world = World::with(|config| {
        config.public_url = Some("https://social.example".parse().unwrap());
    });
    let tenant = world.tenant("a@example.com").await;
    let evil = "%3Cscript%3Ealert(1)%3C/script%3Emarker";
    for error in ["access_denied", "server_error", evil] {
        for return_to in [Some("/done"), None] {
            let (state, cookies) = away(&world, &tenant, json!({ "platform": "x", "return_to": return_to })).await;
            let path = format!(
                "/auth/callback/x?error={error}&error_description={evil}&error_uri=https://evil.example/marker&state={state}"
            );
            let request =
                Request::builder().uri(path).header(header::COOKIE, cookies).header(header::ACCEPT, "text/html");
            let answer = world.send(request.body(Body::empty()).unwrap()).await;
            let text = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.bytes));
            assert!(!text.contains("marker") && !text.contains("<script") && !text.contains("evil.example"), "{text}");
            assert_eq!(answer.status == 303, return_to.is_some(), "{text}");
        }
    }
    assert_eq!(accounts(&world, &tenant).await, 0);
}
