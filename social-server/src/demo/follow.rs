//! Live changes on the screen, from the server's own events.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{
    client::{Client, Trouble},
    plan::Planned,
    subject,
};
use crate::cli::say;

/// Prints changes until it is told to end.
#[derive(Debug)]
pub(super) struct Follower(JoinHandle<()>);

impl Follower {
    pub(super) async fn begin(client: &Client, planned: &[Planned]) -> Result<Self, Trouble> {
        let response = client.stream("/events").await?;
        let planned: Arc<[Planned]> = planned.into();
        Ok(Self(tokio::spawn(async move {
            let mut pieces = response.bytes_stream();
            let mut text = String::new();
            while let Some(Ok(piece)) = pieces.next().await {
                text.push_str(&String::from_utf8_lossy(&piece));
                while let Some((event, rest)) = text.split_once("\n\n") {
                    show(event, &planned);
                    text = rest.to_owned();
                }
            }
        })))
    }

    /// Gives the last changes a moment to arrive.
    pub(super) async fn end(self) {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        self.0.abort();
    }
}

fn show(event: &str, planned: &[Planned]) {
    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
    let Some(change) = data.and_then(|data| serde_json::from_str::<Value>(data).ok()) else { return };
    let delivery = change["delivery_id"].as_str().unwrap_or_default();
    let Some(subject) = planned.iter().find_map(|one| subject(one, delivery)) else { return };
    let time = change["created_at"].as_str().and_then(|at| at.get(11..23)).unwrap_or_default();
    let happened = change["event"].as_str().unwrap_or_default();
    let more = match change["response"]["permalink"].as_str() {
        Some(permalink) => format!("  {permalink}"),
        None => String::new(),
    };
    say(&format!("  {time:<12}  {subject}  {happened}{more}"));
}
