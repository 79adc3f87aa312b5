//! Posts of members and organizations.

use super::assets::Status;
use super::little_text::{self, Parsed};
use super::{Caller, Kind, State, errors};
use crate::answer::{self, Answer, Input};
use crate::ledger::{LedgerMedia, NewEntry};
use crate::rng::hash;
use crate::world::World;
use crate::{lock, pages};
use serde_json::{Map, Value, json};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) author: String,
    pub(super) activity: u64,
    commentary: String,
    body: Map<String, Value>,
    pub(super) created_at: i64,
    modified_at: i64,
    edited: bool,
    pub(super) deleted: bool,
    pub(super) ledger: usize,
    pub(super) comments: Vec<super::comments::Comment>,
}

const FIELDS: &[&str] = &[
    "author",
    "commentary",
    "visibility",
    "distribution",
    "content",
    "lifecycleState",
    "isReshareDisabledByAuthor",
    "reshareContext",
    "container",
    "contentCallToActionLabel",
    "contentLandingPage",
    "adContext",
];

const MAX_COMMENTARY: usize = 3_000;
const MAX_ALT: usize = 4_086;

type Checked<T> = Result<T, Answer>;

fn field(code: &str, path: &str, description: &str) -> Answer {
    errors::field(code, path, description)
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Checked<&'a str> {
    match body.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(field("INVALID_VALUE_FOR_FIELD", &format!("/{name}"), &format!("{name} must be a string"))),
        None => Err(field("MISSING_FIELD", &format!("/{name}"), &format!("field is required but not found: {name}"))),
    }
}

fn one_of(body: &Map<String, Value>, name: &str, allowed: &[&str]) -> Checked<String> {
    let value = text(body, name)?;
    if allowed.contains(&value) {
        return Ok(value.to_owned());
    }
    let description = format!("\"{value}\" is not a valid enum symbol");
    Err(field("INVALID_VALUE_FOR_FIELD", &format!("/{name}"), &description))
}

fn at_most(value: Option<&str>, limit: usize, path: &str) -> Checked<()> {
    match value.map(|value| value.chars().count()) {
        Some(length) if length > limit => {
            Err(field("FIELD_LENGTH_TOO_LONG", path, &format!("length {length} exceeds the maximum of {limit}")))
        }
        _ => Ok(()),
    }
}

/// The content of a post after all checks.
#[derive(Default)]
struct Content {
    media: Vec<LedgerMedia>,
    details: Map<String, Value>,
    /// Video, document, several images and polls live in another URN space.
    is_ugc: bool,
    present: bool,
}

impl State {
    fn check_asset(&self, urn: &str, author: &str, kinds: &[Kind], path: &str, now: i64) -> Checked<&super::Asset> {
        let kind = urn.strip_prefix("urn:li:").and_then(|rest| rest.split(':').next()).and_then(Kind::of);
        let Some(kind) = kind.filter(|kind| kinds.contains(kind)) else {
            let code = if urn.starts_with("urn:li:") { "INVALID_URN_TYPE" } else { "INVALID_URN_ID" };
            return Err(field(code, path, &format!("{urn} is not a media URN that is allowed here")));
        };
        let Some(asset) = self.assets.get(urn).filter(|asset| asset.kind == kind) else {
            let code = if kind == Kind::Video { "INVALID_VIDEO_ID" } else { "INVALID_URN_ID" };
            return Err(field(code, path, &format!("{urn} does not exist")));
        };
        if asset.owner != author {
            return Err(field("INVALID_VALUE_FOR_FIELD", path, &format!("{urn} is not owned by the author {author}")));
        }
        match asset.status(now) {
            Status::Available => Ok(asset),
            Status::WaitingUpload => {
                Err(field("MEDIA_ASSET_WAITING_UPLOAD", path, &format!("{urn} is waiting for its upload")))
            }
            Status::Processing => {
                let message = format!("Media asset {urn} is still processing");
                Err(errors::refusal(400, "MEDIA_ASSET_WAITING_UPLOAD", &message))
            }
            Status::Failed => Err(field("MEDIA_ASSET_PROCESSING_FAILED", path, &format!("processing of {urn} failed"))),
        }
    }

