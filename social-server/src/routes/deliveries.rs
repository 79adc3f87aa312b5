//! Single deliveries: what a person decides about them, and deleting them on the network.

use axum::extract::State as Extract;
use serde::{Deserialize, Serialize};
use social_core::{DeliveryId, Scheduler as _, UserId, platform::Deleted, social::Resolution, store::Delivery};
use utoipa::ToSchema;

use crate::{
    body::{Id, Json},
    caller::{Caller, Scope},
    problem::Problem,
    state::State,
    views::DeliveryView,
};

async fn view(state: &State, user: UserId, delivery: &Delivery) -> Result<axum::Json<DeliveryView>, Problem> {
    let mut view = DeliveryView::new(delivery, state.abilities()(&delivery.platform));
    note_deletions(state, user, std::iter::once(&mut view)).await?;
    Ok(axum::Json(view))
}

/// Notes which of these were deleted on their networks.
pub(crate) async fn note_deletions<'v>(
    state: &State,
    user: UserId,
    views: impl Iterator<Item = &'v mut DeliveryView>,
) -> Result<(), Problem> {
    // Only what was published can have been deleted: most lists need no second question.
    let mut out: Vec<_> = views.filter(|view| view.published_at.is_some()).collect();
    if out.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = out.iter().map(|view| DeliveryId::from_uuid(view.id)).collect();
    for (id, at) in state.store().deletions(user, &ids).await? {
        for view in out.iter_mut().filter(|view| view.id == id.uuid()) {
            view.deleted(at);
        }
    }
    Ok(())
}

/// Shows a delivery.
#[utoipa::path(get, path = "/deliveries/{id}", tag = "posts", params(("id" = Uuid, Path, description = "Which delivery")),
    responses((status = 200, body = DeliveryView)), security(("key" = [])))]
pub(crate) async fn show(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<axum::Json<DeliveryView>, Problem> {
    let user = caller.may(Scope::PostsRead)?;
    let delivery = state.social.delivery(user, DeliveryId::from_uuid(id)).await?;
    view(&state, user, &delivery).await
}

/// What a person saw on the network.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is there.
    Published,
    /// It is not there.
    NotPublished,
}

/// What to do with a post that is not there.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Then {
    /// Send it again.
    Resend,
    /// Leave it.
    Fail,
}

/// A decision about a delivery in doubt.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResolveBody {
    outcome: Outcome,
    /// Where it is, if it is there.
    #[serde(default)]
    permalink: Option<String>,
    /// What to do if it is not there.
    #[serde(default)]
    then: Option<Then>,
}

/// Decides about a delivery of which nobody can tell whether it is out. Look at the network first.
#[utoipa::path(post, path = "/deliveries/{id}/resolve", tag = "posts", params(("id" = Uuid, Path, description = "Which delivery")),
    request_body = ResolveBody,
    responses((status = 200, body = DeliveryView), (status = 409, description = "There is no doubt about it.")), security(("key" = [])))]
pub(crate) async fn resolve(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<ResolveBody>,
) -> Result<axum::Json<DeliveryView>, Problem> {
    let user = caller.may(Scope::PostsWrite)?;
    let web = |url: &String| url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    let resolution = match (body.outcome, body.permalink, body.then) {
        (Outcome::Published, permalink, None) => {
            if permalink.as_ref().is_some_and(|permalink| permalink.len() > 2048 || !web(permalink)) {
                return Err(Problem::field(
                    "link_invalid",
                    "permalink",
                    "this is not a web address",
                    "Copy the address of the post.",
                ));
            }
            Resolution::Published { permalink }
        }
        (Outcome::Published, _, Some(_)) => {
            return Err(Problem::field(
                "conflict",
                "then",
                "a published post is neither sent again nor given up",
                "Leave `then` out.",
            ));
        }
        (Outcome::NotPublished, Some(_), _) => {
            return Err(Problem::field(
                "conflict",
                "permalink",
                "what is not published has no address",
                "Leave `permalink` out.",
            ));
        }
        (Outcome::NotPublished, None, Some(Then::Resend)) => Resolution::Resend,
        (Outcome::NotPublished, None, Some(Then::Fail)) => Resolution::Fail,
        (Outcome::NotPublished, None, None) => {
            return Err(Problem::field("missing", "then", "it does not say what to do now", "Say `resend` or `fail`."));
        }
    };
    let delivery = state.social.resolve(user, DeliveryId::from_uuid(id), resolution).await?;
    view(&state, user, &delivery).await
}

/// What became of deleting.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedView {
    /// Always true: it is not there any more.
    deleted: bool,
    /// Whether it was gone before this request.
    already: bool,
}

/// Deletes a published delivery on its network, all parts of it.
#[utoipa::path(delete, path = "/deliveries/{id}/remote", tag = "posts", params(("id" = Uuid, Path, description = "Which delivery")),
    responses((status = 200, body = DeletedView), (status = 409, description = "It is not published, or its id there is not known.")),
    security(("key" = [])))]
pub(crate) async fn delete_remote(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<axum::Json<DeletedView>, Problem> {
    let user = caller.may(Scope::PostsWrite)?;
    let outcome = state.social.delete_remote(user, DeliveryId::from_uuid(id)).await?;
    Ok(axum::Json(DeletedView { deleted: true, already: outcome == Deleted::Before }))
}
