//! Where the bytes of media live: a folder by default, memory for tests and small programs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

use crate::{
    error::{Actor, Error, ErrorKind, Retry},
    id::MediaId,
    media::{BytesSource, FileSource, MediaSource},
};

/// Keeps the bytes of media files by id. What was found in them is kept by the store.
#[async_trait]
pub trait MediaLibrary: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps bytes. Repeating it replaces them.
    ///
    /// # Errors
    /// `Storage`.
    async fn put(&self, id: MediaId, bytes: Bytes) -> Result<(), Error>;

    /// Keeps a copy of a file.
    ///
    /// # Errors
    /// `Invalid` if the file cannot be read, `Storage` if it cannot be kept.
    async fn put_file(&self, id: MediaId, path: &Path) -> Result<(), Error>;

    /// Opens a file for ranged reading.
    ///
    /// # Errors
    /// `NotFound` if it is not there, `Storage` otherwise.
    async fn open(&self, id: MediaId) -> Result<Arc<dyn MediaSource>, Error>;

    /// Forgets a file. One that is not there is a success.
    ///
    /// # Errors
    /// `Storage`.
    async fn remove(&self, id: MediaId) -> Result<(), Error>;

    /// A signed, expiring public address, if this installation has one.
    fn public_url(&self, _id: MediaId) -> Option<Url> {
        None
    }
}

fn gone() -> Error {
    Error::not_found("media.open", "the media file is not there any more")
        .advice("A file of this post is gone. Please upload it again and make a new post.")
        .actor(Actor::User)
        .retry(Retry::Never)
}

/// Keeps media in memory.
#[derive(Debug, Default)]
pub struct MemoryLibrary {
    files: Mutex<HashMap<MediaId, Bytes>>,
}

#[async_trait]
impl MediaLibrary for MemoryLibrary {
    async fn put(&self, id: MediaId, bytes: Bytes) -> Result<(), Error> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(id, bytes);
        Ok(())
    }

    async fn put_file(&self, id: MediaId, path: &Path) -> Result<(), Error> {
        let bytes = tokio::fs::read(path).await.map_err(|e| unreadable(path, e))?;
        self.put(id, bytes.into()).await
    }

    async fn open(&self, id: MediaId) -> Result<Arc<dyn MediaSource>, Error> {
        let bytes = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned().ok_or_else(gone)?;
        Ok(Arc::new(BytesSource::new(bytes)))
    }

    async fn remove(&self, id: MediaId) -> Result<(), Error> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(())
    }
}

/// Keeps media as files named by their id in one folder. A file appears whole or not at all.
#[derive(Debug, Clone)]
pub struct DirectoryLibrary {
    folder: PathBuf,
}

impl DirectoryLibrary {
    /// Uses `folder`, and makes it where it is missing.
    ///
    /// # Errors
    /// `Config` if it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(|e| {
            Error::new(ErrorKind::Config, "media.folder")
                .message("the media folder cannot be made")
                .source(e)
                .effect_none()
        })?;
        Ok(Self { folder })
    }

    /// Where a file with that id is, or would be.
    #[must_use]
    pub fn path(&self, id: MediaId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// A place on the same disk for a file that is still being written; [`adopt`](Self::adopt) makes it appear.
    #[must_use]
    pub fn scratch(&self, id: MediaId) -> PathBuf {
        self.folder.join(format!("{id}.part"))
    }

    /// Makes a finished scratch file appear under its id, durably.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn adopt(&self, id: MediaId) -> Result<(), Error> {
        let (from, to) = (self.scratch(id), self.path(id));
        let result = async {
            tokio::fs::File::open(&from).await?.sync_all().await?;
            tokio::fs::rename(&from, &to).await
        };
        result.await.map_err(|e| Error::storage("media.keep", e).effect_none())
    }
}

#[async_trait]
impl MediaLibrary for DirectoryLibrary {
    async fn put(&self, id: MediaId, bytes: Bytes) -> Result<(), Error> {
        tokio::fs::write(self.scratch(id), &bytes).await.map_err(|e| Error::storage("media.keep", e).effect_none())?;
        self.adopt(id).await
    }

    async fn put_file(&self, id: MediaId, path: &Path) -> Result<(), Error> {
        tokio::fs::metadata(path).await.map_err(|e| unreadable(path, e))?;
        tokio::fs::copy(path, self.scratch(id)).await.map_err(|e| Error::storage("media.keep", e).effect_none())?;
        self.adopt(id).await
    }

    async fn open(&self, id: MediaId) -> Result<Arc<dyn MediaSource>, Error> {
        match FileSource::open(self.path(id)).await {
            Ok(source) => Ok(Arc::new(source)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(gone()),
            Err(e) => Err(Error::storage("media.open", e).effect_none()),
        }
    }

    async fn remove(&self, id: MediaId) -> Result<(), Error> {
        for path in [self.path(id), self.scratch(id)] {
            match tokio::fs::remove_file(path).await {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::storage("media.remove", e).effect_none()),
            }
        }
        Ok(())
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Error::invalid("media.read", format!("the file {name} cannot be read")).source(error)
}
