//! The command `simulate` against the real Mosquitto: a leap of a gauge leaves at once on the alarm topic, an agent that
//! a scenario takes offline delivers afterwards, and reports are sent twice or in another order where it says so.
#![cfg(feature = "simulate")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use hunhe_proto::{class::Class, decode::decode, reading::Report, topic};
use hunhe_tests::{
    broker::{Agents, GATEWAY, Mosquitto, Saving},
    mqtt::password_of,
};
use rumqttc::{AsyncClient, Broker, Event, MqttOptions, Packet, QoS};
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

const CLASS: &str = r#"
name = "level"
version = 1
title = { zh = "液位", en = "level" }
time_unit_ms = 1000
interval = 60
[report]
samples = 10
silent_after_s = 3600
[report.on_alarm]
interval = 10
clear_s = 300
[[channels]]
number = 1
name = "level"
title = { zh = "液位", en = "level" }
unit = "mm"
kind = "gauge"
min = 0
max = 10000
report_on_change = 100
simulate = { base = 500, noise = 2 }
[faults]
leap = { effect = "step", channel = "level", by = 2000.0 }
rise = { effect = "drift", channel = "level", per_h = 3600.0 }
twice = { effect = "duplicate" }
turned = { effect = "disorder" }
"#;

const FLEET: &str = r#"
seed = 1
[[groups]]
class = "level"
count = 5
prefix = "l"
operator = "water"
per_agent = 1
places = [{ district = 210102, zone = "z", lon = 123.4, lat = 41.8 }]
"#;

/// Every agent's.
const PASSWORD: &str = "one for all";
/// 2024-01-01T00:00:00Z
const START_MS: i64 = 1_704_067_200_000;
const SCENARIO: &str = r#"
title = { zh = "", en = "" }
[[events]]
device = "l-1"
fault = "leap"
from_s = 1800
until_s = 2400
[[events]]
device = "l-2"
fault = "rise"
from_s = 1800
until_s = 2400
[[events]]
agent = "l-3"
offline = true
from_s = 600
until_s = 2400
[[events]]
device = "l-4"
fault = "twice"
from_s = 0
until_s = 3600
[[events]]
device = "l-5"
fault = "turned"
from_s = 0
until_s = 3600
"#;

/// Killed by its process id when the test ends, however it ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A report as heard: its device, whether by the alarm topic, its samples as (seconds from the start, value).
type Heard = (String, bool, Vec<(i64, i64)>);

/// Listens until `done`, and says by `subscribed` when it does: nothing here is retained.
async fn listen(
    port: u16,
    class: &Class,
    subscribed: oneshot::Sender<()>,
    mut done: impl FnMut(&[Heard]) -> bool,
) -> Vec<Heard> {
    let mut subscribed = Some(subscribed);
    let mut options = MqttOptions::new(GATEWAY, Broker::tcp("127.0.0.1", port));
    options.set_credentials(GATEWAY, password_of(GATEWAY));
    let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
    let (mut heard, mut report) = (Vec::new(), Report::default());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done(&heard) {
        assert!(Instant::now() < deadline, "in vain: {heard:?}");
        match tokio::time::timeout(Duration::from_secs(30), events.poll()).await.unwrap().unwrap() {
            Event::Incoming(Packet::ConnAck(_)) => {
                client.try_subscribe("hunhe/v1/#", QoS::AtLeastOnce).unwrap();
            }
            Event::Incoming(Packet::SubAck(_)) => subscribed.take().unwrap().send(()).unwrap(),
            Event::Incoming(Packet::Publish(publish)) => {
                let (device, alarm) = match topic::parse(&publish.topic) {
                    Ok(topic::Topic::Up(device)) => (device, false),
                    Ok(topic::Topic::Alarm(device)) => (device, true),
                    _ => continue,
                };
                decode(&publish.payload, class.axis(), &mut report).unwrap();
                let values =
                    report.columns.first().map(|column| report.values_of(column)).unwrap_or_default();
                let times = report.times_ms.iter().map(|time| (time - START_MS) / 1000);
                heard.push((device.to_string(), alarm, times.zip(values.iter().copied()).collect()));
            }
            _ => {}
        }
    }
    heard
}

