//! A network between a program and its database: answers take a while.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    time::{Instant, sleep_until},
};
use url::Url;

use crate::{Failure, runtime};

/// The hidden argument that makes a benchmark program such a network.
pub(crate) const MODE: &str = "__distance";
/// The name that PostgreSQL gives its socket.
const SOCKET: &str = ".s.PGSQL.5432";
/// As much as is on its way in one piece.
const PIECE: usize = 64 * 1024;

/// The network, in a process of its own.
#[derive(Debug)]
pub struct Distance {
    url: String,
    child: Child,
    _folder: TempDir,
}

impl Distance {
    /// Puts the PostgreSQL at `url`, which is reached through a socket in a folder, so many milliseconds away: each answer comes that much later, or up to
    /// one more, since timers are no finer.
    ///
    /// # Errors
    /// If there is no such socket, or the process cannot be started.
    pub fn to(url: &str, ms: u64) -> Result<Self, Failure> {
        let mut url = Url::parse(url)?;
        let folder = url.query_pairs().find(|(name, _)| name == "host").map(|(_, folder)| folder.into_owned());
        let upstream =
            folder.filter(|folder| folder.starts_with('/')).ok_or("the database has no socket in a folder")?;
        let near = TempDir::new()?;
        let near_path = near.path().to_str().ok_or("the path of the temporary folder is not UTF-8")?.to_owned();
        let mut child = Command::new(std::env::current_exe()?)
            .args([MODE, &near_path, &upstream, &ms.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        BufReader::new(child.stdout.take().ok_or("the network has no output")?).read_line(&mut String::new())?;
        url.query_pairs_mut().clear().append_pair("host", &near_path);
        Ok(Self { url: url.into(), child, _folder: near })
    }

    /// The address of the database at the other end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn serve(arguments: &[String]) -> Result<(), Failure> {
    let [near, far, ms] = arguments else { return Err("three arguments".into()) };
    let delay = Duration::from_millis(ms.parse()?);
    runtime(1)?.block_on(listen(&Path::new(near).join(SOCKET), &Path::new(far).join(SOCKET), delay))
}

async fn listen(near: &Path, far: &Path, delay: Duration) -> Result<(), Failure> {
    let listener = UnixListener::bind(near)?;
    println!("ready");
    crate::end_with_parent();
    loop {
        let (program, _) = listener.accept().await?;
        let (mut program_reads, mut program_writes) = program.into_split();
        let (mut database_reads, mut database_writes) = UnixStream::connect(far).await?.into_split();
        tokio::spawn(async move {
            let _ = tokio::io::copy(&mut program_reads, &mut database_writes).await;
        });
        // What is on its way does not hold up what follows.
        let (depart, mut arrive) = mpsc::unbounded_channel::<(Instant, Bytes)>();
        tokio::spawn(async move {
            let mut piece = vec![0; PIECE];
            while let Ok(length @ 1..) = database_reads.read(&mut piece).await {
                let _ = depart.send((Instant::now() + delay, Bytes::copy_from_slice(&piece[..length])));
            }
        });
        tokio::spawn(async move {
            while let Some((at, piece)) = arrive.recv().await {
                sleep_until(at).await;
                if program_writes.write_all(&piece).await.is_err() {
                    return;
                }
            }
        });
    }
}
