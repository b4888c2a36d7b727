//! The agent's program against the real Mosquitto: what it publishes, what it forgets, and what a kill leaves behind.
//!
//! The test plays the gateway: it reads reports, publishes watermarks, and knows from the reports alone what a
//! gateway could know.
#![cfg(feature = "simulate")]
#![allow(clippy::unwrap_used, clippy::panic)]

use hunhe_proto::{
    class::Class,
    decode::decode,
    reading::{Drop, DropCause, Report},
    topic, v1,
};
use hunhe_tests::{
    broker::{Agents, GATEWAY, Mosquitto, Saving},
    mqtt::password_of,
};
use prost::Message;
use rumqttc::{AsyncClient, Broker, Event, MqttOptions, Packet, PublishOptions, QoS};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc};

const CLASS: &str = r#"
name = "level"
version = 1
title = { zh = "液位", en = "level" }
time_unit_ms = 1000
interval = 60
report = { samples = 5, silent_after_s = 3600 }
[[channels]]
number = 1
name = "level"
title = { zh = "液位", en = "level" }
unit = "mm"
kind = "gauge"
min = 0
max = 10000
simulate = { base = 500, daily = 100, noise = 20 }
"#;

/// The agent's two devices, as `hunhe-gateway registry acl` would name them.
const BEHIND: &str = "user c-1\n\
    topic write hunhe/v1/+/l-1/up\ntopic write hunhe/v1/+/l-1/alarm\n\
    topic write hunhe/v1/+/l-2/up\ntopic write hunhe/v1/+/l-2/alarm\n";

