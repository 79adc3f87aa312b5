//! Minimal valid files for tests and demos, produced by code.
//!
//! Pictures are black, videos hold filler instead of frames, pages are empty. Everything that a network measures (format,
//! pixels, playing time, codecs, length) is real. Sides beyond what a format can express are cut to its largest.

mod video;

pub use video::{Mp4, PaddedSource};

/// A PNG picture of one bit per pixel.
#[must_use]
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let rows = (u64::from(width).div_ceil(8) + 1) * u64::from(height);
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[1, 0, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1A\n".to_vec();
    for (kind, body) in [(b"IHDR", header), (b"IDAT", zlib_zeros(rows)), (b"IEND", Vec::new())] {
        let checked = [&kind[..], &body].concat();
        file.extend(length(&body));
        file.extend(&checked);
        file.extend(crc32(&checked).to_be_bytes());
    }
    file
}

/// A baseline JPEG picture in grey.
#[must_use]
pub fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut file = vec![0xFF, 0xD8];
    let mut segment = |marker: u8, body: &[u8]| {
        file.extend([0xFF, marker]);
        file.extend((body.len() as u16 + 2).to_be_bytes());
        file.extend(body);
    };
    segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    segment(0xDB, &[&[0_u8][..], &[1; 64]].concat());
    let ([h1, h0], [w1, w0]) = (height.to_be_bytes(), width.to_be_bytes());
    segment(0xC0, &[8, h1, h0, w1, w0, 1, 1, 0x11, 0]);
    // One code of one bit in each table: "no change" for the brightness of a block, "no detail" for its rest.
    for table in [0x00, 0x10] {
        segment(0xC4, &[&[table, 1][..], &[0; 15], &[0]].concat());
    }
    segment(0xDA, &[1, 1, 0, 0, 63, 0]);
    let bits = 2 * usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    file.resize(file.len() + bits / 8, 0);
    if !bits.is_multiple_of(8) {
        file.push(0xFF >> (bits % 8));
    }
    file.extend([0xFF, 0xD9]);
    file
}

/// A GIF of `frames` frames of a tenth of a second each; one frame makes a still picture.
#[must_use]
pub fn gif(width: u16, height: u16, frames: u32) -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend(width.to_le_bytes());
    file.extend(height.to_le_bytes());
    file.extend([0x80, 0, 0]); // two colours follow
    file.extend([0, 0, 0, 255, 255, 255]);
    for _ in 0..frames {
        file.extend([0x21, 0xF9, 4, 0, 10, 0, 0, 0]); // show for ten hundredths
        file.extend([0x2C, 0, 0, 0, 0, 1, 0, 1, 0, 0]); // a single pixel in the corner
        file.extend([2, 2, 0x44, 0x01, 0]);
    }
    file.push(0x3B);
    file
}

/// A PDF document of one empty page.
#[must_use]
pub fn pdf() -> Vec<u8> {
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
    ];
    let mut file = String::from("%PDF-1.4\n");
    let mut places = String::new();
    for (i, object) in objects.iter().enumerate() {
        places += &format!("{:010} 00000 n \n", file.len());
        file += &format!("{} 0 obj\n{object}\nendobj\n", i + 1);
    }
    let table = file.len();
    let count = objects.len() + 1;
    file += &format!("xref\n0 {count}\n0000000000 65535 f \n{places}trailer\n<< /Size {count} /Root 1 0 R >>\n");
    file += &format!("startxref\n{table}\n%%EOF\n");
    file.into_bytes()
}

/// An MP4 video with sound, padded to `total_bytes` (or as long as it must be, if that is more). For more choices, and for
/// videos too large for memory, see [`Mp4`].
#[must_use]
pub fn mp4(width: u16, height: u16, duration_ms: u32, total_bytes: u64) -> Vec<u8> {
    Mp4::new(width, height, duration_ms).total_bytes(total_bytes).bytes()
}

fn length(body: &[u8]) -> [u8; 4] {
    (body.len() as u32).to_be_bytes()
}

/// `count` zero bytes, compressed: one zero, then copies of it.
fn zlib_zeros(count: u64) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let (mut held, mut used) = (0_u64, 0);
    // Codes are stored beginning with their highest bit, in bytes filled from their lowest.
    let mut push = |code: u64, len: u32| {
        held |= (code.reverse_bits() >> (64 - len)) << used;
        used += len;
        while used >= 8 {
            out.push(held as u8);
            held >>= 8;
            used -= 8;
        }
    };
    push(0b110, 3); // the last block, with the fixed codes
    if count > 0 {
        push(0x30, 8);
        for _ in 0..(count - 1) / 258 {
            push(0b1100_0101 << 5, 13); // 258 bytes from one byte back
        }
        for _ in 0..(count - 1) % 258 {
            push(0x30, 8);
        }
    }
    push(0, 7);
    push(0, 7); // fills the last byte; what is left over is dropped
    out.extend((((count % 65_521) << 16) as u32 | 1).to_be_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_agree_with_known_values() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b"IEND"), 0xAE42_6082);
        assert_eq!(zlib_zeros(0)[2..], [0x03, 0, 0, 0, 0, 1], "an empty stream as every compressor writes it");
    }

    #[test]
    fn a_document_points_at_its_own_table() {
        let text = String::from_utf8(pdf()).unwrap();
        let place: usize = text.lines().rev().nth(1).unwrap().parse().unwrap();
        assert!(text[place..].starts_with("xref\n"));
        for (i, line) in text[place..].lines().skip(3).take(3).enumerate() {
            let object: usize = line[..10].parse().unwrap();
            assert!(text[object..].starts_with(&format!("{} 0 obj", i + 1)), "{line}");
        }
    }
}
