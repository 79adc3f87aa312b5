//! What the store could not take at the worst moment: outcomes of visible calls, and tokens that a network gave in exchange for others.
//! They go into a file on this machine, so that they survive the end of the process, and into the store before anything else as soon
//! as it answers.
//!
//! Each process has a file of its own and holds a lock on it. The file of a process that has died is adopted by any other that uses the
//! same folder. A record is one line with a checksum, on disk before anybody relies on it. Replaying a record twice is harmless.

mod file;
mod late;
mod record;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub(crate) use self::record::Doubt;
use self::{
    file::{Line, OwnFile},
    late::{Late, apply, apply_lost},
    record::{Key, Record},
};
use super::in_time;
use crate::{
    account::Version,
    error::{Error, ErrorKind},
    id::ConnectionId,
    meter,
    store::{Held, PhaseWrite, Store, Swap, TokenUpdate},
    time::{Clock, later, signed},
};

/// A store that takes longer than this for outcomes is not relied upon: they go to disk while it is still waited for.
const SLOW: Duration = Duration::from_secs(2);
/// A record that fails so often although the store works is put aside, so that it cannot hold up the others.
const MOST_TRIES: u32 = 3;

/// What [`Social::recover`](crate::social::Social::recover) did with what earlier processes could not write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Outcomes that are in the store now.
    pub outcomes: usize,
    /// Tokens that are in the store now.
    pub tokens: usize,
    /// Records that the store knew, or had gone beyond.
    pub obsolete: usize,
    /// Lines that could not be read or applied and are kept in a file of their own.
    pub put_aside: usize,
}

impl Recovered {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Keeps on disk what the store could not take. Without a folder it keeps nothing and everything stays in memory.
#[derive(Debug, Default)]
pub(crate) struct Spill {
    own: Option<Arc<Mutex<Own>>>,
    folder: PathBuf,
    /// Records that are kept and not in the store yet. Zero nearly always, which is all that the hot path looks at.
    kept: AtomicUsize,
    recovering: tokio::sync::Mutex<HashMap<Key, u32>>,
}

#[derive(Debug)]
struct Own {
    file: OwnFile,
    pending: BTreeMap<u64, Record>,
    places: HashMap<Key, u64>,
    next: u64,
}

impl Spill {
    /// Uses a folder, which is made when it is needed first.
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        let own =
            Own { file: OwnFile::in_folder(folder.clone()), pending: BTreeMap::new(), places: HashMap::new(), next: 0 };
        Self { own: Some(Arc::new(Mutex::new(own))), folder, ..Self::default() }
    }

    /// How many records wait for the store.
    pub(crate) fn kept(&self) -> usize {
        self.kept.load(Ordering::Acquire)
    }

    /// Watches over a batch on its way into the store. `doubts` stands beside `writes`: who has none need not be written at any price.
    /// What has to be written is kept on disk as soon as the store fails, is slow, or `ending` says that nobody will wait for it any more;
    /// what the store did not count because another worker owns the delivery by now is used as evidence.
    ///
    /// # Errors
    /// What `writing` says, or that nobody waits any more.
    pub(crate) async fn attend(
        &self,
        store: &Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
        ending: &CancellationToken,
        (writes, doubts): (&[PhaseWrite], &[Option<Doubt>]),
        writing: impl Future<Output = Result<Vec<Held>, Error>> + Send,
    ) -> Result<Vec<Held>, Error> {
        let must = || writes.iter().zip(doubts).filter_map(|(write, doubt)| Some((write, (*doubt)?)));
        if must().next().is_none() {
            return writing.await;
        }
        let records = || must().map(|(write, doubt)| Record::outcome(write, doubt)).collect::<Vec<_>>();
        let given_up = || Error::new(ErrorKind::Storage, "journal").message("the store did not answer before the end");
        tokio::pin!(writing);
        let outcome = tokio::select! {
            outcome = &mut writing => outcome,
            () = ending.cancelled() => Err(given_up()),
            () = clock.sleep_until(later(clock.now(), signed(SLOW))), if self.own.is_some() => {
                let waited_for = async {
                    tokio::select! {
                        outcome = &mut writing => outcome,
                        () = ending.cancelled() => Err(given_up()),
                    }
                };
                // Both at once: a disk that hangs must not leave a transaction open that nobody goes on with.
                futures_util::future::join(waited_for, self.keep(records())).await.0
            }
        };
        match &outcome {
            Ok(answers) => {
                for ((write, doubt), held) in writes.iter().zip(doubts).zip(answers) {
                    let Some(doubt) = doubt.filter(|_| *held == Held::Lost) else { continue };
                    let record = Record::outcome(write, doubt);
                    if let Err(error) = in_time("take_over", apply_lost(&**store, write, doubt, clock.now())).await {
                        tracing::warn!(delivery.id = %write.delivery, %error, "an outcome of which another worker has the delivery could not be used yet");
                        self.keep(vec![record]).await;
                        continue;
                    }
                    self.done([record.key()]).await;
                }
                if self.kept() > 0 {
                    let written = must().zip(must_answers(doubts, answers)).filter(|(_, held)| *held == Held::Yes);
                    self.done(written.map(|((write, _), _)| Key::Outcome(write.log.id))).await;
                }
            }
            Err(_) => {
                self.keep(records()).await;
            }
        }
        outcome
    }

