//! Measuring: which format, how large, how long, with a bounded number of bytes read.

use std::io;

use bytes::Bytes;
use thiserror::Error;

use super::{MediaFacts, MediaKind, MediaSource, gif, image, mp4, sniff, webm};

/// At most this much of a file is read, a GIF excepted.
pub(super) const BUDGET: u64 = 1 << 20;
/// A GIF says nowhere how many frames it has, so it is walked from end to end; no network takes larger ones.
pub(super) const GIF_BUDGET: u64 = 32 << 20;
/// Read at once at least this much, since what is wanted next usually lies close by.
const WINDOW: usize = 1 << 10;
/// Enough for every magic number and for the names in most Office files.
const HEAD: usize = 4 << 10;
/// The most pixels of a picture.
const MAX_PIXELS: u64 = 100_000_000;
const ZIP_DIRECTORY: u64 = 64 << 10;

/// Why a file could not be measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The bytes could not be read; trying again may help.
    #[error("the media could not be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Not a media file of a supported type; trying again does not help.
    #[error("not a supported media file: {hint}")]
    Unrecognised {
        /// What it is instead, such as "looks like an HTML page".
        hint: &'static str,
    },
    /// A media file that is damaged, cut off or dishonest about its own structure.
    #[error("the media file is damaged: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
}

pub(super) fn malformed(what: &'static str) -> MeasureError {
    MeasureError::Malformed { what }
}

/// Looks into `source` and reports what it is. Nothing is decoded.
///
/// Reads at most 1 MiB in small pieces (a GIF up to 32 MiB, since its frames must be counted one by one), wherever the index
/// of the file lies. Repeatable, and may be cancelled by dropping the future.
///
/// # Errors
/// [`MeasureError::Unreadable`] when the source fails, [`MeasureError::Unrecognised`] for everything that is not media,
/// [`MeasureError::Malformed`] for damaged media.
pub async fn measure(source: &dyn MediaSource) -> Result<MediaFacts, MeasureError> {
    let mut reader = Reader::new(source, BUDGET);
    let head = reader.up_to(0, HEAD).await?;
    let (mime, kind) = match sniff::sniff(&head) {
        Some(found) => found,
        None => (office_kind(&mut reader, &head).await?, MediaKind::Document),
    };
    let mut facts = MediaFacts::new(kind, mime, source.size_bytes());
    match (kind, mime) {
        (MediaKind::Image, _) => image::measure(&mut reader, &mut facts).await?,
        (MediaKind::Gif, _) => gif::measure(&mut Reader::new(source, GIF_BUDGET), &mut facts).await?,
        (MediaKind::Video, "video/mp4" | "video/quicktime" | "video/3gpp" | "video/3gpp2") => {
            mp4::measure(&mut reader, &mut facts).await?;
        }
        (MediaKind::Video, "video/webm" | "video/x-matroska") => webm::measure(&mut reader, &mut facts).await?,
        _ => {}
    }
    if facts.width == Some(0) || facts.height == Some(0) {
        return Err(malformed("it has no width or no height"));
    }
    // Nothing is decoded here, but whoever opens it later has to: a small file may unfold to gigabytes.
    let pixels = facts.width.map(u64::from).zip(facts.height.map(u64::from)).map(|(width, height)| width * height);
    if matches!(kind, MediaKind::Image | MediaKind::Gif) && pixels.is_some_and(|pixels| pixels > MAX_PIXELS) {
        return Err(malformed("it has more than 100 megapixels"));
    }
    Ok(facts)
}

