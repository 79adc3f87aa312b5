//! Throws away what is not needed any more, in small portions with pauses, so that whoever publishes never stands behind it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    error::{Error, ErrorKind},
    id::{MediaId, UserId},
    social::Inner,
    store::{PageRequest, PostFilter, PostStatus},
    time::{later, signed},
};

/// Rows of the history that are forgotten at once.
const ROWS: u64 = 1000;
/// Files that are looked at at once.
const FILES: usize = 100;
/// Between two portions.
const PAUSE: Duration = Duration::from_millis(200);
/// How long ciphertext that was replaced is kept, for forensics.
const REPLACED_TOKENS: Duration = Duration::from_secs(24 * 3600);

/// How long things are kept. `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Rows of the history with what the networks answered. Posts, where they ended and their addresses on the networks stay.
    pub history: Option<Duration>,
    /// Files, counted from their upload, that no post which has not ended uses.
    pub media: Option<Duration>,
}

impl Default for Retention {
    /// 90 days of history; files for ever.
    fn default() -> Self {
        Self { history: Some(Duration::from_secs(90 * 24 * 3600)), media: None }
    }
}

/// What a round threw away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Rows of the history.
    pub rows: u64,
    /// Connections whose replaced ciphertext was erased.
    pub tokens: u64,
    /// Files.
    pub files: u64,
}

/// One round.
///
/// # Errors
/// `Storage`; what was thrown away by then stays so.
pub(crate) async fn tidy(inner: &Arc<Inner>) -> Result<Tidied, Error> {
    let (store, clock) = (&inner.store, inner.cx.clock());
    let now = clock.now();
    let before = |age: Duration| later(now, -signed(age));
    let mut tidied =
        Tidied { tokens: store.forget_replaced_tokens(before(REPLACED_TOKENS)).await?, ..Tidied::default() };
    if let Some(age) = inner.retention.history {
        loop {
            let portion = store.forget_history(before(age), ROWS).await?;
            tidied.rows += portion;
            if portion == 0 {
                break;
            }
            clock.sleep_until(later(clock.now(), signed(PAUSE))).await;
        }
    }
    if let Some(age) = inner.retention.media {
        tidied.files = forget_files(inner, before(age)).await?;
    }
    if tidied != Tidied::default() {
        let Tidied { rows, tokens, files } = tidied;
        tracing::info!(rows, tokens, files, "what is not needed any more was thrown away");
    }
    Ok(tidied)
}

async fn forget_files(inner: &Arc<Inner>, before: Timestamp) -> Result<u64, Error> {
    let mut forgotten = 0;
    let mut after: Option<MediaId> = None;
    loop {
        let old = inner.store.old_media(before, after, FILES).await?;
        let Some((_, last)) = old.last() else { return Ok(forgotten) };
        after = Some(*last);
        let mut by_user = HashMap::<UserId, Vec<MediaId>>::new();
        for (user, id) in old {
            by_user.entry(user).or_default().push(id);
        }
        for (user, mut files) in by_user {
            keep_used(inner, user, &mut files).await?;
            for id in files {
                // A post may have come meanwhile.
                let mut still = vec![id];
                keep_used(inner, user, &mut still).await?;
                if still.is_empty() {
                    continue;
                }
                // The file first: a record without its file says "upload it again", a file without a record would stay for ever.
                if let Err(error) = inner.library.remove(id).await {
                    tracing::warn!(media.id = %id, %error, "an old file could not be removed; it is tried again with the next round");
                    continue;
                }
                forgotten += u64::from(inner.store.delete_media(user, id).await?);
            }
        }
        inner.cx.clock().sleep_until(later(inner.cx.now(), signed(PAUSE))).await;
    }
}

/// Takes files out of the list that a post uses which has not ended, or which a person may want to send again after a doubt.
async fn keep_used(inner: &Inner, user: UserId, files: &mut Vec<MediaId>) -> Result<(), Error> {
    for status in [PostStatus::Pending, PostStatus::Publishing, PostStatus::Unconfirmed] {
        keep_named(inner, user, Some(status), files).await?;
    }
    Ok(())
}

/// Takes files out of the list that a post with this status names, or any post for `None`.
pub(crate) async fn keep_named(
    inner: &Inner,
    user: UserId,
    status: Option<PostStatus>,
    files: &mut Vec<MediaId>,
) -> Result<(), Error> {
    let filter = PostFilter { status, ..PostFilter::default() };
    let mut page = PageRequest { after: None, limit: 200 };
    while !files.is_empty() {
        let posts = inner.store.posts(user, &filter, &page).await?;
        for (post, _) in &posts.items {
            // Drafts name files in several places; their text is what names them all.
            let draft = serde_json::to_string(&post.draft)
                .map_err(|error| Error::new(ErrorKind::Unexpected, "retention").source(error))?;
            files.retain(|id| !draft.contains(&id.to_string()));
        }
        match posts.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    Ok(())
}
