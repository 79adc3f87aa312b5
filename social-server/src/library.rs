//! Uploaded files with signed, expiring addresses, for networks that fetch by themselves and for previews.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use jiff::Timestamp;
use social_core::{
    Error, MediaId,
    library::{DirectoryLibrary, MediaLibrary},
    media::MediaSource,
    time::later,
    vault::Signer,
};
use url::Url;
use uuid::Uuid;

/// How long an address is good for a network that fetches.
const FETCH_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long an address is good for a preview.
const PREVIEW_LIFE: Duration = Duration::from_secs(3600);

/// A folder of files behind signed addresses.
#[derive(Debug, Clone)]
pub struct ServerLibrary {
    folder: DirectoryLibrary,
    signer: Signer,
    base: Url,
}

impl ServerLibrary {
    /// Uses a folder, a signer of addresses, and the address of this server.
    ///
    /// # Errors
    /// `Config` if the folder cannot be made.
    pub fn open(folder: &Path, signer: Signer, base: Url) -> Result<Self, Error> {
        Ok(Self { folder: DirectoryLibrary::open(folder)?, signer, base })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &DirectoryLibrary {
        &self.folder
    }

    /// An address that is good until an instant.
    #[must_use]
    pub fn signed_url(&self, id: MediaId, until: Timestamp) -> Option<Url> {
        let mut token = token_body(id, until).to_vec();
        let signature = self.signer.sign(&message(&token));
        token.extend_from_slice(&signature);
        self.base.join(&format!("m/{}", URL_SAFE_NO_PAD.encode(token))).ok()
    }

    /// An address for a preview, with its end.
    pub(crate) fn preview(&self, id: MediaId, now: Timestamp) -> Option<(Url, Timestamp)> {
        let until = later(now, social_core::time::signed(PREVIEW_LIFE));
        let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
        Some((self.signed_url(id, until)?, until))
    }

    /// The file that a token stands for, if we signed it and it has not ended.
    #[must_use]
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<MediaId> {
        if token.len() > 128 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, signature) = bytes.split_first_chunk::<BODY_BYTES>()?;
        if !self.signer.verify(&message(body), signature) {
            return None;
        }
        let (id, until) = body.split_first_chunk::<16>()?;
        let until = Timestamp::from_second(i64::from_be_bytes(until.try_into().ok()?)).ok()?;
        (until > now).then(|| MediaId::from_uuid(Uuid::from_bytes(*id)))
    }
}

const BODY_BYTES: usize = 24;

fn token_body(id: MediaId, until: Timestamp) -> [u8; BODY_BYTES] {
    let mut body = [0; BODY_BYTES];
    body[..16].copy_from_slice(id.uuid().as_bytes());
    body[16..].copy_from_slice(&until.as_second().to_be_bytes());
    body
}

fn message(body: &[u8]) -> Vec<u8> {
    [b"social/media-link/v1".as_slice(), body].concat()
}

#[async_trait]
impl MediaLibrary for ServerLibrary {
    async fn put(&self, id: MediaId, bytes: Bytes) -> Result<(), Error> {
        self.folder.put(id, bytes).await
    }

    async fn put_file(&self, id: MediaId, path: &Path) -> Result<(), Error> {
        self.folder.put_file(id, path).await
    }

    async fn open(&self, id: MediaId) -> Result<Arc<dyn MediaSource>, Error> {
        self.folder.open(id).await
    }

    async fn remove(&self, id: MediaId) -> Result<(), Error> {
        self.folder.remove(id).await
    }

    /// Networks fetch over https only; an address on this machine would lead them nowhere.
    fn public_url(&self, id: MediaId) -> Option<Url> {
        let reachable = self.base.scheme() == "https";
        let until = later(Timestamp::now(), social_core::time::signed(FETCH_LIFE));
        reachable.then(|| self.signed_url(id, until)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use social_core::vault::{KeyRing, Purpose};

    use super::*;

    fn library(base: &str) -> (tempfile::TempDir, ServerLibrary) {
        let folder = tempfile::tempdir().unwrap();
        let (ring, _) = KeyRing::generate("k1").unwrap();
        let signer = ring.signer(Purpose::MediaLinks);
        let library = ServerLibrary::open(folder.path(), signer, Url::parse(base).unwrap()).unwrap();
        (folder, library)
    }

    #[test]
    fn an_address_is_good_until_its_end_and_only_as_it_was_signed() {
        let (_folder, library) = library("https://social.example/");
        let (id, now) = (MediaId::new(), Timestamp::from_second(1_000_000).unwrap());
        let until = later(now, SignedDuration::from_secs(10));
        let url = library.signed_url(id, until).unwrap();
        let token = url.path().strip_prefix("/m/").unwrap();
        assert_eq!(library.verify(token, now), Some(id));
        assert_eq!(library.verify(token, until), None);
        for at in 0..token.len() {
            let mut other = token.as_bytes().to_vec();
            other[at] = if other[at] == b'A' { b'Q' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(other == token || library.verify(&other, now).is_none(), "character {at}");
        }
        assert_eq!(library.verify("", now), None);
        assert_eq!(library.verify(&"A".repeat(10_000), now), None);
        let (_other_folder, stranger) = super::tests::library("https://social.example/");
        assert_eq!(stranger.verify(token, now), None);
    }

    #[test]
    fn networks_get_addresses_only_where_they_can_reach_us() {
        assert!(library("https://social.example/").1.public_url(MediaId::new()).is_some());
        assert!(library("http://127.0.0.1:8080/").1.public_url(MediaId::new()).is_none());
    }
}
