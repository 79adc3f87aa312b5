//! Daily counters per member and app, and a burst guard. LinkedIn tells nothing about them before they are used up.

use super::errors;
use crate::answer::Answer;
use crate::clock::SECOND;
use crate::oauth::Grant;
use crate::settings::Settings;
use std::collections::HashMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    Member(usize, usize),
    App(usize),
    Burst(usize, usize),
}

#[derive(Debug, Default)]
pub(super) struct Throttle(HashMap<(&'static str, Owner), (i64, u64)>);

impl Throttle {
    /// Counts one call, or refuses it without counting.
    pub(super) fn count(
        &mut self,
        settings: &Settings,
        operation: &'static str,
        grant: &Grant,
        now: i64,
    ) -> Result<(), Answer> {
        let day = now / (86_400 * SECOND);
        let minute = now / (60 * SECOND);
        let (member, app) = match operation {
            "posts.create" => (settings.linkedin_member_posts_per_day, settings.linkedin_app_posts_per_day),
            _ => (settings.linkedin_member_calls_per_day, settings.linkedin_app_calls_per_day),
        };
        let person = (grant.app, grant.persona);
        let counters = [
            ("", Owner::Burst(person.0, person.1), minute, settings.linkedin_burst_per_minute, "throttle"),
            (operation, Owner::App(grant.app), day, app, "throttle APPLICATION DAY"),
            (operation, Owner::Member(person.0, person.1), day, member, "throttle MEMBER DAY"),
        ];
        for (operation, owner, period, limit, name) in counters {
            let (counted, used) = self.0.get(&(operation, owner)).copied().unwrap_or((period, 0));
            if counted == period && used >= limit {
                let message = format!("Resource level {name} limit for calls to this resource is reached.");
                return Err(errors::numbered(429, 101, "TOO_MANY_REQUESTS", &message));
            }
        }
        for (operation, owner, period, _, _) in counters {
            let counter = self.0.entry((operation, owner)).or_insert((period, 0));
            if counter.0 != period {
                *counter = (period, 0);
            }
            counter.1 += 1;
        }
        Ok(())
    }
}
