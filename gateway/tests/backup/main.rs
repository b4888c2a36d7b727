//! Backups and restores without a gateway around them: every piece comes back, what is damaged is refused before anything is
//! written, and what is taken beside writers fits together.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken promise fails loudly here")]

mod refusals;
mod round_trip;
mod site;
mod together;

use std::path::Path;

use hunhe_gateway::backup::restore::Wanted;

fn wanted(from: &Path, data_dir: &Path, registry_to: Option<&Path>) -> Wanted {
    Wanted {
        from: from.into(),
        data_dir: data_dir.into(),
        registry_to: registry_to.map(Path::to_owned),
        now_ms: site::NOW_MS,
    }
}
