use std::collections::BTreeMap;

use serde_json::json;
use social_core::{
    AccountKind, AuthCode, Authorization, AuthorizeRequest, Connect, Effect, ErrorKind, Platform, secret::OAuthState,
};
use social_x::X;
use wiremock::ResponseTemplate;

use crate::support::{World, answer, header};

#[tokio::test]
async fn the_account_is_who_the_grant_belongs_to() {
    let world = World::new().await;
    let me = json!({"data": {
        "id": "2244994945", "name": "Shop by the sea", "username": "shop",
        "profile_image_url": "https://pbs.twimg.com/profile_images/1/abc_normal.jpg",
        "verified": true, "verified_type": "blue", "subscription_type": "Premium", "protected": true,
        "public_metrics": {"followers_count": 1}
    }});
    world.mount("GET", "/2/users/me", answer(200, me)).await;
    let accounts = world.x.accounts(&world.call, &world.tokens).await.unwrap();
    assert_eq!(accounts.len(), 1);
    let account = &accounts[0];
    assert_eq!(
        (account.remote_id.as_str(), account.kind, account.handle.as_deref()),
        ("2244994945", AccountKind::Profile, Some("shop"))
    );
    assert_eq!(account.display_name, "Shop by the sea");
    assert_eq!(account.avatar_url.as_deref(), Some("https://pbs.twimg.com/profile_images/1/abc_400x400.jpg"));
    let attributes: Vec<(&str, &str)> =
        account.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(attributes, [("protected", "true"), ("subscription_type", "Premium"), ("verified_type", "blue")]);
    let request = &world.requests().await[0];
    assert_eq!(header(request, "authorization"), "Bearer access-1");
}

#[tokio::test]
async fn a_refused_token_asks_for_reconnecting() {
    let world = World::new().await;
    world
        .mount(
            "GET",
            "/2/users/me",
            answer(401, json!({"title": "Unauthorized", "type": "about:blank", "status": 401})),
        )
        .await;
    let error = world.x.accounts(&world.call, &world.tokens).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Reconnect, Effect::None));
    let world = World::new().await;
    world.mount("GET", "/2/users/me", ResponseTemplate::new(200).set_body_string("{}")).await;
    assert_eq!(world.x.accounts(&world.call, &world.tokens).await.unwrap_err().kind(), ErrorKind::Unexpected);
}

/// Fields of a form.
fn form(request: &wiremock::Request) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(&request.body).into_owned().collect()
}

/// Base64 of `client-1:secret-1`.
const BASIC: &str = "Basic Y2xpZW50LTE6c2VjcmV0LTE=";

async fn begin(world: &World) -> Authorization {
    let state = OAuthState::new("state-1").unwrap();
    let request = AuthorizeRequest::new("https://app.example.com/auth/callback/x".parse().unwrap(), state);
    world.x.authorize(&world.call, &request).await.unwrap()
}

#[tokio::test]
async fn a_person_is_sent_to_x_with_a_challenge() {
    let world = World::new().await;
    let begun = begin(&world).await;
    assert_eq!(begun.url.path(), "/i/oauth2/authorize");
    assert!(
        begun
            .url
            .query()
            .unwrap()
            .contains("scope=tweet.read%20tweet.write%20users.read%20media.write%20offline.access")
    );
    let query: BTreeMap<String, String> = begun.url.query_pairs().into_owned().collect();
    let names: Vec<&str> = query.keys().map(String::as_str).collect();
    let expected =
        ["client_id", "code_challenge", "code_challenge_method", "redirect_uri", "response_type", "scope", "state"];
    assert_eq!(names, expected);
    assert_eq!(query["client_id"], "client-1");
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["redirect_uri"], "https://app.example.com/auth/callback/x");
    assert!(begun.pending.verifier.is_some());
}

#[tokio::test]
async fn a_code_is_exchanged_with_basic_authentication() {
    let world = World::new().await;
    let tokens = json!({"token_type": "bearer", "expires_in": 7200, "access_token": "access-2", "refresh_token": "refresh-2",
        "scope": "tweet.read tweet.write users.read offline.access"});
    world.mount("POST", "/2/oauth2/token", answer(200, tokens)).await;
    let pending = begin(&world).await.pending;
    let tokens = world.x.exchange(&world.call, AuthCode::new("code-1").unwrap(), &pending).await.unwrap();
    assert!(tokens.access.same("access-2") && tokens.refresh.as_ref().is_some_and(|token| token.same("refresh-2")));
    assert_eq!(tokens.expires_at, Some("2026-11-22T12:00:00Z".parse().unwrap()));
    assert_eq!(tokens.scopes, ["tweet.read", "tweet.write", "users.read", "offline.access"]);
    let requests = world.requests().await;
    assert_eq!((requests.len(), header(&requests[0], "authorization")), (1, BASIC));
    let sent = form(&requests[0]);
    assert_eq!(
        sent.keys().map(String::as_str).collect::<Vec<_>>(),
        ["code", "code_verifier", "grant_type", "redirect_uri"]
    );
    assert_eq!((sent["grant_type"].as_str(), sent["code"].as_str()), ("authorization_code", "code-1"));
    assert!(pending.verifier.unwrap().same(&sent["code_verifier"]));
}

