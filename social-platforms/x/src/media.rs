//! Getting files to X: pictures in one request, everything else in segments that are read from the file one at a time.

use std::time::Duration;

use jiff::SignedDuration;
use social_core::{
    Attachment, Error, ErrorKind, MediaId, PublishContext,
    draft::StoredMedia,
    http::{Body, Part, Reply},
    media::{MediaKind, MediaSource},
    time::later,
};

use crate::{
    X, ask,
    descriptor::{IMAGE_BYTES, MIB},
    error::classify,
    operation,
    progress::{Progress, Upload, Uploaded},
    wire::{self, ProcessingState},
};

/// Segments are numbered up to here.
const LAST_SEGMENT: u64 = 999;
/// So many segments are sent before progress is written down.
const SEGMENTS_PER_STEP: u64 = 16;
/// A segment that X finds too large is halved, down to this.
const SMALLEST_CHUNK: u64 = 64 * 1024;
/// How long X keeps a file, unless it says so.
const USUAL_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// What must be left of that life when the post is made.
const MARGIN: SignedDuration = SignedDuration::from_mins(10);
/// When X has processed a file for longer than this, something is wrong.
const LONGEST_PROCESSING: SignedDuration = SignedDuration::from_mins(60);
const SEND_DEADLINE: Duration = Duration::from_secs(120);

/// What a step of uploading achieved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Every file is on X.
    Complete,
    /// Something was done and more is to do.
    More,
    /// X is processing a file.
    Wait(Duration),
}

impl X {
    /// Does the next piece of getting the draft's files to X.
    pub(crate) async fn upload_next(&self, cx: &PublishContext<'_>, progress: &mut Progress) -> Result<Step, Error> {
        let files: Vec<(&Attachment, &StoredMedia)> = cx.draft.stored_media().collect();
        if files.len() != cx.draft.media.len() {
            return Err(Error::invalid(operation::PREPARE, "a file of this draft is not in the media library"));
        }
        forget_stale(cx, progress, &files);
        for (uploaded, (attachment, _)) in progress.media.iter_mut().zip(&files) {
            if !uploaded.described {
                self.describe(cx, &uploaded.id, attachment.alt_text.as_deref().unwrap_or_default()).await?;
                uploaded.described = true;
                return Ok(Step::More);
            }
        }
        let Some(&(attachment, file)) = files.get(progress.media.len()) else { return Ok(Step::Complete) };
        let described = !takes_description(file.facts.kind)
            || attachment.alt_text.as_deref().is_none_or(|alt| alt.trim().is_empty());
        match progress.upload.take() {
            None if file.facts.kind == MediaKind::Image && file.facts.size_bytes <= IMAGE_BYTES => {
                let reply = self.send_whole(cx, file).await?;
                self.received(cx, progress, file.id, described, &reply, None)
            }
            None => {
                progress.upload = Some(self.initialize(cx, file).await?);
                Ok(Step::More)
            }
            Some(upload) if upload.complete_at.is_some() => match self.status(cx, &upload.id).await {
                Ok(reply) => self.received(cx, progress, file.id, described, &reply, Some(upload)),
                Err(error) => begin_anew(progress, error),
            },
            Some(upload) => {
                let source = cx.open(file).await.map_err(Error::effect_none)?;
                if upload.offset < source.size_bytes() {
                    return self.append(cx, progress, upload, &*source).await;
                }
                match self.finalize(cx, &upload.id).await {
                    Ok(reply) => self.received(cx, progress, file.id, described, &reply, Some(upload)),
                    Err(error) => begin_anew(progress, error),
                }
            }
        }
    }

    async fn send_whole(&self, cx: &PublishContext<'_>, file: &StoredMedia) -> Result<Reply, Error> {
        let source = cx.open(file).await.map_err(Error::effect_none)?;
        let bytes = read(&*source, 0, source.size_bytes()).await?;
        let parts = vec![
            Part::text("media_category", category(file.facts.kind)),
            Part::file("media", bytes, "media", file.facts.mime.as_str()),
        ];
        let request = cx.http().post(operation::UPLOAD, self.endpoint(&["2", "media", "upload"]));
        ask(request.bearer(cx.token()).body(Body::Multipart(parts)).deadline(SEND_DEADLINE)).await
    }

    async fn initialize(&self, cx: &PublishContext<'_>, file: &StoredMedia) -> Result<Upload, Error> {
        let total_bytes = cx.open(file).await.map_err(Error::effect_none)?.size_bytes();
        let chunk = first_chunk(total_bytes);
        let body =
            wire::OpenUpload { media_type: &file.facts.mime, media_category: category(file.facts.kind), total_bytes };
        let request = cx.http().post(operation::INITIALIZE, self.endpoint(&["2", "media", "upload", "initialize"]));
        let upload = one(&ask(request.bearer(cx.token()).json(&body)).await?)?;
        Ok(Upload {
            file: file.id,
            expires_at: later(cx.now(), life(&upload)),
            id: upload.id,
            chunk,
            segment: 0,
            offset: 0,
            complete_at: None,
        })
    }

