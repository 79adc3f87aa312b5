use serde_json::json;
use social_core::{Deleted, Effect, ErrorKind, Publish, RemotePostId};
use wiremock::ResponseTemplate;

use crate::support::{World, answer, header};

async fn delete(world: &World) -> Result<Deleted, social_core::Error> {
    world.x.delete(&world.call, &world.tokens, &world.account, &RemotePostId::new("17")).await
}

#[tokio::test]
async fn what_is_gone_is_gone_however_x_says_it() {
    let not_found = "https://api.twitter.com/2/problems/resource-not-found";
    let cases = [
        (answer(200, json!({"data": {"deleted": true}})), Deleted::Now),
        (answer(404, json!({"title": "Not Found Error", "type": not_found, "status": 404})), Deleted::Before),
        (answer(200, json!({"errors": [{"title": "Not Found Error", "type": not_found}]})), Deleted::Before),
    ];
    for (reply, expected) in cases {
        let world = World::new().await;
        world.mount("DELETE", "/2/tweets/17", reply).await;
        assert_eq!(delete(&world).await.unwrap(), expected);
        assert_eq!(header(&world.requests().await[0], "authorization"), "Bearer access-1");
    }
}

#[tokio::test]
async fn what_x_does_not_delete_is_an_error() {
    let foreign =
        json!({"title": "Forbidden", "detail": "You are not authorized to delete this Tweet.", "status": 403});
    let cases = [
        (answer(403, foreign), ErrorKind::Permission),
        (answer(200, json!({"data": {"deleted": false}})), ErrorKind::Unexpected),
        (ResponseTemplate::new(404), ErrorKind::NotFound),
        (ResponseTemplate::new(503), ErrorKind::Unavailable),
    ];
    for (reply, kind) in cases {
        let world = World::new().await;
        world.mount("DELETE", "/2/tweets/17", reply).await;
        let error = delete(&world).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, Effect::None));
    }
}
