//! Uploads: what goes where, and how they go on after an interruption.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use social_core::{
    Account, Checkpoint, Draft, Error, ErrorKind, Link, MediaId, MediaRef, Prepared, Retry,
    draft::StoredMedia,
    library::MediaLibrary,
    media::{MediaKind, MediaSource, sample},
};
use wiremock::ResponseTemplate;

use crate::support::{Net, PAGE, SHARE, assert_versioned, body, created, facts, fault, header, member, page};

const PART: u64 = 4_194_304;
const VIDEO: &str = "urn:li:video:V";
const VIDEO_STATUS: &str = "rest/videos/urn%3Ali%3Avideo%3AV";

fn ok(value: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(value)
}

fn status(status: &str) -> ResponseTemplate {
    ok(json!({ "id": "x", "status": status }))
}

fn forbidden() -> ResponseTemplate {
    fault(403, "ACCESS_DENIED", "Accessing this image resource is forbidden for the application")
}

/// A video of LinkedIn's parts: the last one is shorter.
async fn open_video(net: &Net, size: u64, expires_at: i64) {
    let instructions: Vec<Value> = (0..size.div_ceil(PART))
        .map(|part| {
            let url = net.url(&format!("dms-uploads/v/{part}"));
            json!({ "uploadUrl": url, "firstByte": part * PART, "lastByte": ((part + 1) * PART).min(size) - 1 })
        })
        .collect();
    let value = json!({
        "video": VIDEO, "uploadToken": "", "uploadUrlsExpireAt": expires_at, "uploadInstructions": instructions,
        "captionsUploadUrl": null, "thumbnailUploadUrl": null
    });
    net.on("POST", "rest/videos", ok(json!({ "value": value }))).await;
    for part in 0..size.div_ceil(PART) {
        let answer = ResponseTemplate::new(200).insert_header("etag", format!("\"e{part}\"").as_str());
        net.on("PUT", &format!("dms-uploads/v/{part}"), answer).await;
    }
}

#[tokio::test]
async fn a_picture_of_a_member_waits_a_while_since_its_state_may_not_be_read() {
    let net = Net::start().await;
    let opened = json!({ "value": { "uploadUrlExpiresAt": 1_900_000_000_000_i64, "uploadUrl": net.url("dms-uploads/1"), "image": "urn:li:image:A" } });
    net.on("POST", "rest/images", ok(opened)).await;
    net.on("PUT", "dms-uploads/1", ResponseTemplate::new(201)).await;
    net.on("GET", "rest/images/urn%3Ali%3Aimage%3AA", forbidden()).await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    let picture = sample::gif(8, 8, 3);
    let delivery = net.delivery(member(), Draft::text("a").image(net.keep(picture.clone()).await, "a (b)"));
    let (at, waits) = delivery.ready_from(None).await.unwrap();
    assert_eq!(waits, [Duration::from_secs(20)]);
    let _ = delivery.commit(at).await.unwrap();

    let asked = net.asked().await;
    assert_eq!(
        asked,
        [
            "POST rest/images?action=initializeUpload",
            "PUT dms-uploads/1",
            "GET rest/images/urn%3Ali%3Aimage%3AA",
            "POST rest/posts"
        ]
    );
    let requests = net.requests().await;
    assert_versioned(&requests[0]);
    assert_eq!(body(&requests[0]), json!({ "initializeUploadRequest": { "owner": "urn:li:person:782bbtaQ" } }));
    assert_eq!(header(&requests[1], "authorization"), Some("Bearer marker-access-token"), "pictures need the token");
    assert_eq!(header(&requests[1], "linkedin-version"), None);
    assert_eq!(header(&requests[1], "x-restli-protocol-version"), None);
    assert_eq!(header(&requests[1], "content-length"), Some(picture.len().to_string().as_str()));
    assert_eq!(requests[1].body, picture);
    assert_versioned(&requests[2]);
    assert_eq!(body(&requests[3])["content"], json!({ "media": { "id": "urn:li:image:A", "altText": "a (b)" } }));
}

