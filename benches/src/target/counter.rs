//! What a target remembers of posts.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::spread::{ms, percentile};

/// What a target has seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Posts that were made.
    pub posts: u64,
    /// Those of them whose `id=` was seen before.
    pub duplicates: u64,
    /// Those of them that came before their `due=`.
    pub early: u64,
    /// Lateness in milliseconds: half of the posts were no later.
    pub p50_ms: f64,
    /// 99 of 100 were no later.
    pub p99_ms: f64,
    /// None was later.
    pub max_ms: f64,
    /// Bytes of files that were uploaded.
    pub media_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counter {
    posts: u64,
    duplicates: u64,
    ids: HashSet<u64>,
    late_us: Vec<i64>,
}

impl Counter {
    pub(super) fn posts(&self) -> u64 {
        self.posts
    }

    /// Notes a post that arrived at that instant. Answers with its number.
    pub(super) fn note(&mut self, body: &str, arrived_us: i64) -> u64 {
        self.posts += 1;
        if let Some(id) = number(body, "id=") {
            self.duplicates += u64::from(!self.ids.insert(id));
        }
        if let Some(due) = number(body, "due=").and_then(|due| i64::try_from(due).ok()) {
            self.late_us.push(arrived_us - due);
        }
        self.posts
    }

    pub(super) fn seen(&mut self) -> Seen {
        self.late_us.sort_unstable();
        let at = |part| ms(percentile(&self.late_us, part));
        Seen {
            posts: self.posts,
            duplicates: self.duplicates,
            early: self.late_us.partition_point(|late| *late < 0) as u64,
            p50_ms: at(0.50),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            media_bytes: 0,
        }
    }
}

/// The number behind the first `name` that is a word of its own.
fn number(text: &str, name: &str) -> Option<u64> {
    let (place, _) = text
        .match_indices(name)
        .find(|(place, _)| !text[..*place].ends_with(|c: char| c.is_alphanumeric() || c == '_'))?;
    let rest = &text[place + name.len()..];
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::fill;

    fn body(text: &str) -> String {
        serde_json::json!({ "text": text }).to_string()
    }

    #[test]
    fn what_the_programs_write_is_what_the_target_reads() {
        let due = Timestamp::from_microsecond(1_795_000_000_000_123).unwrap();
        let body = body(&fill::text(42, due));
        assert_eq!(number(&body, "id="), Some(42));
        assert_eq!(number(&body, "due="), Some(1_795_000_000_000_123));
    }

    #[test]
    fn a_number_is_found_at_either_end_and_only_as_a_word() {
        assert_eq!(number(r#"{"text":"id=7"}"#, "id="), Some(7));
        assert_eq!(number("paid=3 _id=4 id=5", "id="), Some(5));
        assert_eq!(number("id=5 id=6", "id="), Some(5));
        assert_eq!(number("id=", "id="), None);
        assert_eq!(number("id=x", "id="), None);
        assert_eq!(number("id=99999999999999999999", "id="), None, "larger than any number of ours");
        assert_eq!(number("", "id="), None);
    }

    #[test]
    fn a_post_that_comes_again_is_a_duplicate() {
        let mut counter = Counter::default();
        for id in [1, 2, 1, 3, 1] {
            counter.note(&body(&format!("hello, id={id}")), 0);
        }
        counter.note(&body("no number"), 0);
        counter.note(&body("no number"), 0);
        let seen = counter.seen();
        assert_eq!((seen.posts, seen.duplicates), (7, 2));
        assert_eq!(counter.posts(), 7);
    }

    #[test]
    fn lateness_is_arrival_minus_due_and_early_is_counted() {
        let mut counter = Counter::default();
        for (due, arrived) in [(1_000, 3_500), (2_000, 2_000), (5_000, 4_999)] {
            counter.note(&body(&format!("id={due} due={due}")), arrived);
        }
        let seen = counter.seen();
        assert_eq!((seen.early, seen.p50_ms, seen.max_ms), (1, 0.0, 2.5));
    }
}
