//! The history: one row per phase change and per call that mattered.

use axum::{Json, extract::State as Extract};
use serde::Deserialize;
use social_core::{DeliveryId, PlatformId, PostId, store::LogFilter};
use utoipa::IntoParams;
use uuid::Uuid;

use super::admin::page;
use crate::{
    body::Query,
    caller::{Caller, Scope},
    problem::Problem,
    state::State,
    views::{LogView, Page},
};

/// Which rows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Only of this post.
    post_id: Option<Uuid>,
    /// Only of this delivery.
    delivery_id: Option<Uuid>,
    /// Only on this network.
    platform: Option<String>,
    /// Only successes or only failures.
    success: Option<bool>,
    /// Only what comes behind this cursor, which an earlier page gave as `next`.
    #[serde(alias = "cursor", alias = "next")]
    after: Option<String>,
    /// At most so many; 1 to 200.
    limit: Option<usize>,
}

/// Lists the history of the caller's posts, latest first.
#[utoipa::path(get, path = "/logs", tag = "posts", params(LogQuery), responses((status = 200, body = Page<LogView>)), security(("key" = [])))]
pub(crate) async fn list(
    Extract(state): Extract<State>,
    caller: Caller,
    Query(query): Query<LogQuery>,
) -> Result<Json<Page<LogView>>, Problem> {
    let user = caller.may(Scope::PostsRead)?;
    let paging = page(query.after, query.limit)?;
    let (post, delivery) = (query.post_id.map(PostId::from_uuid), query.delivery_id.map(DeliveryId::from_uuid));
    // A post that is not the caller's is not there, rather than without a history.
    if let Some(post) = post
        && state.store().post(user, post).await?.is_none()
    {
        return Err(Problem::not_found());
    }
    if let Some(delivery) = delivery
        && state.store().delivery(user, delivery).await?.is_none()
    {
        return Err(Problem::not_found());
    }
    let platform = query.platform.as_deref().map(platform_id).transpose()?;
    let filter = LogFilter { post, delivery, platform, success: query.success };
    let rows = state.store().logs(user, &filter, &paging).await?;
    Ok(Json(Page::from_store(rows, LogView::from)))
}

/// A network named in a query.
pub(crate) fn platform_id(raw: &str) -> Result<PlatformId, Problem> {
    PlatformId::parse(raw)
        .map_err(|error| Problem::field("platform_unknown", "platform", error.to_string(), "Choose another network."))
}