    /// Whether a change is on disk, so that the process may end without having written it.
    pub(crate) fn has(&self, write: &PhaseWrite) -> bool {
        self.with(|own| own.places.contains_key(&Key::Outcome(write.log.id))).unwrap_or(false)
    }

    /// Keeps one outcome that the store did not take.
    pub(crate) async fn keep_outcome(&self, write: &PhaseWrite, doubt: Doubt) -> bool {
        self.keep(vec![Record::outcome(write, doubt)]).await
    }

    /// Watches over sealed tokens on their way into the store, in place of those of version `seen`. They are kept on disk as soon as the store
    /// fails for now or is slow, as ciphertext, bound to their place as in the store. `kept` is called once they are there.
    ///
    /// # Errors
    /// What `storing` says.
    pub(crate) async fn attend_tokens(
        &self,
        clock: &Arc<dyn Clock>,
        (id, seen, update): (ConnectionId, Version, &TokenUpdate),
        storing: impl Future<Output = Result<Swap, Error>> + Send,
        mut kept: impl FnMut() + Send,
    ) -> Result<Swap, Error> {
        let mut keep = async || {
            if self.keep(vec![Record::tokens(id, seen, update)]).await {
                kept();
            }
        };
        tokio::pin!(storing);
        let mut slow = false;
        let outcome = tokio::select! {
            outcome = &mut storing => outcome,
            () = clock.sleep_until(later(clock.now(), signed(SLOW))), if self.own.is_some() => {
                slow = true;
                // Both at once: a disk that hangs must not keep a transaction open.
                futures_util::future::join(storing, keep()).await.0
            }
        };
        match &outcome {
            Ok(_) if self.kept() > 0 => self.done([Key::Tokens(id, seen)]).await,
            Err(error) if error.kind() == ErrorKind::Storage && !slow => keep().await,
            _ => {}
        }
        outcome
    }

    /// Writes records to disk. Answers whether all are there.
    async fn keep(&self, records: Vec<Record>) -> bool {
        let Some(own) = self.own.clone() else { return false };
        let written = tokio::task::spawn_blocking(move || {
            let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
            let outcome = own.keep(records);
            (outcome, own.pending.len())
        });
        match written.await {
            Ok((Ok(new), kept)) => {
                self.kept.store(kept, Ordering::Release);
                if new > 0 {
                    meter::spilled(new);
                    tracing::warn!(new, kept, "the store did not take what has happened; it is kept on disk");
                }
                true
            }
            Ok((Err(error), _)) => {
                meter::spill_failed();
                tracing::error!(%error, folder = %self.folder.display(), "what the store did not take could not be kept on disk either; it is in memory only");
                false
            }
            Err(_) => false,
        }
    }

    async fn done(&self, keys: impl IntoIterator<Item = Key>) {
        let Some(own) = self.own.clone() else { return };
        let keys: Vec<Key> = keys.into_iter().collect();
        let kept = tokio::task::spawn_blocking(move || {
            let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
            own.done(&keys);
            own.pending.len()
        });
        if let Ok(kept) = kept.await {
            self.kept.store(kept, Ordering::Release);
        }
    }

