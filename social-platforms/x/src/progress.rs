//! How far a delivery got: the record behind a checkpoint.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use social_core::{Checkpoint, Error, MediaId, PublishContext, RemotePost};

use crate::operation;

const VERSION: u16 = 1;

/// What has to survive a restart. Complete media mean that the part is ready; a part behind the first needs no preparation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Which part is next: 0 is the post itself, then comes the thread, then the first comment.
    pub part: usize,
    /// The id of the part before this one, which this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Files of this part that are on X, in the order of the draft.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Uploaded>,
    /// The file behind those, while it is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
    /// How often an upload that X forgot was begun anew.
    #[serde(default)]
    pub restarts: u8,
    /// What was found out about a commit whose answer was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
}

/// A file that X can show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Uploaded {
    pub file: MediaId,
    pub id: String,
    pub expires_at: Timestamp,
    /// Whether its description is there, or there is none.
    pub described: bool,
}

/// A file that is being sent in segments, or that X is still processing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub file: MediaId,
    pub id: String,
    pub expires_at: Timestamp,
    /// Bytes of one segment.
    pub chunk: u64,
    /// The next segment, and where in the file it begins.
    pub segment: u64,
    pub offset: u64,
    /// When all of it was there; from then on X processes it.
    pub complete_at: Option<Timestamp>,
}

/// What was found out about a lost commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Doubt {
    /// When the first commit of this part that came into doubt was permitted.
    pub since: Timestamp,
    /// When the commit that is in doubt now was permitted: later than `since` if the part was sent again.
    pub attempt: Timestamp,
    /// When a complete read first did not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_at: Option<Timestamp>,
}

impl Progress {
    /// `None` if it is not a record of this shape.
    pub(crate) fn read(checkpoint: &Checkpoint) -> Option<Self> {
        checkpoint.read(VERSION)
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint::write(VERSION, self)
    }

    /// Where preparation goes on. Without a record that can be read it begins again, behind what is out already.
    pub(crate) fn resume(cx: &PublishContext<'_>, from: Option<&Checkpoint>) -> Result<Self, Error> {
        match from.and_then(Self::read) {
            Some(progress) if progress.part >= cx.parts.len() => Ok(progress),
            _ => Self::behind(cx.parts),
        }
    }

    fn behind(parts: &[RemotePost]) -> Result<Self, Error> {
        let Some(last) = parts.last() else { return Ok(Self::default()) };
        match remote_id(last) {
            Some(previous) => Ok(Self { part: parts.len(), previous: Some(previous), ..Self::default() }),
            None => {
                Err(Error::invalid(operation::PREPARE, "the part before this one has no id that could be answered"))
            }
        }
    }

    /// The record for the part behind this one, which is out as `id`.
    pub(crate) fn next(&self, id: String) -> Self {
        Self { part: self.part + 1, previous: Some(id), ..Self::default() }
    }
}

/// A person who settles a doubt gives an address instead of an id.
fn remote_id(post: &RemotePost) -> Option<String> {
    let id = match &post.id {
        Some(id) => id.as_str(),
        None => post.permalink.as_deref()?.split(['?', '#']).next()?.trim_end_matches('/').rsplit('/').next()?,
    };
    crate::wire::is_id(id).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_the_part_as_well_as_an_id() {
        let by_address = |address: &str| remote_id(&RemotePost { id: None, permalink: Some(address.to_owned()) });
        assert_eq!(by_address("https://x.com/shop/status/17?s=20").as_deref(), Some("17"));
        assert_eq!(by_address("https://x.com/shop"), None);
        assert_eq!(remote_id(&RemotePost::unknown()), None);
    }

    #[test]
    fn the_next_part_answers_this_one() {
        let second = Progress::default().next("10".into());
        let third = second.next("11".into());
        assert_eq!((third.part, third.previous.as_deref()), (2, Some("11")));
        assert_eq!(Progress::read(&third.checkpoint()), Some(third));
    }
}
