//! Opens what is on disk at a start: the journal, the newest checkpoint, and both derived logs, cut back to that checkpoint.
//! The replay then writes the rest of the derived logs again. The sink of record's cursor goes back to what the checkpoint
//! counted.
//!
//! Invariants: a derived log never holds more than its checkpoint covers; a record number is never used twice; no crash leaves
//! a state that needs a file deleted by hand.

use crate::{
    alerts,
    decide::{checkpoint::Checkpoints, formats, restored::Note},
    setup::config::{Config, DecidedLimits, JournalLimits},
};
use anyhow::Context;
use hunhe_disk::Disk;
use hunhe_gateway_core::{lane::Policy, registry::Registry, view::Snapshot};
use hunhe_log::{Lsn, Options, Writer};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where everything lies, and how large it may grow.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Everything is below it.
    pub data_dir: PathBuf,
    /// The journal's limits.
    pub journal: JournalLimits,
    /// The decided log's limits.
    pub decided: DecidedLimits,
    /// The alert log's limit.
    pub alerts_limit_bytes: u64,
}

impl Layout {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            data_dir: config.data_dir.clone(),
            journal: config.journal.clone(),
            decided: config.decided.clone(),
            alerts_limit_bytes: config.alerts.log_limit_bytes,
        }
    }
}

/// What is on disk, made to fit together.
#[derive(Debug)]
pub struct Recovered {
    /// Where the next checkpoint goes.
    pub checkpoints: Checkpoints,
    /// The lane as of the checkpoint, where there is one.
    pub snapshot: Option<Snapshot<'static>>,
    /// By sink: what it had confirmed as of the checkpoint.
    pub confirmed: BTreeMap<String, u64>,
    /// The journal record that the replay begins behind.
    pub from: Lsn,
    /// Journal records that the replay needs and that are gone: a damaged disk.
    pub gone: u64,
    /// No cursor stands beyond this journal record: records behind it are decided again, perhaps otherwise, or their number is
    /// given out again.
    pub source_lsn_max: u64,
    /// Alerts that were raised behind the checkpoint.
    pub raised: alerts::ById,
    /// The journal.
    pub journal: Writer,
    /// The decided log, cut to the checkpoint.
    pub decided: Writer,
    /// The alert log, cut to the checkpoint.
    pub alerts: Writer,
}

impl Recovered {
    /// Opens everything. `rules` is the [`fingerprint`].
    ///
    /// # Errors
    /// What a newer Hunhe wrote ([`formats`]), with nothing changed; what the disk refuses. Damage is no error: it is logged, and what is whole goes on.
    pub fn open(disk: &Arc<dyn Disk>, layout: &Layout, rules: u32) -> anyhow::Result<Self> {
        let dir = &layout.data_dir;
        formats::refuse_newer(&**disk, dir)?;
        disk.make_dir(dir).with_context(|| {
            format!("cannot make {}: set data_dir to a folder of the gateway's", dir.display())
        })?;
        let mut journal = open_journal(disk, layout)?;
        let (checkpoints, found) = Checkpoints::open(disk, &dir.join("checkpoint"))?;
        for path in &found.damaged {
            tracing::warn!(path = %path.display(), "a checkpoint is damaged: the other one is taken, and the replay is longer");
        }
        let (decided_dir, alerts_dir) = (dir.join("decided"), dir.join("alerts"));
        if found.newest.is_none() {
            // Without a checkpoint nothing says what they cover, and the replay writes them again.
            remove(disk, &decided_dir)?;
            remove(disk, &alerts_dir)?;
            if journal.oldest() > Lsn::FIRST {
                tracing::error!(from = %journal.oldest(), "both checkpoints are lost: the ledger begins at the oldest journal record");
            }
        }
        let of_checkpoint = found.newest.as_ref();
        let same_rules = of_checkpoint.is_some_and(|newest| newest.rules == rules);
        let alerts = alerts::log::options(Arc::clone(disk), alerts_dir, layout.alerts_limit_bytes);
        let raised = match of_checkpoint {
            None => alerts::ById::new(),
            // Read before they are cut away.
            Some(newest) => {
                alerts::raised_behind(Writer::open(alerts.clone())?.0.subscribe(), newest.alerts)?
            }
        };
        let decided = options(disk, decided_dir, layout.decided.segment_bytes, layout.decided.limit_bytes);
        let decided = open_derived(decided, of_checkpoint.map(|newest| newest.decided))?;
        let mut alerts = open_derived(alerts, of_checkpoint.map(|newest| newest.alerts))?;
        let (snapshot, confirmed, mut from) = match found.newest {
            None => (None, Default::default(), journal.oldest().previous()),
            Some(checkpoint) => {
                journal.skip_to(checkpoint.journal)?;
                (Some(checkpoint.snapshot), checkpoint.confirmed, checkpoint.journal)
            }
        };
        jump_over_a_restore(&**disk, dir, &mut journal, &mut alerts)?;
        let gone = journal.oldest().0.saturating_sub(from.next().0);
        if gone > 0 {
            tracing::error!(
                first = %from.next(),
                records = gone,
                "journal records behind the checkpoint are gone: their samples become unexplained"
            );
            from = journal.oldest().previous();
        }
        let source_lsn_max = if same_rules { journal.head().0 } else { from.0 };
        Ok(Self {
            checkpoints,
            snapshot,
            confirmed,
            from,
            gone,
            source_lsn_max,
            raised,
            journal,
            decided,
            alerts,
        })
    }
}

fn options(disk: &Arc<dyn Disk>, dir: PathBuf, segment_bytes: u64, limit_bytes: u64) -> Options {
    Options { disk: Arc::clone(disk), dir, segment_bytes, limit_bytes }
}

