//! Images, videos and documents: a place to upload to, the bytes, the processing.

use super::{Caller, Kind, State, errors};
use crate::answer::{self, Answer, Input};
use crate::clock::SECOND;
use crate::ledger::LedgerMedia;
use crate::lock;
use crate::media::{Blob, BlobWriter, Segments, hex};
use crate::oauth::Platform;
use crate::world::World;
use axum::body::Body;
use bytes::BytesMut;
use http::request::Parts;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;

const PART: u64 = 4_194_304;
const DAY: i64 = 86_400 * SECOND;
/// More than this in one upload of an image or document is refused.
const MAX_UPLOAD: u64 = 200 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Asset {
    pub(super) kind: Kind,
    pub(super) owner: String,
    size: u64,
    url_expires_at: i64,
    segments: Option<Segments>,
    etags: Vec<Option<String>>,
    blob: Option<Blob>,
    processing_from: Option<i64>,
    processing: i64,
    failure: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    WaitingUpload,
    Processing,
    Available,
    Failed,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::WaitingUpload => "WAITING_UPLOAD",
            Self::Processing => "PROCESSING",
            Self::Available => "AVAILABLE",
            Self::Failed => "PROCESSING_FAILED",
        }
    }
}

impl Asset {
    pub(super) fn status(&self, now: i64) -> Status {
        match self.processing_from {
            None => Status::WaitingUpload,
            Some(from) if now < from + self.processing => Status::Processing,
            Some(_) if self.failure.is_some() => Status::Failed,
            Some(_) => Status::Available,
        }
    }

    fn process(&mut self, blob: Blob, world: &World, now: i64) {
        self.failure = judge(self.kind, &blob);
        self.blob = Some(blob);
        self.processing_from = Some(now);
        self.processing = i64::try_from(world.settings().processing_ms).unwrap_or(i64::MAX / 1_000) * 1_000;
    }

    pub(super) fn ledger(&self, urn: &str, alt_text: Option<&str>, title: Option<&str>) -> Option<LedgerMedia> {
        let blob = self.blob.as_ref()?;
        Some(LedgerMedia {
            id: urn.to_owned(),
            kind: match (self.kind, blob.kind()) {
                (Kind::Image, "gif") => "gif",
                (Kind::Image, _) => "image",
                (Kind::Video, _) => "video",
                (Kind::Document, _) => "document",
            }
            .to_owned(),
            mime: blob.facts.mime.to_owned(),
            bytes: blob.len,
            sha256: blob.sha256.clone(),
            alt_text: alt_text.map(str::to_owned),
            title: title.map(str::to_owned),
            url: blob.url(),
        })
    }
}

fn judge(kind: Kind, blob: &Blob) -> Option<&'static str> {
    let facts = &blob.facts;
    match kind {
        Kind::Image => {
            if !matches!(facts.mime, "image/jpeg" | "image/png" | "image/gif") {
                Some("UNSUPPORTED_FORMAT")
            } else if u64::from(facts.width) * u64::from(facts.height) >= 36_152_320 {
                Some("TOO_MANY_PIXELS")
            } else if facts.frames > 250 {
                Some("TOO_MANY_FRAMES")
            } else {
                None
            }
        }
        Kind::Video => {
            if facts.mime != "video/mp4" {
                Some("UNSUPPORTED_FORMAT")
            } else if blob.len < 75_000 {
                Some("FILE_TOO_SMALL")
            } else if facts.duration_ms.is_some_and(|duration| !(3_000..=1_800_000).contains(&duration)) {
                Some("DURATION_OUT_OF_RANGE")
            } else {
                None
            }
        }
        Kind::Document => {
            let known = matches!(facts.mime, "application/pdf" | "application/zip" | "application/msword");
            if !known {
                Some("UNSUPPORTED_FORMAT")
            } else if blob.len > 100 * 1024 * 1024 {
                Some("FILE_TOO_LARGE")
            } else {
                None
            }
        }
    }
}

