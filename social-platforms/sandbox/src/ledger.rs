//! The independent witness: every visible object that was ever created, in order.

use crate::clock::timestamp;
use crate::lock;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// One visible object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// `x`, `linkedin`.
    pub platform: Cow<'static, str>,
    /// Whose it is: an X user id, a LinkedIn person or organization URN.
    pub account: Arc<str>,
    /// The same account for people: a username or a page name.
    pub handle: Arc<str>,
    /// The network's id.
    pub id: Arc<str>,
    /// `post`, `reply`, `comment`, `repost`, `reshare`, `edit`.
    pub kind: Cow<'static, str>,
    /// What a reader sees. LinkedIn's little text is rendered, truncation included.
    pub text: Arc<str>,
    /// Attached media in order.
    pub media: Vec<LedgerMedia>,
    /// The object that this one answers, if any.
    pub in_reply_to: Option<Arc<str>>,
    /// When the effect happened.
    pub created_at: Timestamp,
    /// When it was taken away; the entry itself stays.
    pub deleted_at: Option<Timestamp>,
    /// Poll, article, reshared object and other particulars of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

/// One attached file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerMedia {
    /// The network's id of the file.
    pub id: String,
    /// `image`, `gif`, `video`, `document`.
    pub kind: String,
    /// MIME type found in the bytes.
    pub mime: String,
    /// Size of the whole file in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole file in hex, if it arrived in order.
    pub sha256: Option<String>,
    /// Description for those who do not see it.
    pub alt_text: Option<String>,
    /// Title of a video or document.
    pub title: Option<String>,
    /// Path under the sandbox where the kept bytes can be fetched.
    pub url: String,
}

/// What the networks hand over; the ledger adds nothing to it.
pub(crate) struct NewEntry {
    pub(crate) platform: &'static str,
    pub(crate) account: Arc<str>,
    pub(crate) handle: Arc<str>,
    pub(crate) id: Arc<str>,
    pub(crate) kind: &'static str,
    pub(crate) text: Arc<str>,
    pub(crate) media: Vec<LedgerMedia>,
    pub(crate) in_reply_to: Option<Arc<str>>,
    pub(crate) created_at: i64,
    pub(crate) details: Option<Value>,
}

/// Append-only; deletions and edits touch one entry by its index.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Mutex<Vec<LedgerEntry>>,
    revision: AtomicU64,
}

impl Ledger {
    /// Adds an entry and returns its index.
    pub(crate) fn append(&self, entry: NewEntry) -> usize {
        let entry = LedgerEntry {
            platform: Cow::Borrowed(entry.platform),
            account: entry.account,
            handle: entry.handle,
            id: entry.id,
            kind: Cow::Borrowed(entry.kind),
            text: entry.text,
            media: entry.media,
            in_reply_to: entry.in_reply_to,
            created_at: timestamp(entry.created_at),
            deleted_at: None,
            details: entry.details,
        };
        let mut entries = lock(&self.entries);
        entries.push(entry);
        self.revision.fetch_add(1, Ordering::Relaxed);
        entries.len() - 1
    }

    pub(crate) fn delete(&self, index: usize, at: i64) {
        if let Some(entry) = lock(&self.entries).get_mut(index) {
            entry.deleted_at.get_or_insert(timestamp(at));
            self.revision.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Replaces the text, and keeps the earlier ones under `details.earlier_texts`.
    pub(crate) fn edit_text(&self, index: usize, text: Arc<str>, at: i64) {
        if let Some(entry) = lock(&self.entries).get_mut(index) {
            let earlier = std::mem::replace(&mut entry.text, text);
            let details = entry.details.get_or_insert_with(|| Value::Object(serde_json::Map::new()));
            if let Some(map) = details.as_object_mut() {
                let list = map.entry("earlier_texts").or_insert_with(|| Value::Array(Vec::new()));
                if let Some(list) = list.as_array_mut() {
                    list.push(serde_json::json!({ "text": earlier, "until": timestamp(at) }));
                }
            }
            self.revision.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Entries from index `from` on for which `keep` holds, at most `limit`.
    pub(crate) fn entries(
        &self,
        from: usize,
        limit: usize,
        keep: impl Fn(&LedgerEntry) -> bool,
    ) -> (Vec<LedgerEntry>, usize) {
        let entries = lock(&self.entries);
        let chosen = entries.iter().skip(from).filter(|entry| keep(entry)).take(limit).cloned().collect();
        (chosen, entries.len())
    }

    /// The newest `limit` entries for which `keep` holds, newest first.
    pub(crate) fn newest(&self, limit: usize, keep: impl Fn(&LedgerEntry) -> bool) -> Vec<LedgerEntry> {
        lock(&self.entries).iter().rev().take(50_000).filter(|entry| keep(entry)).take(limit).cloned().collect()
    }

    pub(crate) fn get(&self, index: usize) -> Option<LedgerEntry> {
        lock(&self.entries).get(index).cloned()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    pub(crate) fn clear(&self) {
        lock(&self.entries).clear();
        self.revision.fetch_add(1, Ordering::Relaxed);
    }
}
