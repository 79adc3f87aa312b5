//! Posts and their history.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Hashed, Map, MemoryStore, Set, State, dump_bytes, dump_debug, invalid_cursor, jobs::Row, page_of, read_cursor,
    taken, write_cursor,
};
use crate::{
    draft::Draft,
    error::Error,
    id::{AccountId, DeliveryId, LogId, PostId, UserId},
    phase::Phase,
    store::{
        Delivery, Edit, Epoch, Insert, LogEntry, LogFilter, LogRow, NewPost, Page, PageRequest, Post, PostFilter,
        PostStatus, PostStore,
    },
};

#[derive(Debug, Default)]
pub(super) struct Posts {
    rows: Map<PostId, PostRow>,
    by_time: Set<(UserId, Timestamp, PostId)>,
    by_key: Map<(UserId, String), (PostId, [u8; 32])>,
    /// Deleted on their networks, by whom and when.
    deleted: Map<DeliveryId, (UserId, Timestamp)>,
}

#[derive(Debug)]
struct PostRow {
    /// Its draft is empty: see below.
    head: Post,
    /// Shared with every claim of a delivery.
    draft: Arc<Draft>,
    deliveries: Vec<DeliveryId>,
}

impl Posts {
    pub(super) fn draft(&self, post: PostId) -> Option<Arc<Draft>> {
        self.rows.get(&post).map(|row| Arc::clone(&row.draft))
    }

    fn of_user(&self, user: UserId, id: PostId) -> Option<&PostRow> {
        self.rows.get(&id).filter(|row| row.head.user == user)
    }

    pub(super) fn dump(&self, out: &mut String) {
        self.rows.values().for_each(|row| dump_debug(out, row));
        for ((user, key), (post, fingerprint)) in &self.by_key {
            dump_debug(out, &(user, key, post));
            dump_bytes(out, "fingerprint", fingerprint);
        }
    }
}

#[derive(Debug)]
pub(super) struct LogRecord {
    user: UserId,
    row: LogRow,
}

impl LogRecord {
    pub(super) fn new(of: &Delivery, attempt: u32, id: LogId, entry: &LogEntry) -> Self {
        let row = LogRow {
            id,
            post: of.post,
            delivery: of.id,
            platform: of.platform.clone(),
            event: entry.event.clone(),
            success: entry.success,
            attempt,
            response: entry.response.clone(),
            created_at: entry.at,
        };
        Self { user: of.user, row }
    }
}

/// The history in the order of writing; places in it are cursors.
#[derive(Debug, Default)]
pub(super) struct Logs {
    rows: Vec<LogRecord>,
    places: Hashed<LogId, usize>,
    by_user: Set<(UserId, usize)>,
}

impl Logs {
    /// Adds rows, all or none: `false` if an id is taken.
    pub(super) fn append(&mut self, rows: Vec<LogRecord>) -> bool {
        let fresh: Set<_> = rows.iter().map(|record| record.row.id).collect();
        if fresh.len() < rows.len() || fresh.iter().any(|id| self.places.contains_key(id)) {
            return false;
        }
        for record in rows {
            let place = self.rows.len();
            self.places.insert(record.row.id, place);
            self.by_user.insert((record.user, place));
            self.rows.push(record);
        }
        true
    }

    /// Whether a user's history has a row with this id.
    pub(super) fn has(&self, user: UserId, id: LogId) -> bool {
        self.places.get(&id).and_then(|place| self.rows.get(*place)).is_some_and(|record| record.user == user)
    }

    /// Forgets the oldest rows. Their places stay taken: places are cursors.
    pub(super) fn forget(&mut self, before: Timestamp, limit: u64) -> u64 {
        let mut forgotten = 0;
        for (place, record) in self.rows.iter_mut().enumerate() {
            if forgotten == limit {
                break;
            }
            if record.row.created_at < before && self.by_user.remove(&(record.user, place)) {
                self.places.remove(&record.row.id);
                record.row.response = serde_json::Value::Null;
                forgotten += 1;
            }
        }
        forgotten
    }

