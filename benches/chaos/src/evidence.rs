//! What the sandbox saw and what the store says, side by side.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::Value;
use social_core::{
    Phase, PhaseName, PostId,
    store::{LogFilter, PageRequest, PostFilter},
};

use crate::{Failure, load::Marker, stage::Stage};

/// Operations that the public sees.
pub const VISIBLE: [&str; 2] = ["posts.create", "comments.create"];
const PAGE: usize = 200;

/// Everything that the checker judges.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What was wanted, and what the store says became of it.
    pub deliveries: Vec<Delivered>,
    /// What became visible, in order.
    pub objects: Vec<Object>,
    /// How many requests for each part of a visible call reached the network, whatever became of them.
    pub received: BTreeMap<Marker, u64>,
    /// Deliveries in the store that nobody planned.
    pub strangers: usize,
}

/// One delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivered {
    /// Which post of the run.
    pub number: usize,
    /// On which network.
    pub platform: String,
    /// The account's id there.
    pub author: String,
    /// How many visible objects it was to become.
    pub parts: usize,
    /// How many files its first part carries.
    pub media: usize,
    /// When it was due.
    pub due: Timestamp,
    /// Where it stands.
    pub phase: PhaseName,
    /// The ids that it claims, in order; `None` where the network told none.
    pub claimed: Vec<Option<String>>,
    /// Its history, oldest first.
    pub history: Vec<Row>,
}

/// One row of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What happened.
    pub event: String,
    /// Whether it was a success.
    pub success: Option<bool>,
    /// The id on the network that it tells of.
    pub remote_id: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// One visible object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// On which network.
    pub platform: String,
    /// Whose.
    pub author: String,
    /// Its id.
    pub id: String,
    /// What its text says it is; `None` for something that no post of the run says.
    pub marker: Option<Marker>,
    /// How many files it carries.
    pub media: usize,
    /// What it answers.
    pub in_reply_to: Option<String>,
    /// When it appeared.
    pub created_at: Timestamp,
    /// Whether it was taken away again.
    pub deleted: bool,
}

/// Asks store and sandbox.
pub(crate) async fn collect(stage: &Stage) -> Result<Evidence, Failure> {
    let (store, user) = (stage.social().store(), stage.user());
    let mut histories: HashMap<_, Vec<Row>> = HashMap::new();
    let mut page = PageRequest { after: None, limit: PAGE };
    loop {
        let rows = store.logs(user, &LogFilter::default(), &page).await?;
        for row in rows.items {
            let remote_id = row.response.get("remote_id").and_then(Value::as_str).map(str::to_owned);
            let history = Row { event: row.event, success: row.success, remote_id, at: row.created_at };
            histories.entry(row.delivery).or_default().push(history);
        }
        match rows.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    // They came latest first.
    histories.values_mut().for_each(|rows| rows.reverse());

    let planned: HashMap<PostId, _> = stage.planned().into_iter().map(|planned| (planned.post, planned)).collect();
    let mut evidence = Evidence::default();
    let mut page = PageRequest { after: None, limit: PAGE };
    loop {
        let posts = store.posts(user, &PostFilter::default(), &page).await?;
        for (post, deliveries) in posts.items {
            for delivery in deliveries {
                let Some(planned) = planned.get(&post.id).filter(|planned| planned.delivery == delivery.id) else {
                    evidence.strangers += 1;
                    continue;
                };
                let place = stage.places().get(planned.place).ok_or("a place that is gone")?;
                let mut claimed: Vec<_> = delivery.parts.iter().map(|part| &part.id).collect();
                if let (Phase::Published { remote }, true) = (&delivery.phase, claimed.is_empty()) {
                    claimed.push(&remote.id);
                }
                let claimed = claimed.into_iter().map(|id| id.as_ref().map(|id| id.as_str().to_owned())).collect();
                evidence.deliveries.push(Delivered {
                    number: planned.number,
                    platform: delivery.platform.to_string(),
                    author: place.account.profile.remote_id.clone(),
                    parts: planned.shape.parts(),
                    media: planned.shape.media(),
                    // As it was planned: trying again moves the time in the store.
                    due: planned.due,
                    phase: delivery.phase.name(),
                    claimed,
                    history: histories.remove(&delivery.id).unwrap_or_default(),
                });
            }
        }
        match posts.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    evidence.deliveries.sort_by_key(|delivery| delivery.number);

    evidence.objects = stage.sandbox().ledger().await?.into_iter().map(object).collect();
    for request in stage.sandbox().requests().await? {
        if VISIBLE.contains(&&*request.operation)
            && let Some(marker) = request.body.as_deref().and_then(Marker::find)
        {
            *evidence.received.entry(marker).or_default() += 1;
        }
    }
    Ok(evidence)
}

fn object(entry: social_sandbox::LedgerEntry) -> Object {
    Object {
        platform: entry.platform.into_owned(),
        author: entry.account.to_string(),
        id: entry.id.to_string(),
        marker: Marker::find(&entry.text),
        media: entry.media.len(),
        in_reply_to: entry.in_reply_to.map(|id| id.to_string()),
        created_at: entry.created_at,
        deleted: entry.deleted_at.is_some(),
    }
}
