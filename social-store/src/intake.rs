//! Taking posts in: those that arrive together are stored together.

use std::{
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use social_core::store::Insert;
use tokio::sync::oneshot;

use crate::posts::StoredPost;

/// How many posts share a transaction at most, and how many bytes of drafts.
const GROUP: usize = 256;
const GROUP_BYTES: usize = 4 << 20;
/// A store that has not answered by now is treated as one that failed: a connection may be dead without anybody telling.
const PATIENCE: Duration = Duration::from_secs(35);

/// Where posts are stored.
pub(crate) trait Shelf: Debug + Send + Sync + 'static {
    /// Stores a group, or nothing of it and fails. Answers in its order what became of each.
    fn store(&self, posts: &[StoredPost]) -> impl Future<Output = sqlx::Result<Vec<sqlx::Result<Insert>>>> + Send;

    /// Whether a single post of a group may be the reason, so that each is worth a try by itself.
    fn may_be_of_one(error: &sqlx::Error) -> bool;

    /// Stores one post without standing in the way of the groups.
    fn store_alone(&self, post: &StoredPost) -> impl Future<Output = sqlx::Result<Insert>> + Send;
}

/// Takes posts in. Each commit waits for the disk, so while one is under way the next posts gather and share the one after it.
#[derive(Debug)]
pub(crate) struct Intake<S> {
    shelf: Arc<S>,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Arrival>,
    /// Whether somebody is storing what waits.
    busy: bool,
}

#[derive(Debug)]
struct Arrival {
    post: StoredPost,
    answer: oneshot::Sender<sqlx::Result<Insert>>,
}

impl<S: Shelf> Intake<S> {
    pub(crate) fn new(shelf: S) -> Self {
        Self { shelf: Arc::new(shelf), queue: Arc::default() }
    }

    pub(crate) fn shelf(&self) -> &S {
        &self.shelf
    }

    pub(crate) async fn insert(&self, post: StoredPost) -> sqlx::Result<Insert> {
        let (answer, stored) = oneshot::channel();
        if self.queue.arrive(Arrival { post, answer }) {
            // A task of its own: a caller that gives up must not take the posts of the others with it.
            let working = Working { queue: Arc::clone(&self.queue), done: false };
            tokio::spawn(store_all(Arc::clone(&self.shelf), working));
        }
        // Without an answer the task has ended with its runtime.
        stored.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a post into the queue. Answers whether somebody has to be found who stores it.
    fn arrive(&self, arrival: Arrival) -> bool {
        let mut state = self.state();
        state.waiting.push(arrival);
        !std::mem::replace(&mut state.busy, true)
    }

    /// The next posts to be stored together, without those whose callers have given up; none ends the work.
    fn next(&self) -> Vec<Arrival> {
        let mut state = self.state();
        state.waiting.retain(|arrival| !arrival.answer.is_closed());
        let mut bytes = 0;
        let fits = |arrival: &&Arrival| {
            bytes += arrival.post.draft.json.len();
            bytes <= GROUP_BYTES
        };
        let count = state.waiting.iter().take(GROUP).take_while(fits).count().max(1).min(state.waiting.len());
        state.busy = count > 0;
        state.waiting.drain(..count).collect()
    }

    fn all(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.state().waiting)
    }
}

/// Whoever stores what waits. If that ends before its work does, nobody is left waiting.
struct Working {
    queue: Arc<Queue>,
    done: bool,
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.queue.state();
            state.busy = false;
            state.waiting.clear();
        }
    }
}

async fn store_all<S: Shelf>(shelf: Arc<S>, mut working: Working) {
    loop {
        let group = working.queue.next();
        let (posts, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|arrival| (arrival.post, arrival.answer)).unzip();
        if posts.is_empty() {
            working.done = true;
            return;
        }
        let stored = tokio::time::timeout(PATIENCE, shelf.store(&posts)).await;
        match stored.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(stored) => {
                for (answer, stored) in answers.into_iter().zip(stored) {
                    let _ = answer.send(stored);
                }
            }
            Err(error) if S::may_be_of_one(&error) => {
                // It must not stand in the way of the others.
                let decided = posts.len() == 1 && breaks_a_rule(&error);
                for (answer, post) in answers.into_iter().zip(posts) {
                    if decided {
                        let _ = answer.send(Err(again(&error)));
                    } else {
                        let shelf = Arc::clone(&shelf);
                        tokio::spawn(async move { answer.send(shelf.store_alone(&post).await) });
                    }
                }
            }
            // The database is away: whoever waits is told now, and not after a time limit of his own.
            Err(error) => {
                let waiting = working.queue.all().into_iter().map(|arrival| arrival.answer);
                for answer in answers.into_iter().chain(waiting) {
                    let _ = answer.send(Err(again(&error)));
                }
            }
        }
    }
}

/// The same error for somebody else.
fn again(error: &sqlx::Error) -> sqlx::Error {
    match error {
        sqlx::Error::PoolTimedOut => sqlx::Error::PoolTimedOut,
        sqlx::Error::PoolClosed => sqlx::Error::PoolClosed,
        other => sqlx::Error::Protocol(other.to_string()),
    }
}

/// Whether a statement failed because of what it wanted to store, and not because of the database.
pub(crate) fn breaks_a_rule(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.kind() != sqlx::error::ErrorKind::Other)
}
