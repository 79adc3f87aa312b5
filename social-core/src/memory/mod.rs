//! A store that lives in memory: for tests, examples and a first try. It keeps every promise of the store traits but the one about
//! restarts, and passes the same suite as the databases.

mod accounts;
mod admin;
mod jobs;
mod posts;
mod rates;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use self::{
    accounts::Accounts,
    admin::Admin,
    jobs::Jobs,
    posts::{Logs, Posts},
    rates::Rates,
    tokens::ConnectionRow,
};
use crate::{
    error::{Error, Operation},
    id::ConnectionId,
    store::{Page, PageRequest},
};

/// Keeps everything in maps under one lock. Clones are handles to the same data, as two connections to one database would be; the data
/// ends with the last of them.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    connections: BTreeMap<ConnectionId, ConnectionRow>,
    accounts: Accounts,
    jobs: Jobs,
    posts: Posts,
    logs: Logs,
    rates: Rates,
    admin: Admin,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that it holds as text, ciphertext both as characters and as hexadecimal digits, so that a test can search it for secrets.
    #[must_use]
    pub fn dump(&self) -> String {
        let state = self.state();
        let mut out = String::new();
        state.dump_connections(&mut out);
        state.accounts.dump(&mut out);
        state.posts.dump(&mut out);
        state.jobs.dump(&mut out);
        state.logs.dump(&mut out);
        state.rates.dump(&mut out);
        state.admin.dump(&mut out);
        out
    }

    // A panic while the lock was held cannot leave a half-made change behind that matters more than going on: nothing here panics by design.
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Wakes whoever waits now and the next who asks: a worker that was busy in this moment must not miss it.
    fn wake(&self) {
        self.shared.wake.notify_waiters();
        self.shared.wake.notify_one();
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemoryStore")
            .field("connections", &state.connections.len())
            .field("deliveries", &state.jobs.len())
            .finish_non_exhaustive()
    }
}

/// A row that has to be new, or the error that a database would give.
fn taken(operation: impl Into<Operation>, what: &'static str) -> Error {
    Error::storage(operation, what).effect_none()
}

/// One page of what `rows` gives, each with the cursor behind it.
fn page_of<T>(rows: impl Iterator<Item = (String, T)>, limit: usize) -> Page<T> {
    let limit = limit.clamp(1, 200);
    let mut rows = rows.peekable();
    let (mut items, mut last) = (Vec::new(), None);
    for (cursor, item) in rows.by_ref().take(limit) {
        items.push(item);
        last = Some(cursor);
    }
    Page { items, next: rows.peek().and(last) }
}

/// A place in a list that is ordered by time and id. `list` keeps the cursors of different lists apart.
fn write_cursor(list: char, at: Timestamp, id: Uuid) -> String {
    format!("{list}{}_{}", at.as_nanosecond(), id.simple())
}

fn read_cursor(list: char, page: &PageRequest, operation: &'static str) -> Result<Option<(Timestamp, Uuid)>, Error> {
    let Some(raw) = &page.after else { return Ok(None) };
    let read = |raw: &str| {
        let (at, id) = raw.strip_prefix(list)?.split_once('_')?;
        Some((Timestamp::from_nanosecond(at.parse().ok()?).ok()?, Uuid::try_parse(id).ok()?))
    };
    read(raw).map(Some).ok_or_else(|| invalid_cursor(operation))
}

fn invalid_cursor(operation: &'static str) -> Error {
    Error::invalid(operation, "the cursor is not one that a page gave")
}

/// Bytes both as characters and as hexadecimal digits.
fn dump_bytes(out: &mut String, name: &str, bytes: &[u8]) {
    let _ = write!(out, "{name}: {} ", String::from_utf8_lossy(bytes));
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push('\n');
}

fn dump_debug(out: &mut String, row: &dyn fmt::Debug) {
    let _ = writeln!(out, "{row:?}");
}

type Set<T> = BTreeSet<T>;
type Map<K, V> = BTreeMap<K, V>;
type Hashed<K, V> = HashMap<K, V>;
