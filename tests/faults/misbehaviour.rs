//! A broker that misbehaves, towards the gateway and towards an agent: nothing that the gateway acknowledged is lost,
//! nothing is stored twice, nobody dies or grows, and all is well once the broker is.
//!
//! In every case of the gateway's it is also killed once, so that only what was durable counts.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{
    fs,
    ops::RangeInclusive,
    sync::Mutex,
    time::{Duration, Instant},
};

use hunhe_tests::{
    agent::{self, Agent},
    fake_broker::{FakeBroker, Manner},
    gateway::{Gateway, Setup},
    meters::Meters,
    mqtt::{self, Publish, packet, with_id},
    process::eventually,
    procfs,
    recording::Recording,
    stored::{Difference, in_gateway},
    wire,
};
use prost::Message;
use serde_json::json;

const UP: &str = "hunhe-gateway-up";
const MESSAGES: u64 = 1_200;
const WITHIN: Duration = Duration::from_secs(60);
const RSS_MIB_MAX: f64 = 256.0;
/// Cases at once: they mostly wait.
const AT_ONCE: usize = 3;
/// What the gateway takes unless configured otherwise.
const PACKET_BYTES_MAX: usize = 262_144;

#[derive(Clone)]
struct Case {
    name: &'static str,
    manners: Vec<Manner>,
    /// Acknowledgements that the broker did not expect.
    stray: RangeInclusive<u64>,
}

fn case(name: &'static str, manners: impl Into<Vec<Manner>>) -> Case {
    Case { name, manners: manners.into(), stray: 0..=0 }
}

/// A publish whose remaining length is `length`, complete.
fn publish_of(length: usize) -> Vec<u8> {
    let topic = "hunhe/v1/00/nobody/up".to_owned();
    let payload = vec![0xff; length - 2 - topic.len() - 2];
    let mut bytes = Vec::new();
    let publish = Publish { dup: false, qos: 1, retain: false, topic, id: 60_000, payload };
    mqtt::push_publish(&mut bytes, &publish);
    bytes
}

fn unasked(bytes: &[u8]) -> Manner {
    Manner::Unasked(bytes.to_vec())
}

/// Of sessions and deliveries.
fn manners() -> Vec<Case> {
    use Manner::{
        CloseAfterConnack, CloseAfterSuback, Disbelieve, ForgetSession, HalfPacket, Refuse,
        RefuseSubscription, SameId, Silence, Twice, Window,
    };
    vec![
        case("refused", [Refuse(3), Refuse(5), Refuse(2)]),
        case("closed after CONNACK", [CloseAfterConnack, CloseAfterConnack, CloseAfterConnack]),
        case("closed after SUBACK", [CloseAfterSuback, CloseAfterSuback, CloseAfterSuback]),
        case("subscription refused", [RefuseSubscription, RefuseSubscription]),
        case("session forgotten", [Window(50), ForgetSession, ForgetSession]),
        case("half a packet and no more", [HalfPacket { after: 100, cut: false }]),
        case("silence", [Silence]),
        case(
            "half a packet and the end",
            [
                HalfPacket { after: 0, cut: true },
                HalfPacket { after: 70, cut: true },
                HalfPacket { after: 150, cut: true },
            ],
        ),
        case("one at a time", [Window(1)]),
        Case { stray: 0..=u64::MAX, ..case("each delivery twice", [Twice, Twice]) },
        Case { stray: 0..=u64::MAX, ..case("one packet id for all", [SameId, SameId]) },
        case("acknowledgements not believed", [Disbelieve(100), Disbelieve(150)]),
    ]
}