pub(super) fn initialize(
    world: &World,
    input: &Input,
    kind: Kind,
    caller: &Caller,
    now: i64,
) -> Result<Answer, Answer> {
    let body: Value = serde_json::from_slice(&input.body).unwrap_or_default();
    let request = &body["initializeUploadRequest"];
    let owner = request["owner"]
        .as_str()
        .ok_or_else(|| errors::field("MISSING_FIELD", "/initializeUploadRequest/owner", "owner is required"))?;
    let mut state = lock(&world.linkedin);
    let state = &mut *state;
    state.act_as(caller, owner, "owner", kind.resource())?;

    let mut size = 0;
    if kind == Kind::Video {
        let path = "/initializeUploadRequest/fileSizeBytes";
        size = request["fileSizeBytes"]
            .as_u64()
            .ok_or_else(|| errors::field("MISSING_FIELD", path, "fileSizeBytes is required"))?;
        if !(1..=500 * 1024 * 1024).contains(&size) {
            return Err(errors::field("INVALID_VALUE_FOR_FIELD", path, "the video must have at most 500 MB"));
        }
    }
    let key = state.rng.letters(40);
    let urn = format!("urn:li:{}:{}{}", kind.as_str(), kind.urn_prefix(), state.rng.letters(16));
    let place = format!("{}/linkedin/dms-uploads/sp/{}/{key}", input.base(), kind.as_str());
    let parts = size.div_ceil(PART);
    let url_expires_at = now + if kind == Kind::Video { 30 * DAY } else { DAY };
    let asset = Asset {
        kind,
        owner: owner.to_owned(),
        size,
        url_expires_at,
        segments: (kind == Kind::Video).then(|| Segments::new(size)),
        etags: vec![None; usize::try_from(parts).unwrap_or_default()],
        blob: None,
        processing_from: None,
        processing: 0,
        failure: None,
    };
    state.assets.insert(urn.clone(), asset);
    state.uploads.insert(key, urn.clone());
    let expires_ms = url_expires_at / 1_000;
    if kind != Kind::Video {
        let mut value = json!({ "uploadUrlExpiresAt": expires_ms, "uploadUrl": format!("{place}/0") });
        value[kind.as_str()] = json!(urn);
        return Ok(answer::json(200, &json!({ "value": value })));
    }
    let instructions: Vec<Value> = (0..parts)
        .map(|part| {
            let first = part * PART;
            json!({
                "uploadUrl": format!("{place}/{part}"),
                "firstByte": first,
                "lastByte": (first + PART).min(size) - 1
            })
        })
        .collect();
    let extra = |name: &str, wanted: &str| match request[wanted].as_bool() {
        Some(true) => json!(format!("{place}/{name}")),
        _ => Value::Null,
    };
    Ok(answer::json(
        200,
        &json!({ "value": {
            "video": urn,
            "uploadToken": "",
            "uploadUrlsExpireAt": expires_ms,
            "uploadInstructions": instructions,
            "captionsUploadUrl": extra("captions", "uploadCaptions"),
            "thumbnailUploadUrl": extra("thumbnail", "uploadThumbnail")
        } }),
    ))
}

/// What a PUT to an upload URL is about.
struct Target {
    urn: String,
    kind: Kind,
    /// Bytes of this part, for videos.
    expected: Option<u64>,
}

fn target(state: &State, key: &str, part: &str, now: i64) -> Result<Target, Answer> {
    let Some((urn, asset)) = state.uploads.get(key).and_then(|urn| Some((urn, state.assets.get(urn)?))) else {
        return Err(errors::not_found());
    };
    if now >= asset.url_expires_at {
        return Err(errors::refusal(400, "EXPIRED_UPLOAD_URL", "The upload URL has expired"));
    }
    let mut expected = None;
    if asset.kind == Kind::Video {
        let index = part.parse::<u64>().ok().filter(|index| *index < asset.etags.len() as u64);
        let index = index.ok_or_else(errors::not_found)?;
        expected = Some((asset.size - index * PART).min(PART));
    }
    Ok(Target { urn: urn.clone(), kind: asset.kind, expected })
}

/// Takes the bytes of an upload while they arrive.
pub(super) async fn receive(world: &Arc<World>, key: &str, part: &str, parts: &Parts, body: Body) -> Answer {
    let now = world.now();
    let extra = matches!(part, "captions" | "thumbnail");
    let found = {
        let state = lock(&world.linkedin);
        target(&state, key, if extra { "0" } else { part }, now)
    };
    let target = match found {
        Ok(target) => target,
        Err(refusal) => return discard(body, refusal).await,
    };
    let has_credentials = parts.headers.contains_key("authorization");
    if target.kind == Kind::Video && has_credentials {
        let refusal = errors::refusal(403, "ACCESS_DENIED", "This upload URL does not take an Authorization header");
        return discard(body, refusal).await;
    }
    if target.kind != Kind::Video {
        let owner = answer::bearer(parts).and_then(|token| world.tokens.access(token));
        let may = owner.is_some_and(|token| token.grant.platform == Platform::LinkedIn && token.is_usable(now));
        if !may {
            let refusal = errors::numbered(401, 65_600, "INVALID_ACCESS_TOKEN", "Invalid access token");
            return discard(body, refusal).await;
        }
    }
    if extra {
        return discard(body, answer::empty(201)).await;
    }
    match target.expected {
        Some(expected) => receive_part(world, &target.urn, part, expected, body).await,
        None => receive_whole(world, &target.urn, body).await,
    }
}

async fn discard(mut body: Body, reply: Answer) -> Answer {
    while let Some(Ok(_)) = body.frame().await {}
    reply
}

async fn receive_whole(world: &Arc<World>, urn: &str, mut body: Body) -> Answer {
    let mut writer = BlobWriter::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return answer::empty(400) };
        if let Some(data) = frame.data_ref() {
            if writer.len() + data.len() as u64 > MAX_UPLOAD {
                return discard(body, answer::empty(413)).await;
            }
            writer.push(data);
        }
    }
    if writer.len() == 0 {
        return errors::refusal(400, "INVALID_VALUE_BLANK_FIELD", "The upload has no bytes");
    }
    let blob = writer.finish(&world.media);
    let now = world.now();
    let mut state = lock(&world.linkedin);
    let Some(asset) = state.assets.get_mut(urn) else { return errors::not_found() };
    asset.process(blob, world, now);
    answer::empty(201)
}

