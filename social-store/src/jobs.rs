//! Deliveries for the engine: what is the same for both databases.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use social_core::{
    error::{Error, ErrorKind, Retry},
    id::{AccountId, LogId, PlatformId},
    phase::{Event, PhaseName, RemotePost, invariant},
    store::{
        Backlog, ClaimRequest, Claimed, Epoch, ErrorPatch, Held, JobStore, Lease, LeaseAfter, LogEntry, PhaseWrite,
        PostStatus, RESTORED_EPOCHS, RestoreMark, Restored, TakeOver,
    },
};

use crate::{
    backend::{Backend, SqlStore, Transaction as _},
    fault::{storage, unreadable},
    row::{Harvest, Reader, Scrap},
    value::{json, values},
};

/// What can still be canceled.
macro_rules! waiting_phases {
    () => {
        "phase IN ('scheduled', 'preparing', 'ready', 'retrying', 'awaiting_reconnect', 'awaiting_limit')"
    };
}
pub(crate) use waiting_phases;

/// [`PostStatus::of`] over the deliveries of a group, in SQL.
macro_rules! status_of {
    () => {
        "CASE \
         WHEN count(*) FILTER (WHERE phase = 'unconfirmed') > 0 THEN 'unconfirmed' \
         WHEN count(*) FILTER (WHERE phase IN ('preparing', 'ready', 'committing', 'settling')) > 0 THEN 'publishing' \
         WHEN count(*) FILTER (WHERE phase IN ('scheduled', 'retrying', 'awaiting_reconnect', 'awaiting_limit')) = count(*) THEN 'pending' \
         WHEN count(*) FILTER (WHERE phase IN ('scheduled', 'retrying', 'awaiting_reconnect', 'awaiting_limit')) > 0 THEN 'publishing' \
         WHEN count(*) FILTER (WHERE phase = 'published') = count(*) THEN 'published' \
         WHEN count(*) FILTER (WHERE phase = 'published') > 0 THEN 'partially_published' \
         WHEN count(*) FILTER (WHERE phase = 'canceled') = count(*) THEN 'canceled' \
         WHEN count(*) FILTER (WHERE phase = 'missed') > 0 \
              AND count(*) FILTER (WHERE phase IN ('missed', 'canceled')) = count(*) THEN 'missed' \
         ELSE 'failed' END"
    };
}
pub(crate) use status_of;

/// Whether a delivery stays in that phase without anybody at work: `posts.status` follows it then.
pub(crate) fn rests(phase: PhaseName) -> bool {
    !matches!(phase, PhaseName::Preparing | PhaseName::Ready | PhaseName::Committing | PhaseName::Settling)
}

fn is_plain(write: &PhaseWrite) -> bool {
    write.part.is_none() && write.wake_at.is_none() && write.due_at.is_none()
}

/// Whether its worker goes on and nothing but the phase and what belongs to it changes, as with the write-ahead of every post.
pub(crate) fn is_ahead(write: &PhaseWrite) -> bool {
    write.lease == LeaseAfter::Keep && !rests(write.phase) && write.error == ErrorPatch::Keep && is_plain(write)
}

/// Whether a delivery is out and nothing is left to do, as with most posts.
pub(crate) fn is_out(write: &PhaseWrite) -> bool {
    write.lease == LeaseAfter::Release
        && write.phase == PhaseName::Published
        && write.error == ErrorPatch::Clear
        && write.remote.is_some()
        && write.committing_since.is_none()
        && is_plain(write)
}

/// A write in the form of columns.
#[derive(Debug)]
pub(crate) struct WriteColumns<'w> {
    pub(crate) write: &'w PhaseWrite,
    /// The phases from which it counts, as `,a,b,`; `None` for all of them.
    pub(crate) from: Option<String>,
    pub(crate) checkpoint: Option<String>,
    /// Set where the row's remote post is replaced.
    pub(crate) remote: Option<&'w RemotePost>,
    pub(crate) part: Option<&'w RemotePost>,
    pub(crate) keep_error: bool,
    pub(crate) error: Option<&'w str>,
    #[cfg(feature = "postgres")]
    pub(crate) published_at: Option<Timestamp>,
    pub(crate) response: String,
}

