//! Whether the database answers, and what it says about closed networks, asked at most once a second however often somebody wants to know.

use std::{sync::Arc, time::Duration};

use social_core::rate::PlatformStop;
use tokio::sync::Mutex;

use crate::state::State;

/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take to answer a probe.
const PATIENCE: Duration = Duration::from_secs(3);

/// The networks that are closed to the whole installation, or why requests cannot be served now.
type Answer = Result<Arc<[PlatformStop]>, &'static str>;

/// The last answer, and when it was given.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Option<(Duration, Answer)>>);

impl Readiness {
    /// Who asks while somebody else is asking gets the same answer.
    pub(crate) async fn check(&self, state: &State) -> Answer {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && state.monotonic().saturating_sub(*at) < FRESH
        {
            return answer.clone();
        }
        let asked = async {
            state.store().check().await?;
            state.social().stops().await
        };
        let answer = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(stops)) => Ok(stops.into()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the database does not answer");
                Err("database: it cannot be read and written")
            }
            Err(_) => Err("database: no answer in time"),
        };
        *last = Some((state.monotonic(), answer.clone()));
        answer
    }
}
