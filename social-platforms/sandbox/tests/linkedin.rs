//! LinkedIn, seen by an ordinary third-party client.

#![expect(clippy::unwrap_used, reason = "the helpers belong to tests")]

mod support;

use oauth2::{AuthorizationCode, CsrfToken, RefreshToken, Scope, TokenResponse};
use reqwest::Method;
use serde_json::{Value, json};
use social_sandbox::GrantRequest;
use std::time::Duration;
use support::{World, answer, mp4, png, transport};

type Tokens = oauth2::basic::BasicTokenResponse;

const MEMBER: &[&str] = &["openid", "profile", "w_member_social"];
const PAGE: &[&str] = &[
    "openid",
    "profile",
    "w_member_social",
    "w_organization_social",
    "r_organization_social",
    "rw_organization_admin",
];

async fn code(world: &World, app: &str, persona: &str, scopes: &[&str]) -> String {
    let (url, _) = world
        .linkedin_client(app)
        .authorize_url(CsrfToken::new_random)
        .add_scopes(scopes.iter().map(|scope| Scope::new((*scope).to_owned())))
        .url();
    world.consent(url.as_str(), &format!("auto=approve&persona={persona}")).await["code"].clone()
}

async fn exchange(world: &World, app: &str, code: &str) -> Result<Tokens, String> {
    world
        .linkedin_client(app)
        .exchange_code(AuthorizationCode::new(code.to_owned()))
        .request_async(&transport)
        .await
        .map_err(|error| format!("{error:?}"))
}

async fn login(world: &World, app: &str, persona: &str, scopes: &[&str]) -> Tokens {
    exchange(world, app, &code(world, app, persona, scopes).await).await.unwrap()
}

fn post(author: &str, commentary: &str) -> Value {
    json!({
        "author": author,
        "commentary": commentary,
        "visibility": "PUBLIC",
        "distribution": { "feedDistribution": "MAIN_FEED", "targetEntities": [], "thirdPartyDistributionChannels": [] },
        "lifecycleState": "PUBLISHED",
        "isReshareDisabledByAuthor": false
    })
}

fn with_content(author: &str, commentary: &str, content: Value) -> Value {
    let mut body = post(author, commentary);
    body["content"] = content;
    body
}

async fn me(world: &World, token: &str) -> String {
    let (status, body) = answer(world.http.get(world.linkedin("/v2/userinfo")).bearer_auth(token)).await;
    assert_eq!(status, 200, "{body}");
    format!("urn:li:person:{}", body["sub"].as_str().unwrap())
}

/// Status, `x-restli-id` and body of a create.
async fn create(world: &World, token: &str, body: &Value) -> (u16, String, Value) {
    let reply = world.rest(Method::POST, token, "/rest/posts").json(body).send().await.unwrap();
    let status = reply.status().as_u16();
    let id = reply.headers().get("x-restli-id").map(|id| id.to_str().unwrap().to_owned()).unwrap_or_default();
    let text = reply.text().await.unwrap();
    (status, id, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
}

fn encoded(urn: &str) -> String {
    urn.replace(':', "%3A").replace('(', "%28").replace(')', "%29").replace(',', "%2C")
}

const ORGANIZATION: &str = "urn:li:organization:2414183";

#[tokio::test]
async fn a_member_logs_in_posts_and_deletes() {
    let world = World::new().await;
    let tokens = login(&world, "linkedin", "ada", MEMBER).await;
    assert_eq!(tokens.expires_in(), Some(Duration::from_secs(60 * 86_400)));
    assert!(tokens.refresh_token().is_none(), "an ordinary app has none");
    let token = tokens.access_token().secret();
    let author = me(&world, token).await;
    let (status, urn, body) = create(&world, token, &post(&author, "Hello \\(again\\) #rust")).await;
    assert_eq!((status, body), (201, Value::Null));
    assert!(urn.starts_with("urn:li:share:"), "{urn}");
    let entry = &world.control().ledger()[0];
    assert_eq!((&*entry.account, &*entry.id, &*entry.text), (&*author, &*urn, "Hello (again) #rust"));
    let page = world.http.get(world.linkedin(&format!("/feed/update/{urn}/"))).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("Hello (again)"));

    let path = format!("/rest/posts/{}", encoded(&urn));
    let (status, body) = answer(world.rest(Method::GET, token, &path)).await;
    assert_eq!((status, &body["code"]), (403, &json!("ACCESS_DENIED")), "members cannot read their posts");
    for _ in 0..2 {
        assert_eq!(answer(world.rest(Method::DELETE, token, &path)).await, (204, Value::Null), "idempotent");
    }
    assert!(world.control().ledger()[0].deleted_at.is_some());
}

