//! The shared part of the rate ledger.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use social_core::{
    error::Error,
    rate::{BucketDelta, BucketState},
    store::RateStore,
};

use crate::{
    backend::{Backend, SqlStore, Transaction},
    fault::storage,
    row::{Columns, Reader},
    value::values,
};

fn bucket<R: Columns>(row: &mut Reader<'_, R>) -> sqlx::Result<(String, BucketState)> {
    let key = row.text()?;
    let state = BucketState {
        key: key.clone(),
        window_start: row.at()?,
        window_end: row.at()?,
        used: row.int()?,
        limit: row.int()?,
        blocked_until: row.maybe_at()?,
    };
    Ok((key, state))
}

/// Slices of a few fixed lengths, so that few statements have to be kept prepared.
fn portions<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = [64, 8, 1].into_iter().find(|length| *length <= items.len())?;
        let (portion, rest) = items.split_at(length);
        items = rest;
        Some(portion)
    })
}

/// `count` groups of `width` numbered parameters.
fn groups(count: usize, width: usize) -> String {
    let group = |n: usize| {
        let places: Vec<_> = (n * width + 1..=(n + 1) * width).map(|place| format!("${place}")).collect();
        format!("({})", places.join(", "))
    };
    (0..count).map(group).collect::<Vec<_>>().join(", ")
}

impl<B: Backend> SqlStore<B> {
    async fn exchange(
        &self,
        deltas: &[BucketDelta],
        since: Timestamp,
        now: Timestamp,
    ) -> sqlx::Result<Vec<BucketState>> {
        let mut states = if deltas.is_empty() { BTreeMap::new() } else { self.apply(deltas, now).await? };
        let changed = self.all(
            "SELECT key, window_start, window_end, used, allowed, blocked_until FROM rate_buckets WHERE changed_at >= $1",
            values![since],
            bucket,
        );
        states.extend(changed.await?);
        Ok(states.into_values().collect())
    }

    /// A transaction beside which no other one changes buckets.
    async fn begin_alone(&self) -> sqlx::Result<B::Tx<'_>> {
        let mut tx = self.backend.begin().await?;
        if let Some(lock) = B::LOCK_RATES {
            tx.fetch(lock.into(), Vec::new()).await?;
        }
        Ok(tx)
    }

    /// Closes a bucket whose block has ended until `until`, for the one who finds out whether it is over. Not beside an exchange: that one
    /// writes back what it has read.
    async fn take_probe(&self, key: &str, now: Timestamp, until: Timestamp) -> sqlx::Result<bool> {
        let mut tx = self.begin_alone().await?;
        let taken = tx.execute(
            "UPDATE rate_buckets SET blocked_until = $3, changed_at = CASE WHEN $2 > changed_at THEN $2 ELSE changed_at END \
             WHERE key = $1 AND blocked_until <= $2"
                .into(),
            values![key, now, until],
        );
        let taken = taken.await?;
        tx.commit().await?;
        Ok(taken > 0)
    }

    /// Adds deltas to the stored buckets and answers with those.
    async fn apply(&self, deltas: &[BucketDelta], now: Timestamp) -> sqlx::Result<BTreeMap<String, BucketState>> {
        // One exchange at a time, so that what two workers add is not lost, whether or not the row was there before.
        let mut tx = self.begin_alone().await?;
        let keys: std::collections::BTreeSet<&str> = deltas.iter().map(|delta| delta.key.as_str()).collect();
        let keys: Vec<&str> = keys.into_iter().collect();
        let mut states = BTreeMap::new();
        for portion in portions(&keys) {
            let sql = format!(
                "SELECT key, window_start, window_end, used, allowed, blocked_until FROM rate_buckets WHERE key IN {}",
                groups(1, portion.len())
            );
            for row in tx.fetch(sql.into(), portion.iter().map(|key| (*key).into()).collect()).await? {
                states.extend([bucket(&mut Reader::of(&row))?]);
            }
        }
        for delta in deltas {
            let next = BucketState::apply(states.remove(&delta.key), delta);
            states.insert(delta.key.clone(), next);
        }
        let rows: Vec<&BucketState> = states.values().collect();
        for portion in portions(&rows) {
            // A worker whose clock is behind must not hide the change from those who heard of a later one.
            let sql = format!(
                "INSERT INTO rate_buckets (key, window_start, window_end, used, allowed, blocked_until, changed_at) VALUES {} \
                 ON CONFLICT (key) DO UPDATE SET window_start = excluded.window_start, window_end = excluded.window_end, \
                 used = excluded.used, allowed = excluded.allowed, blocked_until = excluded.blocked_until, \
                 changed_at = CASE WHEN excluded.changed_at > rate_buckets.changed_at THEN excluded.changed_at \
                              ELSE rate_buckets.changed_at END",
                groups(portion.len(), 7)
            );
            let values = portion.iter().flat_map(|row| {
                values![row.key.as_str(), row.window_start, row.window_end, row.used, row.limit, row.blocked_until, now]
            });
            tx.execute(sql.into(), values.collect()).await?;
        }
        tx.commit().await?;
        Ok(states)
    }
}

#[async_trait]
impl<B: Backend> RateStore for SqlStore<B> {
    async fn exchange_rates(
        &self,
        deltas: &[BucketDelta],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<BucketState>, Error> {
        self.exchange(deltas, since, now).await.map_err(storage("rates.exchange"))
    }

    async fn buckets(&self, keys: &[String]) -> Result<Vec<BucketState>, Error> {
        let mut found = Vec::new();
        for portion in portions(keys) {
            let sql = format!(
                "SELECT key, window_start, window_end, used, allowed, blocked_until FROM rate_buckets WHERE key IN {}",
                groups(1, portion.len())
            );
            let rows = self.all(sql, portion.iter().map(|key| key.as_str().into()).collect(), bucket).await;
            found.extend(rows.map_err(storage("rates.buckets"))?.into_iter().map(|(_, state)| state));
        }
        Ok(found)
    }

    async fn begin_probe(&self, key: &str, now: Timestamp, until: Timestamp) -> Result<bool, Error> {
        if self.take_probe(key, now, until).await.map_err(storage("rates.begin_probe"))? {
            return Ok(true);
        }
        let shut = self.fetch("SELECT 1 FROM rate_buckets WHERE key = $1 AND blocked_until > $2", values![key, now]);
        Ok(shut.await.map_err(storage("rates.begin_probe"))?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn parameters_are_numbered_on() {
        assert_eq!(groups(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }
}
