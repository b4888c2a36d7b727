//! Writes the fixtures of the gateway's formats on disk as of today's versions: `make fixtures`.
//!
//! ```text
//! cargo run --profile ci -p hunhe-gateway --example fixtures -- seeds/fixtures
//! ```
//! Until the first release a format that changes keeps its version, and its fixture is written again. From then on a fixture
//! stays as it is, and a format that changes gets a new version and a fixture beside the old one.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with tests; a fixture that cannot be written fails loudly"
)]

#[path = "../tests/formats/story.rs"]
mod story;

use anyhow::Context as _;
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Writes a fixture into its folder.
type Write<'a> = &'a dyn Fn(&Path);

/// Without the 64 MiB of zeros that fjall sets aside behind its journal's last record.
fn write_store(dir: &Path) {
    story::write_store(dir);
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let bytes = fs::read(&path).unwrap();
            let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            fs::write(&path, &bytes[..end]).unwrap();
        }
    }
}

fn main() -> anyhow::Result<()> {
    let root: PathBuf = std::env::args_os().nth(1).context("name the folder of the fixtures")?.into();
    let fixtures: [(&str, Write<'_>); 7] = [
        ("journal-v1", &story::write_journal),
        ("decided-v1", &story::write_decided),
        ("alerts-v1", &story::write_alerts),
        ("checkpoint-v1", &story::write_checkpoint),
        ("cursor-v1", &|dir| story::write_cursor(&dir.join("influx.cursor"))),
        ("store-v1", &write_store),
        ("pseudonyms-v1", &story::write_pseudonyms),
    ];
    for (name, write) in fixtures {
        let dir = root.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        write(&dir);
        writeln!(io::stdout(), "{name}: written")?;
    }
    Ok(())
}