#[tokio::test]
async fn a_code_is_bound_and_used_once() {
    let world = World::new().await;
    let code = code(&world, "linkedin", "ada", MEMBER).await;
    exchange(&world, "linkedin", &code).await.unwrap();
    let again = exchange(&world, "linkedin", &code).await.unwrap_err();
    assert!(again.contains("authorization code not found"), "{again}");

    let late = self::code(&world, "linkedin", "ada", MEMBER).await;
    world.advance(Duration::from_secs(1_800));
    assert!(exchange(&world, "linkedin", &late).await.unwrap_err().contains("invalid_redirect_uri"));

    let stolen = self::code(&world, "linkedin", "ada", MEMBER).await;
    assert!(exchange(&world, "linkedin-partner", &stolen).await.unwrap_err().contains("does not match"));

    let form = [("grant_type", "authorization_code"), ("code", "x"), ("redirect_uri", support::CALLBACK)];
    let request = world.http.post(world.linkedin("/oauth/v2/accessToken"));
    let basic = request.basic_auth("sandbox-linkedin-client", Some("sandbox-linkedin-secret")).form(&form);
    let (status, body) = answer(basic).await;
    let expected =
        json!({ "error": "invalid_request", "error_description": "A required parameter \"client_id\" is missing" });
    assert_eq!((status, body), (400, expected), "credentials belong in the body");
    let wrong = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "x"),
        ("client_id", "sandbox-linkedin-client"),
        ("client_secret", "no"),
    ];
    let (status, body) = answer(world.http.post(world.linkedin("/oauth/v2/accessToken")).form(&wrong)).await;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_client")));
}

#[tokio::test]
async fn refusals_of_consent_reach_the_callback_or_the_page() {
    let world = World::new().await;
    let url = |app: &str, scope: &str, redirect: &str| {
        let query = [
            ("response_type", "code"),
            ("client_id", app),
            ("redirect_uri", redirect),
            ("state", "s1"),
            ("scope", scope),
        ];
        url::Url::parse_with_params(&world.linkedin("/oauth/v2/authorization"), &query).unwrap().to_string()
    };
    let app = "sandbox-linkedin-selfserve-client";
    let denied = world.consent(&url(app, "openid profile", support::CALLBACK), "auto=deny").await;
    assert_eq!((denied["error"].as_str(), denied["state"].as_str()), ("user_cancelled_authorize", "s1"));
    let refused = world.consent(&url(app, "openid w_organization_social", support::CALLBACK), "auto=approve").await;
    assert_eq!(refused["error"], "unauthorized_scope_error");
    assert_eq!(refused["error_description"], "Scope \"w_organization_social\" is not authorized for your application");
    for bad in [url("nobody", "openid", support::CALLBACK), url(app, "openid", "https://evil.example/")] {
        assert_eq!(world.http.get(format!("{bad}&auto=approve")).send().await.unwrap().status(), 401);
    }
}

#[tokio::test]
async fn another_scope_set_ends_the_older_tokens_of_that_member() {
    let world = World::new().await;
    let first = login(&world, "linkedin", "ada", MEMBER).await;
    let second = login(&world, "linkedin", "ada", MEMBER).await;
    let other = login(&world, "linkedin", "grace", MEMBER).await;
    for tokens in [&first, &second] {
        me(&world, tokens.access_token().secret()).await;
    }
    let page = login(&world, "linkedin", "ada", PAGE).await;
    me(&world, page.access_token().secret()).await;
    me(&world, other.access_token().secret()).await;
    for tokens in [&first, &second] {
        let request = world.http.get(world.linkedin("/v2/userinfo")).bearer_auth(tokens.access_token().secret());
        let (status, body) = answer(request).await;
        assert_eq!((status, &body["code"]), (401, &json!("REVOKED_ACCESS_TOKEN")));
        assert_eq!(body["serviceErrorCode"], 65_601);
    }
}

#[tokio::test]
async fn partner_apps_refresh_without_rotation_and_within_the_first_year() {
    let world = World::new().await;
    let tokens = login(&world, "linkedin-partner", "ada", MEMBER).await;
    let refresh: RefreshToken = tokens.refresh_token().unwrap().clone();
    let again = || async {
        let client = world.linkedin_client("linkedin-partner");
        client.exchange_refresh_token(&refresh).request_async(&transport).await
    };
    world.advance(Duration::from_secs(59 * 86_400));
    for _ in 0..2 {
        let renewed = again().await.unwrap();
        assert_eq!(renewed.refresh_token().unwrap().secret(), refresh.secret(), "the same string");
        me(&world, renewed.access_token().secret()).await;
    }
    world.advance(Duration::from_secs(301 * 86_400));
    assert_eq!(again().await.unwrap().expires_in(), Some(Duration::from_secs(5 * 86_400)));
    world.advance(Duration::from_secs(5 * 86_400));
    let ended = format!("{:?}", again().await.unwrap_err());
    assert!(ended.contains("invalid, expired or revoked"), "{ended}");
}

