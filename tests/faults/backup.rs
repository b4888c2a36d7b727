//! A backup is taken from a gateway under load, with checkpoints and releases going on; more load follows; then the data folder is
//! deleted and made again of the backup. Everything up to the backup is there once, and what came after it is unexplained as soon
//! as the meters say that they no longer hold it, or stored if they still do.
#![expect(clippy::expect_used, clippy::panic, reason = "a broken promise fails loudly here")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use hunhe_tests::{
    broker::{Mosquitto, Saving},
    command_of,
    detectors::{self, Detector, HIGH, LOW},
    gateway::{Gateway, Setup},
    meters::Meters,
    now_s,
    process::{eventually, free_port},
    publisher::Publisher,
    report,
    webhook::Webhook,
};
use serde_json::{Value, json};

const METERS: u64 = 100;
const LOAD: u64 = 60_000;
/// Samples of each meter before the restore.
const EACH: u64 = LOAD / METERS;
/// Samples that every other meter still holds when the gateway comes back.
const HELD: u64 = 10;
const WITHIN: Duration = Duration::from_secs(120);
/// Taken one after the other under load; the one in the middle is restored.
const BACKUPS: usize = 21;
/// Messages published at once, and the pause behind them: some 5,000 a second.
const GULP: u64 = 250;
const PAUSE: Duration = Duration::from_millis(50);
const SMALL_LOGS: &str = "[journal]\nsegment_bytes = 1048576\n[decided]\nsegment_bytes = 1048576\n\
                          [checkpoint]\nevery_s = 1\nevery_journal_bytes = 1048576\n";

fn run(words: &[&str], paths: &[(&str, &Path)]) -> Output {
    let mut command = command_of("hunhe-gateway");
    command.args(words);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    command.output().expect("the command runs")
}

fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn refused(output: &Output, code: i32, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && said.contains(words), "{code}, {words}: {output:?}");
}

fn setup(dir: &Path, broker: u16, meters: &Meters, webhook: &Webhook) -> Setup {
    let more = format!("{SMALL_LOGS}{}", webhook.to_toml("duty", 2));
    let setup = meters.setup(dir, broker, &more);
    let (rules, list) = (detectors::write_rules(dir), dir.join("detectors.csv"));
    fs::write(&list, detectors::list(3)).expect("a list");
    let devices = dir.join("devices.csv");
    Setup { registry: format!("rules = {rules:?}\ndevices = [{devices:?}, {list:?}]"), ..setup }
}

fn count(ledger: &Value, class: &str) -> u64 {
    ledger[class].as_u64().unwrap_or_else(|| panic!("{class}: {ledger}"))
}

/// Numbers of the journal records behind refused messages.
fn quarantine_ids(gateway: &Gateway) -> BTreeSet<u64> {
    let page = gateway.http.json("/api/v1/quarantine?kind=message");
    let number = |record: &Value| record["id"].as_str()?.strip_prefix("m-")?.parse().ok();
    page["items"].as_array().expect("items").iter().filter_map(number).collect()
}

fn oldest_segment(data: &Path) -> Option<String> {
    let names = fs::read_dir(data.join("journal"))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".seg")).min()
}

