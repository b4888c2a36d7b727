//! SIGKILL of gateway, broker and agent in turn, ten times during the replay of the recording: nothing lost, nothing
//! stored twice, back within two seconds.
//!
//! The moments are drawn from a seed (`TESTS_KILL_SEED`), as counts of samples that the gateway has received, so that a
//! slow machine is not hit at other stages than a fast one.

use std::{
    fs,
    time::{Duration, Instant},
};

use hunhe_tests::{
    agent::{self, Agent},
    broker::{Mosquitto, Saving},
    database::VictoriaMetrics,
    gateway::{Gateway, Setup},
    process::eventually,
    recording::Recording,
    report,
    stored::{Difference, in_database, in_gateway},
};
use serde_json::json;

const KILLS: u64 = 10;
/// Samples a device that the agent holds: it waits for the watermark of every second, so the replay takes about a
/// minute and the kills fall into it.
const HELD_MAX: u32 = 700;
const REPLAY: Duration = Duration::from_secs(300);
const SETTLE: Duration = Duration::from_secs(60);
const RESTART_MAX: Duration = Duration::from_secs(2);

#[test]
fn ten_kills_lose_nothing_and_double_nothing() {
    let seed = std::env::var("TESTS_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_211_231);
    let recording = Recording::read();
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Mosquitto::start(dir.path(), Saving::OnChanges);
    let database = VictoriaMetrics::start(dir.path());
    let list = dir.path().join("devices.csv");
    fs::write(&list, recording.device_list(agent::ID)).expect("a list");
    let setup = Setup {
        broker: broker.gateway_port,
        database: Some(database.port),
        registry: format!("devices = [{list:?}]"),
        // Checkpoints often, so that kills fall before, into and after them.
        more:
            "[validate]\naccept_past = \"10y\"\n[embedded]\nretention = \"11y\"\n[checkpoint]\nevery_s = 2\n"
                .into(),
        sink_of_record: "embedded",
    };
    let mut gateway = Gateway::start(dir.path(), &setup, &[]);
    let begun = Instant::now();
    let mut agent = Agent::start(dir.path(), broker.port, &recording, HELD_MAX);

    let mut restarts_s: Vec<f64> = Vec::new();
    let mut draw = seed | 1;
    for kill in 0..KILLS {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        // Somewhere in the kill's own tenth of the first nine tenths of the replay.
        let share = recording.samples * 9 / 10 / KILLS;
        let moment = kill * share + draw % share;
        eventually(REPLAY, "the replay goes on", || {
            let status = gateway.http.json("/api/v1/status");
            (status["samples_total"].as_u64()? >= moment).then_some(())
        });
        let at_s = begun.elapsed().as_secs_f64();
        match kill % 3 {
            0 => {
                let took = gateway.kill_and_restart();
                println!("{at_s:5.1} s, {moment} samples: gateway killed, ready after {took:?}");
                restarts_s.push(took.as_secs_f64());
            }
            1 => {
                println!("{at_s:5.1} s, {moment} samples: Mosquitto killed");
                broker.kill_and_restart();
            }
            _ => {
                assert!(agent.process.ended().is_none(), "the replay was over before the kill");
                println!("{at_s:5.1} s, {moment} samples: agent killed");
                agent.kill_and_restart();
            }
        }
    }
    let ended = agent.process.wait(REPLAY);
    assert!(ended.success(), "the agent ended with {ended}");
    let replay_s = begun.elapsed().as_secs_f64();
    let ledger = gateway.await_settled(recording.samples, SETTLE);
    let (code, _) = gateway.ledger_command();
    let external = in_database(&database, &recording, false);
    let embedded = in_gateway(&gateway, &recording);
    let rewritten = in_database(&database, &recording, true).doubled;
    let restart_s_max = restarts_s.iter().copied().fold(0.0, f64::max);
    report::write(
        "faults",
        Some("kills"),
        &json!({"seed": seed, "kills": KILLS, "samples": recording.samples, "replay_s": replay_s,
            "lost": external.lost + embedded.lost, "doubled": external.doubled + embedded.doubled,
            "invented": external.invented + embedded.invented, "written_again_and_merged": rewritten,
            "duplicates_refused": ledger["duplicates"], "restart_s": restart_s_max, "restarts_s": restarts_s}),
    );
    assert_eq!(external, Difference::default(), "VictoriaMetrics");
    assert_eq!(embedded, Difference::default(), "embedded store");
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&json!(recording.samples), &json!(true)), "{ledger}");
    assert_eq!(code, Some(0));
    assert!(restart_s_max < RESTART_MAX.as_secs_f64(), "a restart took {restart_s_max} s");
}
