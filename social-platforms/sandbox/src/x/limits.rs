//! Rate buckets of X: fixed windows per user and per app, and the headers that tell about them.

use crate::answer::{self, Answer};
use crate::clock::SECOND;
use crate::oauth::Grant;
use crate::settings::Settings;
use std::collections::HashMap;

const QUARTER: i64 = 900;
const DAY: i64 = 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    User(usize),
    App(usize),
}

#[derive(Debug, Clone, Copy)]
struct Window {
    ends: i64,
    used: u64,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    limit: u64,
    remaining: u64,
    reset_s: i64,
    daily: bool,
    refused: bool,
}

/// What the buckets say about one request.
#[derive(Debug, Default)]
pub(super) struct Rate {
    user: Option<Level>,
    app: Option<Level>,
}

impl Rate {
    pub(super) fn refused(&self) -> bool {
        [self.user, self.app].into_iter().flatten().any(|level| level.refused)
    }

    /// Adds the headers.
    pub(super) fn mark(&self, mut reply: Answer) -> Answer {
        let quarter = [self.app, self.user].into_iter().flatten().filter(|level| !level.daily);
        // The bucket that refused is the one to show; otherwise the user's.
        let shown = quarter.reduce(|app, user| if app.refused { app } else { user });
        if let Some(level) = shown {
            reply = headers(reply, "x-rate-limit", level);
        }
        if let Some(level) = self.app.filter(|level| level.daily) {
            reply = headers(reply, "x-app-limit-24hour", level);
        }
        reply
    }
}

fn headers(reply: Answer, prefix: &str, level: Level) -> Answer {
    let reply = answer::with_header(reply, &format!("{prefix}-limit"), &level.limit.to_string());
    let reply = answer::with_header(reply, &format!("{prefix}-remaining"), &level.remaining.to_string());
    answer::with_header(reply, &format!("{prefix}-reset"), &level.reset_s.to_string())
}

#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<(&'static str, Owner), Window>);

/// Amount and window in seconds, per user and per app.
type Amount = Option<(u64, i64)>;

fn amounts(settings: &Settings, operation: &str) -> (Amount, Amount) {
    let quarter = |amount| Some((amount, QUARTER));
    let day = |amount| Some((amount, DAY));
    match operation {
        "posts.create" => (quarter(settings.x_user_posts_per_15min), day(settings.x_app_posts_per_day)),
        "posts.delete" | "posts.repost" | "posts.unrepost" => (quarter(50), None),
        "posts.get" => (quarter(900), quarter(450)),
        "posts.lookup" => (quarter(5_000), quarter(3_500)),
        "posts.timeline" => (quarter(900), quarter(10_000)),
        "users.me" => (quarter(75), None),
        "users.get" => (quarter(900), quarter(300)),
        "posts.analytics" => (quarter(300), quarter(300)),
        "media.upload" | "media.metadata" => (quarter(500), day(50_000)),
        "media.status" => (quarter(1_000), day(100_000)),
        "media.initialize" | "media.append" | "media.finalize" => (quarter(1_875), day(180_000)),
        "media.subtitles" => (quarter(100), day(10_000)),
        _ => (None, None),
    }
}

impl Buckets {
    /// Counts one request in the buckets of its user and app, unless one of them is full.
    pub(super) fn count(&mut self, settings: &Settings, operation: &'static str, grant: &Grant, now: i64) -> Rate {
        let (user, app) = amounts(settings, operation);
        let keys = [(operation, Owner::User(grant.persona)), (operation, Owner::App(grant.app))];
        let full = [user, app].iter().zip(keys).any(|(amount, key)| {
            amount.is_some_and(|(limit, _)| {
                self.0.get(&key).is_some_and(|window| now < window.ends && window.used >= limit)
            })
        });
        let mut level = |amount: Amount, key| {
            let (limit, seconds) = amount?;
            let window = self.0.entry(key).or_insert(Window { ends: 0, used: 0 });
            if now >= window.ends {
                *window = Window { ends: now + seconds * SECOND, used: 0 };
            }
            let refused = window.used >= limit;
            if !full {
                window.used += 1;
            }
            Some(Level {
                limit,
                remaining: limit.saturating_sub(window.used),
                // Rounded up: a client that waits until then is not early.
                reset_s: (window.ends + SECOND - 1) / SECOND,
                daily: seconds == DAY,
                refused,
            })
        };
        Rate { user: level(user, keys[0]), app: level(app, keys[1]) }
    }
}
