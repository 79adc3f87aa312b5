//! What came out.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::check::Verdict;

/// What came out of one scenario.
#[derive(Debug, Default)]
pub struct Outcome {
    violations: Vec<String>,
    figures: Map<String, Value>,
}

impl Outcome {
    /// Takes over what the checker found.
    #[must_use]
    pub fn of(verdict: Verdict) -> Self {
        let mut outcome = Self::default();
        outcome.take(verdict);
        outcome
    }

    /// Adds what the checker found.
    pub fn take(&mut self, verdict: Verdict) {
        self.violations.extend(verdict.violations.iter().map(ToString::to_string));
        if let Ok(Value::Object(figures)) = serde_json::to_value(verdict.figures) {
            self.figures.extend(figures);
        }
    }

    /// Adds a number worth knowing.
    pub fn figure(&mut self, name: &str, value: impl Serialize) {
        self.figures.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }

    /// Demands something beyond the checker's rules; `otherwise` says what was seen.
    pub fn demand(&mut self, held: bool, otherwise: impl FnOnce() -> String) {
        if !held {
            self.violations.push(otherwise());
        }
    }

    /// What was broken.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Whether everything held.
    #[must_use]
    pub fn held(&self) -> bool {
        self.violations.is_empty()
    }

    /// One entry of the summary.
    #[must_use]
    pub fn entry(&self, name: &str, took: Duration) -> Value {
        // A flood of the same violation says no more than its first ones.
        let shown: Vec<_> = self.violations.iter().take(20).collect();
        json!({
            "scenario": name,
            "held": self.held(),
            "violations": shown,
            "violated": self.violations.len(),
            "figures": self.figures,
            "seconds": seconds(took),
        })
    }
}

/// Seconds with one decimal.
#[must_use]
pub fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 10.0).round() / 10.0
}