async fn receive_part(world: &Arc<World>, urn: &str, part: &str, expected: u64, mut body: Body) -> Answer {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return answer::empty(400) };
        if let Some(data) = frame.data_ref() {
            if (bytes.len() + data.len()) as u64 > expected {
                return discard(body, answer::empty(413)).await;
            }
            bytes.extend_from_slice(data);
        }
    }
    if bytes.len() as u64 != expected {
        return errors::refusal(400, "", &format!("The part must have {expected} bytes"));
    }
    let mut state = lock(&world.linkedin);
    let Some(asset) = state.assets.get_mut(urn) else { return errors::not_found() };
    let Ok(index) = part.parse::<u32>() else { return errors::not_found() };
    let Some(segments) = &mut asset.segments else {
        return errors::refusal(400, "UPDATING_ASSET_FAILED", "The upload is already finalized");
    };
    let etag = hex(&segments.put(index, bytes.freeze())[..16]);
    if let Some(slot) = asset.etags.get_mut(index as usize) {
        *slot = Some(etag.clone());
    }
    answer::with_header(answer::empty(200), "etag", &etag)
}

pub(super) fn finalize(world: &World, input: &Input, caller: &Caller, now: i64) -> Result<Answer, Answer> {
    let body: Value = serde_json::from_slice(&input.body).unwrap_or_default();
    let request = &body["finalizeUploadRequest"];
    let urn = request["video"]
        .as_str()
        .ok_or_else(|| errors::field("MISSING_FIELD", "/finalizeUploadRequest/video", "video is required"))?;
    if request["uploadToken"].as_str() != Some("") {
        let path = "/finalizeUploadRequest/uploadToken";
        return Err(errors::field("INVALID_VALUE_FOR_FIELD", path, "the uploadToken is not the one that was given"));
    }
    let given: Vec<&str> =
        request["uploadedPartIds"].as_array().into_iter().flatten().map(|id| id.as_str().unwrap_or_default()).collect();
    let mut state = lock(&world.linkedin);
    let state = &mut *state;
    let owner =
        state.assets.get(urn).filter(|asset| asset.kind == Kind::Video).map(|asset| asset.owner.clone()).ok_or_else(
            || errors::field("INVALID_VIDEO_ID", "/finalizeUploadRequest/video", "there is no such video"),
        )?;
    state.act_as(caller, &owner, "owner", "videos")?;
    let Some(asset) = state.assets.get_mut(urn) else { return Err(errors::not_found()) };
    if asset.segments.is_none() {
        return Ok(answer::empty(200));
    }
    if asset.etags.iter().any(Option::is_none) {
        return Err(errors::refusal(
            400,
            "MEDIA_ASSET_WAITING_UPLOAD",
            &format!("Media asset {urn} is waiting for the upload of its parts"),
        ));
    }
    let in_order = given.len() == asset.etags.len()
        && asset.etags.iter().zip(&given).all(|(etag, given)| etag.as_deref() == Some(given.trim_matches('"')));
    if !in_order {
        return Err(errors::refusal(
            400,
            "UPDATING_ASSET_FAILED",
            "uploadedPartIds must list the ETag of every part in the order of the upload instructions",
        ));
    }
    if let Some(segments) = asset.segments.take() {
        let blob = segments.finish(&world.media);
        asset.process(blob, world, now);
    }
    Ok(answer::empty(200))
}

pub(super) fn status(
    world: &World,
    input: &Input,
    kind: Kind,
    urn: &str,
    caller: &Caller,
    now: i64,
) -> Result<Answer, Answer> {
    let state = lock(&world.linkedin);
    let Some(asset) = state.assets.get(urn).filter(|asset| asset.kind == kind) else {
        return Err(errors::not_found());
    };
    let may_read = match state.organization(&asset.owner) {
        Some(organization) => {
            (caller.has("w_organization_social") || caller.has("r_organization_social"))
                && state.role(caller.member, organization).is_some()
        }
        None => {
            state.urn_of(caller.app, caller.member) == asset.owner
                && (kind == Kind::Video || caller.has("r_member_social"))
        }
    };
    if !may_read {
        let message = format!("Accessing this {} resource is forbidden for the application", kind.as_str());
        return Err(errors::numbered(403, 100, "ACCESS_DENIED", &message));
    }
    let status = asset.status(now);
    let mut view = json!({ "id": urn, "owner": asset.owner, "status": status.as_str() });
    if status == Status::Failed {
        view["processingFailureReason"] = json!(asset.failure);
    }
    if let (Status::Available, Some(blob)) = (status, &asset.blob) {
        view["downloadUrl"] = json!(format!("{}{}", input.base(), blob.url()));
        view["downloadUrlExpiresAt"] = json!((now + DAY) / 1_000);
        if kind == Kind::Video {
            view["duration"] = json!(blob.facts.duration_ms.unwrap_or_default());
            view["aspectRatioWidth"] = json!(blob.facts.width);
            view["aspectRatioHeight"] = json!(blob.facts.height);
        }
    }
    Ok(answer::json(200, &view))
}
