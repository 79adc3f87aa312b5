//! File types by magic bytes.

use super::MediaKind;

const OLE: &[u8] = &[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];
const ZIP: &[u8] = b"PK\x03\x04";
const EBML: &[u8] = &[0x1A, 0x45, 0xDF, 0xA3];
const TS_PACKET: usize = 188;

/// The hint for sound, which no network takes on its own.
pub(super) const SOUND: &str = "looks like a sound file";
pub(super) const WORD: &str = "application/msword";
pub(super) const POWERPOINT: &str = "application/vnd.ms-powerpoint";
pub(super) const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
pub(super) const PPTX: &str = "application/vnd.openxmlformats-officedocument.presentationml.presentation";

/// Recognises a media file by its first bytes and names its MIME type.
///
/// 400 bytes suffice for everything but Office files: those name their kind somewhere in the first few thousand bytes, or
/// only at their end, where [`measure`](super::measure) looks too. Anything that a browser could run (HTML, SVG, XML, text) and
/// anything unknown is `None`.
#[must_use]
pub fn sniff(first_bytes: &[u8]) -> Option<(&'static str, MediaKind)> {
    use MediaKind::{Document, Gif, Image, Video};
    let b = first_bytes;
    Some(match b {
        [0xFF, 0xD8, 0xFF, ..] => ("image/jpeg", Image),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => ("image/png", Image),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => ("image/gif", Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => ("image/webp", Image),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => ("video/x-msvideo", Video),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => ("image/tiff", Image),
        [b'B', b'M', ..] if is_bmp(b) => ("image/bmp", Image),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => return brand.first_chunk().and_then(by_brand),
        // QuickTime files from before there were brands.
        [_, _, _, _, b'm', b'o', b'o', b'v', ..] | [_, _, _, _, b'm', b'd', b'a', b't', ..] => {
            ("video/quicktime", Video)
        }
        [0, 0, 0, 8, b'w', b'i', b'd', b'e', ..] => ("video/quicktime", Video),
        [b'%', b'P', b'D', b'F', b'-', ..] => ("application/pdf", Document),
        _ if b.starts_with(EBML) => return by_doctype(b),
        _ if b.starts_with(OLE) => (by_stream_names(b)?, Document),
        _ if b.starts_with(ZIP) => (by_part_names(b)?, Document),
        _ if is_transport_stream(b) => ("video/mp2t", Video),
        _ => return None,
    })
}

/// What an unsupported file looks like, for the person who chose it.
pub(super) fn hint(first_bytes: &[u8]) -> &'static str {
    let b = first_bytes;
    let text = b.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(b).trim_ascii_start();
    let lower: Vec<u8> = text.iter().take(512).map(u8::to_ascii_lowercase).collect();
    let markup = lower.starts_with(b"<");
    match b {
        [] => "the file is empty",
        _ if markup && contains(&lower, b"<svg") => "looks like an SVG drawing",
        _ if markup
            && [&b"<!doctype html"[..], b"<html", b"<head", b"<body", b"<script"]
                .iter()
                .any(|tag| contains(&lower, tag)) =>
        {
            "looks like an HTML page"
        }
        _ if lower.starts_with(b"<?xml") => "looks like an XML file",
        _ if b.starts_with(ZIP) => "looks like a ZIP archive",
        _ if b.starts_with(OLE) => "looks like an Office file other than Word or PowerPoint",
        [0x1F, 0x8B, ..] => "looks like a gzip archive",
        [b'I', b'D', b'3', ..]
        | [0xFF, 0xE2..=0xFB, ..]
        | [b'O', b'g', b'g', b'S', ..]
        | [b'f', b'L', b'a', b'C', ..] => SOUND,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] | [_, _, _, _, b'f', b't', b'y', b'p', ..] => {
            SOUND
        }
        [b'M', b'Z', ..] | [0x7F, b'E', b'L', b'F', ..] => "looks like a program",
        _ if (lower.starts_with(b"{") || lower.starts_with(b"[")) && is_text(b) => "looks like a JSON file",
        _ if is_text(b) => "looks like a text file",
        _ => "looks like nothing that is known here",
    }
}

