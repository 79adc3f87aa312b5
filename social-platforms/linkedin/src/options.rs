//! What only LinkedIn has.

use serde::{Deserialize, Serialize};
use social_core::Draft;

use crate::descriptor::ID;

/// The settings under `options.linkedin` of a draft. All have defaults; an unknown name is an error.
///
/// ```
/// use social_linkedin::{LinkedInOptions, Visibility};
///
/// let options: LinkedInOptions = serde_json::from_str(r#"{"visibility": "connections", "reshare_disabled": true}"#)?;
/// assert_eq!(options.visibility, Visibility::Connections);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LinkedInOptions {
    /// Who sees the post.
    pub visibility: Visibility,
    /// Readers cannot reshare the post.
    pub reshare_disabled: bool,
    /// The post that this one reshares: `urn:li:share:...`, `urn:li:ugcPost:...` or `urn:li:activity:...`. The text may then be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reshare_parent: Option<String>,
    /// Write the draft's link into the text instead of showing a card. Media may then stand beside it.
    pub link_in_text: bool,
    /// A poll. Excludes media, a link card and a reshare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
}

/// Who sees a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Visibility {
    /// Everybody.
    #[default]
    Public,
    /// The member's connections; not for pages.
    Connections,
    /// Everybody who is logged in to LinkedIn.
    LoggedIn,
}

impl Visibility {
    pub(crate) fn wire(self) -> &'static str {
        match self {
            Self::Public => "PUBLIC",
            Self::Connections => "CONNECTIONS",
            Self::LoggedIn => "LOGGED_IN",
        }
    }
}

/// A poll under the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// Up to 140 characters.
    pub question: String,
    /// Two to four answers of up to 30 characters.
    pub options: Vec<String>,
    /// How long people can vote.
    #[serde(default)]
    pub duration: PollDuration,
}

/// How long people can vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollDuration {
    /// 1 day.
    OneDay,
    /// 3 days.
    #[default]
    ThreeDays,
    /// 7 days.
    SevenDays,
    /// 14 days.
    FourteenDays,
}

impl PollDuration {
    pub(crate) fn wire(self) -> &'static str {
        match self {
            Self::OneDay => "ONE_DAY",
            Self::ThreeDays => "THREE_DAYS",
            Self::SevenDays => "SEVEN_DAYS",
            Self::FourteenDays => "FOURTEEN_DAYS",
        }
    }
}

impl LinkedInOptions {
    /// The options of a resolved draft.
    ///
    /// # Errors
    /// Why they do not have this shape, fit to be shown.
    pub(crate) fn of(draft: &Draft) -> Result<Self, String> {
        // A list would be read as the values without their names.
        if draft.options.get(&ID).is_some_and(|options| !options.is_object()) {
            return Err("the options are not an object with names and values".to_owned());
        }
        draft.options_for(&ID)
    }
}

/// Whether a text is the URN of a post that can be reshared or deleted.
pub(crate) fn is_post_urn(urn: &str) -> bool {
    ["urn:li:share:", "urn:li:ugcPost:", "urn:li:activity:"]
        .iter()
        .filter_map(|prefix| urn.strip_prefix(prefix))
        .any(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
}
