//! Files: taking them in, telling what was found in them, and giving them to whoever holds a signed address.

use std::{
    ops::Range,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, BodyDataStream},
    extract::{
        FromRequest as _, Multipart, Path, Request, State as Extract,
        multipart::{Field, MultipartError},
    },
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use social_core::{
    MediaId, UserId,
    library::MediaLibrary as _,
    media::{self, Hasher},
};

use utoipa::ToSchema;

use super::admin::Created;
use crate::{
    body::{self, Id},
    caller::{Caller, Scope},
    idempotency::{self, Begin},
    intake::Pace,
    problem::Problem,
    state::State,
    views::MediaView,
};

/// How much of a file is read at once while it is sent.
const CHUNK: usize = 256 * 1024;
/// How much of a form may come before its file: other fields, and what should be headers.
const MAX_BEFORE_FILE: usize = 1024 * 1024;
/// How much of a form is given to its parser at once.
const SLICE: usize = 64 * 1024;

/// The bytes of a file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it describes a body that is never held whole")]
struct FileBody(Vec<u8>);

/// A form with a file.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body that is never held whole")]
struct FormBody {
    /// The file.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Takes a file in, raw or as the first file of a form. Streamed to disk; the type is found by content.
#[utoipa::path(post, path = "/media", tag = "media",
    request_body(content((FileBody = "application/octet-stream"), (FormBody = "multipart/form-data")), description = "The file"),
    responses((status = 201, body = MediaView), (status = 413, description = "The file is too large, or the user has no room left."),
        (status = 422, description = "No picture, video or document, or not what it is called.")), security(("key" = [])))]
pub(crate) async fn upload(
    Extract(state): Extract<State>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let user = caller.may(Scope::MediaWrite)?;
    let Some(key) = idempotency::key(request.headers())? else {
        return Ok(created(take_in(&state, user, request).await?).into_response());
    };
    // The body cannot be kept for a comparison; its hash stands in the answer.
    let print = idempotency::fingerprint(&Method::POST, "/media", b"");
    match idempotency::begin(&state, user, key, print).await? {
        Begin::Fresh(begun) => {
            let outcome = take_in(&state, user, request).await;
            match &outcome {
                Ok(view) => {
                    let body = serde_json::to_vec(view).map_err(|error| Problem::internal(error.to_string()))?;
                    begun.finish(StatusCode::CREATED, &body).await;
                }
                Err(problem) => begun.finish(problem.status(), b"").await,
            }
            Ok(created(outcome?).into_response())
        }
        Begin::Done(status, answer) => {
            let sent = hash_of(&state, request).await?;
            let stored: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
            if stored["sha256"].as_str() != Some(sent.as_str()) {
                return Err(idempotency::mismatch());
            }
            Ok(idempotency::replay("/media", status, answer))
        }
    }
}

fn created(view: MediaView) -> Created<MediaView> {
    (StatusCode::CREATED, [(header::LOCATION, format!("/media/{}", view.id))], axum::Json(view))
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok())
}

fn is_form(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/"))
}

/// The parser takes all that its stream has ready before it looks at any of it, and keeps everything until it finds the
/// boundary or the end of a field's headers, however late they come. So it gets a slice at a time, and only so many of
/// them before the file.
#[derive(Debug)]
struct Rationed {
    body: BodyDataStream,
    rest: BytesMut,
    ended: bool,
    /// The parser has its slice and is to look at it.
    paused: bool,
    /// The parser has come to the file, which is passed on as it arrives.
    found: Arc<AtomicBool>,
    before: usize,
    pace: Pace,
}

/// Why a form is not read further.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error("the form has more than {MAX_BEFORE_FILE} bytes before its file")]
    Long,
    #[error("the form arrives too slowly")]
    Slow,
}

impl Stream for Rationed {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.paused) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let found = this.found.load(Ordering::Relaxed);
        // Before the file the parser searches all that it holds each time, so tiny pieces are put together for it.
        let enough = if found { 1 } else { SLICE };
        while this.rest.len() < enough && !this.ended {
            match ready!(Pin::new(&mut this.body).poll_next(context)) {
                Some(Ok(piece)) => {
                    if !found && this.pace.take(piece.len()).is_err() {
                        return Poll::Ready(Some(Err(axum::Error::new(Halt::Slow))));
                    }
                    this.rest.extend_from_slice(&piece);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.ended = true,
            }
        }
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let slice = this.rest.split_to(this.rest.len().min(SLICE)).freeze();
        if !found {
            this.before += slice.len();
            if this.before > MAX_BEFORE_FILE {
                return Poll::Ready(Some(Err(axum::Error::new(Halt::Long))));
            }
        }
        this.paused = true;
        Poll::Ready(Some(Ok(slice)))
    }
}

