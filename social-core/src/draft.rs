//! What to say, before and apart from when and where.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    id::{AccountId, MediaId, PlatformId},
    media::MediaFacts,
    trace::TraceParent,
};

/// A post without a time: text, media, a link, further parts, options per platform and overrides per account.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Draft {
    /// The text, as a person wrote it. Adapters escape what their network wants escaped.
    #[serde(default)]
    pub text: String,
    /// Pictures, videos, documents, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Attachment>,
    /// A link that is shown as a card where the network has such cards, and else is added to the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// Further parts of a thread, after `text`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thread: Vec<String>,
    /// A comment that the account puts under its own post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_comment: Option<String>,
    /// Settings that only one platform has, in the shape that its adapter documents.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<PlatformId, Value>,
    /// What is different for one account.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<AccountId, Override>,
    /// The trace in which it was scheduled, where the host follows traces. No part of what is said: adapters do not see it.
    #[serde(default, deserialize_with = "TraceParent::lenient", skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
}

/// What an account says instead. A field that is absent is taken from the draft.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Instead of [`Draft::text`].
    #[serde(default, alias = "content", skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Instead of [`Draft::link`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// Instead of [`Draft::thread`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<Vec<String>>,
    /// Instead of [`Draft::first_comment`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_comment: Option<String>,
    /// Instead of the platform's entry in [`Draft::options`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
}

/// A link with what its card shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Where it leads.
    pub url: String,
    /// The card's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The card's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The card's picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<MediaRef>,
}

/// A file in a post.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The file.
    pub media: MediaRef,
    /// What it shows, for people who do not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt_text: Option<String>,
    /// Its title, where the network shows one (documents, videos).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// A file: stored already, or still to be taken into the media library when the draft is scheduled.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Option<StoredMedia>", try_from = "StoredMedia")]
#[non_exhaustive]
pub enum MediaRef {
    /// In the media library.
    Stored(StoredMedia),
    /// A file on this machine.
    File(PathBuf),
    /// Bytes in memory.
    Bytes(Bytes),
}

/// A file in the media library and what was found in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMedia {
    /// Its id.
    pub id: MediaId,
    /// What was found in it.
    #[serde(flatten)]
    pub facts: MediaFacts,
}

impl MediaRef {
    /// The stored file; `None` before the draft was scheduled.
    #[must_use]
    pub fn stored(&self) -> Option<&StoredMedia> {
        match self {
            Self::Stored(stored) => Some(stored),
            Self::File(_) | Self::Bytes(_) => None,
        }
    }
}

impl fmt::Debug for MediaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(stored) => stored.fmt(f),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Bytes(bytes) => write!(f, "Bytes({} B)", bytes.len()),
        }
    }
}

// A draft is written to a store only after its files were taken in; anything else is written as null and refused on reading.
impl From<MediaRef> for Option<StoredMedia> {
    fn from(media: MediaRef) -> Self {
        match media {
            MediaRef::Stored(stored) => Some(stored),
            MediaRef::File(_) | MediaRef::Bytes(_) => None,
        }
    }
}

impl From<StoredMedia> for MediaRef {
    fn from(stored: StoredMedia) -> Self {
        Self::Stored(stored)
    }
}

impl From<PathBuf> for MediaRef {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&str> for MediaRef {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<Bytes> for MediaRef {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for MediaRef {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl Draft {
    /// A draft that says `text`.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Adds a picture with its description.
    #[must_use]
    pub fn image(self, file: impl Into<MediaRef>, alt_text: impl Into<String>) -> Self {
        self.attach(Attachment { media: file.into(), alt_text: Some(alt_text.into()), title: None })
    }

    /// Adds a video.
    #[must_use]
    pub fn video(self, file: impl Into<MediaRef>) -> Self {
        self.attach(Attachment { media: file.into(), alt_text: None, title: None })
    }

    /// Adds a document with its title.
    #[must_use]
    pub fn document(self, file: impl Into<MediaRef>, title: impl Into<String>) -> Self {
        self.attach(Attachment { media: file.into(), alt_text: None, title: Some(title.into()) })
    }

    /// Adds any file.
    #[must_use]
    pub fn attach(mut self, attachment: Attachment) -> Self {
        self.media.push(attachment);
        self
    }

    /// Sets the link.
    #[must_use]
    pub fn link(mut self, link: Link) -> Self {
        self.link = Some(link);
        self
    }

