//! Comments, and the counts of a post.

use super::{Caller, errors};
use crate::answer::{self, Answer, Input};
use crate::ledger::NewEntry;
use crate::lock;
use crate::rng::metric;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct Comment {
    id: u64,
    urn: String,
    actor: String,
    object: String,
    parent: Option<String>,
    text: String,
    created_at: i64,
    deleted: bool,
    ledger: usize,
}

/// A product limit, in characters.
const MAX_TEXT: usize = 1_250;

impl Comment {
    fn view(&self) -> Value {
        let mut view = json!({
            "id": self.id.to_string(),
            "commentUrn": self.urn,
            "actor": self.actor,
            "object": self.object,
            "message": { "attributes": [], "text": self.text },
            "created": { "actor": self.actor, "time": self.created_at / 1_000 },
            "lastModified": { "actor": self.actor, "time": self.created_at / 1_000 }
        });
        if let Some(parent) = &self.parent {
            view["parentComment"] = json!(parent);
        }
        view
    }
}

/// The post or comment that a path or `object` names: URN of the post, and of the comment if it is one.
fn target(state: &super::State, urn: &str) -> Option<(String, Option<String>)> {
    if let Some(inner) = urn.strip_prefix("urn:li:comment:(").and_then(|rest| rest.strip_suffix(')')) {
        let (post, _) = inner.rsplit_once(',')?;
        let post = state.post_urn(post)?;
        let exists = state.posts.get(&post)?.comments.iter().any(|comment| comment.urn == urn && !comment.deleted);
        return exists.then(|| (post, Some(urn.to_owned())));
    }
    state.post_urn(urn).map(|post| (post, None))
}

pub(super) fn create(world: &World, input: &Input, urn: &str, caller: &Caller, now: i64) -> Result<Answer, Answer> {
    let body: Value = serde_json::from_slice(&input.body).unwrap_or_default();
    let missing =
        |name: &str| errors::field("MISSING_FIELD", name, &format!("field is required but not found: {name}"));
    let actor = body["actor"].as_str().ok_or_else(|| missing("/actor"))?;
    let text = body["message"]["text"].as_str().ok_or_else(|| missing("/message/text"))?;
    let mut state = lock(&world.linkedin);
    let state = &mut *state;
    state.act_with(
        caller,
        actor,
        "actor",
        "socialActions.CREATE",
        &["w_member_social", "w_member_social_feed"],
        &["w_organization_social", "w_organization_social_feed"],
    )?;
    let (post_urn, in_path) = target(state, urn).ok_or_else(errors::not_found)?;
    if let Some(object) = body["object"].as_str()
        && target(state, object).map(|(post, _)| post).as_ref() != Some(&post_urn)
    {
        return Err(errors::field("INVALID_URN_ID", "/object", "object is not the post of the path"));
    }
    if text.trim().is_empty() {
        return Err(errors::field("INVALID_VALUE_BLANK_FIELD", "/message/text", "text must not be blank"));
    }
    if text.chars().count() > MAX_TEXT {
        let description = format!("length {} exceeds the maximum of {MAX_TEXT}", text.chars().count());
        return Err(errors::field("FIELD_LENGTH_TOO_LONG", "/message/text", &description));
    }
    let mut parent = in_path;
    if let Some(given) = body["parentComment"].as_str() {
        let found = target(state, given).and_then(|(post, comment)| comment.filter(|_| post == post_urn));
        parent = Some(found.ok_or_else(|| {
            errors::field("INVALID_URN_ID", "/parentComment", "parentComment is not a comment of this post")
        })?);
    }
    let id = state.next_id(now);
    let handle = state.handle(caller, actor);
    let Some(post) = state.posts.get_mut(&post_urn) else { return Err(errors::not_found()) };
    let comment_urn = format!("urn:li:comment:(urn:li:activity:{},{id})", post.activity);
    let ledger = world.ledger.append(NewEntry {
        platform: "linkedin",
        account: Arc::from(actor),
        handle,
        id: Arc::from(comment_urn.as_str()),
        kind: "comment",
        text: Arc::from(text),
        media: Vec::new(),
        in_reply_to: Some(Arc::from(parent.as_deref().unwrap_or(&post_urn))),
        created_at: now,
        details: None,
    });
    let comment = Comment {
        id,
        urn: comment_urn,
        actor: actor.to_owned(),
        object: format!("urn:li:activity:{}", post.activity),
        parent,
        text: text.to_owned(),
        created_at: now,
        deleted: false,
        ledger,
    };
    let view = comment.view();
    post.comments.push(comment);
    Ok(answer::with_header(answer::json(201, &view), "x-restli-id", &id.to_string()))
}

