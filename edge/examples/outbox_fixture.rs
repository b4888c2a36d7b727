//! Writes the fixture of the outbox's format on disk as of today's version, where there is none: `make fixtures`.
//!
//! ```text
//! cargo run --profile ci -p hunhe-edge --example outbox_fixture -- seeds/fixtures
//! ```
//! One that exists is never written again. The boot ids are drawn: `edge/bin/tests/formats.rs` knows those that are checked in.

use anyhow::Context as _;
use hunhe_edge::spool::{Entry, Limits, Spool, draw_boot};
use hunhe_edge_core::outbox::{Outbox, Range};
use hunhe_proto::{
    id::DeviceId,
    reading::{ABSENT, DropCause},
};
use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

fn main() -> anyhow::Result<()> {
    let root: PathBuf = std::env::args_os().nth(1).context("name the folder of the fixtures")?.into();
    let dir = root.join("outbox-v1");
    if dir.exists() {
        return Ok(writeln!(io::stdout(), "outbox-v1: is there, and stays as it is")?);
    }
    fs::create_dir_all(&dir)?;
    let entries = [
        Entry::new(DeviceId::new("g-1")?, 2, [(1, 3), (2, 1), (7, 0)]),
        Entry::new(DeviceId::new("level-2")?, 1, [(0, 0)]),
    ];
    let limits = Limits { bytes_max: 1 << 20, segment_bytes: 220 };
    let (mut spool, recovered) = Spool::open(hunhe_disk::real(), &dir, limits, &entries, draw_boot)?;
    for seq in 0..6_u32 {
        let (time_ms, value) = (1_793_491_200_000 + 60_000 * i64::from(seq), 1_000 * i64::from(seq));
        let third = if seq % 2 == 0 { ABSENT } else { (1 << 53) - 1 };
        spool.append(0, seq.into(), time_ms, &[value, -value, third]);
        if seq < 3 {
            spool.append(1, seq.into(), time_ms + 1, &[value + 7]);
        }
        spool.commit(&[0, 0])?;
    }
    // The first device's oldest two samples are given up.
    let mut outbox = Outbox::new(recovered[0].state.clone());
    outbox.stored(6);
    outbox.give_up(Range { start: 0, end: 2 }, DropCause::Operator);
    spool.note(0, outbox.state());
    spool.commit(&[0, 0])?;
    writeln!(
        io::stdout(),
        "outbox-v1: written, boots {:08x} {:08x}",
        recovered[0].state.boot,
        recovered[1].state.boot
    )?;
    Ok(())
}
