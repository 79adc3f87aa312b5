//! The boxes of MP4 and QuickTime files: size, time and codecs without decoding.
//!
//! Numbers in a file are claims. Every box must lie within the box that holds it, every table within its box, and nothing
//! is allocated by a claimed length: what is read is bounded by the reader's budget and by what is really there. The walk
//! knows the few boxes that it descends into, so its depth is fixed.

use super::measure::{MeasureError, Reader, be_u32, be_u64, malformed};
use super::{MediaFacts, sniff};

/// More tracks than any camera or editor makes.
const MAX_TRACKS: usize = 64;
/// Time tables beyond this length are averaged over the whole track instead.
const MAX_TIME_ENTRIES: u64 = 4096;

/// What must stay affordable for the index itself while the boxes behind it are looked at.
const RESERVE: usize = 512 << 10;

/// Fills in pixels, playing time, codecs and frame rate.
pub(super) async fn measure(reader: &mut Reader<'_>, facts: &mut MediaFacts) -> Result<(), MeasureError> {
    let index = index(reader).await?;
    let movie = Movie::read(reader, index).await?;
    let video = movie.tracks.iter().find(|track| track.handler == *b"vide");
    let audio = movie.tracks.iter().find(|track| track.handler == *b"soun");
    let Some(video) = video else {
        return Err(match audio {
            Some(_) => MeasureError::Unrecognised { hint: sniff::SOUND },
            None => malformed("a video without a picture track"),
        });
    };
    (facts.width, facts.height) = (Some(video.width), Some(video.height));
    facts.video_codec.clone_from(&video.codec);
    facts.audio_codec = audio.and_then(|track| track.codec.clone());
    facts.frame_rate_milli = video.frame_rate_milli();
    facts.duration_ms = movie.duration_ms;
    Ok(())
}

/// Finds the index among the outermost boxes, wherever it lies, and makes sure that the file is not cut off.
async fn index(reader: &mut Reader<'_>) -> Result<Container, MeasureError> {
    let mut outer = Container { at: 0, end: reader.size };
    let mut index = None;
    // A video in thousands of fragments has thousands of boxes behind its index; those need not all be seen.
    while index.is_none() || reader.affords(RESERVE) {
        match outer.next(reader).await? {
            Some(found) if found.kind == *b"moov" => index = index.or(Some(found.body)),
            Some(_) => {}
            None => break,
        }
    }
    index.ok_or_else(|| malformed("it has no index (moov box)"))
}

/// The rest of something that holds boxes.
#[derive(Debug, Clone, Copy)]
struct Container {
    at: u64,
    end: u64,
}

struct Found {
    kind: [u8; 4],
    body: Container,
}

impl Container {
    async fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<Found>, MeasureError> {
        let left = self.end - self.at;
        if left < 8 {
            return Ok(None); // old QuickTime writers end a list with four zero bytes
        }
        let head = reader.exact(self.at, left.min(16) as usize).await?;
        let (head_len, size) = match be_u32(&head, 0) {
            0 => (8, left), // up to the end
            1 if left < 16 => return Err(malformed("a box is shorter than its own header")),
            1 => (16, be_u64(&head, 8)),
            size => (8, u64::from(size)),
        };
        if size < head_len {
            return Err(malformed("a box is shorter than its own header"));
        }
        if size > left {
            return Err(malformed("it is cut off: a box reaches beyond the end of what holds it"));
        }
        let mut kind = [0; 4];
        kind.copy_from_slice(&head[4..8]);
        let body = Container { at: self.at + head_len, end: self.at + size };
        self.at = body.end;
        Ok(Some(Found { kind, body }))
    }

    fn len(self) -> u64 {
        self.end - self.at
    }

    /// The first `len` bytes, which the box must have.
    async fn fields(self, reader: &mut Reader<'_>, len: u64) -> Result<bytes::Bytes, MeasureError> {
        if self.len() < len {
            return Err(malformed("a box is shorter than its fields"));
        }
        reader.exact(self.at, usize::try_from(len).map_err(|_| malformed("its index is too large"))?).await
    }
}

#[derive(Default)]
struct Movie {
    duration_ms: Option<u64>,
    tracks: Vec<Track>,
}

