//! MP4 files of any length.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;

use crate::media::MediaSource;

/// Builds MP4 videos: H.264 at 30 frames per second and AAC, with the index first, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Mp4 {
    width: u16,
    height: u16,
    duration_ms: u32,
    total_bytes: u64,
    frame_rate: u32,
    index_last: bool,
    rotated: bool,
    silent: bool,
}

/// A network abstraction unit of filler with its length before it.
const FRAME: [u8; 16] = [0, 0, 0, 12, 0x0C, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x80];
/// 1024 samples of silence on one channel.
const SILENCE: [u8; 4] = [0x01, 0x18, 0x20, 0x07];
const SOUND_RATE: u32 = 48_000;
const TICKS_PER_FRAME: u32 = 1000;
/// Fixed-point one, as boxes write it.
const ONE: u32 = 0x0001_0000;

impl Mp4 {
    /// A video that shows `width` by `height` pixels for `duration_ms`.
    #[must_use]
    pub fn new(width: u16, height: u16, duration_ms: u32) -> Self {
        Self {
            width,
            height,
            duration_ms,
            total_bytes: 0,
            frame_rate: 30,
            index_last: false,
            rotated: false,
            silent: false,
        }
    }

    /// Pads the file to this length; a smaller number than the video needs has no effect.
    #[must_use]
    pub fn total_bytes(mut self, total: u64) -> Self {
        self.total_bytes = total;
        self
    }

    /// Frames per second.
    #[must_use]
    pub fn frame_rate(mut self, frames: u32) -> Self {
        self.frame_rate = frames.clamp(1, 1000);
        self
    }

    /// Puts the index behind the pictures, as cameras do.
    #[must_use]
    pub fn index_last(mut self) -> Self {
        self.index_last = true;
        self
    }

    /// Stores the picture lying on its side, as telephones do.
    #[must_use]
    pub fn rotated(mut self) -> Self {
        self.rotated = true;
        self
    }

    /// Leaves the sound out.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// The whole file in memory.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let source = self.source();
        let mut file = source.head.to_vec();
        file.resize(file.len() + source.padding() as usize, 0);
        file.extend(&source.tail);
        file
    }

    /// The file as a source that makes up its padding when read, whatever its length.
    #[must_use]
    pub fn source(&self) -> PaddedSource {
        let kind = atom(b"ftyp", &[b"isom\0\0\x02\0", b"isomiso2avc1mp41"]);
        let frames = FRAME.repeat(self.frames() as usize);
        let sound = SILENCE.repeat(self.sounds() as usize);
        // The index has the same length wherever it points.
        let index_len = self.index(0).len();
        let data = kind.len() + if self.index_last { 0 } else { index_len } + 16;
        let index = self.index(data as u32);
        let needed = (kind.len() + index_len + 16 + frames.len() + sound.len()) as u64;
        let size = self.total_bytes.max(needed);
        let data_box =
            [&1_u32.to_be_bytes()[..], b"mdat", &(size - (kind.len() + index_len) as u64).to_be_bytes()].concat();
        let (head, tail) = if self.index_last {
            (vec![kind, data_box, frames, sound], index)
        } else {
            (vec![kind, index, data_box, frames, sound], Vec::new())
        };
        PaddedSource { head: head.concat().into(), tail: tail.into(), size }
    }

    fn frames(&self) -> u32 {
        let frames = u64::from(self.duration_ms) * u64::from(self.frame_rate) / 1000;
        u32::try_from(frames).unwrap_or(u32::MAX).max(1)
    }

    fn sounds(&self) -> u32 {
        let samples = u64::from(self.duration_ms) * u64::from(SOUND_RATE) / 1000;
        if self.silent { 0 } else { u32::try_from(samples / 1024).unwrap_or(u32::MAX).max(1) }
    }

    fn index(&self, data_at: u32) -> Vec<u8> {
        let movie = full(
            b"mvhd",
            0,
            &[
                &[0; 8],
                &1000_u32.to_be_bytes(),
                &self.duration_ms.to_be_bytes(),
                &ONE.to_be_bytes(),
                &[1, 0],
                &[0; 10],
                &matrix(false),
                &[0; 24],
                &3_u32.to_be_bytes(),
            ],
        );
        let mut tracks = vec![self.video_track(data_at)];
        if !self.silent {
            tracks.push(self.sound_track(data_at + FRAME.len() as u32 * self.frames()));
        }
        atom(b"moov", &[&movie, &tracks.concat()])
    }

    fn video_track(&self, data_at: u32) -> Vec<u8> {
        let (width, height) = if self.rotated { (self.height, self.width) } else { (self.width, self.height) };
        let sps = sequence_parameters(width, height);
        let configuration = atom(
            b"avcC",
            &[
                &[1, sps[1], sps[2], sps[3], 0xFF, 0xE1],
                &(sps.len() as u16).to_be_bytes(),
                &sps,
                &[1, 0, 4, 0x68, 0xCE, 0x38, 0x80],
            ],
        );
        let entry = atom(
            b"avc1",
            &[
                &[0, 0, 0, 0, 0, 0, 0, 1],
                &[0; 16],
                &width.to_be_bytes(),
                &height.to_be_bytes(),
                &[0, 0x48, 0, 0, 0, 0x48, 0, 0, 0, 0, 0, 0, 0, 1],
                &[0; 32],
                &[0, 24, 0xFF, 0xFF],
                &configuration,
            ],
        );
        let track = TrackBoxes {
            id: 1,
            handler: b"vide",
            header: full(b"vmhd", 1, &[&[0; 8]]),
            shown: (width, height),
            rotated: self.rotated,
            volume: 0,
            timescale: self.frame_rate * TICKS_PER_FRAME,
            ticks: TICKS_PER_FRAME,
            count: self.frames(),
            size: FRAME.len() as u32,
            entry,
        };
        track.build(self.duration_ms, data_at)
    }

    fn sound_track(&self, data_at: u32) -> Vec<u8> {
        let decoder = [&[4, 17, 0x40, 0x15][..], &[0; 11], &[5, 2, 0x11, 0x88], &[6, 1, 2]].concat();
        let entry = atom(
            b"mp4a",
            &[
                &[0, 0, 0, 0, 0, 0, 0, 1],
                &[0; 8],
                &[0, 1, 0, 16, 0, 0, 0, 0],
                &(SOUND_RATE << 16).to_be_bytes(),
                &full(b"esds", 0, &[&[3, decoder.len() as u8 + 3, 0, 2, 0], &decoder]),
            ],
        );
        let track = TrackBoxes {
            id: 2,
            handler: b"soun",
            header: full(b"smhd", 0, &[&[0; 4]]),
            shown: (0, 0),
            rotated: false,
            volume: 1,
            timescale: SOUND_RATE,
            ticks: 1024,
            count: self.sounds(),
            size: SILENCE.len() as u32,
            entry,
        };
        track.build(self.duration_ms, data_at)
    }
}