    /// Sends some segments. A segment may be sent twice: its number says where it belongs.
    async fn append(
        &self,
        cx: &PublishContext<'_>,
        progress: &mut Progress,
        mut upload: Upload,
        source: &dyn MediaSource,
    ) -> Result<Step, Error> {
        let total = source.size_bytes();
        let url = self.endpoint(&["2", "media", "upload", &upload.id, "append"]);
        for _ in 0..SEGMENTS_PER_STEP {
            if upload.offset >= total {
                break;
            }
            let length = upload.chunk.min(total - upload.offset);
            let bytes = read(source, upload.offset, length).await?;
            let parts = vec![
                Part::text("segment_index", upload.segment.to_string()),
                Part::file("media", bytes, "segment", "application/octet-stream"),
            ];
            let request = cx.http().post(operation::APPEND, url.clone());
            let request = request.bearer(cx.token()).body(Body::Multipart(parts)).deadline(SEND_DEADLINE);
            let reply = request.send().await.map_err(Error::effect_none)?;
            if reply.is_success() {
                upload.offset += length;
                upload.segment += 1;
                continue;
            }
            if reply.status() == 413
                && let Some(chunk) = smaller_chunk(&upload, total)
            {
                upload.chunk = chunk;
                break;
            }
            return begin_anew(progress, classify(&reply));
        }
        progress.upload = Some(upload);
        Ok(Step::More)
    }

    async fn finalize(&self, cx: &PublishContext<'_>, id: &str) -> Result<Reply, Error> {
        let url = self.endpoint(&["2", "media", "upload", id, "finalize"]);
        match ask(cx.http().post(operation::FINALIZE, url).bearer(cx.token()).body(Body::Empty)).await {
            // Perhaps it was finalised before a restart and X minds the repetition; its state tells.
            Err(error) if is_refusal(&error) => self.status(cx, id).await.ok().filter(is_processing).ok_or(error),
            other => other,
        }
    }

    async fn status(&self, cx: &PublishContext<'_>, id: &str) -> Result<Reply, Error> {
        let request = cx.http().get(operation::STATUS, self.endpoint(&["2", "media", "upload"]));
        ask(request.query([("command", "STATUS"), ("media_id", id)]).bearer(cx.token())).await
    }

    async fn describe(&self, cx: &PublishContext<'_>, id: &str, text: &str) -> Result<(), Error> {
        let body = wire::Description { id, metadata: wire::Metadata { alt_text: wire::AltText { text } } };
        let request = cx.http().post(operation::DESCRIBE, self.endpoint(&["2", "media", "metadata"]));
        ask(request.bearer(cx.token()).json(&body)).await.map(drop)
    }

    /// All bytes of a file are there: is X done with it?
    fn received(
        &self,
        cx: &PublishContext<'_>,
        progress: &mut Progress,
        file: MediaId,
        described: bool,
        reply: &Reply,
        upload: Option<Upload>,
    ) -> Result<Step, Error> {
        let told = one(reply)?;
        let now = cx.now();
        let expires_at = match (&upload, told.expires_after_secs) {
            (Some(upload), None) if upload.complete_at.is_some() => upload.expires_at,
            _ => later(now, life(&told)),
        };
        let state = told.processing_info.as_ref().map_or(ProcessingState::Succeeded, |info| info.state);
        match state {
            ProcessingState::Succeeded => {
                progress.media.push(Uploaded { file, id: told.id, expires_at, described });
                Ok(Step::More)
            }
            ProcessingState::Failed => {
                let error = told.processing_info.and_then(|info| info.error);
                let (name, message) = error.map(|error| (error.name, error.message)).unwrap_or_default();
                let advice = message.map_or_else(
                    || "X cannot use this file. A video should be MP4 (H.264) with AAC sound.".to_owned(),
                    |message| format!("X cannot use this file: {}", message.chars().take(200).collect::<String>()),
                );
                Err(Error::new(ErrorKind::Invalid, reply.operation().clone())
                    .message("the network could not process a file")
                    .advice(advice)
                    .provider(reply.provider(name))
                    .effect_none())
            }
            ProcessingState::Pending | ProcessingState::InProgress => {
                let complete_at = upload.as_ref().and_then(|upload| upload.complete_at).unwrap_or(now);
                if now.duration_since(complete_at) > LONGEST_PROCESSING {
                    let error = Error::new(ErrorKind::Timeout, operation::STATUS).effect_none();
                    return Err(error.message("the network has been processing a file for an hour"));
                }
                let seconds = told.processing_info.and_then(|info| info.check_after_secs).unwrap_or(5);
                let (chunk, segment, offset) = upload.map_or((MIB, 0, 0), |u| (u.chunk, u.segment, u.offset));
                let complete_at = Some(complete_at);
                progress.upload = Some(Upload { file, id: told.id, expires_at, chunk, segment, offset, complete_at });
                Ok(Step::Wait(Duration::from_secs(seconds.clamp(1, 60))))
            }
        }
    }
}