/// Packets that nobody asked for.
fn packets() -> Vec<Case> {
    let name_of_none = [0x30, 4, 0, 2, 0xff, 0xfe];
    let long_header = [0x32, 0xff, 0xff, 0xff, 0x7f];
    let publish = |length: usize| unasked(&publish_of(length));
    vec![
        // More of them in a row than would be taken for another client with our id.
        case(
            "answers to nothing",
            [
                unasked(&with_id(0x40, 9)),
                unasked(&with_id(0x50, 9)),
                unasked(&with_id(0x62, 9)),
                unasked(&with_id(0x70, 9)),
                unasked(&with_id(0xb0, 9)),
                unasked(&packet(0x90, &[0, 99, 1])),
                unasked(&[0x20, 2, 0, 0]),
            ],
        ),
        case(
            "no packets",
            [
                unasked(&[0x00, 0]),
                unasked(&[0xf0, 0]),
                unasked(&[0x32, 0xff, 0xff, 0xff, 0xff, 0xff]),
                unasked(&packet(0x32, &[0, 1, b'a', 0, 0])),
                unasked(&packet(0x36, &[0, 1, b'a', 0, 1])),
                unasked(&name_of_none),
                unasked(&packet(0x40, &[])),
            ],
        ),
        // A message that long is none of ours; it is taken, judged and acknowledged.
        Case {
            // One a subscription, unless the connection ended before.
            stray: 2..=4,
            ..case("packets at the limit", [publish(PACKET_BYTES_MAX - 1), publish(PACKET_BYTES_MAX)])
        },
        case(
            "packets beyond the limit",
            [
                publish(PACKET_BYTES_MAX + 1),
                unasked(&long_header),
                publish(PACKET_BYTES_MAX + 1),
                publish(PACKET_BYTES_MAX + 1),
                unasked(&long_header),
                publish(PACKET_BYTES_MAX + 1),
            ],
        ),
    ]
}

#[test]
fn the_gateway_survives_every_misbehaviour_of_the_broker() {
    let cases = [manners(), packets()].concat();
    let next = Mutex::new(cases.iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().expect("no case failed").next() else { break };
                    run(case);
                }
            });
        }
    });
}

fn run(case: &Case) {
    let begun = Instant::now();
    let Case { name, manners, stray } = case;
    let dir = tempfile::tempdir().expect("a folder");
    let broker = FakeBroker::start();
    broker.script(UP, manners.clone());
    let meters = Meters::new(40, 10);
    let setup = meters.setup(dir.path(), broker.port, "");
    let setup = Setup { more: "[checkpoint]\nevery_s = 1\n".into(), ..setup };
    let mut gateway = Gateway::launch(dir.path(), &setup, &[("HUNHE_BROKER_KEEP_ALIVE_S", "5")], &[]);
    let third = MESSAGES / 3;
    broker.offer(UP, (0..third).map(|number| meters.message(number)));
    // Where a misbehaviour does not end the connection by itself, the broker does.
    eventually(WITHIN, &format!("{name}: every line of the script is played"), || {
        assert!(gateway.process.ended().is_none(), "{name}: the gateway ended");
        let connections = broker.record(UP).connections;
        if connections > manners.len() as u64 {
            return Some(());
        }
        let record = broker.record(UP);
        let present = usize::try_from(connections).ok().and_then(|count| manners.get(count.checked_sub(1)?));
        // With one id for all, one acknowledgement is all that comes.
        let over = record.outstanding == 0
            || present == Some(&Manner::SameId) && record.acknowledged.len() as u64 >= connections;
        std::thread::sleep(Duration::from_millis(50));
        if over && present.is_some_and(|manner| *manner != Manner::Silence) {
            broker.cut(UP);
        }
        None
    });
    broker.await_subscribed(UP);
    broker.offer(UP, (third..2 * third).map(|number| meters.message(number)));
    eventually(WITHIN, &format!("{name}: some of it is acknowledged"), || {
        (broker.acknowledged(UP) as u64 > third).then_some(())
    });
    gateway.kill_and_restart();
    broker.offer(UP, (2 * third..MESSAGES).map(|number| meters.message(number)));
    broker.await_all_acknowledged(UP, WITHIN);
    let ledger = gateway.await_settled(MESSAGES, WITHIN);
    let stored: u64 = (0..meters.count).map(|meter| meters.stored(&gateway, meter)).sum();
    let record = broker.record(UP);
    let rss_mib = procfs::rss_mib(gateway.process.id());
    println!(
        "{name}: {} connections, {} acknowledged, {} duplicates, {rss_mib:.0} MiB, {:.1} s",
        record.connections,
        record.acknowledged.len(),
        ledger["duplicates"],
        begun.elapsed().as_secs_f64()
    );
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&json!(MESSAGES), &json!(true)), "{name}: {ledger}");
    assert_eq!(stored, MESSAGES, "{name}: in the store");
    assert_eq!(record.out_of_order, 0, "{name}: acknowledgements overtook each other");
    assert!(stray.contains(&record.stray), "{name}: {} acknowledgements of nothing", record.stray);
    assert!(rss_mib < RSS_MIB_MAX, "{name}: {rss_mib} MiB");
}