/// A form, and the mark to set when its file has been found.
async fn form(request: Request) -> Result<(Multipart, Arc<AtomicBool>), Problem> {
    let found = Arc::new(AtomicBool::new(false));
    let rationed = |body: Body| Rationed {
        body: body.into_data_stream(),
        rest: BytesMut::new(),
        ended: false,
        paused: false,
        found: Arc::clone(&found),
        before: 0,
        // What comes before the file has a limit of its own.
        pace: Pace::new(u64::MAX),
    };
    let request = request.map(|body| Body::from_stream(rationed(body)));
    let form = Multipart::from_request(request, &())
        .await
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "form_invalid", "the form has no boundary"))?;
    Ok((form, found))
}

/// Whether a field is the file.
fn is_file(field: &Field<'_>) -> bool {
    field.file_name().is_some() || field.name() == Some("file")
}

fn bad_form(error: &MultipartError) -> Problem {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<Halt>() {
            Some(Halt::Slow) => return body::slow_body(),
            Some(long @ Halt::Long) => {
                return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", long.to_string());
            }
            None => cause = error.source(),
        }
    }
    match body::broken_body(error) {
        slow if slow.status() == StatusCode::REQUEST_TIMEOUT => slow,
        _ => Problem::new(StatusCode::BAD_REQUEST, "form_invalid", "the form cannot be read"),
    }
}

fn no_file() -> Problem {
    Problem::field("file_missing", "file", "the form has no file", "Send the file as a field with a file name.")
}

async fn take_in(state: &State, user: UserId, request: Request) -> Result<MediaView, Problem> {
    let stored = if is_form(request.headers()) {
        let (mut form, found) = form(request).await?;
        loop {
            let field = form.next_field().await.map_err(|error| bad_form(&error))?.ok_or_else(no_file)?;
            if !is_file(&field) {
                continue;
            }
            found.store(true, Ordering::Relaxed);
            let claimed = field.content_type().map(str::to_owned);
            break state.intake.receive(state, user, field, claimed.as_deref(), None).await?;
        }
    } else {
        let headers = request.headers();
        let claimed = content_type(headers).map(str::to_owned);
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let pieces = request.into_body().into_data_stream();
        state.intake.receive(state, user, pieces, claimed.as_deref(), length).await?
    };
    tracing::info!(media.id = %stored.id, user.id = %user, bytes = stored.facts.size_bytes, mime = stored.facts.mime, "a file was taken in");
    let url = state.library.preview(stored.id, state.now());
    Ok(MediaView::new(&stored, url))
}

/// The hash of the file in a request that is not taken in again.
async fn hash_of(state: &State, request: Request) -> Result<String, Problem> {
    let mut hasher = Hasher::new();
    // It is not kept, but a sender may take no longer over it than the first time.
    let mut pace = state.intake.pace();
    if is_form(request.headers()) {
        let (mut form, found) = form(request).await?;
        loop {
            let mut field = form.next_field().await.map_err(|error| bad_form(&error))?.ok_or_else(no_file)?;
            if !is_file(&field) {
                continue;
            }
            found.store(true, Ordering::Relaxed);
            while let Some(piece) = field.chunk().await.map_err(|error| bad_form(&error))? {
                pace.take(piece.len())?;
                hasher.update(&piece);
            }
            break;
        }
    } else {
        let mut pieces = request.into_body().into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| body::broken_body(&error))?;
            pace.take(piece.len())?;
            hasher.update(&piece);
        }
    }
    Ok(hasher.finish())
}

/// Shows what was found in a file.
#[utoipa::path(get, path = "/media/{id}", tag = "media", params(("id" = Uuid, Path, description = "Which file")),
    responses((status = 200, body = MediaView)), security(("key" = [])))]
pub(crate) async fn show(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<axum::Json<MediaView>, Problem> {
    let user = caller.may(Scope::MediaRead)?;
    let stored = state.store().media(user, MediaId::from_uuid(id)).await?.ok_or_else(Problem::not_found)?;
    let url = state.library.preview(stored.id, state.now());
    Ok(axum::Json(MediaView::new(&stored, url)))
}

/// Gives a file to whoever holds its signed address. Answers ranges.
#[utoipa::path(get, path = "/m/{token}", tag = "media", params(("token" = String, Path, description = "From a signed address")),
    responses((status = 200, description = "The file, as the type that it is.", content_type = "*/*"),
        (status = 206, description = "The range of it that was asked for."), (status = 304, description = "It has not changed."),
        (status = 416, description = "There is no such range.")))]
