//! Taking files in: streamed to disk while they are hashed, then looked into. Memory does not grow with the file.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use social_core::{
    Error, MediaId, UserId,
    draft::StoredMedia,
    http::guarded::{FetchRefused, GuardedFetcher},
    media::{self, FileSource, Hasher, MeasureError},
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, BufWriter},
    sync::Semaphore,
};
use url::Url;

use crate::{
    body,
    config::{Config, Switch},
    library::ServerLibrary,
    problem::Problem,
    state::{State, faulty},
};

/// How many addresses are fetched at once, for all users together and for each.
const FETCHES: usize = 16;
const FETCHES_PER_USER: usize = 2;
/// A host that sends slower than this is given up after a while: its turn belongs to others too.
const SLOWEST_HOST_BYTES_PER_S: u64 = 16 * 1024;
const PATIENCE_WITH_HOSTS: Duration = Duration::from_secs(20);
/// A sender that is slower than this over a minute is let go.
const SLOWEST_BYTES_PER_S: u64 = 4 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);
/// Unfinished files that nobody has written to for so long were left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(6 * 3600);

/// How much of a file has arrived and for how long it has been coming.
#[derive(Debug)]
pub(crate) struct Pace {
    started: Instant,
    length: u64,
    max_bytes: u64,
}

impl Pace {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { started: Instant::now(), length: 0, max_bytes }
    }

    /// Counts a piece. Refuses what is too large or too slow.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Problem> {
        self.length += bytes as u64;
        if self.length > self.max_bytes {
            return Err(too_large(self.max_bytes));
        }
        let waited = self.started.elapsed();
        if waited > PATIENCE && self.length / waited.as_secs().max(1) < SLOWEST_BYTES_PER_S {
            return Err(body::slow_body());
        }
        Ok(())
    }
}

/// Takes files in.
#[derive(Debug)]
pub(crate) struct Intake {
    library: ServerLibrary,
    max_bytes: u64,
    quota: u64,
    coming: Coming,
    fetcher: GuardedFetcher,
    fetching: Semaphore,
}

impl Intake {
    pub(crate) fn new(config: &Config, library: ServerLibrary) -> Result<Self, Error> {
        let ports = [80, 443].into_iter().chain(config.fetch_ports.iter().copied());
        let mut fetcher = GuardedFetcher::builder()
            .max_bytes(config.media_max_bytes)
            .allow_ports(ports)
            .allow_addresses(config.fetch_allow.iter().flat_map(|network| network.ranges()));
        if config.fetch_http == Switch::On {
            fetcher = fetcher.allow_http();
        }
        let fetcher = fetcher.slowest(SLOWEST_HOST_BYTES_PER_S, PATIENCE_WITH_HOSTS);
        let fetcher = fetcher.build().map_err(|error| faulty("the fetcher cannot be built").source(error))?;
        Ok(Self {
            library,
            max_bytes: config.media_max_bytes,
            quota: config.media_quota_bytes,
            coming: Coming::default(),
            fetcher,
            fetching: Semaphore::new(FETCHES),
        })
    }

    /// Removes what earlier processes left unfinished.
    pub(crate) async fn sweep(&self) {
        let folder = self.library.folder().path(MediaId::new());
        let Some(folder) = folder.parent().map(PathBuf::from) else { return };
        let removed = tokio::task::spawn_blocking(move || {
            let mut removed = 0;
            for entry in std::fs::read_dir(folder)?.flatten() {
                let part = entry.path().extension().is_some_and(|extension| extension == "part");
                let age = |at: SystemTime| SystemTime::now().duration_since(at).unwrap_or_default();
                let old = entry.metadata().and_then(|found| found.modified()).is_ok_and(|at| age(at) > LEFT_BEHIND);
                if part && old && std::fs::remove_file(entry.path()).is_ok() {
                    removed += 1;
                }
            }
            std::io::Result::Ok(removed)
        });
        if let Ok(Ok(removed @ 1..)) = removed.await {
            tracing::info!(removed, "unfinished uploads of earlier processes were removed");
        }
    }

