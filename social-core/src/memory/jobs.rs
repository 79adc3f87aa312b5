//! Deliveries: claimed, written, leased and found again. Rows that nobody holds are indexed by network and waking, held ones by the end
//! of their lease, so that no claim looks at history.

use std::{collections::hash_map::Entry, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Hashed, Map, MemoryStore, Set, State, dump_debug, posts::LogRecord, taken};
use crate::{
    account::Version,
    error::Error,
    id::{AccountId, DeliveryId, PlatformId},
    phase::{Phase, PhaseName, invariant},
    store::{
        Backlog, ClaimRequest, Claimed, Delivery, Epoch, ErrorPatch, Held, JobStore, Lease, Ownership, PhaseWrite,
        RESTORED_EPOCHS, RestoreMark, Restored, TakeOver,
    },
};

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) delivery: Delivery,
    lease: Option<Holder>,
}

#[derive(Debug, Clone)]
struct Holder {
    worker: Arc<str>,
    until: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    rows: Map<DeliveryId, Row>,
    /// Held by nobody, with a time to wake.
    due: Set<(PlatformId, Timestamp, DeliveryId)>,
    /// Held, by the end of the lease.
    leased: Set<(Timestamp, DeliveryId)>,
    /// Who holds deliveries of an account, and how many.
    busy: Hashed<AccountId, (Arc<str>, usize)>,
    by_account: Set<(AccountId, DeliveryId)>,
}

/// Who holds a delivery between taking it over and writing its late outcome.
const LATE: &str = "late outcome";

const FIRST: DeliveryId = DeliveryId::from_uuid(Uuid::nil());
const LAST: DeliveryId = DeliveryId::from_uuid(Uuid::max());

impl Row {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self { delivery, lease: None }
    }

    /// A new owner, or none: whoever held it loses it.
    pub(super) fn revoke(&mut self) {
        self.own(Ownership::revoke);
    }

    fn ownership(&self) -> Ownership {
        Ownership { epoch: self.delivery.epoch, leased: self.lease.is_some() }
    }

    fn own(&mut self, change: impl FnOnce(&mut Ownership)) {
        let mut ownership = self.ownership();
        change(&mut ownership);
        self.delivery.epoch = ownership.epoch;
        if !ownership.leased {
            self.lease = None;
        }
    }

    fn claim(&mut self, holder: Holder) {
        self.own(Ownership::claim);
        self.lease = Some(holder);
    }

    fn counts(&self, write: &PhaseWrite) -> bool {
        self.ownership().counts(self.delivery.phase.name(), write.epoch, write.phase, write.lease)
    }

    fn apply(&mut self, write: &PhaseWrite) {
        let row = &mut self.delivery;
        let remote = write.remote.clone().or_else(|| match &row.phase {
            Phase::Published { remote } => Some(remote.clone()),
            _ => None,
        });
        row.phase = Phase::restore(write.phase, write.checkpoint.clone(), remote);
        if write.phase == PhaseName::Published {
            row.published_at = Some(write.log.at);
        }
        row.parts.extend(write.part.clone());
        row.attempt = write.attempt;
        row.crashes = write.crashes;
        row.wake_at = write.wake_at;
        row.due_at = write.due_at.unwrap_or(row.due_at);
        row.committing_since = write.committing_since;
        match &write.error {
            ErrorPatch::Keep => {}
            ErrorPatch::Clear => row.error = None,
            ErrorPatch::Set(error) => row.error = Some(error.clone()),
        }
        row.updated_at = write.log.at;
        self.own(|ownership| ownership.after(write.lease));
    }

    fn log(&self, write: &PhaseWrite) -> LogRecord {
        LogRecord::new(&self.delivery, write.attempt, write.log.id, &write.log)
    }

    fn is_due(&self) -> bool {
        self.lease.is_none() && self.delivery.wake_at.is_some()
    }
}

