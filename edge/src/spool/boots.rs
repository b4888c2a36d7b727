//! Boot numbers: each fresh one is greater than all that this folder has ever seen.
//!
//! The greatest number given out stands in the name of an empty file, `boots-xxxxxxxx`: there is nothing in it that could rot.
//! A fresh number is greater than that one and than every number in a record that can be read, so that a damaged record never
//! brings its number back. How much greater is drawn, so that a folder restored from a copy, which knows of fewer, hardly
//! meets a number that was used since. The first is drawn below 2^31.
//!
//! Bound: steps become smaller towards the end of the 32 bits, thousands of starts with devices that are new or never sampled
//! away; at the end numbers are drawn from all.

use hunhe_disk::{Disk, Open};
use std::{io, path::Path};

const PREFIX: &str = "boots-";
/// The longest step.
const STEP_MAX: u32 = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct Boots {
    /// The greatest in the name of a file.
    named: u32,
    /// The greatest seen anywhere before this start.
    seen: u32,
    /// The greatest of all by now.
    greatest: u32,
}

impl Boots {
    /// Learns from the names of a folder.
    pub(super) fn of(names: &[String]) -> Self {
        let named = names.iter().filter_map(|name| number(name)).max().unwrap_or(0);
        Self { named, seen: named, greatest: named }
    }

    /// A record bears this number.
    pub(super) fn see(&mut self, boot: u32) {
        self.seen = self.seen.max(boot);
        self.greatest = self.greatest.max(boot);
    }

    /// A number that was never used here; never 0, which a report leaves out.
    pub(super) fn fresh(&mut self, random: u32) -> u32 {
        let room = u32::MAX - self.seen;
        let boot = if self.seen == 0 {
            random >> 1
        } else if room == 0 {
            random
        } else {
            self.seen + 1 + random % (room / 1024).clamp(1, STEP_MAX)
        };
        let boot = boot.max(1);
        self.greatest = self.greatest.max(boot);
        boot
    }

    /// Names the greatest number, durable with the folder's next sync.
    pub(super) fn note(&self, disk: &dyn Disk, folder: &Path) -> io::Result<()> {
        if self.greatest > self.named {
            disk.open(&folder.join(format!("{PREFIX}{:08x}", self.greatest)), Open::Keep)?;
        }
        Ok(())
    }

    /// Is this the name of a number that a greater one has replaced?
    pub(super) fn is_past(&self, name: &str) -> bool {
        number(name).is_some_and(|boot| boot < self.greatest)
    }
}

fn number(name: &str) -> Option<u32> {
    u32::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_only_ever_rise_to_the_end_of_the_bits() {
        let mut boots = Boots::default();
        let first = boots.fresh(u32::MAX);
        assert!((1..1 << 31).contains(&first));
        boots.see(first);
        let mut starts = 0;
        while boots.seen < u32::MAX {
            let (before, boot) = (boots.seen, boots.fresh(u32::MAX));
            assert!(boot > before);
            boots.see(boot);
            starts += 1;
        }
        assert!(starts > 10_000, "{starts}");
        assert!(boots.fresh(0) > 0);
    }
}
