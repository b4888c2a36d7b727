//! What is written is read back, a replay writes the same, and the bound forgets the oldest.

use super::*;
use crate::{
    alerts::feed::{Entry, Feed, Step},
    setup::places::Places,
};
use hunhe_gateway_core::{
    device::alert::{Mode, Phase, Subject},
    registry::{DeviceIx, Registry},
    rule::RuleIx,
};

/// One detector that is a household's, so that it has a pseudonym.
pub(crate) fn registry() -> Arc<Registry> {
    Arc::new(hunhe_fixtures::detector_registry())
}

pub(crate) fn change(id: u64, phase: Phase) -> Change {
    Change {
        id,
        rule: RuleIx(0),
        subject: Subject::Device(DeviceIx(0)),
        phase,
        fired: phase != Phase::Pending,
        mode: Mode::Live,
        since_ms: 1_767_323_040_000,
        event_ms: 1_767_323_045_000,
        arrival_ms: 1_767_323_045_678,
        value: 5_725,
    }
}

pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: AlertLog,
    pub(crate) newest: watch::Receiver<Lsn>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), None)
    }

    /// With room for more than a thousand changes.
    pub(crate) fn roomy() -> Self {
        Self::with_limit(tempfile::tempdir().unwrap(), None, 8 << 20)
    }

    /// On what is there, cut behind a record.
    pub(crate) fn open(dir: tempfile::TempDir, cut: Option<Lsn>) -> Self {
        Self::with_limit(dir, cut, 32 << 10)
    }

    fn with_limit(dir: tempfile::TempDir, cut: Option<Lsn>, limit_bytes: u64) -> Self {
        let options = Options {
            disk: hunhe_disk::real(),
            dir: dir.path().join("alerts"),
            segment_bytes: limit_bytes / 4,
            limit_bytes,
        };
        let (mut writer, _) = Writer::open(options).unwrap();
        if let Some(cut) = cut {
            writer.truncate_after(cut).unwrap();
        }
        let (publish, newest) = watch::channel(writer.head());
        let describer = Describer::new(registry(), Arc::new(Places::default()));
        let log = AlertLog::new(writer, describer, Arc::default(), publish, Box::new(|| Lsn(10)));
        Self { dir, log, newest }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut feed = Feed::open(self.log.subscribe(), Lsn::NONE).unwrap();
        let mut entries = Vec::new();
        loop {
            match feed.step().unwrap() {
                Step::Entry(entry) => entries.push(*entry),
                Step::Lost { .. } => panic!("nothing is lost"),
                Step::CaughtUp => return entries,
                Step::Jump { .. } | Step::Other { .. } => {}
            }
        }
    }
}

#[test]
fn changes_are_read_back_with_their_cause_and_its_end() {
    let mut site = Site::new();
    site.log.write(7, &[change(1, Phase::Pending)]).unwrap();
    site.log
        .write(9, &[change(1, Phase::Firing), change(2, Phase::Firing), change(3, Phase::Firing)])
        .unwrap();
    let entries = site.entries();
    let seen: Vec<_> = entries.iter().map(|entry| (entry.lsn.0, entry.source_lsn, entry.last)).collect();
    assert_eq!(seen, [(1, 7, true), (2, 9, false), (3, 9, false), (4, 9, true)]);
    assert_eq!(*site.newest.borrow(), Lsn(4));
    let alert = &entries[1].alert;
    assert_eq!((alert.sequence, alert.id), (2, 1));
    assert_eq!((alert.value, alert.threshold), (Some(57.25), Some(50.0)));
    assert_eq!(alert.text.zh, "210106 · station-tiexi：甲烷浓度 57.25 %LEL ≥ 50");
    assert_eq!(alert.idempotency_key(), "0000000000000001-firing-live");
    assert_eq!(alert.device.as_deref(), Some("shown-7"));
    assert!(!format!("{alert:?}").contains("secret-7"), "{alert:?}");
}

#[test]
fn a_log_that_was_cut_is_written_again_to_the_same_alerts() {
    let mut site = Site::new();
    for source_lsn in 1..=5 {
        site.log
            .write(source_lsn, &[change(source_lsn, Phase::Firing), change(100 + source_lsn, Phase::Firing)])
            .unwrap();
    }
    site.log.sync().unwrap();
    let before: Vec<_> = site.entries().into_iter().map(|entry| (entry.lsn, entry.alert)).collect();
    let Site { dir, log, .. } = site;
    drop(log);
    let mut again = Site::open(dir, Some(Lsn(4)));
    for source_lsn in 3..=5 {
        again
            .log
            .write(source_lsn, &[change(source_lsn, Phase::Firing), change(100 + source_lsn, Phase::Firing)])
            .unwrap();
    }
    let after: Vec<_> = again.entries().into_iter().map(|entry| (entry.lsn, entry.alert)).collect();
    assert_eq!(before, after);
}

#[test]
fn at_its_limit_the_oldest_go_and_only_undelivered_ones_are_counted() {
    let mut site = Site::new();
    for source_lsn in 1..=200 {
        site.log.write(source_lsn, &[change(source_lsn, Phase::Firing)]).unwrap();
    }
    let entries = site.entries();
    assert_eq!(entries.last().unwrap().lsn, Lsn(200));
    let oldest = entries[0].lsn.0;
    assert!(oldest > 20 && entries.len() > 20, "{oldest}, {}", entries.len());
    // The outputs here are done with the first ten.
    assert_eq!(site.log.figures.dropped.load(Relaxed), oldest - 1 - 10);
    assert!(site.log.figures.bytes.load(Relaxed) <= 32 << 10);
}

/// See `gateway_core::alert::allowance`: what one device brings at once.
#[test]
fn one_device_cannot_fill_an_eighth_of_the_log_at_once() {
    use hunhe_gateway_core::device::alert::allowance::{LIVE_BURST, OLD_BURST};
    let mut site = Site::roomy();
    for source_lsn in 1..=1_000 {
        site.log
            .write(source_lsn, &[change(source_lsn, Phase::Pending), change(source_lsn, Phase::Firing)])
            .unwrap();
    }
    let record_bytes = site.log.figures.bytes.load(Relaxed) / 2_000;
    let burst_bytes = record_bytes * (LIVE_BURST + OLD_BURST).unsigned_abs();
    // `alerts.log_limit_bytes` where nothing else is written.
    let limit_bytes = 64 << 20;
    assert!(burst_bytes <= limit_bytes / 8, "{record_bytes} bytes each, {burst_bytes} of {limit_bytes}");
}

#[test]
fn the_end_of_old_data_has_no_value() {
    let mut site = Site::new();
    let ended = Change {
        value: hunhe_gateway_core::event::ABSENT,
        mode: Mode::Retrospective,
        ..change(1, Phase::Resolved)
    };
    site.log.write(1, &[ended]).unwrap();
    let alert = &site.entries()[0].alert;
    assert_eq!((alert.value, alert.threshold), (None, Some(50.0)));
    assert_eq!(alert.text.en, "210106 · station-tiexi: methane, end of the old data, resolved");
}