    /// The limits for a file that is read and not kept.
    pub(crate) fn pace(&self) -> Pace {
        Pace::new(self.max_bytes)
    }

    /// Takes in a file that arrives in pieces. `claimed` is what the sender calls its type, `announced` the length that it announced.
    pub(crate) async fn receive<S, E>(
        &self,
        state: &State,
        user: UserId,
        mut pieces: S,
        claimed: Option<&str>,
        announced: Option<u64>,
    ) -> Result<StoredMedia, Problem>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::error::Error + 'static,
    {
        if announced.is_some_and(|length| length > self.max_bytes) {
            return Err(too_large(self.max_bytes));
        }
        let held = state.store().media_bytes(user).await?;
        let mut place = self.coming.begin(user);
        if !place.grow(announced.unwrap_or(0), held, self.quota) {
            return Err(over_quota());
        }
        let mut counted = announced.unwrap_or(0);
        let scratch = Scratch::new(&self.library);
        let file = tokio::fs::File::create(&scratch.path).await.map_err(|e| disk(&e))?;
        let mut file = BufWriter::with_capacity(256 * 1024, file);
        let mut hasher = Hasher::new();
        let mut pace = self.pace();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| body::broken_body(&error))?;
            pace.take(piece.len())?;
            if pace.length > counted {
                if !place.grow(pace.length - counted, held, self.quota) {
                    return Err(over_quota());
                }
                counted = pace.length;
            }
            hasher.update(&piece);
            file.write_all(&piece).await.map_err(|e| disk(&e))?;
        }
        file.flush().await.map_err(|e| disk(&e))?;
        drop(file);
        if pace.length == 0 {
            return Err(Problem::field(
                "media_empty",
                "body",
                "the file is empty",
                "Choose a file with something in it.",
            ));
        }
        self.keep(state, place, scratch, hasher.finish(), claimed).await
    }

    /// Fetches a file from an address that a user gave.
    pub(crate) async fn fetch(
        &self,
        state: &State,
        user: UserId,
        field: &str,
        raw: &str,
    ) -> Result<StoredMedia, Problem> {
        let refuse = |message: String, advice: &str| Problem::field("media_url", field, message, advice);
        let url = Url::parse(raw)
            .map_err(|_| refuse("this is not an address".into(), "Use an address that begins with https://."))?;
        self.fetcher.check(&url).map_err(|refused| unfetched(field, &refused))?;
        let held = state.store().media_bytes(user).await?;
        let mut place = self.coming.begin(user);
        // Nobody is asked for a file that there is no room for.
        if !place.fits(1, held, self.quota) {
            return Err(over_quota());
        }
        // Their own turn first: who waits behind their own fetches takes no place from others.
        let closed = |_| Problem::internal("the fetcher is closed");
        let own = Arc::clone(&place.fetching);
        let _own_turn = own.acquire().await.map_err(closed)?;
        let _turn = self.fetching.acquire().await.map_err(closed)?;
        let scratch = Scratch::new(&self.library);
        let file = tokio::fs::File::create(&scratch.path).await.map_err(|e| disk(&e))?;
        let file = BufWriter::with_capacity(256 * 1024, file);
        let mut sink = Metered { file, place: &mut place, held, quota: self.quota, full: false };
        let fetched = self.fetcher.fetch_to(&url, &mut sink).await;
        let full = sink.full;
        drop(sink);
        if full {
            return Err(over_quota());
        }
        fetched.map_err(|refused| unfetched(field, &refused))?;
        let source = FileSource::open(&scratch.path).await.map_err(|e| disk(&e))?;
        let sha256 = media::sha256_of(&source).await.map_err(|e| disk(&e))?;
        self.keep(state, place, scratch, sha256, None).await.map_err(|problem| problem.in_field(field))
    }

    async fn keep(
        &self,
        state: &State,
        place: Place,
        scratch: Scratch,
        sha256: String,
        claimed: Option<&str>,
    ) -> Result<StoredMedia, Problem> {
        let source = FileSource::open(&scratch.path).await.map_err(|e| disk(&e))?;
        let mut facts = media::measure(&source).await.map_err(unmeasured)?;
        if let Some(claimed) = claimed.filter(|claimed| !agree(claimed, &facts.mime)) {
            let message = format!("the file is called {claimed} but is {}", facts.mime);
            return Err(Problem::field("media_type_mismatch", "body", message, "Send the file with its true type."));
        }
        facts.sha256 = Some(sha256);
        let stored = StoredMedia { id: scratch.id, facts };
        self.library.folder().adopt(scratch.id).await?;
        // Other files of this user may have been kept since this one began, here or by another process: the store counts them once more.
        let refused = match state.store().insert_media_within(place.user, &stored, self.quota, state.now()).await {
            Ok(true) => return Ok(stored),
            Ok(false) => over_quota(),
            Err(error) => error.into(),
        };
        if let Err(left) = social_core::library::MediaLibrary::remove(&self.library, stored.id).await {
            tracing::warn!(media.id = %stored.id, error = %left, "a file that is in no list could not be removed");
        }
        Err(refused)
    }
}