/// What an agent must not believe: a broker's acknowledgement, and watermarks that are not its own.
#[test]
fn an_agent_forgets_nothing_over_a_broker_that_stores_nothing_and_watermarks_that_are_not_its_own() {
    let agent_session = format!("hunhe-{}", agent::ID);
    let dir = tempfile::tempdir().expect("a folder");
    let mut recording = Recording::read();
    recording.keep_devices(2);
    let broker = FakeBroker::start();
    broker.script(&agent_session, [Manner::ThrowAway, Manner::NeverAcknowledge, Manner::CloseAfterSuback]);
    let topic = format!("hunhe/v1/agents/{}/durable", agent::ID);
    let foreign = |boot: u32, through: u64| {
        let boots = vec![hunhe_proto::v1::BootDurable { boot, through, missing: Vec::new() }];
        let device = |(device, _): &(String, String)| hunhe_proto::v1::DeviceDurable {
            device: device.clone(),
            boots: boots.clone(),
        };
        let devices = recording.devices.iter().map(device).collect();
        // A checksum of nothing that was ever sent.
        hunhe_proto::v1::Durable { devices, refused: vec![0x1234_5678] }.encode_to_vec()
    };
    // There before it comes: of another outbox.
    broker.publish(&topic, &foreign(1, 1 << 40), true);
    let mut agent = Agent::start(dir.path(), broker.port, &recording, 3_000);
    broker.await_subscribed(&agent_session);
    let thrown_away = eventually(WITHIN, "the agent has published", || broker.seen(&agent_session).pop());
    let boot = boot_of(&thrown_away);
    for through in [0, 1 << 40, u64::MAX, 0] {
        // Of its own outbox, but stale, or beyond what it ever sampled.
        broker.publish(&topic, &foreign(boot, through), true);
    }
    broker.publish(&topic, b"\xff\xff no watermark", true);
    std::thread::sleep(Duration::from_secs(2));
    broker.cut(&agent_session);
    broker.await_subscribed(&agent_session);
    std::thread::sleep(Duration::from_secs(2));
    agent.kill_and_restart();
    assert!(agent.process.ended().is_none());
    broker.publish(&topic, &foreign(boot, 0), true);

    let list = dir.path().join("devices.csv");
    fs::write(&list, recording.device_list(agent::ID)).expect("a list");
    let setup = Setup::embedded(
        broker.port,
        format!("devices = [{list:?}]"),
        "[validate]\naccept_past = \"10y\"\n[embedded]\nretention = \"11y\"\n",
    );
    let gateway = Gateway::start(dir.path(), &setup, &[]);
    let ended = agent.process.wait(Duration::from_secs(120));
    assert!(ended.success(), "the agent ended with {ended}");
    let ledger = gateway.await_settled(recording.samples, WITHIN);
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&json!(recording.samples), &json!(true)), "{ledger}");
    assert_eq!(in_gateway(&gateway, &recording), Difference::default());
}

fn boot_of(report: &[u8]) -> u32 {
    wire::boot_of(report).expect("a report names its outbox")
}