impl Movie {
    async fn read(reader: &mut Reader<'_>, mut index: Container) -> Result<Self, MeasureError> {
        let mut movie = Self::default();
        let mut clock = None;
        let mut fragments = None;
        while let Some(found) = index.next(reader).await? {
            match &found.kind {
                b"mvhd" => clock = Some(Clock::read(reader, found.body).await?),
                b"trak" if movie.tracks.len() < MAX_TRACKS => movie.tracks.push(Track::read(reader, found.body).await?),
                b"trak" => return Err(malformed("it has too many tracks")),
                b"mvex" => fragments = fragments_duration(reader, found.body).await?,
                _ => {}
            }
        }
        let clock = clock.ok_or_else(|| malformed("its index has no movie header"))?;
        let whole = clock.duration.or(fragments).map(|duration| milliseconds(duration, clock.timescale)).transpose()?;
        let mut longest = None;
        for track in &movie.tracks {
            longest = longest.max(track.duration_ms()?);
        }
        movie.duration_ms = whole.or(longest);
        Ok(movie)
    }
}

/// How long the fragments behind the index play, in the movie's time scale, if the file says so.
async fn fragments_duration(reader: &mut Reader<'_>, mut extends: Container) -> Result<Option<u64>, MeasureError> {
    while let Some(found) = extends.next(reader).await? {
        if found.kind == *b"mehd" {
            let fields = found.body.fields(reader, 8).await?;
            let duration = match fields[0] {
                0 => u64::from(be_u32(&fields, 4)),
                _ => be_u64(&found.body.fields(reader, 12).await?, 4),
            };
            return Ok(Some(duration).filter(|duration| *duration > 0));
        }
    }
    Ok(None)
}

/// A time scale in ticks per second, and a duration in those ticks where it is known.
#[derive(Debug, Clone, Copy)]
struct Clock {
    timescale: u32,
    duration: Option<u64>,
}

impl Clock {
    /// Reads a movie header or a media header: they begin alike.
    async fn read(reader: &mut Reader<'_>, body: Container) -> Result<Self, MeasureError> {
        let short = body.fields(reader, 20).await?;
        let (timescale, duration) = if short[0] == 0 {
            (be_u32(&short, 12), Some(be_u32(&short, 16)).filter(|d| *d != u32::MAX).map(u64::from))
        } else {
            let long = body.fields(reader, 32).await?;
            (be_u32(&long, 20), Some(be_u64(&long, 24)).filter(|d| *d != u64::MAX))
        };
        if timescale == 0 {
            return Err(malformed("its time scale is zero"));
        }
        Ok(Self { timescale, duration: duration.filter(|d| *d > 0) })
    }
}

fn milliseconds(duration: u64, timescale: u32) -> Result<u64, MeasureError> {
    let rounded = (u128::from(duration) * 1000 + u128::from(timescale) / 2) / u128::from(timescale);
    u64::try_from(rounded).map_err(|_| malformed("its playing time is beyond all measure"))
}

#[derive(Default)]
struct Track {
    handler: [u8; 4],
    width: u32,
    height: u32,
    codec: Option<String>,
    clock: Option<Clock>,
    /// Frames and the ticks that they take, from the time table.
    timed: Option<(u64, u64)>,
    /// Frames, from the size table.
    frames: Option<u32>,
}

impl Track {
    async fn read(reader: &mut Reader<'_>, mut body: Container) -> Result<Self, MeasureError> {
        let mut track = Self::default();
        let mut shown = None;
        while let Some(found) = body.next(reader).await? {
            match &found.kind {
                b"tkhd" => shown = Some(shown_size(reader, found.body).await?),
                b"mdia" => track.read_media(reader, found.body).await?,
                _ => {}
            }
        }
        // The header says how large to show the picture; some writers leave that to the codec.
        if let Some((width @ 1.., height @ 1..)) = shown {
            (track.width, track.height) = (width, height);
        }
        Ok(track)
    }