/// The kind of an Office file whose beginning does not tell.
async fn office_kind(reader: &mut Reader<'_>, head: &[u8]) -> Result<&'static str, MeasureError> {
    let unrecognised = MeasureError::Unrecognised { hint: sniff::hint(head) };
    if head.starts_with(b"PK\x03\x04") {
        // The directory at the end of an archive names every part.
        let start = reader.size.saturating_sub(ZIP_DIRECTORY);
        let directory = reader.up_to(start, ZIP_DIRECTORY as usize).await?;
        return sniff::by_part_names(&directory).ok_or(unrecognised);
    }
    if let (true, Some(shift), Some(sector)) =
        (head.starts_with(&[0xD0, 0xCF, 0x11, 0xE0]), head.get(30), head.get(48..52).and_then(|b| b.first_chunk()))
        && let 9 | 12 = *shift
    {
        let offset = (u64::from(u32::from_le_bytes(*sector)) + 1) << *shift;
        let names = reader.up_to(offset, HEAD).await?;
        return sniff::by_stream_names(&names).ok_or(unrecognised);
    }
    Err(unrecognised)
}

/// Reads a source in small windows and refuses to read more than its budget.
pub(super) struct Reader<'s> {
    source: &'s dyn MediaSource,
    pub(super) size: u64,
    budget: u64,
    window: Bytes,
    window_at: u64,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s dyn MediaSource, budget: u64) -> Self {
        Self { source, size: source.size_bytes(), budget, window: Bytes::new(), window_at: 0 }
    }

    /// Whether `len` more bytes may be read.
    pub(super) fn affords(&self, len: usize) -> bool {
        self.budget >= len.max(WINDOW) as u64
    }

    /// Exactly `len` bytes from `offset`.
    pub(super) async fn exact(&mut self, offset: u64, len: usize) -> Result<Bytes, MeasureError> {
        let bytes = self.up_to(offset, len).await?;
        if bytes.len() < len { Err(malformed("it ends too early")) } else { Ok(bytes) }
    }

    /// `len` bytes from `offset`, or as many as there are.
    pub(super) async fn up_to(&mut self, offset: u64, len: usize) -> Result<Bytes, MeasureError> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if let Some(bytes) = self.windowed(offset, len) {
            return Ok(bytes);
        }
        let wanted = len.max(WINDOW).min(left);
        self.budget = self.budget.checked_sub(wanted as u64).ok_or_else(|| malformed("its index is too large"))?;
        let mut window = self.source.read(offset, wanted).await?;
        window.truncate(wanted);
        if window.len() < len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.window = window;
        self.window_at = offset;
        Ok(self.window.slice(..len))
    }

    fn windowed(&self, offset: u64, len: usize) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.window_at)?).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.window.len()).then(|| self.window.slice(start..end))
    }
}

/// Big-endian number at `at`; 0 beyond the end, which callers exclude by reading exactly what they need.
pub(super) fn be_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b))
}

