//! A small disk that can be filled.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Failure;

const BALLAST: &str = "ballast";

/// A file system in memory, mounted for a scenario; it ends with this value.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of so many MB.
    ///
    /// # Errors
    /// If that is not allowed here: it takes the rights of root.
    pub fn mount(megabytes: u32) -> Result<Self, Failure> {
        // Short, since PostgreSQL keeps a socket there.
        let path = tempfile::Builder::new().prefix("cd-").tempdir()?.keep();
        let options = format!("size={megabytes}m,mode=1777");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path);
        let mounted = mount.stdin(Stdio::null()).stderr(Stdio::null()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            fs::remove_dir(&path)?;
            return Err("a small disk cannot be mounted without the rights of root".into());
        }
        allow_all(&path)?;
        Ok(Self { path })
    }

    /// Whether this process may mount one.
    #[must_use]
    pub fn is_possible() -> bool {
        Self::mount(1).is_ok()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes until nothing more fits.
    ///
    /// # Errors
    /// Whatever else goes wrong.
    pub fn fill(&self) -> Result<(), Failure> {
        let mut ballast = File::options().create(true).append(true).open(self.path.join(BALLAST))?;
        for size in [1 << 16, 1 << 12, 1] {
            loop {
                match ballast.write(&vec![0; size]) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// If it was not filled.
    pub fn free(&self) -> Result<(), Failure> {
        Ok(fs::remove_file(self.path.join(BALLAST))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).stdin(Stdio::null()).status();
        if unmounted.is_ok_and(|status| status.success()) {
            let _ = fs::remove_dir(&self.path);
        } else {
            eprintln!("    {} could not be unmounted", self.path.display());
        }
    }
}

/// The database server runs under another account.
fn allow_all(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o1777))?)
}