    fn content(&self, body: &Map<String, Value>, author: &str, now: i64) -> Checked<Content> {
        let Some(content) = body.get("content") else { return Ok(Content::default()) };
        let wrong = |description: &str| field("INVALID_VALUE_FOR_FIELD", "/content", description);
        let parts = content.as_object().ok_or_else(|| wrong("content must be an object"))?;
        let (Some((kind, value)), 1) = (parts.iter().next(), parts.len()) else {
            return Err(wrong("content must have exactly one member"));
        };
        let mut found = match kind.as_str() {
            "media" => self.single(value, author, now)?,
            "multiImage" => self.several(value, author, now)?,
            "article" => self.article(value, author, now)?,
            "poll" => poll(value)?,
            _ => return Err(field("FIELD_NOT_ALLOWED", &format!("/content/{kind}"), "this content cannot be created")),
        };
        found.present = true;
        Ok(found)
    }

    fn single(&self, value: &Value, author: &str, now: i64) -> Checked<Content> {
        let path = "/content/media/id";
        let id =
            value["id"].as_str().ok_or_else(|| field("MISSING_FIELD", path, "field is required but not found: id"))?;
        let (alt, title) = (value["altText"].as_str(), value["title"].as_str());
        let asset = self.check_asset(id, author, &[Kind::Image, Kind::Video, Kind::Document], path, now)?;
        match asset.kind {
            Kind::Image => at_most(alt, MAX_ALT, "/content/media/altText")?,
            Kind::Video => {}
            Kind::Document if title.is_none_or(str::is_empty) => {
                return Err(field("MISSING_FIELD", "/content/media/title", "field is required but not found: title"));
            }
            Kind::Document => {}
        }
        at_most(title, 400, "/content/media/title")?;
        let mut content = Content { is_ugc: asset.kind != Kind::Image, ..Content::default() };
        content.media.extend(asset.ledger(id, alt, title));
        Ok(content)
    }

    fn several(&self, value: &Value, author: &str, now: i64) -> Checked<Content> {
        let images = value["images"].as_array().map_or(&[][..], Vec::as_slice);
        if !(2..=20).contains(&images.len()) {
            let description = format!("{} images; there must be 2 to 20", images.len());
            return Err(field("INVALID_VALUE_FOR_FIELD", "/content/multiImage/images", &description));
        }
        let mut content = Content { is_ugc: true, ..Content::default() };
        for (index, image) in images.iter().enumerate() {
            let path = format!("/content/multiImage/images/{index}");
            let id =
                image["id"].as_str().ok_or_else(|| field("MISSING_FIELD", &format!("{path}/id"), "id is required"))?;
            let alt = image["altText"].as_str();
            at_most(alt, MAX_ALT, &format!("{path}/altText"))?;
            let asset = self.check_asset(id, author, &[Kind::Image], &format!("{path}/id"), now)?;
            content.media.extend(asset.ledger(id, alt, None));
        }
        Ok(content)
    }

    fn article(&self, value: &Value, author: &str, now: i64) -> Checked<Content> {
        let path = "/content/article";
        let source = value["source"].as_str().ok_or_else(|| {
            field("MISSING_FIELD", &format!("{path}/source"), "field is required but not found: source")
        })?;
        if !(source.starts_with("http://") || source.starts_with("https://")) || url::Url::parse(source).is_err() {
            return Err(field("INVALID_VALUE_FOR_FIELD", &format!("{path}/source"), "source must be a web address"));
        }
        let title = value["title"].as_str();
        if title.is_none_or(str::is_empty) {
            return Err(field("MISSING_FIELD", &format!("{path}/title"), "field is required but not found: title"));
        }
        at_most(title, 400, &format!("{path}/title"))?;
        at_most(value["description"].as_str(), 4_086, &format!("{path}/description"))?;
        at_most(value["thumbnailAltText"].as_str(), MAX_ALT, &format!("{path}/thumbnailAltText"))?;
        let mut content = Content::default();
        if let Some(thumbnail) = value["thumbnail"].as_str() {
            let asset = self.check_asset(thumbnail, author, &[Kind::Image], &format!("{path}/thumbnail"), now)?;
            content.media.extend(asset.ledger(thumbnail, value["thumbnailAltText"].as_str(), None));
        }
        content.details.insert("article".to_owned(), value.clone());
        Ok(content)
    }