impl Jobs {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, id: DeliveryId) -> Option<&Row> {
        self.rows.get(&id)
    }

    /// Stores a row, new or changed, and keeps the indexes true.
    pub(super) fn put(&mut self, row: Row) {
        let (id, account) = (row.delivery.id, row.delivery.account);
        if let Some(old) = self.rows.remove(&id) {
            self.unlist(&old);
        }
        match (&row.lease, row.delivery.wake_at) {
            (Some(holder), _) => {
                self.leased.insert((holder.until, id));
                self.busy.entry(account).or_insert_with(|| (Arc::clone(&holder.worker), 0)).1 += 1;
            }
            (None, Some(wake_at)) => {
                self.due.insert((row.delivery.platform.clone(), wake_at, id));
            }
            (None, None) => {}
        }
        self.by_account.insert((account, id));
        self.rows.insert(id, row);
    }

    fn unlist(&mut self, row: &Row) {
        let (id, account) = (row.delivery.id, row.delivery.account);
        match (&row.lease, row.delivery.wake_at) {
            (Some(holder), _) => {
                self.leased.remove(&(holder.until, id));
                if let Entry::Occupied(mut busy) = self.busy.entry(account) {
                    busy.get_mut().1 -= 1;
                    if busy.get().1 == 0 {
                        busy.remove();
                    }
                }
            }
            (None, Some(wake_at)) => {
                self.due.remove(&(row.delivery.platform.clone(), wake_at, id));
            }
            (None, None) => {}
        }
    }

    /// A changed copy of a row that is held under that lease.
    fn held(&self, lease: &Lease) -> Option<Row> {
        let row = self.rows.get(&lease.delivery)?;
        row.ownership().is_held(lease.epoch).then(|| row.clone())
    }

    pub(super) fn of_account(&self, account: AccountId) -> impl Iterator<Item = &Delivery> {
        let ids = self.by_account.range((account, FIRST)..=(account, LAST));
        ids.filter_map(|(_, id)| self.rows.get(id)).map(|row| &row.delivery)
    }

    pub(super) fn dump(&self, out: &mut String) {
        self.rows.values().for_each(|row| dump_debug(out, row));
    }
}

impl State {
    fn claim(&mut self, request: &ClaimRequest) -> Vec<Claimed> {
        let worker: Arc<str> = request.worker.as_str().into();
        let mut claimed = Vec::new();
        for lane in &request.lanes {
            let until = (lane.platform.clone(), request.until, LAST);
            let due = self.jobs.due.range((lane.platform.clone(), Timestamp::MIN, FIRST)..=until);
            let free = due.filter_map(|(_, _, id)| self.jobs.rows.get(id)).filter(|row| {
                let busy = self.jobs.busy.get(&row.delivery.account);
                busy.is_none_or(|(holder, _)| **holder == *worker)
            });
            let rows: Vec<Row> = free.take(lane.limit).cloned().collect();
            for mut row in rows {
                row.claim(Holder { worker: Arc::clone(&worker), until: request.lease_until });
                claimed.extend(self.claimed(&row));
                self.jobs.put(row);
            }
        }
        claimed.sort_by_key(|claim| (claim.delivery.wake_at, claim.delivery.id));
        claimed
    }

    /// `None` cannot happen: a delivery is stored only together with its post, and only for an account that exists.
    fn claimed(&self, row: &Row) -> Option<Claimed> {
        let delivery = row.delivery.clone();
        let draft = self.posts.draft(delivery.post)?;
        let account = self.accounts.get(delivery.account)?;
        // The grant of a disconnected account is erased; no tokens have this version.
        let version = self.connections.get(&account.connection).map_or(Version(0), |row| row.connection.version);
        Some(Claimed { delivery, draft, account: Arc::clone(account), token_version: version })
    }
}