#[test]
fn what_was_backed_up_is_there_once_and_what_came_after_it_is_accounted_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, config) = (dir.path().join("gateway/data"), dir.path().join("gateway/gateway.toml"));
    let registry = dir.path().join("registry");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let webhook = Webhook::start();
    let meters = Meters::new(METERS, 20);
    let mut gateway =
        Gateway::start(dir.path(), &setup(dir.path(), broker.gateway_port, &meters, &webhook), &[]);
    let mut speaker = Publisher::connect(broker.port, "speaker", 64).expect("a connection");
    let mut detectors: Vec<Detector> = (0..3).map(|at| Detector::new(at, 7)).collect();
    let raised = |from: usize| {
        eventually(WITHIN, "the webhook hears of it", || (webhook.taken().len() > from).then_some(()));
    };
    detectors[0].publish(&mut speaker, now_s() - 60, &[HIGH]).expect("published");
    speaker.publish(meters.up_topic(0).as_bytes(), b"\xff before the backup").expect("published");
    speaker.settle().expect("taken");
    raised(0);

    let mut received_before = 0;
    let mut backup_s = 0.0;
    let (mut saved, mut backup) = (Value::Null, PathBuf::new());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut publisher = Publisher::connect(broker.port, "meters", 2_048).expect("a connection");
            for number in 0..LOAD {
                let (_, topic, payload) = meters.message(number);
                publisher.publish(topic.as_bytes(), &payload).expect("published");
                if number % GULP == GULP - 1 {
                    publisher.settle().expect("the broker has it");
                    std::thread::sleep(PAUSE);
                }
            }
        });
        received_before = eventually(WITHIN, "the load comes in", || {
            gateway.http.json("/api/v1/status")["samples_total"]
                .as_u64()
                .filter(|samples| *samples >= LOAD / 3)
        });
        for number in 0..BACKUPS {
            let begun = Instant::now();
            let to = dir.path().join(format!("{number}.backup"));
            let taken = done(&run(&["backup", "--json", "--url", &url], &[("--to", &to)]));
            if number == BACKUPS / 2 {
                (saved, backup) = (taken, to);
                backup_s = begun.elapsed().as_secs_f64();
            }
        }
        assert!(!load.is_finished(), "the backup took longer than the load: {backup_s} s");
        load.join().expect("the load went through");
    });
    assert!(!data.join("backup.staging").exists());
    detectors[1].publish(&mut speaker, now_s() - 40, &[HIGH]).expect("published");
    speaker.publish(meters.up_topic(0).as_bytes(), b"\xff after the backup").expect("published");
    speaker.settle().expect("taken");
    raised(1);
    let ledger = gateway.await_settled(LOAD + 2, WITHIN);
    assert_eq!((count(&ledger, "stored"), &ledger["closed"]), (LOAD + 2, &json!(true)), "{ledger}");
    assert!(oldest_segment(&data) > Some(format!("{:020}.seg", 1)), "nothing was released meanwhile");
    let ids_before = quarantine_ids(&gateway);
    let letters_before = webhook.taken();
    let again = run(&["restore"], &[("--from", &backup), ("--config", &config)]);
    refused(&again, 2, "is not empty");
    refused(&run(&["backup"], &[("--to", &dir.path().join("x")), ("--config", &config)]), 1, "is in use");
    refused(&run(&["backup", "--url", &url], &[("--to", &backup)]), 2, "is there already");

    gateway.process.kill();
    fs::remove_dir_all(&data).expect("removed");
    let cut = dir.path().join("cut.backup");
    let whole = fs::read(&backup).expect("a backup");
    fs::write(&cut, &whole[..whole.len() - 40]).expect("written");
    refused(&run(&["restore"], &[("--from", &cut), ("--config", &config)]), 1, "cut short");
    assert!(!data.exists());
    let restore = [("--from", backup.as_path()), ("--config", &config), ("--registry-to", &registry)];
    let restored = done(&run(&["restore", "--json"], &restore));
    assert_eq!((&restored["totals"], &restored["backup"]), (&saved["totals"], &saved["backup"]));
    assert!(registry.join("rules/test.toml").is_file() && registry.join("devices/devices.csv").is_file());
    gateway.relaunch(&[]);
    gateway.await_ready();

    // A gateway that knows of nothing but the backup: everything up to it, once.
    let ledger = gateway.await_settled(0, WITHIN);
    let stored: Vec<u64> = (0..METERS).map(|meter| meters.stored(&gateway, meter)).collect();
    let in_backup: u64 = stored.iter().sum();
    assert_eq!(count(&ledger, "stored"), in_backup + 1, "{ledger}");
    assert_eq!((count(&ledger, "sampled"), &ledger["closed"]), (in_backup + 1, &json!(true)), "{ledger}");
    assert!(in_backup + 1 >= received_before, "{in_backup} of {received_before} that were received before");
    assert!(stored.iter().all(|stored| *stored < EACH - HELD), "the backup was to be taken in the midst");

    // Every meter reports once more; half of them still hold their newest samples, the others have forgotten them all.
    let holds = |meter: u64| meter.is_multiple_of(2);
    for meter in 0..METERS {
        let held_from = holds(meter).then_some(EACH - HELD);
        speaker
            .publish(meters.up_topic(meter).as_bytes(), &meters.sample(EACH, held_from))
            .expect("published");
    }
    detectors[1].publish(&mut speaker, now_s() - 20, &[LOW]).expect("published");
    speaker.publish(meters.up_topic(0).as_bytes(), b"\xff after the restore").expect("published");
    detectors[2].publish(&mut speaker, now_s() - 10, &[HIGH]).expect("published");
    speaker.settle().expect("taken");
    let sampled = METERS * (EACH + 1) + 1 + 2 + 1;
    // Of the meters, and the detector's raise.
    let gone: u64 = (0..METERS)
        .zip(&stored)
        .map(|(meter, stored)| {
            let forgotten = if holds(meter) { EACH - HELD } else { EACH };
            forgotten - stored
        })
        .sum::<u64>()
        + 1;
    let settled = |gateway: &Gateway, outstanding: u64, what: &str| {
        let ledger = eventually(WITHIN, what, || {
            let ledger = gateway.ledger();
            let there = count(&ledger, "sampled") == sampled && count(&ledger, "outstanding") == outstanding;
            there.then_some(ledger)
        });
        let expected = sampled - outstanding - gone;
        assert_eq!((count(&ledger, "stored"), count(&ledger, "unexplained")), (expected, gone), "{ledger}");
        assert_eq!(ledger["closed"], false);
    };
    settled(&gateway, METERS / 2 * HELD, "what is held is outstanding");
    for _ in 0..2 {
        // The second time as after a reconnection: known by then.
        for meter in (0..METERS).filter(|meter| holds(*meter)) {
            for seq in EACH - HELD..EACH {
                let payload = meters.sample(seq, Some(EACH - HELD));
                speaker.publish(meters.up_topic(meter).as_bytes(), &payload).expect("published");
            }
        }
        speaker.settle().expect("taken");
        settled(&gateway, 0, "what was held is stored");
    }
    assert_eq!(gateway.ledger_command().0, Some(1), "bad news is exit code 1");
    let (mut lost, mut doubled) = (0, 0);
    for (meter, stored) in (0..METERS).zip(&stored) {
        let expected = stored + 1 + if holds(meter) { HELD } else { 0 };
        let found = meters.stored(&gateway, meter);
        lost += expected.saturating_sub(found);
        doubled += found.saturating_sub(expected);
    }

    // Numbers that the outside knows stand for nothing else now.
    let ids: BTreeSet<u64> = quarantine_ids(&gateway).difference(&ids_before).copied().collect();
    assert!(ids.len() == 1 && ids.first() > ids_before.last(), "{ids:?}, {ids_before:?}");
    raised(letters_before.len());
    let new: Vec<_> = webhook.taken().split_off(letters_before.len());
    for letter in new.iter().filter(|letter| letter.body["device"] != "det-0") {
        assert_eq!(letter.body["device"], "det-2", "{:?}", letter.body);
        assert!(letters_before.iter().all(|before| before.key != letter.key));
        let sequence = |body: &Value| body["sequence"].as_u64();
        assert!(letters_before.iter().all(|before| sequence(&before.body) < sequence(&letter.body)));
    }
    // And a crash later all of it is the same.
    gateway.kill_and_restart();
    settled(&gateway, 0, "the same after a crash");
    assert!(!gateway.log().contains("the journal is damaged"), "what was given away is no damage");
    report::write(
        "faults",
        Some("backup"),
        &json!({"samples": LOAD + 2, "in_backup": in_backup + 1, "received_before": received_before,
            "backup_bytes": whole.len(), "backup_s": backup_s, "restart_s": gateway.ready_after.as_secs_f64(),
            "unexplained": gone, "lost": lost, "doubled": doubled}),
    );
    assert_eq!((lost, doubled), (0, 0), "samples lost and doubled");
}

