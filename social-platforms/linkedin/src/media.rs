//! Uploads: pictures and documents in one piece, videos in the parts that LinkedIn asks for. Nothing here is visible, everything may
//! be repeated: what is left half done stays with LinkedIn as an orphan that nobody sees.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use social_core::{
    Error, ErrorKind, PublishContext, Retry,
    draft::StoredMedia,
    http::{Body, Reply},
    media::MediaKind,
    time::{later, positive},
};
use url::Url;

use crate::{
    LinkedIn,
    api::encode,
    error::{MediaFault, classify, media_fault},
    publish::author,
    wire::{FinalizeRequest, FinalizeUpload, InitializeUpload, MediaStatus, OpenedUpload, UploadRequest, Valued},
};

/// How often one upload is opened anew because its addresses have ended.
const REOPENED_MOST: u8 = 3;
/// How often one file is uploaded anew because LinkedIn could not process it.
const REPROCESSED_MOST: u8 = 1;
/// An upload is not begun when its address ends this soon.
const EXPIRY_MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// How long to wait for a picture or document whose state may not be read.
const GRACE: SignedDuration = SignedDuration::from_secs(20);
/// The same for videos: so long, and as much again for each half gigabyte begun.
const VIDEO_GRACE_S: u64 = 60;
const VIDEO_GRACE_PER_BYTES: (u64, u64) = (120, 500_000_000);
/// How long processing may take before the delivery is put back.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// Slowest line for which an upload still fits its deadline.
const SLOWEST_BYTES_PER_S: u64 = 128 * 1024;

/// What preparing media achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A step is done.
    Moved,
    /// LinkedIn needs time.
    Wait(Duration),
    /// Everything can be used.
    Usable,
}

/// One file on its way to LinkedIn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Item {
    kind: Kind,
    size: u64,
    /// How often its addresses ended.
    #[serde(default)]
    reopened: u8,
    /// How often LinkedIn could not process it.
    #[serde(default)]
    reprocessed: u8,
    #[serde(flatten)]
    state: State,
}

/// LinkedIn's kinds of media; an animation is an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Image,
    Video,
    Document,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    /// Nothing was done.
    Planned,
    /// LinkedIn gave addresses.
    Open {
        urn: String,
        /// Videos only; often empty.
        #[serde(default)]
        token: String,
        /// What is still to be sent, in order.
        parts: Vec<Part>,
        /// What LinkedIn answered to the parts of a video that are sent, in order.
        #[serde(default)]
        etags: Vec<String>,
        #[serde(default)]
        expires_at: Option<Timestamp>,
    },
    /// LinkedIn has all bytes.
    Sent {
        urn: String,
        at: Timestamp,
        /// The state may not be read: wait for a while instead.
        #[serde(default)]
        unreadable: bool,
    },
    /// It can be used in a post, as far as can be told.
    Usable {
        urn: String,
        at: Timestamp,
        #[serde(default)]
        unreadable: bool,
    },
}

/// A stretch of the file and where it goes. The last byte is included, as LinkedIn writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    url: String,
    first: u64,
    last: u64,
}

impl Kind {
    /// The resource's name in paths.
    fn path(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Video => "videos",
            Self::Document => "documents",
        }
    }

    fn poll_after(self) -> Duration {
        Duration::from_secs(if self == Self::Video { 10 } else { 3 })
    }
}

impl Item {
    /// The items for these files, with nothing done.
    pub(crate) fn plan(files: &[&StoredMedia]) -> Vec<Self> {
        let item = |file: &&StoredMedia| {
            let kind = match file.facts.kind {
                MediaKind::Video => Kind::Video,
                MediaKind::Document => Kind::Document,
                _ => Kind::Image,
            };
            Self { kind, size: file.facts.size_bytes, reopened: 0, reprocessed: 0, state: State::Planned }
        };
        files.iter().map(item).collect()
    }

    /// Its URN once it can be used.
    pub(crate) fn urn(&self) -> Option<&str> {
        if let State::Usable { urn, .. } = &self.state { Some(urn) } else { None }
    }