#[tokio::test]
async fn tokens_are_introspected_expire_and_are_revoked() {
    let world = World::new().await;
    let tokens = login(&world, "linkedin", "ada", MEMBER).await;
    let token = tokens.access_token().secret();
    let form = [
        ("client_id", "sandbox-linkedin-client"),
        ("client_secret", "sandbox-linkedin-secret"),
        ("token", token.as_str()),
    ];
    let introspect = || answer(world.http.post(world.linkedin("/oauth/v2/introspectToken")).form(&form));
    let (_, seen) = introspect().await;
    assert_eq!((&seen["active"], &seen["status"]), (&json!(true), &json!("active")));
    assert_eq!(seen["scope"], "openid,profile,w_member_social");
    world.advance(Duration::from_secs(60 * 86_400));
    assert_eq!(introspect().await.1["status"], "expired");
    let (status, body) = answer(world.http.get(world.linkedin("/v2/userinfo")).bearer_auth(token)).await;
    let expected = json!({
        "status": 401,
        "serviceErrorCode": 65602,
        "code": "EXPIRED_ACCESS_TOKEN",
        "message": "The token used in the request has expired"
    });
    assert_eq!((status, body), (401, expected));
    assert_eq!(answer(world.http.post(world.linkedin("/oauth/v2/revoke")).form(&form)).await.0, 200);
    assert_eq!(introspect().await.1["status"], "revoked");
    let (status, body) = answer(world.http.get(world.linkedin("/v2/userinfo"))).await;
    assert_eq!((status, &body["message"]), (401, &json!("Empty oauth2_access_token")));
    let (_, body) = answer(world.http.get(world.linkedin("/v2/userinfo")).bearer_auth("nonsense")).await;
    assert_eq!(body["code"], "INVALID_ACCESS_TOKEN");
}

#[tokio::test]
async fn every_rest_call_needs_an_active_version_and_the_protocol() {
    let world = World::new().await;
    let token = world.token("linkedin", "ada");
    let call = |version: Option<&'static str>, protocol: Option<&'static str>| {
        let mut request = world.http.get(world.linkedin("/rest/organizationAcls?q=roleAssignee")).bearer_auth(&token);
        if let Some(version) = version {
            request = request.header("LinkedIn-Version", version);
        }
        if let Some(protocol) = protocol {
            request = request.header("X-Restli-Protocol-Version", protocol);
        }
        answer(request)
    };
    assert_eq!(call(None, Some("2.0.0")).await.1["code"], "VERSION_MISSING");
    let (status, body) = call(Some("202510"), Some("2.0.0")).await;
    assert_eq!((status, &body["code"]), (426, &json!("NONEXISTENT_VERSION")));
    assert_eq!(body["message"], "Requested version 20251001 is not active");
    assert_eq!(call(Some("202609"), None).await.0, 400);
    assert_eq!(call(Some("202609"), Some("2.0.0")).await.0, 200);
    world.control().set(|settings| settings.linkedin_active_versions = vec!["202701".to_owned()]);
    assert_eq!(call(Some("202609"), Some("2.0.0")).await.0, 426);
}

