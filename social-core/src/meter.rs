//! What is counted, for operators. Handles are kept, so that counting costs no allocation and no search in the recorder.

use std::{
    array,
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use metrics::{Counter, Histogram};

use crate::{error::Operation, id::PlatformId, phase::PhaseName};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds, in buckets.
    Seconds,
    /// Numbers of things, in buckets.
    Sizes,
}

/// One metric. Names and labels are public: hosts build dashboards on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const DELIVERIES: &str = "social_deliveries_total";
const EVENTS: &str = "social_delivery_events_total";
const LATENESS: &str = "social_lateness_seconds";
const CALLS: &str = "social_call_seconds";
const REFRESHES: &str = "social_token_refreshes_total";
const LOST: &str = "social_connections_lost_total";
const NOTICES: &str = "social_connection_notices_total";
const SPILLED: &str = "social_spilled_total";
const SPILL_FAILURES: &str = "social_spill_failures_total";
const REPLAYED: &str = "social_spill_replayed_total";
const STORE: &str = "social_store_seconds";
const BATCH: &str = "social_journal_batch_size";
const RETRIES: &str = "social_journal_retries_total";
const RECLAIMED: &str = "social_reclaimed_total";
const LAST_CLAIM: &str = "social_worker_last_claim_timestamp_seconds";

/// All that the engine counts through the `metrics` facade.
pub const METRICS: &[Metric] = &[
    Metric {
        name: DELIVERIES,
        kind: Kind::Counter,
        labels: &["platform", "outcome"],
        help: "Deliveries that ended, or went to a person (unconfirmed).",
    },
    Metric {
        name: EVENTS,
        kind: Kind::Counter,
        labels: &["platform", "event"],
        help: "Durable changes of deliveries, by the event that the history names.",
    },
    Metric {
        name: LATENESS,
        kind: Kind::Seconds,
        labels: &["platform"],
        help: "How late the first visible call of a delivery began after its time.",
    },
    Metric {
        name: CALLS,
        kind: Kind::Seconds,
        labels: &["operation", "status"],
        help: "How long calls to networks took, by class of status; none means that no answer came.",
    },
    Metric {
        name: REFRESHES,
        kind: Kind::Counter,
        labels: &["platform", "outcome"],
        help: "Refreshes of tokens: ok, or the kind of error.",
    },
    Metric {
        name: LOST,
        kind: Kind::Counter,
        labels: &["platform"],
        help: "Connections that need a person to connect again.",
    },
    Metric {
        name: NOTICES,
        kind: Kind::Counter,
        labels: &["platform", "days"],
        help: "Connections that cannot be refreshed and end within 14, 7 or 1 days, each said once.",
    },
    Metric {
        name: SPILLED,
        kind: Kind::Counter,
        labels: &[],
        help: "Outcomes and tokens that were kept on disk because the database was away.",
    },
    Metric {
        name: SPILL_FAILURES,
        kind: Kind::Counter,
        labels: &[],
        help: "Outcomes and tokens for which that failed too: they are in memory only.",
    },
    Metric {
        name: REPLAYED,
        kind: Kind::Counter,
        labels: &["outcome"],
        help: "Outcomes that were kept on disk and written when the database was back.",
    },
    Metric {
        name: STORE,
        kind: Kind::Seconds,
        labels: &["operation"],
        help: "How long the worker waited for the store: claim_due, next_due, journal, renew. Failures included.",
    },
    Metric { name: BATCH, kind: Kind::Sizes, labels: &[], help: "Changes that were written in one transaction." },
    Metric {
        name: RETRIES,
        kind: Kind::Counter,
        labels: &[],
        help: "Batches of changes that the store did not take and that were, in part, tried again.",
    },
    Metric {
        name: RECLAIMED,
        kind: Kind::Counter,
        labels: &[],
        help: "Deliveries that were freed because the worker which held them is gone.",
    },
    Metric {
        name: LAST_CLAIM,
        kind: Kind::Gauge,
        labels: &[],
        help: "When this worker last got an answer to the question what is due, in seconds since 1970.",
    },
];

/// Values by key, made once.
pub(crate) struct Cached<K, V>(RwLock<HashMap<K, V>>);

impl<K: Eq + Hash + Clone, V: Clone> Cached<K, V> {
    pub(crate) fn of(&self, key: &K, make: impl FnOnce() -> V) -> V {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        known.unwrap_or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            all.entry(key.clone()).or_insert_with(make).clone()
        })
    }
}

impl<K, V> Default for Cached<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K, V> fmt::Debug for Cached<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").finish_non_exhaustive()
    }
}

/// What is counted about deliveries.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    platforms: Cached<PlatformId, Arc<PlatformMeter>>,
}

impl Meter {
    pub(crate) fn of(&self, platform: &PlatformId) -> Arc<PlatformMeter> {
        self.platforms.of(platform, || Arc::new(PlatformMeter::new(platform)))
    }
}

