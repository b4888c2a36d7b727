//! Disks that fail and fill: no acknowledgement follows a failed sync, the gateway ends with words that name the path
//! and the remedy, and once there is a disk again everything is delivered, with no file deleted by anyone.
//!
//! Real failures: a file system of a few MiB, a limit on file sizes, and `strace` that answers a sync with EIO.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use hunhe_tests::{fake_broker::FakeBroker, gateway::Gateway, meters::Meters, process::eventually, trace};
use serde_json::json;

const UP: &str = "hunhe-gateway-up";
const WITHIN: Duration = Duration::from_secs(60);
const SAMPLES: u64 = 2_000;
/// A report that repeats a sample, to fill a disk with.
const FILLING_BYTES: usize = 30_000;
const FILLING: u64 = 1_000_000;

/// A small file system in memory, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path, mib: u32) -> Self {
        fs::create_dir_all(at).expect("a folder");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(at)
            .output()
            .expect("mount runs");
        assert!(
            done.status.success(),
            "this test mounts a small file system and must be root: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Self(at)
    }

    /// Takes all the room that is left, apart from so many bytes.
    fn fill(&self, but_bytes: u64) {
        let mut ballast = fs::File::create(self.ballast()).expect("ballast");
        let block = vec![0; 64 * 1024];
        while ballast.write_all(&block).is_ok() {}
        let length = ballast.metadata().expect("its length").len();
        ballast.set_len(length.saturating_sub(but_bytes)).expect("a little room");
    }

    fn relieve(&self) {
        fs::remove_file(self.ballast()).expect("the ballast goes");
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn offer_filling(broker: &FakeBroker, meters: &Meters, numbers: std::ops::Range<u64>) {
    let message = |number| {
        let (topic, payload) = meters.padded(number % (SAMPLES / 2), FILLING_BYTES);
        (FILLING + number, topic, payload)
    };
    broker.offer(UP, numbers.map(message));
}

/// Everything that was offered is acknowledged, and all samples are stored.
fn assert_complete(gateway: &mut Gateway, broker: &FakeBroker, name: &str) {
    gateway.await_ready();
    broker.await_all_acknowledged(UP, WITHIN);
    let ledger = gateway.await_settled(SAMPLES, WITHIN);
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&json!(SAMPLES), &json!(true)), "{name}: {ledger}");
}

/// The gateway has ended, not by a signal, and said where and what to do.
fn assert_ended_in_words(gateway: &mut Gateway, dir: &Path, name: &str) {
    let ended = eventually(WITHIN, &format!("{name}: the gateway ends"), || gateway.process.ended());
    assert_eq!(ended.code(), Some(1), "{name}: {ended}");
    let log = gateway.log();
    let last = log.lines().rev().take(30).collect::<Vec<_>>().join("\n");
    println!("{name}: {}", log.lines().next_back().unwrap_or_default());
    assert!(last.contains(&dir.join("gateway/data").display().to_string()), "{name}: no path in {last}");
    assert!(last.contains("check the disk"), "{name}: no remedy in {last}");
}

#[test]
fn a_full_disk_stops_acknowledgements_and_room_brings_them_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("gateway/data");
    let disk = SmallDisk::mount(&data, 256);
    let (broker, meters) = (FakeBroker::start(), Meters::new(40, 10));
    let setup = meters.setup(dir.path(), broker.port, "[checkpoint]\nevery_s = 1\n");
    let mut gateway = Gateway::start(dir.path(), &setup, &[]);
    broker.offer(UP, (0..SAMPLES / 2).map(|number| meters.message(number)));
    broker.await_all_acknowledged(UP, WITHIN);
    const ROOM_BYTES: u64 = 1 << 20;
    const FILLINGS: u64 = 200;
    disk.fill(ROOM_BYTES);
    broker.offer(UP, (SAMPLES / 2..SAMPLES).map(|number| meters.message(number)));
    offer_filling(&broker, &meters, 0..FILLINGS);
    assert_ended_in_words(&mut gateway, dir.path(), "disk full");
    let within_the_room = |when: &str| {
        let acknowledged = broker.acknowledged(UP);
        let filling = u64::try_from(acknowledged).expect("a count").saturating_sub(SAMPLES);
        assert!(filling < FILLINGS, "{when}: all was acknowledged on a full disk");
        assert!(filling * FILLING_BYTES as u64 <= ROOM_BYTES, "{when}: {acknowledged} acknowledged");
        acknowledged
    };
    let acknowledged = within_the_room("as it ended");
    // As often as a service manager would, with the disk as full as before.
    for _ in 0..3 {
        gateway.relaunch(&[]);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) && gateway.process.ended().is_none() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let ended = gateway.process.ended();
        println!("on the full disk: {ended:?}, acknowledged {}", within_the_room("as it was tried again"));
        gateway.process.kill();
    }
    println!("acknowledged before {acknowledged}, on the full disk {}", broker.acknowledged(UP));
    disk.relieve();
    gateway.relaunch(&[]);
    assert_complete(&mut gateway, &broker, "disk full");
    gateway.process.kill();
}