fn may_read(caller: &Caller) -> bool {
    caller.has_any(&["r_member_social_feed", "r_organization_social_feed", "r_organization_social", "r_member_social"])
}

pub(super) fn list(world: &World, input: &Input, urn: &str, caller: &Caller) -> Result<Answer, Answer> {
    if !may_read(caller) {
        return Err(errors::denied("socialActions.GET_ALL"));
    }
    let query = input.query();
    let number = |name: &str, default: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (start, count) = (number("start", 0), number("count", 10).min(100));
    let state = lock(&world.linkedin);
    let (post, parent) = target(&state, urn).ok_or_else(errors::not_found)?;
    let post = state.posts.get(&post).ok_or_else(errors::not_found)?;
    let all: Vec<Value> = post
        .comments
        .iter()
        .filter(|comment| !comment.deleted && comment.parent == parent)
        .map(Comment::view)
        .collect();
    let total = all.len();
    let shown: Vec<Value> = all.into_iter().skip(start).take(count).collect();
    Ok(answer::json(
        200,
        &json!({ "elements": shown, "paging": { "start": start, "count": count, "total": total, "links": [] } }),
    ))
}

pub(super) fn delete(world: &World, urn: &str, id: &str, caller: &Caller, now: i64) -> Result<Answer, Answer> {
    let mut state = lock(&world.linkedin);
    let state = &mut *state;
    let Some((post, _)) = target(state, urn) else { return Ok(answer::empty(204)) };
    let find = |comment: &&Comment| comment.id.to_string() == id && !comment.deleted;
    let actor = state.posts.get(&post).and_then(|post| post.comments.iter().find(find)).map(|it| it.actor.clone());
    let Some(actor) = actor else { return Ok(answer::empty(204)) };
    state.act_with(
        caller,
        &actor,
        "actor",
        "socialActions.DELETE",
        &["w_member_social", "w_member_social_feed"],
        &["w_organization_social", "w_organization_social_feed"],
    )?;
    if let Some(post) = state.posts.get_mut(&post)
        && let Some(comment) = post.comments.iter_mut().find(|comment| comment.id.to_string() == id)
    {
        comment.deleted = true;
        world.ledger.delete(comment.ledger, now);
    }
    Ok(answer::empty(204))
}

pub(super) fn summary(world: &World, urn: &str, caller: &Caller) -> Result<Answer, Answer> {
    if !may_read(caller) {
        return Err(errors::denied("socialActions.GET"));
    }
    let state = lock(&world.linkedin);
    let (post_urn, _) = target(&state, urn).ok_or_else(errors::not_found)?;
    let post = state.posts.get(&post_urn).ok_or_else(errors::not_found)?;
    let alive = post.comments.iter().filter(|comment| !comment.deleted);
    let (first, all) =
        alive.fold((0, 0), |(first, all), comment| (first + u32::from(comment.parent.is_none()), all + 1));
    Ok(answer::json(
        200,
        &json!({
            "likesSummary": { "totalLikes": metric(&post_urn, "likes", 300), "aggregatedTotalLikes": metric(&post_urn, "likes", 300), "likedByCurrentUser": false },
            "commentsSummary": { "totalFirstLevelComments": first, "aggregatedTotalComments": all },
            "target": format!("urn:li:activity:{}", post.activity)
        }),
    ))
}
