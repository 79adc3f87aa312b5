//! The files: one per process under a lock, lines appended and on disk before the call returns.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::record::Record;
use crate::crypto::random_token;

/// The name of a file ends so.
const ENDING: &str = "outcomes";
/// Beyond this many bytes a file is written anew with what is still needed, and beyond them nothing more is taken.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// This process's file. It is made with the first record.
#[derive(Debug)]
pub(super) struct OwnFile {
    folder: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    bytes: usize,
    /// An append failed half-way: the next one begins with an end of line.
    torn: bool,
}

impl OwnFile {
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { folder, open: None }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.open.as_ref().map(|open| open.path.as_path())
    }

    pub(super) fn would_be_full(&self, more: usize) -> bool {
        self.open.as_ref().is_some_and(|open| open.bytes.saturating_add(more) > MOST_BYTES)
    }

    /// Adds lines; they are on disk when this returns.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.would_be_full(lines.len()) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the file of outcomes has reached its largest size",
            ));
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::make(&self.folder)?),
        };
        let outcome = open.append(lines);
        open.torn = outcome.is_err();
        outcome
    }

    /// A new file that holds these lines takes the place of the old one.
    pub(super) fn begin_anew(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut new = Open::make(&self.folder)?;
        new.append(lines)?;
        if let Some(old) = self.open.replace(new) {
            std::fs::remove_file(&old.path)?;
        }
        Ok(())
    }

    /// Nothing in it is needed any more. What stays because of an error is harmless.
    pub(super) fn empty(&mut self) {
        if let Some(open) = &mut self.open
            && open.file.set_len(0).is_ok()
        {
            (open.bytes, open.torn) = (0, false);
        }
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // A process that ends in order leaves no empty file behind.
        if let Some(open) = self.open.as_ref().filter(|open| open.bytes == 0) {
            let _ = std::fs::remove_file(&open.path);
        }
    }
}

impl Open {
    fn make(folder: &Path) -> io::Result<Self> {
        make_folder(folder)?;
        let name = format!("{}-{}", std::process::id(), random_token(6));
        let (made, path) = (folder.join(format!("{name}.new")), folder.join(format!("{name}.{ENDING}")));
        let file = private().create_new(true).read(true).open(&made)?;
        // Locked before it has the name by which others look for files to adopt.
        file.lock()?;
        std::fs::rename(&made, &path)?;
        File::open(folder)?.sync_all()?;
        Ok(Self { file, path, bytes: 0, torn: false })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.bytes = self.bytes.saturating_add(lines.len());
        Ok(())
    }
}

/// For files that nobody else on this machine may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a folder that nobody else on this machine may look into. One that is there stays as it is.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The file of a process that has died, locked by this one.
#[derive(Debug)]
pub(super) struct DeadFile {
    file: File,
    path: PathBuf,
}

/// A line of such a file.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Whole(Record),
    /// The last one, whose writing did not end: nobody was told that it is kept.
    Torn(Vec<u8>),
    /// One that is not as it was written.
    Unreadable(Vec<u8>),
}

/// The files in a folder that no living process holds. A folder that is not there has none.
pub(super) fn dead(folder: &Path, own: Option<&Path>) -> io::Result<Vec<DeadFile>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut dead = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != ENDING) || Some(path.as_path()) == own {
            continue;
        }
        // One that cannot be opened must not keep the others from being used.
        match adopt(&path) {
            Ok(Some(file)) => dead.push(DeadFile { file, path }),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, file = %path.display(), "a file of outcomes cannot be opened; what it tells has to be found out by asking the network");
            }
        }
    }
    Ok(dead)
}

/// Opens and locks a file, unless another process holds it or was quicker.
fn adopt(path: &Path) -> io::Result<Option<File>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl DeadFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn lines(&mut self) -> io::Result<Vec<Line>> {
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut text)?;
        Ok(read_lines(&text))
    }

    /// Removes the file; what could not be used stays in one beside it.
    pub(super) fn remove(self, aside: &[u8]) -> io::Result<()> {
        if !aside.is_empty() {
            let name = self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            append(&self.path.with_file_name(format!("unreadable-{name}.txt")), aside)?;
        }
        match std::fs::remove_file(&self.path) {
            // An empty one tells nothing a second time.
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.file.set_len(0).map_err(|_| error),
            _ => Ok(()),
        }
    }
}

fn read_lines(text: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut pieces = text.split(|byte| *byte == b'\n').peekable();
    while let Some(piece) = pieces.next() {
        // Behind the last end of line there is nothing, or what was being written.
        let ended = pieces.peek().is_some();
        match (piece.is_empty(), ended.then(|| Record::from_line(piece)).flatten()) {
            (true, _) => {}
            (false, Some(record)) => lines.push(Line::Whole(record)),
            (false, None) if ended => lines.push(Line::Unreadable(piece.to_vec())),
            (false, None) => lines.push(Line::Torn(piece.to_vec())),
        }
    }
    lines
}

/// Adds to a file that people look at.
pub(super) fn append(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = private().create(true).open(path)?;
    file.write_all(text)?;
    file.sync_data()
}
