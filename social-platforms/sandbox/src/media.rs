//! Uploaded bytes: hashed and measured while they arrive, kept only as far as memory allows.

use crate::lock;
use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file up to this size is kept whole.
pub(crate) const KEEP_WHOLE: u64 = 16 * 1024 * 1024;
const KEEP_HEAD: usize = 64 * 1024;
const KEEP_TAIL: usize = 1024 * 1024;
/// All kept files together; beyond it the oldest lose their bytes.
const KEEP_TOTAL: usize = 256 * 1024 * 1024;

/// What was found in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) mime: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames: u32,
    pub(crate) duration_ms: Option<u64>,
}

/// A finished file.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) id: u64,
    pub(crate) len: u64,
    pub(crate) sha256: Option<String>,
    pub(crate) facts: Facts,
}

impl Blob {
    pub(crate) fn url(&self) -> String {
        format!("/_sandbox/media/{}", self.id)
    }

    /// `image`, `gif`, `video`, `document` or `unknown`.
    pub(crate) fn kind(&self) -> &'static str {
        match self.facts.mime {
            "image/gif" if self.facts.frames > 1 => "gif",
            mime if mime.starts_with("image/") => "image",
            mime if mime.starts_with("video/") => "video",
            mime if mime.starts_with("application/") && mime != UNKNOWN => "document",
            _ => "unknown",
        }
    }
}

pub(crate) const UNKNOWN: &str = "application/octet-stream";

/// A kept file as it is served: bytes, MIME type, and whether that is all of it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) bytes: Bytes,
    pub(crate) mime: &'static str,
    pub(crate) whole: bool,
}

#[derive(Debug, Default)]
struct Shelf {
    kept: HashMap<u64, Kept>,
    order: VecDeque<u64>,
    total: usize,
}

#[derive(Debug, Default)]
pub(crate) struct MediaStore {
    next: AtomicU64,
    shelf: Mutex<Shelf>,
}

impl MediaStore {
    fn shelve(&self, head: Bytes, tail: &[u8], len: u64, sha256: Option<String>) -> Blob {
        let id = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        let whole = head.len() as u64 == len;
        let facts = examine(&head, if whole { &[] } else { tail }, len);
        let mut shelf = lock(&self.shelf);
        shelf.total += head.len();
        shelf.order.push_back(id);
        shelf.kept.insert(id, Kept { bytes: head, mime: facts.mime, whole });
        while shelf.total > KEEP_TOTAL && shelf.order.len() > 1 {
            let Some(oldest) = shelf.order.pop_front() else { break };
            if let Some(gone) = shelf.kept.remove(&oldest) {
                shelf.total -= gone.bytes.len();
            }
        }
        Blob { id, len, sha256, facts }
    }

    /// Keeps a file that is in memory already.
    pub(crate) fn put(&self, bytes: &Bytes) -> Blob {
        let mut writer = BlobWriter::default();
        writer.push(bytes);
        writer.finish(self)
    }

    pub(crate) fn kept(&self, id: u64) -> Option<Kept> {
        lock(&self.shelf).kept.get(&id).cloned()
    }

    pub(crate) fn clear(&self) {
        *lock(&self.shelf) = Shelf::default();
    }
}

/// Takes a file in order, in pieces of any size, in bounded memory.
pub(crate) struct BlobWriter {
    hasher: Context,
    head: Vec<u8>,
    tail: Vec<u8>,
    len: u64,
}

impl Default for BlobWriter {
    fn default() -> Self {
        Self { hasher: Context::new(&SHA256), head: Vec::new(), tail: Vec::new(), len: 0 }
    }
}

