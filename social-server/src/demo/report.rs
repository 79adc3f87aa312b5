//! What became of it: our own word beside the networks' ledger.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{name_of, plan::Ended};
use crate::cli::say;

/// One delivery as it ended.
#[derive(Debug)]
struct Row {
    platform: String,
    account: String,
    kind: String,
    flavor: &'static str,
    post_id: String,
    phase: String,
    permalink: Option<String>,
    /// The objects that the network must hold, one for each part.
    remote_ids: Vec<String>,
    problem: Option<String>,
}

/// What was published where, and whether the networks hold each of it exactly once.
#[derive(Debug)]
pub struct Summary {
    rows: Vec<Row>,
    ledger: BTreeMap<String, usize>,
    missing: Vec<String>,
    surplus: Vec<String>,
    elapsed: Duration,
}

impl Summary {
    pub(super) fn new(ended: &[Ended], ledger: &Value, elapsed: Duration) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut rows = Vec::new();
        for Ended { planned, post } in ended {
            for delivery in post["deliveries"].as_array().into_iter().flatten() {
                let id = delivery["id"].as_str().unwrap_or_default();
                let Some(place) = planned.place_of(id) else { continue };
                let parts = delivery["parts"].as_array().filter(|parts| !parts.is_empty());
                let remote_ids = match parts {
                    Some(parts) => parts.iter().map(|part| text(&part["remote_id"])).collect(),
                    None => vec![text(&delivery["remote_id"])],
                };
                rows.push(Row {
                    platform: place.platform.clone(),
                    account: name_of(place),
                    kind: place.kind.clone(),
                    flavor: planned.flavor,
                    post_id: planned.id.clone(),
                    phase: text(&delivery["phase"]),
                    permalink: delivery["permalink"].as_str().map(str::to_owned),
                    remote_ids,
                    problem: delivery["error"]["advice"].as_str().map(str::to_owned),
                });
            }
        }
        // Every object that we say is out must be there once, and nothing else.
        let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
        let mut total: BTreeMap<String, usize> = BTreeMap::new();
        for entry in ledger["entries"].as_array().into_iter().flatten() {
            let platform = text(&entry["platform"]);
            *total.entry(platform.clone()).or_default() += 1;
            *counts.entry((platform, text(&entry["id"]))).or_default() += 1;
        }
        for row in rows.iter().filter(|row| row.phase == "published") {
            for id in &row.remote_ids {
                *counts.entry((row.platform.clone(), id.clone())).or_default() -= 1;
            }
        }
        let named = |wanted: fn(i64) -> bool| {
            let found = counts.iter().filter(|(_, count)| wanted(**count));
            found.map(|((platform, id), _)| format!("{platform} {id}")).collect()
        };
        Self { missing: named(|count| count < 0), surplus: named(|count| count > 0), rows, ledger: total, elapsed }
    }

    /// Whether every delivery is published and the networks hold each exactly once.
    #[must_use]
    pub fn ok(&self) -> bool {
        !self.rows.is_empty()
            && self.missing.is_empty()
            && self.surplus.is_empty()
            && self.rows.iter().all(|row| row.phase == "published")
    }

    pub(super) fn print(&self) {
        say(&format!("{:<9} {:<19} {:<13} {:<9} {:<12} where", "network", "account", "kind", "post", "phase"));
        for row in &self.rows {
            let place = row.permalink.as_deref().or(row.problem.as_deref()).unwrap_or_default();
            let Row { platform, account, kind, flavor, phase, .. } = row;
            say(&format!("{platform:<9} {account:<19} {kind:<13} {flavor:<9} {phase:<12} {place}"));
        }
        say("");
        let expected: usize = self.rows.iter().map(|row| row.remote_ids.len()).sum();
        let counted = self.ledger.values().sum::<usize>();
        let seconds = self.elapsed.as_secs_f64();
        if self.ok() {
            say(&format!(
                "{} deliveries are published; the networks hold each of their {counted} objects exactly once. It took {seconds:.1} s.",
                self.rows.len()
            ));
        } else {
            say(&format!("Something is not as it should be: {expected} objects expected, {counted} there."));
            for line in &self.missing {
                say(&format!("  missing: {line}"));
            }
            for line in &self.surplus {
                say(&format!("  too many: {line}"));
            }
        }
    }

    /// The summary for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let published: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "platform": row.platform,
                    "account": row.account,
                    "kind": row.kind,
                    "flavor": row.flavor,
                    "post_id": row.post_id,
                    "permalink": row.permalink,
                    "phase": row.phase,
                    "objects": row.remote_ids.len(),
                })
            })
            .collect();
        let mut ledger = json!({
            "objects": self.ledger.values().sum::<usize>(),
            "expected": self.rows.iter().map(|row| row.remote_ids.len()).sum::<usize>(),
            "missing": self.missing,
            "surplus": self.surplus,
        });
        for (platform, count) in &self.ledger {
            ledger[platform] = json!(count);
        }
        json!({ "ok": self.ok(), "published": published, "ledger": ledger, "elapsed_s": self.elapsed.as_secs_f64() })
    }
}
