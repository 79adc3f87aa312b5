//! Chirp's JSON. Private: what leaves this crate are core's words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /v1/me`
#[derive(Debug, Deserialize)]
pub(crate) struct Me {
    pub(crate) id: String,
    pub(crate) handle: String,
    pub(crate) name: Option<String>,
}

/// `POST /v1/images` and `GET /v1/images/{id}`
#[derive(Debug, Deserialize)]
pub(crate) struct NewImage {
    pub(crate) id: String,
    pub(crate) state: ImageState,
}

/// What Chirp thinks of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ImageState {
    Checking,
    Usable,
    Refused,
}

/// `POST /v1/chirps`
#[derive(Debug, Serialize)]
pub(crate) struct NewChirp<'a> {
    pub(crate) text: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) images: Vec<Image<'a>>,
    /// Comes back in lists; Chirp does not show it to people.
    pub(crate) client_ref: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Image<'a> {
    pub(crate) id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alt_text: Option<&'a str>,
}

/// The answer to `POST /v1/chirps`.
#[derive(Debug, Deserialize)]
pub(crate) struct Created {
    pub(crate) id: String,
}

/// `GET /v1/users/{id}/chirps`. The list is required: an answer without one proves nothing.
#[derive(Debug, Deserialize)]
pub(crate) struct Timeline {
    pub(crate) chirps: Vec<FoundChirp>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FoundChirp {
    pub(crate) id: String,
    pub(crate) client_ref: Option<String>,
}

/// `GET /v1/chirps/{id}/numbers` and `GET /v1/me/numbers`
#[derive(Debug, Deserialize)]
pub(crate) struct Numbers {
    pub(crate) values: BTreeMap<String, i64>,
}

/// The body of a refusal. Anything else becomes the default.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fault {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}