pub(crate) async fn file(
    Extract(state): Extract<State>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = state.library.verify(&token, state.now()).ok_or_else(Problem::not_found)?;
    let source = state.library.open(id).await?;
    let size = source.size_bytes();
    let head = source.read(0, 4096).await.map_err(|error| Problem::internal(format!("the media folder: {error}")))?;
    let (mime, kind) = media::sniff(&head).unwrap_or(("application/octet-stream", media::MediaKind::Document));
    let tag = format!("\"{}\"", id.uuid().simple());
    let unchanged = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = unchanged.is_some_and(|tags| tags.split(',').any(|one| one.trim() == tag || one.trim() == "*"));
    // What a browser could open as a page is offered as a download.
    let shown = if kind == media::MediaKind::Document { "attachment" } else { "inline" };
    let extension = mime.rsplit('/').next().unwrap_or("bin");
    let mut response = StatusCode::OK.into_response();
    let out = response.headers_mut();
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            out.insert(name, value);
        }
    };
    put(header::ETAG, tag.clone());
    put(header::ACCEPT_RANGES, "bytes".into());
    put(header::CACHE_CONTROL, "private, max-age=3600".into());
    put(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".into());
    put(HeaderName::from_static("cross-origin-resource-policy"), "cross-origin".into());
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    put(header::CONTENT_TYPE, mime.to_owned());
    put(header::CONTENT_DISPOSITION, format!("{shown}; filename=\"media.{}\"", plain(extension)));
    let whole = headers.get(header::IF_RANGE).is_some_and(|value| value.as_bytes() != tag.as_bytes());
    let asked = headers.get(header::RANGE).filter(|_| !whole).and_then(|value| value.to_str().ok());
    let range = match asked.map(|asked| range(asked, size)) {
        Some(Asked::Part(range)) => {
            put(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            range
        }
        Some(Asked::Beyond) => {
            let detail = format!("the file has {size} bytes");
            return Err(Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail)
                .header(header::CONTENT_RANGE, format!("bytes */{size}")));
        }
        Some(Asked::Unclear) | None => 0..size,
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    *response.body_mut() = if range.is_empty() {
        Body::from_stream(stream::empty::<Result<Bytes, std::io::Error>>())
    } else {
        Body::from_stream(media::stream(source, range, CHUNK))
    };
    Ok(response)
}

fn plain(extension: &str) -> String {
    extension.chars().filter(char::is_ascii_alphanumeric).take(8).collect()
}

#[derive(Debug, PartialEq)]
enum Asked {
    Part(Range<u64>),
    Beyond,
    /// Several ranges, or no range at all: the whole file is a right answer.
    Unclear,
}

fn range(asked: &str, size: u64) -> Asked {
    let Some((from, to)) = asked.trim().strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Asked::Unclear;
    };
    let (from, to) = (from.trim(), to.trim());
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(from) || !digits(to) {
        return Asked::Unclear;
    }
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    match (from.is_empty(), to.is_empty()) {
        (true, true) => Asked::Unclear,
        (true, false) => match number(to).min(size) {
            0 => Asked::Beyond,
            last => Asked::Part(size - last..size),
        },
        (false, _) if number(from) >= size => Asked::Beyond,
        (false, true) => Asked::Part(number(from)..size),
        (false, false) if number(to) < number(from) => Asked::Unclear,
        (false, false) => Asked::Part(number(from)..number(to).min(size - 1) + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (asked, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=0-99", Asked::Part(0..10)),
            ("bytes=3-", Asked::Part(3..10)),
            ("bytes=-4", Asked::Part(6..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=9-9", Asked::Part(9..10)),
            ("bytes=10-", Asked::Beyond),
            ("bytes=-0", Asked::Beyond),
            ("bytes=5-4", Asked::Unclear),
            ("bytes=0-1,3-4", Asked::Unclear),
            ("bytes=-", Asked::Unclear),
            ("bytes=a-b", Asked::Unclear),
            ("items=0-1", Asked::Unclear),
            ("bytes=99999999999999999999999-", Asked::Beyond),
        ] {
            assert_eq!(range(asked, 10), expected, "{asked}");
        }
        assert_eq!(range("bytes=0-", 0), Asked::Beyond);
    }
}
