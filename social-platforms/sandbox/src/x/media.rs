//! Uploads to X: in one shot or in segments, processing, alt text.

use super::{APPEND_LIMIT, State, errors};
use crate::answer::{self, Answer, Input};
use crate::clock::SECOND;
use crate::ledger::LedgerMedia;
use crate::lock;
use crate::media::{Blob, Segments};
use crate::world::World;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

#[derive(Debug)]
pub(crate) struct Media {
    owners: Vec<u64>,
    category: Category,
    total: u64,
    segments: Option<Segments>,
    pub(super) blob: Option<Blob>,
    /// From when the processing counts; set by finalize.
    finalized_at: Option<i64>,
    /// Processing of this many microseconds; 0 = ready at once.
    processing: i64,
    failure: Option<(&'static str, &'static str)>,
    expires_at: i64,
    pub(super) alt_text: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Category {
    Image,
    Gif,
    Video,
    Subtitles,
}

const DAY: i64 = 86_400;
const SESSION_S: i64 = 1_295_999;
const MB: u64 = 1024 * 1024;

impl Category {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "tweet_image" | "dm_image" => Self::Image,
            "tweet_gif" | "dm_gif" => Self::Gif,
            "tweet_video" | "amplify_video" | "dm_video" => Self::Video,
            "subtitles" => Self::Subtitles,
            _ => return None,
        })
    }

    fn key_prefix(self) -> u8 {
        match self {
            Self::Image => 3,
            Self::Gif => 16,
            Self::Video => 13,
            Self::Subtitles => 7,
        }
    }

    fn max_bytes(self, premium: bool) -> u64 {
        match self {
            Self::Image => 5 * MB,
            Self::Gif => 15 * MB,
            Self::Video => {
                if premium {
                    16 * 1024 * MB
                } else {
                    512 * MB
                }
            }
            Self::Subtitles => MB,
        }
    }

    fn is_processed(self) -> bool {
        matches!(self, Self::Gif | Self::Video)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Pending,
    InProgress { percent: i64, left: i64 },
    Ready,
    Failed,
}

impl Media {
    pub(super) fn key(&self, id: u64) -> String {
        format!("{}_{id}", self.category.key_prefix())
    }

    pub(super) fn is_video(&self) -> bool {
        self.category == Category::Video
    }

    pub(super) fn read_type(&self) -> &'static str {
        match self.category {
            Category::Gif => "animated_gif",
            Category::Video => "video",
            Category::Image | Category::Subtitles => "photo",
        }
    }

    pub(super) fn ledger(&self, id: u64) -> Option<LedgerMedia> {
        let blob = self.blob.as_ref()?;
        Some(LedgerMedia {
            id: id.to_string(),
            kind: match self.category {
                Category::Gif => "gif",
                Category::Video => "video",
                Category::Image | Category::Subtitles => "image",
            }
            .to_owned(),
            mime: blob.facts.mime.to_owned(),
            bytes: blob.len,
            sha256: blob.sha256.clone(),
            alt_text: self.alt_text.clone(),
            title: None,
            url: blob.url(),
        })
    }

    fn stage(&self, now: i64) -> Stage {
        let Some(from) = self.finalized_at else { return Stage::Open };
        let passed = now - from;
        if passed >= self.processing {
            return if self.failure.is_some() { Stage::Failed } else { Stage::Ready };
        }
        if passed * 4 < self.processing {
            return Stage::Pending;
        }
        Stage::InProgress { percent: passed * 100 / self.processing, left: self.processing - passed }
    }

    fn finish(&mut self, blob: Blob, now: i64, processing_ms: u64) {
        self.failure = judge(self.category, &blob);
        self.blob = Some(blob);
        self.finalized_at = Some(now);
        self.expires_at = now + DAY * SECOND;
        if self.category.is_processed() {
            self.processing = i64::try_from(processing_ms).unwrap_or(i64::MAX / 1_000) * 1_000;
        }
    }

    /// The body of finalize, status and one-shot upload.
    fn report(&self, id: u64, now: i64) -> Value {
        let mut data = json!({
            "id": id.to_string(),
            "media_key": self.key(id),
            "expires_after_secs": ((self.expires_at - now) / SECOND).max(0)
        });
        if let Some(blob) = &self.blob {
            data["size"] = json!(blob.len);
            if self.category == Category::Image {
                data["image"] = json!({ "image_type": blob.facts.mime, "w": blob.facts.width, "h": blob.facts.height });
            }
        }
        let processed = self.category.is_processed() && self.processing > 0;
        let seconds = |micros: i64| (micros + SECOND - 1) / SECOND;
        let info = match self.stage(now) {
            Stage::Pending => json!({ "state": "pending", "check_after_secs": seconds(self.processing / 4).max(1) }),
            Stage::InProgress { percent, left } => {
                json!({ "state": "in_progress", "check_after_secs": seconds(left).clamp(1, 10), "progress_percent": percent })
            }
            Stage::Ready if processed => json!({ "state": "succeeded", "progress_percent": 100 }),
            Stage::Failed => {
                let (name, message) = self.failure.unwrap_or_default();
                json!({ "state": "failed", "error": { "code": 1, "name": name, "message": message } })
            }
            Stage::Open | Stage::Ready => return json!({ "data": data }),
        };
        data["processing_info"] = info;
        json!({ "data": data })
    }
}

