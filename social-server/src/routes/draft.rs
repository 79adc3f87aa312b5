//! Drafts as callers write them, and how they become the core's.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use social_core::{
    AccountId, Draft, Error, ErrorKind, MediaId, PlatformId, UserId,
    draft::{Attachment, Link, MediaRef, Override, StoredMedia},
    library::MediaLibrary as _,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Ref, RefOr,
        schema::{ObjectBuilder, OneOfBuilder, Schema, Type},
    },
};
use uuid::Uuid;

use crate::{problem::Problem, state::State, views::ViolationView};

/// The most files that one request may name.
const MOST_FILES: usize = 50;
/// Until then every write that a request began has ended, whether or not its caller learnt of it.
const SETTLED_AFTER: Duration = Duration::from_secs(600);

/// A file of a post: uploaded before, or to be fetched from an address.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MediaBody {
    /// A file that `POST /media` took.
    #[serde(default)]
    id: Option<Uuid>,
    /// A public address to fetch it from, instead of `id`.
    #[serde(default)]
    url: Option<String>,
    /// What it shows, for people who do not see it.
    #[serde(default)]
    alt_text: Option<String>,
    /// Its title, where the network shows one (documents, videos).
    #[serde(default)]
    title: Option<String>,
}

/// A link with what its card shows. A text is a link without more.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkFields {
    /// Where it leads.
    url: String,
    /// The card's title.
    #[serde(default)]
    title: Option<String>,
    /// The card's text.
    #[serde(default)]
    description: Option<String>,
    /// The card's picture: the id of a file that `POST /media` took.
    #[serde(default)]
    thumbnail: Option<Uuid>,
}

/// An address, or an object that also says what a card shows.
#[derive(Debug, Clone)]
pub(crate) struct LinkBody(LinkFields);

impl PartialSchema for LinkBody {
    fn schema() -> RefOr<Schema> {
        let address = ObjectBuilder::new().schema_type(Type::String).description(Some("An address."));
        OneOfBuilder::new()
            .item(address)
            .item(Ref::from_schema_name("LinkFields"))
            .description(Some("A link: an address, or an object that also says what a card shows."))
            .into()
    }
}

impl ToSchema for LinkBody {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("LinkFields".to_owned(), LinkFields::schema()));
    }
}

impl<'de> Deserialize<'de> for LinkBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrObject;
        impl<'de> de::Visitor<'de> for TextOrObject {
            type Value = LinkBody;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or an object with `url`")
            }
            fn visit_str<E: de::Error>(self, url: &str) -> Result<LinkBody, E> {
                Ok(LinkBody(LinkFields { url: url.to_owned(), title: None, description: None, thumbnail: None }))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<LinkBody, A::Error> {
                LinkFields::deserialize(de::value::MapAccessDeserializer::new(map)).map(LinkBody)
            }
        }
        deserializer.deserialize_any(TextOrObject)
    }
}

/// What one account says instead. A field that is absent is taken from the post.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverrideBody {
    /// Instead of the text.
    #[serde(default)]
    content: Option<String>,
    /// Instead of the link.
    #[serde(default)]
    link: Option<LinkBody>,
    /// Instead of the thread.
    #[serde(default)]
    thread: Option<Vec<String>>,
    /// Instead of the first comment.
    #[serde(default)]
    first_comment: Option<String>,
    /// Instead of the network's options.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    options: Option<Value>,
}

/// What to say. In a change, a field that is absent stays and `null` empties it.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) content: Option<Option<String>>,
    pub(crate) media_url: Option<String>,
    pub(crate) media: Option<Vec<MediaBody>>,
    pub(crate) link: Option<Option<LinkBody>>,
    pub(crate) thread: Option<Vec<String>>,
    pub(crate) first_comment: Option<Option<String>>,
    pub(crate) options: Option<BTreeMap<String, Value>>,
    pub(crate) overrides: Option<BTreeMap<Uuid, OverrideBody>>,
}

/// Whether files at addresses are fetched.
#[derive(Debug)]
pub(crate) enum Fetching<'a> {
    /// They are, and noted here.
    Now(&'a mut FetchedFiles),
    /// They are left out, for a check that keeps nothing.
    Never,
}

/// Files that were fetched for a post. If the post does not come about, nobody knows of them, so they are removed. From the moment on at which
/// the store is asked, only a clear refusal says that: a failure, or a caller who went away, leaves open whether the post names them.
#[derive(Debug)]
pub(crate) struct FetchedFiles {
    state: State,
    user: UserId,
    ids: Vec<MediaId>,
    in_doubt: bool,
}