    async fn read_media(&mut self, reader: &mut Reader<'_>, mut media: Container) -> Result<(), MeasureError> {
        let mut tables = None;
        while let Some(found) = media.next(reader).await? {
            match &found.kind {
                b"mdhd" => self.clock = Some(Clock::read(reader, found.body).await?),
                b"hdlr" => self.handler.copy_from_slice(&found.body.fields(reader, 12).await?[8..12]),
                b"minf" => {
                    let mut information = found.body;
                    while let Some(found) = information.next(reader).await? {
                        if found.kind == *b"stbl" {
                            tables = Some(found.body);
                        }
                    }
                }
                _ => {}
            }
        }
        let Some(mut tables) = tables else { return Ok(()) };
        while let Some(found) = tables.next(reader).await? {
            match &found.kind {
                b"stsd" => self.read_description(reader, found.body).await?,
                b"stts" => self.timed = time_table(reader, found.body).await?,
                b"stsz" | b"stz2" => self.frames = Some(be_u32(&found.body.fields(reader, 12).await?, 8)),
                _ => {}
            }
        }
        Ok(())
    }

    async fn read_description(&mut self, reader: &mut Reader<'_>, body: Container) -> Result<(), MeasureError> {
        const FIRST: u64 = 8;
        if be_u32(&body.fields(reader, FIRST).await?, 4) == 0 {
            return Ok(());
        }
        let fields = body.fields(reader, FIRST + 8).await?;
        let size = u64::from(be_u32(&fields, 8));
        if size < 8 || size > body.len() - FIRST {
            return Err(malformed("a codec description reaches beyond its box"));
        }
        self.codec = code(&fields[12..16]);
        if self.handler == *b"vide" && size >= 36 {
            let fields = body.fields(reader, FIRST + 36).await?;
            let sides = be_u32(&fields, 40);
            (self.width, self.height) = (sides >> 16, sides & 0xFFFF);
        }
        Ok(())
    }

    fn duration_ms(&self) -> Result<Option<u64>, MeasureError> {
        let Some(Clock { timescale, duration: Some(duration) }) = self.clock else { return Ok(None) };
        milliseconds(duration, timescale).map(Some)
    }

    fn frame_rate_milli(&self) -> Option<u32> {
        let clock = self.clock?;
        let (frames, ticks) = match self.timed {
            Some(timed) => timed,
            None => (u64::from(self.frames?), clock.duration?),
        };
        let rate = (u128::from(frames) * u128::from(clock.timescale) * 1000).checked_div(u128::from(ticks))?;
        u32::try_from(rate).ok().filter(|rate| *rate > 0)
    }
}

/// Width and height as shown: sides change places when the picture is turned by a quarter.
async fn shown_size(reader: &mut Reader<'_>, body: Container) -> Result<(u32, u32), MeasureError> {
    let version = body.fields(reader, 4).await?[0];
    let (matrix, len) = if version == 0 { (40, 84) } else { (52, 96) };
    let fields = body.fields(reader, len).await?;
    let turned = be_u32(&fields, matrix) == 0
        && be_u32(&fields, matrix + 16) == 0
        && be_u32(&fields, matrix + 4) != 0
        && be_u32(&fields, matrix + 12) != 0;
    let (width, height) = (be_u32(&fields, matrix + 36) >> 16, be_u32(&fields, matrix + 40) >> 16);
    Ok(if turned { (height, width) } else { (width, height) })
}

/// Sums up the table of how long each frame lasts; `None` when it is too long to be read.
async fn time_table(reader: &mut Reader<'_>, body: Container) -> Result<Option<(u64, u64)>, MeasureError> {
    const ENTRIES: u64 = 8;
    let count = u64::from(be_u32(&body.fields(reader, ENTRIES).await?, 4));
    if count * 8 > body.len() - ENTRIES {
        return Err(malformed("a time table is longer than its box"));
    }
    if count > MAX_TIME_ENTRIES {
        return Ok(None);
    }
    let table = body.fields(reader, ENTRIES + count * 8).await?;
    let (mut frames, mut ticks) = (0_u64, 0_u64);
    for entry in table[ENTRIES as usize..].chunks_exact(8) {
        let (run, each) = (u64::from(be_u32(entry, 0)), u64::from(be_u32(entry, 4)));
        // 4096 products of two 32-bit numbers can exceed 64 bits.
        frames += run;
        ticks = run
            .checked_mul(each)
            .and_then(|t| ticks.checked_add(t))
            .ok_or_else(|| malformed("a time table overflows"))?;
    }
    Ok((ticks > 0).then_some((frames, ticks)))
}

