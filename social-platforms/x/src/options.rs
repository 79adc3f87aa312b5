//! What can be said on X and nowhere else.

use serde::{Deserialize, Serialize};

/// The value of `options.x` of a draft. Unknown names are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XOptions {
    /// Who may answer; everyone if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_settings: Option<ReplySettings>,
    /// A poll under the (first) post. It excludes media.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// The id of a post to quote, where the operator's app may do that. It excludes media and a poll.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote_tweet_id: Option<String>,
    /// The id of a community to post into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community_id: Option<String>,
    /// Labels the (first) post as containing media made with artificial intelligence.
    pub made_with_ai: bool,
    /// Labels every part as a paid partnership.
    pub paid_partnership: bool,
}

/// Who may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ReplySettings {
    /// Those whom the account follows.
    Following,
    /// Those whom the post mentions.
    MentionedUsers,
    /// Subscribers of the account.
    Subscribers,
    /// Verified accounts.
    Verified,
}

/// A poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// 2 to 4 answers of 1 to 25 characters.
    pub options: Vec<String>,
    /// How long it is open: 5 minutes to 7 days (10080).
    pub duration_minutes: u32,
}
