//! Retained reports come again at each subscription: they are refused, named in metrics, and are no data.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{fs, path::Path, time::Duration};

use hunhe_proto::{reading::Header, v1};
use hunhe_tests::{
    broker::{Agents, Mosquitto, Saving},
    gateway::{Gateway, Setup},
    now_h,
    process::eventually,
    publisher::Publisher,
    wire::{GAS_METER_VERSION, report, up_topic},
};
use prost::Message;

const WITHIN: Duration = Duration::from_secs(30);
const METER: &str = "meter-1";
/// Half an hour ago, in hours since 1970.
fn recent_hour() -> i64 {
    now_h() - 1
}

fn setup(dir: &Path, broker: u16) -> Setup {
    let list = dir.join("devices.csv");
    let text = format!(
        "device,class,operator,district,zone,agent,lon,lat\n\
         {METER},gas_meter,gas,210102,gas-heping,{METER},123.4,41.8\n"
    );
    fs::write(&list, text).expect("a list");
    Setup::embedded(broker, format!("devices = [{list:?}]"), "")
}

fn sample(seq: u64) -> Vec<u8> {
    report(
        Header { boot: 7, seq, class_version: Some(GAS_METER_VERSION), ..Header::default() },
        recent_hour(),
        1,
        &[1_000_000],
    )
}

#[test]
fn a_retained_report_is_refused_at_every_start_and_a_retained_state_is_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start_as_shipped(dir.path(), Saving::EveryMinute, &Agents::named(&[METER]));
    let mut publisher = Publisher::connect(broker.port, METER, 16).expect("a connection");
    let up = up_topic(METER);
    let alarm = up.replace("/up", "/alarm");
    let state = v1::AgentState { online: true, since_ms: 1, version: "1".into() }.encode_to_vec();
    publisher.publish_retained(up.as_bytes(), &sample(0)).expect("it is sent");
    publisher.publish_retained(alarm.as_bytes(), &sample(1)).expect("it is sent");
    publisher
        .publish_retained(format!("hunhe/v1/agents/{METER}/state").as_bytes(), &state)
        .and_then(|()| publisher.settle())
        .expect("it is taken");

    let mut gateway = Gateway::start(dir.path(), &setup(dir.path(), broker.gateway_port), &[]);
    for start in 1..=3 {
        for session in ["up", "alarm"] {
            let name = format!("hunhe_mqtt_retained_refused_total{{session=\"{session}\"}}");
            eventually(WITHIN, &format!("{session} names it at start {start}"), || {
                (gateway.http.metric(&name) >= 1.0).then_some(())
            });
        }
        // A state at each start, and nothing else, is a message.
        eventually(WITHIN, "the agent is known to be online", || {
            (gateway.http.metric("hunhe_devices_online") >= 1.0).then_some(())
        });
        // `online` may be known from the checkpoint, before the state has come again.
        eventually(WITHIN, &format!("the state comes at start {start}"), || {
            (gateway.http.metric("hunhe_messages_total") >= f64::from(start)).then_some(())
        });
        // The reports were refused before it, so that no more comes.
        assert_eq!(gateway.http.metric("hunhe_messages_total"), f64::from(start), "start {start}");
        let ledger = gateway.ledger();
        assert_eq!(ledger["sampled"], 0, "{ledger}");
        if start < 3 {
            gateway.kill_and_restart();
        }
    }
    // What was refused was acknowledged, so that nothing stands before what follows.
    publisher.publish(up.as_bytes(), &sample(0)).and_then(|()| publisher.settle()).expect("it is taken");
    let ledger = gateway.await_settled(1, WITHIN);
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&1.into(), &true.into()), "{ledger}");
}