/// A four-character code as text.
fn code(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?.trim_end();
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{BytesSource, MediaKind, measure, sample};

    async fn facts(bytes: Vec<u8>) -> Result<MediaFacts, MeasureError> {
        measure(&BytesSource::new(bytes)).await
    }

    async fn damage(bytes: Vec<u8>) -> &'static str {
        match facts(bytes).await {
            Err(MeasureError::Malformed { what }) => what,
            other => panic!("{other:?}"),
        }
    }

    /// Where the body of the box at the end of `path` begins.
    fn body_of(file: &[u8], path: &[&str]) -> usize {
        let (mut at, mut end) = (0, file.len());
        'path: for kind in path {
            while at + 8 <= end {
                let size = match be_u32(file, at) {
                    1 => be_u64(file, at + 8) as usize,
                    size => size as usize,
                };
                if &file[at + 4..at + 8] == kind.as_bytes() {
                    end = at + size;
                    at += 8;
                    continue 'path;
                }
                at += size;
            }
            panic!("no {kind}");
        }
        at
    }

    fn put(file: &mut [u8], at: usize, value: u32) {
        file[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    #[tokio::test]
    async fn a_video_tells_everything() {
        let facts = facts(sample::mp4(1280, 720, 12_345, 100_000)).await.unwrap();
        assert_eq!(facts.kind, MediaKind::Video);
        assert_eq!(facts.mime, "video/mp4");
        assert_eq!(facts.size_bytes, 100_000);
        assert_eq!((facts.width, facts.height), (Some(1280), Some(720)));
        assert_eq!(facts.duration_ms, Some(12_345));
        assert_eq!(facts.frame_rate_milli, Some(30_000));
        assert_eq!((facts.video_codec.as_deref(), facts.audio_codec.as_deref()), (Some("avc1"), Some("mp4a")));
        assert_eq!((facts.frames, facts.sha256), (None, None));
    }

    #[tokio::test]
    async fn the_index_may_come_last_and_the_picture_turned() {
        let file = sample::Mp4::new(1080, 1920, 5000).index_last().rotated().frame_rate(60).silent().bytes();
        let facts = facts(file).await.unwrap();
        assert_eq!((facts.width, facts.height), (Some(1080), Some(1920)), "as shown");
        assert_eq!(facts.frame_rate_milli, Some(60_000));
        assert_eq!(facts.audio_codec, None);
    }

    #[tokio::test]
    async fn without_a_shown_size_the_codec_tells() {
        let mut file = sample::mp4(640, 360, 1000, 0);
        let header = body_of(&file, &["moov", "trak", "tkhd"]);
        file[header + 76..header + 84].fill(0);
        let facts = facts(file).await.unwrap();
        assert_eq!((facts.width, facts.height), (Some(640), Some(360)));
    }

    #[tokio::test]
    async fn without_a_movie_duration_the_longest_track_tells() {
        let mut file = sample::mp4(640, 360, 4000, 0);
        let header = body_of(&file, &["moov", "mvhd"]);
        for unknown in [0, u32::MAX] {
            put(&mut file, header + 16, unknown);
            assert_eq!(facts(file.clone()).await.unwrap().duration_ms, Some(4000));
        }
        let media = body_of(&file, &["moov", "trak", "mdia", "mdhd"]);
        put(&mut file, media + 16, 0);
        assert_eq!(facts(file).await.unwrap().frame_rate_milli, Some(30_000), "the time table needs no duration");
    }

    #[tokio::test]
    async fn without_a_time_table_the_size_table_tells_the_frame_rate() {
        let mut file = sample::mp4(640, 360, 2000, 0);
        let times = body_of(&file, &["moov", "trak", "mdia", "minf", "stbl", "stts"]);
        file[times - 4..times].copy_from_slice(b"free");
        assert_eq!(facts(file).await.unwrap().frame_rate_milli, Some(30_000));
    }

    #[tokio::test]
    async fn lies_are_refused() {
        let good = sample::mp4(640, 360, 2000, 50_000);
        let bad = |path: &[&str], offset: isize, value: u32| {
            let mut file = good.clone();
            let at = body_of(&file, path).checked_add_signed(offset).unwrap();
            put(&mut file, at, value);
            file
        };
        assert!(damage(bad(&["moov", "trak"], -8, u32::MAX)).await.contains("beyond"));
        assert!(damage(bad(&["moov", "trak", "mdia"], -8, 1 << 20)).await.contains("beyond"), "longer than its parent");
        assert!(damage(bad(&["moov", "trak"], -8, 7)).await.contains("shorter than its own header"));
        assert!(damage(bad(&["moov", "mvhd"], 12, 0)).await.contains("time scale"));
        assert!(damage(bad(&["moov", "trak", "mdia", "mdhd"], 12, 0)).await.contains("time scale"));
        assert!(
            damage(bad(&["moov", "trak", "mdia", "minf", "stbl", "stts"], 4, u32::MAX))
                .await
                .contains("longer than its box")
        );
        assert!(
            damage(bad(&["moov", "trak", "mdia", "minf", "stbl", "stsd"], 8, u32::MAX))
                .await
                .contains("beyond its box")
        );
        assert!(damage(bad(&["moov"], -4, 0)).await.contains("no index"));
        assert!(damage(good[..good.len() - 1].to_vec()).await.contains("cut off"));
    }

    #[tokio::test]
    async fn sixty_four_bit_sizes_are_understood_and_checked() {
        let file = sample::mp4(640, 360, 2000, 50_000);
        let data = body_of(&file, &["mdat"]);
        assert_eq!(be_u32(&file, data - 8), 1, "the sample uses the long form");
        let mut lying = file.clone();
        lying[data..data + 8].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(damage(lying).await.contains("beyond"));
        let mut short = file;
        short[data..data + 8].copy_from_slice(&15_u64.to_be_bytes());
        assert!(damage(short).await.contains("shorter than its own header"));
    }

    #[tokio::test]
    async fn sixty_four_bit_times_are_understood_and_checked() {
        let mut file = sample::mp4(640, 360, 2000, 0);
        let header = body_of(&file, &["moov", "mvhd"]);
        file[header] = 1;
        put(&mut file, header + 20, 1000);
        file[header + 24..header + 32].copy_from_slice(&7_200_000_u64.to_be_bytes());
        assert_eq!(facts(file.clone()).await.unwrap().duration_ms, Some(7_200_000));
        put(&mut file, header + 20, 1);
        file[header + 24..header + 32].copy_from_slice(&(u64::MAX - 1).to_be_bytes());
        assert!(damage(file).await.contains("beyond all measure"));
    }

    #[tokio::test]
    async fn sound_alone_is_not_a_video() {
        let mut file = sample::mp4(640, 360, 2000, 0);
        let handler = body_of(&file, &["moov", "trak", "mdia", "hdlr"]);
        put(&mut file, handler + 8, u32::from_be_bytes(*b"text"));
        assert!(matches!(facts(file).await, Err(MeasureError::Unrecognised { hint: "looks like a sound file" })));
        let mut file = sample::Mp4::new(640, 360, 2000).silent().bytes();
        let handler = body_of(&file, &["moov", "trak", "mdia", "hdlr"]);
        put(&mut file, handler + 8, u32::from_be_bytes(*b"text"));
        assert!(damage(file).await.contains("picture track"));
    }

    #[tokio::test]
    async fn thousands_of_fragments_do_not_exhaust_the_reader() {
        let mut file = sample::mp4(640, 360, 2000, 0);
        for _ in 0..2000 {
            let mut fragment = vec![0; 1100];
            put(&mut fragment, 0, 1100);
            put(&mut fragment, 4, u32::from_be_bytes(*b"moof"));
            file.extend(fragment);
        }
        assert_eq!(facts(file).await.unwrap().duration_ms, Some(2000));
        let mut endless = [&16_u32.to_be_bytes()[..], b"ftypisom", &[0; 4]].concat();
        for _ in 0..200_000 {
            endless.extend(8_u32.to_be_bytes());
            endless.extend(b"free");
        }
        assert!(damage(endless).await.contains("too large"), "boxes without end and without an index");
    }
}
