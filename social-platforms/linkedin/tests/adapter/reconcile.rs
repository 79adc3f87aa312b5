//! What a lost answer leads to.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use social_core::{
    Account, Checkpoint, Committed, Draft, Effect, Error, ErrorKind, Reconciled, RemotePost, RemotePostId,
    media::sample, time::later,
};
use wiremock::ResponseTemplate;

use crate::support::{Delivery, Net, SHARE, created, fault, member, page, tokens, with_options};

const TEXT: &str = "New: @[Acme](urn:li:organization:1) #rust_lang (see https://example.com/long_path)";
/// The same as LinkedIn returns it.
const RETURNED: &str = "New: @[Acme](urn:li:organization:1) {hashtag|\\#|rust\\_lang} \\(see https://lnkd.in/x\\)";
const MINUTE: u64 = 60;

/// A delivery whose create was sent `age` seconds ago and never answered.
async fn in_doubt<'n>(net: &'n Net, account: Account, draft: Draft, age: u64) -> (Delivery<'n>, Checkpoint) {
    let delivery = net.delivery(account, draft);
    let at = delivery.ready().await;
    net.once("POST", "rest/posts", ResponseTemplate::new(504)).await;
    assert_eq!(delivery.commit(at.clone()).await.unwrap_err().effect(), Effect::Unknown);
    net.clock.advance(Duration::from_secs(age));
    (delivery, at)
}

fn published(outcome: Result<Reconciled, Error>) -> Option<RemotePost> {
    match outcome {
        Ok(Reconciled::Published(post)) => Some(post),
        _ => None,
    }
}

fn id(urn: &str) -> Option<RemotePostId> {
    Some(RemotePostId::new(urn))
}

#[tokio::test]
async fn within_nine_minutes_the_identical_bytes_are_sent_again() {
    for age in [10, 11, 60, 539] {
        let net = Net::start().await;
        let (delivery, at) = in_doubt(&net, member(), Draft::text(TEXT), age).await;
        net.once("POST", "rest/posts", created(SHARE)).await;
        assert_eq!(published(delivery.reconcile(at).await).unwrap().id, id(SHARE), "{age} s");
        let sent = net.sent("POST rest/posts").await;
        assert_eq!(sent.len(), 2);
        assert_eq!(sent[0].body, sent[1].body, "{age} s");
        let headers = |index: usize| sent[index].headers.iter().filter(|(name, _)| *name != "host").cloned_pairs();
        assert_eq!(headers(0), headers(1));
    }
}

trait ClonedPairs {
    fn cloned_pairs(self) -> Vec<(String, String)>;
}

impl<'a, I: Iterator<Item = (&'a http::HeaderName, &'a http::HeaderValue)>> ClonedPairs for I {
    fn cloned_pairs(self) -> Vec<(String, String)> {
        let mut pairs: Vec<_> =
            self.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        pairs.sort();
        pairs
    }
}

#[tokio::test]
async fn nothing_is_sent_too_early_or_too_late() {
    for (age, wait) in [(0, 10), (9, 1)] {
        let net = Net::start().await;
        let (delivery, at) = in_doubt(&net, member(), Draft::text(TEXT), age).await;
        let Ok(Reconciled::AskAgain { at: same, after }) = delivery.reconcile(at.clone()).await else {
            panic!("too early")
        };
        assert_eq!((same, after), (at, Duration::from_secs(wait)));
        assert_eq!(net.requests().await.len(), 1);
    }
    for age in [540, 600, 86_400] {
        let net = Net::start().await;
        let (delivery, at) = in_doubt(&net, member(), Draft::text(TEXT), age).await;
        assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::CannotTell)), "{age} s");
        assert_eq!(net.requests().await.len(), 1, "a member's posts cannot be read, and nothing is sent again");
    }
}

#[tokio::test]
async fn a_refusal_as_duplicate_names_the_post() {
    for urn in [SHARE, "urn:li:ugcPost:7", "urn:li:activity:8"] {
        let net = Net::start().await;
        let (mut delivery, at) = in_doubt(&net, member(), Draft::text(TEXT), 15).await;
        let refusal = || fault(422, "DUPLICATE_POST", &format!("Content is a duplicate of {urn}"));
        net.on("POST", "rest/posts", refusal()).await;
        let post = published(delivery.reconcile(at.clone()).await).unwrap();
        assert_eq!(post.id, id(urn));
        assert!(post.permalink.unwrap().ends_with(&format!("/feed/update/{urn}/")));
        // Another delivery of ours was first: this one was refused for it, so it is not out.
        delivery.taken.insert(urn.to_owned());
        assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::NotPublished)), "{urn}");
    }
}