    /// Adds a part to the thread.
    #[must_use]
    pub fn then(mut self, text: impl Into<String>) -> Self {
        self.thread.push(text.into());
        self
    }

    /// Sets the first comment.
    #[must_use]
    pub fn first_comment(mut self, text: impl Into<String>) -> Self {
        self.first_comment = Some(text.into());
        self
    }

    /// Sets the options of a platform.
    #[must_use]
    pub fn option(mut self, platform: PlatformId, value: Value) -> Self {
        self.options.insert(platform, value);
        self
    }

    /// Says something else on one account.
    #[must_use]
    pub fn override_for(mut self, account: AccountId, instead: Override) -> Self {
        self.overrides.insert(account, instead);
        self
    }

    /// The draft as one account publishes it: overrides applied, options of other platforms removed. Adapters only ever see this.
    #[must_use]
    pub fn resolve(&self, platform: &PlatformId, account: AccountId) -> Self {
        let own = self.overrides.get(&account);
        let pick = |of: fn(&Override) -> Option<&Value>| own.and_then(of);
        let options = pick(|o| o.options.as_ref()).or_else(|| self.options.get(platform));
        Self {
            text: own.and_then(|o| o.text.clone()).unwrap_or_else(|| self.text.clone()),
            media: self.media.clone(),
            link: own.and_then(|o| o.link.clone()).or_else(|| self.link.clone()),
            thread: own.and_then(|o| o.thread.clone()).unwrap_or_else(|| self.thread.clone()),
            first_comment: own.and_then(|o| o.first_comment.clone()).or_else(|| self.first_comment.clone()),
            options: options.map(|value| (platform.clone(), value.clone())).into_iter().collect(),
            overrides: BTreeMap::new(),
            trace: None,
        }
    }

    /// The options of a platform in the adapter's own type; its default where there are none.
    ///
    /// # Errors
    /// The reason why they do not have that shape, fit to be shown.
    pub fn options_for<T: DeserializeOwned + Default>(&self, platform: &PlatformId) -> Result<T, String> {
        match self.options.get(platform) {
            Some(value) => T::deserialize(value).map_err(|e| e.to_string()),
            None => Ok(T::default()),
        }
    }

    /// The stored media of this draft with their attachments. Empty for files that were not taken in.
    pub fn stored_media(&self) -> impl Iterator<Item = (&Attachment, &StoredMedia)> {
        self.media.iter().filter_map(|attachment| Some((attachment, attachment.media.stored()?)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_override_replaces_only_what_it_names() {
        let (x, here, there) = (PlatformId::from_static("x"), AccountId::new(), AccountId::new());
        let instead = Override { text: Some("short".into()), ..Override::default() };
        let draft = Draft::text("long").then("more").option(x.clone(), json!({"a": 1})).override_for(here, instead);
        let resolved = draft.resolve(&x, here);
        assert_eq!((resolved.text.as_str(), resolved.thread.len()), ("short", 1));
        assert_eq!(resolved.options[&x], json!({"a": 1}));
        assert_eq!(draft.resolve(&PlatformId::from_static("linkedin"), there).text, "long");
        assert!(draft.resolve(&PlatformId::from_static("linkedin"), there).options.is_empty());
    }

    #[test]
    fn a_trace_travels_with_the_draft_and_is_never_in_its_way() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let draft: Draft = serde_json::from_value(json!({ "text": "a", "trace": parent })).unwrap();
        assert_eq!(draft.trace.as_ref().map(TraceParent::as_str), Some(parent));
        assert_eq!(serde_json::to_value(&draft).unwrap(), json!({ "text": "a", "trace": parent }));
        assert_eq!(draft.resolve(&PlatformId::from_static("x"), AccountId::new()).trace, None);
        for spoilt in [json!(null), json!(3), json!("nonsense"), json!({ "a": 1 })] {
            assert_eq!(serde_json::from_value::<Draft>(json!({ "trace": spoilt })).unwrap(), Draft::default());
        }
    }

    #[test]
    fn a_file_that_was_not_taken_in_cannot_be_read_back() {
        let json = serde_json::to_value(Draft::text("a").image(vec![1, 2, 3], "b")).unwrap();
        assert!(serde_json::from_value::<Draft>(json).is_err());
    }
}
