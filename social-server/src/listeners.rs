//! Who follows the history live. However many windows a user has open, one task looks for what is new and wakes them all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use social_core::{LogId, UserId};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::state::State;

/// How often the history of a user is looked at while somebody listens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 200;
const MOST_PER_USER: usize = 20;
/// All users together; each listener also holds a connection.
const MOST: usize = 2000;

/// The live streams that are open.
#[derive(Debug, Default, Clone)]
pub(crate) struct Listeners(Arc<Mutex<Crowd>>);

#[derive(Debug, Default)]
struct Crowd {
    all: usize,
    users: HashMap<UserId, Followed>,
}

#[derive(Debug)]
struct Followed {
    listeners: usize,
    news: watch::Receiver<u64>,
    /// Ends with the last listener.
    _looking: AbortOnDropHandle<()>,
}

/// A place among the listeners; given back when dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    listeners: Listeners,
    user: UserId,
    news: watch::Receiver<u64>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// This user follows too often.
    User,
    /// Too many follow in all.
    Server,
}

impl Listeners {
    /// Takes a place.
    pub(crate) fn enter(&self, state: &State, user: UserId) -> Result<Listening, Full> {
        let mut crowd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if crowd.all >= MOST {
            return Err(Full::Server);
        }
        let followed = crowd.users.entry(user).or_insert_with(|| {
            let (sender, news) = watch::channel(0);
            let looking = AbortOnDropHandle::new(tokio::spawn(look(state.clone(), user, sender)));
            Followed { listeners: 0, news, _looking: looking }
        });
        if followed.listeners >= MOST_PER_USER {
            return Err(Full::User);
        }
        followed.listeners += 1;
        let news = followed.news.clone();
        crowd.all += 1;
        Ok(Listening { listeners: self.clone(), user, news })
    }
}

impl Listening {
    /// Completes when something new may stand in the history.
    pub(crate) async fn news(&mut self) {
        if self.news.changed().await.is_err() {
            // Nobody looks any more; the listener looks for itself.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut crowd = self.listeners.0.lock().unwrap_or_else(PoisonError::into_inner);
        crowd.all = crowd.all.saturating_sub(1);
        let last = crowd.users.get_mut(&self.user).is_some_and(|followed| {
            followed.listeners = followed.listeners.saturating_sub(1);
            followed.listeners == 0
        });
        if last {
            crowd.users.remove(&self.user);
        }
    }
}

async fn look(state: State, user: UserId, news: watch::Sender<u64>) {
    // A fresh id stands for the present instant: ids sort by the time of their making.
    let mut after = LogId::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = state.stopping.cancelled() => return,
        }
        match state.store().logs_since(user, Some(after), AT_ONCE).await {
            Ok(rows) => {
                if let Some(last) = rows.last() {
                    after = last.id;
                    news.send_modify(|count| *count += 1);
                }
            }
            Err(error) => tracing::warn!(%error, "the history could not be followed; looking again"),
        }
    }
}