#[async_trait]
impl JobStore for MemoryStore {
    async fn claim_due(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, Error> {
        Ok(self.state().claim(request))
    }

    async fn record(&self, writes: &[PhaseWrite]) -> Result<Vec<Held>, Error> {
        let mut guard = self.state();
        let State { jobs, logs, .. } = &mut *guard;
        // Changed copies first: an error must leave nothing behind.
        let (mut changed, mut rows) = (Hashed::<DeliveryId, Row>::new(), Vec::with_capacity(writes.len()));
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            let row = match changed.entry(write.delivery) {
                Entry::Occupied(row) => Some(row.into_mut()),
                Entry::Vacant(free) => jobs.get(write.delivery).map(|row| free.insert(row.clone())),
            };
            answers.push(match row.filter(|row| row.counts(write)) {
                // Repeated by somebody who did not hear the answer.
                Some(_) if logs.tells(write.delivery, &write.log) => Held::Yes,
                Some(row) => {
                    row.apply(write);
                    rows.push(row.log(write));
                    Held::Yes
                }
                None => Held::Lost,
            });
        }
        if !logs.append(rows) {
            return Err(taken("jobs.record", "a row of the history with this id exists"));
        }
        let due = changed.values().any(Row::is_due);
        changed.into_values().for_each(|row| jobs.put(row));
        drop(guard);
        if due {
            self.wake();
        }
        Ok(answers)
    }

    async fn take_over(&self, request: &TakeOver) -> Result<Option<Epoch>, Error> {
        let mut state = self.state();
        let Some(mut row) = state.jobs.get(request.delivery).cloned() else { return Ok(None) };
        let known = state.logs.has(row.delivery.user, request.unless_logged);
        let delivery = &row.delivery;
        let holds = delivery.committing_since == Some(request.committing_since)
            && request.from.contains(&delivery.phase.name())
            && request.epoch_at_most.is_none_or(|most| delivery.epoch <= most)
            && !known;
        if !holds {
            return Ok(None);
        }
        row.revoke();
        row.lease = Some(Holder { worker: LATE.into(), until: request.lease_until });
        let epoch = row.delivery.epoch;
        state.jobs.put(row);
        Ok(Some(epoch))
    }

    async fn mark_restored(&self, mark: &RestoreMark) -> Result<Restored, Error> {
        let mut state = self.state();
        let newest = state.logs.newest();
        let since = mark.backup_at.or(newest).unwrap_or(mark.now);
        let held = state.jobs.leased.range((mark.now, LAST)..).count() as u64;
        let mut done = Restored { held, since: Some(since), ..Restored::default() };
        if held > 0 && !mark.even_if_held {
            return Ok(done);
        }
        let open: Vec<Row> =
            state.jobs.rows.values().filter(|row| !row.delivery.phase.name().is_final()).cloned().collect();
        for mut row in open {
            let begun = row.lease.is_some() || row.delivery.phase != Phase::Scheduled;
            row.revoke();
            let delivery = &mut row.delivery;
            delivery.epoch = Epoch(delivery.epoch.0 - 1 + RESTORED_EPOCHS);
            match delivery.phase.name() {
                PhaseName::Committing | PhaseName::Settling => {
                    delivery.wake_at = Some(mark.now);
                    done.in_doubt += 1;
                }
                name if name.can_cancel() && (mark.all || begun || delivery.due_at <= mark.now) => {
                    let own = if mark.backup_at.is_some() { since } else { since.min(delivery.due_at) };
                    delivery.committing_since = Some(delivery.committing_since.map_or(own, |earlier| earlier.min(own)));
                    delivery.wake_at = Some(mark.now);
                    done.to_look += 1;
                }
                _ => done.left += 1,
            }
            state.jobs.put(row);
        }
        drop(state);
        self.wake();
        Ok(done)
    }

    async fn renew(&self, leases: &[Lease], until: Timestamp) -> Result<Vec<Held>, Error> {
        let jobs = &mut self.state().jobs;
        let renew = |lease| match jobs.held(lease) {
            Some(mut row) => {
                row.lease = row.lease.map(|holder| Holder { until, ..holder });
                jobs.put(row);
                Held::Yes
            }
            None => Held::Lost,
        };
        Ok(leases.iter().map(renew).collect())
    }

    async fn rest(&self, leases: &[Lease], wake_at: Timestamp) -> Result<(), Error> {
        let mut state = self.state();
        for lease in leases {
            if let Some(mut row) = state.jobs.held(lease) {
                row.revoke();
                row.delivery.wake_at = Some(wake_at);
                state.jobs.put(row);
            }
        }
        drop(state);
        self.wake();
        Ok(())
    }

