//! What workers tell each other about buckets, through a store.

use jiff::Timestamp;

/// What one worker used and learnt since it last told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketDelta {
    /// `platform/rule/subject`.
    pub key: String,
    /// When the window of these uses began.
    pub window_start: Timestamp,
    /// When it ends.
    pub window_end: Timestamp,
    /// Whether the network itself stated that end.
    pub end_is_stated: bool,
    /// Uses to add; negative when reservations were given back.
    pub used: i64,
    /// The network counts at least this many uses in the window.
    pub at_least: u32,
    /// What the window allows.
    pub limit: u32,
    /// What happened to the block.
    pub block: BlockChange,
}

/// A change of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockChange {
    /// None.
    Keep,
    /// Nobody may call before this instant.
    Until(Timestamp),
    /// A call was accepted again.
    Lift,
}

/// What all workers together know about a bucket: a row of the table `rate_buckets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketState {
    /// `platform/rule/subject`.
    pub key: String,
    /// When the window began.
    pub window_start: Timestamp,
    /// When it ends.
    pub window_end: Timestamp,
    /// Uses in it.
    pub used: u32,
    /// What it allows.
    pub limit: u32,
    /// Until when nobody may call.
    pub blocked_until: Option<Timestamp>,
}

impl BucketState {
    /// The row after a delta. Stores do the same in SQL; this is the reference.
    ///
    /// A window that begins at or after the end of the stored one replaces it; otherwise uses add up and the stored window stays,
    /// unless the network stated its end. A block only grows until it is lifted.
    #[must_use]
    pub fn apply(current: Option<Self>, delta: &BucketDelta) -> Self {
        let added = u32::try_from(delta.used.max(0)).unwrap_or(u32::MAX);
        let fresh = |blocked_until| Self {
            key: delta.key.clone(),
            window_start: delta.window_start,
            window_end: delta.window_end,
            used: added.max(delta.at_least),
            limit: delta.limit,
            blocked_until,
        };
        let mut next = match current {
            None => fresh(None),
            Some(row) if delta.window_start >= row.window_end => fresh(row.blocked_until),
            Some(mut row) => {
                let sum = i64::from(row.used).saturating_add(delta.used).max(i64::from(delta.at_least));
                row.used = u32::try_from(sum.max(0)).unwrap_or(u32::MAX);
                row.limit = row.limit.min(delta.limit);
                if delta.end_is_stated {
                    row.window_end = delta.window_end;
                }
                row
            }
        };
        next.blocked_until = match delta.block {
            BlockChange::Keep => next.blocked_until,
            BlockChange::Until(until) => Some(next.blocked_until.map_or(until, |old| old.max(until))),
            BlockChange::Lift => None,
        };
        next
    }

    pub(super) fn matters(&self, now: i64) -> bool {
        self.window_end.as_microsecond() > now || self.blocked_until.is_some_and(|until| until.as_microsecond() > now)
    }
}