    /// When its last byte was sent.
    pub(crate) fn age_from(&self) -> Option<Timestamp> {
        if let State::Usable { at, .. } | State::Sent { at, .. } = self.state { Some(at) } else { None }
    }

    /// Whether it may be uploaded anew after LinkedIn could not process it.
    pub(crate) fn may_reprocess(&self) -> bool {
        self.reprocessed < REPROCESSED_MOST
    }

    /// Begins anew because LinkedIn could not process it, unless that was tried.
    fn reprocess(&mut self) -> Option<Progress> {
        let may = self.may_reprocess();
        may.then(|| {
            self.reprocessed += 1;
            self.state = State::Planned;
            Progress::Moved
        })
    }

    /// Begins anew because the addresses have ended, unless that happens again and again.
    fn reopen(&mut self) -> Option<Progress> {
        (self.reopened < REOPENED_MOST).then(|| {
            self.reopened += 1;
            self.state = State::Planned;
            Progress::Moved
        })
    }

    fn grace(&self) -> SignedDuration {
        if self.kind != Kind::Video {
            return GRACE;
        }
        let (more, per) = VIDEO_GRACE_PER_BYTES;
        let seconds = VIDEO_GRACE_S + more * self.size.div_ceil(per).max(1);
        SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}

impl LinkedIn {
    /// Does the next step: uploads one picture or document, opens a video, sends one part of it, finalizes it, or asks what became of what
    /// was sent.
    pub(crate) async fn advance_media(
        &self,
        cx: &PublishContext<'_>,
        files: &[&StoredMedia],
        items: &mut Vec<Item>,
    ) -> Result<Progress, Error> {
        if files.len() != items.len() {
            *items = Item::plan(files); // the draft was changed meanwhile
        }
        for (item, file) in items.iter_mut().zip(files) {
            match &item.state {
                State::Planned => return self.open_upload(cx, item, file).await,
                State::Open { .. } => return self.send_part(cx, item, file).await,
                State::Sent { .. } | State::Usable { .. } => {}
            }
        }
        self.await_processing(cx, items).await
    }

    /// Looks once more at media that were usable. `Usable` if there is no reason to doubt it.
    pub(crate) async fn recheck_media(&self, cx: &PublishContext<'_>, items: &mut [Item]) -> Result<Progress, Error> {
        for item in items {
            if let State::Usable { urn, unreadable: false, .. } = &item.state
                && let Processing::Failed(reason) = self.processing(cx, item.kind, urn).await?
            {
                return item.reprocess().ok_or_else(|| unusable(reason));
            }
        }
        Ok(Progress::Usable)
    }

    async fn open_upload(
        &self,
        cx: &PublishContext<'_>,
        item: &mut Item,
        file: &StoredMedia,
    ) -> Result<Progress, Error> {
        let size = cx.open(file).await?.size_bytes();
        let is_video = item.kind == Kind::Video;
        let owner = author(&cx.account.profile);
        let body = InitializeUpload {
            initialize_upload_request: UploadRequest {
                owner: &owner,
                file_size_bytes: is_video.then_some(size),
                upload_captions: is_video.then_some(false),
                upload_thumbnail: is_video.then_some(false),
            },
        };
        let url = self.api.rest(item.kind.path(), Some("action=initializeUpload"));
        let reply = self.api.versioned(cx.http().post("media.initialize", url), cx.token()).json(&body).send().await?;
        if !reply.is_success() {
            return Err(classify(cx.call, &reply));
        }
        let opened = reply.json::<Valued<OpenedUpload>>()?.value;
        let parts: Vec<Part> = match opened.upload_url {
            Some(url) if !is_video => vec![Part { url, first: 0, last: size.saturating_sub(1) }],
            _ => opened
                .upload_instructions
                .into_iter()
                .map(|part| Part { url: part.upload_url, first: part.first_byte, last: part.last_byte })
                .collect(),
        };
        if size == 0 || !covers(&parts, size) {
            return Err(Error::new(ErrorKind::Unexpected, "media.initialize")
                .message("the upload instructions do not cover the file"));
        }
        item.size = size;
        item.state = State::Open {
            urn: opened.urn,
            token: opened.upload_token.unwrap_or_default(),
            parts,
            etags: Vec::new(),
            expires_at: opened.upload_url_expires_at.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        };
        if is_video {
            return Ok(Progress::Moved);
        }
        // One piece: it is sent whole after an interruption in any case, and then better to an address of its own.
        self.send_part(cx, item, file).await
    }

