//! The one connection that writes.

use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow},
};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    backend::{Sql, Transaction, Value},
    value::sqlite::bind,
};

/// Hands out the connection to one caller after the other. A connection whose user failed or was cancelled is thrown away, since nobody
/// knows the state of its transaction any more: SQLite itself rolls back after a full disk, for one.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    slot: Mutex<Slot>,
}

#[derive(Debug)]
enum Slot {
    Open(Box<SqliteConnection>),
    Empty,
    Closed,
}

/// The right to write. Dropped without [`done`](Self::done), it takes the connection with it, and whatever was begun is undone.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    slot: MutexGuard<'a, Slot>,
    connection: Box<SqliteConnection>,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, slot: Mutex::new(Slot::Empty) }
    }

    pub(super) async fn lock(&self) -> sqlx::Result<Guard<'_>> {
        let mut slot = self.slot.lock().await;
        let connection = match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Open(connection) => connection,
            Slot::Empty => Box::new(self.options.connect().await?),
            Slot::Closed => {
                *slot = Slot::Closed;
                return Err(sqlx::Error::PoolClosed);
            }
        };
        Ok(Guard { slot, connection })
    }

    pub(super) async fn begin(&self) -> sqlx::Result<Tx<'_>> {
        let mut guard = self.lock().await?;
        // At once as a writer: a transaction that begins as a reader may find that it cannot write any more.
        sqlx::query("BEGIN IMMEDIATE").execute(guard.connection()).await?;
        Ok(Tx { guard })
    }

    pub(super) async fn close(&self) {
        if let Slot::Open(connection) = std::mem::replace(&mut *self.slot.lock().await, Slot::Closed) {
            let _ = connection.close().await;
        }
    }
}

impl Guard<'_> {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Runs one statement or several, which share their parameters.
    pub(super) async fn fetch(&mut self, sql: Sql, values: Vec<Value>) -> sqlx::Result<Vec<SqliteRow>> {
        query(sql, values).fetch_all(self.connection()).await
    }

    /// Gives the connection back for the next one.
    pub(super) fn done(self) {
        let Self { mut slot, connection } = self;
        *slot = Slot::Open(connection);
    }
}

/// A transaction on the writer.
#[derive(Debug)]
pub struct Tx<'a> {
    guard: Guard<'a>,
}

impl Tx<'_> {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        self.guard.connection()
    }

    async fn end(mut self, with: &'static str) -> sqlx::Result<()> {
        sqlx::query(with).execute(self.guard.connection()).await?;
        self.guard.done();
        Ok(())
    }
}

impl Transaction for Tx<'_> {
    type Row = SqliteRow;

    async fn fetch(&mut self, sql: Sql, values: Vec<Value>) -> sqlx::Result<Vec<SqliteRow>> {
        self.guard.fetch(sql, values).await
    }

    async fn execute(&mut self, sql: Sql, values: Vec<Value>) -> sqlx::Result<u64> {
        query(sql, values).execute(self.connection()).await.map(|done| done.rows_affected())
    }

    async fn commit(self) -> sqlx::Result<()> {
        self.end("COMMIT").await
    }

    async fn rollback(self) -> sqlx::Result<()> {
        self.end("ROLLBACK").await
    }
}

/// A statement with its parameters. It is ours from end to end, apart from the number of places in it.
pub(super) fn query<'q>(sql: Sql, values: Vec<Value>) -> sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments> {
    values.into_iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), bind)
}
