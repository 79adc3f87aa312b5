//! What is sent to make a post, and what its answers mean.

use std::time::Duration;

use serde_json::{Value, json};
use social_core::{
    Attachment, Checkpoint, Committed, Deleted, Draft, Effect, ErrorKind, Link, Prepared, Publish as _, RemotePost,
    RemotePostId, Retry, media::sample,
};
use wiremock::ResponseTemplate;

use crate::support::{
    Net, PAGE, SHARE, assert_versioned, body, created, fault, header, member, page, tokens, with_options,
};

#[tokio::test]
async fn a_text_is_one_call_with_exactly_these_bytes() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    let delivery = net.delivery(member(), Draft::text("Sale (today) #rust_lang 🎉"));
    let Ok(Prepared::Ready(at)) = delivery.prepare(None).await else { panic!("a text needs no preparation") };
    assert!(net.asked().await.is_empty());

    let Ok(Committed::Published(post)) = delivery.commit(at).await else { panic!("not published") };
    assert_eq!(post.id, Some(RemotePostId::new(SHARE)));
    assert_eq!(post.permalink, Some(net.url(&format!("feed/update/{SHARE}/"))));
    assert_eq!(net.asked().await, ["POST rest/posts"]);
    let request = &net.requests().await[0];
    assert_versioned(request);
    let sent = r##"{"author":"urn:li:person:782bbtaQ","commentary":"Sale \\(today\\) #rust\\_lang 🎉","visibility":"PUBLIC","distribution":{"feedDistribution":"MAIN_FEED","targetEntities":[],"thirdPartyDistributionChannels":[]},"lifecycleState":"PUBLISHED","isReshareDisabledByAuthor":false}"##;
    assert_eq!(String::from_utf8_lossy(&request.body), sent);
}

#[tokio::test]
async fn a_created_post_without_an_id_is_published_and_never_sent_again() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", ResponseTemplate::new(201)).await;
    let delivery = net.delivery(member(), Draft::text("a").first_comment("b"));
    let at = delivery.ready().await;
    let Ok(Committed::Published(post)) = delivery.commit(at).await else { panic!("not published") };
    assert_eq!(post, RemotePost::unknown());
    assert_eq!(net.asked().await, ["POST rest/posts"]);
}

#[tokio::test]
async fn the_id_of_a_page_post_is_looked_up_where_the_answer_did_not_tell() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", ResponseTemplate::new(201)).await;
    let found = json!({ "elements": [{ "id": SHARE, "commentary": "a", "createdAt": 1_795_338_000_000_i64 }] });
    net.on("GET", "rest/posts", ResponseTemplate::new(200).set_body_json(found)).await;
    let delivery = net.delivery(page(), Draft::text("a"));
    let at = delivery.ready().await;
    let Ok(Committed::Published(post)) = delivery.commit(at).await else { panic!("not published") };
    assert_eq!(post.id, Some(RemotePostId::new(SHARE)));
    assert_eq!(net.sent("POST").await.len(), 1);
}

#[tokio::test]
async fn a_success_that_is_no_creation_proves_nothing() {
    let net = Net::start().await;
    let delivery = net.delivery(member(), Draft::text("a"));
    let at = delivery.ready().await;
    for status in [200, 202, 204, 302] {
        net.once("POST", "rest/posts", ResponseTemplate::new(status).set_body_string("{}")).await;
        let error = delivery.commit(at.clone()).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unexpected, Effect::Unknown), "{status}");
    }
}

#[tokio::test]
async fn a_link_is_a_card_with_a_title() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    let link = |title: Option<&str>| Link {
        url: "https://www.example.com/a?b=c".into(),
        title: title.map(Into::into),
        description: Some("More".into()),
        thumbnail: None,
    };
    let sent = net.delivery(member(), Draft::text("read").link(link(Some("A title")))).post().await;
    let source = "https://www.example.com/a?b=c";
    assert_eq!(sent["content"], json!({ "article": { "source": source, "title": "A title", "description": "More" } }));
    for blank in [None, Some(" ")] {
        let sent = net.delivery(member(), Draft::text("read").link(link(blank))).post().await;
        assert_eq!(sent["content"]["article"]["title"], "example.com");
    }
    let draft = with_options(Draft::text("read (now)").link(link(None)), json!({ "link_in_text": true }));
    let sent = net.delivery(member(), draft).post().await;
    assert_eq!(sent["commentary"], "read \\(now\\)\nhttps://www.example.com/a?b=c");
    assert_eq!(sent.get("content"), None);
}

