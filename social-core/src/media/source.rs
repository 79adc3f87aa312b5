//! Where media bytes come from: ranged reads, so that nobody has to hold a whole file.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use tokio::task::spawn_blocking;

/// A file-like thing of fixed length that can be read at any place, by several readers at once.
///
/// Reads are repeatable and may be cancelled by dropping the future.
#[async_trait]
pub trait MediaSource: Debug + Send + Sync {
    /// The length, which does not change.
    fn size_bytes(&self) -> u64;

    /// Reads `len` bytes from `offset`; fewer only at the end, none from the end on.
    ///
    /// # Errors
    /// Whatever keeps the bytes from being read; `InvalidData` when the content is no longer what it was when opened.
    async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes>;
}

/// Media held in memory.
#[derive(Clone)]
pub struct BytesSource(Bytes);

impl BytesSource {
    /// Wraps `bytes` without copying.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }
}

impl Debug for BytesSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BytesSource({} bytes)", self.0.len())
    }
}

#[async_trait]
impl MediaSource for BytesSource {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).map_or(self.0.len(), |start| start.min(self.0.len()));
        Ok(self.0.slice(start..self.0.len().min(start.saturating_add(len))))
    }
}

/// Media in a file of this machine, opened once and read by position.
#[derive(Debug, Clone)]
pub struct FileSource {
    file: Arc<File>,
    size_bytes: u64,
}

impl FileSource {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// What the operating system says; `InvalidInput` for a folder or a device.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        blocking(move || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            Ok(Self { file: Arc::new(file), size_bytes: metadata.len() })
        })
        .await
    }
}

#[async_trait]
impl MediaSource for FileSource {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = Arc::clone(&self.file);
        let size = self.size_bytes;
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(left);
        blocking(move || {
            // A file that was replaced or is still being written would be uploaded as a mixture of two.
            if file.metadata()?.len() != size {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the file changed while it was being read"));
            }
            let mut buffer = vec![0; len];
            read_exact_at(&file, &mut buffer, offset)?;
            Ok(Bytes::from(buffer))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match std::os::windows::fs::FileExt::seek_read(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The bytes of `range` in pieces of `chunk` bytes, the last one shorter. Holds one piece at a time and reads the next only
/// when asked for it.
///
/// Ends with `UnexpectedEof` when the source ends before the range does; the pieces before are sound.
pub fn stream(
    source: Arc<dyn MediaSource>,
    range: Range<u64>,
    chunk: usize,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let chunk = chunk.max(1);
    try_unfold((source, range), move |(source, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let len = left.min(chunk);
        let mut piece = source.read(range.start, len).await?;
        piece.truncate(len);
        if piece.len() < len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the media ended before the requested range"));
        }
        let next = range.start + len as u64..range.end;
        Ok(Some((piece, (source, next))))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::{StreamExt, TryStreamExt};

    use super::*;

    fn numbers(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[tokio::test]
    async fn memory_reads_are_short_only_at_the_end() {
        let source = BytesSource::new(numbers(10));
        assert_eq!(source.size_bytes(), 10);
        assert_eq!(source.read(2, 3).await.unwrap(), numbers(10)[2..5]);
        assert_eq!(source.read(8, 5).await.unwrap(), numbers(10)[8..]);
        assert!(source.read(10, 5).await.unwrap().is_empty());
        assert!(source.read(u64::MAX, usize::MAX).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn files_read_like_memory() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&numbers(1000)).unwrap();
        let source = FileSource::open(file.path()).await.unwrap();
        assert_eq!(source.size_bytes(), 1000);
        assert_eq!(source.read(990, 100).await.unwrap(), numbers(1000)[990..]);
        assert_eq!(source.read(0, 4).await.unwrap(), numbers(4));
        assert!(source.read(1000, 1).await.unwrap().is_empty());
        assert!(source.read(u64::MAX, usize::MAX).await.unwrap().is_empty(), "no allocation for what is not there");
    }

    #[tokio::test]
    async fn a_file_that_grows_or_shrinks_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&numbers(10)).unwrap();
        let source = FileSource::open(file.path()).await.unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(source.read(0, 1).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        file.as_file().set_len(10).unwrap();
        assert_eq!(source.read(0, 1).await.unwrap(), numbers(1));
        file.as_file().set_len(9).unwrap();
        assert_eq!(source.read(0, 1).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_folder_is_not_a_source() {
        let folder = tempfile::tempdir().unwrap();
        assert!(FileSource::open(folder.path()).await.is_err());
        assert_eq!(FileSource::open(folder.path().join("none")).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_stream_gives_the_range_in_pieces() {
        let source: Arc<dyn MediaSource> = Arc::new(BytesSource::new(numbers(25)));
        let pieces: Vec<Bytes> = stream(Arc::clone(&source), 3..24, 8).try_collect().await.unwrap();
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [8, 8, 5]);
        assert_eq!(pieces.concat(), numbers(25)[3..24]);
        assert_eq!(stream(Arc::clone(&source), 5..5, 8).count().await, 0);
        assert_eq!(stream(source, 0..3, 0).count().await, 3, "a piece holds at least one byte");
    }

    #[tokio::test]
    async fn a_stream_beyond_the_end_fails_after_the_sound_pieces() {
        let source: Arc<dyn MediaSource> = Arc::new(BytesSource::new(numbers(10)));
        let pieces: Vec<_> = stream(source, 0..12, 5).collect().await;
        assert_eq!(pieces.len(), 3);
        assert!(pieces[..2].iter().all(Result::is_ok));
        assert_eq!(pieces[2].as_ref().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