#[tokio::test]
async fn other_answers_to_the_second_sending_settle_nothing() {
    let cannot_tell = [
        fault(422, "UNPROCESSABLE_ENTITY", "Content is a duplicate of urn:li:comment:1"),
        fault(422, "UNPROCESSABLE_ENTITY", "something else about urn:li:share:1"),
        fault(400, "INVALID_VALUE_FOR_FIELD", "no"),
        fault(403, "ACCESS_DENIED", "Not enough permissions to access: posts.CREATE"),
    ];
    for answer in cannot_tell {
        let net = Net::start().await;
        let (delivery, at) = in_doubt(&net, member(), Draft::text(TEXT), 15).await;
        net.once("POST", "rest/posts", answer).await;
        assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::CannotTell)));
    }
    let again = [
        (ResponseTemplate::new(500), ErrorKind::Unavailable),
        (fault(401, "EXPIRED_ACCESS_TOKEN", "expired"), ErrorKind::Reconnect),
        (fault(429, "TOO_MANY_REQUESTS", "Resource level throttle limit"), ErrorKind::RateLimited),
        (fault(409, "CONFLICT", "conflict"), ErrorKind::Conflict),
        (fault(400, "MEDIA_ASSET_WAITING_UPLOAD", "waiting"), ErrorKind::Unavailable),
        (ResponseTemplate::new(200).set_body_string("<html>"), ErrorKind::Unexpected),
    ];
    for (answer, kind) in again {
        let net = Net::start().await;
        let (delivery, at) = in_doubt(&net, member(), Draft::text(TEXT), 15).await;
        net.once("POST", "rest/posts", answer).await;
        let error = delivery.reconcile(at).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (kind, Effect::Unknown),
            "this call proves nothing about the one before"
        );
    }
}

#[tokio::test]
async fn a_second_sending_without_an_id_is_published_with_an_unknown_one() {
    let net = Net::start().await;
    let (delivery, at) = in_doubt(&net, member(), Draft::text(TEXT), 15).await;
    net.once("POST", "rest/posts", ResponseTemplate::new(201)).await;
    assert_eq!(published(delivery.reconcile(at).await), Some(RemotePost::unknown()));
}

#[tokio::test]
async fn the_first_comment_follows_a_post_that_was_found() {
    let net = Net::start().await;
    let (delivery, at) = in_doubt(&net, member(), Draft::text(TEXT).first_comment("more"), 15).await;
    net.once("POST", "rest/posts", fault(422, "DUPLICATE_POST", &format!("Content is a duplicate of {SHARE}"))).await;
    let Ok(Reconciled::Next { part, .. }) = delivery.reconcile(at).await else { panic!("the comment follows") };
    assert_eq!(part.id, id(SHARE));
}

fn posts(elements: &[Value]) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ "elements": elements, "paging": { "start": 0, "count": 100 } }))
}

fn entry(urn: &str, text: &str, at: Timestamp) -> Value {
    json!({ "id": urn, "commentary": text, "createdAt": at.as_millisecond(), "lifecycleState": "PUBLISHED", "author": "x" })
}

#[tokio::test]
async fn a_page_is_searched_when_it_is_too_late_to_send_again() {
    let net = Net::start().await;
    let (mut delivery, at) = in_doubt(&net, page(), Draft::text(TEXT), 9 * MINUTE).await;
    let sent_at = delivery.attempted_at;
    let before = |seconds: i64| later(sent_at, SignedDuration::from_secs(-seconds));
    let mut draft_state = entry("urn:li:share:5", RETURNED, sent_at);
    draft_state["lifecycleState"] = json!("DRAFT");
    let all = [
        entry("urn:li:share:1", "Something else", sent_at),
        entry("urn:li:share:2", RETURNED, sent_at), // taken
        draft_state,
        entry(SHARE, RETURNED, before(100)),
        entry("urn:li:share:3", RETURNED, before(121)), // from before the attempt, whatever the clocks say
    ];
    delivery.taken.insert("urn:li:share:2".to_owned());
    net.on("GET", "rest/posts", posts(&all)).await;
    assert_eq!(published(delivery.reconcile(at).await).unwrap().id, id(SHARE));
    let finder = &net.sent("GET rest/posts").await[0];
    crate::support::assert_versioned(finder);
    assert_eq!(crate::support::header(finder, "x-restli-method"), Some("FINDER"));
    let query = "q=author&author=urn%3Ali%3Aorganization%3A2414183&start=0&count=100&sortBy=CREATED";
    assert_eq!(finder.url.query(), Some(query));
    assert_eq!(net.sent("POST").await.len(), 1, "nothing is sent again");
}

