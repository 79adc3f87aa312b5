use serde_json::{Value, json};
use social_core::{
    Checkpoint, Committed, Draft, Effect, Error, ErrorKind, Link, Publish, RemotePost, Retry, media::MediaKind,
    rate::RateScope,
};
use social_x::X;
use wiremock::ResponseTemplate;

use crate::support::{World, answer, header};

async fn commit(world: &World, draft: &Draft, at: Checkpoint) -> Result<Committed, Error> {
    world.x.commit(&world.cx(draft), at).await
}

fn published(committed: Committed) -> RemotePost {
    match committed {
        Committed::Published(post) => post,
        other => panic!("{other:?}"),
    }
}

/// Publishes part by part, as the driver does. Gives what is out in the end.
async fn publish(world: &mut World, draft: &Draft) -> RemotePost {
    let mut from = None;
    loop {
        let ready = world.prepare_from(draft, from.take()).await.unwrap().pop().unwrap();
        match commit(world, draft, ready).await.unwrap() {
            Committed::Published(post) => return post,
            Committed::Next { at, part } => {
                world.parts.push(part);
                from = Some(at);
            }
            Committed::Settling { .. } => panic!("X does not settle"),
        }
    }
}

#[tokio::test]
async fn a_text_needs_one_call_and_no_preparation() {
    let world = World::new().await;
    world.posts_go_well().await;
    let draft = Draft::text("Hello 👋");
    let ready = world.ready(&draft).await;
    assert!(world.requests().await.is_empty(), "a text is ready without a call");
    let post = published(commit(&world, &draft, ready).await.unwrap());
    assert_eq!(post, RemotePost::new("1001", format!("{}/shop/status/1001", world.server.uri())));
    let requests = world.requests().await;
    assert_eq!(requests.len(), 1);
    assert_eq!(header(&requests[0], "authorization"), "Bearer access-1");
    assert_eq!(header(&requests[0], "content-type"), "application/json");
    assert_eq!(requests[0].body_json::<Value>().unwrap(), json!({"text": "Hello 👋"}));
}

#[tokio::test]
async fn a_link_is_written_behind_the_text() {
    let mut world = World::new().await;
    world.posts_go_well().await;
    let link = Link { url: "https://shop.example.com/a".into(), title: None, description: None, thumbnail: None };
    publish(&mut world, &Draft::text("Look").link(link)).await;
    assert_eq!(world.posts().await, [json!({"text": "Look\nhttps://shop.example.com/a"})]);
}

#[tokio::test]
async fn options_go_with_the_first_part_and_the_disclosure_with_each() {
    let mut world = World::built(|builder| builder.allow_quotes()).await;
    world.posts_go_well().await;
    let all = json!({"reply_settings": "mentionedUsers", "quote_tweet_id": "5", "community_id": "6", "made_with_ai": true, "paid_partnership": true});
    publish(&mut world, &Draft::text("a").then("b").option(X::ID, all)).await;
    world.parts.clear();
    let poll = json!({"poll": {"options": ["Tea", "Coffee"], "duration_minutes": 60}});
    publish(&mut world, &Draft::text("c").option(X::ID, poll)).await;
    let expected = [
        json!({"text": "a", "reply_settings": "mentionedUsers", "quote_tweet_id": "5", "community_id": "6", "made_with_ai": true, "paid_partnership": true}),
        json!({"text": "b", "reply": {"in_reply_to_tweet_id": "1001"}, "paid_partnership": true}),
        json!({"text": "c", "poll": {"options": ["Tea", "Coffee"], "duration_minutes": 60}}),
    ];
    assert_eq!(world.posts().await, expected);
}

