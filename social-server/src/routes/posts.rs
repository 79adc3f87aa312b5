//! Posts: check, schedule, list, change, cancel, try again.

use std::{collections::BTreeMap, time::Duration};

use axum::extract::State as Extract;
use http::{HeaderMap, HeaderName, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use social_core::{
    AccountId, Draft, ErrorKind, PlatformId, PostId, Scheduler, UserId,
    social::{Change, ScheduleRequest, Scheduled},
    store::{PostFilter, PostStatus},
    time::later,
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    admin::page,
    deliveries,
    draft::{FetchedFiles, Fetching, LinkBody, MediaBody, OverrideBody, Parts, some},
    logs::platform_id,
    time::{self, When},
};
use crate::{
    body::{Id, Json, Query},
    caller::{Caller, Scope},
    idempotency,
    problem::Problem,
    state::State,
    views::{AccountTextView, Page, PostView, PreviewView, TextUseView, ViolationView},
};

/// What to publish, where and when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleBody {
    /// The text.
    #[serde(default)]
    content: String,
    /// The address of one file to fetch; the short form of `media`.
    #[serde(default)]
    media_url: Option<String>,
    /// Pictures, videos, documents, in order.
    #[serde(default)]
    media: Option<Vec<MediaBody>>,
    /// A link: shown as a card where the network has cards, else added to the text.
    #[serde(default)]
    link: Option<LinkBody>,
    /// Further parts of a thread, after `content`.
    #[serde(default)]
    thread: Option<Vec<String>>,
    /// A comment that the account puts under its own post.
    #[serde(default)]
    first_comment: Option<String>,
    /// To which accounts.
    #[serde(default)]
    accounts: Option<Vec<Uuid>>,
    /// Instead of `accounts`: to all accounts on these networks.
    #[serde(default)]
    platforms: Option<Vec<String>>,
    /// When: RFC 3339 with an offset. At once if there is no time at all.
    #[serde(default)]
    #[schema(example = "2026-11-22T09:00:00+01:00")]
    scheduled_time: Option<String>,
    /// Instead of `scheduled_time`: a wall-clock time, together with `time_zone`.
    #[serde(default)]
    #[schema(example = "2026-11-22T09:00")]
    local_time: Option<String>,
    /// The IANA zone of `local_time`.
    #[serde(default)]
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// How many seconds late it may go out before it counts as missed.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    late_limit_s: Option<LateLimit>,
    /// Settings by network.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    options: Option<BTreeMap<String, Value>>,
    /// What is different for single accounts, by their ids.
    #[serde(default)]
    overrides: Option<BTreeMap<Uuid, OverrideBody>>,
}

/// A post that was just scheduled.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduledView {
    #[serde(flatten)]
    post: PostView,
    /// What does not stop the post but deserves a look.
    warnings: Vec<ViolationView>,
}

struct Asked {
    parts: Parts,
    when: Option<When>,
    accounts: Vec<AccountId>,
    late_limit: Option<Duration>,
}

/// Seconds, as many as the document's `int64` has.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
struct LateLimit(u64);

impl TryFrom<u64> for LateLimit {
    type Error = &'static str;

    fn try_from(seconds: u64) -> Result<Self, Self::Error> {
        let fits = i64::try_from(seconds).is_ok();
        if fits { Ok(Self(seconds)) } else { Err("a late limit has at most 9223372036854775807 seconds") }
    }
}

impl ScheduleBody {
    /// Everything that can be checked without looking into files.
    async fn read(self, state: &State, user: UserId) -> Result<Asked, Problem> {
        let mut wrong = Vec::new();
        let times = [&self.scheduled_time, &self.local_time, &self.time_zone].map(Option::as_deref);
        let when = time::read(times[0], times[1], times[2]).unwrap_or_else(|violation| {
            wrong.push(*violation);
            None
        });
        let accounts = match (self.accounts, self.platforms) {
            (Some(accounts), None) => accounts.into_iter().map(AccountId::from_uuid).collect(),
            (None, Some(platforms)) => on_platforms(state, user, &platforms, &mut wrong).await?,
            (Some(_), Some(_)) => {
                let message = "both accounts and platforms are given";
                wrong.push(ViolationView::error("target_twice", "platforms", message, "Give one of them."));
                Vec::new()
            }
            (None, None) => {
                let message = "neither accounts nor platforms are given";
                wrong.push(ViolationView::error("target_missing", "accounts", message, "Choose at least one account."));
                Vec::new()
            }
        };
        if !wrong.is_empty() {
            return Err(Problem::invalid(wrong));
        }
        let parts = Parts {
            content: Some(Some(self.content)),
            media_url: self.media_url,
            media: self.media,
            link: self.link.map(Some),
            thread: self.thread,
            first_comment: self.first_comment.map(Some),
            options: self.options,
            overrides: self.overrides,
        };
        Ok(Asked {
            parts,
            when,
            accounts,
            late_limit: self.late_limit_s.map(|LateLimit(seconds)| Duration::from_secs(seconds)),
        })
    }
}

