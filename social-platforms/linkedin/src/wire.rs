//! LinkedIn's JSON, private to this crate.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use social_core::http::Reply;

// ---- publishing ----

/// The body of a create. Written once, then sent as those bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewPost<'a> {
    pub(crate) author: &'a str,
    pub(crate) commentary: String,
    pub(crate) visibility: &'static str,
    pub(crate) distribution: Distribution,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Content>,
    pub(crate) lifecycle_state: &'static str,
    pub(crate) is_reshare_disabled_by_author: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reshare_context: Option<ReshareContext>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Distribution {
    feed_distribution: &'static str,
    target_entities: [(); 0],
    third_party_distribution_channels: [(); 0],
}

impl Distribution {
    pub(crate) const MAIN_FEED: Self =
        Self { feed_distribution: "MAIN_FEED", target_entities: [], third_party_distribution_channels: [] };
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Content {
    Media(MediaItem),
    MultiImage { images: Vec<MediaItem> },
    Article(Article),
    Poll(PollContent),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MediaItem {
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alt_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Article {
    pub(crate) source: String,
    pub(crate) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thumbnail: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PollContent {
    pub(crate) question: String,
    pub(crate) options: Vec<Text>,
    pub(crate) settings: PollSettings,
}

#[derive(Debug, Serialize)]
pub(crate) struct PollSettings {
    pub(crate) duration: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Text {
    pub(crate) text: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReshareContext {
    pub(crate) parent: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewComment<'a> {
    pub(crate) actor: &'a str,
    pub(crate) object: &'a str,
    pub(crate) message: Text,
}

/// A comment, as the answer to its create and as a list shows it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FoundComment {
    pub(crate) comment_urn: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) message: Option<FoundText>,
    pub(crate) created: Option<Moment>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FoundText {
    pub(crate) text: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Moment {
    /// Milliseconds since the epoch.
    pub(crate) time: i64,
}

// ---- media ----

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InitializeUpload<'a> {
    pub(crate) initialize_upload_request: UploadRequest<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UploadRequest<'a> {
    pub(crate) owner: &'a str,
    /// Videos only, as the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upload_captions: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upload_thumbnail: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Valued<T> {
    pub(crate) value: T,
}

/// The answer to an initialize of any kind: pictures and documents have one address, videos one per part.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpenedUpload {
    #[serde(alias = "video", alias = "document", alias = "image")]
    pub(crate) urn: String,
    pub(crate) upload_url: Option<String>,
    #[serde(default)]
    pub(crate) upload_instructions: Vec<UploadInstruction>,
    #[serde(default)]
    pub(crate) upload_token: Option<String>,
    /// Milliseconds since the epoch.
    #[serde(default, alias = "uploadUrlsExpireAt")]
    pub(crate) upload_url_expires_at: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UploadInstruction {
    pub(crate) upload_url: String,
    pub(crate) first_byte: u64,
    pub(crate) last_byte: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FinalizeUpload<'a> {
    pub(crate) finalize_upload_request: FinalizeRequest<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FinalizeRequest<'a> {
    pub(crate) video: &'a str,
    pub(crate) upload_token: &'a str,
    pub(crate) uploaded_part_ids: &'a [String],
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MediaStatus {
    pub(crate) status: Option<String>,
    pub(crate) processing_failure_reason: Option<String>,
}

// ---- reading ----

#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    #[serde(default = "Vec::new")]
    pub(crate) elements: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoundPost {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) commentary: String,
    /// Milliseconds since the epoch.
    pub(crate) created_at: Option<i64>,
    pub(crate) lifecycle_state: Option<String>,
    #[serde(default)]
    pub(crate) content: Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct UserInfo {
    pub(crate) sub: String,
    pub(crate) name: Option<String>,
    pub(crate) given_name: Option<String>,
    pub(crate) family_name: Option<String>,
    pub(crate) picture: Option<String>,
}

/// LinkedIn names the organization differently on different pages of its documentation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrganizationAcl {
    organization: Option<String>,
    organization_target: Option<String>,
    organizational_target: Option<String>,
    #[serde(default)]
    pub(crate) role: String,
    pub(crate) state: Option<String>,
}

impl OrganizationAcl {
    pub(crate) fn target(&self) -> Option<&str> {
        let Self { organization, organization_target, organizational_target, .. } = self;
        organization.as_ref().or(organization_target.as_ref()).or(organizational_target.as_ref()).map(String::as_str)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Organization {
    pub(crate) localized_name: Option<String>,
    pub(crate) vanity_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkSize {
    pub(crate) first_degree_size: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShareStatistics {
    pub(crate) share: Option<String>,
    pub(crate) ugc_post: Option<String>,
    #[serde(default)]
    pub(crate) total_share_statistics: ShareCounts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ShareCounts {
    #[serde(deserialize_with = "count")]
    impression_count: i64,
    #[serde(deserialize_with = "count")]
    unique_impressions_count: i64,
    /// As one page of the documentation spells it.
    #[serde(deserialize_with = "count")]
    unique_impressions_counts: i64,
    #[serde(deserialize_with = "count")]
    click_count: i64,
    #[serde(deserialize_with = "count")]
    like_count: i64,
    #[serde(deserialize_with = "count")]
    comment_count: i64,
    #[serde(deserialize_with = "count")]
    share_count: i64,
}

impl ShareCounts {
    /// By the names that all networks share.
    pub(crate) fn named(&self) -> [(&'static str, i64); 6] {
        [
            ("impressions", self.impression_count),
            ("reach", self.unique_impressions_count.max(self.unique_impressions_counts)),
            ("clicks", self.click_count),
            ("likes", self.like_count),
            ("comments", self.comment_count),
            ("shares", self.share_count),
        ]
    }
}

/// One number of a member's post. `metricType` is not read: it is an object up to 202604 and a string since, and we asked for one type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MetricCount {
    #[serde(deserialize_with = "count")]
    count: i64,
    /// What some see instead of `count`.
    #[serde(deserialize_with = "count")]
    value: i64,
}

impl MetricCount {
    pub(crate) fn number(&self) -> i64 {
        self.count.max(self.value)
    }
}

/// A whole number, also where it is written as a fraction or as null.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    #[expect(clippy::cast_possible_truncation, reason = "counters are far below the limits, and a cast saturates")]
    let rounded = value.as_f64().map(|number| number.round() as i64);
    Ok(value.as_i64().or(rounded).unwrap_or(0))
}

// ---- errors ----

/// What LinkedIn says when it refuses. Read field by field, so that one odd field does not hide the others.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    pub(crate) message: String,
    /// The constants that say what is wrong, the most precise one first.
    codes: Vec<String>,
    pub(crate) service_code: Option<i64>,
}

impl Fault {
    /// The fault in an answer; empty for HTML, plain text and nothing.
    pub(crate) fn of(reply: &Reply) -> Self {
        let body: Value = reply.json_or_default();
        let fields = body["errorDetails"]["inputErrors"].as_array().into_iter().flatten();
        Self {
            message: body["message"].as_str().unwrap_or_default().to_owned(),
            codes: fields.chain([&body]).filter_map(|at| at["code"].as_str()).map(str::to_owned).collect(),
            service_code: body["serviceErrorCode"].as_i64(),
        }
    }

    /// Whether it was LinkedIn's interface that answered, rather than something on the way.
    pub(crate) fn is_recognised(&self) -> bool {
        !self.message.is_empty() || !self.codes.is_empty() || self.service_code.is_some()
    }

    /// The most precise constant, or nothing.
    pub(crate) fn code(&self) -> &str {
        self.codes.first().map_or("", String::as_str)
    }

    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.contains(&code.as_str()))
    }

    /// Whether the message holds a phrase, whatever the case of its letters.
    pub(crate) fn says(&self, phrase: &str) -> bool {
        self.message.to_ascii_lowercase().contains(&phrase.to_ascii_lowercase())
    }

    /// What to show as LinkedIn's code: the constant, or else the number.
    pub(crate) fn shown_code(&self) -> Option<String> {
        self.codes.first().cloned().or_else(|| self.service_code.map(|code| code.to_string()))
    }
}
