//! Two gateways with one client id: at a broker each throws the other out. One of them ends, and says why.

use std::time::Duration;

use hunhe_tests::{
    broker::{Mosquitto, Saving},
    gateway::Gateway,
    meters::Meters,
    process::eventually,
};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn of_two_gateways_with_one_client_id_one_ends_and_says_why() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let broker = Mosquitto::start(dirs[0].path(), Saving::EveryMinute);
    let mut gateways = dirs.each_ref().map(|dir| {
        let setup = Meters::new(10, 10).setup(dir.path(), broker.gateway_port, "");
        Gateway::launch(dir.path(), &setup, &[], &[])
    });
    let (loser, ended) = eventually(WITHIN, "one gateway ends", || {
        (0..2).find_map(|at| gateways[at].process.ended().map(|ended| (at, ended)))
    });
    assert_eq!(ended.code(), Some(1), "{ended}");
    let log = gateways[loser].log();
    assert!(log.contains("another client uses the MQTT client id hunhe-gateway"), "{log}");
    assert!(log.contains("set broker.client_id"), "no remedy: {log}");
    // The other is alone now, and stays.
    let winner = &mut gateways[1 - loser];
    winner.await_ready();
    assert!(winner.process.ended().is_none());
}