#[test]
fn where_nobody_answers_the_remedy_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("http://127.0.0.1:{}", free_port());
    let to = dir.path().join("x");
    refused(&run(&["backup", "--url", &url], &[("--to", &to)]), 1, "no gateway answers at");
    assert!(fs::read_dir(dir.path()).expect("a folder").next().is_none(), "nothing is left");
}

/// A gateway that has run for a moment, and a backup that was taken once it had ended.
fn backed_up(dir: &Path) -> (PathBuf, Value) {
    let broker = Mosquitto::start(dir, Saving::Never);
    let meters = Meters::new(5, 5);
    let mut gateway = Gateway::start(dir, &meters.setup(dir, broker.gateway_port, SMALL_LOGS), &[]);
    let mut publisher = Publisher::connect(broker.port, "meters", 64).expect("a connection");
    for number in 0..50 {
        let (_, topic, payload) = meters.message(number);
        publisher.publish(topic.as_bytes(), &payload).expect("published");
    }
    publisher.settle().expect("taken");
    let _ = gateway.await_settled(50, WITHIN);
    assert!(gateway.process.terminate(WITHIN).success());
    let (backup, config) = (dir.join("offline.backup"), dir.join("gateway/gateway.toml"));
    let saved = done(&run(&["backup", "--json"], &[("--to", &backup), ("--config", &config)]));
    assert_eq!(saved["totals"]["samples"], 50);
    (backup, saved)
}

