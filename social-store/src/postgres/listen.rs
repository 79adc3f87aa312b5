//! Waking workers, here and in other processes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::postgres::{PgListener, PgPool};
use tokio::{sync::Notify, task::AbortHandle};

const CHANNEL: &str = "social_wake";
/// How soon a lost connection is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Rings for workers of this process at once, and for others by `NOTIFY`.
///
/// `NOTIFY` inside the transactions that store posts would make all of them commit one after the other. So it is sent afterwards, by a
/// task of its own, one at a time: whatever rings meanwhile shares the next one. If it gets lost, the slow poll of the others finds the post.
#[derive(Debug)]
pub(super) struct Bell {
    pool: PgPool,
    /// Tells our own notifications from those of others.
    name: String,
    here: Notify,
    elsewhere: Arc<Outbox>,
    listener: Mutex<Option<AbortHandle>>,
}

#[derive(Debug, Default)]
struct Outbox {
    wanted: AtomicBool,
    sending: AtomicBool,
}

impl Bell {
    pub(super) fn new(pool: PgPool) -> Self {
        let name = uuid::Uuid::now_v7().simple().to_string();
        Self { pool, name, here: Notify::new(), elsewhere: Arc::default(), listener: Mutex::default() }
    }

    pub(super) fn ring(&self) {
        self.ring_here();
        self.elsewhere.wanted.store(true, Ordering::Release);
        if self.elsewhere.sending.swap(true, Ordering::AcqRel) {
            return;
        }
        // Without a runtime nobody can wait for an answer of the database anyway.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            self.elsewhere.sending.store(false, Ordering::Release);
            return;
        };
        runtime.spawn(send(self.pool.clone(), self.name.clone(), Arc::clone(&self.elsewhere)));
    }

    fn ring_here(&self) {
        self.here.notify_waiters();
        // And the next who asks: a worker that was busy in this moment must not miss it.
        self.here.notify_one();
    }

    /// Completes with the next ring. Processes that never wait keep no connection for it.
    pub(super) async fn wait(self: &Arc<Self>) {
        self.listen();
        self.here.notified().await;
    }

    fn listen(self: &Arc<Self>) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.as_ref().is_none_or(AbortHandle::is_finished) && !self.pool.is_closed() {
            let (pool, name, bell) = (self.pool.clone(), self.name.clone(), Arc::downgrade(self));
            let heard = move || bell.upgrade().map(|bell| bell.ring_here()).is_some();
            *listener = Some(tokio::spawn(hear(pool, name, heard)).abort_handle());
        }
    }

    pub(super) fn stop(&self) {
        if let Some(listener) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take() {
            listener.abort();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn send(pool: PgPool, name: String, outbox: Arc<Outbox>) {
    loop {
        while outbox.wanted.swap(false, Ordering::AcqRel) {
            if let Err(error) = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(&name).execute(&pool).await {
                tracing::debug!(%error, "other workers could not be woken; they look by themselves");
            }
        }
        outbox.sending.store(false, Ordering::Release);
        // Somebody may have rung between the two lines above and found us still sending.
        if !outbox.wanted.load(Ordering::Acquire) || outbox.sending.swap(true, Ordering::AcqRel) {
            return;
        }
    }
}

/// Listens until nobody is left to tell, connecting again as often as it takes.
async fn hear(pool: PgPool, name: String, heard: impl Fn() -> bool) {
    while !pool.is_closed() {
        if let Err(error) = hear_once(&pool, &name, &heard).await {
            tracing::debug!(%error, "lost the connection on which other processes wake this one");
        } else {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn hear_once(pool: &PgPool, name: &str, heard: &impl Fn() -> bool) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // Something may have happened while nobody listened.
    let mut somebody = heard();
    while somebody {
        // `None`: the connection was lost and is made anew. What was sent meanwhile is lost.
        somebody = match listener.try_recv().await? {
            Some(notification) if notification.payload() == name => true,
            Some(_) | None => heard(),
        };
    }
    Ok(())
}