/// Why the bytes cannot be what the category says.
fn judge(category: Category, blob: &Blob) -> Option<(&'static str, &'static str)> {
    let mime = blob.facts.mime;
    let facts = &blob.facts;
    match category {
        Category::Image if !mime.starts_with("image/") => Some(("InvalidMedia", "Unsupported image format")),
        Category::Gif if mime != "image/gif" => Some(("InvalidMedia", "Unsupported GIF format")),
        Category::Gif
            if facts.width > 1_280
                || facts.height > 1_080
                || facts.frames > 350
                || u64::from(facts.width) * u64::from(facts.height) * u64::from(facts.frames) > 300_000_000 =>
        {
            Some(("InvalidMedia", "GIF dimensions or frames exceed the limit"))
        }
        Category::Video if !mime.starts_with("video/") => Some(("InvalidMedia", "Unsupported video format")),
        _ => None,
    }
}

/// What became of the media ids of a post.
pub(super) enum Fit {
    Usable(Vec<u64>),
    Invalid,
    TooLong,
}

impl State {
    /// One to four images, or one GIF, or one video; own, processed, not expired.
    pub(super) fn fit_media(&self, ids: &[String], user: usize, premium: bool, now: i64) -> Fit {
        let mut usable = Vec::with_capacity(ids.len());
        let mut images = 0;
        for text in ids {
            let Some((id, media)) = text.parse().ok().and_then(|id: u64| Some((id, self.media.get(&id)?))) else {
                return Fit::Invalid;
            };
            let ready = media.stage(now) == Stage::Ready && now < media.expires_at;
            if !ready || !media.owners.contains(&self.users[user].number) || usable.contains(&id) {
                return Fit::Invalid;
            }
            match media.category {
                Category::Image => images += 1,
                Category::Gif if ids.len() == 1 => {}
                Category::Video if ids.len() == 1 => {
                    let facts = media.blob.as_ref().map(|blob| &blob.facts);
                    let edge = facts.map_or(0, |facts| facts.width.max(facts.height));
                    let length = facts.and_then(|facts| facts.duration_ms);
                    if edge > if premium { 1_920 } else { 1_280 } || length.is_some_and(|length| length < 500) {
                        return Fit::Invalid;
                    }
                    if !premium && length.is_some_and(|length| length > 140_000) {
                        return Fit::TooLong;
                    }
                }
                Category::Gif | Category::Video | Category::Subtitles => return Fit::Invalid,
            }
            usable.push(id);
        }
        if images > 0 && images != usable.len() { Fit::Invalid } else { Fit::Usable(usable) }
    }

    fn open(&mut self, category: Category, owners: Vec<u64>, total: u64, now: i64) -> u64 {
        let id = self.next_id(now);
        let media = Media {
            owners,
            category,
            total,
            segments: Some(Segments::new(total)),
            blob: None,
            finalized_at: None,
            processing: 0,
            failure: None,
            expires_at: now + SESSION_S * SECOND,
            alt_text: None,
        };
        self.media.insert(id, media);
        id
    }

    /// An upload of this user that is not expired.
    fn own_media(&mut self, text: &str, user: usize, now: i64) -> Option<(u64, &mut Media)> {
        let id = text.parse().ok()?;
        let number = self.users.get(user)?.number;
        let media = self.media.get_mut(&id)?;
        (media.owners.contains(&number) && now < media.expires_at).then_some((id, media))
    }
}