fn too_large(max_bytes: u64) -> Problem {
    let detail = format!("the file has more than {max_bytes} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "media_too_large", detail).advice("Choose a smaller file.")
}

fn over_quota() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "media_quota", "the files of this user take more room than they may")
        .advice("There is no room left for files. Please ask whoever runs this installation.")
}

/// A full disk is told apart from a broken one: whoever sent the file may send it again.
fn disk(error: &std::io::Error) -> Problem {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", "the disk for files is full")
                .because(format!("the media folder: {error}"))
                .advice("There is no room for files right now. Please tell whoever runs this installation.")
        }
        _ => Problem::internal(format!("the media folder: {error}")),
    }
}

fn unmeasured(error: MeasureError) -> Problem {
    match error {
        MeasureError::Unreadable(error) => disk(&error),
        other => Problem::field(
            "media_unusable",
            "body",
            other.to_string(),
            "This file is not a picture, video or document that can be posted. Please choose another.",
        ),
    }
}

fn unfetched(field: &str, refused: &FetchRefused) -> Problem {
    // Our disk is not what the address is to blame for.
    if let FetchRefused::Sink(error) = refused {
        return disk(error);
    }
    let advice = if refused.may_succeed_later() {
        "The file could not be fetched from there. Please try again, or upload it."
    } else {
        "The file cannot be fetched from there. Please use a public https:// address, or upload it."
    };
    Problem::field("media_url", field, refused.to_string(), advice)
}

/// Whether what the sender calls a file goes with what it is. Containers of one family are told apart by few programs.
fn agree(claimed: &str, found: &str) -> bool {
    let claimed = claimed.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let family = |mime: &str| match mime {
        "image/jpg" | "image/pjpeg" => "image/jpeg".to_owned(),
        "video/quicktime" | "video/x-m4v" | "video/3gpp" | "video/3gpp2" => "video/mp4".to_owned(),
        "video/webm" => "video/x-matroska".to_owned(),
        "image/x-ms-bmp" => "image/bmp".to_owned(),
        "image/heif" => "image/heic".to_owned(),
        other => other.to_owned(),
    };
    let says_nothing = matches!(
        claimed.as_str(),
        "" | "application/octet-stream" | "binary/octet-stream" | "*/*" | "application/x-www-form-urlencoded"
    );
    says_nothing || family(&claimed) == family(found)
}

/// A file that is being written. It is removed unless it was adopted.
#[derive(Debug)]
struct Scratch {
    id: MediaId,
    path: PathBuf,
}

