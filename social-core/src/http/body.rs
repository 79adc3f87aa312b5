//! What a request carries.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;

use crate::media::{self, MediaSource};

/// Size of the pieces in which a media source is read while it is sent.
const CHUNK: usize = 256 * 1024;

/// The body of a request.
#[non_exhaustive]
pub enum Body {
    /// Nothing; POST and PUT then say `Content-Length: 0`.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A part of a media file, read while it is sent: memory does not grow with the file.
    Media {
        /// Where to read from.
        source: Arc<dyn MediaSource>,
        /// Which bytes.
        range: Range<u64>,
    },
    /// A `multipart/form-data` body.
    Multipart(Vec<Part>),
}

/// One field of a multipart body.
pub struct Part {
    name: String,
    value: Bytes,
    file: Option<(String, String)>,
}

impl Part {
    /// A text field.
    #[must_use]
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into().into(), file: None }
    }

    /// A file field.
    #[must_use]
    pub fn file(name: impl Into<String>, value: Bytes, file_name: impl Into<String>, mime: impl Into<String>) -> Self {
        Self { name: name.into(), value, file: Some((file_name.into(), mime.into())) }
    }
}

impl Body {
    pub(super) fn attach(self, builder: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self {
            Self::Empty => builder,
            Self::Bytes(bytes) => builder.body(bytes),
            Self::Media { source, range } => {
                let length = range.end.saturating_sub(range.start);
                builder
                    .header(::http::header::CONTENT_LENGTH, length)
                    .body(reqwest::Body::wrap_stream(media::stream(source, range, CHUNK)))
            }
            Self::Multipart(parts) => {
                let mut form = reqwest::multipart::Form::new();
                for Part { name, value, file } in parts {
                    let length = value.len() as u64;
                    let mut part = reqwest::multipart::Part::stream_with_length(value, length);
                    if let Some((file_name, mime)) = file {
                        part = part.file_name(file_name);
                        // A type that is no type would fail the whole form; the plain one is accepted everywhere.
                        part = match ::http::HeaderValue::from_str(&mime) {
                            Ok(mime) => part.headers([(::http::header::CONTENT_TYPE, mime)].into_iter().collect()),
                            Err(_) => part,
                        };
                    }
                    form = form.part(name, part);
                }
                builder.multipart(form)
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({} B)", bytes.len()),
            Self::Media { range, .. } => write!(f, "Media({range:?})"),
            Self::Multipart(parts) => write!(f, "Multipart({} parts)", parts.len()),
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({}, {} B)", self.name, self.value.len())
    }
}