#[tokio::test]
async fn pictures_of_a_page_are_asked_for_until_they_can_be_used() {
    let net = Net::start().await;
    for name in ["B", "A"] {
        let url = net.url(&format!("dms-uploads/{name}"));
        net.once(
            "POST",
            "rest/images",
            ok(json!({ "value": { "uploadUrl": url, "image": format!("urn:li:image:{name}") } })),
        )
        .await;
        net.on("PUT", &format!("dms-uploads/{name}"), ResponseTemplate::new(201)).await;
    }
    net.once("GET", "rest/images/urn%3Ali%3Aimage%3AA", status("PROCESSING")).await;
    for name in ["A", "B"] {
        net.on("GET", &format!("rest/images/urn%3Ali%3Aimage%3A{name}"), status("AVAILABLE")).await;
    }
    net.on("POST", "rest/posts", created(SHARE)).await;
    let (first, second) = (net.keep(sample::png(2, 2)).await, net.keep(sample::jpeg(3, 3)).await);
    let delivery = net.delivery(page(), Draft::text("a").image(first, "first").image(second, ""));
    let (at, waits) = delivery.ready_from(None).await.unwrap();
    assert_eq!(waits, [Duration::from_secs(3)]);
    let _ = delivery.commit(at).await.unwrap();
    let requests = net.requests().await;
    assert_eq!(body(&requests[0])["initializeUploadRequest"]["owner"], PAGE, "the author owns the media");
    let wanted = net.sent("POST rest/images").await.len();
    assert_eq!(wanted, 2);
    let images = &body(net.sent("POST rest/posts").await.last().unwrap())["content"]["multiImage"]["images"];
    let ids: Vec<_> = images.as_array().unwrap().iter().map(|image| image["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!((&images[0]["altText"], images[1].get("altText")), (&json!("first"), None));
    let puts: Vec<_> = net.sent("PUT").await.iter().map(|put| put.body.len()).collect();
    assert_eq!(puts, [sample::png(2, 2).len(), sample::jpeg(3, 3).len()], "in the order of the draft");
}

#[tokio::test]
async fn the_picture_of_a_link_card_is_uploaded() {
    let net = Net::start().await;
    let opened = json!({ "value": { "uploadUrl": net.url("dms-uploads/1"), "image": "urn:li:image:T" } });
    net.on("POST", "rest/images", ok(opened)).await;
    net.on("PUT", "dms-uploads/1", ResponseTemplate::new(201)).await;
    net.on("GET", "rest/images/urn%3Ali%3Aimage%3AT", status("AVAILABLE")).await;
    net.on("POST", "rest/posts", created(SHARE)).await;
    let thumbnail = Some(net.keep(sample::png(2, 2)).await);
    let link = Link { url: "https://example.com/".into(), title: Some("T".into()), description: None, thumbnail };
    let sent = net.delivery(page(), Draft::text("a").link(link)).post().await;
    let article = json!({ "source": "https://example.com/", "title": "T", "thumbnail": "urn:li:image:T" });
    assert_eq!(sent["content"], json!({ "article": article }));
}

#[tokio::test]
async fn a_video_goes_in_the_parts_that_linkedin_asks_for() {
    let net = Net::start().await;
    let size = PART + 1000;
    open_video(&net, size, 1_900_000_000_000).await;
    net.on_finalize(ResponseTemplate::new(200)).await;
    net.once("GET", VIDEO_STATUS, status("PROCESSING")).await;
    net.on("GET", VIDEO_STATUS, status("AVAILABLE")).await;
    net.on("POST", "rest/posts", created("urn:li:ugcPost:1")).await;
    let file = sample::mp4(64, 36, 5_000, size);
    assert_eq!(file.len() as u64, size);
    let mut draft = Draft::text("a").video(net.keep(file.clone()).await);
    draft.media[0].title = Some("Our film".into());
    let delivery = net.delivery(member(), draft);
    let (at, waits) = delivery.ready_from(None).await.unwrap();
    assert_eq!(waits, [Duration::from_secs(10)]);
    let _ = delivery.commit(at).await.unwrap();

    assert_eq!(
        net.asked().await,
        [
            "POST rest/videos?action=initializeUpload",
            "PUT dms-uploads/v/0",
            "PUT dms-uploads/v/1",
            "POST rest/videos?action=finalizeUpload",
            "GET rest/videos/urn%3Ali%3Avideo%3AV",
            "GET rest/videos/urn%3Ali%3Avideo%3AV",
            "POST rest/posts"
        ]
    );
    let requests = net.requests().await;
    let initialize = json!({ "owner": "urn:li:person:782bbtaQ", "fileSizeBytes": size, "uploadCaptions": false, "uploadThumbnail": false });
    assert_eq!(body(&requests[0]), json!({ "initializeUploadRequest": initialize }));
    for part in &requests[1..3] {
        for name in ["authorization", "linkedin-version", "x-restli-protocol-version"] {
            assert_eq!(header(part, name), None, "{name} has no place on a part");
        }
        assert_eq!(header(part, "content-type"), Some("application/octet-stream"));
        assert_eq!(header(part, "content-length"), Some(part.body.len().to_string().as_str()));
    }
    let sent: Vec<u8> = requests[1..3].iter().flat_map(|part| part.body.clone()).collect();
    assert!(sent == file, "the parts are the file");
    let finalize = json!({ "video": VIDEO, "uploadToken": "", "uploadedPartIds": ["\"e0\"", "\"e1\""] });
    assert_versioned(&requests[3]);
    assert_eq!(body(&requests[3]), json!({ "finalizeUploadRequest": finalize }));
    assert_eq!(body(&requests[6])["content"], json!({ "media": { "id": VIDEO, "title": "Our film" } }));
}

impl Net {
    /// Answers finalize; the same path as initialize, told apart by its query.
    async fn on_finalize(&self, answer: ResponseTemplate) {
        wiremock::Mock::given(wiremock::matchers::method("POST"))
            .and(wiremock::matchers::path("/linkedin/rest/videos"))
            .and(wiremock::matchers::query_param("action", "finalizeUpload"))
            .respond_with(answer)
            .with_priority(2)
            .mount(&self.server)
            .await;
    }
}

/// Prepares until the given number of requests was made, and gives the checkpoint.
async fn prepare_until(delivery: &crate::support::Delivery<'_>, requests: usize) -> Checkpoint {
    let mut from = None;
    while delivery.net.requests().await.len() < requests {
        match delivery.prepare(from).await.unwrap() {
            Prepared::Again(at) | Prepared::Wait { at, .. } | Prepared::Ready(at) => from = Some(at),
        }
    }
    from.unwrap()
}

#[tokio::test]
async fn an_interrupted_video_goes_on_behind_its_last_part() {
    let net = Net::start().await;
    let size = 2 * PART + 1000;
    open_video(&net, size, 1_900_000_000_000).await;
    net.on_finalize(ResponseTemplate::new(200)).await;
    net.on("GET", VIDEO_STATUS, status("AVAILABLE")).await;
    let draft = Draft::text("a").video(net.keep(sample::mp4(64, 36, 5_000, size)).await);
    let delivery = net.delivery(member(), draft);
    // Opened, and two of three parts are out. Another worker goes on.
    let at = prepare_until(&delivery, 3).await;
    delivery.ready_from(Some(at)).await.unwrap();
    let asked = net.asked().await;
    assert_eq!(asked.iter().filter(|line| line.starts_with("PUT")).count(), 3, "{asked:?}");
    assert_eq!(asked.iter().filter(|line| line.contains("initialize")).count(), 1, "{asked:?}");
    let ids =
        &body(&net.sent("POST rest/videos?action=finalizeUpload").await[0])["finalizeUploadRequest"]["uploadedPartIds"];
    assert_eq!(ids, &json!(["\"e0\"", "\"e1\"", "\"e2\""]));
}

#[tokio::test]
async fn a_part_whose_answer_is_lost_is_sent_again_alone() {
    let net = Net::start().await;
    open_video(&net, PART + 1, 1_900_000_000_000).await;
    net.on_finalize(ResponseTemplate::new(200)).await;
    net.on("GET", VIDEO_STATUS, status("AVAILABLE")).await;
    let delivery = net.delivery(member(), Draft::text("a").video(net.keep(sample::mp4(64, 36, 5_000, PART + 1)).await));
    let at = prepare_until(&delivery, 2).await;
    net.once("PUT", "dms-uploads/v/1", ResponseTemplate::new(503)).await;
    let error = delivery.prepare(Some(at.clone())).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_hint()), (ErrorKind::Unavailable, Retry::Backoff));
    delivery.ready_from(Some(at)).await.unwrap();
    let puts: Vec<_> = net.asked().await.into_iter().filter(|line| line.starts_with("PUT")).collect();
    assert_eq!(puts, ["PUT dms-uploads/v/0", "PUT dms-uploads/v/1", "PUT dms-uploads/v/1"]);
}

