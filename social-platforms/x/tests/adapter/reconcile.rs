use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};
use social_core::{Checkpoint, Draft, Effect, ErrorKind, Publish, Reconciled, RemotePost, time::Clock};
use social_x::{Vocabulary, X};
use wiremock::{Mock, ResponseTemplate, matchers};

use crate::support::{World, answer};

const TIMELINE: &str = "/2/users/42/tweets";

async fn ask(world: &World, draft: &Draft, at: Checkpoint) -> Reconciled {
    world.x.reconcile(&world.cx(draft), at).await.unwrap()
}

/// A world in which a commit of the draft was lost `ago` seconds ago and the timeline shows `posts`.
async fn lost(draft: &Draft, ago: u64, posts: Value) -> (World, Checkpoint) {
    let world = World::new().await;
    let ready = world.ready(draft).await;
    world.advance(ago);
    let count = posts.as_array().map_or(0, Vec::len);
    world.mount("GET", TIMELINE, answer(200, json!({"data": posts, "meta": {"result_count": count}}))).await;
    (world, ready)
}

fn found(reconciled: Reconciled) -> String {
    match reconciled {
        Reconciled::Published(post) => post.id.unwrap().as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn post(id: &str, text: &str) -> Value {
    json!({"id": id, "text": text, "conversation_id": id, "created_at": "2026-11-22T10:00:01.000Z"})
}

#[tokio::test]
async fn a_commit_that_landed_is_found_by_what_it_says() {
    let draft = Draft::text("Look at shop.example.com");
    let url = json!({"url": "https://t.co/aaaaaaaaaa", "expanded_url": "http://shop.example.com"});
    let ours = json!({"id": "90", "text": "Look at https://t.co/aaaaaaaaaa", "conversation_id": "90",
        "created_at": "2026-11-22T10:00:01.000Z", "entities": {"urls": [url]}});
    let (world, ready) = lost(&draft, 31, json!([post("91", "Something else"), ours])).await;
    let reconciled = ask(&world, &draft, ready).await;
    assert_eq!(found(reconciled), "90");
    let requests = world.requests().await;
    assert_eq!(requests.len(), 1, "only one reading, nothing is sent");
    let query: Vec<(String, String)> = requests[0].url.query_pairs().into_owned().collect();
    let expected = [
        ("max_results", "100"),
        ("start_time", "2026-11-22T09:58:00Z"),
        ("tweet.fields", "created_at,entities,attachments,referenced_tweets,conversation_id,note_tweet"),
    ];
    assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn a_part_that_landed_is_followed_by_the_next() {
    let draft = Draft::text("one").then("two");
    let (world, ready) = lost(&draft, 31, json!([post("90", "one")])).await;
    match ask(&world, &draft, ready).await {
        Reconciled::Next { at, part } => {
            assert_eq!(part, RemotePost::new("90", format!("{}/shop/status/90", world.server.uri())));
            world.posts_go_well().await;
            let ready = world.prepare_from(&draft, Some(at)).await.unwrap().pop().unwrap();
            let _ = world.x.commit(&world.cx(&draft), ready).await.unwrap();
            assert_eq!(world.posts().await, [json!({"text": "two", "reply": {"in_reply_to_tweet_id": "90"}})]);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_last_part_is_found_by_its_parent() {
    let draft = Draft::text("same").then("same");
    let answer_to = |id: &str, parent: &str| {
        json!({"id": id, "text": "same", "conversation_id": "7", "created_at": "2026-11-22T10:00:02Z",
            "referenced_tweets": [{"type": "replied_to", "id": parent}]})
    };
    let (mut world, _) =
        lost(&draft, 31, json!([answer_to("11", "99"), answer_to("10", "7"), post("7", "same")])).await;
    world.parts = vec![RemotePost::new("7", "a")];
    let second = world.ready(&draft).await;
    assert_eq!(found(ask(&world, &draft, second).await), "10");
}

#[tokio::test]
async fn absence_is_believed_after_two_readings_five_minutes_apart() {
    let draft = Draft::text("Hello");
    let (world, mut at) = lost(&draft, 5, json!([post("91", "Something else")])).await;
    let mut waits = Vec::new();
    let end = loop {
        match ask(&world, &draft, at).await {
            Reconciled::AskAgain { at: next, after } => {
                waits.push(after.as_secs());
                world.clock.advance(after);
                at = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
            }
            end => break end,
        }
    };
    assert!(matches!(end, Reconciled::NotPublished), "{end:?}");
    assert_eq!(waits, [25, 300]);
    assert_eq!(world.clock.now(), "2026-11-22T10:05:30Z".parse().unwrap());
}

#[tokio::test]
async fn a_second_lost_commit_of_the_same_part_goes_to_a_person() {
    let draft = Draft::text("Hello");
    let (mut world, ready) = lost(&draft, 400, json!([])).await;
    let mut at = ready;
    for _ in 0..2 {
        if let Reconciled::AskAgain { at: next, after } = ask(&world, &draft, at.clone()).await {
            world.clock.advance(after);
            at = next;
        }
    }
    // It was sent again, and that answer was lost as well.
    world.attempted_at = world.clock.now();
    world.advance(60);
    let mut end = ask(&world, &draft, at).await;
    while let Reconciled::AskAgain { at: next, after } = end {
        world.clock.advance(after);
        end = ask(&world, &draft, next).await;
    }
    assert!(matches!(end, Reconciled::CannotTell), "{end:?}");
    let last = world.requests().await.pop().unwrap();
    let start = last.url.query_pairs().find(|(name, _)| name == "start_time").unwrap().1.into_owned();
    assert_eq!(start, "2026-11-22T09:58:00Z", "it looks back to the first attempt");
}

#[tokio::test]
async fn what_is_nearly_the_same_keeps_absence_from_being_claimed() {
    let draft = Draft::text("See shop.example.com");
    let other_link = post("91", "See https://t.co/aaaaaaaaaa");
    let (world, ready) = lost(&draft, 31, json!([other_link])).await;
    let Reconciled::AskAgain { at, after } = ask(&world, &draft, ready).await else { panic!("too early") };
    world.clock.advance(after);
    let end = ask(&world, &draft, at).await;
    assert!(matches!(end, Reconciled::CannotTell), "{end:?}");
}

#[tokio::test]
async fn posts_that_belong_to_others_or_are_too_old_are_not_adopted() {
    let draft = Draft::text("Hello");
    let old = json!({"id": "80", "text": "Hello", "conversation_id": "80", "created_at": "2026-11-22T09:57:59Z"});
    // No time is told, but the id holds one: 2021.
    let old_by_id = json!({"id": "1445880548472328192", "text": "Hello"});
    let (mut world, ready) = lost(&draft, 31, json!([post("90", "Hello"), old, old_by_id])).await;
    world.taken = HashSet::from(["90".to_owned()]);
    let reconciled = ask(&world, &draft, ready).await;
    assert!(matches!(reconciled, Reconciled::AskAgain { .. }), "{reconciled:?}");
}

#[tokio::test]
async fn the_timeline_is_read_to_its_end() {
    let draft = Draft::text("Hello");
    let (world, ready) = (World::new().await, Checkpoint::write(1, &json!({"part": 0})));
    world.advance(31);
    let page = |token: Option<&str>, reply: Value| {
        let mock = Mock::given(matchers::method("GET")).and(matchers::path(TIMELINE));
        let mock = match token {
            Some(token) => mock.and(matchers::query_param("pagination_token", token)),
            None => mock.and(matchers::query_param_is_missing("pagination_token")),
        };
        mock.respond_with(answer(200, reply)).mount(&world.server)
    };
    page(None, json!({"data": [post("91", "a")], "meta": {"next_token": "t2"}})).await;
    page(Some("t2"), json!({"data": [post("90", "Hello")], "meta": {}})).await;
    assert_eq!(found(ask(&world, &draft, ready).await), "90");
}

#[tokio::test]
async fn an_incomplete_timeline_proves_nothing() {
    let draft = Draft::text("Hello");
    let endless = json!({"data": [post("91", "a")], "meta": {"next_token": "more"}});
    let partial = json!({"data": [post("91", "a")], "errors": [{"title": "Field Hydration Failure"}]});
    for body in [endless, partial] {
        let world = World::new().await;
        world.mount("GET", TIMELINE, answer(200, body)).await;
        world.advance(400);
        let mut at = world.ready(&draft).await;
        for _ in 0..9 {
            match ask(&world, &draft, at).await {
                Reconciled::AskAgain { at: next, after } => {
                    assert_eq!(after, Duration::from_secs(60));
                    world.clock.advance(after);
                    at = next;
                }
                other => panic!("{other:?}"),
            }
        }
        let end = ask(&world, &draft, at).await;
        assert!(matches!(end, Reconciled::CannotTell), "{end:?}");
    }
}

#[tokio::test]
async fn reading_errors_are_errors_and_not_answers() {
    let draft = Draft::text("Hello");
    let cases = [
        (ResponseTemplate::new(503), ErrorKind::Unavailable),
        (ResponseTemplate::new(429), ErrorKind::RateLimited),
        (answer(401, json!({"title": "Unauthorized"})), ErrorKind::Reconnect),
        (ResponseTemplate::new(200).set_body_string("<html>"), ErrorKind::Unexpected),
    ];
    for (reply, kind) in cases {
        let world = World::new().await;
        world.mount("GET", TIMELINE, reply).await;
        let error = world.x.reconcile(&world.cx(&draft), world.ready(&draft).await).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, Effect::None));
    }
}

#[tokio::test]
async fn an_unreadable_checkpoint_settles_nothing() {
    let world = World::new().await;
    let reconciled = ask(&world, &Draft::text("Hello"), Checkpoint::write(99, &json!({}))).await;
    assert!(matches!(reconciled, Reconciled::CannotTell), "{reconciled:?}");
}

#[tokio::test]
async fn the_present_vocabulary_finds_it_as_well() {
    let world = World::built(|builder| builder.vocabulary(Vocabulary::Posts)).await;
    let draft = Draft::text("a poll").option(X::ID, json!({"poll": {"options": ["a", "b"], "duration_minutes": 5}}));
    let ours = json!({"id": "90", "text": "a poll", "conversation_id": "90", "edit_history_post_ids": ["90"], "attachments": {"poll_ids": ["91"]}});
    world.mount("GET", TIMELINE, answer(200, json!({"data": [ours]}))).await;
    world.advance(31);
    assert_eq!(found(ask(&world, &draft, world.ready(&draft).await).await), "90");
    let query: Vec<(String, String)> = world.requests().await[0].url.query_pairs().into_owned().skip(2).collect();
    let expected = [
        ("post.fields", "created_at,entities,attachments,conversation_id,note_post"),
        ("expansions", "referenced_posts"),
    ];
    assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}
