//! What a media file is, found by looking into it: never by its name, and never by decoding it.
//!
//! [`measure`] answers the questions that networks ask before they accept a file: which format, how many pixels, how long,
//! which codecs. It reads through a [`MediaSource`] and a bounded number of bytes, so it costs the same for 1 MB and 4 GB.

mod gif;
mod image;
mod measure;
mod mp4;
pub mod sample;
mod sniff;
mod source;
mod webm;

use std::fmt;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

pub use measure::{MeasureError, measure};
pub use sniff::sniff;
pub use source::{BytesSource, FileSource, MediaSource, stream};

/// The sorts of media that networks tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MediaKind {
    /// A still picture.
    Image,
    /// A file of the type image/gif, moving or not.
    Gif,
    /// A moving picture with or without sound.
    Video,
    /// Pages: PDF, Word, PowerPoint.
    Document,
}

/// What was found in a media file. A fact that the format does not hold, or that could not be found cheaply, is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaFacts {
    /// The sort of file.
    pub kind: MediaKind,
    /// The MIME type by content.
    pub mime: String,
    /// Length of the whole file.
    pub size_bytes: u64,
    /// Width in pixels as shown, after rotation.
    pub width: Option<u32>,
    /// Height in pixels as shown, after rotation.
    pub height: Option<u32>,
    /// Playing time of a video or of a moving GIF.
    pub duration_ms: Option<u64>,
    /// Number of frames of a GIF.
    pub frames: Option<u32>,
    /// Code of the video format as the container names it, such as `avc1` or `V_VP9`.
    pub video_codec: Option<String>,
    /// Code of the sound format as the container names it, such as `mp4a` or `A_OPUS`.
    pub audio_codec: Option<String>,
    /// Mean frame rate in thousandths of a frame per second.
    pub frame_rate_milli: Option<u32>,
    /// SHA-256 of the file in hexadecimal, where somebody computed it; [`measure`] does not.
    pub sha256: Option<String>,
}

impl MediaFacts {
    pub(crate) fn new(kind: MediaKind, mime: &str, size_bytes: u64) -> Self {
        Self {
            kind,
            mime: mime.to_owned(),
            size_bytes,
            width: None,
            height: None,
            duration_ms: None,
            frames: None,
            video_codec: None,
            audio_codec: None,
            frame_rate_milli: None,
            sha256: None,
        }
    }

    /// Width times height.
    #[must_use]
    pub fn pixels(&self) -> Option<u64> {
        Some(u64::from(self.width?) * u64::from(self.height?))
    }
}

/// SHA-256 of a file that arrives in pieces.
#[derive(Clone)]
pub struct Hasher(digest::Context);

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash of everything taken, as 64 lower case hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        use fmt::Write;
        self.0.finish().as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

/// SHA-256 of a whole source in hexadecimal, read in pieces of 1 MiB.
///
/// # Errors
/// What the source reports, or `UnexpectedEof` if it ends before its size.
pub async fn sha256_of(source: &dyn MediaSource) -> std::io::Result<String> {
    let (mut hasher, mut at) = (Hasher::new(), 0);
    while at < source.size_bytes() {
        let piece = source.read(at, 1 << 20).await?;
        if piece.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        at += piece.len() as u64;
        hasher.update(&piece);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hash_like_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Hasher::new().finish(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn facts_survive_json() {
        let mut facts = MediaFacts::new(MediaKind::Gif, "image/gif", 12);
        facts.width = Some(4);
        assert_eq!(facts.pixels(), None);
        facts.height = Some(5);
        assert_eq!(facts.pixels(), Some(20));
        let json = serde_json::to_string(&facts).unwrap();
        assert!(json.contains("\"kind\":\"gif\""), "{json}");
        assert_eq!(serde_json::from_str::<MediaFacts>(&json).unwrap(), facts);
    }
}