#[tokio::test]
async fn the_options_reach_the_post() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    let options = json!({ "visibility": "connections", "reshare_disabled": true });
    let sent = net.delivery(member(), with_options(Draft::text("a"), options)).post().await;
    assert_eq!((&sent["visibility"], &sent["isReshareDisabledByAuthor"]), (&json!("CONNECTIONS"), &json!(true)));

    let poll = json!({ "poll": { "question": "Tea (or)?", "options": ["Yes", "No"], "duration": "seven_days" } });
    let sent = net.delivery(page(), with_options(Draft::text("a"), poll)).post().await;
    assert_eq!(sent["author"], PAGE);
    let wire = json!({ "question": "Tea (or)?", "options": [{ "text": "Yes" }, { "text": "No" }], "settings": { "duration": "SEVEN_DAYS" } });
    assert_eq!(sent["content"], json!({ "poll": wire }));

    let options = json!({ "visibility": "logged_in", "reshare_parent": "urn:li:share:5" });
    let sent = net.delivery(page(), with_options(Draft::text(""), options)).post().await;
    assert_eq!(sent["reshareContext"], json!({ "parent": "urn:li:share:5" }));
    assert_eq!((&sent["visibility"], &sent["commentary"]), (&json!("LOGGED_IN"), &json!("")));

    let unknown = net.delivery(member(), with_options(Draft::text("a"), json!({ "visibilty": "public" })));
    assert_eq!(unknown.prepare(None).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_first_comment_follows_the_post_as_plain_text() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    let comments = "rest/socialActions/urn%3Ali%3Ashare%3A7400000000000000001/comments";
    let urn = "urn:li:comment:(urn:li:activity:7400000000000000002,9)";
    let answer = ResponseTemplate::new(201)
        .insert_header("x-restli-id", "9")
        .set_body_json(json!({ "id": "9", "commentUrn": urn }));
    net.on("POST", comments, answer).await;
    let mut delivery = net.delivery(member(), Draft::text("a").first_comment("more (here)"));
    let at = delivery.ready().await;
    let Ok(Committed::Next { at, part }) = delivery.commit(at).await else { panic!("the comment follows") };
    assert_eq!(part.id, Some(RemotePostId::new(SHARE)));
    assert_eq!(net.asked().await.len(), 1, "one visible call at a time");

    delivery.parts.push(part);
    let (at, waits) = delivery.ready_from(Some(at)).await.unwrap();
    assert!(waits.is_empty());
    let Ok(Committed::Published(comment)) = delivery.commit(at).await else { panic!("not published") };
    assert_eq!(comment.id, Some(RemotePostId::new(urn)));
    let requests = net.requests().await;
    assert_eq!(requests.len(), 2);
    assert_versioned(&requests[1]);
    let wire = json!({ "actor": "urn:li:person:782bbtaQ", "object": SHARE, "message": { "text": "more (here)" } });
    assert_eq!(body(&requests[1]), wire);
}

#[tokio::test]
async fn a_comment_that_linkedin_does_not_permit_never_fails_the_post() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    let comments = "rest/socialActions/urn%3Ali%3Ashare%3A7400000000000000001/comments";
    let delivery = net.delivery(member(), Draft::text("a").first_comment("b"));
    let Ok(Committed::Next { at, part }) = delivery.commit(delivery.ready().await).await else {
        panic!("the comment follows")
    };

    net.once("POST", comments, fault(403, "ACCESS_DENIED", "Not enough permissions to access: socialActions.CREATE"))
        .await;
    let Ok(Committed::Published(post)) = delivery.commit(at.clone()).await else { panic!("the post is out") };
    assert_eq!(post, part);

    net.once("POST", comments, fault(404, "NOT_FOUND", "Could not find entity")).await;
    let error = delivery.commit(at.clone()).await.unwrap_err();
    assert_eq!((error.retry_hint(), error.effect()), (Retry::Backoff, Effect::None));
    net.once("POST", comments, ResponseTemplate::new(503)).await;
    assert_eq!(delivery.commit(at).await.unwrap_err().effect(), Effect::Unknown);
}

#[tokio::test]
async fn a_grant_that_cannot_comment_is_not_asked_to() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    for (scopes, may) in
        [(&["openid"][..], false), (&["w_member_social_feed"], true), (&["w_organization_social"], true), (&[], true)]
    {
        let mut delivery = net.delivery(member(), Draft::text("a").first_comment("b"));
        delivery.tokens = tokens(scopes);
        let committed = delivery.commit(delivery.ready().await).await.unwrap();
        assert_eq!(matches!(committed, Committed::Next { .. }), may, "{scopes:?}");
    }
}

