//! How soon a gateway acknowledges again after a kill, with a long journal that no checkpoint stands for.
//!
//! What fills the journal are large messages that are no reports, of all meters in turn, so that each stays within its share: on
//! the way they show that a flood of large
//! refusals is more than one turn of the embedded store takes, and that it goes on all the same.
//! `TESTS_JOURNAL_MIB` sets the journal's size; 1024 is the campaign's.
#![expect(clippy::expect_used, reason = "a broken promise fails loudly here")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use hunhe_tests::{fake_broker::FakeBroker, gateway::Gateway, meters::Meters, process::eventually, report};
use serde_json::json;

const UP: &str = "hunhe-gateway-up";
const WITHIN: Duration = Duration::from_secs(180);
/// "At once": from the start of the process to its first acknowledgement, whatever the journal's length.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
const FILLING_BYTES: usize = 60_000;
/// Packets of the filling are told from the meters' by their numbers.
const FILLING: u64 = 1_000_000_000;
const SAMPLES: u64 = 20_000;

fn journal_bytes(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("journal")).expect("a journal");
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn after_a_kill_with_a_long_journal_acknowledgements_come_at_once_and_nothing_is_lost() {
    let mib: u64 = std::env::var("TESTS_JOURNAL_MIB").map_or(96, |mib| mib.parse().expect("a size in MiB"));
    let dir = tempfile::tempdir().expect("a folder");
    let broker = FakeBroker::start();
    let meters = Meters::new(1_000, 100);
    let more =
        "[checkpoint]\nevery_s = 86400\nevery_journal_bytes = 4294967296\n[quarantine]\nlimit_records = 10\n";
    let mut gateway = Gateway::start(dir.path(), &meters.setup(dir.path(), broker.port, more), &[]);
    for number in 0..mib * (1 << 20) / FILLING_BYTES as u64 + 1 {
        let filling = vec![0xff; FILLING_BYTES];
        broker.offer(UP, [(FILLING + number, meters.up_topic(number % meters.count), filling)]);
        if number % 100 == 0 {
            eventually(WITHIN, "the journal takes it", || (broker.waiting(UP) < 500).then_some(()));
        }
    }
    broker.offer(UP, (0..SAMPLES).map(|number| meters.message(number)));
    broker.await_all_acknowledged(UP, WITHIN);
    let bytes = journal_bytes(&dir.path().join("gateway/data"));
    assert!(bytes >> 20 >= mib, "{bytes} bytes");
    let before = broker.acknowledged(UP);
    gateway.process.kill();
    broker.offer(UP, [meters.message(SAMPLES)]);
    let begun = Instant::now();
    gateway.relaunch(&[]);
    eventually(WITHIN, "the first acknowledgement", || (broker.acknowledged(UP) > before).then_some(()));
    let first_acknowledgement = begun.elapsed();
    gateway.await_ready();
    let ledger = gateway.await_settled(SAMPLES + 1, WITHIN);
    let replayed = begun.elapsed();
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&json!(SAMPLES + 1), &json!(true)), "{ledger}");
    report::write(
        "faults",
        Some("restart"),
        &json!({"journal_mib": bytes >> 20, "first_acknowledgement_s": first_acknowledgement.as_secs_f64(),
            "replayed_s": replayed.as_secs_f64()}),
    );
    assert!(
        first_acknowledgement < FIRST_WITHIN,
        "the first acknowledgement came after {first_acknowledgement:?}"
    );
}
