//! No byte of an acknowledgement leaves the gateway before the sync that covers its record has returned: the gateway
//! under `strace`, against the real Mosquitto, judged by the bytes on its sockets and in its journal.

use std::{collections::BTreeSet, time::Duration};

use hunhe_tests::{
    broker::{Mosquitto, Saving},
    gateway::Gateway,
    meters::Meters,
    process::eventually,
    publisher::Publisher,
    trace,
};

const MESSAGES: u64 = 3_000;
const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn no_acknowledgement_leaves_before_its_sync_returned() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    // Segments of a megabyte, so that some acknowledgements fall beside the change of one.
    let setup =
        Meters::new(1, 1).setup(dir.path(), broker.gateway_port, "[journal]\nsegment_bytes = 1048576\n");
    let trace = dir.path().join("trace");
    let mut gateway = Gateway::start_under(dir.path(), &setup, &[], &trace::wrapper(&trace, ""));
    let mut publisher = Publisher::connect(broker.port, "load", 64).expect("a connection");
    let padding = vec![b' '; 700];
    for number in 0..MESSAGES {
        let topic = if number % 5 == 0 { "hunhe/v1/00/nobody/alarm" } else { "hunhe/v1/00/nobody/up" };
        let mut payload = trace::payload(number);
        payload.extend_from_slice(&padding);
        publisher.publish(topic.as_bytes(), &payload).expect("published");
    }
    publisher.settle().expect("settled");
    eventually(WITHIN, "everything is acknowledged", || {
        std::thread::sleep(Duration::from_millis(300));
        (trace::so_far(&trace).acknowledged.len() as u64 == MESSAGES).then_some(())
    });
    let pid = gateway.process.id();
    assert!(gateway.process.terminate(WITHIN).success());
    let verdict = trace::judge(&trace, pid);
    let all: BTreeSet<u64> = (0..MESSAGES).collect();
    assert_eq!(verdict.early, BTreeSet::new(), "acknowledged before their sync had returned");
    assert_eq!(verdict.acknowledged, all, "the trace shows every acknowledgement");
    assert!(verdict.durable.is_superset(&all));
    assert!(verdict.syncs > 10, "{} syncs are too few to tell anything", verdict.syncs);
    println!("{} acknowledgements behind {} syncs", verdict.acknowledged.len(), verdict.syncs);
}