async fn on_platforms(
    state: &State,
    user: UserId,
    names: &[String],
    wrong: &mut Vec<ViolationView>,
) -> Result<Vec<AccountId>, Problem> {
    let accounts = state.store().accounts(user).await?;
    let mut chosen = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let before = chosen.len();
        chosen.extend(accounts.iter().filter(|account| account.platform.as_str() == name).map(|account| account.id));
        if chosen.len() == before {
            let field = format!("platforms[{index}]");
            let known = PlatformId::parse(name).is_ok_and(|id| state.social.platform(&id).is_ok());
            let (code, message) = if known {
                ("no_account", "no account is connected there")
            } else {
                ("platform_unknown", "this installation has no network of that name")
            };
            wrong.push(ViolationView::error(
                code,
                field,
                message,
                "Connect an account there, or choose another network.",
            ));
        }
    }
    Ok(chosen)
}

/// A post that was just scheduled, with where it is and its tag.
type ScheduledAnswer = (StatusCode, [(HeaderName, String); 2], axum::Json<ScheduledView>);

/// Schedules a post. When it answers, the post is durable: it ends as published, failed, canceled, missed or unconfirmed.
#[utoipa::path(post, path = "/post/schedule", tag = "posts", request_body = ScheduleBody,
    responses((status = 201, body = ScheduledView), (status = 404, description = "An account or a file is not there."),
        (status = 422, description = "A network would refuse the post; `violations` says why.")), security(("key" = [])))]
pub(crate) async fn schedule(
    Extract(state): Extract<State>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<ScheduleBody>,
) -> Result<ScheduledAnswer, Problem> {
    let user = caller.may(Scope::PostsWrite)?;
    // The store keeps the key in the post's own transaction: a crash before the answer is kept makes no second post.
    let key = idempotency::key(&headers)?;
    let asked = body.read(&state, user).await?;
    let mut fetched = FetchedFiles::of(&state, user);
    match store(&state, user, asked, key, &mut fetched).await {
        Ok((scheduled, warnings)) => {
            fetched.stored(&scheduled.post.draft);
            fetched.discard().await;
            let place = format!("/posts/{}", scheduled.post.id);
            let tag = tag(scheduled.post.updated_at);
            let view = ScheduledView { post: seen(&state, user, scheduled).await?, warnings };
            Ok((StatusCode::CREATED, [(header::LOCATION, place), (header::ETAG, tag)], axum::Json(view)))
        }
        Err(problem) => {
            fetched.discard().await;
            Err(problem)
        }
    }
}

async fn store(
    state: &State,
    user: UserId,
    asked: Asked,
    key: Option<String>,
    fetched: &mut FetchedFiles,
) -> Result<(Scheduled, Vec<ViolationView>), Problem> {
    let draft = asked.parts.apply(state, user, Draft::default(), &asked.accounts, Fetching::Now(fetched)).await?;
    let (at, wall) = asked.when.map(|when| (when.at, when.wall)).unzip();
    let warnings = match at {
        Some(at) => grants_that_end(state, user, &asked.accounts, at).await?,
        None => Vec::new(),
    };
    let keyed = key.is_some();
    let (accounts, late_limit) = (asked.accounts, asked.late_limit);
    let request = ScheduleRequest { user, draft, accounts, at, wall: wall.flatten(), late_limit, key };
    fetched.store_asked();
    match Scheduler::schedule(&state.social, request).await.inspect_err(|error| fetched.refused(error)) {
        Ok(scheduled) => Ok((scheduled, warnings)),
        // The post that the key made is remembered for longer than its answer.
        Err(error) if keyed && error.kind() == ErrorKind::Conflict => Err(idempotency::mismatch()),
        Err(error) => Err(error.into()),
    }
}

