//! Users and their keys, for whoever holds the admin key.

use axum::extract::State as Extract;
use http::{HeaderName, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use social_core::{
    UserId,
    store::{ApiKey, PageRequest, User},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    body::{Id, Json, Query},
    caller::{Admin, Authenticated, Scope},
    key::FreshKey,
    problem::Problem,
    state::State,
    views::{KeyView, Page, UserView, ViolationView},
};

/// An answer to something that was made, with where it is.
pub(crate) type Created<T> = (StatusCode, [(HeaderName, String); 1], axum::Json<T>);

/// A user to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserBody {
    /// Unique among users.
    email: String,
    /// A free word of the host.
    #[serde(default)]
    plan: Option<String>,
}

/// Makes a user.
#[utoipa::path(post, path = "/users", tag = "admin", request_body = UserBody,
    responses((status = 201, body = UserView), (status = 409, description = "The e-mail address is taken.")),
    security(("admin" = [])))]
pub(crate) async fn create_user(
    Extract(state): Extract<State>,
    _admin: Admin,
    Json(body): Json<UserBody>,
) -> Result<Created<UserView>, Problem> {
    let email = body.email.trim().to_owned();
    let shape = email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if !shape || email.len() > 254 || email.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Problem::field("email", "email", "this is not an e-mail address", "Please check the address."));
    }
    let plan = body.plan.unwrap_or_else(|| "free".to_owned());
    if plan.len() > 64 {
        return Err(Problem::field("too_long", "plan", "more than 64 bytes", "Use a shorter word."));
    }
    let user = User { id: UserId::new(), email, plan, created_at: state.now() };
    if !state.store().insert_user(&user).await? {
        return Err(Problem::new(StatusCode::CONFLICT, "email_taken", "there is a user with this e-mail address")
            .advice("This address is registered already."));
    }
    tracing::info!(user.id = %user.id, "user {} was made", user.id);
    let place = format!("/users/{}", user.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], axum::Json(user.into())))
}

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Only what comes behind this cursor, which an earlier page gave as `next`.
    #[serde(default, alias = "cursor", alias = "next")]
    pub(crate) after: Option<String>,
    /// At most so many; 1 to 200.
    #[serde(default)]
    pub(crate) limit: Option<usize>,
}

/// The page that is asked for.
pub(crate) fn page(after: Option<String>, limit: Option<usize>) -> Result<PageRequest, Problem> {
    let default = PageRequest::default();
    let limit = limit.unwrap_or(default.limit);
    if !(1..=200).contains(&limit) {
        return Err(Problem::field("limit", "limit", "the limit is not between 1 and 200", "Ask for 1 to 200."));
    }
    Ok(PageRequest { after: after.filter(|cursor| !cursor.is_empty()), limit })
}

/// Lists users in the order of their making.
#[utoipa::path(get, path = "/users", tag = "admin", params(Paging), responses((status = 200, body = Page<UserView>)),
    security(("admin" = [])))]
pub(crate) async fn list_users(
    Extract(state): Extract<State>,
    _admin: Admin,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<Page<UserView>>, Problem> {
    let page = state.store().users(&page(paging.after, paging.limit)?).await?;
    Ok(axum::Json(Page::from_store(page, UserView::from)))
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyBody {
    /// Whose it is.
    user_id: Uuid,
    /// What the user calls it.
    name: String,
    /// What it may do: `accounts:read`, `accounts:write`, `posts:read`, `posts:write`, `media:read`, `media:write`, `keys:write`. Everything if absent.
    #[serde(default)]
    scopes: Option<Vec<String>>,
    /// When it ends; never if absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// Makes a key of a user. The answer shows it once; only its hash is kept.
#[utoipa::path(post, path = "/keys", tag = "admin", request_body = KeyBody,
    responses((status = 201, body = KeyView), (status = 404, description = "There is no such user.")),
    security(("admin" = [])))]
pub(crate) async fn create_key(
    Extract(state): Extract<State>,
    _admin: Admin,
    Json(body): Json<KeyBody>,
) -> Result<Created<KeyView>, Problem> {
    let now = state.now();
    let mut wrong = Vec::new();
    let mut wrong_field = |field: String, message: &str, advice: &str| {
        wrong.push(ViolationView::error("invalid", field, message, advice));
    };
    if body.name.trim().is_empty() || body.name.len() > 200 {
        wrong_field("name".into(), "a name has 1 to 200 bytes", "Give the key a short name.");
    }
    if body.expires_at.is_some_and(|end| end <= now) {
        wrong_field("expires_at".into(), "the time has passed", "Choose a time in the future.");
    }
    let scopes = body.scopes.unwrap_or_default();
    for (index, scope) in scopes.iter().enumerate() {
        if Scope::parse(scope).is_none() {
            let known = Scope::ALL.map(Scope::as_str).join(", ");
            wrong_field(format!("scopes[{index}]"), "there is no such scope", &format!("Use one of: {known}."));
        }
    }
    if !wrong.is_empty() {
        return Err(Problem::invalid(wrong));
    }
    let user = state.store().user(UserId::from_uuid(body.user_id)).await?.ok_or_else(Problem::not_found)?;
    let fresh = FreshKey::make().ok_or_else(|| Problem::internal("a key could not be made"))?;
    let key = ApiKey {
        id: fresh.id,
        user: user.id,
        name: body.name,
        hash: fresh.hash,
        scopes,
        created_at: now,
        expires_at: body.expires_at,
        last_used_at: None,
    };
    state.store().insert_key(&key).await?;
    tracing::info!(user.id = %user.id, key.id = %key.id, "a key was made");
    let view = KeyView {
        id: key.id,
        key: fresh.key.expose().to_owned(),
        name: key.name,
        user_id: key.user.uuid(),
        scopes: key.scopes,
        expires_at: key.expires_at,
    };
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/keys/{}", key.id))], axum::Json(view)))
}

/// Ends a key at once. With a user's key, only that key itself, or with the scope `keys:write` any key of that user.
#[utoipa::path(delete, path = "/keys/{id}", tag = "admin", params(("id" = Uuid, Path, description = "The key's public part")),
    responses((status = 204, description = "It is gone.")), security(("admin" = []), ("key" = [])))]
pub(crate) async fn delete_key(
    Extract(state): Extract<State>,
    who: Authenticated,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    let key = state.store().key(id).await?.ok_or_else(Problem::not_found)?;
    if let Authenticated::User(caller) = &who
        && caller.user() != key.user
    {
        return Err(Problem::not_found());
    }
    if let Authenticated::User(caller) = &who
        && caller.key() != id
    {
        caller.may(Scope::KeysWrite)?;
    }
    state.keys.forget(id);
    if !state.store().delete_key(id).await? {
        return Err(Problem::not_found());
    }
    state.keys.forget(id);
    tracing::info!(user.id = %key.user, key.id = %id, "a key was deleted");
    Ok(StatusCode::NO_CONTENT)
}
