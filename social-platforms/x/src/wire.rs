//! X's JSON. Reading knows both vocabularies: which one an answer uses follows from the request, and neither is promised for ever.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::options::{Poll, ReplySettings};

/// Which words reading requests use. X renamed tweets to posts in August 2026 and accepts both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vocabulary {
    /// `tweet.fields`, the proven one.
    #[default]
    Tweets,
    /// `post.fields`, the one of the present documentation.
    Posts,
}

type Query = Vec<(&'static str, &'static str)>;

impl Vocabulary {
    /// What finding a lost post needs to know.
    pub(crate) fn timeline(self) -> Query {
        match self {
            Self::Tweets => {
                vec![("tweet.fields", "created_at,entities,attachments,referenced_tweets,conversation_id,note_tweet")]
            }
            Self::Posts => vec![
                ("post.fields", "created_at,entities,attachments,conversation_id,note_post"),
                ("expansions", "referenced_posts"),
            ],
        }
    }

    /// Numbers of posts; the private ones only where X still gives them.
    pub(crate) fn numbers(self, private: bool) -> Query {
        let name = match self {
            Self::Tweets => "tweet.fields",
            Self::Posts => "post.fields",
        };
        let fields =
            if private { "public_metrics,non_public_metrics,attachments" } else { "public_metrics,attachments" };
        vec![(name, fields), ("expansions", "attachments.media_keys"), ("media.fields", "public_metrics")]
    }
}

/// What is asked about the own account.
pub(crate) const USER_FIELDS: &str =
    "id,name,username,profile_image_url,verified,verified_type,subscription_type,protected,public_metrics";

// ---- requests ----

