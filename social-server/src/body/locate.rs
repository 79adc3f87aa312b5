//! Finds places in JSON text. Assumes sound syntax where it looks, and never fails where that is wrong.

enum Level {
    Object { key: Option<String> },
    Array { index: usize },
}

/// How deep arrays and objects are nested.
pub(super) fn depth(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                most = most.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The path of the first text that holds the character NUL, which databases refuse.
pub(super) fn nul(text: &str) -> Option<String> {
    let mut at = 0;
    while let Some(found) = text.get(at..)?.find("\\u0000") {
        let place = at + found;
        let slashes = text[..place].bytes().rev().take_while(|byte| *byte == b'\\').count();
        // An even number of backslashes before it leaves this one to begin the escape.
        if slashes.is_multiple_of(2) {
            return Some(walk(text, place));
        }
        at = place + 1;
    }
    None
}

/// The path at a line and a column as the parser counts them: from 1, in bytes.
pub(super) fn path(text: &str, line: usize, column: usize) -> String {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    walk(text, (start + column).min(text.len()))
}

fn walk(text: &str, end: usize) -> String {
    let bytes = text.as_bytes();
    let mut levels: Vec<Level> = Vec::new();
    let mut at = 0;
    while at < end.min(bytes.len()) {
        match bytes[at] {
            b'"' => {
                let close = closing_quote(bytes, at);
                let next = bytes[close.min(bytes.len())..].iter().find(|byte| !byte.is_ascii_whitespace());
                if let (Some(Level::Object { key }), Some(b':')) = (levels.last_mut(), next) {
                    let raw = text.get(at..close).unwrap_or_default();
                    *key = serde_json::from_str(raw).ok();
                }
                at = close;
                continue;
            }
            b'{' => levels.push(Level::Object { key: None }),
            b'[' => levels.push(Level::Array { index: 0 }),
            b'}' | b']' => {
                levels.pop();
            }
            b',' => match levels.last_mut() {
                // Where the parser complains about what came before the comma, the comma itself is the last byte it saw.
                Some(Level::Array { index }) if at + 1 < end => *index += 1,
                Some(Level::Object { key }) if at + 1 < end => *key = None,
                _ => {}
            },
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for level in &levels {
        match level {
            Level::Object { key: Some(key) } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Level::Object { key: None } => {}
            Level::Array { index } => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

/// The place after the quote that closes the text beginning at `at`.
fn closing_quote(bytes: &[u8], at: usize) -> usize {
    let mut place = at + 1;
    while place < bytes.len() {
        match bytes[place] {
            b'\\' => place += 2,
            b'"' => return place + 1,
            _ => place += 1,
        }
    }
    bytes.len()
}