#[test]
fn a_limit_on_file_sizes_is_a_full_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let (broker, meters) = (FakeBroker::start(), Meters::new(40, 10));
    let setup = meters.setup(dir.path(), broker.port, "");
    // Made without a limit first: the store lays out files of its own.
    let mut gateway = Gateway::start(dir.path(), &setup, &[]);
    broker.offer(UP, (0..SAMPLES / 2).map(|number| meters.message(number)));
    broker.await_all_acknowledged(UP, WITHIN);
    gateway.process.terminate(WITHIN);
    // In blocks of 512 bytes or 1,024, as the shell has it; without a handler, the signal would end the process first.
    let script = "trap '' XFSZ; ulimit -f 16384; exec \"$@\"";
    let wrapper = ["/bin/sh", "-c", script, "sh"].map(String::from);
    gateway.relaunch(&wrapper);
    gateway.await_ready();
    broker.offer(UP, (SAMPLES / 2..SAMPLES).map(|number| meters.message(number)));
    offer_filling(&broker, &meters, 0..1_000);
    assert_ended_in_words(&mut gateway, dir.path(), "file size limit");
    gateway.relaunch(&[]);
    assert_complete(&mut gateway, &broker, "file size limit");
}

#[test]
fn no_acknowledgement_follows_a_sync_that_failed() {
    // Counted by thread: the first few are the start's, of all logs; the later ones the journal's own.
    for nth in [1, 3, 10, 12, 15] {
        let dir = tempfile::tempdir().expect("a folder");
        let (broker, meters) = (FakeBroker::start(), Meters::new(40, 10));
        let setup = meters.setup(dir.path(), broker.port, "");
        let trace = dir.path().join("trace");
        let wrapper = trace::wrapper(&trace, &format!("fdatasync:error=EIO:when={nth}"));
        let mut gateway = Gateway::launch(dir.path(), &setup, &[], &wrapper);
        for number in 0..SAMPLES {
            broker.offer(UP, [meters.message(number)]);
            if number % 200 == 0 {
                broker
                    .offer(UP, [(FILLING + number, "hunhe/v1/00/nobody/up".into(), trace::payload(number))]);
                std::thread::sleep(Duration::from_millis(60));
            }
        }
        let name = format!("EIO at sync {nth}");
        assert_ended_in_words(&mut gateway, dir.path(), &name);
        let pid = gateway.process.id();
        let verdict = trace::judge(&trace, pid);
        println!(
            "{name}: {} syncs, {} failed, {} of {} followed messages acknowledged",
            verdict.syncs,
            verdict.failed_syncs,
            verdict.acknowledged.len(),
            verdict.delivered.len()
        );
        assert!(nth < 10 || verdict.failed_syncs > 0, "{name}: no sync of the journal failed");
        assert!(nth < 10 || !verdict.acknowledged.is_empty(), "{name}: nothing was acknowledged before");
        assert_eq!(verdict.early, BTreeSet::new(), "{name}: acknowledged without a sync");
        gateway.relaunch(&[]);
        assert_complete(&mut gateway, &broker, &name);
    }
}

#[test]
fn a_disk_slower_than_the_broker_holds_it_back_and_keeps_the_connection() {
    const MESSAGES: u64 = 900;
    let dir = tempfile::tempdir().expect("a folder");
    let (broker, meters) = (FakeBroker::start(), Meters::new(40, 10));
    let setup = meters.setup(dir.path(), broker.port, "[quarantine]\nlimit_records = 10\n");
    // Every sync takes a second: several times what the journal's queue holds arrives during one.
    let wrapper = trace::wrapper(&dir.path().join("trace"), "fdatasync:delay_enter=1000000");
    let mut gateway = Gateway::start_under(dir.path(), &setup, &[], &wrapper);
    let filling = |number| (FILLING + number, "hunhe/v1/00/nobody/up".to_owned(), vec![0xff; 60_000]);
    broker.offer(UP, (0..MESSAGES).map(filling));
    broker.offer(UP, (0..100).map(|number| meters.message(number)));
    broker.await_all_acknowledged(UP, Duration::from_secs(120));
    let record = broker.record(UP);
    assert_eq!(record.connections, 1, "it was closed, and all came again");
    assert_eq!((record.stray, record.out_of_order), (0, 0));
    let ledger = gateway.await_settled(100, WITHIN);
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&json!(100), &json!(true)), "{ledger}");
    assert!(gateway.process.ended().is_none());
}
