//! A sink looks at whether to stop also while it passes records that make no lines.

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

use crate::faults::{options, start};
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