impl BlobWriter {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
        let was_whole = self.len <= KEEP_WHOLE;
        self.len += chunk.len() as u64;
        if self.len <= KEEP_WHOLE {
            self.head.extend_from_slice(chunk);
            return;
        }
        if was_whole {
            let from = self.head.len().saturating_sub(KEEP_TAIL);
            self.tail = self.head[from..].to_vec();
            let missing = KEEP_HEAD.saturating_sub(self.head.len()).min(chunk.len());
            self.head.extend_from_slice(&chunk[..missing]);
            self.head.truncate(KEEP_HEAD);
            self.head.shrink_to_fit();
        }
        self.tail.extend_from_slice(chunk);
        if self.tail.len() > 4 * KEEP_TAIL {
            let from = self.tail.len() - KEEP_TAIL;
            self.tail.drain(..from);
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn finish(self, store: &MediaStore) -> Blob {
        let sha256 = hex(self.hasher.finish().as_ref());
        store.shelve(Bytes::from(self.head), &self.tail, self.len, Some(sha256))
    }
}

#[derive(Debug)]
struct Segment {
    len: u64,
    sha256: [u8; 32],
    bytes: Option<Bytes>,
}

/// A file that arrives in numbered segments in any order; a segment may come again.
pub(crate) struct Segments {
    keep_all: bool,
    map: BTreeMap<u32, Segment>,
    /// Hash over segments `0..next`, while they come in order.
    running: Option<Context>,
    next: u32,
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments").field("received", &self.received()).finish_non_exhaustive()
    }
}

impl Segments {
    pub(crate) fn new(declared: u64) -> Self {
        Self { keep_all: declared <= KEEP_WHOLE, map: BTreeMap::new(), running: Some(Context::new(&SHA256)), next: 0 }
    }

    pub(crate) fn put(&mut self, index: u32, bytes: Bytes) -> [u8; 32] {
        let mut sha256 = [0_u8; 32];
        sha256.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        if index == self.next {
            if let Some(running) = &mut self.running {
                running.update(&bytes);
            }
            self.next += 1;
        } else if self.map.get(&index).is_none_or(|earlier| earlier.sha256 != sha256) {
            self.running = None;
        }
        let len = bytes.len() as u64;
        let highest = self.map.last_key_value().map(|(index, _)| *index);
        let keep = self.keep_all || index == 0 || highest.is_none_or(|highest| index >= highest);
        if keep && !self.keep_all {
            for (other, segment) in &mut self.map {
                if *other != 0 && *other != index {
                    segment.bytes = None;
                }
            }
        }
        self.map.insert(index, Segment { len, sha256, bytes: keep.then_some(bytes) });
        sha256
    }

    pub(crate) fn received(&self) -> u64 {
        self.map.values().map(|segment| segment.len).sum()
    }

    /// Whether segments `0..=last` are there without a gap.
    pub(crate) fn contiguous(&self) -> bool {
        self.map.last_key_value().is_none_or(|(last, _)| *last as usize + 1 == self.map.len())
    }

    pub(crate) fn finish(self, store: &MediaStore) -> Blob {
        let len = self.received();
        if self.keep_all && len <= KEEP_WHOLE {
            let mut whole = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
            for segment in self.map.values() {
                whole.extend_from_slice(segment.bytes.as_deref().unwrap_or_default());
            }
            return store.put(&Bytes::from(whole));
        }
        let head = self.map.get(&0).and_then(|segment| segment.bytes.clone()).unwrap_or_default();
        let head = Bytes::copy_from_slice(&head[..head.len().min(KEEP_HEAD)]);
        let tail = self.map.last_key_value().and_then(|(_, segment)| segment.bytes.clone()).unwrap_or_default();
        let in_order = self.next as usize == self.map.len();
        let sha256 = self.running.filter(|_| in_order).map(|running| hex(running.finish().as_ref()));
        store.shelve(head, &tail, len, sha256)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        out
    })
}

/// Looks at the bytes, never at what the sender called them. `tail` holds the last bytes of a file that is not kept whole.
fn examine(head: &[u8], tail: &[u8], len: u64) -> Facts {
    let mime = sniff(head);
    let mut facts = Facts { mime, frames: 1, ..Facts::default() };
    match mime {
        "image/png" => (facts.width, facts.height) = (be32(head, 16), be32(head, 20)),
        "image/gif" => {
            (facts.width, facts.height) = (le16(head, 6), le16(head, 8));
            facts.frames = gif_frames(head);
        }
        "image/jpeg" => (facts.width, facts.height) = jpeg_size(head),
        "image/webp" => (facts.width, facts.height) = webp_size(head),
        "video/mp4" | "video/quicktime" => {
            if let Some(moov) = find_moov(head, tail, len) {
                facts.duration_ms = movie_duration(moov);
                (facts.width, facts.height) = track_size(moov);
            }
        }
        _ => {}
    }
    facts
}