/// A post as it is shown, with what was deleted on the networks.
async fn seen(state: &State, user: UserId, scheduled: Scheduled) -> Result<PostView, Problem> {
    let mut views = [PostView::of(scheduled, state.abilities())];
    deliveries::note_deletions(state, user, views.iter_mut().flat_map(|view| &mut view.deliveries)).await?;
    let [view] = views;
    Ok(view)
}

/// What changes whenever the post's text or time does: for `If-Match`.
fn tag(updated_at: Timestamp) -> String {
    format!("\"{}\"", updated_at.as_microsecond())
}

/// A post with its tag.
type Tagged = ([(HeaderName, String); 1], axum::Json<PostView>);

async fn tagged(state: &State, user: UserId, scheduled: Scheduled) -> Result<Tagged, Problem> {
    let tag = tag(scheduled.post.updated_at);
    Ok(([(header::ETAG, tag)], axum::Json(seen(state, user, scheduled).await?)))
}

fn changed_meanwhile() -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", "the post has changed since it was read")
        .advice("Somebody changed this post meanwhile. Please look at it again.")
}

/// Grants that a person must renew before the post goes out. Only worth a look for what lies ahead a while.
async fn grants_that_end(
    state: &State,
    user: UserId,
    accounts: &[AccountId],
    at: Timestamp,
) -> Result<Vec<ViolationView>, Problem> {
    if at < later(state.now(), SignedDuration::from_hours(24)) {
        return Ok(Vec::new());
    }
    let connections = state.store().connections(user).await?;
    let ending = connections.iter().filter_map(|one| Some((one.id, one.act_by().filter(|by| *by < at)?)));
    let ending: BTreeMap<_, _> = ending.collect();
    if ending.is_empty() {
        return Ok(Vec::new());
    }
    let known = state.store().accounts(user).await?;
    let chosen = known.into_iter().filter(|account| accounts.contains(&account.id));
    Ok(chosen
        .filter_map(|account| {
            let by = ending.get(&account.connection)?;
            let name = &account.profile.display_name;
            let mut warning = ViolationView::error(
                "grant_ends_before",
                "scheduled_time",
                format!("the permission for {name} ends at {by}, before this post goes out"),
                "Connect the account again before then.",
            );
            warning.severity = "warning";
            warning.account_id = Some(account.id.uuid());
            warning.platform = Some(account.platform.to_string());
            Some(warning)
        })
        .collect())
}

/// Says what is wrong with a post for each account, and how much of the allowed text it uses. Stores nothing.
#[utoipa::path(post, path = "/post/validate", tag = "posts", request_body = ScheduleBody,
    responses((status = 200, body = PreviewView)), security(("key" = [])))]
pub(crate) async fn validate(
    Extract(state): Extract<State>,
    caller: Caller,
    Json(body): Json<ScheduleBody>,
) -> Result<axum::Json<PreviewView>, Problem> {
    let user = caller.may(Scope::PostsRead)?;
    match look_at(&state, user, body).await {
        // What a request to schedule would be refused for is what is asked here.
        Err(problem) if !problem.body().violations.is_empty() => {
            let violations = problem.body().violations.clone();
            Ok(axum::Json(PreviewView { ok: false, violations, accounts: Vec::new() }))
        }
        looked => looked.map(axum::Json),
    }
}

async fn look_at(state: &State, user: UserId, body: ScheduleBody) -> Result<PreviewView, Problem> {
    let asked = body.read(state, user).await?;
    let unseen = asked.parts.names_addresses();
    let draft = asked.parts.apply(state, user, Draft::default(), &asked.accounts, Fetching::Never).await?;
    let at = asked.when.map(|when| when.at);
    let mut preview = state.social.preview(user, &draft, &asked.accounts, at).await?;
    if unseen {
        // An empty post may not be empty with its file.
        preview.violations.retain(|violation| violation.code != "text_missing" || violation.field != "content");
        preview.ok = preview.violations.iter().all(|violation| violation.severity == social_core::Severity::Warning);
    }
    let mut violations: Vec<ViolationView> = preview.violations.iter().map(ViolationView::from).collect();
    if unseen {
        let message = "files at addresses are looked into when the post is scheduled";
        let mut note =
            ViolationView::error("media_not_seen", "media", message, "Upload the file to have it checked here.");
        note.severity = "warning";
        violations.push(note);
    }
    let accounts = preview.accounts.into_iter().map(|one| AccountTextView {
        account_id: one.account_id.uuid(),
        text: TextUseView {
            used: one.text.used,
            limit: one.text.limit,
            unit: serde_json::to_value(one.text.unit)
                .ok()
                .and_then(|unit| Some(unit.as_str()?.to_owned()))
                .unwrap_or_default(),
        },
    });
    Ok(PreviewView { ok: preview.ok, violations, accounts: accounts.collect() })
}

