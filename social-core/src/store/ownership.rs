//! Who may write, as pure rules. The store in memory follows them by calling them, the databases say the same in SQL and are compared with it
//! by the suite, and the model check of the protocol explores them.

use super::{Epoch, LeaseAfter};
use crate::phase::{PhaseName, invariant};

/// What a store knows about the owner of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ownership {
    /// Counts the owners. It only grows.
    pub epoch: Epoch,
    /// Whether somebody holds it at the moment.
    pub leased: bool,
}

impl Ownership {
    /// A new owner, who holds it under a new epoch. Only what nobody holds may be claimed.
    pub fn claim(&mut self) {
        self.revoke();
        self.leased = true;
    }

    /// A new owner, or none: whoever held it loses it. A claim that is handed back, a lease that ended and a change from outside end
    /// like this.
    pub fn revoke(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.leased = false;
    }

    /// Whether the lease of that epoch is still held, so that it can be prolonged or handed back.
    #[must_use]
    pub fn is_held(&self, epoch: Epoch) -> bool {
        self.epoch == epoch && self.leased
    }

    /// Whether a write counts (invariants I3, I5, I7): only under the current epoch. A writer that goes on must besides hold the lease still,
    /// for what nobody holds is found by its wake time alone, which such a write clears. From outside the engine it counts besides only
    /// from a phase that allows it.
    #[must_use]
    pub fn counts(&self, stored: PhaseName, under: Epoch, to: PhaseName, lease: LeaseAfter) -> bool {
        self.epoch == under
            && match lease {
                LeaseAfter::Keep => self.leased,
                LeaseAfter::Release => true,
                LeaseAfter::Revoke => invariant::outside_may_change(stored, to),
            }
    }

    /// What a write that counted does to the lease.
    pub fn after(&mut self, lease: LeaseAfter) {
        match lease {
            LeaseAfter::Keep => {}
            LeaseAfter::Release => self.leased = false,
            LeaseAfter::Revoke => self.revoke(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_shuts_the_owner_before_out() {
        let mut row = Ownership { epoch: Epoch(0), leased: false };
        row.claim();
        let first = row.epoch;
        row.revoke();
        row.claim();
        assert!(row.is_held(row.epoch) && !row.is_held(first));
        assert!(!row.counts(PhaseName::Ready, first, PhaseName::Committing, LeaseAfter::Keep));
        assert!(row.counts(PhaseName::Ready, row.epoch, PhaseName::Committing, LeaseAfter::Keep));
    }

    #[test]
    fn whoever_goes_on_must_hold_it_still() {
        let mut row = Ownership { epoch: Epoch(3), leased: true };
        row.after(LeaseAfter::Release);
        assert!(!row.counts(PhaseName::Preparing, Epoch(3), PhaseName::Committing, LeaseAfter::Keep));
        assert!(row.counts(PhaseName::Preparing, Epoch(3), PhaseName::Published, LeaseAfter::Release));
    }

    #[test]
    fn a_cancel_under_the_right_epoch_loses_against_the_write_ahead() {
        let row = Ownership { epoch: Epoch(3), leased: true };
        assert!(row.counts(PhaseName::Ready, Epoch(3), PhaseName::Canceled, LeaseAfter::Revoke));
        assert!(!row.counts(PhaseName::Committing, Epoch(3), PhaseName::Canceled, LeaseAfter::Revoke));
    }
}