#[tokio::test]
async fn a_refresh_uses_the_token_once_whatever_comes_back() {
    let refused = |error: &str, description: &str| json!({"error": error, "error_description": description});
    let cases = [
        (answer(400, refused("invalid_request", "Value passed for the token was invalid.")), ErrorKind::Reconnect),
        (answer(400, refused("invalid_grant", "")), ErrorKind::Reconnect),
        (answer(401, refused("unauthorized_client", "Missing valid authorization header")), ErrorKind::Config),
        (ResponseTemplate::new(503), ErrorKind::Unavailable),
        (ResponseTemplate::new(429), ErrorKind::RateLimited),
    ];
    for (reply, kind) in cases {
        let world = World::new().await;
        world.mount("POST", "/2/oauth2/token", reply).await;
        assert_eq!(world.x.refresh(&world.call, &world.tokens).await.unwrap_err().kind(), kind);
        assert_eq!(world.requests().await.len(), 1);
    }
    let world = World::new().await;
    let tokens =
        json!({"token_type": "bearer", "expires_in": 7200, "access_token": "access-2", "refresh_token": "refresh-2"});
    world.mount("POST", "/2/oauth2/token", answer(200, tokens)).await;
    let tokens = world.x.refresh(&world.call, &world.tokens).await.unwrap();
    assert!(tokens.access.same("access-2") && tokens.refresh.unwrap().same("refresh-2"));
    let request = &world.requests().await[0];
    assert_eq!(header(request, "authorization"), BASIC);
    let expected = [("grant_type", "refresh_token"), ("refresh_token", "refresh-1")];
    assert_eq!(form(request), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[tokio::test]
async fn a_used_code_is_refused_and_not_a_matter_of_the_grant() {
    let world = World::new().await;
    let body = json!({"error": "invalid_request", "error_description": "Value passed for the authorization code was invalid."});
    world.mount("POST", "/2/oauth2/token", answer(400, body)).await;
    let pending = begin(&world).await.pending;
    let error = world.x.exchange(&world.call, AuthCode::new("code-1").unwrap(), &pending).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Rejected, Effect::None));
}

#[tokio::test]
async fn revoking_ends_both_tokens_and_does_not_mind_dead_ones() {
    let dead = json!({"error": "invalid_request", "error_description": "Value passed for the token was invalid."});
    for reply in [answer(200, json!({"revoked": true})), answer(400, dead)] {
        let world = World::new().await;
        world.mount("POST", "/2/oauth2/revoke", reply).await;
        world.x.revoke(&world.call, &world.tokens).await.unwrap();
        let tokens: Vec<String> = world.requests().await.iter().map(|request| form(request)["token"].clone()).collect();
        assert_eq!(tokens, ["refresh-1", "access-1"]);
    }
    let world = World::new().await;
    world.mount("POST", "/2/oauth2/revoke", ResponseTemplate::new(503)).await;
    assert_eq!(world.x.revoke(&world.call, &world.tokens).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn the_live_hosts_are_two_and_a_base_replaces_both() {
    let live = X::builder("id", "secret").build().unwrap();
    assert_eq!(live.descriptor().oauth.authorize_url, "https://x.com/i/oauth2/authorize");
    assert_eq!(live.descriptor().oauth.token_url, "https://api.x.com/2/oauth2/token");
    let local = X::builder("id", "secret").base_url("http://127.0.0.1:1/x/".parse().unwrap()).build().unwrap();
    let oauth = &local.descriptor().oauth;
    assert_eq!(oauth.authorize_url, "http://127.0.0.1:1/x/i/oauth2/authorize");
    assert_eq!(oauth.token_url, "http://127.0.0.1:1/x/2/oauth2/token");
    assert_eq!(oauth.revoke_url.as_deref(), Some("http://127.0.0.1:1/x/2/oauth2/revoke"));
}

#[test]
fn a_builder_refuses_what_cannot_work_and_shows_no_secret() {
    assert_eq!(X::builder("", "secret").build().unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(X::builder("id", " ").build().unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(
        X::builder("id", "s").base_url("data:text/plain,x".parse().unwrap()).build().unwrap_err().kind(),
        ErrorKind::Config
    );
    let builder = X::builder("id", "marker-7f3");
    assert!(!format!("{builder:?}").contains("marker-7f3"));
    assert!(!format!("{:?}", builder.build().unwrap()).contains("marker-7f3"));
}
