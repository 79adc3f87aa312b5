//! Taking posts in: those that arrive together are stored together.

use std::{
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use social_core::store::Insert;
use tokio::sync::oneshot;

use crate::posts::StoredPost;

/// How many posts share a transaction at most.
const GROUP: usize = 256;

/// Where posts are stored.
pub(crate) trait Shelf: Debug + Send + Sync + 'static {
    /// Stores all of them, or none and fails. Answers in their order.
    fn store(&self, posts: &[StoredPost]) -> impl Future<Output = sqlx::Result<Vec<Insert>>> + Send;
}

/// Takes posts in. Each commit waits for the disk, so while one is under way the next posts gather and share the one after it.
#[derive(Debug)]
pub(crate) struct Intake<S> {
    shelf: Arc<S>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
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
        if self.arrive(Arrival { post, answer }) {
            // A task of its own: a caller that gives up must not take the posts of the others with it.
            let other = Self { shelf: Arc::clone(&self.shelf), queue: Arc::clone(&self.queue) };
            tokio::spawn(other.store_all());
        }
        // The task ends only with the runtime.
        stored.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    /// Puts a post into the queue. Answers whether somebody has to be found who stores it.
    fn arrive(&self, arrival: Arrival) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push(arrival);
        !std::mem::replace(&mut queue.busy, true)
    }

    /// The next posts to be stored together; none ends the work.
    fn next(&self) -> Vec<Arrival> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.waiting.len().min(GROUP);
        queue.busy = count > 0;
        queue.waiting.drain(..count).collect()
    }

    async fn store_all(self) {
        loop {
            let (posts, answers): (Vec<_>, Vec<_>) =
                self.next().into_iter().map(|arrival| (arrival.post, arrival.answer)).unzip();
            if posts.is_empty() {
                return;
            }
            match self.shelf.store(&posts).await {
                Ok(inserted) => {
                    for (answer, inserted) in answers.into_iter().zip(inserted) {
                        let _ = answer.send(Ok(inserted));
                    }
                }
                // One of them breaks a rule, and it must not stand in the way of the others.
                Err(error) if posts.len() > 1 && breaks_a_rule(&error) => {
                    for (answer, post) in answers.into_iter().zip(posts.chunks(1)) {
                        let alone = self.shelf.store(post).await;
                        let _ = answer.send(
                            alone.and_then(|inserted| inserted.into_iter().next().ok_or(sqlx::Error::RowNotFound)),
                        );
                    }
                }
                Err(error) => {
                    let said = error.to_string();
                    let mut error = Some(error);
                    for answer in answers {
                        let _ = answer.send(Err(error.take().unwrap_or_else(|| sqlx::Error::Protocol(said.clone()))));
                    }
                }
            }
        }
    }
}

/// Whether a statement failed because of what it wanted to store, and not because of the database.
pub(crate) fn breaks_a_rule(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.kind() != sqlx::error::ErrorKind::Other)
}
