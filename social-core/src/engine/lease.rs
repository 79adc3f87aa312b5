//! What a worker holds, until when, and whether it should let go.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    id::DeliveryId,
    store::{Epoch, Held, Lease},
    time::Clock,
};

/// One held delivery. Its end is measured on the monotonic clock from before the claim was asked for, so it is never later than the store's.
#[derive(Debug, Clone)]
pub(crate) struct LeaseGuard {
    lease: Lease,
    ends_us: Arc<AtomicU64>,
    lost: CancellationToken,
    stop: CancellationToken,
    clock: Arc<dyn Clock>,
}

impl LeaseGuard {
    pub(crate) fn new(lease: Lease, ends: Duration, stop: CancellationToken, clock: Arc<dyn Clock>) -> Self {
        Self { lease, ends_us: Arc::new(AtomicU64::new(micros(ends))), lost: CancellationToken::new(), stop, clock }
    }

    pub(crate) fn lease(&self) -> Lease {
        self.lease
    }

    /// How long it is still ours for certain.
    pub(crate) fn remaining(&self) -> Duration {
        if self.lost.is_cancelled() {
            return Duration::ZERO;
        }
        Duration::from_micros(self.ends_us.load(Ordering::Acquire)).saturating_sub(self.clock.monotonic())
    }

    /// The worker is stopping: begin nothing new.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) async fn stop_requested(&self) {
        self.stop.cancelled().await;
    }

    /// Completes when somebody else owns the delivery.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// All that one worker holds.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<DeliveryId, LeaseGuard>>,
}

impl Leases {
    pub(crate) fn insert(&self, guard: LeaseGuard) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(guard.lease.delivery, guard);
    }

    /// Forgets a delivery, unless it was claimed again meanwhile under another epoch.
    pub(crate) fn remove(&self, delivery: DeliveryId, epoch: Epoch) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&delivery).is_some_and(|guard| guard.lease.epoch == epoch) {
            held.remove(&delivery);
        }
    }

    pub(crate) fn all(&self) -> Vec<Lease> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).values().map(|guard| guard.lease).collect()
    }

    /// Takes over what the store said to a renewal that was asked for with this end.
    pub(crate) fn renewed(&self, asked: &[Lease], answers: &[Held], ends: Duration) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (lease, answer) in asked.iter().zip(answers) {
            let Some(guard) = held.get(&lease.delivery).filter(|guard| guard.lease.epoch == lease.epoch) else {
                continue;
            };
            match answer {
                Held::Yes => guard.ends_us.store(micros(ends), Ordering::Release),
                Held::Lost => {
                    guard.lost.cancel();
                    held.remove(&lease.delivery);
                }
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