#[tokio::test]
async fn a_page_is_found_posted_to_and_read_by_who_administers_it() {
    let world = World::new().await;
    let tokens = login(&world, "linkedin", "ada", PAGE).await;
    let token = tokens.access_token().secret();
    let acls = "/rest/organizationAcls?q=roleAssignee&role=ADMINISTRATOR&state=APPROVED&start=0&count=100";
    let (_, body) = answer(world.rest(Method::GET, token, acls)).await;
    assert_eq!(body["elements"][0]["organization"], ORGANIZATION);
    assert_eq!(body["elements"][0]["roleAssignee"], me(&world, token).await);
    let (_, organization) = answer(world.rest(Method::GET, token, "/rest/organizations/2414183")).await;
    assert_eq!(organization["localizedName"], "Analytical Engines");

    let (status, urn, _) = create(&world, token, &post(ORGANIZATION, "From the page #launch")).await;
    assert_eq!(status, 201);
    assert_eq!(&*world.control().ledger()[0].account, ORGANIZATION);
    let (_, read) =
        answer(world.rest(Method::GET, token, &format!("/rest/posts/{}?viewContext=AUTHOR", encoded(&urn)))).await;
    assert_eq!(read["commentary"], "From the page {hashtag|\\#|launch}");
    let finder = format!("/rest/posts?q=author&author={}&count=10&sortBy=CREATED", encoded(ORGANIZATION));
    let (_, found) = answer(world.rest(Method::GET, token, &finder).header("X-RestLi-Method", "FINDER")).await;
    assert_eq!(found["elements"][0]["id"], json!(urn));
    let batch = format!("/rest/posts?ids=List({},urn%3Ali%3Ashare%3A1)", encoded(&urn));
    let (_, found) = answer(world.rest(Method::GET, token, &batch).header("X-RestLi-Method", "BATCH_GET")).await;
    assert_eq!(found["results"][&urn]["author"], ORGANIZATION);
    assert_eq!(found["errors"]["urn:li:share:1"]["status"], 404);

    let statistics = format!(
        "/rest/organizationalEntityShareStatistics?q=organizationalEntity&organizationalEntity={}&shares=List({},urn%3Ali%3Ashare%3A1)",
        encoded(ORGANIZATION),
        encoded(&urn)
    );
    let (status, numbers) = answer(world.rest(Method::GET, token, &statistics)).await;
    assert_eq!((status, numbers["elements"].as_array().unwrap().len()), (200, 1), "{numbers}");
    assert!(numbers["elements"][0]["totalShareStatistics"]["impressionCount"].is_u64());
    let size = format!("/rest/networkSizes/{}?edgeType=COMPANY_FOLLOWED_BY_MEMBER", encoded(ORGANIZATION));
    assert!(answer(world.rest(Method::GET, token, &size)).await.1["firstDegreeSize"].is_u64());

    let refusal = "Organization permissions must be used when using organization as author";
    for (persona, scopes) in [("linus", PAGE), ("margaret", PAGE), ("grace", MEMBER)] {
        let tokens = login(&world, "linkedin", persona, scopes).await;
        let (status, _, body) = create(&world, tokens.access_token().secret(), &post(ORGANIZATION, "mine")).await;
        assert_eq!((status, &body["message"]), (400, &json!(refusal)), "{persona}");
    }
    let content_admin = login(&world, "linkedin", "grace", PAGE).await;
    assert_eq!(create(&world, content_admin.access_token().secret(), &post(ORGANIZATION, "mine")).await.0, 201);
    let linus = login(&world, "linkedin", "linus", PAGE).await;
    let (_, none) = answer(world.rest(Method::GET, linus.access_token().secret(), acls)).await;
    assert_eq!(none["elements"], json!([]));
}

#[tokio::test]
async fn an_unescaped_reserved_character_cuts_the_text_off_silently() {
    let world = World::new().await;
    let token = world.token("linkedin", "ada");
    let author = me(&world, &token).await;
    assert_eq!(create(&world, &token, &post(&author, "Prices (today) are low")).await.0, 201);
    let entry = &world.control().ledger()[0];
    assert_eq!(&*entry.text, "Prices ");
    assert_eq!(entry.details.as_ref().unwrap()["truncated"], true);
}