pub(crate) fn sniff(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => "image/png",
        [0xFF, 0xD8, 0xFF, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => "image/bmp",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "image/tiff",
        [_, _, _, _, b'f', b't', b'y', b'p', b'q', b't', b' ', b' ', ..] => "video/quicktime",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "video/mp4",
        [0x1A, 0x45, 0xDF, 0xA3, ..] => "video/webm",
        [0x47, ..] if bytes.len() > 188 && bytes[188] == 0x47 => "video/mp2t",
        [b'%', b'P', b'D', b'F', b'-', ..] => "application/pdf",
        [b'P', b'K', 3, 4, ..] => "application/zip",
        [0xD0, 0xCF, 0x11, 0xE0, ..] => "application/msword",
        _ => UNKNOWN,
    }
}

fn byte(data: &[u8], at: usize) -> u32 {
    data.get(at).copied().map_or(0, u32::from)
}

fn be16(data: &[u8], at: usize) -> u32 {
    byte(data, at) << 8 | byte(data, at + 1)
}

fn be32(data: &[u8], at: usize) -> u32 {
    be16(data, at) << 16 | be16(data, at + 2)
}

fn be64(data: &[u8], at: usize) -> u64 {
    u64::from(be32(data, at)) << 32 | u64::from(be32(data, at + 4))
}

fn le16(data: &[u8], at: usize) -> u32 {
    byte(data, at) | byte(data, at + 1) << 8
}

fn jpeg_size(data: &[u8]) -> (u32, u32) {
    let mut at = 2;
    while at + 9 < data.len() {
        if data[at] != 0xFF {
            return (0, 0);
        }
        match data[at + 1] {
            0xFF => at += 1,
            0x01 | 0xD0..=0xD9 => at += 2,
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => return (be16(data, at + 7), be16(data, at + 5)),
            _ => at += 2 + (be16(data, at + 2) as usize).max(2),
        }
    }
    (0, 0)
}

fn webp_size(data: &[u8]) -> (u32, u32) {
    match data.get(12..16) {
        Some(b"VP8X") => {
            let dimension = |at| 1 + (le16(data, at) | byte(data, at + 2) << 16);
            (dimension(24), dimension(27))
        }
        Some(b"VP8L") => {
            let bits = le16(data, 21) | le16(data, 23) << 16;
            (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        }
        Some(b"VP8 ") => (le16(data, 26) & 0x3FFF, le16(data, 28) & 0x3FFF),
        _ => (0, 0),
    }
}

fn gif_frames(data: &[u8]) -> u32 {
    let table = |flags: u32| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(byte(data, 10));
    let mut frames = 0;
    while at < data.len() {
        match data[at] {
            0x21 => at += 2,
            0x2C => {
                frames += 1;
                at += 11 + table(byte(data, at + 9));
            }
            _ => break,
        }
        while at < data.len() && data[at] != 0 {
            at += 1 + data[at] as usize;
        }
        at += 1;
    }
    frames.max(1)
}

/// The payload of the movie box, wherever in the kept bytes it lies.
fn find_moov<'a>(head: &'a [u8], tail: &'a [u8], len: u64) -> Option<&'a [u8]> {
    let tail_from = len.saturating_sub(tail.len() as u64);
    let mut at = 0_u64;
    for _ in 0..1_000 {
        let (window, offset) = if (at + 16) as usize <= head.len() {
            (head, usize::try_from(at).ok()?)
        } else if at >= tail_from && !tail.is_empty() {
            (tail, usize::try_from(at - tail_from).ok()?)
        } else {
            return None;
        };
        let (header, size) = match be32(window, offset) {
            0 => (8, len.saturating_sub(at)),
            1 => (16, be64(window, offset + 8)),
            size => (8, u64::from(size)),
        };
        if size < header {
            return None;
        }
        if window.get(offset + 4..offset + 8) == Some(b"moov") {
            let end = usize::try_from(size).map_or(window.len(), |size| (offset + size).min(window.len()));
            return window.get(offset + usize::try_from(header).ok()?..end);
        }
        at += size;
        if at >= len {
            return None;
        }
    }
    None
}

/// The payload of the first child box of that kind.
fn child<'a>(parent: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    children(parent).find(|(name, _)| name == kind).map(|(_, payload)| payload)
}