impl Scratch {
    fn new(library: &ServerLibrary) -> Self {
        let id = MediaId::new();
        Self { id, path: library.folder().scratch(id) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Gone already where it was adopted.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes that are on their way, by user, so that many uploads at once do not pass a quota together.
#[derive(Debug, Default, Clone)]
struct Coming(Arc<Mutex<HashMap<UserId, Arriving>>>);

/// What one user has on the way.
#[derive(Debug)]
struct Arriving {
    bytes: u64,
    places: usize,
    /// Turns to fetch.
    fetching: Arc<Semaphore>,
}

impl Default for Arriving {
    fn default() -> Self {
        Self { bytes: 0, places: 0, fetching: Arc::new(Semaphore::new(FETCHES_PER_USER)) }
    }
}

#[derive(Debug)]
struct Place {
    coming: Coming,
    user: UserId,
    bytes: u64,
    fetching: Arc<Semaphore>,
}

impl Coming {
    fn begin(&self, user: UserId) -> Place {
        let mut coming = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let arriving = coming.entry(user).or_default();
        arriving.places += 1;
        Place { coming: self.clone(), user, bytes: 0, fetching: Arc::clone(&arriving.fetching) }
    }
}

impl Place {
    /// Whether what is held and what is coming fits the quota with more bytes.
    fn fits(&self, more: u64, held: u64, quota: u64) -> bool {
        let coming = self.coming.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = coming.get(&self.user).map_or(0, |arriving| arriving.bytes);
        held.saturating_add(total).saturating_add(more) <= quota
    }

    /// Takes room for more bytes, if what is held and what is coming fits the quota with them.
    fn grow(&mut self, more: u64, held: u64, quota: u64) -> bool {
        let mut coming = self.coming.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = &mut coming.entry(self.user).or_default().bytes;
        if held.saturating_add(*total).saturating_add(more) > quota {
            return false;
        }
        *total += more;
        self.bytes += more;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut coming = self.coming.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(arriving) = coming.get_mut(&self.user) {
            arriving.bytes = arriving.bytes.saturating_sub(self.bytes);
            arriving.places = arriving.places.saturating_sub(1);
            if arriving.places == 0 {
                coming.remove(&self.user);
            }
        }
    }
}

/// A file whose bytes take room as they are written.
#[derive(Debug)]
struct Metered<'a> {
    file: BufWriter<tokio::fs::File>,
    place: &'a mut Place,
    held: u64,
    quota: u64,
    /// Whether the room ran out.
    full: bool,
}

impl AsyncWrite for Metered<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.file).poll_write(context, bytes))?;
        if !this.place.grow(written as u64, this.held, this.quota) {
            this.full = true;
            return Poll::Ready(Err(io::Error::other("there is no room left for this user")));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().file).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().file).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_type_must_go_with_the_content() {
        for (claimed, found, good) in [
            ("image/png", "image/png", true),
            ("IMAGE/JPG; charset=x", "image/jpeg", true),
            ("application/octet-stream", "video/mp4", true),
            ("", "image/gif", true),
            ("video/quicktime", "video/mp4", true),
            ("image/png", "image/jpeg", false),
            ("image/png", "video/mp4", false),
            ("text/html", "image/png", false),
            ("image/svg+xml", "image/png", false),
        ] {
            assert_eq!(agree(claimed, found), good, "{claimed} {found}");
        }
    }

    #[test]
    fn uploads_at_once_do_not_pass_a_quota_together() {
        let (coming, user) = (Coming::default(), UserId::new());
        let (mut a, mut b) = (coming.begin(user), coming.begin(user));
        assert!(a.grow(60, 0, 100));
        assert!(!b.grow(60, 0, 100));
        assert!(b.grow(40, 0, 100));
        drop(a);
        assert!(b.grow(60, 0, 100) && !b.grow(1, 0, 100));
        assert!(coming.begin(UserId::new()).grow(100, 0, 100), "others have their own");
        drop(b);
        assert!(coming.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_full_disk_is_not_the_fault_of_an_address() {
        let full = FetchRefused::Sink(std::io::ErrorKind::StorageFull.into());
        assert_eq!(unfetched("media[0].url", &full).status(), StatusCode::INSUFFICIENT_STORAGE);
    }
}