#[tokio::test]
async fn a_post_is_validated_with_the_networks_codes() {
    let world = World::new().await;
    let token = world.token("linkedin", "ada");
    let author = me(&world, &token).await;
    let change = |name: &str, value: Value| {
        let mut body = post(&author, "text");
        body[name] = value;
        body
    };
    let poll = |question: &str, options: &[&str], duration: &str| {
        let options: Vec<Value> = options.iter().map(|text| json!({ "text": text })).collect();
        json!({ "poll": { "question": question, "options": options, "settings": { "duration": duration } } })
    };
    let long = "x".repeat(31);
    let cases = [
        (change("commentary", json!("a".repeat(3_001))), "FIELD_LENGTH_TOO_LONG"),
        (change("commentary", json!("  ")), "INVALID_VALUE_BLANK_FIELD"),
        (change("visibility", json!("EVERYONE")), "INVALID_VALUE_FOR_FIELD"),
        (change("lifecycleState", json!("DRAFT")), "INVALID_VALUE_FOR_FIELD"),
        (change("surprise", json!(1)), "FIELD_NOT_ALLOWED"),
        (change("author", json!("urn:li:group:1")), "INVALID_URN_TYPE"),
        (change("author", json!("ada")), "INVALID_URN_ID"),
        (change("distribution", json!({ "feedDistribution": "NONE" })), "INVALID_VALUE_FOR_FIELD"),
        (change("content", json!({ "media": { "id": "urn:li:image:nothing" } })), "INVALID_URN_ID"),
        (change("content", json!({ "media": { "id": "urn:li:video:nothing" } })), "INVALID_VIDEO_ID"),
        (change("content", json!({ "media": { "id": "urn:li:share:1" } })), "INVALID_URN_TYPE"),
        (change("content", json!({ "article": { "source": "https://example.com" } })), "MISSING_FIELD"),
        (
            change("content", json!({ "article": { "source": "https://example.com", "title": "t".repeat(401) } })),
            "FIELD_LENGTH_TOO_LONG",
        ),
        (change("content", poll("q?", &["only"], "ONE_DAY")), "INVALID_VALUE_FOR_FIELD"),
        (change("content", poll("q?", &["a", &long], "ONE_DAY")), "FIELD_LENGTH_TOO_LONG"),
        (change("content", poll("q?", &["a", "b"], "ONE_YEAR")), "INVALID_VALUE_FOR_FIELD"),
        (change("reshareContext", json!({ "parent": "urn:li:share:1" })), "INVALID_URN_ID"),
    ];
    for (body, code) in cases {
        let (status, _, reply) = create(&world, &token, &body).await;
        assert_eq!((status, &reply["code"]), (400, &json!(code)), "{body}: {reply}");
        assert_eq!(reply["status"], 400);
    }
    let mut missing = post(&author, "text");
    missing.as_object_mut().unwrap().remove("visibility");
    assert_eq!(create(&world, &token, &missing).await.2["code"], "MISSING_FIELD");
    let (status, _, body) = create(&world, &token, &post("urn:li:person:someoneElse", "hi")).await;
    assert_eq!((status, &body["message"]), (403, &json!("Not enough permissions to access: posts.CREATE")));
    assert!(world.control().ledger().is_empty());

    assert_eq!(create(&world, &token, &post(&author, &"a".repeat(3_000))).await.0, 201);
    assert_eq!(create(&world, &token, &change("content", poll("q?", &["a", "b"], "ONE_DAY"))).await.0, 201);
    let article = json!({ "article": { "source": "https://example.com", "title": "A title" } });
    let (status, urn, _) = create(&world, &token, &change("content", article)).await;
    assert_eq!(status, 201);
    let mut reshare = post(&author, "");
    reshare["reshareContext"] = json!({ "parent": urn });
    assert_eq!(create(&world, &token, &reshare).await.0, 201);
    assert_eq!(&*world.control().ledger()[3].kind, "reshare");
}

#[tokio::test]
async fn the_identical_post_is_refused_for_ten_minutes_and_names_the_first() {
    let world = World::with(|settings| settings.linkedin_duplicate_lag_ms = 5_000).await;
    let token = world.token("linkedin", "ada");
    let author = me(&world, &token).await;
    let (_, first, _) = create(&world, &token, &post(&author, "same")).await;
    world.advance(Duration::from_secs(6));
    let (status, _, body) = create(&world, &token, &post(&author, "same")).await;
    assert_eq!(status, 422);
    assert_eq!(body["message"], format!("Content is a duplicate of {first}"));
    assert_eq!(create(&world, &token, &post(&author, "other")).await.0, 201);
    world.advance(Duration::from_secs(600));
    assert_eq!(create(&world, &token, &post(&author, "same")).await.0, 201, "the window is over");
    assert_eq!(create(&world, &token, &post(&author, "same")).await.0, 201, "the check lags");
    assert_eq!(world.control().ledger().len(), 4);
}

async fn initialize(world: &World, token: &str, kind: &str, request: Value) -> Value {
    let path = format!("/rest/{kind}?action=initializeUpload");
    let body = json!({ "initializeUploadRequest": request });
    let (status, reply) = answer(world.rest(Method::POST, token, &path).json(&body)).await;
    assert_eq!(status, 200, "{reply}");
    reply["value"].clone()
}