#[tokio::test]
async fn two_complete_reads_five_minutes_apart_prove_absence() {
    let net = Net::start().await;
    let (mut delivery, at) = in_doubt(&net, page(), Draft::text(TEXT), 9 * MINUTE).await;
    net.on("GET", "rest/posts", posts(&[entry("urn:li:share:1", "else", net.call.now())])).await;
    let ask = |outcome: Result<Reconciled, Error>| match outcome {
        Ok(Reconciled::AskAgain { at, after }) => (at, after.as_secs()),
        other => panic!("{other:?}"),
    };
    let (at, after) = ask(delivery.reconcile(at).await);
    assert_eq!(after, 300);
    net.clock.advance(Duration::from_secs(299));
    let (at, after) = ask(delivery.reconcile(at).await);
    assert_eq!(after, 1);
    net.clock.advance(Duration::from_secs(1));
    assert!(matches!(delivery.reconcile(at.clone()).await, Ok(Reconciled::NotPublished)));

    // Sent again with a new permit and lost again: the reads of the first attempt prove nothing.
    let (ready, _) = delivery.ready_from(Some(at.clone())).await.unwrap();
    delivery.attempted_at = net.call.now();
    net.clock.advance(Duration::from_secs(9 * MINUTE));
    assert_eq!(ask(delivery.reconcile(at).await).1, 300);
    assert_eq!(ask(delivery.reconcile(ready).await).1, 300);
}

#[tokio::test]
async fn a_list_that_is_not_complete_proves_nothing() {
    // Not allowed, or a page that is not understood.
    for answer in [fault(403, "ACCESS_DENIED", "no"), fault(400, "PARAM_INVALID", "no"), fault(404, "NOT_FOUND", "no")]
    {
        let net = Net::start().await;
        let (delivery, at) = in_doubt(&net, page(), Draft::text(TEXT), 9 * MINUTE).await;
        net.on("GET", "rest/posts", answer).await;
        assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::CannotTell)));
    }
    // Longer than anybody reads.
    let net = Net::start().await;
    let (delivery, at) = in_doubt(&net, page(), Draft::text(TEXT), 9 * MINUTE).await;
    let full: Vec<_> = (0..100).map(|n| entry(&format!("urn:li:share:{n}"), "else", net.call.now())).collect();
    net.on("GET", "rest/posts", posts(&full)).await;
    assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::CannotTell)));
    assert_eq!(net.sent("GET").await.len(), 5);
    // Broken for now.
    net.server.reset().await;
    net.on("GET", "rest/posts", ResponseTemplate::new(502)).await;
    let (delivery, at) = in_doubt(&net, page(), Draft::text(TEXT), 9 * MINUTE).await;
    assert_eq!(delivery.reconcile(at).await.unwrap_err().kind(), ErrorKind::Unavailable);
    // Without the scope nobody asks.
    let (mut delivery, at) = in_doubt(&net, page(), Draft::text(TEXT), 9 * MINUTE).await;
    delivery.tokens = tokens(&["w_organization_social"]);
    assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::CannotTell)));
}

#[tokio::test]
async fn a_long_list_is_read_back_to_before_the_attempt() {
    let net = Net::start().await;
    let (delivery, at) = in_doubt(&net, page(), Draft::text(TEXT), 9 * MINUTE).await;
    let mut full: Vec<_> = (0..99).map(|n| entry(&format!("urn:li:share:{n}"), "else", net.call.now())).collect();
    full.push(entry("urn:li:share:99", "older", later(delivery.attempted_at, SignedDuration::from_mins(-3))));
    net.on("GET", "rest/posts", posts(&full)).await;
    assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::AskAgain { .. })));
    assert_eq!(net.sent("GET").await.len(), 1, "the first page reaches back");
}

#[tokio::test]
async fn a_post_without_text_is_known_by_its_picture() {
    let net = Net::start().await;
    let opened = json!({ "value": { "uploadUrl": net.url("dms-uploads/1"), "image": "urn:li:image:A" } });
    net.on("POST", "rest/images", ResponseTemplate::new(200).set_body_json(opened)).await;
    net.on("PUT", "dms-uploads/1", ResponseTemplate::new(201)).await;
    let usable = ResponseTemplate::new(200).set_body_json(json!({ "status": "AVAILABLE" }));
    net.on("GET", "rest/images/urn%3Ali%3Aimage%3AA", usable).await;
    let draft = Draft::text("").image(net.keep(sample::png(2, 2)).await, "");
    let (delivery, at) = in_doubt(&net, page(), draft, 9 * MINUTE).await;
    let with = |urn: &str, image: &str| {
        let mut entry = entry(urn, "", net.call.now());
        entry["content"] = json!({ "media": { "id": image } });
        entry
    };
    let all = [
        entry("urn:li:share:1", "", net.call.now()),
        with("urn:li:share:2", "urn:li:image:B"),
        with(SHARE, "urn:li:image:A"),
    ];
    net.on("GET", "rest/posts", posts(&all)).await;
    assert_eq!(published(delivery.reconcile(at).await).unwrap().id, id(SHARE));

    // Prepared again after a restore, the picture has another name and proves nothing.
    let draft = Draft::text("").image(net.keep(sample::png(2, 2)).await, "");
    let (mut delivery, at) = in_doubt(&net, page(), draft, 9 * MINUTE).await;
    delivery.prepared_again = true;
    assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::CannotTell)));

    // A reshare without text has nothing to be known by.
    let reshare = with_options(Draft::text(""), json!({ "reshare_parent": "urn:li:share:5" }));
    let (delivery, at) = in_doubt(&net, page(), reshare, 9 * MINUTE).await;
    assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::CannotTell)));
}

