//! An agent whose outbox was set back, as by a restored copy of its folder: it gives numbers out again under which the gateway
//! knows other samples. Nobody has to delete anything: another outbox succeeds it, with all that is held.

use super::{
    FOLDER, LIMITS,
    agents::{START_MS, Wire, agent, id, reports, run, tell, try_run},
};
use hunhe_disk::simulated::{Fate, SimulatedDisk};
use hunhe_edge::run::agent::{Agent, Step};
use hunhe_edge::spool::{Entry, Spool};
use hunhe_edge_core::{Now, outbox::State};
use hunhe_proto::reading::{Drop, DropCause};
use std::{
    collections::BTreeSet,
    io::ErrorKind,
    ops::Range,
    path::{Path, PathBuf},
};

/// The watermark of the life that was lost with the newer folder.
const KNOWN: u64 = 24;

/// A disk as it was after nine seconds, of whose samples four are passed; what was owed then.
fn copy() -> (SimulatedDisk, State, BTreeSet<i64>) {
    let disk = SimulatedDisk::new();
    let mut first = agent(&disk, &["a", "b"]);
    run(&mut first, 0..9);
    let boot = first.devices()[0].outbox().state().boot;
    tell(&mut first, "a", boot, 4);
    run(&mut first, 9..10);
    let state = first.devices()[0].outbox().state().clone();
    assert!(state.through == 4 && state.next_seq > 8 && state.next_seq < KNOWN);
    (disk.fork(), state, held(&first))
}

/// The times of what the first device holds.
fn held(agent: &Agent<Wire>) -> BTreeSet<i64> {
    let samples = agent.samples(0);
    samples.rows(samples.range()).map(|row| row[0]).collect()
}

fn reported(agent: &Agent<Wire>, boot: u32) -> BTreeSet<i64> {
    let of_boot = reports(agent, "a").into_iter().filter(|report| report.header.boot == boot);
    of_boot.flat_map(|report| report.times_ms).collect()
}

#[test]
fn an_outbox_that_was_set_back_is_succeeded_by_another_with_all_that_it_held() {
    let (disk, before, owed) = copy();
    disk.power_loss(0);
    let mut again = agent(&disk, &["a", "b"]);
    run(&mut again, 30..35);
    let other = again.devices()[1].outbox().state().boot;
    tell(&mut again, "a", before.boot, KNOWN);
    run(&mut again, 35..50);
    let state = again.devices()[0].outbox().state().clone();
    let (previous_boot, previous_next) = state.previous.expect("it names the one before it");
    assert!(state.boot > before.boot && previous_boot == before.boot && previous_next < KNOWN);
    let taken = (30..50).map(|second| START_MS + second * 1_000);
    let all: BTreeSet<i64> = owed.iter().copied().chain(taken).collect();
    assert_eq!(held(&again), all, "what the copy owed, and what was taken since");
    let told = reported(&again, state.boot);
    assert!(told.len() + 4 > all.len() && told.is_subset(&all), "all but what waits for a report to fill");
    assert!(
        reports(&again, "a").iter().all(|report| report.header.boot != state.boot || report.drops.is_empty())
    );
    assert_eq!(again.devices()[1].outbox().state().boot, other, "the other device goes on");

    // It outlasts a power cut, and is an outbox like any other.
    drop(again);
    disk.power_loss(1);
    let mut later = agent(&disk, &["a", "b"]);
    assert_eq!(later.devices()[0].outbox().state(), &state);
    assert_eq!(held(&later), all);
    tell(&mut later, "a", before.boot, KNOWN);
    tell(&mut later, "a", state.boot, state.next_seq);
    run(&mut later, 50..51);
    assert_eq!(later.devices()[0].outbox().state().boot, state.boot);
    assert!(held(&later).iter().all(|time_ms| *time_ms >= START_MS + 50_000));
}

/// The segments on the disk.
fn segments(disk: &SimulatedDisk) -> BTreeSet<PathBuf> {
    let paths = disk.files().into_iter().map(|(path, _)| path);
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
}