#[tokio::test]
async fn an_image_is_uploaded_with_the_token_and_posted_when_it_is_processed() {
    let world = World::with(|settings| settings.processing_ms = 3_000).await;
    let tokens = login(&world, "linkedin", "ada", PAGE).await;
    let token = tokens.access_token().secret();
    let author = me(&world, token).await;
    let value = initialize(&world, token, "images", json!({ "owner": author })).await;
    let (image, place) = (value["image"].as_str().unwrap(), value["uploadUrl"].as_str().unwrap());
    assert!(place.starts_with(&world.sandbox.url()));
    let body = with_content(&author, "picture", json!({ "media": { "id": image, "altText": "a lighthouse" } }));
    assert_eq!(create(&world, token, &body).await.2["code"], "MEDIA_ASSET_WAITING_UPLOAD");
    let put = || world.http.put(place).body(png(640, 480));
    assert_eq!(answer(put()).await.0, 401, "without a token");
    assert_eq!(answer(put().bearer_auth(token)).await, (201, Value::Null));
    let (status, body2) = answer(world.rest(Method::GET, token, &format!("/rest/images/{}", encoded(image)))).await;
    assert_eq!(status, 403, "members cannot ask: {body2}");
    let (status, _, refused) = create(&world, token, &body).await;
    assert_eq!(status, 400);
    assert!(refused["message"].as_str().unwrap().contains("is still processing"));
    world.advance(Duration::from_secs(3));
    assert_eq!(create(&world, token, &body).await.0, 201);
    assert_eq!(world.control().ledger()[0].media[0].alt_text.as_deref(), Some("a lighthouse"));

    let stolen = with_content(ORGANIZATION, "picture", json!({ "media": { "id": image } }));
    assert_eq!(create(&world, token, &stolen).await.2["code"], "INVALID_VALUE_FOR_FIELD", "not the owner");
    let mut pair = Vec::new();
    for _ in 0..2 {
        let value = initialize(&world, token, "images", json!({ "owner": ORGANIZATION })).await;
        let put = world.http.put(value["uploadUrl"].as_str().unwrap()).bearer_auth(token).body(png(10, 10));
        assert_eq!(answer(put).await.0, 201);
        pair.push(value["image"].clone());
    }
    let status = |urn: &Value| {
        let path = format!("/rest/images/{}", encoded(urn.as_str().unwrap()));
        answer(world.rest(Method::GET, token, &path))
    };
    assert_eq!(status(&pair[0]).await.1["status"], "PROCESSING");
    world.advance(Duration::from_secs(3));
    assert_eq!(status(&pair[0]).await.1["status"], "AVAILABLE");
    let several = |ids: &[&Value]| {
        let images: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        with_content(ORGANIZATION, "pictures", json!({ "multiImage": { "images": images } }))
    };
    assert_eq!(create(&world, token, &several(&[&pair[0]])).await.0, 400);
    let (status, urn, _) = create(&world, token, &several(&[&pair[0], &pair[1]])).await;
    assert_eq!(status, 201);
    assert!(urn.starts_with("urn:li:ugcPost:"));

    let value = initialize(&world, token, "images", json!({ "owner": author })).await;
    let put = world.http.put(value["uploadUrl"].as_str().unwrap()).bearer_auth(token).body("<html>");
    assert_eq!(answer(put).await.0, 201);
    world.advance(Duration::from_secs(3));
    let body = with_content(&author, "broken", json!({ "media": { "id": value["image"] } }));
    assert_eq!(create(&world, token, &body).await.2["code"], "MEDIA_ASSET_PROCESSING_FAILED");
    let late = initialize(&world, token, "images", json!({ "owner": author })).await;
    world.advance(Duration::from_secs(86_400));
    let put = world.http.put(late["uploadUrl"].as_str().unwrap()).bearer_auth(token).body(png(1, 1));
    assert_eq!(answer(put).await.1["code"], "EXPIRED_UPLOAD_URL");
}

#[tokio::test]
async fn a_video_goes_up_in_parts_without_a_token_and_is_finalized_in_order() {
    let world = World::with(|settings| settings.processing_ms = 5_000).await;
    let token = world.token_with("linkedin", "ada", "openid profile w_member_social");
    let author = me(&world, &token).await;
    let video = mp4(9_000_000, 10);
    let value = initialize(&world, &token, "videos", json!({ "owner": author, "fileSizeBytes": video.len() })).await;
    let urn = value["video"].as_str().unwrap();
    let parts = value["uploadInstructions"].as_array().unwrap();
    assert_eq!(parts.len(), 3);
    assert_eq!((&parts[1]["firstByte"], &parts[2]["lastByte"]), (&json!(4_194_304), &json!(8_999_999)));
    let finalize = |ids: &[String]| {
        let body = json!({ "finalizeUploadRequest": { "video": urn, "uploadToken": "", "uploadedPartIds": ids } });
        answer(world.rest(Method::POST, &token, "/rest/videos?action=finalizeUpload").json(&body))
    };
    assert_eq!(finalize(&[]).await.1["code"], "MEDIA_ASSET_WAITING_UPLOAD");
    let mut etags = Vec::new();
    for part in parts {
        let at = |name: &str| part[name].as_u64().unwrap() as usize;
        let slice = video[at("firstByte")..=at("lastByte")].to_vec();
        let place = part["uploadUrl"].as_str().unwrap();
        let put = || world.http.put(place).body(slice.clone());
        assert_eq!(put().bearer_auth(&token).send().await.unwrap().status(), 403, "no credentials here");
        let reply = put().send().await.unwrap();
        assert_eq!(reply.status(), 200);
        etags.push(reply.headers()["etag"].to_str().unwrap().to_owned());
    }
    let mut wrong = etags.clone();
    wrong.swap(0, 2);
    assert_eq!(finalize(&wrong).await.1["code"], "UPDATING_ASSET_FAILED");
    assert_eq!(finalize(&etags).await, (200, Value::Null));
    let status = || async {
        answer(world.rest(Method::GET, &token, &format!("/rest/videos/{}", encoded(urn)))).await.1["status"].clone()
    };
    assert_eq!(status().await, "PROCESSING");
    world.advance(Duration::from_secs(5));
    assert_eq!(status().await, "AVAILABLE");
    let body = with_content(&author, "film", json!({ "media": { "id": urn, "title": "Ten seconds" } }));
    assert_eq!(create(&world, &token, &body).await.0, 201);
    let media = &world.control().ledger()[0].media[0];
    assert_eq!((media.bytes, media.title.as_deref()), (video.len() as u64, Some("Ten seconds")));
    assert!(media.sha256.is_some());
}