#[tokio::test]
async fn an_upload_whose_addresses_have_ended_is_opened_anew() {
    let net = Net::start().await;
    let soon = (net.call.now().as_second() + 120) * 1000;
    open_video(&net, PART + 1, soon).await;
    net.on_finalize(ResponseTemplate::new(200)).await;
    net.on("GET", VIDEO_STATUS, status("AVAILABLE")).await;
    let delivery = net.delivery(member(), Draft::text("a").video(net.keep(sample::mp4(64, 36, 5_000, PART + 1)).await));
    let at = prepare_until(&delivery, 2).await;
    net.clock.advance(Duration::from_secs(61));
    open_video(&net, PART + 1, soon).await;
    let Ok(Prepared::Again(again)) = delivery.prepare(Some(at)).await else { panic!("it begins again") };
    assert_eq!(net.requests().await.len(), 2, "nothing is sent to an address that ends");
    // It is told the same end again and again: this is not repeated for ever.
    let mut from = Some(again);
    let error = loop {
        match delivery.prepare(from).await {
            Ok(Prepared::Again(at)) => from = Some(at),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.retry_hint(), Retry::Backoff);
    assert!(net.requests().await.len() < 10);
}

#[tokio::test]
async fn an_expired_address_that_linkedin_reports_is_replaced() {
    let net = Net::start().await;
    for (answer, path) in [
        (fault(400, "EXPIRED_UPLOAD_URL", "The upload URL has expired"), "dms-uploads/1"),
        (ResponseTemplate::new(403), "dms-uploads/1"),
        (ResponseTemplate::new(404), "dms-uploads/1"),
    ] {
        net.server.reset().await;
        let opened = json!({ "value": { "uploadUrl": net.url("dms-uploads/1"), "image": "urn:li:image:A" } });
        net.on("POST", "rest/images", ok(opened)).await;
        net.once("PUT", path, answer).await;
        net.on("PUT", path, ResponseTemplate::new(201)).await;
        net.on("GET", "rest/images/urn%3Ali%3Aimage%3AA", status("AVAILABLE")).await;
        let delivery = net.delivery(page(), Draft::text("a").image(net.keep(sample::png(2, 2)).await, ""));
        delivery.ready().await;
        assert_eq!(net.sent("POST rest/images").await.len(), 2);
    }
    net.once("PUT", "dms-uploads/1", fault(401, "EXPIRED_ACCESS_TOKEN", "expired")).await;
    let delivery = net.delivery(page(), Draft::text("a").image(net.keep(sample::png(2, 2)).await, ""));
    assert_eq!(delivery.ready_from(None).await.unwrap_err().kind(), ErrorKind::Reconnect);
}

#[tokio::test]
async fn instructions_that_are_not_the_whole_file_are_not_followed() {
    let net = Net::start().await;
    let file = net.keep(sample::mp4(64, 36, 5_000, 5000)).await;
    let url = net.url("dms-uploads/v/0");
    let part = |first: u64, last: u64| json!({ "uploadUrl": url, "firstByte": first, "lastByte": last });
    for parts in [
        json!([]),
        json!([part(0, 4998)]),
        json!([part(0, 5000)]),
        json!([part(1, 4999)]),
        json!([part(0, 99), part(101, 4999)]),
        json!([part(0, 4999), part(0, 4999)]),
        json!([part(0, u64::MAX)]),
    ] {
        net.once("POST", "rest/videos", ok(json!({ "value": { "video": VIDEO, "uploadInstructions": parts } }))).await;
        let delivery = net.delivery(member(), Draft::text("a").video(file.clone()));
        assert_eq!(delivery.prepare(None).await.unwrap_err().kind(), ErrorKind::Unexpected, "{parts}");
    }
}

#[tokio::test]
async fn files_and_tokens_are_not_sent_elsewhere() {
    let net = Net::start().await;
    let file = net.keep(sample::png(2, 2)).await;
    for url in ["https://uploads.example.com/x", "http://192.0.2.7/x", "not an address"] {
        net.once("POST", "rest/images", ok(json!({ "value": { "uploadUrl": url, "image": "urn:li:image:A" } }))).await;
        let delivery = net.delivery(member(), Draft::text("a").image(file.clone(), ""));
        let error = delivery.ready_from(None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unexpected);
        assert!(!format!("{error} {error:?}").contains("example"), "an error holds no address");
    }
}

async fn sent_video(net: &Net, account: Account) -> (crate::support::Delivery<'_>, Checkpoint) {
    open_video(net, 5000, 1_900_000_000_000).await;
    let delivery = net.delivery(account, Draft::text("a").video(net.keep(sample::mp4(64, 36, 5_000, 5000)).await));
    let at = prepare_until(&delivery, 2).await;
    (delivery, at)
}

#[tokio::test]
async fn a_video_that_may_not_be_looked_at_gets_time_by_its_size() {
    let net = Net::start().await;
    net.on_finalize(ResponseTemplate::new(200)).await;
    net.on("GET", VIDEO_STATUS, forbidden()).await;
    let (delivery, at) = sent_video(&net, member()).await;
    let (_, waits) = delivery.ready_from(Some(at)).await.unwrap();
    assert_eq!(waits, [Duration::from_secs(180)]);
    assert_eq!(net.sent("GET").await.len(), 1, "it is asked once");
}

#[tokio::test]
async fn a_finalize_whose_answer_was_lost_has_worked() {
    let net = Net::start().await;
    net.on_finalize(fault(400, "UPDATING_ASSET_FAILED", "The upload is already finalized")).await;
    net.on("GET", VIDEO_STATUS, status("AVAILABLE")).await;
    let (delivery, at) = sent_video(&net, member()).await;
    delivery.ready_from(Some(at)).await.unwrap();
    assert_eq!(net.sent("POST rest/videos?action=initializeUpload").await.len(), 1);
}

#[tokio::test]
async fn a_finalize_that_is_refused_opens_the_upload_anew() {
    let net = Net::start().await;
    net.on_finalize(fault(400, "UPDATING_ASSET_FAILED", "a part is missing")).await;
    net.on("GET", VIDEO_STATUS, status("WAITING_UPLOAD")).await;
    let (delivery, at) = sent_video(&net, member()).await;
    let error = delivery.ready_from(Some(at)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert_eq!(
        net.sent("POST rest/videos?action=initializeUpload").await.len(),
        4,
        "three times more and then no more"
    );
}

#[tokio::test]
async fn processing_that_fails_is_tried_once_more_and_that_never_ends_is_put_back() {
    let net = Net::start().await;
    net.on_finalize(ResponseTemplate::new(200)).await;
    let failed = ok(json!({ "status": "PROCESSING_FAILED", "processingFailureReason": "UNSUPPORTED_FORMAT" }));
    net.on("GET", VIDEO_STATUS, failed).await;
    let (delivery, at) = sent_video(&net, member()).await;
    let error = delivery.ready_from(Some(at)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_hint()), (ErrorKind::Rejected, Retry::Never));
    assert!(error.to_string().contains("UNSUPPORTED_FORMAT"));
    assert_eq!(net.sent("PUT").await.len(), 2);

    net.server.reset().await;
    net.on_finalize(ResponseTemplate::new(200)).await;
    net.on("GET", VIDEO_STATUS, status("PROCESSING")).await;
    let (delivery, at) = sent_video(&net, member()).await;
    let error = delivery.ready_from(Some(at)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_hint()), (ErrorKind::Unavailable, Retry::Backoff));
    assert!(net.sent("GET").await.len() > 10);
}

