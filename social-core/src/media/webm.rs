//! The elements of WebM and Matroska files, as far as they tell size, time and codecs.
//!
//! Best effort: what cannot be read stays unknown, and only a failing source is an error.

use super::MediaFacts;
use super::measure::{MeasureError, Reader, be_u32, be_u64, malformed};

const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TIMESTAMP_SCALE: u32 = 0x002A_D7B1;
const DURATION: u32 = 0x4489;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_TYPE: u32 = 0x83;
const CODEC_ID: u32 = 0x86;
const DEFAULT_DURATION: u32 = 0x0023_E383;
const VIDEO: u32 = 0xE0;
const PIXEL_WIDTH: u32 = 0xB0;
const PIXEL_HEIGHT: u32 = 0xBA;
const CLUSTER: u32 = 0x1F43_B675;

const NANOS_PER_MILLI: f64 = 1_000_000.0;
/// Longer than any recording, short enough to be exact in a float.
const LONGEST_MS: f64 = 1e12;

pub(super) async fn measure(reader: &mut Reader<'_>, facts: &mut MediaFacts) -> Result<(), MeasureError> {
    match walk(reader, facts).await {
        Err(MeasureError::Unreadable(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

async fn walk(reader: &mut Reader<'_>, facts: &mut MediaFacts) -> Result<(), MeasureError> {
    let mut file = Elements { at: 0, end: reader.size };
    while let Some(element) = file.next(reader).await? {
        if element.id == SEGMENT {
            return segment(reader, element.body, facts).await;
        }
    }
    Ok(())
}

async fn segment(reader: &mut Reader<'_>, mut body: Elements, facts: &mut MediaFacts) -> Result<(), MeasureError> {
    let (mut told_time, mut told_tracks) = (false, false);
    while let Some(element) = body.next(reader).await? {
        match element.id {
            INFO => {
                facts.duration_ms = duration_ms(reader, element.body).await?;
                told_time = true;
            }
            TRACKS => {
                tracks(reader, element.body, facts).await?;
                told_tracks = true;
            }
            // Pictures and sound follow; what describes them has come before.
            CLUSTER => break,
            _ => {}
        }
        if told_time && told_tracks {
            break;
        }
    }
    Ok(())
}

async fn duration_ms(reader: &mut Reader<'_>, mut info: Elements) -> Result<Option<u64>, MeasureError> {
    let mut scale = 1_000_000;
    let mut duration = None;
    while let Some(element) = info.next(reader).await? {
        match element.id {
            TIMESTAMP_SCALE => scale = element.number(reader).await?,
            DURATION => duration = Some(element.float(reader).await?),
            _ => {}
        }
    }
    let milliseconds = duration.map(|ticks| (ticks * scale as f64 / NANOS_PER_MILLI).round());
    Ok(milliseconds.filter(|ms| (1.0..LONGEST_MS).contains(ms)).map(|ms| ms as u64))
}

async fn tracks(reader: &mut Reader<'_>, mut body: Elements, facts: &mut MediaFacts) -> Result<(), MeasureError> {
    while let Some(entry) = body.next(reader).await? {
        if entry.id != TRACK_ENTRY {
            continue;
        }
        let (mut kind, mut codec, mut nanos_per_frame, mut picture) = (0, None, None, None);
        let mut fields = entry.body;
        while let Some(field) = fields.next(reader).await? {
            match field.id {
                TRACK_TYPE => kind = field.number(reader).await?,
                CODEC_ID => codec = field.text(reader).await?,
                DEFAULT_DURATION => nanos_per_frame = Some(field.number(reader).await?),
                VIDEO => picture = Some(field.body),
                _ => {}
            }
        }
        match kind {
            1 if facts.video_codec.is_none() => {
                facts.video_codec = codec;
                facts.frame_rate_milli = nanos_per_frame
                    .and_then(|nanos| 1_000_000_000_000_u64.checked_div(nanos))
                    .and_then(|rate| u32::try_from(rate).ok())
                    .filter(|rate| *rate > 0);
                if let Some(mut picture) = picture {
                    while let Some(field) = picture.next(reader).await? {
                        match field.id {
                            PIXEL_WIDTH => facts.width = u32::try_from(field.number(reader).await?).ok(),
                            PIXEL_HEIGHT => facts.height = u32::try_from(field.number(reader).await?).ok(),
                            _ => {}
                        }
                    }
                }
            }
            2 if facts.audio_codec.is_none() => facts.audio_codec = codec,
            _ => {}
        }
    }
    Ok(())
}

/// The rest of something that holds elements.
#[derive(Debug, Clone, Copy)]
struct Elements {
    at: u64,
    end: u64,
}

struct Element {
    id: u32,
    body: Elements,
}

impl Elements {
    async fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<Element>, MeasureError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let head = reader.up_to(self.at, 12).await?;
        let (Some(id_len), Some(&first)) = (head.first().and_then(|b| coded_len(*b, 4)), head.get(coded_at(&head)))
        else {
            return Err(malformed("an element without an identifier"));
        };
        let size_len = coded_len(first, 8).ok_or_else(|| malformed("an element without a length"))?;
        let (Some(id), Some(size)) = (head.get(..id_len), head.get(id_len..id_len + size_len)) else {
            return Err(malformed("it ends too early"));
        };
        let id = id.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        let claimed = size.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let mask = (1_u64 << (7 * size_len)) - 1;
        let start = self.at + (id_len + size_len) as u64;
        // All ones: the writer did not know the length, so it is the rest.
        let end = match claimed & mask {
            unknown if unknown == mask => self.end,
            size => start
                .checked_add(size)
                .filter(|end| *end <= self.end)
                .ok_or_else(|| malformed("an element is cut off"))?,
        };
        self.at = end;
        Ok(Some(Element { id, body: Elements { at: start, end } }))
    }
}

/// The length of a number that begins with `first`, told by its leading zeros.
fn coded_len(first: u8, max: usize) -> Option<usize> {
    let len = first.leading_zeros() as usize + 1;
    (len <= max).then_some(len)
}

/// Where the length of an element begins.
fn coded_at(head: &[u8]) -> usize {
    head.first().map_or(0, |first| first.leading_zeros() as usize + 1)
}

impl Element {
    async fn raw(&self, reader: &mut Reader<'_>, max: u64) -> Result<bytes::Bytes, MeasureError> {
        let len = self.body.end - self.body.at;
        if len > max {
            return Err(malformed("a field is too long"));
        }
        reader.exact(self.body.at, len as usize).await
    }

    async fn number(&self, reader: &mut Reader<'_>) -> Result<u64, MeasureError> {
        Ok(self.raw(reader, 8).await?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    async fn float(&self, reader: &mut Reader<'_>) -> Result<f64, MeasureError> {
        let raw = self.raw(reader, 8).await?;
        match raw.len() {
            4 => Ok(f64::from(f32::from_bits(be_u32(&raw, 0)))),
            8 => Ok(f64::from_bits(be_u64(&raw, 0))),
            _ => Err(malformed("a number of unusual length")),
        }
    }

    async fn text(&self, reader: &mut Reader<'_>) -> Result<Option<String>, MeasureError> {
        let raw = self.raw(reader, 64).await?;
        let text = std::str::from_utf8(&raw).ok().map(|text| text.trim_end_matches('\0'));
        Ok(text.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())).map(str::to_owned))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::media::{BytesSource, measure};

    fn element(id: u32, body: &[u8]) -> Vec<u8> {
        let id: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
        [&id[..], &[0x40 | (body.len() >> 8) as u8, body.len() as u8], body].concat()
    }

    pub(crate) fn file() -> Vec<u8> {
        let info = [
            element(TIMESTAMP_SCALE, &1_000_000_u32.to_be_bytes()),
            element(DURATION, &12_500.0_f64.to_bits().to_be_bytes()),
        ]
        .concat();
        let size = [element(PIXEL_WIDTH, &[7, 128]), element(PIXEL_HEIGHT, &[4, 56])].concat();
        let video = [
            element(TRACK_TYPE, &[1]),
            element(CODEC_ID, b"V_VP9"),
            element(DEFAULT_DURATION, &40_000_000_u32.to_be_bytes()),
            element(VIDEO, &size),
        ]
        .concat();
        let audio = [element(TRACK_TYPE, &[2]), element(CODEC_ID, b"A_OPUS")].concat();
        let tracks = [element(TRACK_ENTRY, &audio), element(TRACK_ENTRY, &video)].concat();
        let body =
            [element(0xEC, &[0; 300]), element(INFO, &info), element(TRACKS, &tracks), element(CLUSTER, &[0; 50])]
                .concat();
        [element(0x1A45_DFA3, &element(0x4282, b"webm")), element(SEGMENT, &body)].concat()
    }

    #[tokio::test]
    async fn a_web_video_tells_what_it_is() {
        let facts = measure(&BytesSource::new(file())).await.unwrap();
        assert_eq!(facts.mime, "video/webm");
        assert_eq!((facts.width, facts.height, facts.duration_ms), (Some(1920), Some(1080), Some(12_500)));
        assert_eq!((facts.video_codec.as_deref(), facts.audio_codec.as_deref()), (Some("V_VP9"), Some("A_OPUS")));
        assert_eq!(facts.frame_rate_milli, Some(25_000));
    }

    #[tokio::test]
    async fn a_live_recording_of_unknown_length_is_read_too() {
        let mut live = file();
        let segment = live.windows(4).position(|w| w == SEGMENT.to_be_bytes()).unwrap();
        live[segment + 4] = 0x7F;
        live[segment + 5] = 0xFF;
        assert_eq!(measure(&BytesSource::new(live)).await.unwrap().width, Some(1920));
    }

    #[tokio::test]
    async fn what_cannot_be_read_stays_unknown() {
        let mut cut = file();
        cut.truncate(60);
        let facts = measure(&BytesSource::new(cut)).await.unwrap();
        assert_eq!((facts.width, facts.duration_ms), (None, None));
    }
}
