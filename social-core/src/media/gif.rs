//! Frames and playing time of a GIF, by walking its blocks.

use super::MediaFacts;
use super::measure::{GIF_BUDGET, MeasureError, Reader, malformed};

const CHUNK: usize = 64 << 10;
const IMAGE: u8 = 0x2C;
const EXTENSION: u8 = 0x21;
const TRAILER: u8 = 0x3B;
const GRAPHIC_CONTROL: u8 = 0xF9;

/// Fills in the size of the canvas, the number of frames and the time they take together.
///
/// A file larger than the budget keeps its frames uncounted. One that is cut off counts the frames that are whole, as
/// viewers do; without any it is damaged.
pub(super) async fn measure(reader: &mut Reader<'_>, facts: &mut MediaFacts) -> Result<(), MeasureError> {
    let head = reader.exact(0, 13).await?;
    facts.width = Some(u32::from(u16::from_le_bytes([head[6], head[7]])));
    facts.height = Some(u32::from(u16::from_le_bytes([head[8], head[9]])));
    if reader.size > GIF_BUDGET - CHUNK as u64 {
        return Ok(());
    }
    let mut walk = Walk { reader, at: 13 + color_table(head[10]), frames: 0, delay_centis: 0 };
    match walk.walk_all().await {
        Ok(()) | Err(Stop::CutOff) if walk.frames > 0 => {}
        Ok(()) | Err(Stop::CutOff) => return Err(malformed("a GIF file without a whole frame")),
        Err(Stop::Broken(error)) => return Err(error),
    }
    facts.frames = Some(walk.frames);
    facts.duration_ms = (walk.frames > 1).then_some(walk.delay_centis * 10);
    Ok(())
}

fn color_table(flags: u8) -> u64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

enum Stop {
    CutOff,
    Broken(MeasureError),
}

struct Walk<'r, 's> {
    reader: &'r mut Reader<'s>,
    at: u64,
    frames: u32,
    delay_centis: u64,
}

impl Walk<'_, '_> {
    async fn walk_all(&mut self) -> Result<(), Stop> {
        loop {
            match self.byte().await? {
                TRAILER => return Ok(()),
                IMAGE => {
                    self.at += 8; // place and size
                    let flags = self.byte().await?;
                    self.at += color_table(flags) + 1; // and the size of the first codes
                    self.sub_blocks().await?;
                    self.frames += 1;
                }
                EXTENSION => {
                    if self.byte().await? == GRAPHIC_CONTROL {
                        let start = self.at;
                        self.at = start + 2; // length and flags
                        let delay = u16::from_le_bytes([self.byte().await?, self.byte().await?]);
                        self.delay_centis += u64::from(delay);
                        self.at = start;
                    }
                    self.sub_blocks().await?;
                }
                _ => return Err(Stop::Broken(malformed("a GIF file with an unknown block"))),
            }
        }
    }

    /// Skips pieces of up to 255 bytes until the empty one.
    async fn sub_blocks(&mut self) -> Result<(), Stop> {
        loop {
            match self.byte().await? {
                0 => return Ok(()),
                length => self.at += u64::from(length),
            }
        }
    }

    async fn byte(&mut self) -> Result<u8, Stop> {
        // Asking for the whole piece that holds the byte makes the reads few and each byte read once.
        let piece = self.at - self.at % CHUNK as u64;
        let bytes = self.reader.up_to(piece, CHUNK).await.map_err(Stop::Broken)?;
        let byte = bytes.get((self.at - piece) as usize).copied().ok_or(Stop::CutOff)?;
        self.at += 1;
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{BytesSource, MediaKind, measure, sample};

    async fn facts(bytes: Vec<u8>) -> Result<MediaFacts, MeasureError> {
        measure(&BytesSource::new(bytes)).await
    }

    #[tokio::test]
    async fn frames_and_time_are_counted() {
        let still = facts(sample::gif(320, 200, 1)).await.unwrap();
        assert_eq!((still.kind, still.frames, still.duration_ms), (MediaKind::Gif, Some(1), None));
        let moving = facts(sample::gif(1280, 1080, 350)).await.unwrap();
        assert_eq!((moving.width, moving.height), (Some(1280), Some(1080)));
        assert_eq!((moving.frames, moving.duration_ms), (Some(350), Some(35_000)));
    }

    #[tokio::test]
    async fn frames_are_counted_across_pieces() {
        let frames = 6000; // more than one piece of 64 KiB
        let file = sample::gif(10, 10, frames);
        assert!(file.len() > 2 * CHUNK, "{}", file.len());
        assert_eq!(facts(file).await.unwrap().frames, Some(frames));
    }

    #[tokio::test]
    async fn a_cut_off_file_counts_its_whole_frames() {
        let whole = sample::gif(10, 10, 3);
        let cut = facts(whole[..whole.len() - 4].to_vec()).await.unwrap();
        assert_eq!(cut.frames, Some(2));
        assert!(matches!(facts(whole[..20].to_vec()).await, Err(MeasureError::Malformed { .. })));
        assert!(matches!(facts(whole[..10].to_vec()).await, Err(MeasureError::Malformed { .. })));
    }

    #[tokio::test]
    async fn an_unknown_block_is_damage() {
        let mut file = sample::gif(10, 10, 2);
        let trailer = file.len() - 1;
        file[trailer] = 0x99;
        assert!(matches!(facts(file).await, Err(MeasureError::Malformed { .. })));
    }
}
