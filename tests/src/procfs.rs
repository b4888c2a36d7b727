//! What Linux says a process uses.

use std::{collections::BTreeMap, fs};

/// Linux accounts CPU time in hundredths of a second to programs.
const TICK_NS: u64 = 10_000_000;

/// Resident memory in MiB.
#[must_use]
pub fn rss_mib(pid: u32) -> f64 {
    status_mib(pid, "VmRSS:")
}

/// Has [`peak_rss_mib`] begin anew.
///
/// # Errors
/// Where the process is another user's, or gone.
pub fn reset_peak_rss(pid: u32) -> std::io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// The most that it ever was, or since [`reset_peak_rss`].
#[must_use]
pub fn peak_rss_mib(pid: u32) -> f64 {
    status_mib(pid, "VmHWM:")
}

/// From now on [`peak_rss_mib`] counts anew.
pub fn forget_peak(pid: u32) {
    // Where this cannot be, the peak is that of the whole life: too strict, not too lenient.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn status_mib(pid: u32, key: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    let kib: f64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0.0);
    kib / 1024.0
}

/// User and system CPU time of a process so far, in nanoseconds, its ended threads included.
#[must_use]
pub fn cpu_ns(pid: u32) -> u64 {
    stat_cpu(&format!("/proc/{pid}/stat")).map_or(0, |(_, ticks)| ticks * TICK_NS)
}

/// The same by name of thread, threads of one name together.
#[must_use]
pub fn cpu_ns_by_thread(pid: u32) -> BTreeMap<String, u64> {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let dir = task.path();
        let Some((name, ticks)) = stat_cpu(&dir.join("stat").display().to_string()) else { continue };
        // Where the kernel says nanoseconds, they are better than ticks.
        let exact = fs::read_to_string(dir.join("schedstat"))
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok());
        *found.entry(name).or_default() += exact.unwrap_or(ticks * TICK_NS);
    }
    found
}

/// (name, ticks of user and system time); the name stands in parentheses and may hold anything.
fn stat_cpu(path: &str) -> Option<(String, u64)> {
    let text = fs::read_to_string(path).ok()?;
    let (name, rest) = (text.find('(')?, text.rfind(')')?);
    let fields: Vec<&str> = text[rest + 1..].split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((text[name + 1..rest].to_owned(), ticks))
}