    async fn send_part(&self, cx: &PublishContext<'_>, item: &mut Item, file: &StoredMedia) -> Result<Progress, Error> {
        let State::Open { urn, token, parts, etags, expires_at } = &mut item.state else { return Ok(Progress::Moved) };
        let Some(part) = parts.first() else {
            return match self.finalize(cx, urn, token, etags).await? {
                Finalized::Done => {
                    item.state = State::Sent { urn: std::mem::take(urn), at: cx.now(), unreadable: false };
                    Ok(Progress::Moved)
                }
                Finalized::Lost(error) => item.reopen().ok_or(error),
            };
        };
        if expires_at.is_some_and(|at| later(cx.now(), EXPIRY_MARGIN) > at) {
            return item.reopen().ok_or_else(|| session_over("the addresses of the upload expired again and again"));
        }
        let url = Url::parse(&part.url).ok().filter(|url| self.api.is_upload_host(url)).ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "media.upload")
                .message("the upload address is not one of LinkedIn's")
                .effect_none()
        })?;
        let length = part.last.saturating_sub(part.first) + 1;
        let body = Body::Media { source: cx.open(file).await?, range: part.first..part.last.saturating_add(1) };
        let mut request = cx
            .http()
            .put("media.upload", url)
            .header("content-type", "application/octet-stream")
            .body(body)
            .deadline(Duration::from_secs(60 + length / SLOWEST_BYTES_PER_S));
        // Pictures and documents want the token; the addresses of video parts are signed and must not get it.
        if item.kind != Kind::Video {
            request = request.bearer(cx.token());
        }
        let reply = request.send().await?;
        if !reply.is_success() {
            let error = classify(cx.call, &reply);
            return if is_session_over(&reply, item.kind) { item.reopen().ok_or(error) } else { Err(error) };
        }
        if item.kind != Kind::Video {
            item.state = State::Sent { urn: std::mem::take(urn), at: cx.now(), unreadable: false };
            return Ok(Progress::Moved);
        }
        let etag = reply.header("etag").filter(|etag| !etag.is_empty()).ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "media.upload")
                .message("LinkedIn took a part without naming it")
                .provider(reply.provider(None))
        })?;
        etags.push(etag.to_owned());
        parts.remove(0);
        Ok(Progress::Moved)
    }

    async fn finalize(
        &self,
        cx: &PublishContext<'_>,
        video: &str,
        token: &str,
        etags: &[String],
    ) -> Result<Finalized, Error> {
        let body = FinalizeUpload {
            finalize_upload_request: FinalizeRequest { video, upload_token: token, uploaded_part_ids: etags },
        };
        let url = self.api.rest("videos", Some("action=finalizeUpload"));
        let reply = self.api.versioned(cx.http().post("media.finalize", url), cx.token()).json(&body).send().await?;
        if reply.is_success() {
            return Ok(Finalized::Done);
        }
        let error = classify(cx.call, &reply);
        match reply.status() {
            // An earlier finalize may have worked with its answer lost.
            400..=499 if matches!(error.kind(), ErrorKind::Rejected | ErrorKind::NotFound | ErrorKind::Conflict) => {
                match self.processing(cx, Kind::Video, video).await? {
                    Processing::Done | Processing::Under => Ok(Finalized::Done),
                    _ => Ok(Finalized::Lost(error)),
                }
            }
            _ if media_fault(&reply) == Some(MediaFault::Lost) => Ok(Finalized::Lost(error)),
            _ => Err(error),
        }
    }

    async fn await_processing(&self, cx: &PublishContext<'_>, items: &mut [Item]) -> Result<Progress, Error> {
        let mut wait: Option<Duration> = None;
        // What may not be read for one file of a kind may not be read for the others.
        let mut closed = Vec::new();
        for item in items {
            let State::Sent { urn, at, unreadable } = &mut item.state else { continue };
            let (urn, at) = (urn.clone(), *at);
            *unreadable |= closed.contains(&item.kind);
            let seen = if *unreadable { Processing::Unreadable } else { self.processing(cx, item.kind, &urn).await? };
            let more = match seen {
                Processing::Done => None,
                Processing::Unreadable => {
                    *unreadable = true;
                    closed.push(item.kind);
                    positive(later(at, item.grace()).duration_since(cx.now()))
                }
                Processing::Failed(reason) => return item.reprocess().ok_or_else(|| unusable(reason)),
                Processing::Under | Processing::Waiting if cx.now().duration_since(at) > PATIENCE => {
                    return Err(Error::new(ErrorKind::Unavailable, "media.status")
                        .message("LinkedIn has not finished processing the media")
                        .advice(
                            "LinkedIn takes unusually long to prepare a file of this post. We look again by ourselves.",
                        )
                        .effect_none());
                }
                Processing::Under | Processing::Waiting => Some(item.kind.poll_after()),
            };
            match more {
                Some(more) => wait = wait.max(Some(more)),
                None => item.state = State::Usable { urn, at, unreadable: closed.contains(&item.kind) },
            }
        }
        Ok(wait.map_or(Progress::Usable, Progress::Wait))
    }

    async fn processing(&self, cx: &PublishContext<'_>, kind: Kind, urn: &str) -> Result<Processing, Error> {
        let url = self.api.rest(&format!("{}/{}", kind.path(), encode(urn)), None);
        let reply = self.api.versioned(cx.http().get("media.status", url), cx.token()).send().await?;
        if reply.status() == 403 {
            return Ok(Processing::Unreadable);
        }
        if !reply.is_success() {
            return Err(classify(cx.call, &reply));
        }
        let found: MediaStatus = reply.json()?;
        Ok(match found.status.as_deref() {
            Some("AVAILABLE") => Processing::Done,
            Some("PROCESSING_FAILED") => Processing::Failed(found.processing_failure_reason),
            Some("WAITING_UPLOAD") => Processing::Waiting,
            _ => Processing::Under,
        })
    }
}