#[tokio::test]
async fn a_lost_checkpoint_begins_again_but_not_behind_the_visible_call() {
    let net = Net::start().await;
    let mut delivery = net.delivery(member(), Draft::text("a").first_comment("b"));
    let foreign = Checkpoint::write(9, &"from the future");
    assert!(matches!(delivery.prepare(Some(foreign.clone())).await, Ok(Prepared::Ready(_))));
    let error = delivery.commit(foreign.clone()).await.unwrap_err();
    assert_eq!((error.effect(), error.retry_hint()), (Effect::None, Retry::Never));
    assert!(net.asked().await.is_empty());

    // The post is out: what is left is the comment, never a second post.
    delivery.parts.push(RemotePost::new(SHARE, "https://example.com"));
    net.on("POST", "rest/socialActions/urn%3Ali%3Ashare%3A7400000000000000001/comments", ResponseTemplate::new(201))
        .await;
    let Ok(Prepared::Ready(at)) = delivery.prepare(Some(foreign.clone())).await else { panic!("the comment is ready") };
    let _ = delivery.commit(at).await.unwrap();
    assert!(net.sent("POST rest/posts").await.is_empty());
    delivery.draft.first_comment = None;
    assert!(delivery.prepare(Some(foreign)).await.is_err());
}

#[tokio::test]
async fn media_that_are_not_ready_make_the_create_wait_with_its_bytes_kept() {
    let net = Net::start().await;
    upload_image(&net, "urn:li:image:A").await;
    net.on(
        "GET",
        "rest/images/urn%3Ali%3Aimage%3AA",
        ResponseTemplate::new(200).set_body_json(json!({ "status": "AVAILABLE" })),
    )
    .await;
    let draft = Draft::text("a").image(net.keep(sample::png(4, 4)).await, "alt");
    let delivery = net.delivery(page(), draft);
    let at = delivery.ready().await;
    let waiting = || fault(400, "MEDIA_ASSET_WAITING_UPLOAD", "urn:li:image:A is waiting");
    net.once("POST", "rest/posts", waiting()).await;
    let error = delivery.commit(at.clone()).await.unwrap_err();
    assert_eq!((error.retry_hint(), error.effect()), (Retry::After(Duration::from_secs(90)), Effect::None));

    net.clock.advance(Duration::from_secs(90));
    let (again, _) = delivery.ready_from(Some(at.clone())).await.unwrap();
    net.once("POST", "rest/posts", created(SHARE)).await;
    let _ = delivery.commit(again).await.unwrap();
    let creates = net.sent("POST rest/posts").await;
    assert_eq!(creates[0].body, creates[1].body);
    assert_eq!(net.sent("PUT").await.len(), 1, "the file is sent once");

    net.clock.advance(Duration::from_secs(3600));
    net.once("POST", "rest/posts", waiting()).await;
    assert_eq!(delivery.commit(at).await.unwrap_err().retry_hint(), Retry::Never, "not for ever");
}

#[tokio::test]
async fn media_that_failed_late_are_uploaded_once_more_and_then_no_more() {
    let net = Net::start().await;
    upload_image(&net, "urn:li:image:A").await;
    let status = |status: &str| ResponseTemplate::new(200).set_body_json(json!({ "status": status }));
    let failed = || fault(400, "MEDIA_ASSET_PROCESSING_FAILED", "processing failed");
    let draft = Draft::text("a").image(net.keep(sample::png(4, 4)).await, "alt");
    let delivery = net.delivery(page(), draft);
    net.once("GET", "rest/images/urn%3Ali%3Aimage%3AA", status("AVAILABLE")).await;
    let at = delivery.ready().await;

    net.once("POST", "rest/posts", failed()).await;
    let error = delivery.commit(at.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_hint(), error.effect()), (ErrorKind::Rejected, Retry::Backoff, Effect::None));
    net.once("GET", "rest/images/urn%3Ali%3Aimage%3AA", status("PROCESSING_FAILED")).await;
    let Ok(Prepared::Again(at)) = delivery.prepare(Some(at)).await else { panic!("the upload begins again") };
    net.once("GET", "rest/images/urn%3Ali%3Aimage%3AA", status("AVAILABLE")).await;
    let (at, _) = delivery.ready_from(Some(at)).await.unwrap();
    assert_eq!(net.sent("PUT").await.len(), 2);

    net.once("POST", "rest/posts", failed()).await;
    assert_eq!(delivery.commit(at.clone()).await.unwrap_err().retry_hint(), Retry::Never);
    net.once("GET", "rest/images/urn%3Ali%3Aimage%3AA", status("PROCESSING_FAILED")).await;
    assert_eq!(delivery.prepare(Some(at)).await.unwrap_err().retry_hint(), Retry::Never);
}

