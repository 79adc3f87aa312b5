//! Whether the database answers, asked at most once a second however often somebody wants to know.

use std::time::Duration;

use tokio::sync::Mutex;

use crate::state::State;

/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take to answer a probe.
const PATIENCE: Duration = Duration::from_secs(3);

/// The last answer, and when it was given.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Option<(Duration, Result<(), &'static str>)>>);

impl Readiness {
    /// Why requests cannot be served now, if they cannot. Who asks while somebody else is asking gets the same answer.
    pub(crate) async fn check(&self, state: &State) -> Result<(), &'static str> {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = *last
            && state.monotonic().saturating_sub(at) < FRESH
        {
            return answer;
        }
        let answer = match tokio::time::timeout(PATIENCE, state.store().check()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the database does not answer");
                Err("database: it cannot be read and written")
            }
            Err(_) => Err("database: no answer in time"),
        };
        *last = Some((state.monotonic(), answer));
        answer
    }
}
