//! Pictures that are worth looking at: a sky over hills, drawn by arithmetic and written as PNG without compression.

const WIDTH: usize = 480;
const HEIGHT: usize = 270;

/// A picture of a time of day, from 0 (dawn) to 1 (dusk).
pub(super) fn landscape(time: f64) -> Vec<u8> {
    let mut rows = Vec::with_capacity((WIDTH * 3 + 1) * HEIGHT);
    for y in 0..HEIGHT {
        rows.push(0); // no filter
        for x in 0..WIDTH {
            rows.extend(pixel(x as f64 / WIDTH as f64, y as f64 / HEIGHT as f64, time));
        }
    }
    png(WIDTH as u32, HEIGHT as u32, &rows)
}

fn pixel(x: f64, y: f64, time: f64) -> [u8; 3] {
    let mix = |a: [f64; 3], b: [f64; 3], t: f64| [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * t.clamp(0.0, 1.0));
    let noon = (time * std::f64::consts::PI).sin();
    let high = mix([60.0, 50.0, 110.0], [70.0, 140.0, 230.0], noon);
    let low = mix([255.0, 150.0, 90.0], [210.0, 235.0, 255.0], noon);
    let (sun_x, sun_y) = (0.15 + 0.7 * time, 0.62 - 0.42 * noon);
    let distance = ((x - sun_x) * 16.0 / 9.0).hypot(y - sun_y);
    let mut colour = mix(high, low, y * 1.4);
    colour = mix([255.0, 244.0, 214.0], colour, (distance - 0.06) * 14.0);
    for (depth, shade) in [(0.0, 0.75), (1.0, 0.5), (2.0, 0.3)] {
        let hill = 0.66 + depth * 0.1 + 0.05 * (x * (5.0 + depth * 3.0) + depth * 2.1 + time).sin();
        if y > hill {
            colour = mix([20.0, 40.0, 50.0], [110.0, 150.0, 120.0], noon * shade + 0.1);
            colour = mix(colour, low, 0.35 - depth * 0.15);
        }
    }
    colour.map(|channel| channel.clamp(0.0, 255.0) as u8)
}

fn png(width: u32, height: u32, rows: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x78, 0x01];
    let mut blocks = rows.chunks(0xFFFF).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        packed.push(u8::from(blocks.peek().is_none()));
        packed.extend(length.to_le_bytes());
        packed.extend((!length).to_le_bytes());
        packed.extend(block);
    }
    packed.extend(adler32(rows).to_be_bytes());
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1A\n".to_vec();
    for (kind, body) in [(b"IHDR", header), (b"IDAT", packed), (b"IEND", Vec::new())] {
        let checked = [&kind[..], &body].concat();
        file.extend((body.len() as u32).to_be_bytes());
        file.extend(&checked);
        file.extend(crc32(&checked).to_be_bytes());
    }
    file
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use social_core::media::{BytesSource, measure};

    use super::*;

    #[tokio::test]
    async fn a_picture_is_a_png_of_its_size() {
        let facts = measure(&BytesSource::new(landscape(0.5))).await.unwrap();
        assert_eq!((facts.mime.as_str(), facts.width, facts.height), ("image/png", Some(480), Some(270)));
        assert_ne!(landscape(0.1), landscape(0.9));
    }

    #[test]
    fn checksums_answer_the_published_vectors() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
    }
}