impl FetchedFiles {
    pub(crate) fn of(state: &State, user: UserId) -> Self {
        Self { state: state.clone(), user, ids: Vec::new(), in_doubt: false }
    }

    /// The store is asked to keep a post that names them.
    pub(crate) fn store_asked(&mut self) {
        self.in_doubt = true;
    }

    /// The store was not asked after all, or said no, if the error is a refusal.
    pub(crate) fn refused(&mut self, error: &Error) {
        if matches!(
            error.kind(),
            ErrorKind::Invalid
                | ErrorKind::Unsupported
                | ErrorKind::Rejected
                | ErrorKind::NotFound
                | ErrorKind::Conflict
                | ErrorKind::Reconnect
        ) {
            self.in_doubt = false;
        }
    }

    /// A post is stored that says this: what it names belongs to it.
    pub(crate) fn stored(&mut self, draft: &Draft) {
        self.in_doubt = false;
        match serde_json::to_string(draft) {
            Ok(draft) => self.ids.retain(|id| !draft.contains(&id.to_string())),
            Err(_) => self.ids.clear(),
        }
    }

    /// Removes those that belong to nothing: at once, or in a while if that is not known yet.
    pub(crate) async fn discard(mut self) {
        if !self.in_doubt {
            let ids = std::mem::take(&mut self.ids);
            remove(&self.state, self.user, ids).await;
        }
    }
}

/// A request that was cut off leaves nothing behind either.
impl Drop for FetchedFiles {
    fn drop(&mut self) {
        let ids = std::mem::take(&mut self.ids);
        if ids.is_empty() {
            return;
        }
        let (state, user) = (self.state.clone(), self.user);
        if self.in_doubt {
            self.state.tasks.spawn(async move { settle(&state, user, ids).await });
        } else {
            self.state.tasks.spawn(async move { remove(&state, user, ids).await });
        }
    }
}

/// Removes files that no post names when a write under way has ended for certain. Whatever goes wrong, they stay: a post without its file
/// is worse than a file without a post.
async fn settle(state: &State, user: UserId, ids: Vec<MediaId>) {
    tokio::select! {
        () = tokio::time::sleep(SETTLED_AFTER) => {}
        () = state.stopping.cancelled() => return,
    }
    match state.social.unnamed_files(user, ids).await {
        Ok(unnamed) => remove(state, user, unnamed).await,
        Err(error) => tracing::warn!(%error, "files that were fetched for a post in doubt are kept"),
    }
}

async fn remove(state: &State, user: UserId, ids: Vec<MediaId>) {
    for id in ids {
        let removed = async {
            state.store().delete_media(user, id).await?;
            state.library.remove(id).await
        };
        if let Err(error) = removed.await {
            tracing::warn!(media.id = %id, %error, "a file that was fetched for a refused post could not be removed");
        }
    }
}

