//! Temporary.
use std::time::Duration;
use serde::{Deserialize, Serialize};
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateScope { App, Connection, Account }
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind { Fixed, Day }
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateRule { pub name: String, pub per: RateScope, pub operations: Vec<String>, pub amount: u32, pub window: Duration, pub kind: WindowKind }
#[derive(Debug, Clone)]
pub struct BucketDelta;
#[derive(Debug, Clone)]
pub struct BucketState;