#[tokio::test]
async fn a_comment_in_doubt_is_looked_for_and_never_sent_by_a_guess() {
    let net = Net::start().await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    let comments = "rest/socialActions/urn%3Ali%3Ashare%3A7400000000000000001/comments";
    net.on("POST", comments, ResponseTemplate::new(504)).await;
    let mut delivery = net.delivery(page(), Draft::text("a").first_comment("more\n(here)"));
    let Ok(Committed::Next { at, part }) = delivery.commit(delivery.ready().await).await else {
        panic!("the comment follows")
    };
    delivery.parts.push(part);
    assert_eq!(delivery.commit(at.clone()).await.unwrap_err().effect(), Effect::Unknown);
    net.clock.advance(Duration::from_secs(30));

    let list = |elements: Value| ResponseTemplate::new(200).set_body_json(json!({ "elements": elements }));
    let now = net.call.now().as_millisecond();
    let ours = json!({ "id": "9", "commentUrn": "urn:li:comment:(x,9)", "message": { "text": "more (here)" }, "created": { "time": now } });
    let old = json!({ "id": "8", "message": { "text": "more (here)" }, "created": { "time": now - 3_600_000 } });
    net.once("GET", comments, list(json!([{ "id": "7", "message": { "text": "other" } }, old, ours]))).await;
    assert_eq!(published(delivery.reconcile(at.clone()).await).unwrap().id, id("urn:li:comment:(x,9)"));

    net.on("GET", comments, list(json!([]))).await;
    let Ok(Reconciled::AskAgain { at: later, after }) = delivery.reconcile(at.clone()).await else { panic!("not yet") };
    assert_eq!(after.as_secs(), 300);
    net.clock.advance(after);
    assert!(matches!(delivery.reconcile(later).await, Ok(Reconciled::NotPublished)));
    net.once("GET", comments, fault(403, "ACCESS_DENIED", "no")).await;
    assert!(matches!(delivery.reconcile(at.clone()).await, Ok(Reconciled::CannotTell)));
    delivery.tokens = tokens(&["w_member_social"]);
    assert!(matches!(delivery.reconcile(at.clone()).await, Ok(Reconciled::CannotTell)));
    assert_eq!(net.sent(&format!("POST {comments}")).await.len(), 1);
    assert!(matches!(delivery.reconcile(Checkpoint::write(9, &"?")).await, Ok(Reconciled::CannotTell)));
}

#[tokio::test]
async fn after_a_restore_nothing_is_sent_and_pictures_have_other_names() {
    let net = Net::start().await;
    let opened = json!({ "value": { "uploadUrl": net.url("dms-uploads/1"), "image": "urn:li:image:NEW" } });
    net.on("POST", "rest/images", ResponseTemplate::new(200).set_body_json(opened)).await;
    net.on("PUT", "dms-uploads/1", ResponseTemplate::new(201)).await;
    let usable = ResponseTemplate::new(200).set_body_json(json!({ "status": "AVAILABLE" }));
    net.on("GET", "rest/images/urn%3Ali%3Aimage%3ANEW", usable).await;
    let draft = Draft::text(TEXT).image(net.keep(sample::png(2, 2)).await, "");
    let (mut delivery, at) = in_doubt(&net, page(), draft, MINUTE).await;
    delivery.prepared_again = true;
    let mut ours = entry(SHARE, TEXT, net.call.now());
    ours["content"] = json!({ "media": { "id": "urn:li:image:OLD" } });
    net.on("GET", "rest/posts", posts(&[entry("urn:li:share:1", "else", net.call.now()), ours])).await;
    assert_eq!(published(delivery.reconcile(at).await).unwrap().id, id(SHARE));

    // What a member posts cannot be read: a person decides, also while the duplicate check would still know.
    let (mut delivery, at) = in_doubt(&net, member(), Draft::text(TEXT), MINUTE).await;
    delivery.prepared_again = true;
    assert!(matches!(delivery.reconcile(at).await, Ok(Reconciled::CannotTell)));
    let sent = net.sent("POST").await;
    let posts = sent.iter().filter(|request| request.url.path().ends_with("rest/posts"));
    assert_eq!(posts.count(), 2, "each once, before the doubt");
}
