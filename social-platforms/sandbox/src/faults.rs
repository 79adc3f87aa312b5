//! Faults on demand: answers that lie, connections that break, before or after the effect.

use crate::lock;
use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether the operation takes effect although a fault is played on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Nothing has happened.
    Before,
    /// The effect is there, the answer is not. Played only on operations that succeeded.
    After,
}

/// What happens instead of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Fault {
    /// `"reset"` or `"empty"`.
    Named(NamedFault),
    /// This answer. A JSON string is sent as it is (HTML if it starts with `<`), anything else as JSON, `null` as an empty body.
    Answer {
        /// HTTP status.
        status: u16,
        /// Body.
        #[serde(default)]
        body: Value,
        /// Headers, which win over those that the body implies.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// Silence for so long, then everything goes on. `before`: if the client leaves meanwhile, nothing happens, unless `late` is set.
    Hang {
        /// Milliseconds.
        hang_ms: u64,
        /// The effect happens at the end of the silence even if the client has left.
        #[serde(default)]
        late: bool,
    },
    /// The real answer, its body dripping. The effect happens for both values of `when`.
    Slow {
        /// Bytes per second, at least 1.
        slow_bytes_per_s: u64,
    },
    /// The real answer with its full `content-length`, cut off by a reset. The effect happens for both values of `when`.
    Cut {
        /// Bytes of the body that still arrive.
        cut_after_bytes: usize,
    },
}

/// Faults without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedFault {
    /// The TCP connection is reset without an answer.
    Reset,
    /// `after`: the real status without body and without the network's headers (such as `x-restli-id`). `before`: 502 without a body.
    Empty,
}

/// A fault and when to play it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// `x`, `linkedin` or `*`.
    pub platform: String,
    /// A named operation (see `GET /_sandbox/operations`) or `*`.
    pub operation: String,
    /// Before or after the effect.
    pub when: When,
    /// What happens.
    pub fault: Fault,
    /// So many times; absent = until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// With this chance for each matching request, `0.0..=1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Seed of that chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Let so many matching requests pass first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<u64>,
    /// Only requests with a token of this account: an id or URN as in the ledger, or a persona's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

impl FaultSpec {
    /// A fault on every matching request until it is removed.
    #[must_use]
    pub fn new(platform: &str, operation: &str, when: When, fault: Fault) -> Self {
        Self {
            platform: platform.to_owned(),
            operation: operation.to_owned(),
            when,
            fault,
            times: None,
            probability: None,
            seed: None,
            skip: None,
            account: None,
        }
    }

    /// Only `times` times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// With a chance of `probability`, repeatable under `seed`.
    #[must_use]
    pub fn probability(mut self, probability: f64, seed: u64) -> Self {
        self.probability = Some(probability);
        self.seed = Some(seed);
        self
    }
}

/// A fault that is armed, with what it has done so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmedFault {
    /// For `DELETE /_sandbox/faults/{id}`.
    pub id: u64,
    /// How often it was played.
    pub hits: u64,
    /// How many matching requests it has seen.
    pub seen: u64,
    /// What was asked for.
    #[serde(flatten)]
    pub spec: FaultSpec,
}

#[derive(Debug)]
struct Slot {
    armed: ArmedFault,
    rng: Rng,
}

impl Slot {
    fn spent(&self) -> bool {
        self.armed.spec.times.is_some_and(|times| self.armed.hits >= times)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    slots: Mutex<Vec<Slot>>,
    next_id: AtomicUsize,
    armed: AtomicUsize,
}

impl Faults {
    /// False on the hot path: no fault is waiting.
    pub(crate) fn any(&self) -> bool {
        self.armed.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn arm(&self, spec: FaultSpec, default_seed: u64) -> ArmedFault {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst) as u64 + 1;
        let rng = Rng::new(spec.seed.unwrap_or(default_seed.wrapping_add(id)));
        let armed = ArmedFault { id, hits: 0, seen: 0, spec };
        let mut slots = lock(&self.slots);
        slots.push(Slot { armed: armed.clone(), rng });
        self.armed.store(slots.iter().filter(|slot| !slot.spent()).count(), Ordering::SeqCst);
        armed
    }

    /// The first fault that applies to this request; it counts as played.
    pub(crate) fn take(
        &self,
        platform: &str,
        operation: &str,
        when: When,
        is_account: impl Fn(&str) -> bool,
    ) -> Option<Fault> {
        let mut slots = lock(&self.slots);
        let mut found = None;
        for slot in slots.iter_mut() {
            let spec = &slot.armed.spec;
            let matches = spec.when == when
                && !slot.spent()
                && (spec.platform == "*" || spec.platform == platform)
                && (spec.operation == "*" || spec.operation == operation)
                && spec.account.as_deref().is_none_or(&is_account);
            if !matches {
                continue;
            }
            slot.armed.seen += 1;
            if slot.armed.seen <= spec.skip.unwrap_or(0) {
                continue;
            }
            if spec.probability.is_some_and(|chance| slot.rng.unit() >= chance) {
                continue;
            }
            slot.armed.hits += 1;
            found = Some(slot.armed.spec.fault.clone());
            break;
        }
        if found.is_some() {
            self.armed.store(slots.iter().filter(|slot| !slot.spent()).count(), Ordering::SeqCst);
        }
        found
    }

    pub(crate) fn list(&self) -> Vec<ArmedFault> {
        lock(&self.slots).iter().map(|slot| slot.armed.clone()).collect()
    }

    /// Removes one, or all with `None`; returns how many went.
    pub(crate) fn disarm(&self, id: Option<u64>) -> usize {
        let mut slots = lock(&self.slots);
        let before = slots.len();
        slots.retain(|slot| id.is_some_and(|id| slot.armed.id != id));
        self.armed.store(slots.iter().filter(|slot| !slot.spent()).count(), Ordering::SeqCst);
        before - slots.len()
    }
}