/// Which posts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PostQuery {
    /// Only with this status.
    status: Option<String>,
    /// Only with a delivery on this network.
    platform: Option<String>,
    /// Only with a delivery to this account.
    account_id: Option<Uuid>,
    /// Only scheduled at or after this instant.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Only scheduled before this instant.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Only what comes behind this cursor, which an earlier page gave as `next`.
    #[serde(alias = "cursor", alias = "next")]
    after: Option<String>,
    /// At most so many; 1 to 200.
    limit: Option<usize>,
}

/// Lists the caller's posts, latest scheduled first.
#[utoipa::path(get, path = "/posts", tag = "posts", params(PostQuery), responses((status = 200, body = Page<PostView>)), security(("key" = [])))]
pub(crate) async fn list(
    Extract(state): Extract<State>,
    caller: Caller,
    Query(query): Query<PostQuery>,
) -> Result<axum::Json<Page<PostView>>, Problem> {
    let user = caller.may(Scope::PostsRead)?;
    let paging = page(query.after, query.limit)?;
    let status = match query.status.as_deref() {
        Some(raw) => Some(PostStatus::parse(raw).ok_or_else(|| {
            Problem::field(
                "status_unknown",
                "status",
                "there is no such status",
                "Use a status such as pending or published.",
            )
        })?),
        None => None,
    };
    let platform = query.platform.as_deref().map(platform_id).transpose()?;
    let account = query.account_id.map(AccountId::from_uuid);
    if let Some(account) = account
        && state.store().account(user, account).await?.is_none()
    {
        return Err(Problem::not_found());
    }
    let filter = PostFilter { status, platform, account, from: query.from, to: query.to };
    let posts = state.store().posts(user, &filter, &paging).await?;
    let mut page = Page::from_store(posts, |(post, deliveries)| PostView::new(post, &deliveries, state.abilities()));
    deliveries::note_deletions(&state, user, page.items.iter_mut().flat_map(|view| &mut view.deliveries)).await?;
    Ok(axum::Json(page))
}

/// Shows a post with its deliveries. Its `ETag` is for the `If-Match` of a change.
#[utoipa::path(get, path = "/posts/{id}", tag = "posts", params(("id" = Uuid, Path, description = "Which post")),
    responses((status = 200, body = PostView)), security(("key" = [])))]
pub(crate) async fn show(Extract(state): Extract<State>, caller: Caller, Id(id): Id) -> Result<Tagged, Problem> {
    let user = caller.may(Scope::PostsRead)?;
    let (post, deliveries) = state.store().post(user, PostId::from_uuid(id)).await?.ok_or_else(Problem::not_found)?;
    tagged(&state, user, Scheduled { post, deliveries, existing: true }).await
}

/// A change of a post. A field that is absent stays; `null` empties it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EditBody {
    /// The text.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<String>)]
    content: Option<Option<String>>,
    /// The address of one file to fetch, instead of the files so far or behind those in `media`.
    #[serde(default)]
    media_url: Option<String>,
    /// All files, instead of those so far.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<Vec<MediaBody>>)]
    media: Option<Option<Vec<MediaBody>>>,
    /// The link.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<LinkBody>)]
    link: Option<Option<LinkBody>>,
    /// All further parts of the thread.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<Vec<String>>)]
    thread: Option<Option<Vec<String>>>,
    /// The first comment.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<String>)]
    first_comment: Option<Option<String>>,
    /// All settings by network.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<Object>)]
    options: Option<Option<BTreeMap<String, Value>>>,
    /// All that is different for single accounts.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<BTreeMap<Uuid, OverrideBody>>)]
    overrides: Option<Option<BTreeMap<Uuid, OverrideBody>>>,
    /// Another time: RFC 3339 with an offset.
    #[serde(default)]
    scheduled_time: Option<String>,
    /// Another wall-clock time, together with `time_zone`.
    #[serde(default)]
    local_time: Option<String>,
    /// The IANA zone of `local_time`.
    #[serde(default)]
    time_zone: Option<String>,
}