    async fn reclaim(&self, now: Timestamp) -> Result<u64, Error> {
        let mut state = self.state();
        let ended: Vec<Row> =
            state.jobs.leased.range(..(now, FIRST)).filter_map(|(_, id)| state.jobs.rows.get(id)).cloned().collect();
        let count = ended.len();
        for mut row in ended {
            row.revoke();
            if invariant::is_suspect(row.delivery.crashes, row.delivery.phase.name()) {
                row.delivery.crashes = row.delivery.crashes.saturating_add(1);
            }
            row.delivery.wake_at = Some(row.delivery.wake_at.map_or(now, |wake_at| wake_at.min(now)));
            state.jobs.put(row);
        }
        drop(state);
        if count > 0 {
            self.wake();
        }
        Ok(count as u64)
    }

    async fn next_due(&self, platforms: &[PlatformId]) -> Result<Vec<(PlatformId, Timestamp)>, Error> {
        let due = &self.state().jobs.due;
        let first = |platform: &PlatformId| {
            let next = due.range((platform.clone(), Timestamp::MIN, FIRST)..).next()?;
            (next.0 == *platform).then(|| (platform.clone(), next.1))
        };
        Ok(platforms.iter().filter_map(first).collect())
    }

    async fn release_reconnected(&self, account: AccountId, now: Timestamp) -> Result<u64, Error> {
        let mut state = self.state();
        let waiting = state.jobs.of_account(account).filter(|row| row.phase.name() == PhaseName::AwaitingReconnect);
        let ids: Vec<_> = waiting.map(|row| row.id).collect();
        for id in &ids {
            if let Some(mut row) = state.jobs.get(*id).cloned() {
                row.delivery.wake_at = Some(now);
                state.jobs.put(row);
            }
        }
        drop(state);
        self.wake();
        Ok(ids.len() as u64)
    }

    async fn remote_ids(&self, account: AccountId, since: Timestamp) -> Result<Vec<String>, Error> {
        let state = self.state();
        let recent = state.jobs.of_account(account).filter(|row| row.updated_at >= since);
        let posts = recent.flat_map(|row| {
            let whole = match &row.phase {
                Phase::Published { remote } => Some(remote),
                _ => None,
            };
            row.parts.iter().chain(whole)
        });
        let ids: Set<_> = posts.filter_map(|post| post.id.as_ref()).map(|id| id.as_str().to_owned()).collect();
        Ok(ids.into_iter().collect())
    }

    async fn depth(&self) -> Result<Vec<(PlatformId, PhaseName, u64)>, Error> {
        let mut counts = Map::<(PlatformId, PhaseName), u64>::new();
        for row in self.state().jobs.rows.values() {
            let phase = row.delivery.phase.name();
            if !phase.is_final() {
                *counts.entry((row.delivery.platform.clone(), phase)).or_default() += 1;
            }
        }
        Ok(counts.into_iter().map(|((platform, phase), count)| (platform, phase, count)).collect())
    }

    async fn backlog(&self, now: Timestamp) -> Result<Vec<Backlog>, Error> {
        let mut found = Map::<PlatformId, Backlog>::new();
        for row in self.state().jobs.rows.values() {
            let wakes = row.delivery.wake_at.filter(|wake_at| *wake_at <= now && row.lease.is_none());
            if wakes.is_none() && row.lease.is_none() {
                continue;
            }
            let platform = &row.delivery.platform;
            let new = || Backlog { platform: platform.clone(), due: 0, oldest: None, held: 0 };
            let backlog = found.entry(platform.clone()).or_insert_with(new);
            backlog.held += u64::from(row.lease.is_some());
            backlog.due += u64::from(wakes.is_some());
            backlog.oldest = backlog.oldest.into_iter().chain(wakes).min();
        }
        Ok(found.into_values().collect())
    }

    async fn woken(&self) {
        self.shared.wake.notified().await;
    }
}