/// Killed by its process id when the test ends, however it ends.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl std::ops::Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Place {
    folder: tempfile::TempDir,
    broker: Mosquitto,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("classes")).unwrap();
        fs::write(folder.path().join("classes/level.toml"), CLASS).unwrap();
        let agents = Agents { users: &["c-1"], password: None, own_lines: BEHIND };
        let broker = Mosquitto::start_as_shipped(folder.path(), Saving::Never, &agents);
        fs::write(folder.path().join("password"), password_of("c-1")).unwrap();
        Self { folder, broker }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One agent with two devices, a minute of event time every 20 ms.
    fn agent(&self) -> Process {
        let config = format!(
            "agent = \"c-1\"\nclasses = {:?}\nstate_dir = {:?}\n[broker]\nport = {}\n\
             username = \"c-1\"\npassword_file = {:?}\n[link]\nbackoff_ms_max = 1000\n\
             [outbox]\nsamples_max = 100000\n[clock]\nspeed = 3000.0\nfrom = \"2024-01-01T00:00:00Z\"\n\
             [[devices]]\nid = \"l-1\"\nclass = \"level\"\ndriver = \"simulated\"\n\
             [[devices]]\nid = \"l-2\"\nclass = \"level\"\ndriver = \"simulated\"\n",
            self.path("classes"),
            self.path("state"),
            self.broker.port,
            self.path("password")
        );
        fs::write(self.path("edge.toml"), config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_hunhe-edge"))
            .args(["run", "--json", "--config"])
            .arg(self.path("edge.toml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Process(child)
    }
}

/// What a gateway knows of one device.
#[derive(Default, Debug)]
struct Known {
    boots: BTreeSet<u32>,
    samples: BTreeMap<u64, (i64, i64)>,
    drops: Vec<Drop>,
    held_from: u64,
    next_seq: u64,
}

impl Known {
    fn through(&self) -> u64 {
        let dropped = |seq| self.drops.iter().any(|drop| (drop.seq..drop.seq + drop.count).contains(&seq));
        let known = |seq: &u64| self.samples.contains_key(seq) || dropped(*seq);
        (0..self.next_seq).find(|seq| !known(seq)).unwrap_or(self.next_seq)
    }

    /// The first gap before the newest that came.
    fn missing(&self) -> Vec<v1::Range> {
        let start = self.through();
        let end = self.samples.range(start..).next().map_or(start, |(&seq, _)| seq);
        if end > start { vec![v1::Range { start, count: end - start }] } else { vec![] }
    }
}

/// The test's side of the broker.
struct Gateway {
    client: AsyncClient,
    /// The broker is back: only then is it worth connecting again.
    restarted: Arc<Notify>,
    reports: mpsc::UnboundedReceiver<(String, Vec<u8>)>,
    class: Class,
    devices: BTreeMap<String, Known>,
    online: Vec<bool>,
    crcs: Vec<(String, u32, u64, u64)>,
}

impl Gateway {
    async fn connect(port: u16, id: &str) -> Self {
        let mut options = MqttOptions::new(id, Broker::tcp("127.0.0.1", port));
        options.set_credentials(GATEWAY, password_of(GATEWAY));
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::builder(options).capacity(100).build();
        let (sender, reports) = mpsc::unbounded_channel();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        let subscriber = client.clone();
        let restarted = Arc::new(Notify::new());
        let again = Arc::clone(&restarted);
        tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        subscriber.try_subscribe("hunhe/v1/#", QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        if let Some(ready) = ready.take() {
                            let _ = ready.send(());
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                        if sender.send((topic, publish.payload.to_vec())).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => again.notified().await,
                }
            }
        });
        is_ready.await.unwrap();
        let class = toml::from_str(CLASS).unwrap();
        let (devices, online, crcs) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { client, restarted, reports, class, devices, online, crcs }
    }

    /// Takes one message; checks that it contradicts nothing known.
    async fn hear(&mut self) {
        let deadline = Duration::from_secs(20);
        let (topic, payload) = tokio::time::timeout(deadline, self.reports.recv()).await.unwrap().unwrap();
        if topic.ends_with("/state") {
            self.online.push(v1::AgentState::decode(&*payload).unwrap().online);
        }
        if !topic.ends_with("/up") {
            return;
        }
        let id = topic.split('/').nth(3).unwrap().to_string();
        let mut report = Report::default();
        decode(&payload, self.class.axis(), &mut report).unwrap();
        let known = self.devices.entry(id.clone()).or_default();
        known.boots.insert(report.header.boot);
        let values = report.columns.first().map_or(&[][..], |column| report.values_of(column));
        for (offset, (&time, &value)) in report.times_ms.iter().zip(values).enumerate() {
            let seq = report.header.seq + offset as u64;
            let before = known.samples.insert(seq, (time, value));
            assert!(
                before.is_none_or(|before| before == (time, value)),
                "seq {seq} of {id} changed its sample"
            );
        }
        for &drop in &report.drops {
            known.drops.push(drop);
        }
        assert!(report.next_seq() >= report.end_seq());
        known.held_from = report.held_from();
        known.next_seq = known.next_seq.max(report.next_seq());
        self.crcs.push((id, crc32c::crc32c(&payload), report.header.seq, report.end_seq()));
    }

    async fn hear_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.hear().await;
        }
    }

    /// As a gateway does, names what was held and never came, now and then.
    async fn hear_and_answer_until(&mut self, done: impl Fn(&Self) -> bool) {
        let mut answered = Instant::now();
        while !done(self) {
            self.hear().await;
            if answered.elapsed() > Duration::from_millis(500) {
                self.publish_watermark(vec![]).await;
                answered = Instant::now();
            }
        }
    }

    fn next_seq(&self, id: &str) -> u64 {
        self.devices.get(id).map_or(0, |known| known.next_seq)
    }

    async fn publish_watermark(&self, refused: Vec<u32>) {
        let devices = self.devices.iter().map(|(id, known)| v1::DeviceDurable {
            device: id.clone(),
            boots: vec![v1::BootDurable {
                boot: *known.boots.last().unwrap(),
                through: known.through(),
                missing: known.missing(),
            }],
        });
        let durable = v1::Durable { devices: devices.collect(), refused };
        let topic = topic::durable(hunhe_proto::id::Id::new("c-1").unwrap());
        let options = PublishOptions::at_least_once().retained();
        self.client.publish(topic, durable.encode_to_vec(), options).await.unwrap();
    }

    fn assert_whole(&self) {
        for (id, known) in &self.devices {
            assert_eq!(known.boots.len(), 1, "{id} has one outbox through all restarts");
            assert_eq!(known.through(), known.next_seq, "{id} has no gap");
            let times: Vec<_> = known.samples.values().map(|sample| sample.0).collect();
            assert!(
                times.windows(2).all(|pair| pair[1] - pair[0] == 60_000),
                "{id} sampled every minute once"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_until_the_watermark_and_goes_on_after_a_kill() {
    let place = Place::new();
    let mut gateway = Gateway::connect(place.broker.gateway_port, GATEWAY).await;
    let mut agent = place.agent();
    gateway.hear_until(|gateway| gateway.next_seq("l-1") >= 50 && gateway.next_seq("l-2") >= 50).await;
    assert!(
        gateway.devices.values().all(|known| known.held_from == 0),
        "nothing is forgotten without a watermark"
    );
    assert_eq!(gateway.online, [true]);

    gateway.publish_watermark(vec![]).await;
    gateway.hear_until(|gateway| gateway.devices.values().all(|known| known.held_from >= 50)).await;

    for round in 0..4 {
        let before = gateway.next_seq("l-1");
        agent.kill();
        agent = place.agent();
        gateway
            .hear_until(|gateway| gateway.next_seq("l-1") > before + 20 && gateway.next_seq("l-2") > before)
            .await;
        if round % 2 == 0 {
            gateway.publish_watermark(vec![]).await;
        }
    }
    // A good end: everything that waits is sent, and the agent says good-bye.
    let pid = agent.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    gateway.hear_until(|gateway| gateway.online.last() == Some(&false) && gateway.online.len() > 5).await;
    gateway.assert_whole();
    let mut text = String::new();
    std::io::Read::read_to_string(agent.0.stdout.as_mut().unwrap(), &mut text).unwrap();
    assert_eq!(agent.0.wait().unwrap().code(), Some(0));
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    for device in summary.as_array().unwrap() {
        let known = &gateway.devices[device["device"].as_str().unwrap()];
        assert_eq!(device["next_seq"].as_u64(), Some(known.next_seq));
        assert_eq!(device["declared_lost"].as_u64(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_costs_nothing_and_a_refusal_is_declared() {
    let mut place = Place::new();
    let mut gateway = Gateway::connect(place.broker.gateway_port, GATEWAY).await;
    let _agent = place.agent();
    gateway.hear_until(|gateway| gateway.next_seq("l-1") >= 20).await;
    place.broker.kill_and_restart();
    gateway.restarted.notify_one();
    let before = gateway.next_seq("l-1");
    // What was on its way is lost with the broker, and so is all that came before the gateway was back.
    gateway
        .hear_and_answer_until(|gateway| {
            gateway.devices.len() == 2
                && gateway.devices.values().all(|known| known.through() == known.next_seq)
                && gateway.next_seq("l-1") > before + 20
        })
        .await;
    gateway.assert_whole();

    gateway.crcs.clear();
    gateway.hear_until(|gateway| !gateway.crcs.is_empty()).await;
    let (id, crc, start, end) = gateway.crcs[0].clone();
    // As if that payload had been unreadable, and nothing since the last watermark durable.
    gateway.devices.get_mut(&id).unwrap().samples.retain(|seq, _| !(start..end).contains(seq));
    gateway.publish_watermark(vec![crc]).await;
    let expected = Drop { seq: start, count: end - start, cause: DropCause::Refused };
    gateway.hear_until(|gateway| gateway.devices[&id].drops.contains(&expected)).await;
    assert!(gateway.devices[&id].held_from >= end && gateway.devices[&id].through() >= end);
    // Declared once and for all: after the watermark has passed it, no report tells it again.
    gateway.publish_watermark(vec![]).await;
    let passed = gateway.next_seq(&id);
    gateway.hear_until(|gateway| gateway.devices[&id].held_from >= passed).await;
    gateway.devices.get_mut(&id).unwrap().drops.clear();
    let after = gateway.next_seq(&id);
    gateway.hear_until(|gateway| gateway.next_seq(&id) > after + 10).await;
    assert!(gateway.devices[&id].drops.is_empty());
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_folder_is_restored_from_a_copy_gives_no_number_to_two_samples() {
    let place = Place::new();
    let mut gateway = Gateway::connect(place.broker.gateway_port, GATEWAY).await;
    let mut agent = place.agent();
    gateway.hear_until(|gateway| gateway.next_seq("l-1") >= 20 && gateway.next_seq("l-2") >= 20).await;
    agent.kill();
    copy(&place.path("state"), &place.path("copy"));
    agent = place.agent();
    gateway.hear_until(|gateway| gateway.next_seq("l-1") >= 200 && gateway.next_seq("l-2") >= 200).await;
    agent.kill();
    gateway.publish_watermark(vec![]).await;
    let before: BTreeMap<_, _> =
        gateway.devices.iter().map(|(id, known)| (id.clone(), *known.boots.last().unwrap())).collect();
    fs::remove_dir_all(place.path("state")).unwrap();
    copy(&place.path("copy"), &place.path("state"));
    // The test's gateway tells samples by number alone: that of an outbox which follows begins a book of its own.
    gateway.devices.clear();
    let _agent = place.agent();
    gateway
        .hear_until(|gateway| {
            // What the agent had made when it sent its oldest is still on its way.
            let whole = |known: &Known| known.next_seq > 30 && known.through() == known.next_seq;
            gateway.devices.len() == 2 && gateway.devices.values().all(whole)
        })
        .await;
    for (id, known) in &gateway.devices {
        assert!(known.boots.first() > before.get(id), "{id}: {:x?} after {:x?}", known.boots, before[id]);
    }
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_keeps_nothing_for_an_agent_that_is_away_but_its_newest_watermark() {
    let place = Place::new();
    let mut gateway = Gateway::connect(place.broker.gateway_port, GATEWAY).await;
    let mut agent = place.agent();
    gateway.hear_until(|gateway| gateway.next_seq("l-1") >= 5).await;
    agent.kill();
    gateway.publish_watermark(vec![]).await;
    gateway.publish_watermark(vec![7]).await;
    let mut options = MqttOptions::new("hunhe-c-1", Broker::tcp("127.0.0.1", place.broker.port));
    options.set_credentials("c-1", password_of("c-1"));
    options.set_clean_session(false);
    let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
    let topic = topic::durable(hunhe_proto::id::Id::new("c-1").unwrap());
    let answer = events.poll().await.unwrap();
    assert!(matches!(&answer, Event::Incoming(Packet::ConnAck(ack)) if !ack.session_present), "{answer:?}");
    // Each subscription brings what is retained; the second watermark may still be on its way.
    let newest = async {
        loop {
            client.subscribe(topic.clone(), QoS::AtLeastOnce).await.unwrap();
            let heard = loop {
                if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap() {
                    break publish;
                }
            };
            if heard.retain && v1::Durable::decode(&*heard.payload).unwrap().refused == [7] {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), newest).await.unwrap();
}