/// What it samples while nobody hears it must not make the watermark plausible; and what it gave up meanwhile stays declared.
#[test]
fn an_outbox_that_was_set_back_is_noticed_however_much_it_took_before_it_was_heard() {
    let (disk, before, owed) = copy();
    disk.power_loss(0);
    let mut again = agent(&disk, &["a", "b"]);
    again.port_mut().away = true;
    run(&mut again, 30..150);
    let (full, kept) = {
        let outbox = again.devices()[0].outbox();
        assert!(outbox.state().next_seq > KNOWN);
        (outbox.drops().iter().map(|drop| drop.count).sum::<u64>(), held(&again))
    };
    assert!(full > 0, "more than fit");
    assert_eq!(full + kept.len() as u64, owed.len() as u64 + 120);
    let other = again.devices()[1].outbox().state().boot;
    again.port_mut().away = false;
    tell(&mut again, "a", before.boot, KNOWN);
    let behind = segments(&disk);
    run(&mut again, 150..151);
    let state = again.devices()[0].outbox().state().clone();
    assert_eq!(state.previous, Some((before.boot, before.next_seq)), "as far as it was told");
    let now = held(&again);
    let lost = Drop { seq: 0, count: state.next_seq - now.len() as u64, cause: DropCause::Full };
    assert_eq!(state.drops.as_slice(), [lost]);
    let dropped_since = kept.difference(&now).count() as u64;
    assert_eq!(lost.count, full + dropped_since, "what was given up stays declared");
    // Nobody but the other device still needs what is behind.
    for second in 151..300 {
        let reported_to = again.devices()[1].outbox().reported_to();
        tell(&mut again, "b", other, reported_to);
        run(&mut again, second..second + 1);
    }
    assert!(segments(&disk).is_disjoint(&behind), "{behind:?}");
    // Once more in the same life: the number is a fresh one.
    tell(&mut again, "a", state.boot, 1 << 40);
    run(&mut again, 300..301);
    let third = again.devices()[0].outbox().state().clone();
    assert!(third.boot > state.boot && third.previous.map(|(boot, _)| boot) == Some(state.boot));
    drop(again);
    disk.power_loss(1);
    let later = agent(&disk, &["a", "b"]);
    assert_eq!(later.devices()[0].outbox().state(), &third);
}

/// A folder that many agents begin with was copied before it held a sample: what was taken in one copy another must not give
/// out again, and it does not wait for a watermark.
#[test]
fn a_copy_from_before_the_first_sample_begins_another_outbox() {
    let disk = SimulatedDisk::new();
    let first = agent(&disk, &["a"]).devices()[0].outbox().state().clone();
    assert_eq!((first.next_seq, first.previous), (0, None));
    let second = agent(&disk.fork(), &["a"]).devices()[0].outbox().state().clone();
    assert!(second.boot > first.boot, "{second:?}");
    assert_eq!(
        (second.next_seq, second.previous),
        (0, Some((first.boot, 0))),
        "the gateway may know more of it"
    );
}

/// An outbox that holds nothing yet may follow one that did: what was sampled must not be sampled again.
#[test]
fn a_new_outbox_without_samples_remembers_the_newest_of_the_one_before() {
    let disk = SimulatedDisk::new();
    let mut first = agent(&disk, &["a", "b"]);
    run(&mut first, 0..9);
    let state = first.devices()[0].outbox().state().clone();
    let (boot, reported_to) = (state.boot, first.devices()[0].outbox().reported_to());
    let due_ms = first.due_ms();
    tell(&mut first, "a", boot, reported_to);
    first.finish();
    run(&mut first, 9..11);
    let reported_to = first.devices()[0].outbox().reported_to();
    tell(&mut first, "a", boot, reported_to);
    run(&mut first, 11..12);
    assert_eq!(first.devices()[0].outbox().held(), 0);
    tell(&mut first, "a", boot, 1 << 40);
    run(&mut first, 12..13);
    let successor = first.devices()[0].outbox().state().clone();
    assert_eq!((successor.next_seq, successor.previous.map(|(boot, _)| boot)), (0, Some(boot)));
    drop(first);
    disk.power_loss(0);
    let entries = ["a", "b"].map(|name| Entry::new(id(name), 1, [(1, 0)]));
    for _ in 0..2 {
        let (_, found) = Spool::open(disk.handle(), Path::new(FOLDER), LIMITS, &entries, || 77).unwrap();
        assert_eq!(found[0].newest_ms.map(|newest_ms| newest_ms + 1_000), Some(due_ms));
        assert_eq!(found[0].state.previous.map(|(boot, _)| boot), Some(boot));
    }
}