struct TrackBoxes {
    id: u32,
    handler: &'static [u8; 4],
    header: Vec<u8>,
    shown: (u16, u16),
    rotated: bool,
    volume: u8,
    timescale: u32,
    ticks: u32,
    count: u32,
    size: u32,
    entry: Vec<u8>,
}

impl TrackBoxes {
    fn build(&self, duration_ms: u32, data_at: u32) -> Vec<u8> {
        let fixed = |side: u16| (u32::from(side) << 16).to_be_bytes();
        let track_header = full(
            b"tkhd",
            7,
            &[
                &[0; 8],
                &self.id.to_be_bytes(),
                &[0; 4],
                &duration_ms.to_be_bytes(),
                &[0; 12],
                &[self.volume, 0, 0, 0],
                &matrix(self.rotated),
                &fixed(self.shown.0),
                &fixed(self.shown.1),
            ],
        );
        let ticks = u64::from(duration_ms) * u64::from(self.timescale) / 1000;
        let media_header = full(
            b"mdhd",
            0,
            &[
                &[0; 8],
                &self.timescale.to_be_bytes(),
                &u32::try_from(ticks).unwrap_or(u32::MAX).to_be_bytes(),
                &[0x55, 0xC4, 0, 0],
            ],
        );
        let handler = full(b"hdlr", 0, &[&[0; 4], self.handler, &[0; 13]]);
        let reference = full(b"dref", 0, &[&1_u32.to_be_bytes(), &full(b"url ", 1, &[])]);
        let one = 1_u32.to_be_bytes();
        let count = self.count.to_be_bytes();
        let tables = atom(
            b"stbl",
            &[
                &full(b"stsd", 0, &[&one, &self.entry]),
                &full(b"stts", 0, &[&one, &count, &self.ticks.to_be_bytes()]),
                &full(b"stsc", 0, &[&one, &one, &count, &one]),
                &full(b"stsz", 0, &[&self.size.to_be_bytes(), &count]),
                &full(b"stco", 0, &[&one, &data_at.to_be_bytes()]),
            ],
        );
        let information = atom(b"minf", &[&self.header, &atom(b"dinf", &[&reference]), &tables]);
        atom(b"trak", &[&track_header, &atom(b"mdia", &[&media_header, &handler, &information])])
    }
}

