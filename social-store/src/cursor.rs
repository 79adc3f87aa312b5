//! Where a page begins, as an opaque text.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use jiff::Timestamp;
use social_core::{
    error::Error,
    store::{Page, PageRequest},
};
use uuid::Uuid;

/// A place in a list. The first byte of its spelling keeps the cursors of different lists apart.
pub(crate) trait Cursor: Sized {
    fn write(&self) -> Vec<u8>;
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// A place in a list that is ordered by a time and an id; `LIST` names the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByTime<const LIST: u8> {
    pub(crate) at: Timestamp,
    pub(crate) id: Uuid,
}

impl<const LIST: u8> Cursor for ByTime<LIST> {
    fn write(&self) -> Vec<u8> {
        [&[LIST][..], &self.at.as_microsecond().to_be_bytes(), self.id.as_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[LIST])?;
        let (at, id) = rest.split_first_chunk::<8>()?;
        let at = Timestamp::from_microsecond(i64::from_be_bytes(*at)).ok()?;
        Some(Self { at, id: Uuid::from_slice(id).ok()? })
    }
}

/// A place in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BySeq(pub(crate) i64);

impl Cursor for BySeq {
    fn write(&self) -> Vec<u8> {
        [&b"l"[..], &self.0.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"l")?;
        rest.try_into().ok().map(|bytes| Self(i64::from_be_bytes(bytes)))
    }
}

/// How many items a page may have.
pub(crate) fn limit(page: &PageRequest) -> usize {
    page.limit.clamp(1, 200)
}

/// Where the page begins; `None` for the first one.
pub(crate) fn start<C: Cursor>(page: &PageRequest, operation: &'static str) -> Result<Option<C>, Error> {
    let Some(raw) = &page.after else { return Ok(None) };
    let bytes = BASE64.decode(raw).ok();
    match bytes.and_then(|bytes| C::read(&bytes)) {
        Some(cursor) => Ok(Some(cursor)),
        None => Err(Error::invalid(operation, "the cursor is not one that a page gave")),
    }
}

/// A page of `items`, of which one more than the limit was read if there are more.
pub(crate) fn page<T, C: Cursor>(mut items: Vec<T>, limit: usize, place: impl Fn(&T) -> C) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| BASE64.encode(place(last).write()));
    Page { items, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Posts = ByTime<b'p'>;
    type Users = ByTime<b'u'>;

    #[test]
    fn a_cursor_survives_its_spelling_and_belongs_to_one_list() {
        let place = Posts { at: Timestamp::from_microsecond(1_700_000_000_000_001).unwrap(), id: Uuid::now_v7() };
        let page = page(vec![place, place], 1, |place| *place);
        let request = PageRequest { after: page.next, limit: 1 };
        assert_eq!(start::<Posts>(&request, "test").unwrap(), Some(place));
        assert!(start::<Users>(&request, "test").is_err());
        assert!(start::<BySeq>(&request, "test").is_err());
    }

    #[test]
    fn garbage_is_no_cursor() {
        for raw in ["", "x", "l", "bA", "%", "cAAAAAAAAAAA", &"A".repeat(1000)] {
            let request = PageRequest { after: Some(raw.to_owned()), limit: 1 };
            assert!(start::<Posts>(&request, "test").is_err(), "{raw:?}");
            assert!(start::<BySeq>(&request, "test").is_err(), "{raw:?}");
        }
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        assert_eq!(page(vec![BySeq(1), BySeq(2)], 2, |place| *place).next, None);
        assert!(page(vec![BySeq(1), BySeq(2), BySeq(3)], 2, |place| *place).next.is_some());
    }
}