#[tokio::test]
async fn a_large_video_is_never_in_memory() {
    const SIZE: u64 = 5 * PART + 7;
    let largest = Arc::new(AtomicUsize::new(0));
    let net = Net::with_library(Arc::new(Zeros { size: SIZE, largest: largest.clone() })).await;
    open_video(&net, SIZE, 1_900_000_000_000).await;
    net.on_finalize(ResponseTemplate::new(200)).await;
    net.on("GET", VIDEO_STATUS, status("AVAILABLE")).await;
    let stored = StoredMedia { id: MediaId::new(), facts: facts(MediaKind::Video, "video/mp4", SIZE) };
    net.delivery(member(), Draft::text("a").video(MediaRef::Stored(stored))).ready().await;
    let sent: usize = net.sent("PUT").await.iter().map(|put| put.body.len()).sum();
    assert_eq!(sent as u64, SIZE);
    let largest = largest.load(Ordering::Relaxed);
    assert!((1..=1024 * 1024).contains(&largest), "read {largest} bytes at once");
}

/// A library of one file that is nowhere.
#[derive(Debug)]
struct Zeros {
    size: u64,
    largest: Arc<AtomicUsize>,
}

#[async_trait]
impl MediaLibrary for Zeros {
    async fn put(&self, _id: MediaId, _bytes: Bytes) -> Result<(), Error> {
        Ok(())
    }

    async fn put_file(&self, _id: MediaId, _path: &std::path::Path) -> Result<(), Error> {
        Ok(())
    }

    async fn open(&self, _id: MediaId) -> Result<Arc<dyn MediaSource>, Error> {
        Ok(Arc::new(ZeroSource { size: self.size, largest: self.largest.clone() }))
    }

    async fn remove(&self, _id: MediaId) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Debug)]
struct ZeroSource {
    size: u64,
    largest: Arc<AtomicUsize>,
}

#[async_trait]
impl MediaSource for ZeroSource {
    fn size_bytes(&self) -> u64 {
        self.size
    }

    async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.largest.fetch_max(len, Ordering::Relaxed);
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap();
        Ok(Bytes::from(vec![0; len.min(left)]))
    }
}