#[tokio::test]
async fn a_thread_answers_itself_and_ends_with_the_first_comment() {
    let mut world = World::new().await;
    world.all_goes_well().await;
    let picture = world.file(MediaKind::Image, "image/png", vec![1, 2, 3], None).await;
    let draft = Draft::text("one").attach(picture).then("two").then("three").first_comment("by the way");
    let post = publish(&mut world, &draft).await;
    assert_eq!(post.id.unwrap().as_str(), "1004");
    let ids: Vec<&str> = world.parts.iter().map(|part| part.id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["1001", "1002", "1003"]);
    let reply = |text: &str, to: &str| json!({"text": text, "reply": {"in_reply_to_tweet_id": to}});
    let expected = [
        json!({"text": "one", "media": {"media_ids": ["2001"]}}),
        reply("two", "1001"),
        reply("three", "1002"),
        reply("by the way", "1003"),
    ];
    assert_eq!(world.posts().await, expected);
}

#[tokio::test]
async fn a_thread_goes_on_behind_what_is_out_even_if_the_checkpoint_is_lost() {
    let mut world = World::new().await;
    world.posts_go_well().await;
    world.parts = vec![RemotePost::new("7", "a"), RemotePost::new("8", "b")];
    let draft = Draft::text("one").then("two").then("three");
    let unreadable = Checkpoint::write(99, &json!({"part": 0}));
    let at_part_one = Checkpoint::write(1, &json!({"part": 1, "previous": "7"}));
    for from in [None, Some(unreadable), Some(at_part_one.clone())] {
        let ready = world.prepare_from(&draft, from).await.unwrap().pop().unwrap();
        published(commit(&world, &draft, ready).await.unwrap());
    }
    assert!(
        world
            .posts()
            .await
            .iter()
            .all(|post| *post == json!({"text": "three", "reply": {"in_reply_to_tweet_id": "8"}}))
    );
    // A commit from a checkpoint that is behind what is out would publish a part twice.
    let before = world.requests().await.len();
    let error = commit(&world, &draft, at_part_one).await.unwrap_err();
    assert_eq!(
        (error.effect(), error.retry_hint(), world.requests().await.len()),
        (Effect::None, Retry::Backoff, before)
    );
}

#[tokio::test]
async fn nothing_is_sent_when_every_part_is_out() {
    let mut world = World::new().await;
    world.parts = vec![RemotePost::new("7", "a")];
    let error = world.prepare_from(&Draft::text("one"), None).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Invalid, Effect::None));
}

#[tokio::test]
async fn a_ready_checkpoint_is_ready_again() {
    let world = World::new().await;
    world.all_goes_well().await;
    let picture = world.file(MediaKind::Image, "image/png", vec![1], Some("a lighthouse")).await;
    let draft = Draft::text("a").attach(picture);
    let ready = world.ready(&draft).await;
    let calls = world.requests().await.len();
    let again = world.prepare_from(&draft, Some(ready.clone())).await.unwrap();
    assert_eq!((again, world.requests().await.len()), (vec![ready], calls));
}

#[tokio::test]
async fn a_success_that_names_no_post_is_ambiguous() {
    for body in ["", "{}", "<html>", r#"{"data":{}}"#, r#"{"data":{"id":""}}"#, r#"{"errors":[{"title":"x"}]}"#] {
        let world = World::new().await;
        world.mount("POST", "/2/tweets", ResponseTemplate::new(201).set_body_string(body)).await;
        let draft = Draft::text("a");
        let error = commit(&world, &draft, world.ready(&draft).await).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unexpected, Effect::Unknown), "{body}");
    }
}

#[tokio::test]
async fn a_success_with_reservations_is_a_success() {
    let world = World::new().await;
    let body = json!({"data": {"id": "5", "text": "a", "edit_history_post_ids": ["5"]}, "errors": [{"title": "Field Hydration Failure"}]});
    world.mount("POST", "/2/tweets", answer(201, body)).await;
    let draft = Draft::text("a");
    assert_eq!(published(commit(&world, &draft, world.ready(&draft).await).await.unwrap()).id.unwrap().as_str(), "5");
}