fn is_text(b: &[u8]) -> bool {
    let sample = &b[..b.len().min(512)];
    !sample.iter().any(|c| *c < 0x20 && !matches!(c, b'\t' | b'\n' | b'\r' | 0x0C))
        && std::str::from_utf8(sample).map_or_else(|e| e.error_len().is_none(), |_| true)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Two letters are little evidence, so the header must be of a known size too.
fn is_bmp(b: &[u8]) -> bool {
    b.get(14..18).is_some_and(|size| matches!(size, [12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

fn by_brand(brand: &[u8; 4]) -> Option<(&'static str, MediaKind)> {
    Some(match brand {
        b"qt  " => ("video/quicktime", MediaKind::Video),
        b"avif" | b"avis" => ("image/avif", MediaKind::Image),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
            ("image/heic", MediaKind::Image)
        }
        b"M4A " | b"M4B " | b"M4P " | b"F4A " | b"F4B " => return None,
        [b'3', b'g', b'2', _] => ("video/3gpp2", MediaKind::Video),
        [b'3', b'g', _, _] => ("video/3gpp", MediaKind::Video),
        _ => ("video/mp4", MediaKind::Video),
    })
}

fn by_doctype(b: &[u8]) -> Option<(&'static str, MediaKind)> {
    let head = &b[..b.len().min(128)];
    if contains(head, b"webm") {
        Some(("video/webm", MediaKind::Video))
    } else if contains(head, b"matroska") {
        Some(("video/x-matroska", MediaKind::Video))
    } else {
        None
    }
}

/// The kind of an Office file of the older sort, by the names of the streams in it.
pub(super) fn by_stream_names(b: &[u8]) -> Option<&'static str> {
    let utf16 = |name: &str| name.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    if contains(b, &utf16("WordDocument")) {
        Some(WORD)
    } else if contains(b, &utf16("PowerPoint Document")) {
        Some(POWERPOINT)
    } else {
        None
    }
}

/// The kind of an Office file of the newer sort, by the names of the parts in it.
pub(super) fn by_part_names(b: &[u8]) -> Option<&'static str> {
    if contains(b, b"word/document.xml") {
        Some(DOCX)
    } else if contains(b, b"ppt/presentation.xml") {
        Some(PPTX)
    } else {
        None
    }
}

fn is_transport_stream(b: &[u8]) -> bool {
    let synced = |first: usize, step: usize| {
        let marks: Vec<u8> = b.iter().skip(first).step_by(step).take(3).copied().collect();
        marks.len() >= 2 && marks.iter().all(|mark| *mark == 0x47)
    };
    // Plain packets, or packets with a time stamp of four bytes before each.
    synced(0, TS_PACKET) || synced(4, TS_PACKET + 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::sample;

    fn mime(b: &[u8]) -> Option<&'static str> {
        sniff(b).map(|(mime, _)| mime)
    }

    fn ftyp(brand: &str) -> Vec<u8> {
        [&[0, 0, 0, 16], b"ftyp", brand.as_bytes(), &[0; 4]].concat()
    }

    #[test]
    fn known_files_are_recognised() {
        let mut bmp = b"BM".to_vec();
        bmp.resize(14, 0);
        bmp.extend([40, 0, 0, 0]);
        let mut ts = vec![0; 3 * 188];
        for i in 0..3 {
            ts[i * 188] = 0x47;
        }
        let word: Vec<u8> = "WordDocument".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: Vec<(Vec<u8>, &str, MediaKind)> = vec![
            (sample::jpeg(8, 8), "image/jpeg", MediaKind::Image),
            (sample::png(1, 1), "image/png", MediaKind::Image),
            (sample::gif(1, 1, 1), "image/gif", MediaKind::Gif),
            (b"RIFF\0\0\0\0WEBPVP8 ".to_vec(), "image/webp", MediaKind::Image),
            (b"RIFF\0\0\0\0AVI LIST".to_vec(), "video/x-msvideo", MediaKind::Video),
            (b"II\x2A\0\x08\0\0\0".to_vec(), "image/tiff", MediaKind::Image),
            (b"MM\0\x2A\0\0\0\x08".to_vec(), "image/tiff", MediaKind::Image),
            (bmp, "image/bmp", MediaKind::Image),
            (sample::mp4(16, 16, 1000, 0), "video/mp4", MediaKind::Video),
            (ftyp("isom"), "video/mp4", MediaKind::Video),
            (ftyp("qt  "), "video/quicktime", MediaKind::Video),
            (ftyp("3gp5"), "video/3gpp", MediaKind::Video),
            (ftyp("3g2a"), "video/3gpp2", MediaKind::Video),
            (ftyp("avif"), "image/avif", MediaKind::Image),
            (ftyp("heic"), "image/heic", MediaKind::Image),
            (b"\0\0\x10\0moov".to_vec(), "video/quicktime", MediaKind::Video),
            (b"\0\0\0\x08wide".to_vec(), "video/quicktime", MediaKind::Video),
            ([EBML, b"\x9F\x42\x82\x84webm"].concat(), "video/webm", MediaKind::Video),
            ([EBML, b"\xA3\x42\x82\x88matroska"].concat(), "video/x-matroska", MediaKind::Video),
            (ts, "video/mp2t", MediaKind::Video),
            (sample::pdf(), "application/pdf", MediaKind::Document),
            ([OLE, &[0; 64], &word].concat(), WORD, MediaKind::Document),
            (b"PK\x03\x04....word/document.xml".to_vec(), DOCX, MediaKind::Document),
            (b"PK\x03\x04....ppt/presentation.xml".to_vec(), PPTX, MediaKind::Document),
        ];
        for (bytes, expected, kind) in cases {
            assert_eq!(sniff(&bytes), Some((expected, kind)), "{:?}", &bytes[..bytes.len().min(16)]);
        }
    }

    #[test]
    fn what_a_browser_could_run_and_the_unknown_are_refused_with_a_hint() {
        let cases: [(&[u8], &str); 20] = [
            (b"", "empty"),
            (b"<!DOCTYPE html><html>", "HTML"),
            (b"\xEF\xBB\xBF  \n<HTML>", "HTML"),
            (b"<script>alert(1)</script>", "HTML"),
            (b"<svg xmlns='x'>", "SVG"),
            (b"<?xml version='1.0'?><svg>", "SVG"),
            (b"<?xml version='1.0'?><rss>", "XML"),
            (b"{\"error\": true}", "JSON"),
            (b"Hello", "text"),
            ("größer".as_bytes(), "text"),
            (b"BM is not always a bitmap", "text"),
            (b"PK\x03\x04\x14\0", "ZIP"),
            (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "Office"),
            (b"\x1F\x8B\x08", "gzip"),
            (b"ID3\x04", "sound"),
            (b"RIFF\0\0\0\0WAVE", "sound"),
            (b"\0\0\0\x20ftypM4A ", "sound"),
            (b"MZ\x90\0", "program"),
            (b"\x7FELF", "program"),
            (b"\0\x01\x02\x03", "nothing"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(mime(bytes), None, "{bytes:?}");
            assert!(hint(bytes).contains(expected), "{bytes:?}: {}", hint(bytes));
        }
    }

    #[test]
    fn a_single_sync_byte_is_not_a_transport_stream() {
        assert_eq!(mime(b"Good morning"), None);
        assert_eq!(mime(&[0x47]), None);
    }
}
