use serde_json::json;
use social_core::{AccountKind, Connect, Effect, ErrorKind, Platform};
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
