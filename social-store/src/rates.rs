//! The shared part of the rate ledger.

use async_trait::async_trait;
use jiff::Timestamp;
use social_core::{
    error::Error,
    rate::{BucketDelta, BucketState},
    store::RateStore,
};

use crate::backend::{Backend, SqlStore};

#[async_trait]
impl<B: Backend> RateStore for SqlStore<B> {
    async fn exchange_rates(&self, _deltas: &[BucketDelta], _since: Timestamp, _now: Timestamp) -> Result<Vec<BucketState>, Error> {
        Ok(Vec::new())
    }
}
