//! A control group that limits a program's memory, version 1 or 2, whichever the machine has.
//!
//! Deliberately absent: a silent way on without one. Who asks for a group that cannot be had is told why, and decides.

use std::{
    fs,
    path::{Path, PathBuf},
};

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// A group; it goes when dropped, if what ran in it has ended.
#[derive(Debug)]
pub struct MemoryLimit {
    dir: PathBuf,
    v2: bool,
}

impl MemoryLimit {
    /// Makes one.
    ///
    /// # Errors
    /// Why there can be none, in words.
    pub fn new(name: &str, limit_bytes: u64) -> Result<Self, String> {
        let v2 = !Path::new(V1).is_dir();
        let dir = Path::new(if v2 { V2 } else { V1 }).join(format!("{name}-{}", std::process::id()));
        let group = Self { dir, v2 };
        let limit = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::create_dir(&group.dir)
            .and_then(|()| fs::write(group.dir.join(limit), limit_bytes.to_string()))
            .map_err(|error| format!("no memory-limited cgroup at {}: {error}", group.dir.display()))?;
        Ok(group)
    }

    /// In front of a program's command: it moves itself into the group before it becomes the program.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        let script = format!("echo $$ > {} && exec \"$@\"", self.dir.join("cgroup.procs").display());
        vec!["/bin/sh".into(), "-c".into(), script, "sh".into()]
    }

    /// The most memory that the group used, its share of the page cache included, in MiB.
    #[must_use]
    pub fn peak_mib(&self) -> f64 {
        let name = if self.v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let text = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        text.trim().parse::<f64>().unwrap_or(0.0) / 1_048_576.0
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A group with a process in it stays; the next start has another name.
        let _ = fs::remove_dir(&self.dir);
    }
}
