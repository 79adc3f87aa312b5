//! When the tokens of a connection are due for a refresh, and until when they can be used.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{account::Connection, time::later};

/// Least time before the end at which tokens are due, unless they live for less than twice of it.
const MARGIN_MIN: Duration = Duration::from_secs(5 * 60);
/// A token that ends sooner than this is not used for a call any more, unless it lives for less than ten times of it.
const USABLE_MIN: SignedDuration = SignedDuration::from_secs(30);

/// The life of an access token, from the facts of its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    due_at: Option<Timestamp>,
    usable_until: Timestamp,
    ends_at: Option<Timestamp>,
}

impl Life {
    pub(super) fn of(connection: &Connection) -> Self {
        let Some(ends_at) = connection.expires_at else {
            return Self { due_at: None, usable_until: Timestamp::MAX, ends_at: None };
        };
        let life = ends_at.duration_since(connection.updated_at).max(SignedDuration::ZERO);
        let least = SignedDuration::try_from(MARGIN_MIN).unwrap_or(SignedDuration::ZERO);
        let margin = (life / 10).max(least);
        // The same for everybody who asks about these tokens, different for other tokens: what was connected together is not due together.
        let jitter = margin / 5 * spread(connection) / 256;
        let margin = (margin + jitter).min(life / 2);
        Self {
            due_at: Some(later(ends_at, -margin)),
            usable_until: later(ends_at, -USABLE_MIN.min(life / 10)),
            ends_at: Some(ends_at),
        }
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.due_at.is_some_and(|at| now >= at)
    }

    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.due_at
    }

    /// Whether the token can be given out while it cannot be refreshed.
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        now < self.usable_until
    }

    pub(super) fn usable_until(&self) -> Timestamp {
        self.usable_until
    }

    pub(super) fn has_ended(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|at| now >= at)
    }

    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.ends_at
    }
}

/// 0 to 255, fixed by connection and version.
fn spread(connection: &Connection) -> i32 {
    let id = connection.id.uuid().as_u128();
    let mixed = (id as u64 ^ (id >> 64) as u64 ^ connection.version.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    i32::from((mixed >> 56) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::{ConnectionStatus, Version},
        id::{ConnectionId, PlatformId, UserId},
    };

    fn connection(life: Option<i64>) -> Connection {
        let now = Timestamp::UNIX_EPOCH;
        Connection {
            id: ConnectionId::new(),
            user: UserId::new(),
            platform: PlatformId::from_static("x"),
            preset: String::new(),
            status: ConnectionStatus::Active,
            requested_scopes: Vec::new(),
            granted_scopes: Vec::new(),
            expires_at: life.map(|life| now + SignedDuration::from_secs(life)),
            refresh_expires_at: None,
            refreshable: true,
            version: Version::FIRST,
            created_at: now,
            updated_at: now,
        }
    }

    #[test]
    fn the_margin_is_a_tenth_or_five_minutes_and_at_most_half_the_life() {
        for (life, least, most) in [
            (7200, 720, 864),
            (3600, 360, 432),
            (1200, 300, 360),
            (600, 300, 300),
            (60, 30, 30),
            (5_184_000, 518_400, 622_080),
        ] {
            for _ in 0..50 {
                let due = Life::of(&connection(Some(life))).due_at().unwrap().as_second();
                assert!((life - most..=life - least).contains(&due), "life {life}: due at {due}");
            }
        }
    }

    #[test]
    fn due_times_differ_between_connections_and_not_between_questions() {
        let due: std::collections::BTreeSet<_> = (0..50).map(|_| Life::of(&connection(Some(7200))).due_at()).collect();
        assert!(due.len() > 20, "{} different times", due.len());
        let one = connection(Some(7200));
        assert_eq!(Life::of(&one).due_at(), Life::of(&one).due_at());
    }

    #[test]
    fn a_token_without_end_is_never_due() {
        let life = Life::of(&connection(None));
        assert!(!life.is_due(Timestamp::MAX) && !life.has_ended(Timestamp::MAX));
        assert!(life.is_usable(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        for (life, usable) in [(7200, 7170), (300, 270), (60, 54), (0, 0)] {
            let life_of = Life::of(&connection(Some(life)));
            assert!(life_of.is_usable(Timestamp::from_second(usable - 1).unwrap()), "life {life}");
            assert!(!life_of.is_usable(Timestamp::from_second(usable).unwrap()), "life {life}");
        }
    }
}