    /// When the newest row was written.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.rows.last().map(|record| record.row.created_at)
    }

    /// Whether exactly this change is in the history already.
    pub(super) fn tells(&self, delivery: DeliveryId, entry: &LogEntry) -> bool {
        let known = self.places.get(&entry.id).and_then(|place| self.at(*place));
        known.is_some_and(|row| row.delivery == delivery && row.event == entry.event && row.created_at == entry.at)
    }

    fn at(&self, place: usize) -> Option<&LogRow> {
        self.rows.get(place).map(|record| &record.row)
    }

    pub(super) fn dump(&self, out: &mut String) {
        self.rows.iter().for_each(|row| dump_debug(out, row));
    }
}

impl State {
    fn whole(&self, row: &PostRow) -> (Post, Vec<Delivery>) {
        let post = Post { draft: Draft::clone(&row.draft), ..row.head.clone() };
        (post, self.deliveries(row).cloned().collect())
    }

    fn deliveries(&self, row: &PostRow) -> impl Iterator<Item = &Delivery> {
        row.deliveries.iter().filter_map(|id| self.jobs.get(*id)).map(|row| &row.delivery)
    }

    fn matches(&self, row: &PostRow, filter: &PostFilter) -> bool {
        let status = || PostStatus::of(self.deliveries(row).map(|delivery| delivery.phase.name()));
        filter
            .platform
            .as_ref()
            .is_none_or(|platform| self.deliveries(row).any(|delivery| delivery.platform == *platform))
            && filter.account.is_none_or(|account| self.deliveries(row).any(|delivery| delivery.account == account))
            && filter.status.is_none_or(|wanted| status() == wanted)
    }

    /// Why a post cannot be stored, if it cannot.
    fn refuses(&self, new: &NewPost) -> Option<&'static str> {
        let ids: Set<_> = new.deliveries.iter().map(|delivery| delivery.id).collect();
        let foreign = |id: AccountId| self.accounts.get(id).is_none_or(|account| account.user != new.post.user);
        match () {
            () if new.deliveries.is_empty() => Some("a post needs a delivery"),
            () if self.posts.rows.contains_key(&new.post.id) => Some("a post with this id exists"),
            () if ids.len() < new.deliveries.len() || ids.iter().any(|id| self.jobs.get(*id).is_some()) => {
                Some("a delivery with this id exists")
            }
            () if new.deliveries.iter().any(|delivery| foreign(delivery.account)) => {
                Some("the user has no such account")
            }
            () => None,
        }
    }
}

/// Back to the beginning, for another text or time.
fn schedule_again(row: &mut Row, edit: &Edit) {
    row.revoke();
    let delivery = &mut row.delivery;
    delivery.phase = Phase::Scheduled;
    (delivery.attempt, delivery.crashes) = (0, 0);
    delivery.due_at = edit.scheduled_at;
    delivery.wake_at = Some(edit.scheduled_at);
    delivery.committing_since = None;
    delivery.error = None;
    delivery.updated_at = edit.now;
}

fn without_draft(post: &Post) -> Post {
    Post {
        draft: Draft::default(),
        id: post.id,
        user: post.user,
        scheduled_at: post.scheduled_at,
        wall: post.wall.clone(),
        created_at: post.created_at,
        updated_at: post.updated_at,
    }
}

