//! Live changes as server-sent events: a tail of the history, so that a client that was away misses nothing.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State as Extract,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use social_core::{LogId, UserId, store::LogRow};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    caller::{Caller, Scope},
    listeners::{Full, Listening},
    problem::Problem,
    state::State,
};

/// However quiet it is, a listener looks for itself this often.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often it is asked whether the key is still good.
const KEY_EVERY: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const AT_ONCE: usize = 200;

/// One change of a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// Its id: what `Last-Event-ID` takes.
    id: Uuid,
    /// Of which post.
    post_id: Uuid,
    /// Of which delivery.
    delivery_id: Uuid,
    /// On which network.
    platform: String,
    /// What happened, such as `committing`, `published`, `edited`.
    event: String,
    /// Where the delivery stood then; null for what changes no phase.
    phase: Option<&'static str>,
    /// Whether it was a success; null for what is neither.
    success: Option<bool>,
    /// Attempts used by then.
    attempt: u32,
    /// What belongs to it; null for what says it all by its name.
    #[schema(value_type = Option<Object>)]
    response: Value,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<LogRow> for EventView {
    fn from(row: LogRow) -> Self {
        Self {
            id: row.id.uuid(),
            post_id: row.post.uuid(),
            delivery_id: row.delivery.uuid(),
            platform: row.platform.to_string(),
            phase: phase_after(&row.event),
            event: row.event,
            success: row.success,
            attempt: row.attempt,
            response: row.response,
            created_at: row.created_at,
        }
    }
}

/// The phase to which an event leads.
fn phase_after(event: &str) -> Option<&'static str> {
    Some(match event {
        "scheduled" | "edited" => "scheduled",
        "started" | "progressed" | "part_published" => "preparing",
        "prepared" | "permit_returned" | "proven_absent" => "ready",
        "committing" | "reply_lost" | "still_unknown" => "committing",
        "accepted" => "settling",
        "published" => "published",
        "retrying" | "reconnected" | "retry_requested" | "part_resolved" | "resolved_resend" => "retrying",
        "awaiting_limit" => "awaiting_limit",
        "awaiting_reconnect" => "awaiting_reconnect",
        "failed" | "resolved_failed" => "failed",
        "unconfirmed" => "unconfirmed",
        "missed" => "missed",
        "canceled" => "canceled",
        _ => return None,
    })
}

/// Follows the changes of the caller's deliveries. `Last-Event-ID` goes on where an earlier connection ended.
#[utoipa::path(get, path = "/events", tag = "posts",
    params(("Last-Event-ID" = Option<Uuid>, Header, description = "Go on behind this event")),
    responses((status = 200, description = "Events named `delivery` with an EventView as data.", content_type = "text/event-stream", body = EventView)),
    security(("key" = [])))]
pub(crate) async fn stream(
    Extract(state): Extract<State>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = caller.may(Scope::PostsRead)?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).filter(|raw| !raw.is_empty());
    let last = last.map(|raw| {
        raw.parse::<LogId>().map_err(|_| {
            Problem::field(
                "last_event_id",
                "Last-Event-ID",
                "this is no id of an event",
                "Leave the header out to begin now.",
            )
        })
    });
    // A fresh id stands for the present instant: ids sort by the time of their making.
    let after = last.transpose()?.unwrap_or_else(LogId::new);
    let place = state.listeners.enter(&state, user).map_err(|full| match full {
        Full::User => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_listeners",
            "this user follows events too often at once",
        )
        .advice("Please close another window.")
        .retry_after(10),
        Full::Server => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_listeners", "too many follow events at once")
                .advice("Too many people are watching right now. Please try again in a moment.")
                .retry_after(10)
        }
    })?;
    let tail = Tail { state, caller, user, after, waiting: VecDeque::new(), place };
    let events = stream::unfold(tail, |mut tail| async move {
        let event = tail.next().await?;
        Some((Ok::<_, Infallible>(event), tail))
    });
    let mut response =
        Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here")).into_response();
    // Proxies that collect answers would collect for ever.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

struct Tail {
    state: State,
    caller: Caller,
    user: UserId,
    after: LogId,
    waiting: VecDeque<LogRow>,
    place: Listening,
}

impl Tail {
    async fn next(&mut self) -> Option<Event> {
        let stopping = self.state.stopping.clone();
        let mut quiet = tokio::time::Instant::now();
        loop {
            // A key that was deleted or has ended is told nothing more.
            if stopping.is_cancelled() || !self.caller.still(Scope::PostsRead, &self.state).await {
                return None;
            }
            if let Some(row) = self.waiting.pop_front() {
                self.after = row.id;
                let id = row.id.to_string();
                return Event::default().id(id).event("delivery").json_data(EventView::from(row)).ok();
            }
            match self.state.store().logs_since(self.user, Some(self.after), AT_ONCE).await {
                Ok(rows) => self.waiting.extend(rows),
                Err(error) => tracing::warn!(%error, "the history could not be followed; looking again"),
            }
            while self.waiting.is_empty() && quiet.elapsed() < LOOK_EVERY {
                tokio::select! {
                    () = self.place.news() => break,
                    () = tokio::time::sleep(KEY_EVERY) => {}
                    () = stopping.cancelled() => return None,
                }
                if !self.caller.still(Scope::PostsRead, &self.state).await {
                    return None;
                }
            }
            quiet = tokio::time::Instant::now();
        }
    }
}
