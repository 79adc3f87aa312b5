//! The shared part of the rate ledger.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Map, MemoryStore, Set, dump_debug};
use crate::{
    error::Error,
    rate::{BucketDelta, BucketState},
    store::RateStore,
};

/// Buckets by key, with the time of their last change.
#[derive(Debug, Default)]
pub(super) struct Rates(Map<String, (Timestamp, BucketState)>);

impl Rates {
    pub(super) fn dump(&self, out: &mut String) {
        self.0.values().for_each(|row| dump_debug(out, row));
    }
}

#[async_trait]
impl RateStore for MemoryStore {
    async fn exchange_rates(
        &self,
        deltas: &[BucketDelta],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<BucketState>, Error> {
        let rates = &mut self.state().rates.0;
        for delta in deltas {
            let (changed, current) = rates.remove(&delta.key).unzip();
            // A worker whose clock is behind must not hide a change from those who asked since.
            let changed = changed.map_or(now, |changed| changed.max(now));
            rates.insert(delta.key.clone(), (changed, BucketState::apply(current, delta)));
        }
        let touched: Set<&str> = deltas.iter().map(|delta| delta.key.as_str()).collect();
        let told = rates.iter().filter(|(key, (changed, _))| *changed >= since || touched.contains(key.as_str()));
        Ok(told.map(|(_, (_, state))| state.clone()).collect())
    }

    async fn buckets(&self, keys: &[String]) -> Result<Vec<BucketState>, Error> {
        let state = self.state();
        Ok(keys.iter().filter_map(|key| state.rates.0.get(key)).map(|(_, state)| state.clone()).collect())
    }

    async fn begin_probe(&self, key: &str, now: Timestamp, until: Timestamp) -> Result<bool, Error> {
        let mut state = self.state();
        let Some((changed, bucket)) = state.rates.0.get_mut(key) else { return Ok(true) };
        let Some(blocked_until) = bucket.blocked_until else { return Ok(true) };
        if blocked_until > now {
            return Ok(false);
        }
        bucket.blocked_until = Some(until);
        *changed = now.max(*changed);
        Ok(true)
    }
}