/// The files below a folder, by their names in it. How the database names its own is its affair.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).expect("below it").to_owned());
            }
        }
    }
    found
}

fn without_store(files: &BTreeSet<PathBuf>) -> Vec<&PathBuf> {
    files.iter().filter(|file| !file.starts_with("store")).collect()
}

/// The restore's own calls that change what a disk holds.
const CALLS: &str = "mkdir,rename,unlink,unlinkat,rmdir,fsync,fdatasync";

fn restore_under(injection: Option<String>, backup: &Path, data: &Path, trace: &Path) -> Output {
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-y", "-qq", "--signal=none", "-o"]).arg(trace);
    command.arg(format!("--trace={CALLS}"));
    command.args(injection.map(|what| format!("--inject={CALLS}:{what}")));
    command.arg(hunhe_tests::program("hunhe-gateway")).args(["restore", "--from"]).arg(backup);
    command.arg("--data-dir").arg(data).output().expect("strace runs")
}

#[test]
fn a_restore_that_is_cut_or_fails_at_any_call_leaves_nothing_or_everything() {
    let dir = tempfile::tempdir().expect("a folder");
    let (backup, saved) = backed_up(dir.path());
    let trace = dir.path().join("trace");
    let data = dir.path().join("site/data");
    assert!(restore_under(None, &backup, &data, &trace).status.success());
    let whole = files(&data);
    assert!(whole.contains(Path::new("restored.json")) && whole.len() > 8, "{whole:?}");
    // Asks by a backup of the folder whether all is in it.
    let text = fs::read_to_string(dir.path().join("gateway/gateway.toml")).expect("a configuration");
    let config = dir.path().join("site.toml");
    let own = format!("{:?}", dir.path().join("gateway/data"));
    fs::write(&config, text.replace(&own, &format!("{data:?}"))).expect("written");
    let to = dir.path().join("again.backup");
    let is_whole = || {
        assert_eq!(without_store(&files(&data)), without_store(&whole));
        let _ = fs::remove_file(&to);
        let again = done(&run(&["backup", "--json"], &[("--to", &to), ("--config", &config)]));
        assert_eq!(again["totals"], saved["totals"]);
    };

    // Everything was synced before the folder got its name, and the name afterwards.
    let calls = fs::read_to_string(&trace).expect("a trace");
    let named = calls.lines().position(|line| line.contains("rename(") && line.contains(".data.restoring\""));
    let lines: Vec<&str> = calls.lines().collect();
    let (before, after) = lines.split_at(named.expect("the folder's rename"));
    let part = dir.path().join("site/.data.restoring");
    for file in &whole {
        let path = format!("<{}>", part.join(file).display());
        let synced = before.iter().any(|line| line.contains("sync(") && line.contains(&path));
        // The database locks a file and takes away what it needs no more after that: its own affair.
        assert!(synced, "{path} was not synced before the rename");
    }
    let above = format!("<{}>", dir.path().join("site").display());
    assert!(after.iter().any(|line| line.contains("fsync(") && line.contains(&above)), "{after:?}");

    let mut cuts = 0;
    for (fault, every) in [("signal=KILL", 1), ("error=EIO", 3)] {
        for nth in (1..).step_by(every) {
            // It may not have come so far as to make it.
            let _ = fs::remove_dir_all(dir.path().join("site"));
            let output = restore_under(Some(format!("{fault}:when={nth}")), &backup, &data, &trace);
            if data.exists() {
                is_whole();
            }
            if output.status.success() {
                break;
            }
            cuts += 1;
            if nth % 16 == 1 && !data.exists() {
                // The next one is not in the way of what this one left.
                assert!(restore_under(None, &backup, &data, &trace).status.success(), "{fault}, {nth}");
            }
        }
    }
    assert!(cuts > 40, "{cuts}");
}
