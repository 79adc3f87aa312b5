//! Numbers, straight from the networks that give any.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State as Extract},
};
use jiff::Timestamp;
use serde::Serialize;
use social_core::{AccountId, AccountStatus, DeliveryId, Error, ErrorKind, Phase, Platform, Scheduler as _};
use utoipa::ToSchema;

use crate::{
    body::Id,
    caller::{Caller, Scope},
    problem::Problem,
    state::State,
};

/// Numbers by name. A number that the network does not give is absent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MetricsView {
    /// Such as `impressions`, `likes`, `comments`, `shares`, `followers`.
    values: BTreeMap<String, i64>,
    /// When they were read.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

fn unsupported(platform: &dyn Platform) -> Error {
    Error::new(ErrorKind::Unsupported, "analytics")
        .message(format!("{} gives no numbers", platform.descriptor().name))
        .advice("This network gives no numbers.")
        .effect_none()
}

async fn account(state: &State, caller: &Caller, id: AccountId) -> Result<social_core::Account, Problem> {
    let found = state.store().account(caller.user(), id).await?;
    found.filter(|account| account.status != AccountStatus::Disconnected).ok_or_else(Problem::not_found)
}

/// The numbers of a published delivery.
#[utoipa::path(get, path = "/analytics/posts/{delivery_id}", tag = "analytics",
    params(("delivery_id" = Uuid, Path, description = "Which delivery")),
    responses((status = 200, body = MetricsView), (status = 422, description = "The network gives no numbers.")), security(("key" = [])))]
pub(crate) async fn of_delivery(
    Extract(state): Extract<State>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<MetricsView>, Problem> {
    let user = caller.may(Scope::PostsRead)?;
    let id: DeliveryId = id.parse().map_err(|_| Problem::not_found())?;
    let delivery = state.social.delivery(user, id).await?;
    let account = account(&state, &caller, delivery.account).await?;
    let platform = state.social.platform(&account.platform)?.clone();
    let analytics = platform.analytics().ok_or_else(|| unsupported(&*platform))?;
    let remote = match &delivery.phase {
        Phase::Published { remote } => remote.id.clone(),
        _ => None,
    };
    let remote = remote.ok_or_else(|| {
        Error::conflict("analytics", "the delivery is not published, or its id on the network is not known")
            .advice("There are no numbers for this post.")
    })?;
    let tokens = state.social.keeper().tokens(account.connection, None).await?;
    let found = analytics.posts(state.social.call_context(), &tokens, &account, &[remote]).await?;
    let found = found.into_iter().next().ok_or_else(Problem::not_found)?;
    Ok(Json(MetricsView { values: found.values, at: found.at }))
}

/// The numbers of an account.
#[utoipa::path(get, path = "/analytics/accounts/{id}", tag = "analytics", params(("id" = Uuid, Path, description = "Which account")),
    responses((status = 200, body = MetricsView), (status = 422, description = "The network gives no numbers.")), security(("key" = [])))]
pub(crate) async fn of_account(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<MetricsView>, Problem> {
    caller.may(Scope::AccountsRead)?;
    let account = account(&state, &caller, AccountId::from_uuid(id)).await?;
    let platform = state.social.platform(&account.platform)?.clone();
    let analytics = platform.analytics().ok_or_else(|| unsupported(&*platform))?;
    let tokens = state.social.keeper().tokens(account.connection, None).await?;
    let found = analytics.account(state.social.call_context(), &tokens, &account).await?;
    Ok(Json(MetricsView { values: found.values, at: found.at }))
}