/// Reads a field where `null` and absence differ.
pub(crate) fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Parts {
    /// Whether there is anything to be changed.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { content, media_url, media, link, thread, first_comment, options, overrides } = self;
        content.is_none()
            && media_url.is_none()
            && media.is_none()
            && link.is_none()
            && thread.is_none()
            && first_comment.is_none()
            && options.is_none()
            && overrides.is_none()
    }

    /// Whether some file would be fetched.
    pub(crate) fn names_addresses(&self) -> bool {
        self.media_url.is_some() || self.media.iter().flatten().any(|item| item.url.is_some())
    }

    /// Changes a draft. Everything that can be checked without the outside is checked first; files at addresses are fetched last.
    ///
    /// # Errors
    /// Violations with their fields, 404 for a file that is not the caller's.
    pub(crate) async fn apply(
        self,
        state: &State,
        user: UserId,
        mut draft: Draft,
        accounts: &[AccountId],
        fetching: Fetching<'_>,
    ) -> Result<Draft, Problem> {
        let mut wrong = Vec::new();
        let mut error = |code: &str, field: String, message: &str, advice: &str| {
            wrong.push(ViolationView::error(code, field, message, advice));
        };
        if let Some(options) = self.options {
            draft.options.clear();
            for (name, value) in options {
                let field = format!("options.{name}");
                let platform = PlatformId::parse(&name).ok().filter(|id| state.social.platform(id).is_ok());
                match platform {
                    Some(_) if !value.is_object() => {
                        error("wrong_type", field, "options are an object", "Send an object.")
                    }
                    Some(platform) => drop(draft.options.insert(platform, value)),
                    None => {
                        error("platform_unknown", field, "this installation has no network of that name", "Remove it.")
                    }
                }
            }
        }
        for id in self.overrides.iter().flat_map(BTreeMap::keys) {
            if !accounts.contains(&AccountId::from_uuid(*id)) {
                let field = format!("overrides.{id}");
                error(
                    "account_not_chosen",
                    field,
                    "the post does not go to this account",
                    "Remove it, or add the account.",
                );
            }
        }
        let media = self.media.map(|mut items| {
            items.extend(self.media_url.clone().map(|url| MediaBody { url: Some(url), ..MediaBody::default() }));
            items
        });
        let media = match (media, self.media_url) {
            (None, Some(url)) => Some(vec![MediaBody { url: Some(url), ..MediaBody::default() }]),
            (media, _) => media,
        };
        for (index, item) in media.iter().flatten().enumerate() {
            if item.id.is_some() == item.url.is_some() {
                error(
                    "media_source",
                    format!("media[{index}]"),
                    "a file has either an `id` or a `url`",
                    "Give one of them.",
                );
            }
        }
        if media.as_ref().is_some_and(|items| items.len() > MOST_FILES) {
            error("media_too_many", "media".into(), "more than 50 files", "Use fewer files.");
        }
        if !wrong.is_empty() {
            return Err(Problem::invalid(wrong));
        }
        if let Some(content) = self.content {
            draft.text = content.unwrap_or_default();
        }
        if let Some(thread) = self.thread {
            draft.thread = thread;
        }
        if let Some(comment) = self.first_comment {
            draft.first_comment = comment;
        }
        if let Some(link) = self.link {
            draft.link = match link {
                Some(link) => Some(link.read(state, user, "link").await?),
                None => None,
            };
        }
        if let Some(overrides) = self.overrides {
            draft.overrides.clear();
            for (id, own) in overrides {
                let link = match own.link {
                    Some(link) => Some(link.read(state, user, &format!("overrides.{id}.link")).await?),
                    None => None,
                };
                let own = Override {
                    text: own.content,
                    link,
                    thread: own.thread,
                    first_comment: own.first_comment,
                    options: own.options,
                };
                draft.overrides.insert(AccountId::from_uuid(id), own);
            }
        }
        if let Some(items) = media {
            draft.media = attachments(state, user, items, fetching).await?;
        }
        Ok(draft)
    }
}

async fn attachments(
    state: &State,
    user: UserId,
    items: Vec<MediaBody>,
    mut fetching: Fetching<'_>,
) -> Result<Vec<Attachment>, Problem> {
    let mut attachments = Vec::new();
    let mut known: BTreeMap<Uuid, StoredMedia> = BTreeMap::new();
    // Uploaded files first: if one of them is missing, nothing is fetched in vain.
    for (index, item) in items.iter().enumerate() {
        if let Some(id) = item.id {
            known.insert(id, stored(state, user, id, &format!("media[{index}].id")).await?);
        }
    }
    for (index, item) in items.into_iter().enumerate() {
        let media = match (item.id.and_then(|id| known.get(&id).cloned()), item.url, &mut fetching) {
            (Some(stored), ..) => stored,
            (None, Some(url), Fetching::Now(fetched)) => {
                let stored = state.intake.fetch(state, user, &format!("media[{index}].url"), &url).await?;
                fetched.ids.push(stored.id);
                stored
            }
            (None, Some(_), Fetching::Never) | (None, None, _) => continue,
        };
        attachments.push(Attachment { media: MediaRef::from(media), alt_text: item.alt_text, title: item.title });
    }
    Ok(attachments)
}

/// A file of the caller; one of somebody else is not there.
async fn stored(state: &State, user: UserId, id: Uuid, field: &str) -> Result<StoredMedia, Problem> {
    let found = state.store().media(user, MediaId::from_uuid(id)).await?;
    found.ok_or_else(|| {
        Problem::new(http::StatusCode::NOT_FOUND, "not_found", format!("{field}: there is no such file"))
            .advice("A file of this post is not there. Please upload it again.")
    })
}

impl LinkBody {
    async fn read(self, state: &State, user: UserId, field: &str) -> Result<Link, Problem> {
        let LinkFields { url, title, description, thumbnail } = self.0;
        let thumbnail = match thumbnail {
            Some(id) => Some(MediaRef::from(stored(state, user, id, &format!("{field}.thumbnail")).await?)),
            None => None,
        };
        Ok(Link { url, title, description, thumbnail })
    }
}