    /// The URN of a post that exists, from its own URN or that of its activity.
    pub(super) fn post_urn(&self, urn: &str) -> Option<String> {
        if let Some(activity) = urn.strip_prefix("urn:li:activity:") {
            return self.activities.get(&activity.parse().ok()?).and_then(|urn| self.post_urn(urn));
        }
        self.posts.get(urn).filter(|post| !post.deleted).map(|_| urn.to_owned())
    }

    fn may_read(&self, caller: &Caller, author: &str) -> bool {
        match self.organization(author) {
            Some(organization) => {
                caller.has("r_organization_social") && self.role(caller.member, organization).is_some()
            }
            None => caller.has("r_member_social") && self.urn_of(caller.app, caller.member) == author,
        }
    }
}

fn poll(value: &Value) -> Checked<Content> {
    let path = "/content/poll";
    let question = value["question"].as_str().unwrap_or_default();
    if question.trim().is_empty() {
        return Err(field("INVALID_VALUE_BLANK_FIELD", &format!("{path}/question"), "question must not be blank"));
    }
    at_most(Some(question), 140, &format!("{path}/question"))?;
    let options = value["options"].as_array().map_or(&[][..], Vec::as_slice);
    if !(2..=4).contains(&options.len()) {
        let description = format!("{} options; there must be 2 to 4", options.len());
        return Err(field("INVALID_VALUE_FOR_FIELD", &format!("{path}/options"), &description));
    }
    for (index, option) in options.iter().enumerate() {
        let path = format!("{path}/options/{index}/text");
        let text = option["text"].as_str().unwrap_or_default();
        if text.trim().is_empty() {
            return Err(field("INVALID_VALUE_BLANK_FIELD", &path, "an option must not be blank"));
        }
        at_most(Some(text), 30, &path)?;
    }
    let durations = ["ONE_DAY", "THREE_DAYS", "SEVEN_DAYS", "FOURTEEN_DAYS"];
    if !durations.contains(&value["settings"]["duration"].as_str().unwrap_or_default()) {
        let path = format!("{path}/settings/duration");
        return Err(field("INVALID_VALUE_FOR_FIELD", &path, "is not a valid enum symbol"));
    }
    let details = Map::from_iter([("poll".to_owned(), value.clone())]);
    Ok(Content { details, is_ugc: true, ..Content::default() })
}

fn check_distribution(body: &Map<String, Value>, by_organization: bool) -> Checked<()> {
    let Some(distribution) = body.get("distribution") else {
        return Err(field("MISSING_FIELD", "/distribution", "field is required but not found: distribution"));
    };
    let feed = distribution["feedDistribution"].as_str().unwrap_or_default();
    if !matches!(feed, "MAIN_FEED" | "NONE") {
        return Err(field("INVALID_VALUE_FOR_FIELD", "/distribution/feedDistribution", "is not a valid enum symbol"));
    }
    if feed == "NONE" && !by_organization {
        let description = "members cannot create dark posts";
        return Err(field("INVALID_VALUE_FOR_FIELD", "/distribution/feedDistribution", description));
    }
    let targeted = distribution["targetEntities"].as_array().is_some_and(|targets| !targets.is_empty());
    if targeted && !by_organization {
        let description = "only organizations can target an audience";
        return Err(field("FIELD_NOT_ALLOWED", "/distribution/targetEntities", description));
    }
    Ok(())
}