/// Files that X will have forgotten by the time of the post, or that the draft no longer has, are sent again.
fn forget_stale(cx: &PublishContext<'_>, progress: &mut Progress, files: &[(&Attachment, &StoredMedia)]) {
    let enough = later(cx.now(), MARGIN);
    let fits = |index: usize, file: MediaId| files.get(index).is_some_and(|(_, stored)| stored.id == file);
    let good =
        progress.media.iter().enumerate().take_while(|(i, up)| fits(*i, up.file) && up.expires_at > enough).count();
    if good < progress.media.len() {
        progress.media.truncate(good);
        progress.upload = None;
    }
    let behind = progress.media.len();
    progress.upload = progress.upload.take().filter(|upload| fits(behind, upload.file) && upload.expires_at > enough);
}

/// X no longer knows an upload that should be there: once, it is begun anew.
fn begin_anew(progress: &mut Progress, error: Error) -> Result<Step, Error> {
    if !is_refusal(&error) || progress.restarts > 0 {
        return Err(error);
    }
    progress.restarts += 1;
    progress.upload = None;
    Ok(Step::More)
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound)
}

fn is_processing(reply: &Reply) -> bool {
    one(reply).is_ok_and(|upload| upload.processing_info.is_some())
}

fn one(reply: &Reply) -> Result<wire::Upload, Error> {
    let answer: wire::One<wire::Upload> = reply.json().map_err(Error::effect_none)?;
    answer.data.ok_or_else(|| {
        Error::new(ErrorKind::Unexpected, reply.operation().clone())
            .message("the answer names no upload")
            .provider(reply.provider(None))
            .effect_none()
    })
}

fn life(upload: &wire::Upload) -> SignedDuration {
    upload
        .expires_after_secs
        .and_then(|seconds| i64::try_from(seconds).ok())
        .map_or(USUAL_LIFE, SignedDuration::from_secs)
}

async fn read(source: &dyn MediaSource, offset: u64, length: u64) -> Result<bytes::Bytes, Error> {
    let wanted = usize::try_from(length).unwrap_or(usize::MAX);
    let bytes = source.read(offset, wanted).await.map_err(|e| Error::storage("media.read", e).effect_none())?;
    if bytes.len() == wanted {
        return Ok(bytes);
    }
    Err(Error::new(ErrorKind::Storage, "media.read").message("a media file is shorter than it says").effect_none())
}

fn category(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Gif => "tweet_gif",
        MediaKind::Video => "tweet_video",
        _ => "tweet_image",
    }
}

fn takes_description(kind: MediaKind) -> bool {
    matches!(kind, MediaKind::Image | MediaKind::Gif)
}

/// 1 MiB, or more where the numbers of the segments would not suffice.
fn first_chunk(total: u64) -> u64 {
    total.div_ceil(LAST_SEGMENT + 1).max(MIB)
}

/// Half the chunk, if that is still sensible and the numbers of the segments suffice.
fn smaller_chunk(upload: &Upload, total: u64) -> Option<u64> {
    let chunk = upload.chunk / 2;
    let left = total.saturating_sub(upload.offset);
    (chunk >= SMALLEST_CHUNK && upload.segment + left.div_ceil(chunk) <= LAST_SEGMENT + 1).then_some(chunk)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_thousand_segments_hold_every_file() {
        let segments = |total: u64| total.div_ceil(first_chunk(total));
        for (total, chunk, count) in [
            (1, MIB, 1),
            (MIB - 1, MIB, 1),
            (MIB, MIB, 1),
            (MIB + 1, MIB, 2),
            (512 * MIB, MIB, 512),
            (1000 * MIB, MIB, 1000),
            (1000 * MIB + 1, MIB + 1, 1000),
            (17_179_869_184, 17_179_870, 1000),
        ] {
            assert_eq!((first_chunk(total), segments(total)), (chunk, count), "{total}");
        }
    }

    #[test]
    fn a_chunk_is_halved_while_the_numbers_suffice() {
        let at = |chunk, segment, offset| Upload {
            file: MediaId::new(),
            id: "1".into(),
            expires_at: Timestamp::UNIX_EPOCH,
            chunk,
            segment,
            offset,
            complete_at: None,
        };
        assert_eq!(smaller_chunk(&at(MIB, 0, 0), 10 * MIB), Some(MIB / 2));
        assert_eq!(smaller_chunk(&at(MIB, 0, 0), 500 * MIB), Some(MIB / 2), "exactly 1000 segments");
        assert_eq!(smaller_chunk(&at(MIB, 0, 0), 500 * MIB + 1), None, "one too many");
        assert_eq!(smaller_chunk(&at(MIB, 2, 2 * MIB), 501 * MIB), Some(MIB / 2));
        assert_eq!(smaller_chunk(&at(SMALLEST_CHUNK, 0, 0), MIB), None, "small enough");
    }
}
