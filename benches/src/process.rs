//! Readings of this process from `/proc`.

use crate::Failure;

/// Kernel ticks per second, which Linux fixes at 100 for what it shows in `/proc`.
const TICKS: f64 = 100.0;

/// CPU seconds (user and system) that this process has used so far.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in brackets may hold spaces; what follows it does not.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}

/// The most resident memory that this process has had, in MB.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn peak_rss_mb() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kb: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kb / 1024.0)
}