async fn upload_image(net: &Net, urn: &str) {
    let opened = json!({ "value": { "uploadUrlExpiresAt": 1_900_000_000_000_i64, "uploadUrl": net.url("dms-uploads/1"), "image": urn } });
    net.on("POST", "rest/images", ResponseTemplate::new(200).set_body_json(opened)).await;
    net.on("PUT", "dms-uploads/1", ResponseTemplate::new(201)).await;
}

#[tokio::test]
async fn documents_have_a_title_even_when_nobody_wrote_one() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    let opened = json!({ "value": { "uploadUrl": net.url("dms-uploads/2"), "document": "urn:li:document:D" } });
    net.on("POST", "rest/documents", ResponseTemplate::new(200).set_body_json(opened)).await;
    net.on("PUT", "dms-uploads/2", ResponseTemplate::new(201)).await;
    net.on("GET", "rest/documents/urn%3Ali%3Adocument%3AD", fault(403, "ACCESS_DENIED", "forbidden")).await;
    let file = net.keep(sample::pdf()).await;
    for (title, wire) in
        [(Some("Our plan".to_owned()), "Our plan"), (None, "Document"), (Some("  ".to_owned()), "Document")]
    {
        let draft = Draft::text("a").attach(Attachment { media: file.clone(), alt_text: None, title });
        let sent = net.delivery(member(), draft).post().await;
        assert_eq!(sent["content"], json!({ "media": { "id": "urn:li:document:D", "title": wire } }));
    }
}

#[tokio::test]
async fn deleting_is_done_once_and_gone_is_fine() {
    let net = Net::start().await;
    let (account, token) = (member(), tokens(&[]));
    let delete = async |id: &str| net.linkedin.delete(&net.call, &token, &account, &RemotePostId::new(id)).await;
    let path = "rest/posts/urn%3Ali%3Ashare%3A7400000000000000001";
    net.once("DELETE", path, ResponseTemplate::new(204)).await;
    assert_eq!(delete(SHARE).await.unwrap(), Deleted::Now);
    net.once("DELETE", path, fault(404, "NOT_FOUND", "Could not find entity")).await;
    assert_eq!(delete(SHARE).await.unwrap(), Deleted::Before);
    net.once("DELETE", path, fault(403, "ACCESS_DENIED", "Not enough permissions to access: posts.DELETE")).await;
    assert_eq!(delete(SHARE).await.unwrap_err().kind(), ErrorKind::Permission);
    let requests = net.requests().await;
    assert_versioned(&requests[0]);
    assert_eq!(header(&requests[0], "x-restli-method"), Some("DELETE"));
    for id in ["", "..", "urn:li:share:", "urn:li:share:1/../2", "urn:li:person:1"] {
        assert_eq!(delete(id).await.unwrap_err().kind(), ErrorKind::Invalid, "{id}");
    }
    assert_eq!(net.requests().await.len(), 3);
}

#[tokio::test]
async fn nothing_that_is_kept_or_printed_holds_the_token() {
    let net = Net::start().await;
    let echo = json!({ "status": 403, "message": format!("token {} is no good", crate::support::TOKEN), "access_token": crate::support::TOKEN });
    net.on("POST", "rest/posts", ResponseTemplate::new(403).set_body_json(echo)).await;
    let delivery = net.delivery(member(), Draft::text("a"));
    let at = delivery.ready().await;
    let kept = serde_json::to_string(&at).unwrap();
    let error = delivery.commit(at).await.unwrap_err();
    let stored: Value = serde_json::to_value(&error).unwrap();
    let printed = format!("{kept} {:?}", net.linkedin);
    for text in [printed, format!("{error} {:?}", error.operation())] {
        assert!(!text.contains("marker"), "{text}");
    }
    assert!(!stored["provider"]["excerpt"].as_str().unwrap().contains("\"access_token\":\"marker"), "{stored}");
}