#[tokio::test]
async fn a_document_needs_a_title() {
    let world = World::with(|settings| settings.processing_ms = 0).await;
    let token = world.token("linkedin", "ada");
    let author = me(&world, &token).await;
    let value = initialize(&world, &token, "documents", json!({ "owner": author })).await;
    let put = world.http.put(value["uploadUrl"].as_str().unwrap()).bearer_auth(&token).body("%PDF-1.7 pages");
    assert_eq!(answer(put).await.0, 201);
    let body = |media: Value| with_content(&author, "slides", json!({ "media": media }));
    let untitled = create(&world, &token, &body(json!({ "id": value["document"] }))).await;
    assert_eq!(untitled.2["code"], "MISSING_FIELD");
    assert_eq!(create(&world, &token, &body(json!({ "id": value["document"], "title": "Slides" }))).await.0, 201);
    assert_eq!(world.control().ledger()[0].media[0].kind, "document");
}

#[tokio::test]
async fn comments_are_plain_text_and_answer_with_header_and_body() {
    let world = World::new().await;
    let token = world.token("linkedin", "ada");
    let author = me(&world, &token).await;
    let (_, urn, _) = create(&world, &token, &post(&author, "post")).await;
    let path = format!("/rest/socialActions/{}/comments", encoded(&urn));
    let comment = |text: &str| json!({ "actor": author, "object": urn, "message": { "text": text } });
    let reply = world.rest(Method::POST, &token, &path).json(&comment("first (really)")).send().await.unwrap();
    assert_eq!(reply.status(), 201);
    let id = reply.headers()["x-restli-id"].to_str().unwrap().to_owned();
    let body: Value = reply.json().await.unwrap();
    assert_eq!(body["id"], json!(id));
    let comment_urn = body["commentUrn"].as_str().unwrap().to_owned();
    assert!(comment_urn.starts_with("urn:li:comment:(urn:li:activity:"));
    let nested = format!("/rest/socialActions/{}/comments", encoded(&comment_urn));
    assert_eq!(answer(world.rest(Method::POST, &token, &nested).json(&comment("second"))).await.0, 201);
    let long = answer(world.rest(Method::POST, &token, &path).json(&comment(&"a".repeat(1_251)))).await;
    assert_eq!(long.1["code"], "FIELD_LENGTH_TOO_LONG");
    let ledger = world.control().ledger();
    assert_eq!((&*ledger[1].kind, &*ledger[1].text), ("comment", "first (really)"));
    assert_eq!(ledger[1].in_reply_to.as_deref(), Some(urn.as_str()));
    assert_eq!(ledger[2].in_reply_to.as_deref(), Some(comment_urn.as_str()));
    let (_, list) = answer(world.rest(Method::GET, &token, &path)).await;
    assert_eq!(list["paging"]["total"], 1);
    let (_, counts) = answer(world.rest(Method::GET, &token, &format!("/rest/socialActions/{}", encoded(&urn)))).await;
    assert_eq!(counts["commentsSummary"]["totalFirstLevelComments"], 1);
    assert_eq!(answer(world.rest(Method::DELETE, &token, &format!("{path}/{id}"))).await.0, 204);
    assert!(world.control().ledger()[1].deleted_at.is_some());
    let unknown = "/rest/socialActions/urn%3Ali%3Ashare%3A1/comments";
    assert_eq!(answer(world.rest(Method::POST, &token, unknown).json(&comment("x"))).await.0, 404);
}

