//! Accounts and the grants through which they are reached.

use axum::{Json, extract::State as Extract};
use social_core::{AccountId, AccountStatus, ConnectionId};
use uuid::Uuid;

use crate::{
    body::Id,
    caller::{Caller, Scope},
    problem::Problem,
    state::State,
    views::{AccountView, ConnectionView, DisconnectedView, Page},
};

/// Lists the accounts of the caller.
#[utoipa::path(get, path = "/accounts", tag = "accounts", responses((status = 200, body = Page<AccountView>)), security(("key" = [])))]
pub(crate) async fn list(Extract(state): Extract<State>, caller: Caller) -> Result<Json<Page<AccountView>>, Problem> {
    let user = caller.may(Scope::AccountsRead)?;
    let connections = state.store().connections(user).await?;
    let accounts = state.store().accounts(user).await?;
    let view = |account: social_core::Account| {
        let connection = connections.iter().find(|connection| connection.id == account.connection);
        AccountView::new(account, connection)
    };
    Ok(Json(Page::whole(accounts.into_iter().map(view).collect())))
}

async fn one(state: &State, caller: &Caller, id: Uuid) -> Result<AccountView, Problem> {
    let account = state.store().account(caller.user(), AccountId::from_uuid(id)).await?;
    let account = account.filter(|account| account.status != AccountStatus::Disconnected);
    let account = account.ok_or_else(Problem::not_found)?;
    let connections = state.store().connections(caller.user()).await?;
    let connection = connections.iter().find(|connection| connection.id == account.connection);
    Ok(AccountView::new(account, connection))
}

/// Shows an account.
#[utoipa::path(get, path = "/accounts/{id}", tag = "accounts", params(("id" = Uuid, Path, description = "Which account")),
    responses((status = 200, body = AccountView)), security(("key" = [])))]
pub(crate) async fn show(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<AccountView>, Problem> {
    caller.may(Scope::AccountsRead)?;
    one(&state, &caller, id).await.map(Json)
}

/// Disconnects an account. The grant behind it is revoked and erased unless other accounts use it.
#[utoipa::path(delete, path = "/accounts/{id}", tag = "accounts", params(("id" = Uuid, Path, description = "Which account")),
    responses((status = 200, body = DisconnectedView)), security(("key" = [])))]
pub(crate) async fn disconnect(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<DisconnectedView>, Problem> {
    let user = caller.may(Scope::AccountsWrite)?;
    let gone = state.social.disconnect(user, AccountId::from_uuid(id)).await?;
    Ok(Json(DisconnectedView { disconnected: true, erased: gone.erased, revoked: gone.revoked }))
}

/// Renews the tokens behind an account now, unless they are less than a minute old.
#[utoipa::path(post, path = "/accounts/{id}/refresh", tag = "accounts", params(("id" = Uuid, Path, description = "Which account")),
    responses((status = 200, body = AccountView), (status = 409, description = "The person has to connect again.")), security(("key" = [])))]
pub(crate) async fn refresh(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<AccountView>, Problem> {
    caller.may(Scope::AccountsWrite)?;
    let account = one(&state, &caller, id).await?;
    state.social.refresh(caller.user(), ConnectionId::from_uuid(account.connection_id)).await?;
    one(&state, &caller, id).await.map(Json)
}

/// Lists the grants of the caller, with what was asked for and what was given.
#[utoipa::path(get, path = "/connections", tag = "accounts", responses((status = 200, body = Page<ConnectionView>)), security(("key" = [])))]
pub(crate) async fn connections(
    Extract(state): Extract<State>,
    caller: Caller,
) -> Result<Json<Page<ConnectionView>>, Problem> {
    let user = caller.may(Scope::AccountsRead)?;
    let accounts = state.store().accounts(user).await?;
    let connections = state.store().connections(user).await?;
    let views = connections.into_iter().map(|connection| ConnectionView::new(connection, &accounts));
    Ok(Json(Page::whole(views.collect())))
}

/// Revokes a grant at the network, erases its tokens, and disconnects all of its accounts.
#[utoipa::path(delete, path = "/connections/{id}", tag = "accounts", params(("id" = Uuid, Path, description = "Which grant")),
    responses((status = 200, body = DisconnectedView)), security(("key" = [])))]
pub(crate) async fn revoke(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<DisconnectedView>, Problem> {
    let user = caller.may(Scope::AccountsWrite)?;
    let gone = state.social.revoke(user, ConnectionId::from_uuid(id)).await?;
    Ok(Json(DisconnectedView { disconnected: true, erased: gone.erased, revoked: gone.revoked }))
}