/// As [`be_u32`], of eight bytes.
pub(super) fn be_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use proptest::prelude::*;

    use super::*;
    use crate::media::{BytesSource, sample};

    /// Counts what is read through it.
    #[derive(Debug)]
    struct Counted<S> {
        inner: S,
        read: AtomicU64,
    }

    impl<S> Counted<S> {
        fn new(inner: S) -> Self {
            Self { inner, read: AtomicU64::new(0) }
        }
    }

    #[async_trait]
    impl<S: MediaSource> MediaSource for Counted<S> {
        fn size_bytes(&self) -> u64 {
            self.inner.size_bytes()
        }

        async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
            let bytes = self.inner.read(offset, len).await?;
            self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(bytes)
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    async fn facts(bytes: Vec<u8>) -> Result<MediaFacts, MeasureError> {
        measure(&BytesSource::new(bytes)).await
    }

    #[tokio::test]
    async fn samples_are_what_they_claim() {
        let png = facts(sample::png(1200, 628)).await.unwrap();
        assert_eq!(
            (png.kind, png.mime.as_str(), png.width, png.height),
            (MediaKind::Image, "image/png", Some(1200), Some(628))
        );
        assert_eq!(png.duration_ms, None);
        let jpeg = facts(sample::jpeg(1080, 1350)).await.unwrap();
        assert_eq!((jpeg.mime.as_str(), jpeg.width, jpeg.height), ("image/jpeg", Some(1080), Some(1350)));
        let pdf = facts(sample::pdf()).await.unwrap();
        assert_eq!((pdf.kind, pdf.mime.as_str(), pdf.width), (MediaKind::Document, "application/pdf", None));
    }

    #[tokio::test]
    async fn a_huge_video_costs_no_more_than_a_small_one() {
        let huge = 5 << 30;
        for build in [sample::Mp4::new(1920, 1080, 60_000), sample::Mp4::new(1920, 1080, 60_000).index_last()] {
            let source = Counted::new(build.total_bytes(huge).source());
            let facts = measure(&source).await.unwrap();
            assert_eq!((facts.size_bytes, facts.width, facts.duration_ms), (huge, Some(1920), Some(60_000)));
            let read = source.read.load(Ordering::Relaxed);
            assert!(read < 64 << 10, "{read} bytes read");
        }
    }

    #[tokio::test]
    async fn what_is_not_media_is_named() {
        for (bytes, hint) in
            [(&b"<!doctype html><title>403</title>"[..], "looks like an HTML page"), (b"", "the file is empty")]
        {
            let error = facts(bytes.to_vec()).await.unwrap_err();
            assert!(matches!(error, MeasureError::Unrecognised { hint: found } if found == hint), "{error:?}");
            assert_eq!(error.to_string(), format!("not a supported media file: {hint}"));
        }
    }

    #[tokio::test]
    async fn a_failing_source_is_not_a_damaged_file() {
        #[derive(Debug)]
        struct Failing;
        #[async_trait]
        impl MediaSource for Failing {
            fn size_bytes(&self) -> u64 {
                100
            }
            async fn read(&self, _: u64, _: usize) -> io::Result<Bytes> {
                Err(io::Error::other("disk"))
            }
        }
        assert!(matches!(measure(&Failing).await, Err(MeasureError::Unreadable(_))));
    }

    #[tokio::test]
    async fn office_files_are_told_apart_by_their_directories() {
        let padding = vec![0; 20_000];
        let pptx = [b"PK\x03\x04", &padding[..], b"PK\x01\x02..ppt/presentation.xml.."].concat();
        assert_eq!(facts(pptx).await.unwrap().mime, sniff::PPTX);
        let zip = [b"PK\x03\x04", &padding[..], b"PK\x01\x02..photos/a.jpg"].concat();
        assert!(matches!(facts(zip).await, Err(MeasureError::Unrecognised { hint: "looks like a ZIP archive" })));

        let mut ppt = vec![0; 20_000];
        ppt[..8].copy_from_slice(&[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1]);
        ppt[30] = 9;
        ppt[48..52].copy_from_slice(&29_u32.to_le_bytes());
        let name: Vec<u8> = "PowerPoint Document".encode_utf16().flat_map(u16::to_le_bytes).collect();
        ppt[30 * 512..30 * 512 + name.len()].copy_from_slice(&name);
        assert_eq!(facts(ppt.clone()).await.unwrap().mime, sniff::POWERPOINT);
        ppt[48..52].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(facts(ppt).await, Err(MeasureError::Unrecognised { .. })));
    }

    fn valid_files() -> Vec<Vec<u8>> {
        vec![
            sample::png(640, 480),
            sample::jpeg(64, 48),
            sample::gif(320, 200, 3),
            sample::mp4(640, 360, 2000, 4000),
            sample::Mp4::new(360, 640, 3000).rotated().index_last().bytes(),
            webm::tests::file(),
            sample::pdf(),
        ]
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(prefix in 0usize..7, bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut file = valid_files()[prefix][..16].to_vec();
            file.extend(bytes);
            let source = Counted::new(BytesSource::new(file));
            let _ = block_on(measure(&source));
            prop_assert!(source.read.load(Ordering::Relaxed) <= BUDGET);
        }

        #[test]
        fn damaged_files_never_panic_nor_read_much(
            which in 0usize..7,
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![0u8, 1, 8, 0x7F, 0x80, 0xFF])), 1..12),
            cut in any::<prop::sample::Index>(),
            cuts in any::<bool>(),
        ) {
            let mut file = valid_files().swap_remove(which);
            for (at, value) in changes {
                let at = at.index(file.len());
                file[at] = value;
            }
            if cuts {
                file.truncate(cut.index(file.len()));
            }
            let source = Counted::new(BytesSource::new(file));
            let _ = block_on(measure(&source));
            prop_assert!(source.read.load(Ordering::Relaxed) <= BUDGET);
        }
    }
}
