//! Temporary.
use std::{ops::Range, sync::Arc, path::PathBuf};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind { Image, Gif, Video, Document }
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaFacts { pub kind: MediaKind, pub mime: String, pub size_bytes: u64, pub width: Option<u32>, pub height: Option<u32>, pub duration_ms: Option<u64>, pub frames: Option<u32>, pub video_codec: Option<String>, pub audio_codec: Option<String>, pub frame_rate_milli: Option<u32>, pub sha256: Option<String> }
#[async_trait::async_trait]
pub trait MediaSource: std::fmt::Debug + Send + Sync { fn size_bytes(&self) -> u64; async fn read(&self, offset: u64, len: usize) -> std::io::Result<Bytes>; }
#[derive(Debug)] pub struct BytesSource(Bytes);
impl BytesSource { pub fn new(b: impl Into<Bytes>) -> Self { Self(b.into()) } }
#[async_trait::async_trait]
impl MediaSource for BytesSource { fn size_bytes(&self) -> u64 { self.0.len() as u64 } async fn read(&self, o: u64, l: usize) -> std::io::Result<Bytes> { let o = (o as usize).min(self.0.len()); Ok(self.0.slice(o..(o+l).min(self.0.len()))) } }
#[derive(Debug)] pub struct FileSource;
impl FileSource { pub async fn open(_: impl Into<PathBuf>) -> std::io::Result<Self> { Ok(Self) } }
#[async_trait::async_trait]
impl MediaSource for FileSource { fn size_bytes(&self) -> u64 { 0 } async fn read(&self, _: u64, _: usize) -> std::io::Result<Bytes> { Ok(Bytes::new()) } }
pub fn stream(source: Arc<dyn MediaSource>, range: Range<u64>, chunk: usize) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    futures_util::stream::try_unfold((source, range), move |(s, r)| async move { if r.start >= r.end { return Ok(None); } let n = (r.end - r.start).min(chunk as u64); let b = s.read(r.start, n as usize).await?; let r = r.start + b.len() as u64..r.end; Ok(Some((b, (s, r)))) })
}
