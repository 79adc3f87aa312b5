//! Readings of a process from `/proc`.

use std::{fs, path::PathBuf};

use crate::Failure;

/// Kernel ticks per second, which Linux fixes at 100 for what it shows in `/proc`.
const TICKS: f64 = 100.0;

/// A process that can be looked at.
#[derive(Debug, Clone)]
pub struct Process(PathBuf);

impl Process {
    /// This one.
    #[must_use]
    pub fn own() -> Self {
        Self("/proc/self".into())
    }

    /// The one with that number.
    #[must_use]
    pub fn with_id(id: u32) -> Self {
        Self(format!("/proc/{id}").into())
    }

    /// CPU seconds, user and system, that it has used so far.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn cpu_seconds(&self) -> Result<f64, Failure> {
        Ok(cpu_seconds(&fs::read_to_string(self.0.join("stat"))?).ok_or("/proc/<pid>/stat has another form")?)
    }

    /// The resident memory that it has now, in MB.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn rss_mb(&self) -> Result<f64, Failure> {
        self.field("VmRSS")
    }

    /// The most resident memory that it has had since it began, or since [`forget_peak`](Self::forget_peak), in MB.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn peak_rss_mb(&self) -> Result<f64, Failure> {
        self.field("VmHWM")
    }

    /// Lets the peak begin anew from what is resident now. Answers with that, in MB.
    ///
    /// # Errors
    /// If `/proc` cannot be read or written.
    pub fn forget_peak(&self) -> Result<f64, Failure> {
        fs::write(self.0.join("clear_refs"), "5")?;
        self.rss_mb()
    }

    fn field(&self, name: &str) -> Result<f64, Failure> {
        let status = fs::read_to_string(self.0.join("status"))?;
        Ok(megabytes(&status, name).ok_or_else(|| format!("no {name} in /proc/<pid>/status"))?)
    }
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name in brackets may hold spaces and brackets; what follows the last one does not.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS)
}

fn megabytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kb: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kb / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_shift_the_fields() {
        let stat = "12 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("12 (a) R 1 2 3"), None);
    }

    #[test]
    fn memory_is_found_by_its_whole_name() {
        let status = "VmHWMX:\t1 kB\nVmHWM:\t    2048 kB\nVmRSS:\t  512 kB\n";
        assert_eq!(megabytes(status, "VmHWM"), Some(2.0));
        assert_eq!(megabytes(status, "VmRSS"), Some(0.5));
        assert_eq!(megabytes(status, "VmSwap"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = Process::own();
        assert!(own.cpu_seconds().unwrap() >= 0.0);
        assert!(own.peak_rss_mb().unwrap() >= own.rss_mb().unwrap() / 2.0);
        assert!(Process::with_id(std::process::id()).rss_mb().unwrap() > 0.0);
    }
}
