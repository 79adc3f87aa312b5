//! What a database said, without what it must not repeat.

use std::fmt;

use social_core::Error;

/// Turns an error of sqlx into ours: the source says which rule was broken and where, never which values broke it, and no address.
pub(crate) fn storage(operation: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| {
        let failed = Error::storage(operation, Fault::of(&error));
        match known(&error) {
            Some(message) => failed.message(message),
            None => failed,
        }
    }
}

/// What operators can mend, said so that they see it in a log.
fn known(error: &sqlx::Error) -> Option<&'static str> {
    let code = error.as_database_error().and_then(|error| error.code());
    match (error, code.as_deref()) {
        (sqlx::Error::PoolTimedOut, _) | (_, Some("53300")) => {
            Some("there was no connection to the database in time: it does not answer, or all that it allows are taken")
        }
        _ => None,
    }
}

/// The same for a migration.
pub(crate) fn migration(error: &sqlx::migrate::MigrateError) -> Error {
    let said = match error {
        sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
            Fault::of(error).said
        }
        other => other.to_string(),
    };
    Error::storage("store.migrate", Fault { said, code: None })
}

/// A row that holds something else than what this version writes.
pub(crate) fn unreadable(what: impl Into<String>) -> sqlx::Error {
    sqlx::Error::Decode(what.into().into())
}

#[derive(Debug)]
struct Fault {
    said: String,
    code: Option<String>,
}

impl Fault {
    fn of(error: &sqlx::Error) -> Self {
        let plain = |said: String| Self { said, code: None };
        match error {
            // The detail and the hint of PostgreSQL quote the row, its first sentence does not.
            sqlx::Error::Database(database) => {
                Self { said: database.message().to_owned(), code: database.code().map(std::borrow::Cow::into_owned) }
            }
            sqlx::Error::Configuration(_) => {
                plain("the address of the database or its options are not valid".to_owned())
            }
            other => plain(other.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)?;
        match &self.code {
            Some(code) => write!(f, " (code {code})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}