fn check_commentary(commentary: &str, may_be_blank: bool) -> Checked<Parsed> {
    if commentary.trim().is_empty() && !may_be_blank {
        return Err(field("INVALID_VALUE_BLANK_FIELD", "/commentary", "commentary must not be blank"));
    }
    let parsed = little_text::parse(commentary);
    if parsed.length > MAX_COMMENTARY {
        let description = format!("length {} exceeds the maximum of {MAX_COMMENTARY}", parsed.length);
        return Err(field("FIELD_LENGTH_TOO_LONG", "/commentary", &description));
    }
    Ok(parsed)
}

pub(super) fn create(world: &World, input: &Input, caller: &Caller, now: i64) -> Checked<Answer> {
    let settings = world.settings();
    if !caller.has_any(&["w_member_social", "w_organization_social"]) {
        return Err(errors::denied("posts.CREATE"));
    }
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(&input.body) else {
        return Err(errors::refusal(400, "", "Cannot parse request entity as a JSON object"));
    };
    if let Some(unknown) = body.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(field("FIELD_NOT_ALLOWED", &format!("/{unknown}"), "unrecognized field found but not allowed"));
    }
    let author = text(&body, "author")?;
    let commentary = text(&body, "commentary")?;
    let visibility = one_of(&body, "visibility", &["PUBLIC", "CONNECTIONS", "LOGGED_IN", "CONTAINER"])?;
    one_of(&body, "lifecycleState", &["PUBLISHED"])?;

    let mut state = lock(&world.linkedin);
    let state = &mut *state;
    state.act_as(caller, author, "author", "posts")?;
    let by_organization = state.organization(author).is_some();
    check_distribution(&body, by_organization)?;
    if visibility == "CONNECTIONS" && by_organization {
        return Err(field("INVALID_VALUE_FOR_FIELD", "/visibility", "organizations have no connections"));
    }
    if visibility == "CONTAINER" && !body.contains_key("container") {
        return Err(field("MISSING_FIELD", "/container", "field is required but not found: container"));
    }
    let content = state.content(&body, author, now)?;
    let mut reshared = None;
    if let Some(context) = body.get("reshareContext") {
        let parent = context["parent"].as_str().unwrap_or_default();
        if content.present {
            return Err(field("FIELD_NOT_ALLOWED", "/content", "a reshare has no content of its own"));
        }
        let found = state.post_urn(parent);
        let missing = || field("INVALID_URN_ID", "/reshareContext/parent", &format!("{parent} does not exist"));
        reshared = Some(found.ok_or_else(missing)?);
    }
    let parsed = check_commentary(commentary, content.present || reshared.is_some())?;

    let window = i64::try_from(settings.linkedin_duplicate_window_s).unwrap_or(i64::MAX / 1_000_000) * 1_000_000;
    let lag = i64::try_from(settings.linkedin_duplicate_lag_ms).unwrap_or(i64::MAX / 1_000) * 1_000;
    let part = |name: &str| body.get(name).map(Value::to_string).unwrap_or_default();
    let fingerprint = hash(&[author, commentary, &part("content"), &part("reshareContext")]);
    if let Some((earlier, at)) = state.recent.get(&fingerprint) {
        let exists = state.posts.get(earlier).is_some_and(|post| !post.deleted);
        if exists && (at + lag..at + window).contains(&now) {
            let message = format!("Content is a duplicate of {earlier}");
            return Err(errors::refusal(422, "DUPLICATE_POST", &message));
        }
    }

    let id = state.next_id(now);
    let urn = format!("urn:li:{}:{id}", if content.is_ugc { "ugcPost" } else { "share" });
    let mut details = content.details;
    details.insert("visibility".to_owned(), json!(visibility));
    if let Some(reshared) = &reshared {
        details.insert("reshared".to_owned(), json!(reshared));
    }
    if parsed.truncated {
        details.insert("truncated".to_owned(), json!(true));
    }
    let ledger = world.ledger.append(NewEntry {
        platform: "linkedin",
        account: Arc::from(author),
        handle: state.handle(caller, author),
        id: Arc::from(urn.as_str()),
        kind: if reshared.is_some() { "reshare" } else { "post" },
        text: Arc::from(parsed.visible),
        media: content.media,
        in_reply_to: None,
        created_at: now,
        details: Some(Value::Object(details)),
    });
    let post = Post {
        author: author.to_owned(),
        activity: id + 1,
        commentary: parsed.stored,
        body: body.clone(),
        created_at: now,
        modified_at: now,
        edited: false,
        deleted: false,
        ledger,
        comments: Vec::new(),
    };
    state.activities.insert(post.activity, urn.clone());
    state.by_author.entry(post.author.clone()).or_default().push(urn.clone());
    state.posts.insert(urn.clone(), post);
    state.recent.insert(fingerprint, (urn.clone(), now));
    Ok(answer::with_header(answer::empty(201), "x-restli-id", &urn))
}

