use serde_json::{Value, json};
use social_core::{Draft, Effect, ErrorKind, Prepared, Publish, media::MediaKind};
use wiremock::{Request, ResponseTemplate};

use crate::support::{MIB, World, answer, header, multipart};

/// Bytes that tell where they stand.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 + at) as u8).collect()
}

async fn video(world: &World, length: usize) -> Draft {
    Draft::text("Moving").attach(world.file(MediaKind::Video, "video/mp4", pattern(length), None).await)
}

fn appended(requests: &[Request]) -> Vec<(u64, Vec<u8>)> {
    let appends = requests.iter().filter(|request| request.url.path().ends_with("/append"));
    appends
        .map(|request| {
            let mut fields = multipart(request);
            let index = String::from_utf8(fields.remove("segment_index").unwrap()).unwrap().parse().unwrap();
            (index, fields.remove("media").unwrap())
        })
        .collect()
}

fn joined(segments: &[(u64, Vec<u8>)]) -> Vec<u8> {
    segments.iter().map(|(_, bytes)| bytes.as_slice()).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn pictures_go_in_one_shot_with_their_descriptions() {
    let world = World::new().await;
    world.all_goes_well().await;
    let mut draft = Draft::text("Four");
    for (n, alt) in [Some("one"), None, Some(" "), Some("four 🌊")].into_iter().enumerate() {
        draft = draft.attach(world.file(MediaKind::Image, "image/jpeg", vec![n as u8; 3], alt).await);
    }
    let ready = world.ready(&draft).await;
    let upload = "POST /2/media/upload".to_owned();
    let describe = "POST /2/media/metadata".to_owned();
    let expected = [&upload, &describe, &upload, &upload, &upload, &describe].map(String::clone);
    assert_eq!(world.calls().await, expected);
    let requests = world.requests().await;
    let first = multipart(&requests[0]);
    assert_eq!(first["media_category"], b"tweet_image");
    assert_eq!(first["media"], [0, 0, 0]);
    assert_eq!(first.len(), 2, "nothing else is in the form");
    assert!(requests.iter().all(|request| header(request, "authorization") == "Bearer access-1"));
    let alt: Value = requests[5].body_json().unwrap();
    assert_eq!(alt, json!({"id": "2004", "metadata": {"alt_text": {"text": "four 🌊"}}}));
    let _ = world.x.commit(&world.cx(&draft), ready).await.unwrap();
    assert_eq!(
        world.posts().await,
        [json!({"text": "Four", "media": {"media_ids": ["2001", "2002", "2003", "2004"]}})]
    );
}

#[tokio::test]
async fn a_video_goes_in_segments_that_add_up() {
    for length in [1, MIB - 1, MIB, MIB + 1, 3 * MIB, 17 * MIB + 5] {
        let world = World::new().await;
        world.all_goes_well().await;
        let draft = video(&world, length).await;
        let steps = world.prepare_from(&draft, None).await.unwrap();
        let requests = world.requests().await;
        let open: Value = requests[0].body_json().unwrap();
        assert_eq!(open, json!({"media_type": "video/mp4", "media_category": "tweet_video", "total_bytes": length}));
        let segments = appended(&requests);
        assert_eq!(segments.len(), length.div_ceil(MIB), "{length}");
        assert!(segments.iter().enumerate().all(|(n, (index, bytes))| *index == n as u64 && bytes.len() <= MIB));
        assert!(joined(&segments) == pattern(length), "{length}");
        let finalize = requests.iter().find(|request| request.url.path().ends_with("/finalize")).unwrap();
        assert_eq!((header(finalize, "content-length"), finalize.body.len()), ("0", 0));
        assert_eq!(requests.last().unwrap().url.query(), Some("command=STATUS&media_id=3001"));
        // Opening, one step for every 16 segments, closing, asking, ready.
        assert_eq!(steps.len(), 1 + length.div_ceil(16 * MIB) + 1 + 1 + 1, "{length}");
    }
}

#[tokio::test]
async fn an_animation_is_sent_in_segments_and_described() {
    let world = World::new().await;
    world.all_goes_well().await;
    let draft = Draft::text("").attach(world.file(MediaKind::Gif, "image/gif", pattern(10), Some("a wave")).await);
    let ready = world.ready(&draft).await;
    let requests = world.requests().await;
    assert_eq!(requests[0].body_json::<Value>().unwrap()["media_category"], "tweet_gif");
    assert_eq!(world.calls().await.last().unwrap(), "POST /2/media/metadata");
    let _ = world.x.commit(&world.cx(&draft), ready).await.unwrap();
    assert_eq!(world.posts().await, [json!({"media": {"media_ids": ["3001"]}})], "an empty text is left out");
}

#[tokio::test]
async fn a_restart_in_the_middle_goes_on_with_the_next_segment() {
    let world = World::new().await;
    world.all_goes_well().await;
    let draft = video(&world, 20 * MIB).await;
    let mut at = None;
    for _ in 0..2 {
        match world.x.prepare(&world.cx(&draft), at.take()).await.unwrap() {
            Prepared::Again(next) => at = Some(next),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(appended(&world.requests().await).len(), 16);
    // The process dies here. Only the checkpoint, as it was stored, is left.
    let stored = serde_json::to_string(&at.unwrap()).unwrap();
    world.prepare_from(&draft, Some(serde_json::from_str(&stored).unwrap())).await.unwrap();
    let requests = world.requests().await;
    assert_eq!(requests.iter().filter(|request| request.url.path().ends_with("/initialize")).count(), 1);
    let segments = appended(&requests);
    assert_eq!(segments.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(joined(&segments) == pattern(20 * MIB));
}

#[tokio::test]
async fn a_segment_that_is_too_large_is_halved_in_place() {
    let world = World::new().await;
    world.all_goes_well().await;
    world.mount_first("POST", "/2/media/upload/3001/append", 1, ResponseTemplate::new(413)).await;
    let draft = video(&world, 2 * MIB + 1).await;
    world.prepare_from(&draft, None).await.unwrap();
    let segments = appended(&world.requests().await);
    let sizes: Vec<(u64, usize)> = segments.iter().map(|(index, bytes)| (*index, bytes.len())).collect();
    let half = MIB / 2;
    assert_eq!(sizes, [(0, MIB), (0, half), (1, half), (2, half), (3, half), (4, 1)]);
    assert!(joined(&segments[1..]) == pattern(2 * MIB + 1));
}

#[tokio::test]
async fn a_network_that_takes_no_segment_is_not_asked_for_ever() {
    let world = World::new().await;
    world.all_goes_well().await;
    world.mount_first("POST", "/2/media/upload/3001/append", 100, ResponseTemplate::new(413)).await;
    world.mount_first("POST", "/2/media/upload/3002/append", 100, ResponseTemplate::new(413)).await;
    let error = world.prepare_from(&video(&world, MIB).await, None).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Invalid, Effect::None));
}

#[tokio::test]
async fn an_upload_that_x_forgot_is_begun_anew_once() {
    let gone = || {
        answer(
            400,
            json!({"title": "Invalid Request", "errors": [{"message": "Could not find media with id: [3001]."}]}),
        )
    };
    let world = World::new().await;
    world.all_goes_well().await;
    world.mount_first("POST", "/2/media/upload/3001/append", 100, gone()).await;
    let draft = video(&world, 10).await;
    world.prepare_from(&draft, None).await.unwrap();
    let opened = world.calls().await.iter().filter(|call| call.ends_with("/initialize")).count();
    assert_eq!(opened, 2);

    let world = World::new().await;
    world.all_goes_well().await;
    for id in ["3001", "3002", "3003"] {
        world.mount_first("POST", &format!("/2/media/upload/{id}/append"), 100, gone()).await;
    }
    let draft = video(&world, 10).await;
    let error = world.prepare_from(&draft, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let opened = world.calls().await.iter().filter(|call| call.ends_with("/initialize")).count();
    assert_eq!(opened, 2, "and not a third time");
}

#[tokio::test]
async fn closing_an_upload_twice_asks_for_its_state() {
    let world = World::new().await;
    world.all_goes_well().await;
    let refused = answer(
        400,
        json!({"title": "Invalid Request", "errors": [{"message": "The media upload is already finalized."}]}),
    );
    world.mount_first("POST", "/2/media/upload/3001/finalize", 1, refused).await;
    let draft = video(&world, 10).await;
    world.prepare_from(&draft, None).await.unwrap();
    let calls = world.calls().await;
    assert_eq!(calls.iter().filter(|call| call.ends_with("/initialize")).count(), 1, "{calls:?}");
}

#[tokio::test]
async fn processing_is_waited_for_as_long_as_x_says() {
    let world = World::new().await;
    world.all_goes_well().await;
    let draft = video(&world, 10).await;
    let pending = |state: &str| {
        answer(200, json!({"data": {"id": "3001", "processing_info": {"state": state, "check_after_secs": 7}}}))
    };
    world.mount_first("GET", "/2/media/upload", 1, pending("in_progress")).await;
    let mut at = None;
    let mut waits = Vec::new();
    loop {
        match world.x.prepare(&world.cx(&draft), at.take()).await.unwrap() {
            Prepared::Again(next) => at = Some(next),
            Prepared::Wait { at: next, poll_after } => {
                waits.push(poll_after.as_secs());
                world.advance(poll_after.as_secs());
                at = Some(next);
            }
            Prepared::Ready(_) => break,
        }
    }
    assert_eq!(waits, [1, 7]);

    // An hour later it is no longer normal.
    let world = World::new().await;
    world.all_goes_well().await;
    world.mount_first("GET", "/2/media/upload", 10_000, pending("pending")).await;
    let draft = video(&world, 10).await;
    let mut at = None;
    let error = loop {
        match world.x.prepare(&world.cx(&draft), at.take()).await {
            Ok(Prepared::Again(next)) => at = Some(next),
            Ok(Prepared::Wait { at: next, .. }) => {
                world.advance(600);
                at = Some(next);
            }
            Ok(Prepared::Ready(_)) => panic!("it never succeeded"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::None));
}

#[tokio::test]
async fn a_file_that_x_cannot_use_ends_the_delivery_with_its_reason() {
    let world = World::new().await;
    world.all_goes_well().await;
    let failed =
        json!({"state": "failed", "error": {"code": 1, "name": "InvalidMedia", "message": "Unsupported video format"}});
    world
        .mount_first(
            "GET",
            "/2/media/upload",
            1,
            answer(200, json!({"data": {"id": "3001", "processing_info": failed}})),
        )
        .await;
    let draft = video(&world, 10).await;
    let error = world.prepare_from(&draft, None).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Invalid, Effect::None));
    assert!(error.advice_text().contains("Unsupported video format"), "{}", error.advice_text());
    assert_eq!(error.provider_error().unwrap().code.as_deref(), Some("InvalidMedia"));
}

#[tokio::test]
async fn media_that_ended_are_sent_again() {
    let world = World::new().await;
    world.all_goes_well().await;
    let draft = Draft::text("a").attach(world.file(MediaKind::Image, "image/png", vec![1], Some("alt")).await);
    let ready = world.ready(&draft).await;
    world.advance(86_400 - 601);
    assert_eq!(
        world.prepare_from(&draft, Some(ready.clone())).await.unwrap().len(),
        1,
        "more than ten minutes are left"
    );
    world.advance(2);
    let steps = world.prepare_from(&draft, Some(ready)).await.unwrap();
    let _ = world.x.commit(&world.cx(&draft), steps.last().unwrap().clone()).await.unwrap();
    assert_eq!(world.posts().await[0]["media"]["media_ids"], json!(["2002"]));
    let calls = world.calls().await;
    assert_eq!(calls.iter().filter(|call| call.ends_with("/metadata")).count(), 2, "and described again");
}

#[tokio::test]
async fn media_that_end_between_preparation_and_commit_are_tried_again() {
    let world = World::new().await;
    world.all_goes_well().await;
    let body = json!({"errors": [{"message": "Your media IDs are invalid."}], "title": "Invalid Request"});
    world.mount_first("POST", "/2/tweets", 2, answer(400, body)).await;
    let draft = Draft::text("a").attach(world.file(MediaKind::Image, "image/png", vec![1], None).await);
    let ready = world.ready(&draft).await;
    let error = world.x.commit(&world.cx(&draft), ready.clone()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_hint()),
        (ErrorKind::Invalid, social_core::Retry::Never),
        "they are good: X does not like them"
    );
    world.advance(86_401);
    let error = world.x.commit(&world.cx(&draft), ready).await.unwrap_err();
    assert_eq!((error.retry_hint(), error.effect()), (social_core::Retry::Backoff, Effect::None));
}

#[tokio::test]
async fn a_draft_that_changed_sends_its_new_file() {
    let world = World::new().await;
    world.all_goes_well().await;
    let kept = world.file(MediaKind::Image, "image/png", vec![1], None).await;
    let before =
        Draft::text("a").attach(kept.clone()).attach(world.file(MediaKind::Image, "image/png", vec![2], None).await);
    let ready = world.ready(&before).await;
    let after = Draft::text("a").attach(kept).attach(world.file(MediaKind::Image, "image/png", vec![3], None).await);
    let ready = world.prepare_from(&after, Some(ready)).await.unwrap().pop().unwrap();
    let _ = world.x.commit(&world.cx(&after), ready).await.unwrap();
    assert_eq!(world.posts().await[0]["media"]["media_ids"], json!(["2001", "2003"]));
}

#[tokio::test]
async fn preparation_errors_have_no_effect() {
    let world = World::new().await;
    world.mount("POST", "/2/media/upload", ResponseTemplate::new(503)).await;
    let draft = Draft::text("a").attach(world.file(MediaKind::Image, "image/png", vec![1], None).await);
    let error = world.prepare_from(&draft, None).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
    let lost = Draft::text("a").image(vec![1], "never taken in");
    assert_eq!(world.prepare_from(&lost, None).await.unwrap_err().kind(), ErrorKind::Invalid);
}
