//! Rows that travel as lists of JSON.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor},
};
use uuid::Uuid;

use crate::{fault::unreadable, row::Columns};

/// A row: a list of numbers, texts and nulls. Ids are written in hexadecimal digits.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct JsonRow<'a>(#[serde(borrow)] Vec<Cell<'a>>);

#[derive(Debug)]
enum Cell<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
}

impl<'de> Deserialize<'de> for Cell<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Cell<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, a text or null")
            }

            fn visit_unit<E>(self) -> Result<Cell<'de>, E> {
                Ok(Cell::Null)
            }

            fn visit_i64<E>(self, int: i64) -> Result<Cell<'de>, E> {
                Ok(Cell::Int(int))
            }

            fn visit_u64<E: serde::de::Error>(self, int: u64) -> Result<Cell<'de>, E> {
                i64::try_from(int).map(Cell::Int).map_err(|_| E::custom("a number is out of range"))
            }

            fn visit_str<E>(self, text: &str) -> Result<Cell<'de>, E> {
                Ok(Cell::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cell<'de>, E> {
                Ok(Cell::Text(Cow::Borrowed(text)))
            }

            fn visit_string<E>(self, text: String) -> Result<Cell<'de>, E> {
                Ok(Cell::Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_any(Any).map_err(D::Error::custom)
    }
}

impl<'a> JsonRow<'a> {
    fn cell(&self, at: usize) -> sqlx::Result<&Cell<'a>> {
        self.0.get(at).ok_or(sqlx::Error::ColumnIndexOutOfBounds { index: at, len: self.0.len() })
    }

    fn str(&self, at: usize) -> sqlx::Result<Option<&str>> {
        match self.cell(at)? {
            Cell::Null => Ok(None),
            Cell::Text(text) => Ok(Some(text)),
            Cell::Int(_) => Err(unreadable(format!("column {at} is no text"))),
        }
    }
}

impl Columns for JsonRow<'_> {
    fn id(&self, at: usize) -> sqlx::Result<Option<Uuid>> {
        let id = self.str(at)?.map(Uuid::try_parse).transpose();
        id.map_err(|_| unreadable(format!("column {at} is no id")))
    }

    fn at(&self, at: usize) -> sqlx::Result<Option<Timestamp>> {
        let at = self.int(at)?.map(Timestamp::from_microsecond).transpose();
        at.map_err(|_| unreadable("an instant is out of range"))
    }

    fn text(&self, at: usize) -> sqlx::Result<Option<Cow<'_, str>>> {
        Ok(self.str(at)?.map(Cow::Borrowed))
    }

    fn int(&self, at: usize) -> sqlx::Result<Option<i64>> {
        match self.cell(at)? {
            Cell::Null => Ok(None),
            Cell::Int(int) => Ok(Some(*int)),
            Cell::Text(_) => Err(unreadable(format!("column {at} is no number"))),
        }
    }

    fn flag(&self, at: usize) -> sqlx::Result<Option<bool>> {
        Ok(self.int(at)?.map(|int| int != 0))
    }

    fn bytes(&self, at: usize) -> sqlx::Result<Option<Vec<u8>>> {
        Err(unreadable(format!("column {at} holds bytes, which JSON has no place for")))
    }
}