impl<'w> WriteColumns<'w> {
    pub(crate) fn of(write: &'w PhaseWrite) -> Self {
        let published = write.phase == PhaseName::Published;
        let allowed = |from: &PhaseName| invariant::outside_may_change(*from, write.phase);
        let from = (write.lease == LeaseAfter::Revoke).then(|| {
            PhaseName::ALL
                .iter()
                .filter(|from| allowed(from))
                .fold(",".to_owned(), |list, from| list + from.as_str() + ",")
        });
        Self {
            write,
            from,
            checkpoint: write.checkpoint.as_ref().map(json),
            remote: write.remote.as_ref().filter(|_| published),
            part: write.part.as_ref(),
            keep_error: write.error == ErrorPatch::Keep,
            error: match &write.error {
                ErrorPatch::Set(error) => Some(error),
                ErrorPatch::Keep | ErrorPatch::Clear => None,
            },
            #[cfg(feature = "postgres")]
            published_at: published.then_some(write.log.at),
            response: json(&write.log.response),
        }
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn remote_id(&self) -> Option<String> {
        Some(self.remote?.id.as_ref()?.as_str().to_owned())
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn permalink(&self) -> Option<String> {
        self.remote?.permalink.clone()
    }

    /// 0 the lease stays, 1 it is given back, 2 it is taken away.
    pub(crate) fn lease(&self) -> i64 {
        match self.write.lease {
            LeaseAfter::Keep => 0,
            LeaseAfter::Release => 1,
            LeaseAfter::Revoke => 2,
        }
    }

    /// Whether the write leaves something that can be claimed.
    pub(crate) fn wakes(write: &PhaseWrite) -> bool {
        write.lease != LeaseAfter::Keep && write.wake_at.is_some()
    }
}

/// What has not ended; the text is the same in `deliveries_parked`.
macro_rules! open_phases {
    () => {
        "phase NOT IN ('published', 'failed', 'missed', 'canceled')"
    };
}

/// How many deliveries are in each phase: what can be claimed, what is held, and what waits for somebody, each from an index of its own.
pub(crate) const DEPTH: &str = concat!(
    "SELECT platform, phase, CAST(sum(n) AS BIGINT) FROM ( \
     SELECT platform, phase, count(*) AS n FROM deliveries WHERE lease_until IS NULL AND wake_at IS NOT NULL AND ",
    open_phases!(),
    " GROUP BY platform, phase UNION ALL SELECT platform, phase, count(*) FROM deliveries WHERE lease_until IS NOT NULL AND ",
    open_phases!(),
    " GROUP BY platform, phase UNION ALL SELECT platform, phase, count(*) FROM deliveries WHERE lease_until IS NULL AND wake_at IS NULL AND ",
    open_phases!(),
    " GROUP BY platform, phase) AS open GROUP BY platform, phase"
);

#[async_trait]
impl<B: Backend> JobStore for SqlStore<B> {
    async fn claim_due(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, Error> {
        let mut harvest = Harvest::of(request.lanes.iter().map(|lane| &lane.platform));
        self.backend.claim(request, &mut harvest).await.map_err(storage("jobs.claim_due"))?;
        if !harvest.spoilt.is_empty() || !harvest.scraps.is_empty() {
            let drafts = harvest.spoilt.iter().map(|delivery| {
                let scrap = Scrap {
                    id: delivery.id,
                    epoch: delivery.epoch,
                    phase: Some(delivery.phase.name()),
                    checkpoint: delivery.phase.checkpoint().cloned(),
                    attempt: delivery.attempt,
                    crashes: delivery.crashes,
                    committing_since: delivery.committing_since,
                };
                set_aside(&scrap, "the stored draft cannot be read", request.until)
            });
            let rows = harvest
                .scraps
                .iter()
                .map(|scrap| set_aside(scrap, "the stored delivery cannot be read", request.until));
            let writes: Vec<_> = drafts.chain(rows).collect();
            // One by one: what cannot even be set aside must not keep the others in the way.
            for write in &writes {
                if let Err(error) = self.record(std::slice::from_ref(write)).await {
                    tracing::error!(delivery.id = %write.delivery, %error, "a delivery that cannot be read cannot be set aside either");
                }
            }
        }
        harvest.claimed.sort_by_key(|claim| (claim.delivery.wake_at, claim.delivery.id));
        Ok(harvest.claimed)
    }

    async fn record(&self, writes: &[PhaseWrite]) -> Result<Vec<Held>, Error> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let held = match self.backend.record(writes).await {
            Err(error) if is_repeated(&error) => self.record_again(writes, error).await,
            outcome => outcome,
        };
        let held = held.map_err(storage("jobs.record"))?;
        if writes.iter().zip(&held).any(|(write, held)| *held == Held::Yes && WriteColumns::wakes(write)) {
            self.backend.wake();
        }
        Ok(held)
    }

    fn writes_in_parallel(&self) -> bool {
        B::WRITES_IN_PARALLEL
    }

    async fn take_over(&self, request: &TakeOver) -> Result<Option<Epoch>, Error> {
        let phase = |place: usize| request.from.get(place).or(request.from.last()).map(|phase| phase.as_str());
        let (Some(first), Some(second), Some(third), 1..=3) = (phase(0), phase(1), phase(2), request.from.len()) else {
            return Ok(None);
        };
        let taken = self.backend.returning(
            "UPDATE deliveries SET epoch = epoch + 1, lease_until = $2, worker = 'late outcome' \
             WHERE id = $1 AND committing_since = $3 AND phase IN ($4, $5, $6) AND epoch <= $7 \
             AND NOT EXISTS (SELECT 1 FROM post_logs l WHERE l.user_id = deliveries.user_id AND l.id = $8) RETURNING epoch",
            values![
                request.delivery.uuid(),
                request.lease_until,
                request.committing_since,
                first,
                second,
                third,
                request.epoch_at_most.map_or(i64::MAX, |epoch| epoch.0),
                request.unless_logged.uuid(),
            ],
        );
        let taken = taken.await.map_err(storage("jobs.take_over"))?;
        let epoch = taken.first().map(|row| Reader::of(row).int()).transpose().map_err(storage("jobs.take_over"))?;
        Ok(epoch.map(Epoch))
    }

    async fn mark_restored(&self, mark: &RestoreMark) -> Result<Restored, Error> {
        let done = self.restored(mark).await.map_err(storage("jobs.mark_restored"))?;
        self.backend.wake();
        Ok(done)
    }

    async fn renew(&self, leases: &[Lease], until: Timestamp) -> Result<Vec<Held>, Error> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        self.backend.renew(leases, until).await.map_err(storage("jobs.renew"))
    }

    async fn rest(&self, leases: &[Lease], wake_at: Timestamp) -> Result<(), Error> {
        if leases.is_empty() {
            return Ok(());
        }
        self.backend.rest(leases, wake_at).await.map_err(storage("jobs.rest"))?;
        self.backend.wake();
        Ok(())
    }

    async fn reclaim(&self, now: Timestamp) -> Result<u64, Error> {
        // A look first: on SQLite it does not need the writer.
        let none = self.fetch("SELECT 1 FROM deliveries WHERE lease_until < $1 LIMIT 1", values![now]).await;
        if none.map_err(storage("jobs.reclaim"))?.is_empty() {
            return Ok(0);
        }
        let freed = self.backend.execute(
            "UPDATE deliveries SET epoch = epoch + 1, lease_until = NULL, worker = NULL, \
             crashes = CASE WHEN crashes = 0 OR phase NOT IN ('scheduled', 'retrying', 'awaiting_limit', 'awaiting_reconnect') \
             THEN crashes + 1 ELSE crashes END, \
             wake_at = CASE WHEN wake_at < $1 THEN wake_at ELSE $1 END WHERE lease_until < $1",
            values![now],
        );
        let freed = freed.await.map_err(storage("jobs.reclaim"))?;
        if freed > 0 {
            self.backend.wake();
        }
        Ok(freed)
    }

    async fn next_due(&self, platforms: &[PlatformId]) -> Result<Vec<(PlatformId, Timestamp)>, Error> {
        let mut next = Vec::with_capacity(platforms.len());
        if platforms.is_empty() {
            return Ok(next);
        }
        let each: Vec<_> = (1..=platforms.len()).map(|n| format!("${n}")).collect();
        let each = each.iter().enumerate().map(|(place, platform)| {
            format!(
                "SELECT CAST({place} AS BIGINT), (SELECT min(wake_at) FROM deliveries \
                 WHERE platform = {platform} AND lease_until IS NULL AND wake_at IS NOT NULL)"
            )
        });
        let sql = each.collect::<Vec<_>>().join(" UNION ALL ");
        let values = platforms.iter().map(|platform| platform.as_str().into()).collect();
        let rows = self.all(sql, values, |row| Ok((row.int::<usize>()?, row.maybe_at()?))).await;
        for (place, at) in rows.map_err(storage("jobs.next_due"))? {
            if let (Some(platform), Some(at)) = (platforms.get(place), at) {
                next.push((platform.clone(), at));
            }
        }
        Ok(next)
    }

    async fn release_reconnected(&self, account: AccountId, now: Timestamp) -> Result<u64, Error> {
        let freed = self.backend.execute(
            "UPDATE deliveries SET wake_at = $2 WHERE account_id = $1 AND phase = 'awaiting_reconnect'",
            values![account.uuid(), now],
        );
        let freed = freed.await.map_err(storage("jobs.release_reconnected"))?;
        if freed > 0 {
            self.backend.wake();
        }
        Ok(freed)
    }

    async fn remote_ids(&self, account: AccountId, since: Timestamp) -> Result<Vec<String>, Error> {
        let rows = self.all(
            "SELECT remote_id, parts FROM deliveries \
             WHERE account_id = $1 AND updated_at >= $2 AND (remote_id IS NOT NULL OR parts IS NOT NULL)",
            values![account.uuid(), since],
            remote_ids,
        );
        let mut ids = rows.await.map_err(storage("jobs.remote_ids"))?.concat();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    async fn depth(&self) -> Result<Vec<(PlatformId, PhaseName, u64)>, Error> {
        let rows = self.all(DEPTH, Vec::new(), |row| Ok((row.platform()?, row.word()?, row.int()?)));
        rows.await.map_err(storage("jobs.depth"))
    }

    async fn backlog(&self, now: Timestamp) -> Result<Vec<Backlog>, Error> {
        // Two looks at partial indexes: what can be claimed, and what is held.
        let due = self.all(
            "SELECT platform, count(*), min(wake_at) FROM deliveries \
             WHERE lease_until IS NULL AND wake_at IS NOT NULL AND wake_at <= $1 GROUP BY platform ORDER BY platform",
            values![now],
            |row| Ok(Backlog { platform: row.platform()?, due: row.int()?, oldest: row.maybe_at()?, held: 0 }),
        );
        let held = self.all(
            "SELECT platform, count(*) FROM deliveries WHERE lease_until IS NOT NULL GROUP BY platform ORDER BY platform",
            Vec::new(),
            |row| Ok((row.platform()?, row.int()?)),
        );
        let mut found = due.await.map_err(storage("jobs.backlog"))?;
        for (platform, held) in held.await.map_err(storage("jobs.backlog"))? {
            match found.iter_mut().find(|one| one.platform == platform) {
                Some(one) => one.held = held,
                None => found.push(Backlog { platform, due: 0, oldest: None, held }),
            }
        }
        found.sort_by(|one, other| one.platform.cmp(&other.platform));
        Ok(found)
    }

    async fn clock_offset(&self, now: Timestamp) -> Result<SignedDuration, Error> {
        self.backend.clock_offset(now).await.map_err(storage("jobs.clock_offset"))
    }

    async fn woken(&self) {
        self.backend.woken().await;
    }
}

fn is_repeated(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

impl<B: Backend> SqlStore<B> {
    async fn restored(&self, mark: &RestoreMark) -> sqlx::Result<Restored> {
        let mut tx = self.backend.begin().await?;
        let rows = tx.fetch("SELECT created_at FROM post_logs ORDER BY seq DESC LIMIT 1".into(), Vec::new()).await?;
        let newest = rows.first().map(|row| Reader::of(row).at()).transpose()?;
        let since = mark.backup_at.or(newest).unwrap_or(mark.now);
        let rows = tx.fetch("SELECT count(*) FROM deliveries WHERE lease_until > $1".into(), values![mark.now]).await?;
        let held = rows.first().map(|row| Reader::of(row).int()).transpose()?.unwrap_or_default();
        let mut done = Restored { held, since: Some(since), ..Restored::default() };
        if held > 0 && !mark.even_if_held {
            tx.rollback().await?;
            return Ok(done);
        }
        // In this order: a row that one of them changed must not fit the next.
        let left = tx.execute(
            "UPDATE deliveries SET epoch = epoch + $3, lease_until = NULL, worker = NULL WHERE phase = 'unconfirmed' \
             OR (phase = 'scheduled' AND due_at > $1 AND lease_until IS NULL AND NOT $2)"
                .into(),
            values![mark.now, mark.all, RESTORED_EPOCHS],
        );
        done.left = left.await?;
        let in_doubt = tx.execute(
            "UPDATE deliveries SET epoch = epoch + $2, lease_until = NULL, worker = NULL, wake_at = $1 WHERE phase IN ('committing', 'settling')"
                .into(),
            values![mark.now, RESTORED_EPOCHS],
        );
        done.in_doubt = in_doubt.await?;
        let to_look = tx.execute(
            concat!(
                "UPDATE deliveries SET epoch = epoch + $5, lease_until = NULL, worker = NULL, wake_at = $1, committing_since = CASE \
                 WHEN committing_since < $3 AND ($4 OR committing_since < due_at) THEN committing_since \
                 WHEN $4 OR due_at > $3 THEN $3 ELSE due_at END \
                 WHERE (due_at <= $1 OR phase <> 'scheduled' OR lease_until IS NOT NULL OR $2) AND ",
                waiting_phases!()
            )
            .into(),
            values![mark.now, mark.all, since, mark.backup_at.is_some(), RESTORED_EPOCHS],
        );
        done.to_look = to_look.await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Writes a batch of which a part is in the history already. That happens when the answer to a commit was lost and the caller, who
    /// must get its writes through, repeats them: those that are there have counted, and only the others are left to be written.
    async fn record_again(&self, writes: &[PhaseWrite], error: sqlx::Error) -> sqlx::Result<Vec<Held>> {
        let (mut counted, mut rest) = (Vec::with_capacity(writes.len()), Vec::new());
        for write in writes {
            let log = &write.log;
            let same = self.fetch(
                "SELECT 1 FROM deliveries d JOIN post_logs l ON l.user_id = d.user_id AND l.id = $2 \
                 WHERE d.id = $1 AND l.delivery_id = d.id AND l.event = $3 AND l.created_at = $4",
                values![write.delivery.uuid(), log.id.uuid(), log.event.as_str(), log.at],
            );
            let there = !same.await?.is_empty();
            counted.push(there);
            if !there {
                rest.push(write.clone());
            }
        }
        if rest.len() == writes.len() {
            return Err(error);
        }
        let mut left = if rest.is_empty() { Vec::new() } else { self.backend.record(&rest).await? }.into_iter();
        let answer = |there: bool| if there { Some(Held::Yes) } else { left.next() };
        Ok(counted.into_iter().map(answer).map(|held| held.unwrap_or(Held::Lost)).collect())
    }
}

fn remote_ids<R: crate::row::Columns>(row: &mut Reader<'_, R>) -> sqlx::Result<Vec<String>> {
    let whole = row.maybe_text()?;
    let parts: Vec<RemotePost> = match row.maybe_text()? {
        Some(parts) => {
            serde_json::from_str(&parts).map_err(|_| unreadable("the parts of a delivery have another shape"))?
        }
        None => Vec::new(),
    };
    let parts = parts.into_iter().filter_map(|part| part.id).map(|id| id.as_str().to_owned());
    Ok(whole.into_iter().chain(parts).collect())
}

/// Takes a delivery that cannot be read out of the queue, where it would be in the way for ever. What may be public already needs a person,
/// the rest has failed.
fn set_aside(scrap: &Scrap, why: &'static str, now: Timestamp) -> PhaseWrite {
    let visible = scrap.phase.is_none_or(PhaseName::may_be_visible) || scrap.committing_since.is_some();
    let (phase, event) =
        if visible { (PhaseName::Unconfirmed, Event::CannotTell) } else { (PhaseName::Failed, Event::FailedForGood) };
    let error = Error::new(ErrorKind::Storage, "jobs.claim_due").message(why).retry(Retry::Never);
    PhaseWrite {
        delivery: scrap.id,
        epoch: scrap.epoch,
        phase,
        checkpoint: scrap.checkpoint.clone(),
        remote: None,
        part: None,
        attempt: scrap.attempt,
        crashes: scrap.crashes,
        wake_at: None,
        due_at: None,
        committing_since: scrap.committing_since,
        error: ErrorPatch::Set(json(&error)),
        lease: LeaseAfter::Release,
        log: LogEntry {
            id: LogId::new(),
            event: event.name().to_owned(),
            success: Some(false),
            response: serde_json::json!({ "reason": why }),
            at: now,
        },
    }
}

/// The status of a post with one delivery in that phase.
pub(crate) fn status_alone(phase: PhaseName) -> &'static str {
    PostStatus::of([phase]).as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_can_be_canceled() {
        for phase in PhaseName::ALL {
            let listed = waiting_phases!().contains(&format!("'{phase}'"));
            assert_eq!(listed, phase.can_cancel(), "{phase}");
        }
    }
}