fn children(parent: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let size = be32(parent, at) as usize;
        let kind: [u8; 4] = parent.get(at + 4..at + 8)?.try_into().ok()?;
        if size < 8 {
            return None;
        }
        let payload = parent.get(at + 8..(at + size).min(parent.len()))?;
        at += size;
        Some((kind, payload))
    })
}

fn movie_duration(moov: &[u8]) -> Option<u64> {
    let header = child(moov, b"mvhd")?;
    let (scale, duration) = match header.first()? {
        0 => (u64::from(be32(header, 12)), u64::from(be32(header, 16))),
        _ => (u64::from(be32(header, 20)), be64(header, 24)),
    };
    if scale == 0 { None } else { duration.checked_mul(1_000).map(|scaled| scaled / scale) }
}

fn track_size(moov: &[u8]) -> (u32, u32) {
    children(moov)
        .filter(|(kind, _)| kind == b"trak")
        .filter_map(|(_, track)| child(track, b"tkhd"))
        .map(|header| {
            let at = if header.first() == Some(&0) { 76 } else { 88 };
            (be32(header, at) >> 16, be32(header, at + 4) >> 16)
        })
        .find(|(width, height)| *width > 0 && *height > 0)
        .unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_the_cap_keeps_its_size_and_hash_but_not_its_bytes() {
        let store = MediaStore::default();
        let chunk = vec![7_u8; 1024 * 1024];
        let mut streamed = BlobWriter::default();
        let mut segments = Segments::new(20 * 1024 * 1024);
        let mut whole = Context::new(&SHA256);
        for index in 0..20 {
            streamed.push(&chunk);
            segments.put(index, Bytes::from(chunk.clone()));
            whole.update(&chunk);
        }
        let expected = hex(whole.finish().as_ref());
        for blob in [streamed.finish(&store), segments.finish(&store)] {
            assert_eq!(blob.len, 20 * 1024 * 1024);
            assert_eq!(blob.sha256.as_deref(), Some(expected.as_str()));
            let kept = store.kept(blob.id).unwrap();
            assert!(!kept.whole);
            assert_eq!(kept.bytes.len(), KEEP_HEAD);
        }
    }

    #[test]
    fn segments_may_come_in_any_order_and_twice() {
        let store = MediaStore::default();
        let mut segments = Segments::new(9);
        segments.put(2, Bytes::from_static(b"ghi"));
        segments.put(0, Bytes::from_static(b"xxx"));
        assert!(!segments.contiguous());
        segments.put(1, Bytes::from_static(b"def"));
        segments.put(0, Bytes::from_static(b"abc"));
        assert!(segments.contiguous());
        let blob = segments.finish(&store);
        assert_eq!(&store.kept(blob.id).unwrap().bytes[..], b"abcdefghi");
    }

    #[test]
    fn the_movie_box_is_found_behind_media_that_was_not_kept() {
        let boxed = |kind: &[u8; 4], payload: &[u8]| {
            let mut out = u32::try_from(payload.len() + 8).unwrap().to_be_bytes().to_vec();
            out.extend_from_slice(kind);
            out.extend_from_slice(payload);
            out
        };
        let mut header = vec![0_u8; 100];
        header[12..16].copy_from_slice(&600_u32.to_be_bytes());
        header[16..20].copy_from_slice(&90_000_u32.to_be_bytes());
        let mut file = boxed(b"ftyp", b"isom0000");
        file.extend(boxed(b"mdat", &vec![1_u8; 17 * 1024 * 1024]));
        file.extend(boxed(b"moov", &boxed(b"mvhd", &header)));
        let blob = MediaStore::default().put(&Bytes::from(file));
        assert_eq!(blob.facts.mime, "video/mp4");
        assert_eq!(blob.facts.duration_ms, Some(150_000));
    }
}