/// The same for one network.
pub(crate) struct PlatformMeter {
    platform: PlatformId,
    lateness: Histogram,
    ended: [OnceLock<Counter>; PhaseName::ALL.len()],
    events: Cached<&'static str, Counter>,
}

impl PlatformMeter {
    fn new(platform: &PlatformId) -> Self {
        Self {
            platform: platform.clone(),
            lateness: metrics::histogram!(LATENESS, "platform" => platform.to_string()),
            ended: array::from_fn(|_| OnceLock::new()),
            events: Cached::default(),
        }
    }

    pub(crate) fn late(&self, by: Duration) {
        self.lateness.record(by.as_secs_f64());
    }

    /// A durable change, to a phase in which the delivery may have ended.
    pub(crate) fn changed(&self, event: &'static str, to: PhaseName) {
        let platform = || self.platform.to_string();
        self.events.of(&event, || metrics::counter!(EVENTS, "platform" => platform(), "event" => event)).increment(1);
        if to.is_final() || to == PhaseName::Unconfirmed {
            let place = self.ended.get(to as usize);
            let made = || metrics::counter!(DELIVERIES, "platform" => platform(), "outcome" => to.as_str());
            place.map_or_else(made, |place| place.get_or_init(made).clone()).increment(1);
        }
    }
}

impl fmt::Debug for PlatformMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlatformMeter").field("platform", &self.platform).finish_non_exhaustive()
    }
}

/// What is counted about calls to networks.
#[derive(Debug, Default)]
pub(crate) struct CallMeter {
    operations: Cached<Operation, Arc<[OnceLock<Histogram>; 6]>>,
}

impl CallMeter {
    /// A call that took so long; without a status, no answer came.
    pub(crate) fn took(&self, operation: &Operation, status: Option<u16>, elapsed: Duration) {
        let class = status.map_or(0, |status| usize::from(status / 100).min(5));
        let classes = self.operations.of(operation, || Arc::new(array::from_fn(|_| OnceLock::new())));
        let name = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"][class];
        classes[class]
            .get_or_init(|| metrics::histogram!(CALLS, "operation" => operation.as_str().to_owned(), "status" => name))
            .record(elapsed.as_secs_f64());
    }
}

/// A refresh that was asked for.
pub(crate) fn refreshed(platform: &PlatformId, outcome: &'static str) {
    metrics::counter!(REFRESHES, "platform" => platform.to_string(), "outcome" => outcome).increment(1);
}

/// A connection that needs a person.
pub(crate) fn connection_lost(platform: &PlatformId) {
    metrics::counter!(LOST, "platform" => platform.to_string()).increment(1);
}

/// A person was told that a connection ends.
pub(crate) fn noticed(platform: &PlatformId, days: u64) {
    metrics::counter!(NOTICES, "platform" => platform.to_string(), "days" => days.to_string()).increment(1);
}

/// What the store did not take is on disk.
pub(crate) fn spilled(records: usize) {
    metrics::counter!(SPILLED).increment(records as u64);
}

/// What the store did not take could not be kept on disk either.
pub(crate) fn spill_failed() {
    metrics::counter!(SPILL_FAILURES).increment(1);
}

/// What was kept on disk is in the store.
pub(crate) fn replayed(outcome: PhaseName) {
    metrics::counter!(REPLAYED, "outcome" => outcome.as_str()).increment(1);
}

/// An answer of the store, or that none came. Per batch, not per post.
pub(crate) fn store_took(operation: &'static str, elapsed: Duration) {
    metrics::histogram!(STORE, "operation" => operation).record(elapsed.as_secs_f64());
}

/// A batch of changes that was written.
pub(crate) fn journal_wrote(changes: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a batch has some hundred changes")]
    metrics::histogram!(BATCH).record(changes as f64);
}

/// A batch of changes that was not written.
pub(crate) fn journal_failed() {
    metrics::counter!(RETRIES).increment(1);
}

/// Deliveries of dead workers that were freed.
pub(crate) fn reclaimed(number: u64) {
    metrics::counter!(RECLAIMED).increment(number);
}

/// The store said what is due.
pub(crate) fn claimed(now: jiff::Timestamp) {
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit exactly")]
    metrics::gauge!(LAST_CLAIM).set(now.as_second() as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_for_a_key() {
        let cached = Cached::default();
        assert_eq!((cached.of(&1, || "a"), cached.of(&1, || "b"), cached.of(&2, || "c")), ("a", "a", "c"));
    }

    #[test]
    fn names_say_what_kind_they_are() {
        for metric in METRICS {
            let Metric { name, kind, .. } = metric;
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(*kind != Kind::Seconds || name.ends_with("_seconds"), "{name}");
            assert_eq!(METRICS.iter().filter(|other| other.name == *name).count(), 1, "{name}");
        }
    }
}
