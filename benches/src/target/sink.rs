//! Swallows the chunked uploads of X and counts the bytes of the files.

use hyper::StatusCode;

#[derive(Debug, Default)]
pub(super) struct Sink {
    uploads: u64,
    bytes: u64,
}

impl Sink {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn answer(&mut self, path: &str, content_type: Option<&str>, body: &[u8]) -> (StatusCode, String) {
        let ok = |body: String| (StatusCode::OK, body);
        match path.strip_prefix("/2/media/upload/").map(|rest| rest.split_once('/').unwrap_or(("", rest))) {
            Some(("", "initialize")) => {
                self.uploads += 1;
                ok(format!(r#"{{"data":{{"id":"{}","expires_after_secs":86400}}}}"#, self.uploads))
            }
            Some((_, "append")) => match file(content_type, body) {
                Some(file) => {
                    self.bytes += file.len() as u64;
                    ok(r#"{"data":{"expires_at":1}}"#.to_owned())
                }
                None => (StatusCode::BAD_REQUEST, "{}".to_owned()),
            },
            // Without `processing_info`: the file can be used at once.
            Some((id, "finalize")) => ok(format!(r#"{{"data":{{"id":"{id}","expires_after_secs":86400}}}}"#)),
            _ => (StatusCode::NOT_FOUND, "{}".to_owned()),
        }
    }
}

/// The bytes of the field `media` of a form. It is the last field.
fn file<'a>(content_type: Option<&str>, body: &'a [u8]) -> Option<&'a [u8]> {
    let boundary = content_type?.strip_prefix("multipart/form-data; boundary=")?;
    let field = find(body, br#"name="media""#)?;
    let begin = field + find(&body[field..], b"\r\n\r\n")? + 4;
    let end = format!("\r\n--{boundary}--");
    let last = body.strip_suffix(b"\r\n").unwrap_or(body);
    body.get(begin..last.strip_suffix(end.as_bytes())?.len())
}

fn find(body: &[u8], what: &[u8]) -> Option<usize> {
    body.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "multipart/form-data; boundary=abc";

    fn form(bytes: &[u8]) -> Vec<u8> {
        let head = "--abc\r\nContent-Disposition: form-data; name=\"segment_index\"\r\n\r\n0\r\n--abc\r\n\
             Content-Disposition: form-data; name=\"media\"; filename=\"segment\"\r\nContent-Type: application/octet-stream\r\n\r\n";
        [head.as_bytes(), bytes, b"\r\n--abc--\r\n"].concat()
    }

    #[test]
    fn only_the_file_is_counted() {
        for bytes in [&b""[..], b"x", b"\r\n\r\n--abc", &[0; 1000]] {
            assert_eq!(file(Some(FORM), &form(bytes)), Some(bytes));
        }
        assert_eq!(file(None, &form(b"x")), None);
        assert_eq!(file(Some(FORM), b"--abc--\r\n"), None);
        assert_eq!(file(Some(FORM), &form(b"x")[..60]), None, "cut off");
    }

    #[test]
    fn an_upload_adds_up() {
        let mut sink = Sink::default();
        assert_eq!(sink.answer("/2/media/upload/initialize", None, b"{}").0, StatusCode::OK);
        assert_eq!(sink.answer("/2/media/upload/1/append", Some(FORM), &form(&[7; 300])).0, StatusCode::OK);
        assert_eq!(sink.answer("/2/media/upload/1/append", Some(FORM), &form(&[7; 20])).0, StatusCode::OK);
        assert_eq!(sink.answer("/2/media/upload/1/append", None, &form(&[7; 20])).0, StatusCode::BAD_REQUEST);
        let (status, body) = sink.answer("/2/media/upload/1/finalize", None, b"");
        assert_eq!((status, body.contains("\"id\":\"1\"")), (StatusCode::OK, true));
        assert_eq!(sink.answer("/2/elsewhere", None, b"").0, StatusCode::NOT_FOUND);
        assert_eq!(sink.bytes(), 320);
    }
}