    fn with<T>(&self, look: impl FnOnce(&Own) -> T) -> Option<T> {
        self.own.as_ref().map(|own| look(&own.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Brings what was kept into the store: this process's own records, and those of processes that have died. Call it before anything is
    /// claimed, and now and then.
    ///
    /// # Errors
    /// `Storage` if the store fails; what is left is tried again with the next call. What cannot be done with a file is logged only.
    pub(crate) async fn recover(&self, store: &dyn Store, now: Timestamp) -> Result<Recovered, Error> {
        if self.own.is_none() {
            return Ok(Recovered::default());
        }
        let mut tries = self.recovering.lock().await;
        let mut recovered = Recovered::default();
        if self.kept() > 0 {
            for record in self.with(|own| own.pending.values().cloned().collect::<Vec<_>>()).unwrap_or_default() {
                if !replay(store, &record, now, &mut tries, &mut recovered).await?
                    && let Err(error) = self.aside("records.txt".into(), record.to_line()).await
                {
                    tracing::error!(%error, "a kept record that the store refuses could not be put aside and stays");
                    continue;
                }
                self.done([record.key()]).await;
            }
        }
        let folder = self.folder.clone();
        let own = self.with(|own| own.file.path().map(Path::to_owned)).flatten();
        let dead = tokio::task::spawn_blocking(move || file::dead(&folder, own.as_deref())).await;
        // Whatever is wrong with the folder or with one file must not keep everything else from going on.
        let dead = dead.map_err(broken)?.unwrap_or_else(|error| {
            tracing::error!(%error, folder = %self.folder.display(), "the folder of outcomes cannot be read");
            Vec::new()
        });
        for mut dead in dead {
            let path = dead.path().to_owned();
            let lines = match dead.lines() {
                Ok(lines) => lines,
                Err(error) => {
                    tracing::error!(%error, file = %path.display(), "a file of outcomes cannot be read; what it tells has to be found out by asking the network");
                    continue;
                }
            };
            let mut aside = Vec::new();
            for line in lines {
                match line {
                    Line::Whole(record) => {
                        if !replay(store, &record, now, &mut tries, &mut recovered).await? {
                            aside.extend_from_slice(record.to_line().as_bytes());
                        }
                    }
                    Line::Torn(bytes) => {
                        tracing::warn!(
                            "the last line of a file of outcomes was not finished when its process died; nobody relied on it"
                        );
                        aside.extend_from_slice(&bytes);
                    }
                    Line::Unreadable(bytes) => {
                        tracing::error!(file = %path.display(), "a kept outcome cannot be read; what it tells has to be found out by asking the network");
                        recovered.put_aside += 1;
                        aside.extend_from_slice(&bytes);
                        aside.push(b'\n');
                    }
                }
            }
            let kept_aside = tokio::task::spawn_blocking(move || dead.remove(&aside)).await.map_err(broken)?;
            if let Err(error) = kept_aside {
                tracing::error!(%error, file = %path.display(), "a file of outcomes that were used could not be put away; it is used again");
            }
        }
        if !recovered.is_nothing() {
            let Recovered { outcomes, tokens, obsolete, put_aside } = recovered;
            tracing::info!(
                outcomes,
                tokens,
                obsolete,
                put_aside,
                "what was kept on disk while the store was away is in it now"
            );
        }
        Ok(recovered)
    }

    async fn aside(&self, name: String, line: String) -> Result<(), Error> {
        let path = self.folder.join(format!("unreadable-{name}"));
        let written = tokio::task::spawn_blocking(move || file::append(&path, line.as_bytes())).await;
        written.map_err(broken)?.map_err(|e| Error::storage("spill.recover", e).effect_none())
    }
}

/// Replays a record. `Ok(false)` if it never works although the store does.
async fn replay(
    store: &dyn Store,
    record: &Record,
    now: Timestamp,
    tries: &mut HashMap<Key, u32>,
    recovered: &mut Recovered,
) -> Result<bool, Error> {
    let outcome = match record {
        Record::Outcome { before, since, write } => {
            in_time("replay", apply(store, write, Doubt { before: *before, since: *since }, now)).await
        }
        Record::Tokens(kept) => in_time("replay", kept.replay(store)).await,
    };
    match (outcome, record) {
        (Ok(Late::Recorded), Record::Outcome { .. }) => recovered.outcomes += 1,
        (Ok(Late::Recorded), Record::Tokens(_)) => recovered.tokens += 1,
        (Ok(Late::Obsolete), _) => recovered.obsolete += 1,
        (Err(error), _) => {
            // The store may be away as a whole. Only what fails although it works is to blame itself.
            in_time("check", store.check()).await?;
            let count = tries.entry(record.key()).or_default();
            *count += 1;
            if *count < MOST_TRIES {
                return Err(error);
            }
            tracing::error!(%error, "a kept record is refused by the store and is put aside");
            recovered.put_aside += 1;
            tries.remove(&record.key());
            return Ok(false);
        }
    }
    tries.remove(&record.key());
    Ok(true)
}

fn must_answers<'a>(doubts: &'a [Option<Doubt>], answers: &'a [Held]) -> impl Iterator<Item = Held> + 'a {
    doubts.iter().zip(answers).filter(|(doubt, _)| doubt.is_some()).map(|(_, held)| *held)
}

fn broken(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Unexpected, "spill").message("a step with the file of outcomes broke off").source(error)
}

impl Own {
    /// Answers with the number of records that were not kept yet.
    fn keep(&mut self, records: Vec<Record>) -> std::io::Result<usize> {
        let new: Vec<Record> = records.into_iter().filter(|record| !self.places.contains_key(&record.key())).collect();
        if new.is_empty() {
            return Ok(0);
        }
        let text: String = new.iter().map(Record::to_line).collect();
        if self.file.would_be_full(text.len()) {
            let rest: String = self.pending.values().map(Record::to_line).collect();
            self.file.begin_anew(rest.as_bytes())?;
        }
        self.file.append(text.as_bytes())?;
        let count = new.len();
        for record in new {
            self.places.insert(record.key(), self.next);
            self.pending.insert(self.next, record);
            self.next += 1;
        }
        Ok(count)
    }

    fn done(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(place) = self.places.remove(key) {
                self.pending.remove(&place);
            }
        }
        if self.pending.is_empty() {
            self.file.empty();
        }
    }
}

#[cfg(test)]
mod tests;
