//! Bad links between agent, broker and gateway: slow ones, sliced ones, ones that end and ones that only seem to stand.
//! Nothing is lost, nothing is stored twice, and the watermark still comes back.

use std::{fs, time::Duration};

use hunhe_tests::{
    agent::{self, Agent},
    broker::{Mosquitto, Saving},
    gateway::{Gateway, Setup},
    process::eventually,
    proxy::{Conditions, Proxy},
    recording::Recording,
    stored::{Difference, in_gateway},
};
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(90);
/// Devices replayed: short enough, and long enough for every condition to meet some of it.
const DEVICES: usize = 2;
/// The gateway notices a half-open link within twice this.
const KEEP_ALIVE_S: u64 = 5;

#[test]
fn bad_links_lose_nothing_and_double_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut recording = Recording::read();
    recording.keep_devices(DEVICES);
    let broker = Mosquitto::start(dir.path(), Saving::EveryMinute);
    let (of_agent, of_gateway) = (Proxy::to(broker.port), Proxy::to(broker.gateway_port));
    let list = dir.path().join("devices.csv");
    fs::write(&list, recording.device_list(agent::ID)).expect("a list");
    let setup = Setup::embedded(
        of_gateway.port,
        format!("devices = [{list:?}]"),
        "[validate]\naccept_past = \"10y\"\n[embedded]\nretention = \"11y\"\n",
    );
    let keep_alive_s = KEEP_ALIVE_S.to_string();
    let mut gateway = Gateway::start(dir.path(), &setup, &[("HUNHE_BROKER_KEEP_ALIVE_S", &keep_alive_s)]);
    let mut agent = Agent::start(dir.path(), of_agent.port, &recording, 1_500);

    let slow = Conditions { latency: Duration::from_millis(50), ..Conditions::default() };
    let sliced = Conditions { piece_bytes: 7, ..Conditions::default() };
    let narrow = Conditions { bytes_per_s: 20_000, piece_bytes: 512, ..Conditions::default() };
    let half_open = Conditions { swallow: true, ..Conditions::default() };
    let refused = Conditions { refuse: true, ..Conditions::default() };
    let second = Duration::from_secs(1);
    // (between agent and broker, between gateway and broker, for how long, whether both are reset first)
    let history = [
        (slow, slow, second, false),
        (sliced, Conditions::default(), second, true),
        (Conditions::default(), sliced, second, true),
        (narrow, narrow, 2 * second, false),
        (refused, Conditions::default(), second, true),
        (Conditions::default(), refused, second, true),
        (Conditions::default(), half_open, Duration::from_secs(2 * KEEP_ALIVE_S + 2), false),
        (half_open, Conditions::default(), second, false),
    ];
    for (index, (agents, gateways, lasting, reset)) in history.into_iter().enumerate() {
        if reset {
            of_agent.reset();
            of_gateway.reset();
        }
        of_agent.set(agents);
        of_gateway.set(gateways);
        std::thread::sleep(lasting);
        assert!(gateway.process.ended().is_none(), "the gateway ended under condition {index}");
        let samples = gateway.http.json("/api/v1/status")["samples_total"].clone();
        println!("condition {index}: {samples} samples so far, agent ended: {:?}", agent.process.ended());
    }
    of_gateway.set(Conditions::default());
    of_agent.set(Conditions::default());
    // What was swallowed is gone, and so are the connections it belonged to, as after a reboot in between.
    of_agent.reset();
    let ended = eventually(WITHIN, "the agent has everything durable", || agent.process.ended());
    assert!(ended.success(), "the agent ended with {ended}");
    let ledger = gateway.await_settled(recording.samples, WITHIN);
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&json!(recording.samples), &json!(true)), "{ledger}");
    assert_eq!(in_gateway(&gateway, &recording), Difference::default());
}
