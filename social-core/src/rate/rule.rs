//! Limits as networks state them, and the buckets that they give.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whom a limit counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateScope {
    /// The registered application: all users together.
    App,
    /// One grant.
    Connection,
    /// One place where posts appear.
    Account,
}

/// When a window begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind {
    /// It begins with its first use and lasts for the window's length; the network's reset time corrects it.
    Fixed,
    /// It is a day in UTC.
    Day,
}

/// One limit of a network, as its descriptor states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateRule {
    /// Unique within the network; part of stored keys.
    pub name: String,
    /// Whom it counts for.
    pub per: RateScope,
    /// The operations that use it up; empty for all.
    pub operations: Vec<String>,
    /// How much a window allows. 0 counts as 1.
    pub amount: u32,
    /// Length of the window. For [`WindowKind::Day`] it is a day whatever stands here.
    pub window: Duration,
    /// When windows begin.
    pub kind: WindowKind,
}

/// The rules that every network has besides its own. They have no amount and carry blocks.
pub(super) const THROTTLE: &str = "throttle";
pub(super) const THROTTLE_APP: &str = "throttle-app";
pub(super) const BILLING: &str = "billing";
pub(super) const CONFIG: &str = "config";

/// A rule with a subject. Cheap to clone.
#[derive(Clone)]
pub struct BucketKey {
    pub(super) rule: Arc<Rule>,
    pub(super) subject: u128,
}

impl BucketKey {
    /// The rule's name.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule.facts.name
    }

    /// Whom it counts for.
    #[must_use]
    pub fn scope(&self) -> RateScope {
        self.rule.facts.per
    }

    /// The key as a store keeps it: `platform/rule/subject`.
    #[must_use]
    pub fn text(&self) -> String {
        self.rule.text(self.subject)
    }

    pub(super) fn id(&self) -> (u32, u128) {
        (self.rule.index, self.subject)
    }

    pub(super) fn is_app_throttle(&self) -> bool {
        self.rule.amount.is_none() && self.rule.facts.name == THROTTLE_APP
    }
}

impl fmt::Debug for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketKey({})", self.text())
    }
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) platform: String,
    pub(super) facts: RateRule,
    pub(super) index: u32,
    /// Microseconds.
    pub(super) window: i64,
    /// `None` for the rules that every network has for carrying blocks.
    pub(super) amount: Option<u32>,
}

impl Rule {
    pub(super) fn text(&self, subject: u128) -> String {
        let Self { platform, facts, .. } = self;
        match facts.per {
            RateScope::App => format!("{platform}/{}/-", facts.name),
            _ => format!("{platform}/{}/{}", facts.name, Uuid::from_u128(subject)),
        }
    }

    pub(super) fn applies(&self, operation: &str) -> bool {
        self.facts.operations.is_empty() || self.facts.operations.iter().any(|name| name == operation)
    }
}