#[async_trait]
impl PostStore for MemoryStore {
    async fn insert_post(&self, new: &NewPost) -> Result<Insert, Error> {
        let mut state = self.state();
        let post = &new.post;
        let key = new.idempotency.as_ref().map(|(key, fingerprint)| ((post.user, key.clone()), *fingerprint));
        if let Some((key, fingerprint)) = &key {
            match state.posts.by_key.get(key) {
                Some((id, same)) if same == fingerprint => return Ok(Insert::Existing(*id)),
                Some(_) => return Ok(Insert::KeyConflict),
                None => {}
            }
        }
        if let Some(reason) = state.refuses(new) {
            return Err(taken("posts.insert", reason));
        }
        let deliveries = new.scheduled();
        let begun = |delivery: &Delivery| {
            let at = post.created_at;
            let entry =
                LogEntry { id: LogId::new(), event: "scheduled".into(), success: None, response: Value::Null, at };
            LogRecord::new(delivery, 0, entry.id, &entry)
        };
        if !state.logs.append(deliveries.iter().map(begun).collect()) {
            return Err(taken("posts.insert", "a row of the history with this id exists"));
        }
        let row = PostRow {
            head: without_draft(post),
            draft: Arc::new(post.draft.clone()),
            deliveries: deliveries.iter().map(|delivery| delivery.id).collect(),
        };
        state.posts.rows.insert(post.id, row);
        state.posts.by_time.insert((post.user, post.scheduled_at, post.id));
        if let Some((key, fingerprint)) = key {
            state.posts.by_key.insert(key, (post.id, fingerprint));
        }
        deliveries.into_iter().for_each(|delivery| state.jobs.put(Row::new(delivery)));
        drop(state);
        self.wake();
        Ok(Insert::Stored)
    }

    async fn post(&self, user: UserId, id: PostId) -> Result<Option<(Post, Vec<Delivery>)>, Error> {
        let state = self.state();
        Ok(state.posts.of_user(user, id).map(|row| state.whole(row)))
    }

    async fn posts(
        &self,
        user: UserId,
        filter: &PostFilter,
        page: &PageRequest,
    ) -> Result<Page<(Post, Vec<Delivery>)>, Error> {
        let after = read_cursor('p', page, "posts.list")?;
        let state = self.state();
        let (first, last) = (PostId::from_uuid(Uuid::nil()), PostId::from_uuid(Uuid::max()));
        let all = state.posts.by_time.range((user, Timestamp::MIN, first)..=(user, Timestamp::MAX, last)).rev();
        let rows = all
            .filter(|(_, at, id)| after.is_none_or(|after| (*at, id.uuid()) < after))
            .filter(|(_, at, _)| filter.from.is_none_or(|from| *at >= from) && filter.to.is_none_or(|to| *at < to))
            .filter_map(|(_, at, id)| Some((*at, state.posts.rows.get(id)?)))
            .filter(|(_, row)| state.matches(row, filter))
            .map(|(at, row)| (write_cursor('p', at, row.head.id.uuid()), row));
        let page = page_of(rows, page.limit);
        Ok(Page { items: page.items.into_iter().map(|row| state.whole(row)).collect(), next: page.next })
    }

    async fn delivery(&self, user: UserId, id: DeliveryId) -> Result<Option<Delivery>, Error> {
        Ok(self.state().jobs.get(id).filter(|row| row.delivery.user == user).map(|row| row.delivery.clone()))
    }

    async fn edit_post(&self, user: UserId, edit: &Edit) -> Result<bool, Error> {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(post) = state.posts.rows.get_mut(&edit.post).filter(|row| row.head.user == user) else {
            return Ok(false);
        };
        let seen: Map<DeliveryId, Epoch> = edit.seen.iter().copied().collect();
        let mut rows: Vec<Row> = post.deliveries.iter().filter_map(|id| state.jobs.get(*id)).cloned().collect();
        let editable = rows.iter().map(|row| &row.delivery).all(|delivery| {
            // The owner keeps its epoch while it writes, so the epoch alone would let an edit win over a visible call.
            let invisible = delivery.phase.name().can_cancel() && delivery.parts.is_empty();
            invisible && seen.get(&delivery.id) == Some(&delivery.epoch)
        });
        if !editable || seen.len() != rows.len() {
            return Ok(false);
        }
        rows.iter_mut().for_each(|row| schedule_again(row, edit));
        let ids = std::iter::once(edit.log.id).chain(std::iter::repeat_with(LogId::new));
        let logs = rows
            .iter()
            .zip(ids)
            .map(|(row, id)| LogRecord::new(&row.delivery, row.delivery.attempt, id, &edit.log))
            .collect();
        if !state.logs.append(logs) {
            return Err(taken("posts.edit", "a row of the history with this id exists"));
        }
        state.posts.by_time.remove(&(user, post.head.scheduled_at, edit.post));
        state.posts.by_time.insert((user, edit.scheduled_at, edit.post));
        post.draft = Arc::new(edit.draft.clone());
        post.head.scheduled_at = edit.scheduled_at;
        post.head.wall.clone_from(&edit.wall);
        post.head.updated_at = edit.now;
        rows.into_iter().for_each(|row| state.jobs.put(row));
        drop(guard);
        self.wake();
        Ok(true)
    }