#[tokio::test]
async fn refusals_prove_that_nothing_became_public_and_outages_do_not() {
    let forbidden = |detail: &str| {
        answer(403, json!({"title": "Forbidden", "detail": detail, "type": "about:blank", "status": 403}))
    };
    let cases = [
        (answer(401, json!({"title": "Unauthorized", "status": 401})), ErrorKind::Reconnect, Effect::None),
        (answer(402, json!({"title": "CreditsDepleted"})), ErrorKind::Billing, Effect::None),
        (
            forbidden("You are not allowed to create a Tweet with duplicate content."),
            ErrorKind::Duplicate,
            Effect::None,
        ),
        (ResponseTemplate::new(429), ErrorKind::RateLimited, Effect::None),
        (ResponseTemplate::new(403).set_body_string("<html>"), ErrorKind::Unexpected, Effect::Unknown),
        (ResponseTemplate::new(302).insert_header("location", "/2/tweets"), ErrorKind::Unexpected, Effect::Unknown),
        (ResponseTemplate::new(500), ErrorKind::Unavailable, Effect::Unknown),
        (ResponseTemplate::new(503), ErrorKind::Unavailable, Effect::Unknown),
    ];
    for (reply, kind, effect) in cases {
        let world = World::new().await;
        world.mount("POST", "/2/tweets", reply).await;
        let draft = Draft::text("a");
        let error = commit(&world, &draft, world.ready(&draft).await).await.unwrap_err();
        assert_eq!((error.kind(), error.effect(), error.operation().as_str()), (kind, effect, "publish.commit"));
        assert_eq!(world.requests().await.len(), 1, "the visible call is made once");
    }
}

#[tokio::test]
async fn what_an_answer_says_about_limits_is_passed_on() {
    let world = World::new().await;
    let reply = answer(201, json!({"data": {"id": "5", "text": "a"}}))
        .insert_header("x-rate-limit-limit", "100")
        .insert_header("x-rate-limit-remaining", "7")
        .insert_header("x-rate-limit-reset", "1795342440")
        .insert_header("x-app-limit-24hour-remaining", "9");
    world.mount("POST", "/2/tweets", reply).await;
    let draft = Draft::text("a");
    let cx = world.cx(&draft);
    let _ = world.x.commit(&cx, world.ready(&draft).await).await.unwrap();
    let seen = cx.take_observed();
    let seen: Vec<_> =
        seen.iter().map(|seen| (seen.operation.as_str(), seen.scope, seen.observation.remaining)).collect();
    assert_eq!(seen, [("publish", RateScope::Account, Some(7)), ("publish", RateScope::App, Some(9))]);
}

#[tokio::test]
async fn a_duplicate_after_a_doubt_is_evidence_and_no_end() {
    let world = World::new().await;
    let body = json!({"title": "Forbidden", "detail": "You are not allowed to create a Tweet with duplicate content.", "status": 403});
    world.mount("POST", "/2/tweets", answer(403, body)).await;
    let draft = Draft::text("a");
    let doubted = json!({"part": 0, "doubt": {"since": "2026-11-22T09:50:00Z", "attempt": "2026-11-22T09:50:00Z", "absent_at": "2026-11-22T09:51:00Z"}});
    let error = commit(&world, &draft, Checkpoint::write(1, &doubted)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Duplicate, Effect::Unknown));
}

#[tokio::test]
async fn a_grant_that_is_too_small_is_not_tried() {
    let mut world = World::new().await;
    world.tokens.scopes = vec!["tweet.read".into(), "users.read".into()];
    let error = world.prepare_from(&Draft::text("a"), None).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_hint()), (ErrorKind::Permission, Retry::AfterReconnect));
    world.tokens.scopes.push("tweet.write".into());
    world.ready(&Draft::text("a")).await;
    let picture = world.file(MediaKind::Image, "image/png", vec![1], None).await;
    let error = world.prepare_from(&Draft::text("a").attach(picture), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "media.write is missing");
    assert!(world.requests().await.is_empty());
}

#[tokio::test]
async fn options_of_another_shape_stop_before_anything_is_sent() {
    let world = World::new().await;
    let draft = Draft::text("a").option(X::ID, json!({"reply_setting": "following"}));
    let error = world.prepare_from(&draft, None).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Invalid, Effect::None));
}

#[tokio::test]
async fn x_does_not_settle() {
    let world = World::new().await;
    let draft = Draft::text("a");
    let error = world.x.settle(&world.cx(&draft), world.ready(&draft).await).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unsupported, Effect::None));
}
