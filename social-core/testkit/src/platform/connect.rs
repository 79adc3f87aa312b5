//! Connecting, refreshing, revoking, and what happens to posts when a token dies.

use std::{collections::HashSet, time::Duration};

use social_core::{
    Draft, Phase,
    descriptor::{Pkce, RefreshStyle},
    error::ErrorKind,
    platform::AuthorizeRequest,
    secret::OAuthState,
    social::Scheduler as _,
    store::TokenStore as _,
};

use crate::world::{CALLBACK, Harness, Shape, World, assert_published_once};

fn text(name: &'static str) -> Shape {
    Shape::one(name, Draft::text(format!("A post about {name}.")))
}

/// The address to send a person to has everything that the network and the protection against forgery need.
pub async fn an_authorization_address_is_complete<H: Harness>() {
    let world = World::<H>::start().await;
    let platform = world.net.platform();
    let facts = &platform.descriptor().oauth;
    let callback: url::Url = CALLBACK.parse().expect("a literal address");
    let mut challenges = HashSet::new();
    for preset in &facts.presets {
        let state = OAuthState::new("a-state-of-some-length-0123456789").expect("a usable state");
        let request = AuthorizeRequest::new(callback.clone(), state).preset(Some(preset.name.clone()));
        let answer =
            platform.connect().authorize(world.social.call_context(), &request).await.expect("an authorization");
        let pairs: std::collections::HashMap<_, _> = answer.url.query_pairs().into_owned().collect();
        assert_eq!(pairs.get("response_type").map(String::as_str), Some("code"));
        assert_eq!(pairs.get("state").map(String::as_str), Some("a-state-of-some-length-0123456789"));
        assert_eq!(pairs.get("redirect_uri").map(String::as_str), Some(CALLBACK));
        let scopes: Vec<_> = pairs.get("scope").expect("scopes").split([' ', ',']).map(str::to_owned).collect();
        assert_eq!(scopes, preset.scopes);
        assert_eq!(answer.pending.requested_scopes, preset.scopes);
        let with_challenge = pairs.contains_key("code_challenge");
        assert_eq!(
            with_challenge,
            facts.pkce == Pkce::S256,
            "a challenge is sent where the network checks it, and nowhere else"
        );
        if with_challenge {
            assert_eq!(pairs.get("code_challenge_method").map(String::as_str), Some("S256"));
            assert!(answer.pending.verifier.as_ref().is_some_and(|verifier| verifier.expose().len() >= 43));
            assert!(challenges.insert(pairs["code_challenge"].clone()), "a verifier is fresh each time");
        }
        assert!(!answer.url.as_str().contains("secret"), "the client's secret has no place in an address");
    }
    let request = AuthorizeRequest::new(callback, OAuthState::new("s".repeat(43)).expect("a usable state"))
        .preset(Some("no-such-preset".into()));
    let refused = platform
        .connect()
        .authorize(world.social.call_context(), &request)
        .await
        .expect_err("an unknown preset is refused");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

/// Connecting again gives the same accounts, active.
pub async fn connecting_twice_keeps_the_accounts<H: Harness>() {
    let mut world = World::<H>::start().await;
    let ids = |world: &World<H>| world.accounts.iter().map(|account| account.id).collect::<HashSet<_>>();
    let before = ids(&world);
    assert!(!before.is_empty());
    world.connect().await;
    assert_eq!(ids(&world), before);
}

/// Refreshed tokens work, and the network is asked once.
pub async fn a_refresh_brings_working_tokens<H: Harness>() {
    let world = World::<H>::start().await;
    if world.net.platform().descriptor().tokens.refresh == RefreshStyle::None {
        return;
    }
    let connection = world.accounts[0].connection;
    let stored = world.memory.get(connection).await.expect("memory does not fail").expect("it is there");
    if !stored.connection.refreshable {
        return;
    }
    // Tokens that were only just given are not replaced.
    world.pass(Duration::from_secs(120));
    world.social.refresh(world.user, connection).await.expect("a refresh");
    let after = world.memory.get(connection).await.expect("memory does not fail").expect("it is there");
    assert_eq!(after.connection.version, stored.connection.version.next());
    assert_ne!(after.tokens, stored.tokens);
    let shape = text("fresh tokens");
    let delivery = world.publish(&shape).await;
    assert_published_once(&world, &shape, &delivery, "after a refresh");
}

/// An access token that the network does not take any more is renewed where that is possible, and the post goes out once.
pub async fn an_expired_token_is_refreshed_and_the_post_goes_out<H: Harness>() {
    let mut world = World::<H>::start().await;
    let connection = world.accounts[0].connection;
    let stored = world.memory.get(connection).await.expect("memory does not fail").expect("it is there");
    world.pass(Duration::from_secs(120));
    world.net.expire_tokens();
    let shape = text("expired tokens");
    let post = world.schedule(&shape).await;
    let delivery = world.run_to_rest(&post).await.remove(0);
    if stored.connection.refreshable {
        assert_published_once(&world, &shape, &delivery, "after an expired token");
        assert_eq!(delivery.attempt, 1, "a refresh uses no attempt");
    } else {
        assert!(matches!(delivery.phase, Phase::AwaitingReconnect { .. }), "{delivery:?}");
        assert_eq!(delivery.attempt, 0, "waiting uses no attempt");
        world.connect().await;
        let delivery = world.run_to_rest(&post).await.remove(0);
        assert_published_once(&world, &shape, &delivery, "after connecting again");
    }
}

/// When a grant has ended, posts wait; they go out after connecting again, and are missed when that comes too late.
pub async fn an_ended_grant_waits_for_reconnecting_and_then_goes_out<H: Harness>() {
    let mut world = World::<H>::start().await;
    world.pass(Duration::from_secs(120));
    world.net.end_grants();
    let shape = text("an ended grant");
    let post = world.schedule(&shape).await;
    let delivery = world.run_to_rest(&post).await.remove(0);
    assert!(matches!(delivery.phase, Phase::AwaitingReconnect { .. }), "{delivery:?}");
    assert_eq!(delivery.attempt, 0, "waiting uses no attempt");
    assert!(world.net.visible().is_empty());
    world.connect().await;
    let delivery = world.run_to_rest(&post).await.remove(0);
    assert_published_once(&world, &shape, &delivery, "after connecting again");

    world.pass(Duration::from_secs(120));
    world.net.end_grants();
    let late = Shape::one("too late", Draft::text("This one is never connected again."));
    let post = world.schedule(&late).await;
    world.run_to_rest(&post).await;
    world.pass(Duration::from_secs(2 * 3600));
    world.round().await;
    let delivery = world.social.delivery(world.user, post.deliveries[0].id).await.expect("it is there");
    assert_eq!(delivery.phase, Phase::Missed, "{delivery:?}");
    assert_eq!(world.net.visible().len(), 1);
}

/// Disconnecting revokes the grant and erases it; doing it again says that there is nothing.
pub async fn a_revoked_grant_is_gone_and_revoking_again_is_fine<H: Harness>() {
    let world = World::<H>::start().await;
    let connection = world.accounts[0].connection;
    let tokens = world.social.keeper().tokens(connection, None).await.expect("tokens");
    let outcome = world.social.revoke(world.user, connection).await.expect("erasing works whatever the network says");
    assert!(outcome.erased);
    let platform = world.net.platform();
    if platform.descriptor().oauth.revoke_url.is_some() {
        assert!(outcome.revoked);
        platform
            .connect()
            .revoke(world.social.call_context(), &tokens)
            .await
            .expect("a grant that is gone already is a success");
        let refused =
            platform.connect().accounts(world.social.call_context(), &tokens).await.expect_err("the token is dead");
        assert_eq!(refused.kind(), ErrorKind::Reconnect);
    }
    assert!(world.memory.get(connection).await.expect("memory does not fail").is_none());
    assert_eq!(world.social.revoke(world.user, connection).await.expect_err("it is gone").kind(), ErrorKind::NotFound);
}
