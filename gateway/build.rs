//! Chooses the page that is embedded: the dashboard where it was built (`dashboard/dist`), else a small page that
//! says how to build it (`dashboard/fallback`). Watches the seeds that the demonstration embeds, as `include_dir!` sees no
//! new file. Runs no other program and needs neither node nor a network.
//!
//! `dashboard/dist` is always there (an empty file keeps it in the repository), so that watching it neither misses a
//! new dashboard nor rebuilds the gateway for nothing.

use std::path::Path;
use std::{env, fs, io};

/// What `src/demo.rs` embeds, in `seeds`.
const DEMO_SEEDS: [&str; 5] = ["classes", "rules", "city", "scenarios", "recordings/dma"];

fn main() -> io::Result<()> {
    let dashboard = Path::new("dashboard");
    let built = dashboard.join("dist");
    let fallback = dashboard.join("fallback");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", built.display());
    println!("cargo::rerun-if-changed={}", fallback.display());
    if env::var_os("CARGO_FEATURE_DEMO").is_some() {
        for folder in DEMO_SEEDS {
            println!("cargo::rerun-if-changed=../seeds/{folder}");
        }
    }

    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    let embedded = Path::new(&out).join("dashboard");
    if embedded.exists() {
        fs::remove_dir_all(&embedded)?;
    }
    let chosen = if built.join("index.html").is_file() { built } else { fallback };
    copy(&chosen, &embedded)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target)?;
        } else if entry.file_name() != ".gitkeep" {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
