//! What is bound to a statement, in the types that both databases have a column for.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// A parameter. Each kind knows its type even when it is null, which PostgreSQL wants to be told.
#[derive(Debug, Clone)]
pub enum Value {
    /// A UUID.
    Id(Option<Uuid>),
    /// An instant, kept to the microsecond.
    At(Option<Timestamp>),
    /// A text.
    Text(Option<String>),
    /// A number.
    Int(Option<i64>),
    /// Yes or no.
    Flag(Option<bool>),
    /// Bytes.
    Bytes(Option<Vec<u8>>),
    /// The text of a JSON value.
    Json(Option<String>),
}

impl Value {
    /// The JSON of something that always has one.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self::Json(Some(json(value)))
    }
}

/// The JSON of something that always has one: maps with string keys, lists and plain structs.
pub(crate) fn json(value: &impl Serialize) -> String {
    #[expect(clippy::expect_used, reason = "only types of this project are written, and all of them serialise")]
    serde_json::to_string(value).expect("plain data")
}

macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::value::Value::from($value)),*] };
}
pub(crate) use values;

macro_rules! from {
    ($($kind:ident: $type:ty),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$kind(Some(value.into()))
            }
        }
        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$kind(value.map(Into::into))
            }
        }
    )*};
}
from!(Id: Uuid, At: Timestamp, Text: &str, Text: String, Int: i64, Int: u32, Flag: bool, Bytes: Vec<u8>, Bytes: &[u8], Bytes: [u8; 32]);

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

#[cfg(feature = "sqlite")]
pub(crate) mod sqlite {
    use sqlx::{Sqlite, query::Query, sqlite::SqliteArguments};

    use super::Value;

    pub(crate) fn bind(query: Query<'_, Sqlite, SqliteArguments>, value: Value) -> Query<'_, Sqlite, SqliteArguments> {
        match value {
            Value::Id(id) => query.bind(id.map(|id| id.into_bytes().to_vec())),
            Value::At(at) => query.bind(at.map(jiff::Timestamp::as_microsecond)),
            Value::Text(text) | Value::Json(text) => query.bind(text),
            Value::Int(int) => query.bind(int),
            Value::Flag(flag) => query.bind(flag),
            Value::Bytes(bytes) => query.bind(bytes),
        }
    }
}

#[cfg(feature = "postgres")]
pub(crate) mod postgres {
    //! Types of PostgreSQL by their object ids, which never change. Together with `Columns` they spare the optional parts of sqlx for
    //! UUIDs and times, which would have no place for our time library anyway.

    use jiff::Timestamp;
    use sqlx::{
        Encode, Postgres, Type,
        encode::IsNull,
        error::BoxDynError,
        postgres::{PgArgumentBuffer, PgArguments, PgHasArrayType, PgTypeInfo, types::Oid},
        query::Query,
    };
    use uuid::Uuid;

    use super::Value;

    /// Microseconds from the epoch of Unix to that of PostgreSQL, 2000-01-01.
    pub(crate) const EPOCH_US: i64 = 946_684_800_000_000;

    macro_rules! bound {
        ($name:ident($inner:ty), $oid:literal, $array:literal, $doc:literal, |$value:ident, $buf:ident| $write:expr) => {
            #[doc = $doc]
            #[derive(Debug, Clone)]
            pub(crate) struct $name(pub(crate) $inner);

            impl Type<Postgres> for $name {
                fn type_info() -> PgTypeInfo {
                    PgTypeInfo::with_oid(Oid($oid))
                }
            }

            impl PgHasArrayType for $name {
                fn array_type_info() -> PgTypeInfo {
                    PgTypeInfo::with_oid(Oid($array))
                }
            }

            impl Encode<'_, Postgres> for $name {
                fn encode_by_ref(&self, $buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                    let $value = &self.0;
                    $write;
                    Ok(IsNull::No)
                }
            }
        };
    }

    bound!(Id(Uuid), 2950, 2951, "`uuid`", |id, buf| buf.extend_from_slice(id.as_bytes()));
    bound!(At(Timestamp), 1184, 1185, "`timestamptz`", |at, buf| {
        buf.extend_from_slice(&at.as_microsecond().saturating_sub(EPOCH_US).to_be_bytes());
    });
    bound!(Json(String), 114, 199, "`json`, kept as it is written", |text, buf| buf.extend_from_slice(text.as_bytes()));

    /// PostgreSQL has no place for the character NUL in a text. Nothing that people write contains it; what a network says might.
    pub(crate) fn text(text: String) -> String {
        if text.contains('\0') { text.replace('\0', "") } else { text }
    }

    pub(crate) fn bind(query: Query<'_, Postgres, PgArguments>, value: Value) -> Query<'_, Postgres, PgArguments> {
        match value {
            Value::Id(id) => query.bind(id.map(Id)),
            Value::At(at) => query.bind(at.map(At)),
            Value::Text(raw) => query.bind(raw.map(text)),
            Value::Int(int) => query.bind(int),
            Value::Flag(flag) => query.bind(flag),
            Value::Bytes(bytes) => query.bind(bytes),
            Value::Json(json) => query.bind(json.map(Json)),
        }
    }
}
