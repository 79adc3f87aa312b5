//! Group commit: what concurrent deliveries want to write travels in one transaction. One write of a queue is under way; the next batch is
//! whatever arrived meanwhile.

use std::{sync::Arc, time::Duration};

use futures_util::future::OptionFuture;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    in_time,
    spill::{Doubt, Spill},
};
use crate::{
    error::{Error, ErrorKind},
    meter,
    store::{Held, Lease, PhaseWrite, Store},
    time::{Clock, later, signed},
};

/// The most changes in one transaction.
const BATCH: usize = 512;
/// A few changes that come this soon behind others are part of a steady flow, and wait for so long for more: a transaction costs the same for one
/// as for hundreds. What comes alone goes at once, unless others went just before, and so does what is a batch already.
const FEW: usize = 16;
const LINGER: Duration = Duration::from_millis(1);
/// How long a batch that must be written waits before it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Where a driver writes.
#[derive(Debug)]
pub(crate) enum Journal {
    /// One write, one transaction: for single runs and tests.
    Direct(Arc<dyn Store>, Arc<Spill>),
    /// Together with what others write at the moment. Outcomes have a queue of their own where the store can write two batches beside each
    /// other, and are in the same one where it cannot.
    Grouped { store: Arc<dyn Store>, entries: mpsc::Sender<Entry>, outcomes: mpsc::Sender<Entry> },
}

#[derive(Debug)]
pub(crate) struct Entry {
    // Boxed: every future on the way to here holds one.
    write: Box<PhaseWrite>,
    must: Option<Doubt>,
    answer: oneshot::Sender<Result<Held, Error>>,
}

/// What hangs on a write: the doubt that it ends if it must be written, and who waits for it.
type Waiter = (Option<Doubt>, oneshot::Sender<Result<Held, Error>>);

impl Journal {
    /// A grouped journal and the future that does its work; it ends when the last journal is gone and everything is written. `wake` is notified
    /// when a change wants to be looked at again. After `ending` it waits for the store no longer than for the spill.
    pub(crate) fn grouped(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        wake: Arc<Notify>,
        (spill, ending): (Arc<Spill>, CancellationToken),
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (entries, queue) = mpsc::channel(4 * BATCH);
        let (outcomes, second) = if store.writes_in_parallel() {
            let (outcomes, second) = mpsc::channel(4 * BATCH);
            (outcomes, Some(second))
        } else {
            (entries.clone(), None)
        };
        let journal = Self::Grouped { store: store.clone(), entries, outcomes };
        let each = move |queue| work(store.clone(), clock.clone(), wake.clone(), queue, spill.clone(), ending.clone());
        let first = each(queue);
        let second = OptionFuture::from(second.map(each));
        (journal, async {
            tokio::join!(first, second);
        })
    }

    /// Writes a change durably. With `must`, a store that fails is tried again until it answers, and the change is kept on disk meanwhile:
    /// what it tells has happened already.
    ///
    /// # Errors
    /// `Storage` if it was not written.
    pub(crate) async fn record(&self, write: Box<PhaseWrite>, must: Option<Doubt>) -> Result<Held, Error> {
        match self {
            Self::Direct(store, spill) => {
                let answer = store.record(std::slice::from_ref(&*write)).await;
                if let (Err(_), Some(doubt)) = (&answer, must) {
                    spill.keep_outcome(&write, doubt).await;
                }
                match answer?.first() {
                    Some(&held) => Ok(held),
                    None => {
                        Err(Error::new(ErrorKind::Storage, "journal").message("the store gave no answer for a write"))
                    }
                }
            }
            Self::Grouped { entries, outcomes, .. } => {
                let entries = if must.is_some() { outcomes } else { entries };
                let (answer, answered) = oneshot::channel();
                let gone = || Error::new(ErrorKind::Storage, "journal").message("the journal has stopped");
                entries.send(Entry { write, must, answer }).await.map_err(|_| gone())?;
                answered.await.map_err(|_| gone())?
            }
        }
    }

    /// Gives a claim back untouched.
    pub(crate) async fn rest(&self, lease: Lease, wake_at: jiff::Timestamp) -> Result<(), Error> {
        match self {
            Self::Direct(store, _) | Self::Grouped { store, .. } => {
                in_time("rest", store.rest(&[lease], wake_at)).await
            }
        }
    }
}

async fn work(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
    mut queue: mpsc::Receiver<Entry>,
    spill: Arc<Spill>,
    ending: CancellationToken,
) {
    let mut arrived: Vec<Entry> = Vec::with_capacity(BATCH);
    // The batch, and in the same order who waits for it and whether it must be written.
    let mut writes: Vec<PhaseWrite> = Vec::with_capacity(BATCH);
    let mut waiting: Vec<Waiter> = Vec::with_capacity(BATCH);
    let mut flow: Option<Duration> = None;
    loop {
        let room = BATCH - writes.len();
        if writes.is_empty() {
            if queue.recv_many(&mut arrived, room).await == 0 {
                return;
            }
            if arrived.len() < FEW
                && flow.is_some_and(|at| clock.monotonic().saturating_sub(at) < LINGER)
                && !ending.is_cancelled()
            {
                clock.sleep_until(later(clock.now(), signed(LINGER))).await;
                while arrived.len() < room
                    && let Ok(entry) = queue.try_recv()
                {
                    arrived.push(entry);
                }
            }
        } else {
            // Left from a failed batch: whatever is there already goes along.
            while arrived.len() < room
                && let Ok(entry) = queue.try_recv()
            {
                arrived.push(entry);
            }
        }
        for Entry { write, must, answer } in arrived.drain(..) {
            writes.push(*write);
            waiting.push((must, answer));
        }
        let doubts: Vec<_> = waiting.iter().map(|(must, _)| *must).collect();
        let writing = in_time("journal", store.record(&writes));
        match spill.attend(&store, &clock, &ending, (&writes, &doubts), writing).await {
            Ok(answers) if answers.len() == writes.len() => {
                meter::journal_wrote(writes.len());
                flow = (writes.len() > 1).then(|| clock.monotonic());
                if writes.iter().any(|write| write.wake_at.is_some()) {
                    wake.notify_one();
                }
                writes.clear();
                for ((_, answer), held) in waiting.drain(..).zip(answers) {
                    // A driver that is gone lost its lease, or the worker is being dropped; the write counts all the same.
                    let _ = answer.send(Ok(held));
                }
            }
            outcome => {
                let error = outcome.err().unwrap_or_else(|| {
                    Error::new(ErrorKind::Storage, "journal").message("the store gave no answer for a write")
                });
                meter::journal_failed();
                tracing::warn!(%error, entries = writes.len(), "the store did not take a batch of changes");
                let failed = std::mem::take(&mut writes).into_iter().zip(std::mem::take(&mut waiting));
                for (write, (must, answer)) in failed {
                    if must.is_some() && !(ending.is_cancelled() && spill.has(&write)) {
                        writes.push(write);
                        waiting.push((must, answer));
                    } else {
                        let refused = Error::new(ErrorKind::Storage, "journal")
                            .message("the store did not take the change")
                            .effect_none();
                        let _ = answer.send(Err(refused));
                    }
                }
                if !writes.is_empty() {
                    clock.sleep_until(later(clock.now(), signed(AGAIN))).await;
                }
            }
        }
    }
}
