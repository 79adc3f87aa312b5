//! Pixel sizes of still pictures, from their headers.

use imagesize::ImageSize;

use super::MediaFacts;
use super::measure::{MeasureError, Reader, malformed};

/// A photograph may carry a preview and colour tables before it says how large it is.
const STEPS: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 640 << 10];
const TIFF_DIRECTORY: usize = 8 << 10;
const NO_SIZE: &str = "its width and height cannot be found";

pub(super) async fn measure(reader: &mut Reader<'_>, facts: &mut MediaFacts) -> Result<(), MeasureError> {
    let size = match facts.mime.as_str() {
        "image/png" => png(&reader.exact(0, 24).await?)?,
        "image/bmp" => bmp(&reader.exact(0, 26).await?),
        "image/tiff" => tiff(reader).await?,
        _ => growing(reader).await?,
    };
    facts.width = Some(u32::try_from(size.width).map_err(|_| malformed(NO_SIZE))?);
    facts.height = Some(u32::try_from(size.height).map_err(|_| malformed(NO_SIZE))?);
    Ok(())
}

/// Reads on until the size has been seen, each byte once.
async fn growing(reader: &mut Reader<'_>) -> Result<ImageSize, MeasureError> {
    let mut head = Vec::new();
    for step in STEPS {
        let more = reader.up_to(head.len() as u64, step.saturating_sub(head.len())).await?;
        head.extend_from_slice(&more);
        if let Ok(size) = imagesize::blob_size(&head) {
            return Ok(size);
        }
        if head.len() as u64 >= reader.size {
            break;
        }
    }
    Err(malformed(NO_SIZE))
}

fn png(head: &[u8]) -> Result<ImageSize, MeasureError> {
    if &head[12..16] != b"IHDR" {
        return Err(malformed("a PNG file without its header"));
    }
    imagesize::blob_size(head).map_err(|_| malformed(NO_SIZE))
}

/// Heights below zero say that the rows run from top to bottom.
fn bmp(head: &[u8]) -> ImageSize {
    let short = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let long =
        |at: usize| i32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]).unsigned_abs() as usize;
    if head[14] == 12 {
        ImageSize { width: short(18), height: short(20) }
    } else {
        ImageSize { width: long(18), height: long(22) }
    }
}

/// The directory of a TIFF file may lie anywhere, so it is put behind a header of its own.
async fn tiff(reader: &mut Reader<'_>) -> Result<ImageSize, MeasureError> {
    let head = reader.exact(0, 8).await?;
    let place = [head[4], head[5], head[6], head[7]];
    let (place, after_header) = match head[0] {
        b'I' => (u32::from_le_bytes(place), 8_u32.to_le_bytes()),
        _ => (u32::from_be_bytes(place), 8_u32.to_be_bytes()),
    };
    let directory = reader.up_to(u64::from(place), TIFF_DIRECTORY).await?;
    let file = [&head[..4], &after_header, &directory].concat();
    imagesize::blob_size(&file).map_err(|_| malformed(NO_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{BytesSource, MediaFacts, measure, sample};

    async fn size(bytes: Vec<u8>) -> Result<(Option<u32>, Option<u32>), MeasureError> {
        measure(&BytesSource::new(bytes)).await.map(|MediaFacts { width, height, .. }| (width, height))
    }

    #[tokio::test]
    async fn a_photograph_may_carry_much_before_its_size() {
        let photo = sample::jpeg(4000, 3000);
        let mut segment = vec![0xFF, 0xE1, 0xFF, 0xFF];
        segment.resize(2 + 0xFFFF, 7);
        for previews in [1, 3, 9] {
            let file = [&photo[..2], &segment.repeat(previews), &photo[2..]].concat();
            assert_eq!(size(file).await.unwrap(), (Some(4000), Some(3000)), "{previews} segments of 64 KiB");
        }
        let file = [&photo[..2], &segment.repeat(20), &photo[2..]].concat();
        assert!(matches!(size(file).await, Err(MeasureError::Malformed { .. })), "more than is read");
    }

    #[tokio::test]
    async fn webp_has_three_sorts_of_headers() {
        let lossy = b"RIFF\x20\0\0\0WEBPVP8 \x14\0\0\0\0\0\0\x9D\x01\x2A\x90\x01\x2C\x01\0\0\0\0";
        assert_eq!(size(lossy.to_vec()).await.unwrap(), (Some(400), Some(300)));
        let extended = b"RIFF\x20\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x8F\x01\0\x2B\x01\0\0\0";
        assert_eq!(size(extended.to_vec()).await.unwrap(), (Some(400), Some(300)));
        let lossless = b"RIFF\x20\0\0\0WEBPVP8L\x0A\0\0\0\x2F\x8F\xC1\x4A\0\0\0\0";
        assert_eq!(size(lossless.to_vec()).await.unwrap(), (Some(400), Some(300)));
    }

    #[tokio::test]
    async fn bitmaps_may_stand_on_their_head() {
        let mut file = b"BM".to_vec();
        file.resize(14, 0);
        file.extend(40_u32.to_le_bytes());
        file.extend(30_i32.to_le_bytes());
        file.extend((-20_i32).to_le_bytes());
        assert_eq!(size(file.clone()).await.unwrap(), (Some(30), Some(20)));
        file.truncate(20);
        assert!(size(file).await.is_err(), "cut off");
    }

    #[tokio::test]
    async fn a_tiff_directory_may_lie_at_the_end() {
        let mut file = b"II\x2A\0".to_vec();
        file.extend(100_000_u32.to_le_bytes());
        file.resize(100_000, 0);
        file.extend(2_u16.to_le_bytes());
        for (tag, value) in [(0x100_u16, 640_u32), (0x101, 480)] {
            file.extend(tag.to_le_bytes());
            file.extend(4_u16.to_le_bytes());
            file.extend(1_u32.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        assert_eq!(size(file.clone()).await.unwrap(), (Some(640), Some(480)));
        file.truncate(100_010);
        assert!(matches!(size(file).await, Err(MeasureError::Malformed { .. })));
    }

    #[tokio::test]
    async fn a_picture_without_pixels_is_refused() {
        let mut file = sample::png(5, 5);
        file[16..20].fill(0);
        assert!(matches!(size(file).await, Err(MeasureError::Malformed { .. })));
        let mut file = sample::png(5, 5);
        file[12] = b'x';
        assert!(matches!(size(file).await, Err(MeasureError::Malformed { .. })));
        assert!(matches!(size(sample::jpeg(5, 5)[..30].to_vec()).await, Err(MeasureError::Malformed { .. })));
    }
}
