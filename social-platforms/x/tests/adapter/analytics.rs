use serde_json::json;
use social_core::{Analytics, RemotePostId, platform::PostMetrics, time::Clock};
use social_x::{Vocabulary, X};
use wiremock::{Request, matchers};

use crate::support::{World, answer};

/// An id of a post made at `ms` since the Unix epoch.
fn id(ms: i64, n: u64) -> String {
    ((((ms - 1_288_834_974_657) as u64) << 22) + n).to_string()
}

fn value(post: &PostMetrics, name: &str) -> Option<i64> {
    post.values.get(name).copied()
}

async fn posts(world: &World, x: &X, ids: &[String]) -> Vec<PostMetrics> {
    let ids: Vec<RemotePostId> = ids.iter().map(RemotePostId::new).collect();
    x.posts(&world.call, &world.tokens, &world.account, &ids).await.unwrap()
}

#[tokio::test]
async fn numbers_are_named_alike_in_both_vocabularies() {
    for (vocabulary, shares) in [(Vocabulary::Tweets, "retweet_count"), (Vocabulary::Posts, "repost_count")] {
        let world = World::built(|builder| builder.vocabulary(vocabulary)).await;
        let young = id(world.clock.now().as_millisecond() - 86_400_000, 1);
        let mut public =
            json!({"reply_count": 1, "like_count": 2, "quote_count": 3, "bookmark_count": 4, "impression_count": 5});
        public[shares] = json!(6);
        let private = json!({"impression_count": 7, "url_link_clicks": 8, "user_profile_clicks": 9, "engagements": 10});
        let post = json!({"id": young, "text": "a", "public_metrics": public, "non_public_metrics": private, "attachments": {"media_keys": ["13_1"]}});
        let includes = json!({"media": [{"media_key": "13_1", "type": "video", "public_metrics": {"view_count": 11}}]});
        let errors = json!([{"title": "Not Found Error", "value": "12"}]);
        world
            .mount("GET", "/2/tweets", answer(200, json!({"data": [post], "includes": includes, "errors": errors})))
            .await;
        let found = posts(&world, &world.x, std::slice::from_ref(&young)).await;
        assert_eq!(found.len(), 1, "what X says nothing about is left out");
        let names = [
            "comments",
            "likes",
            "quotes",
            "saves",
            "shares",
            "impressions",
            "clicks",
            "profile_clicks",
            "engagements",
            "views",
        ];
        assert_eq!(names.map(|name| value(&found[0], name).unwrap()), [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
        assert_eq!(found[0].at, world.clock.now());
    }
}

#[tokio::test]
async fn private_numbers_are_asked_for_while_x_gives_them_and_a_hundred_at_a_time() {
    let world = World::new().await;
    world.mount("GET", "/2/tweets", answer(200, json!({}))).await;
    let ago = |days: i64, n| id(world.clock.now().as_millisecond() - days * 86_400_000, n);
    let mut ids: Vec<String> = (0..101).map(|n| ago(1, n)).collect();
    ids.extend([ago(28, 0), ago(30, 0), "20".to_owned(), "no id, and no second parameter&x=".to_owned()]);
    assert!(posts(&world, &world.x, &ids).await.is_empty());
    let query =
        |request: &Request, name: &str| request.url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    let asked: Vec<(usize, bool)> = world
        .requests()
        .await
        .iter()
        .map(|request| {
            (query(request, "ids").split(',').count(), query(request, "tweet.fields").contains("non_public_metrics"))
        })
        .collect();
    assert_eq!(asked, [(100, true), (2, true), (2, false)]);
}

#[tokio::test]
async fn the_account_tells_its_followers() {
    for posts in ["tweet_count", "post_count"] {
        let world = World::new().await;
        let mut numbers = json!({"followers_count": 5, "following_count": 6, "listed_count": 7, "like_count": 8});
        numbers[posts] = json!(9);
        let me = json!({"data": {"id": "42", "name": "Shop", "username": "shop", "public_metrics": numbers}});
        let mock = wiremock::Mock::given(matchers::path("/2/users/me")).respond_with(answer(200, me));
        mock.mount(&world.server).await;
        let metrics = world.x.account(&world.call, &world.tokens, &world.account).await.unwrap();
        let found = ["followers", "following", "listed", "posts"].map(|name| metrics.values[name]);
        assert_eq!(found, [5, 6, 7, 9]);
    }
}