impl EditBody {
    /// Everything but the time.
    fn parts(self) -> Parts {
        Parts {
            content: self.content,
            media_url: self.media_url,
            media: self.media.map(Option::unwrap_or_default),
            link: self.link,
            thread: self.thread.map(Option::unwrap_or_default),
            first_comment: self.first_comment,
            options: self.options.map(Option::unwrap_or_default),
            overrides: self.overrides.map(Option::unwrap_or_default),
        }
    }
}

/// Changes the text or the time of a post of which nothing has begun to become visible. With `If-Match`, only if nobody changed it since.
#[utoipa::path(patch, path = "/posts/{id}", tag = "posts",
    params(("id" = Uuid, Path, description = "Which post"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the post on which the change is based")),
    request_body = EditBody,
    responses((status = 200, body = PostView), (status = 409, description = "It is too late, or somebody else changes it right now."),
        (status = 412, description = "The post has changed since it was read.")), security(("key" = [])))]
pub(crate) async fn edit(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Json(body): Json<EditBody>,
) -> Result<Tagged, Problem> {
    let user = caller.may(Scope::PostsWrite)?;
    let id = PostId::from_uuid(id);
    let (post, deliveries) = state.store().post(user, id).await?.ok_or_else(Problem::not_found)?;
    let wanted = headers.get(header::IF_MATCH).map(|value| value.to_str().unwrap_or_default());
    let seen = post.updated_at;
    let own = tag(seen);
    if wanted.is_some_and(|tags| tags.split(',').all(|one| !matches!(one.trim(), one if one == own || one == "*"))) {
        return Err(changed_meanwhile());
    }
    let times = [&body.scheduled_time, &body.local_time, &body.time_zone].map(Option::as_deref);
    let when = time::read(times[0], times[1], times[2]).map_err(|violation| Problem::invalid(vec![*violation]))?;
    let parts = body.parts();
    let (at, wall) = when.map(|when| (when.at, when.wall)).unzip();
    if parts.is_empty() && at.is_none() {
        return tagged(&state, user, Scheduled { post, deliveries, existing: true }).await;
    }
    let mut fetched = FetchedFiles::of(&state, user);
    let changed = async {
        let draft = if parts.is_empty() {
            None
        } else {
            let accounts: Vec<AccountId> = deliveries.iter().map(|delivery| delivery.account).collect();
            Some(parts.apply(&state, user, post.draft, &accounts, Fetching::Now(&mut fetched)).await?)
        };
        // What is not in the request was read above: if that has changed since, the two changes do not go together.
        let change = Change { draft, at, wall: wall.flatten(), seen: Some(seen) };
        fetched.store_asked();
        state.social.change(user, id, change).await.inspect_err(|error| fetched.refused(error)).map_err(Problem::from)
    };
    match changed.await {
        Ok(scheduled) => {
            fetched.stored(&scheduled.post.draft);
            fetched.discard().await;
            tagged(&state, user, scheduled).await
        }
        Err(problem) => {
            fetched.discard().await;
            if wanted.is_some() && problem.status() == StatusCode::CONFLICT {
                let now = state.store().post(user, id).await?;
                if now.is_some_and(|(post, _)| post.updated_at != seen) {
                    return Err(changed_meanwhile());
                }
            }
            Err(problem)
        }
    }
}

/// Calls off every delivery that has not begun to become visible. Repeatable.
#[utoipa::path(delete, path = "/posts/{id}", tag = "posts", params(("id" = Uuid, Path, description = "Which post")),
    responses((status = 200, body = PostView), (status = 409, description = "It is too late for all of them.")), security(("key" = [])))]
pub(crate) async fn cancel(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<axum::Json<PostView>, Problem> {
    let user = caller.may(Scope::PostsWrite)?;
    let outcome = state.social.cancel(user, PostId::from_uuid(id)).await?;
    Ok(axum::Json(seen(&state, user, outcome.after).await?))
}

/// Tries the failed, missed and canceled deliveries of a post again, each from where it got to: at the post's time if that is still to come,
/// at once otherwise.
#[utoipa::path(post, path = "/posts/{id}/retry", tag = "posts", params(("id" = Uuid, Path, description = "Which post")),
    responses((status = 200, body = PostView), (status = 409, description = "Nothing has failed.")), security(("key" = [])))]
pub(crate) async fn retry(
    Extract(state): Extract<State>,
    caller: Caller,
    Id(id): Id,
) -> Result<axum::Json<PostView>, Problem> {
    let user = caller.may(Scope::PostsWrite)?;
    let scheduled = state.social.retry(user, PostId::from_uuid(id)).await?;
    Ok(axum::Json(seen(&state, user, scheduled).await?))
}