/// A file with a beginning, an end, and as many zero bytes between as its length asks for.
#[derive(Clone)]
pub struct PaddedSource {
    head: Bytes,
    tail: Bytes,
    size: u64,
}

impl PaddedSource {
    fn padding(&self) -> u64 {
        self.size - (self.head.len() + self.tail.len()) as u64
    }
}

impl std::fmt::Debug for PaddedSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PaddedSource({} bytes)", self.size)
    }
}

#[async_trait]
impl MediaSource for PaddedSource {
    fn size_bytes(&self) -> u64 {
        self.size
    }

    async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let left = self.size.saturating_sub(offset);
        let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut piece = vec![0; len];
        for (part, start) in [(&self.head, 0), (&self.tail, self.size - self.tail.len() as u64)] {
            let from = offset.max(start);
            let to = (offset + len as u64).min(start + part.len() as u64);
            if from < to {
                let (into, of) = ((from - offset) as usize, (from - start) as usize);
                let count = (to - from) as usize;
                piece[into..into + count].copy_from_slice(&part[of..of + count]);
            }
        }
        Ok(piece.into())
    }
}

fn atom(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = (len as u32 + 8).to_be_bytes().to_vec();
    out.extend(kind);
    parts.iter().for_each(|part| out.extend(*part));
    out
}

/// A box with a version (0) and flags.
fn full(kind: &[u8; 4], flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    let flags = flags.to_be_bytes();
    atom(kind, &[&[&flags[..]], parts].concat())
}

fn matrix(quarter_turn: bool) -> Vec<u8> {
    let turned: [u32; 9] = [0, ONE, 0, ONE.wrapping_neg(), 0, 0, 0, 0, 0x4000_0000];
    let straight: [u32; 9] = [ONE, 0, 0, 0, ONE, 0, 0, 0, 0x4000_0000];
    (if quarter_turn { turned } else { straight }).iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// What an H.264 decoder must know about the pictures: baseline profile, level 4.0, the size.
fn sequence_parameters(width: u16, height: u16) -> Vec<u8> {
    let (width, height) = (u32::from(width).max(1), u32::from(height).max(1));
    let (columns, rows) = (width.div_ceil(16), height.div_ceil(16));
    let (right, bottom) = ((columns * 16 - width) / 2, (rows * 16 - height) / 2);
    let mut bits = BitsFirstHigh::default();
    for value in [0, 0, 2, 0] {
        bits.golomb(value); // id, frame numbers of 4 bits, output in decoding order, no references
    }
    bits.push(0, 1);
    bits.golomb(columns - 1);
    bits.golomb(rows - 1);
    bits.push(0b11, 2); // whole frames, direct inference
    bits.push(1, 1);
    for crop in [0, right, 0, bottom] {
        bits.golomb(crop);
    }
    bits.push(0, 1);
    bits.push(1, 1); // end mark; the last byte is filled with zeros
    [vec![0x67, 66, 0xC0, 40], bits.bytes].concat()
}

#[derive(Default)]
struct BitsFirstHigh {
    bytes: Vec<u8>,
    used: u32,
}

impl BitsFirstHigh {
    fn push(&mut self, value: u32, count: u32) {
        for i in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = (value >> i & 1) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (7 - self.used % 8);
            }
            self.used += 1;
        }
    }

    fn golomb(&mut self, value: u32) {
        let len = (value + 1).ilog2();
        self.push(0, len);
        self.push(value + 1, len + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::sample::mp4;

    #[test]
    fn a_video_is_as_long_as_asked_for() {
        for total in [20_000, 20_001, 1 << 20] {
            assert_eq!(mp4(640, 360, 1000, total).len() as u64, total);
            assert_eq!(Mp4::new(640, 360, 1000).index_last().total_bytes(total).bytes().len() as u64, total);
        }
        assert!(mp4(640, 360, 1000, 0).len() < 4000);
    }

    #[tokio::test]
    async fn a_padded_source_reads_like_its_bytes() {
        for build in [Mp4::new(64, 64, 100), Mp4::new(64, 64, 100).index_last()] {
            let build = build.total_bytes(5000);
            let (source, bytes) = (build.source(), build.bytes());
            assert_eq!(source.size_bytes(), 5000);
            for (offset, len) in [(0, 5000), (0, 9999), (10, 100), (900, 700), (4990, 100), (5000, 1), (6000, 1)] {
                let end = (offset + len).min(bytes.len());
                let expected = &bytes[offset.min(end)..end];
                assert_eq!(source.read(offset as u64, len).await.unwrap(), expected, "{offset}+{len}");
            }
        }
    }
}