#[tokio::test]
async fn an_update_changes_the_text_of_the_same_post() {
    let world = World::new().await;
    let token = world.token("linkedin", "ada");
    let author = me(&world, &token).await;
    let (_, urn, _) = create(&world, &token, &post(&author, "befor")).await;
    let path = format!("/rest/posts/{}", encoded(&urn));
    let patch = json!({ "patch": { "$set": { "commentary": "before" } } });
    let request = || world.rest(Method::POST, &token, &path);
    assert_eq!(answer(request().json(&patch)).await.0, 400, "without the method header");
    assert_eq!(answer(request().header("X-RestLi-Method", "PARTIAL_UPDATE").json(&patch)).await.0, 204);
    let fixed = json!({ "patch": { "$set": { "visibility": "PUBLIC" } } });
    let refused = answer(request().header("X-RestLi-Method", "PARTIAL_UPDATE").json(&fixed)).await;
    assert_eq!(refused.1["code"], "FIELD_NOT_ALLOWED");
    let ledger = world.control().ledger();
    assert_eq!((ledger.len(), &*ledger[0].text), (1, "before"));
    assert_eq!(ledger[0].details.as_ref().unwrap()["earlier_texts"][0]["text"], "befor");
}

#[tokio::test]
async fn member_numbers_are_for_partners_and_follow_the_version() {
    let world = World::new().await;
    let request = GrantRequest {
        client_id: Some("sandbox-linkedin-partner-client".to_owned()),
        ..GrantRequest::new("linkedin", "ada")
    };
    let token = world.control().grant(&request).unwrap().access_token;
    let author = me(&world, &token).await;
    let (_, urn, _) = create(&world, &token, &post(&author, "numbers")).await;
    let path = format!(
        "/rest/memberCreatorPostAnalytics?q=entity&entity=(share:{})&queryType=IMPRESSION&aggregation=TOTAL",
        encoded(&urn)
    );
    let (status, new) = answer(world.rest(Method::GET, &token, &path)).await;
    assert_eq!((status, &new["elements"][0]["metricType"]), (200, &json!("IMPRESSION")));
    let old = world.http.get(world.linkedin(&path)).bearer_auth(&token).header("X-Restli-Protocol-Version", "2.0.0");
    let (_, old) = answer(old.header("LinkedIn-Version", "202604")).await;
    assert!(old["elements"][0]["metricType"].is_object());
    let ordinary = world.token("linkedin", "ada");
    assert_eq!(answer(world.rest(Method::GET, &ordinary, &path)).await.0, 403);
    let read = format!("/rest/posts/{}", encoded(&urn));
    assert_eq!(answer(world.rest(Method::GET, &token, &read)).await.0, 200, "r_member_social");
}

#[tokio::test]
async fn daily_limits_name_their_counter_and_send_no_headers() {
    let world = World::with(|settings| {
        settings.linkedin_member_posts_per_day = 2;
        settings.linkedin_app_posts_per_day = 3;
    })
    .await;
    let (ada, grace) = (world.token("linkedin", "ada"), world.token("linkedin", "grace"));
    let (ada_urn, grace_urn) = (me(&world, &ada).await, me(&world, &grace).await);
    for text in ["1", "2"] {
        assert_eq!(create(&world, &ada, &post(&ada_urn, text)).await.0, 201);
    }
    let reply = world.rest(Method::POST, &ada, "/rest/posts").json(&post(&ada_urn, "3")).send().await.unwrap();
    assert_eq!(reply.status(), 429);
    assert!(!reply.headers().keys().any(|name| name.as_str().contains("limit") || name == "retry-after"));
    let body: Value = reply.json().await.unwrap();
    assert_eq!(body["message"], "Resource level throttle MEMBER DAY limit for calls to this resource is reached.");
    assert_eq!(body["serviceErrorCode"], 101);
    assert_eq!(create(&world, &grace, &post(&grace_urn, "1")).await.0, 201);
    let (_, _, body) = create(&world, &grace, &post(&grace_urn, "2")).await;
    assert_eq!(body["message"], "Resource level throttle APPLICATION DAY limit for calls to this resource is reached.");
    world.advance(Duration::from_secs(12 * 3_600));
    assert_eq!(create(&world, &grace, &post(&grace_urn, "2")).await.0, 201, "a new UTC day");
    world.control().set(|settings| settings.linkedin_burst_per_minute = 0);
    let (_, _, body) = create(&world, &grace, &post(&grace_urn, "3")).await;
    assert_eq!(body["message"], "Resource level throttle limit for calls to this resource is reached.");
}