pub(super) fn update(world: &World, input: &Input, urn: &str, caller: &Caller, now: i64) -> Checked<Answer> {
    let method = input.header("x-restli-method").unwrap_or_default();
    if !method.eq_ignore_ascii_case("PARTIAL_UPDATE") {
        return Err(errors::refusal(400, "", "The header X-RestLi-Method must be PARTIAL_UPDATE"));
    }
    let body: Value = serde_json::from_slice(&input.body).unwrap_or_default();
    let Some(changes) = body["patch"]["$set"].as_object() else {
        return Err(field("MISSING_FIELD", "/patch/$set", "field is required but not found: $set"));
    };
    let updatable = ["commentary", "contentCallToActionLabel", "contentLandingPage", "lifecycleState", "adContext"];
    if let Some(fixed) = changes.keys().find(|name| !updatable.contains(&name.as_str())) {
        return Err(field("FIELD_NOT_ALLOWED", &format!("/{fixed}"), "this field cannot be updated"));
    }
    let mut state = lock(&world.linkedin);
    let state = &mut *state;
    let urn = state.post_urn(urn).ok_or_else(errors::not_found)?;
    let author = state.posts.get(&urn).map(|post| post.author.clone()).ok_or_else(errors::not_found)?;
    state.act_as(caller, &author, "author", "posts")?;
    let Some(post) = state.posts.get_mut(&urn) else { return Err(errors::not_found()) };
    if let Some(commentary) = changes.get("commentary") {
        let may_be_blank = post.body.contains_key("content") || post.body.contains_key("reshareContext");
        let parsed = check_commentary(commentary.as_str().unwrap_or_default(), may_be_blank)?;
        post.commentary = parsed.stored;
        world.ledger.edit_text(post.ledger, Arc::from(parsed.visible), now);
    }
    post.modified_at = now;
    post.edited = true;
    Ok(answer::empty(204))
}

pub(super) fn delete(world: &World, urn: &str, caller: &Caller, now: i64) -> Checked<Answer> {
    let mut state = lock(&world.linkedin);
    let state = &mut *state;
    let Some(urn) = state.post_urn(urn) else { return Ok(answer::empty(204)) };
    let author = state.posts.get(&urn).map(|post| post.author.clone()).unwrap_or_default();
    state
        .act_as(caller, &author, "author", "posts")
        .map_err(|refusal| if refusal.status() == 403 { errors::denied("posts.DELETE") } else { refusal })?;
    if let Some(post) = state.posts.get_mut(&urn) {
        post.deleted = true;
        world.ledger.delete(post.ledger, now);
    }
    Ok(answer::empty(204))
}

impl Post {
    fn view(&self, urn: &str) -> Value {
        let mut view = self.body.clone();
        view.insert("id".to_owned(), json!(urn));
        view.insert("commentary".to_owned(), json!(self.commentary));
        view.insert("createdAt".to_owned(), json!(self.created_at / 1_000));
        view.insert("publishedAt".to_owned(), json!(self.created_at / 1_000));
        view.insert("lastModifiedAt".to_owned(), json!(self.modified_at / 1_000));
        view.insert("lifecycleStateInfo".to_owned(), json!({ "isEditedByAuthor": self.edited }));
        view.entry("isReshareDisabledByAuthor").or_insert(json!(false));
        Value::Object(view)
    }
}

