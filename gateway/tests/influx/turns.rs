//! A sink's turns over records that make no lines: it looks at whether to stop, and passes a read that failed.

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use hunhe_disk::{
    Open,
    simulated::{Action, Fate, SimulatedDisk},
};
use hunhe_gateway::sinks::{Running, status::State};

use crate::faults::{finish, options, start};
use crate::fixture::{Log, refusal, registry};
use crate::server::{Reply, Server, eventually};

#[test]
fn a_stop_does_not_wait_for_the_end_of_a_log_of_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, disk) = (registry(1), SimulatedDisk::new());
    let mut log = Log::on(disk.handle(), Path::new("/decided"), 4 << 10, &registry);
    (0..5_000).for_each(|_| log.append(&refusal()));
    let segments = disk.files().len();
    let running: Arc<OnceLock<Running>> = Arc::default();
    let opened = Arc::new(AtomicU32::new(0));
    let (stopped, counted) = (Arc::clone(&running), Arc::clone(&opened));
    disk.set_plan(move |call| {
        if call.action == Action::Open(Open::Read) && counted.fetch_add(1, Ordering::Relaxed) == 1 {
            stopped.wait().stop();
        }
        Fate::Done
    });
    let server = Server::start(|_, _| Reply::status(204, ""));
    let (handle, _) = start(options(dir.path(), &server.url()), registry, &log);
    running.set(handle).unwrap();
    let status = running.wait().status();
    eventually("it ends", || status.snapshot().state == State::Ended);
    let opened = usize::try_from(opened.load(Ordering::Relaxed)).unwrap();
    assert!(opened * 3 < segments, "{opened} of {segments} segments");
}

#[test]
fn a_read_that_failed_holds_the_sink_no_longer_than_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, disk) = (registry(1), SimulatedDisk::new());
    let mut log = Log::on(disk.handle(), Path::new("/decided"), 4 << 10, &registry);
    (0..100).for_each(|_| log.append(&refusal()));
    let mut fails = true;
    disk.set_plan(move |call| {
        if call.action == Action::Read && std::mem::take(&mut fails) {
            return Fate::Fails(std::io::ErrorKind::Other);
        }
        Fate::Done
    });
    let server = Server::start(|_, _| Reply::status(204, ""));
    let (handle, _) = start(options(dir.path(), &server.url()), registry, &log);
    let status = handle.status();
    eventually("the failure shows", || status.snapshot().state == State::Held);
    eventually("the sink is at the head", || status.cursor().decided_lsn == log.head());
    assert_eq!(status.snapshot().state, State::Running);
    finish(handle, &log);
}