    async fn logs(&self, user: UserId, filter: &LogFilter, page: &PageRequest) -> Result<Page<LogRow>, Error> {
        let before = match &page.after {
            None => usize::MAX,
            Some(raw) => {
                let place = raw.strip_prefix('l').and_then(|place| place.parse().ok());
                place.ok_or_else(|| invalid_cursor("logs.list"))?
            }
        };
        let state = self.state();
        let rows = state.logs.by_user.range((user, 0)..(user, before)).rev();
        let rows = rows.filter_map(|(_, place)| Some((*place, state.logs.at(*place)?))).filter(|(_, row)| {
            filter.post.is_none_or(|post| row.post == post)
                && filter.delivery.is_none_or(|delivery| row.delivery == delivery)
                && filter.platform.as_ref().is_none_or(|platform| row.platform == *platform)
                && filter.success.is_none_or(|success| row.success == Some(success))
        });
        Ok(page_of(rows.map(|(place, row)| (format!("l{place}"), row.clone())), page.limit))
    }

    async fn logs_since(&self, user: UserId, after: Option<LogId>, limit: usize) -> Result<Vec<LogRow>, Error> {
        let Some(after) = after else { return Ok(Vec::new()) };
        let state = self.state();
        let place = state.logs.places.get(&after).copied();
        let rows = state.logs.by_user.range((user, place.map_or(0, |place| place + 1))..=(user, usize::MAX));
        let rows = rows.filter_map(|(_, place)| state.logs.at(*place));
        // An id that no row has is a time: ids sort by the time of their making.
        Ok(rows.filter(|row| place.is_some() || row.id > after).take(limit).cloned().collect())
    }

    async fn append_log(&self, delivery: DeliveryId, entry: &LogEntry) -> Result<(), Error> {
        let mut guard = self.state();
        let State { jobs, logs, .. } = &mut *guard;
        let Some(row) = jobs.get(delivery) else {
            return Err(taken("logs.append", "there is no such delivery"));
        };
        let record = LogRecord::new(&row.delivery, row.delivery.attempt, entry.id, entry);
        if logs.append(vec![record]) {
            Ok(())
        } else {
            Err(taken("logs.append", "a row of the history with this id exists"))
        }
    }

    async fn note_deletion(&self, delivery: DeliveryId, entry: &LogEntry) -> Result<bool, Error> {
        let mut guard = self.state();
        let State { jobs, logs, posts, .. } = &mut *guard;
        let Some(row) = jobs.get(delivery) else { return Ok(false) };
        if posts.deleted.contains_key(&delivery) {
            return Ok(false);
        }
        let record = LogRecord::new(&row.delivery, row.delivery.attempt, entry.id, entry);
        if !logs.append(vec![record]) {
            return Err(taken("posts.note_deletion", "a row of the history with this id exists"));
        }
        posts.deleted.insert(delivery, (row.delivery.user, entry.at));
        Ok(true)
    }

    async fn deletions(&self, user: UserId, deliveries: &[DeliveryId]) -> Result<Vec<(DeliveryId, Timestamp)>, Error> {
        let state = self.state();
        let found = deliveries.iter().filter_map(|id| {
            let (owner, at) = state.posts.deleted.get(id)?;
            (*owner == user).then_some((*id, *at))
        });
        Ok(found.collect())
    }
}