pub(super) fn get(world: &World, urn: &str, caller: &Caller) -> Checked<Answer> {
    if !caller.has_any(&["r_member_social", "r_organization_social"]) {
        return Err(errors::denied("posts.GET"));
    }
    let state = lock(&world.linkedin);
    let urn = state.post_urn(urn).ok_or_else(errors::not_found)?;
    let post = state.posts.get(&urn).ok_or_else(errors::not_found)?;
    if !state.may_read(caller, &post.author) {
        return Err(errors::denied("posts.GET"));
    }
    Ok(answer::json(200, &post.view(&urn)))
}

pub(super) fn batch_get(world: &World, input: &Input, caller: &Caller) -> Checked<Answer> {
    if !caller.has_any(&["r_member_social", "r_organization_social"]) {
        return Err(errors::denied("posts.BATCH_GET"));
    }
    let query = input.query();
    let ids = super::list(query.get("ids").ok_or_else(|| errors::parameter("ids"))?);
    let state = lock(&world.linkedin);
    let (mut results, mut refused) = (Map::new(), Map::new());
    for id in ids {
        let found = state.post_urn(&id).and_then(|urn| state.posts.get(&urn).map(|post| (urn, post)));
        match found {
            Some((urn, post)) if state.may_read(caller, &post.author) => {
                results.insert(id, post.view(&urn));
            }
            Some(_) => {
                let message = "Not enough permissions to access: posts.BATCH_GET";
                refused.insert(id, json!({ "status": 403, "code": "ACCESS_DENIED", "message": message }));
            }
            None => {
                refused.insert(id, json!({ "status": 404, "code": "NOT_FOUND", "message": "Could not find entity" }));
            }
        }
    }
    Ok(answer::json(200, &json!({ "results": results, "statuses": {}, "errors": refused })))
}

pub(super) fn find(world: &World, input: &Input, caller: &Caller, now: i64) -> Checked<Answer> {
    let query = input.query();
    if query.get("q") != Some("author") {
        return Err(errors::parameter("q"));
    }
    let author = query.get("author").ok_or_else(|| errors::parameter("author"))?;
    let number = |name: &str, default: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (start, count) = (number("start", 0), number("count", 10));
    if count > 100 {
        return Err(errors::parameter("count"));
    }
    let by_creation = match query.get("sortBy") {
        Some("CREATED") => true,
        None | Some("LAST_MODIFIED") => false,
        Some(_) => return Err(errors::parameter("sortBy")),
    };
    let state = lock(&world.linkedin);
    if !state.may_read(caller, author) {
        return Err(errors::denied("posts.FINDER-author"));
    }
    let delay = i64::try_from(world.settings().visibility_delay_ms).unwrap_or(i64::MAX / 1_000) * 1_000;
    let mut found: Vec<(&String, &Post)> = state
        .by_author
        .get(author)
        .into_iter()
        .flatten()
        .filter_map(|urn| state.posts.get(urn).map(|post| (urn, post)))
        .filter(|(_, post)| !post.deleted && post.created_at + delay <= now)
        .collect();
    found.reverse();
    if !by_creation {
        found.sort_by_key(|(_, post)| std::cmp::Reverse(post.modified_at));
    }
    let total = found.len();
    let shown: Vec<Value> = found.into_iter().skip(start).take(count).map(|(urn, post)| post.view(urn)).collect();
    Ok(answer::json(
        200,
        &json!({ "elements": shown, "paging": { "start": start, "count": count, "total": total, "links": [] } }),
    ))
}

/// The post as a page, for people who follow a permalink.
pub(super) fn page(world: &World, urn: &str) -> Answer {
    let found = {
        let state = lock(&world.linkedin);
        let own = state.post_urn(urn).unwrap_or_else(|| urn.to_owned());
        state.posts.get(&own).map(|post| post.ledger)
    };
    pages::object(world, found)
}