/// What LinkedIn says about a file that it has.
enum Processing {
    Done,
    Under,
    /// It misses bytes, or has not noticed them yet.
    Waiting,
    Failed(Option<String>),
    /// Tokens that may only post may not look.
    Unreadable,
}

enum Finalized {
    Done,
    /// The upload is gone; another may help.
    Lost(Error),
}

/// Whether the parts are the whole file, in order and without gaps.
fn covers(parts: &[Part], size: u64) -> bool {
    let end = parts
        .iter()
        .try_fold(0, |next, part| (part.first == next && part.last >= part.first).then_some(part.last.checked_add(1)?));
    end == Some(size)
}

/// Whether a refused part means that the addresses are of no use any more.
fn is_session_over(reply: &Reply, kind: Kind) -> bool {
    match reply.status() {
        403 | 404 | 410 => true,
        401 => kind == Kind::Video, // no token was sent, so it is not the token
        _ => media_fault(reply) == Some(MediaFault::Lost),
    }
}

fn session_over(message: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "media.upload").message(message).effect_none()
}

fn unusable(reason: Option<String>) -> Error {
    let message = match reason {
        Some(reason) => format!("LinkedIn cannot process the media: {}", reason.chars().take(120).collect::<String>()),
        None => "LinkedIn cannot process the media".to_owned(),
    };
    Error::new(ErrorKind::Rejected, "media.status")
        .message(message)
        .retry(Retry::Never)
        .advice("LinkedIn cannot use a file of this post. Please use another one.")
        .effect_none()
}