#[tokio::test]
async fn a_leap_and_a_change_leave_at_once_and_the_scenarios_faults_show_on_the_wire() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("classes")).unwrap();
    for (name, text) in [("classes/level.toml", CLASS), ("fleet.toml", FLEET), ("scenario.toml", SCENARIO)] {
        fs::write(path(name), text).unwrap();
    }
    let agents =
        Agents { users: &["l-1", "l-2", "l-3", "l-4", "l-5"], password: Some(PASSWORD), own_lines: "" };
    let broker = Mosquitto::start_as_shipped(folder.path(), Saving::EveryMinute, &agents);
    fs::write(path("password"), PASSWORD).unwrap();
    let class: Class = toml::from_str(CLASS).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hunhe-edge"));
    command.arg("simulate").arg("--fleet").arg(path("fleet.toml")).arg("--classes").arg(path("classes"));
    command
        .arg("--scenario")
        .arg(path("scenario.toml"))
        .arg("--broker")
        .arg(format!("127.0.0.1:{}", broker.port));
    command.arg("--password-file").arg(path("password"));
    // Ten minutes of event time a second.
    command.args(["--speed", "600", "--from", "2024-01-01T00:00:00Z", "--for", "6s", "--drain", "1s"]);
    let (subscribed, is_subscribed) = oneshot::channel();
    let listening = listen(broker.gateway_port, &class, subscribed, |heard| {
        let ends = |device: &str| {
            let of = heard.iter().filter(|(name, ..)| name == device).flat_map(|(_, _, samples)| samples);
            of.map(|(time_s, _)| *time_s).max().unwrap_or(0)
        };
        ["l-1", "l-2", "l-3", "l-4", "l-5"].into_iter().all(|device| ends(device) > 3000)
    });
    let (heard, _city) = tokio::join!(listening, async {
        is_subscribed.await.unwrap();
        Process(command.stdout(Stdio::null()).spawn().unwrap())
    });
    let alarms = |device: &str| -> Vec<_> {
        heard
            .iter()
            .filter(|(name, alarm, _)| name == device && *alarm)
            .map(|(.., samples)| samples)
            .collect()
    };
    let leap = *alarms("l-1").first().expect("the leap is an alarm");
    let newest = leap.last().unwrap();
    assert!((1800..1860).contains(&newest.0) && newest.1 > 2400, "with what set it off: {leap:?}");
    let dense = heard.iter().filter(|(name, ..)| name == "l-1").flat_map(|(.., samples)| samples);
    let dense = dense.filter(|(time_s, _)| (1800..2700).contains(time_s)).map(|(time_s, _)| time_s);
    assert_eq!(
        dense.collect::<std::collections::BTreeSet<_>>().len(),
        90,
        "every ten seconds while it stands"
    );
    assert!(alarms("l-2").len() >= 3, "a rise of 60 mm a minute is told by every 100");
    assert!(alarms("l-3").is_empty());
    let all: std::collections::BTreeSet<i64> = heard
        .iter()
        .filter(|(name, ..)| name == "l-3")
        .flat_map(|(.., samples)| samples.iter().map(|(time_s, _)| *time_s))
        .filter(|time_s| *time_s < 3000)
        .collect();
    assert_eq!(all.len(), 50, "every minute, the outage included");
    let begins = |device: &str| -> Vec<i64> {
        let of = heard.iter().filter(|(name, ..)| name == device);
        of.filter_map(|(.., samples)| samples.first()).map(|(time_s, _)| *time_s).collect()
    };
    let again = |begins: &[i64]| begins.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(again(&begins("l-4")) >= 4 && again(&begins("l-1")) == 0, "{:?}", begins("l-4"));
    assert!(!begins("l-5").is_sorted() && begins("l-4").is_sorted(), "{:?}", begins("l-5"));
}