#[derive(Debug, Serialize)]
pub(crate) struct NewPost<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<NewPostMedia<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<&'a Poll>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<NewReply<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote_tweet_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_settings: Option<ReplySettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community_id: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    pub made_with_ai: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub paid_partnership: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewPostMedia<'a> {
    pub media_ids: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewReply<'a> {
    pub in_reply_to_tweet_id: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct OpenUpload<'a> {
    pub media_type: &'a str,
    pub media_category: &'a str,
    pub total_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Description<'a> {
    pub id: &'a str,
    pub metadata: Metadata<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Metadata<'a> {
    pub alt_text: AltText<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AltText<'a> {
    pub text: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

// ---- answers ----

/// An answer with one thing in it. Next to it X may list what it could not say.
#[derive(Debug, Deserialize)]
pub(crate) struct One<T> {
    pub data: Option<T>,
    #[serde(default)]
    pub errors: Vec<Value>,
}

/// An answer with a list in it; an empty list has no `data`.
#[derive(Debug, Deserialize)]
pub(crate) struct Many<T> {
    #[serde(default = "Vec::new")]
    pub data: Vec<T>,
    #[serde(default)]
    pub errors: Vec<Value>,
    #[serde(default)]
    pub includes: Includes,
    #[serde(default)]
    pub meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Includes {
    pub media: Vec<IncludedMedia>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct IncludedMedia {
    pub media_key: String,
    #[serde(default)]
    pub public_metrics: Numbers,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Meta {
    pub next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Created {
    pub id: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Gone {
    pub deleted: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Me {
    pub id: String,
    pub name: String,
    pub username: String,
    pub profile_image_url: Option<String>,
    pub verified_type: Option<String>,
    pub subscription_type: Option<String>,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub public_metrics: Numbers,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Upload {
    pub id: String,
    pub expires_after_secs: Option<u64>,
    pub processing_info: Option<Processing>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Processing {
    pub state: ProcessingState,
    pub check_after_secs: Option<u64>,
    pub error: Option<ProcessingError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProcessingState {
    Pending,
    InProgress,
    Succeeded,
    Failed,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ProcessingError {
    pub name: Option<String>,
    pub message: Option<String>,
}

/// A post as it is read back. The pairs of fields are the two vocabularies for one thing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Post {
    pub id: String,
    text: String,
    note_tweet: Option<Note>,
    note_post: Option<Note>,
    pub created_at: Option<Timestamp>,
    pub conversation_id: Option<String>,
    entities: Entities,
    attachments: Attachments,
    referenced_tweets: Option<Vec<Reference>>,
    referenced_posts: Option<Vec<Reference>>,
    pub public_metrics: Numbers,
    pub non_public_metrics: Numbers,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Note {
    text: String,
    entities: Entities,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entities {
    urls: Option<Vec<UrlEntity>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UrlEntity {
    pub url: Option<String>,
    pub expanded_url: Option<String>,
    pub media_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attachments {
    media_keys: Option<Vec<String>>,
    poll_ids: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reference {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
}

impl Post {
    /// The whole text with its links: that of a long post stands apart from the shortened one.
    pub(crate) fn whole_text(&self) -> (&str, &[UrlEntity]) {
        let (text, entities) = match self.note_tweet.as_ref().or(self.note_post.as_ref()) {
            Some(note) => (&note.text, &note.entities),
            None => (&self.text, &self.entities),
        };
        (text, entities.urls.as_deref().unwrap_or_default())
    }

    /// The post that this one refers to in that way: `replied_to`, `quoted` or `retweeted`.
    pub(crate) fn reference(&self, kind: &str) -> Option<&str> {
        let lists = [&self.referenced_tweets, &self.referenced_posts];
        lists
            .into_iter()
            .flatten()
            .flatten()
            .find(|reference| reference.kind == kind)
            .map(|reference| reference.id.as_str())
    }

    pub(crate) fn media_keys(&self) -> &[String] {
        self.attachments.media_keys.as_deref().unwrap_or_default()
    }

    pub(crate) fn has_poll(&self) -> bool {
        self.attachments.poll_ids.as_ref().is_some_and(|ids| !ids.is_empty())
    }
}

/// Counters by name. What is no whole number is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Numbers(BTreeMap<String, Value>);

impl Numbers {
    /// The first of these names that there is.
    pub(crate) fn number(&self, names: &[&str]) -> Option<i64> {
        names.iter().find_map(|&name| self.0.get(name)?.as_i64())
    }
}

/// The instant that is part of an id; `None` for an id from before there were such ids.
pub(crate) fn id_time(id: &str) -> Option<Timestamp> {
    const EPOCH_MS: i64 = 1_288_834_974_657;
    let ms = (id.parse::<u64>().ok()? >> 22) as i64;
    if ms == 0 { None } else { Timestamp::from_millisecond(ms + EPOCH_MS).ok() }
}

/// What an id of X looks like.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_vocabularies_are_understood() {
        let old = json!({"id": "9", "text": "cut…", "note_tweet": {"text": "whole"}, "referenced_tweets": [{"type": "replied_to", "id": "8"}]});
        let new = json!({"id": "9", "text": "cut…", "note_post": {"text": "whole"}, "referenced_posts": [{"type": "replied_to", "id": "8"}]});
        for json in [old, new] {
            let post: Post = serde_json::from_value(json).unwrap();
            assert_eq!(
                (post.whole_text().0, post.reference("replied_to"), post.reference("quoted")),
                ("whole", Some("8"), None)
            );
        }
    }

    #[test]
    fn an_id_tells_its_time() {
        assert_eq!(id_time("1445880548472328192").unwrap().to_string(), "2021-10-06T22:36:00.574Z");
        assert_eq!((id_time("20"), id_time("no id")), (None, None));
    }

    #[test]
    fn an_id_has_at_most_19_digits() {
        assert!(is_id("1") && is_id(&"9".repeat(19)));
        assert!(!is_id("") && !is_id(&"9".repeat(20)) && !is_id("12a") && !is_id("１２"));
    }

    #[test]
    fn an_empty_timeline_has_no_data() {
        let page: Many<Post> = serde_json::from_value(json!({"meta": {"result_count": 0}})).unwrap();
        assert!(page.data.is_empty() && page.meta.next_token.is_none());
    }
}