fn open_journal(disk: &Arc<dyn Disk>, layout: &Layout) -> anyhow::Result<Writer> {
    let (journal, dir) = (&layout.journal, layout.data_dir.join("journal"));
    let (journal, recovery) = Writer::open(options(disk, dir, journal.segment_bytes, journal.limit_bytes))?;
    if recovery.lost_records() {
        tracing::error!(
            ?recovery,
            "the journal is damaged: records are lost, and those behind them are read"
        );
    } else if !recovery.findings.is_empty() {
        tracing::info!(?recovery, "the journal's unfinished end was trimmed");
    }
    Ok(journal)
}

/// Stands for all that decisions follow from beside messages: see [`Checkpoint::rules`](crate::decide::checkpoint::Checkpoint).
#[must_use]
pub fn fingerprint(registry: &Registry, policy: &Policy) -> u32 {
    // Numbers and names always serialise; if they did not, a replay would be taken for one by the same rules.
    let rules = serde_json::to_vec(registry.rules()).unwrap_or_default();
    let sum = crc32c::crc32c_append(crc32c::crc32c(&rules), &policy.accept_past_ms.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &policy.retention_ms.to_le_bytes());
    let versions =
        registry.classes().iter().flat_map(|rules| core::iter::once(&rules.class).chain(&rules.older));
    let sum = versions
        .fold(sum, |sum, class| crc32c::crc32c_append(sum, &serde_json::to_vec(class).unwrap_or_default()));
    // Another program may decide otherwise.
    let sum = crc32c::crc32c_append(sum, env!("CARGO_PKG_VERSION").as_bytes());
    registry.devices().iter().fold(sum, |sum, device| {
        let of = [
            device.id.as_str(),
            &registry.class(device.class).class.name,
            registry.agent(device.agent).id.as_str(),
        ];
        of.iter()
            .fold(sum, |sum, name| crc32c::crc32c_append(crc32c::crc32c_append(sum, name.as_bytes()), &[0]))
    })
}

/// Opens a derived log, cut back to its checkpoint: the replay writes the rest again.
fn open_derived(options: Options, at: Option<Lsn>) -> anyhow::Result<Writer> {
    let (mut log, _) = Writer::open(options.clone())?;
    let Some(at) = at else { return Ok(log) };
    if at.next() < log.oldest() {
        // Every record that the checkpoint covers has been released since; the rest is behind it.
        drop(log);
        remove(&options.disk, &options.dir)?;
        (log, _) = Writer::open(options)?;
        log.skip_to(at)?;
    } else if at <= log.head() {
        log.truncate_after(at)?;
    } else {
        tracing::error!(
            log = %options.dir.display(),
            "a derived log is shorter than its checkpoint: who reads it may miss what was lost"
        );
        log.skip_to(at)?;
    }
    Ok(log)
}

/// Numbers that may have been used after the backup was taken are not used again.
fn jump_over_a_restore(
    disk: &dyn Disk,
    data_dir: &Path,
    journal: &mut Writer,
    alerts: &mut Writer,
) -> anyhow::Result<()> {
    let Some(note) = Note::read(disk, data_dir).context("the note of a restore cannot be read")? else {
        return Ok(());
    };
    tracing::info!(
        backup_ms = note.backup_ms,
        "this folder was restored: what came after the backup shows as unexplained once agents report"
    );
    journal.jump_to(note.journal)?;
    alerts.jump_to(note.alerts)?;
    Ok(())
}

fn remove(disk: &Arc<dyn Disk>, dir: &Path) -> anyhow::Result<()> {
    disk.remove_dir(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_classes_are_told_from_others() {
        let class = include_str!("../../../seeds/classes/gas_station_detector.toml");
        let rule = r#"id = "a"
            version = 1
            class = "gas_station_detector"
            severity = "info"
            title = { zh = "一", en = "One" }
            source = "D"
            when = { channel = "ch4", at_least = 50.0, clear_below = 40.0 }"#;
        let of = |class: &str, rule: &str| {
            let mut registry = Registry::new(vec![toml::from_str(class).unwrap()]);
            registry.set_rules(vec![toml::from_str(rule).unwrap()]);
            fingerprint(&registry, &Policy::default())
        };
        let known = of(class, rule);
        assert_eq!(known, of(class, rule));
        let by = |policy| fingerprint(&Registry::new(Vec::new()), &policy);
        let plain = by(Policy::default());
        assert_ne!(plain, by(Policy { accept_past_ms: 1, ..Policy::default() }));
        assert_ne!(plain, by(Policy { retention_ms: 1, ..Policy::default() }));
        assert_ne!(known, of(class, &rule.replace("50.0", "51.0")));
        assert_ne!(known, of(&class.replace("version = ", "version = 1"), rule));
    }

    #[test]
    fn a_derived_log_is_cut_to_its_checkpoint_wherever_its_beginning_went() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            disk: hunhe_disk::real(),
            dir: dir.path().join("alerts"),
            segment_bytes: 4096,
            limit_bytes: 64 * 1024,
        };
        let (mut log, _) = Writer::open(options.clone()).unwrap();
        for _ in 0..40 {
            log.append(1, &[&[7; 1000]]).unwrap();
        }
        log.release_through(Lsn(30)).unwrap();
        log.sync().unwrap();
        assert!(log.oldest() > Lsn(11), "segments are gone that a checkpoint at 10 would need");
        drop(log);
        for at in [35, 10, 50] {
            let mut log = open_derived(options.clone(), Some(Lsn(at))).unwrap();
            assert_eq!(log.head(), Lsn(at), "what follows is numbered from there");
            assert_eq!(log.append(1, &[b"anew"]).unwrap(), Lsn(at + 1));
            log.sync().unwrap();
        }
    }
}