const MEDIA_TYPES: &[&str] = &[
    "video/mp4",
    "video/webm",
    "video/mp2t",
    "video/quicktime",
    "text/srt",
    "text/vtt",
    "image/jpeg",
    "image/gif",
    "image/bmp",
    "image/png",
    "image/webp",
    "image/pjpeg",
    "image/tiff",
    "model/gltf-binary",
    "model/vnd.usdz+zip",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InitializeBody {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    total_bytes: Option<u64>,
    #[serde(default)]
    media_category: Option<String>,
    #[serde(default)]
    additional_owners: Vec<String>,
    #[serde(default, rename = "shared")]
    _shared: Option<bool>,
}

pub(super) fn initialize(world: &World, input: &Input, user: usize, now: i64) -> Answer {
    let body: InitializeBody = match serde_json::from_slice(&input.body) {
        Ok(body) => body,
        Err(error) => return errors::invalid_body(&[format!("$: {error}")]),
    };
    let media_type = body.media_type.unwrap_or_default();
    if !MEDIA_TYPES.contains(&media_type.as_str()) {
        return errors::invalid("media_type", &media_type, "$.media_type: does not have a value in the enumeration");
    }
    let name = body.media_category.unwrap_or_else(|| "tweet_image".to_owned());
    let Some(category) = Category::parse(&name) else {
        return errors::invalid("media_category", &name, "$.media_category: does not have a value in the enumeration");
    };
    let total = body.total_bytes.unwrap_or(0);
    if !(1..=17_179_869_184).contains(&total) {
        return errors::invalid("total_bytes", &total.to_string(), "$.total_bytes: must be between 1 and 17179869184");
    }
    let mut state = lock(&world.x);
    let max = category.max_bytes(state.users[user].is_premium());
    if total > max {
        return errors::invalid("total_bytes", &total.to_string(), &format!("File size exceeds {max} bytes."));
    }
    let mut owners = vec![state.users[user].number];
    owners.extend(body.additional_owners.iter().filter_map(|id| id.parse::<u64>().ok()));
    let id = state.open(category, owners, total, now);
    let key = format!("{}_{id}", category.key_prefix());
    answer::json(200, &json!({ "data": { "id": id.to_string(), "media_key": key, "expires_after_secs": SESSION_S } }))
}

/// Parts of a multipart or JSON body by name; `media` is decoded.
async fn parts(input: &Input) -> Option<HashMap<String, Bytes>> {
    let kind = input.header("content-type")?;
    let mut found = HashMap::new();
    if kind.starts_with("multipart/form-data") {
        let mut request = http::Request::new(axum::body::Body::from(input.body.clone()));
        *request.headers_mut() = input.parts.headers.clone();
        DefaultBodyLimit::disable().apply(&mut request);
        let mut form = Multipart::from_request(request, &()).await.ok()?;
        while let Some(field) = form.next_field().await.ok()? {
            let name = field.name()?.to_owned();
            found.insert(name, field.bytes().await.ok()?);
        }
        return Some(found);
    }
    let Value::Object(body) = serde_json::from_slice(&input.body).ok()? else { return None };
    for (name, value) in body {
        let bytes = match value {
            Value::String(text) if name == "media" => STANDARD.decode(text).ok()?,
            Value::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        };
        found.insert(name, Bytes::from(bytes));
    }
    Some(found)
}

fn text(parts: &HashMap<String, Bytes>, name: &str) -> Option<String> {
    parts.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

pub(super) async fn append(world: &World, input: &Input, id: &str, user: usize, now: i64) -> Answer {
    let Some(parts) = parts(input).await else {
        return errors::invalid_body(&["The body is neither multipart/form-data nor JSON.".to_owned()]);
    };
    let index = text(&parts, "segment_index").unwrap_or_default();
    let Some(segment) = index.parse::<u32>().ok().filter(|index| *index <= 999) else {
        return errors::invalid("segment_index", &index, "segment_index must be between 0 and 999");
    };
    let Some(bytes) = parts.get("media") else {
        return errors::invalid_body(&["$.media: is missing but it is required".to_owned()]);
    };
    if bytes.len() > APPEND_LIMIT {
        return answer::empty(413);
    }
    let mut state = lock(&world.x);
    let Some((_, media)) = state.own_media(id, user, now) else { return unknown_media(id) };
    let expires = media.expires_at / SECOND;
    let Some(segments) = &mut media.segments else {
        return errors::invalid("id", id, "The media upload is already finalized.");
    };
    segments.put(segment, bytes.clone());
    answer::json(200, &json!({ "data": { "expires_at": expires } }))
}

fn unknown_media(id: &str) -> Answer {
    errors::invalid("id", id, &format!("Could not find media with id: [{id}]."))
}

pub(super) fn finalize(world: &World, id: &str, user: usize, now: i64) -> Answer {
    let processing_ms = world.settings().processing_ms;
    let mut state = lock(&world.x);
    let Some((number, media)) = state.own_media(id, user, now) else { return unknown_media(id) };
    if let Some(segments) = media.segments.take() {
        if segments.received() != media.total || !segments.contiguous() {
            media.segments = Some(segments);
            return errors::invalid("id", id, "Segments do not add up to provided total file size.");
        }
        let blob = segments.finish(&world.media);
        media.finish(blob, now, processing_ms);
        if let Some((_, message)) = media.failure.filter(|_| !media.category.is_processed()) {
            return errors::invalid("id", id, message);
        }
    }
    answer::json(200, &media.report(number, now))
}

pub(super) fn status(world: &World, input: &Input, user: usize, now: i64) -> Answer {
    let query = input.query();
    let id = query.get("media_id").unwrap_or_default();
    if query.get("command").is_some_and(|command| command != "STATUS") {
        return errors::invalid("command", query.get("command").unwrap_or_default(), "The `command` must be STATUS");
    }
    let mut state = lock(&world.x);
    match state.own_media(id, user, now) {
        Some((number, media)) => answer::json(200, &media.report(number, now)),
        None => errors::invalid("media_id", id, &format!("Could not find media with id: [{id}].")),
    }
}

pub(super) async fn upload(world: &World, input: &Input, user: usize, now: i64) -> Answer {
    let Some(parts) = parts(input).await else {
        return errors::invalid_body(&["The body is neither multipart/form-data nor JSON.".to_owned()]);
    };
    let Some(bytes) = parts.get("media").filter(|bytes| !bytes.is_empty()) else {
        return errors::invalid_body(&["$.media: is missing but it is required".to_owned()]);
    };
    let name = text(&parts, "media_category").unwrap_or_default();
    let Some(category) = Category::parse(&name) else {
        return errors::invalid("media_category", &name, "$.media_category: does not have a value in the enumeration");
    };
    let processing_ms = world.settings().processing_ms;
    let mut state = lock(&world.x);
    let max = category.max_bytes(state.users[user].is_premium());
    if bytes.len() as u64 > max {
        return errors::invalid("media", "", &format!("File size exceeds {max} bytes."));
    }
    let blob = world.media.put(bytes);
    if let Some((_, message)) = judge(category, &blob).filter(|_| !category.is_processed()) {
        return errors::invalid("media", "", message);
    }
    let mut owners = vec![state.users[user].number];
    let more = text(&parts, "additional_owners").unwrap_or_default();
    owners.extend(more.split(',').filter_map(|id| id.trim().parse::<u64>().ok()));
    let id = state.open(category, owners, blob.len, now);
    let Some(media) = state.media.get_mut(&id) else { return answer::empty(500) };
    media.segments = None;
    media.finish(blob, now, processing_ms);
    answer::json(200, &media.report(id, now))
}

pub(super) fn metadata(world: &World, input: &Input, user: usize, now: i64) -> Answer {
    let body: Value = serde_json::from_slice(&input.body).unwrap_or_default();
    let id = body["id"].as_str().unwrap_or_default();
    let Some(alt) = body["metadata"]["alt_text"]["text"].as_str() else {
        return errors::invalid_body(&["$.metadata.alt_text.text: is missing but it is required".to_owned()]);
    };
    if alt.chars().count() > 1_000 {
        return errors::invalid("metadata.alt_text.text", alt, "Alt text must be at most 1000 characters long.");
    }
    let mut state = lock(&world.x);
    let Some((_, media)) = state.own_media(id, user, now) else { return unknown_media(id) };
    if !matches!(media.category, Category::Image | Category::Gif) {
        return errors::invalid("id", id, "Alt text is allowed for images and GIFs only.");
    }
    media.alt_text = Some(alt.to_owned());
    answer::json(200, &json!({ "data": { "id": id, "associated_metadata": { "alt_text": { "text": alt } } } }))
}

pub(super) fn subtitles(world: &World, input: &Input, user: usize, now: i64) -> Answer {
    let body: Value = serde_json::from_slice(&input.body).unwrap_or_default();
    let id = body["id"].as_str().unwrap_or_default();
    let subtitle = body["subtitles"]["id"].as_str().unwrap_or_default().to_owned();
    let mut state = lock(&world.x);
    let known = state.own_media(&subtitle, user, now).is_some_and(|(_, media)| media.category == Category::Subtitles);
    if !known {
        return unknown_media(&subtitle);
    }
    match state.own_media(id, user, now) {
        Some((_, media)) if media.is_video() => answer::json(
            200,
            &json!({ "data": {
                "id": id,
                "media_category": body["media_category"],
                "associated_subtitles": [body["subtitles"]]
            } }),
        ),
        _ => unknown_media(id),
    }
}
