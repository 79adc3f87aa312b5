//! Publishing: everything before `commit` may be repeated, `commit` is one request, the rest only reads.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use social_core::{
    Account, CallContext, Checkpoint, Committed, Deleted, Error, ErrorKind, PlatformDescriptor, Prepared, Publish,
    PublishContext, Reconciled, RemotePost, RemotePostId, Retry, Settled, TokenSet, draft::StoredMedia, http::Body,
};

use crate::{
    Chirp,
    error::classify,
    succeeded,
    wire::{Created, Image, ImageState, NewChirp, NewImage, Timeline},
};

/// Version of [`Uploaded`] in checkpoints.
const SHAPE: u16 = 1;
/// How long Chirp usually needs to look at a picture.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How far a delivery got: Chirp's ids of the draft's pictures, in their order. All of them make it ready.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Uploaded {
    images: Vec<String>,
}

impl Uploaded {
    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::write(SHAPE, self)
    }
}

#[async_trait]
impl Publish for Chirp {
    fn descriptor(&self) -> &PlatformDescriptor {
        &self.descriptor
    }

    async fn prepare(&self, cx: &PublishContext<'_>, from: Option<Checkpoint>) -> Result<Prepared, Error> {
        // A checkpoint that cannot be read means to begin again: nothing of this is visible.
        let mut done: Uploaded = from.and_then(|at| at.read(SHAPE)).unwrap_or_default();
        if let Some((_, stored)) = cx.draft.stored_media().nth(done.images.len()) {
            // One step at a time: its result is stored before the next one begins.
            done.images.push(self.upload(cx, stored).await?);
            return Ok(Prepared::Again(done.checkpoint()));
        }
        for id in &done.images {
            match self.state_of(cx, id).await? {
                Some(ImageState::Usable) => {}
                Some(ImageState::Checking) => {
                    return Ok(Prepared::Wait { at: done.checkpoint(), poll_after: LOOK_AGAIN });
                }
                Some(ImageState::Refused) => {
                    return Err(Error::new(ErrorKind::Rejected, "publish.prepare")
                        .message("Chirp does not accept a picture")
                        .advice("Chirp does not accept a picture of this post. Please use another one."));
                }
                // Pictures that are not used are forgotten after an hour.
                None => return Ok(Prepared::Again(Uploaded::default().checkpoint())),
            }
        }
        Ok(Prepared::Ready(done.checkpoint()))
    }

    async fn commit(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Committed, Error> {
        let done: Uploaded = ready.read(SHAPE).ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "publish.commit")
                .message("the checkpoint cannot be read")
                .retry(Retry::Never)
                .effect_none()
        })?;
        let alt_texts = cx.draft.stored_media().map(|(attachment, _)| attachment.alt_text.as_deref());
        let chirp = NewChirp {
            text: &social_core::validate::full_text(&self.descriptor, cx.draft),
            images: done.images.iter().zip(alt_texts).map(|(id, alt_text)| Image { id, alt_text }).collect(),
            client_ref: &cx.delivery.to_string(),
        };
        let request = cx.visible().post("publish.commit", self.endpoint(&["v1", "chirps"])).bearer(cx.token());
        let reply = request.json(&chirp).deadline(self.descriptor.flow.commit_deadline()).send().await?;
        if !reply.is_success() {
            return Err(classify(&reply));
        }
        // A success that cannot be read is an error of unknown effect: reconciling finds the post and its id.
        let created: Created = reply.json()?;
        Ok(Committed::Published(self.remote(cx.account, created.id)))
    }

    async fn settle(&self, _cx: &PublishContext<'_>, _from: Checkpoint) -> Result<Settled, Error> {
        // The descriptor says so, and `commit` never answers `Settling`.
        Err(Error::new(ErrorKind::Unsupported, "publish.settle").message("chirps do not settle"))
    }

    /// Looks for the reference that `commit` attached. Read-only, safe to repeat and to cancel.
    ///
    /// The driver waits [`reconcile_after`](social_core::descriptor::PublishFlow::reconcile_after) first, so that the list is complete and
    /// a list without the reference proves that the commit had no effect.
    async fn reconcile(&self, cx: &PublishContext<'_>, _ready: Checkpoint) -> Result<Reconciled, Error> {
        let reference = cx.delivery.to_string();
        let url = self.endpoint(&["v1", "users", &cx.account.profile.remote_id, "chirps"]);
        let request = cx.http().get("publish.reconcile", url).query([("client_ref", &reference)]).bearer(cx.token());
        let timeline: Timeline = succeeded(request.send().await?)?.json()?;
        let found = timeline.chirps.into_iter().find(|chirp| chirp.client_ref.as_ref() == Some(&reference));
        Ok(match found {
            Some(chirp) => Reconciled::Published(self.remote(cx.account, chirp.id)),
            None => Reconciled::NotPublished,
        })
    }

    async fn delete(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        _account: &Account,
        id: &RemotePostId,
    ) -> Result<Deleted, Error> {
        let url = self.endpoint(&["v1", "chirps", id.as_str()]);
        let reply = cx.http().delete("publish.delete", url).bearer(&tokens.access).send().await?;
        match reply.status() {
            200..=299 => Ok(Deleted::Now),
            404 => Ok(Deleted::Before),
            _ => Err(classify(&reply)),
        }
    }
}

impl Chirp {
    /// Sends a picture, read from the library while it is sent. Invisible until a chirp uses it.
    async fn upload(&self, cx: &PublishContext<'_>, stored: &StoredMedia) -> Result<String, Error> {
        let body = Body::Media { source: cx.open(stored).await?, range: 0..stored.facts.size_bytes };
        let request = cx.http().post("media.upload", self.endpoint(&["v1", "images"])).bearer(cx.token());
        let reply = request.header("content-type", &stored.facts.mime).body(body).send().await?;
        Ok(succeeded(reply)?.json::<NewImage>()?.id)
    }

    /// What Chirp thinks of a picture; `None` if it has forgotten it.
    async fn state_of(&self, cx: &PublishContext<'_>, id: &str) -> Result<Option<ImageState>, Error> {
        let url = self.endpoint(&["v1", "images", id]);
        let reply = cx.http().get("media.status", url).bearer(cx.token()).send().await?;
        if reply.status() == 404 {
            return Ok(None);
        }
        Ok(succeeded(reply)?.json::<NewImage>()?.state.into())
    }

    fn remote(&self, account: &Account, id: String) -> RemotePost {
        let handle = account.profile.handle.as_deref().unwrap_or(&account.profile.remote_id);
        let permalink = self.permalink(handle, &id);
        RemotePost::new(id, permalink)
    }
}