/// What a watermark passed is released by the next commit, which must therefore know of the watermark.
#[test]
fn what_was_released_is_known_to_be_passed_after_a_power_cut() {
    let disk = SimulatedDisk::new();
    let mut first = agent(&disk, &["a", "b"]);
    run(&mut first, 0..80);
    let before = segments(&disk);
    let states = first.devices().iter().map(|device| device.outbox().state().clone()).collect::<Vec<_>>();
    for (name, state) in ["a", "b"].into_iter().zip(&states) {
        tell(&mut first, name, state.boot, state.next_seq.min(70));
    }
    let now = Now { steady_ms: 80_000, event_ms: START_MS + 80_000 };
    assert_eq!(first.step(now).unwrap(), Step::Commit);
    first.commit().unwrap();
    assert!(!before.is_subset(&segments(&disk)), "nothing was released");
    drop(first);
    disk.power_loss(0);
    let again = agent(&disk, &["a", "b"]);
    for device in again.devices() {
        assert!(device.outbox().drops().is_empty(), "{:?}", device.outbox().state());
    }
}

/// At every call of the disk: the old outbox as it was, or the new one whole, and with it what had been given up.
#[test]
fn a_cut_at_any_call_leaves_the_one_outbox_or_the_other() {
    for away in [30..31, 30..150] {
        cut_at_every_call(&away);
    }
}

fn cut_at_every_call(away: &Range<u32>) {
    let (disk, before, owed) = copy();
    let all = owed.len() as u64 + u64::from(away.end - away.start);
    let (mut old, mut new) = (0, 0);
    for call in 1.. {
        let disk = disk.fork();
        let mut again = agent(&disk, &["a", "b"]);
        again.port_mut().away = away.end > 31;
        run(&mut again, away.clone());
        again.port_mut().away = false;
        let taken = held(&again);
        let mut left = call;
        disk.set_plan(move |_| {
            left -= 1_i32;
            match left {
                1.. => Fate::Done,
                0 => Fate::Torn,
                _ => Fate::Fails(ErrorKind::Other),
            }
        });
        tell(&mut again, "a", before.boot, KNOWN);
        let outcome = try_run(&mut again, away.end..away.end + 1);
        let whole = held(&again);
        drop(again);
        disk.clear_plan();
        disk.power_loss(call.unsigned_abs().into());
        let later = agent(&disk, &["a", "b"]);
        let state = later.devices()[0].outbox().state();
        let lost: u64 = state.drops.iter().map(|drop| drop.count).sum();
        let kept = held(&later);
        // The last second may have been taken, and one more given up for it.
        let accounted = kept.len() as u64 + lost;
        assert!((all..=all + 1).contains(&accounted), "call {call}: {accounted} of {all}, {state:?}");
        assert!(taken.difference(&kept).count() as u64 <= lost, "call {call}: {state:?}");
        assert_eq!(lost > 0, away.end > 31, "call {call}: {state:?}");
        if state.boot == before.boot {
            old += 1;
        } else {
            new += 1;
            assert_eq!(state.previous.map(|(boot, _)| boot), Some(before.boot), "call {call}");
        }
        if outcome.is_ok() {
            assert_eq!(held(&later), whole);
            break;
        }
    }
    assert!(old > 2 && new > 1, "{old} {new}");
}
