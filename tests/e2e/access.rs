//! Who may do what at the broker, on the shipped files: an agent's password is good for that agent's own topics and
//! nothing else, and least of all for the gateway's sessions.

#![expect(clippy::expect_used, reason = "a step of a test that cannot be done is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use hunhe_proto::{id::Id, topic};
use hunhe_tests::{
    broker::{Agents, GATEWAY, Mosquitto, Saving},
    command_of,
    detectors::{self, Detector, HIGH, LOW},
    events,
    gateway::{Gateway, Setup},
    mqtt, now_s,
    process::{eventually, free_port},
    publisher::Publisher,
};
use serde_json::json;

const CONNECTIONS: &str = "hunhe_broker_connections_total";
const WITHIN: Duration = Duration::from_secs(30);
/// More than the five that end a gateway.
const TAKEOVERS: usize = 12;
const SESSIONS: [&str; 4] =
    ["hunhe-gateway-up", "hunhe-gateway-alarm", "hunhe-gateway-out", "hunhe-gateway-alerts"];

/// Devices with their agents, all of one class.
fn setup(dir: &Path, broker: u16, devices: &[(&str, &str)]) -> Setup {
    let (rules, list) = (detectors::write_rules(dir), dir.join("devices.csv"));
    let mut text = String::from("device,class,operator,district,zone,agent,lon,lat\n");
    for (device, agent) in devices {
        text += &format!("{device},gas_station_detector,gas,210102,station-heping,{agent},123.4,41.8\n");
    }
    fs::write(&list, text).expect("a list");
    Setup::embedded(broker, format!("rules = {rules:?}\ndevices = [{list:?}]"), "")
}

/// Connects as `user` under another client's name, with a clean session; answers the broker's return code, and holds the
/// connection for a moment as a session that was taken over would be.
fn intrude(port: u16, user: &str, client_id: &str) -> Option<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(WITHIN)).ok()?;
    socket.write_all(&mqtt::connect_as(user, &mqtt::password_of(user), client_id, true)).ok()?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).ok()?;
    Some(answer[3])
}

/// Each session of the gateway, on both listeners: allowed as an agent on its own, and never on the gateway's.
fn attack(broker: &Mosquitto) {
    for _ in 0..TAKEOVERS {
        for session in SESSIONS {
            assert_eq!(intrude(broker.port, "det-0", session), Some(0), "it is an agent like any other");
            assert_eq!(intrude(broker.gateway_port, "det-0", session), Some(5), "not authorised");
        }
    }
}

#[test]
fn an_agents_password_takes_neither_the_gateways_sessions_nor_what_waits_in_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start_as_shipped(dir.path(), Saving::EveryMinute, &Agents::named(&["det-0"]));
    let setup = setup(dir.path(), broker.gateway_port, &[("det-0", "det-0")]);
    let mut gateway = Gateway::start(dir.path(), &setup, &[]);
    let before = gateway.http.metric(CONNECTIONS);
    attack(&broker);
    assert_eq!(gateway.http.metric(CONNECTIONS), before, "a session was taken over");
    assert!(gateway.process.ended().is_none(), "the gateway ended");

    // While it is down, its queue at the broker holds an alarm that was acknowledged.
    assert!(gateway.process.terminate(WITHIN).success());
    let mut publisher = Publisher::connect(broker.port, "det-0", 16).expect("a connection");
    Detector::new(0, 7).publish(&mut publisher, now_s(), &[HIGH]).expect("published");
    publisher.settle().expect("the broker has it");
    attack(&broker);
    gateway.relaunch(&[]);
    gateway.await_ready();
    let alert = eventually(WITHIN, "the alarm is there", || {
        gateway.http.json("/api/v1/alerts")["items"].as_array().and_then(|alerts| alerts.first().cloned())
    });
    assert_eq!((&alert["device"], &alert["rule"]), (&json!("det-0"), &json!(detectors::RULE)), "{alert}");
}

#[test]
fn what_waits_for_a_stopped_gateway_outlasts_a_restart_of_the_broker() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = Mosquitto::start_as_shipped(dir.path(), Saving::EveryMinute, &Agents::named(&["det-0"]));
    let setup = setup(dir.path(), broker.gateway_port, &[("det-0", "det-0")]);
    let mut gateway = Gateway::start(dir.path(), &setup, &[]);
    assert!(gateway.process.terminate(WITHIN).success());
    let mut detector = Detector::new(0, 7);
    // With settings by listener, what comes for a client that has not come back since the restart is judged by the
    // listener that it used before.
    for step in 0..2 {
        let mut publisher = Publisher::connect(broker.port, "det-0", 16).expect("a connection");
        detector.publish(&mut publisher, now_s() - 20 + 10 * step, &[LOW]).expect("published");
        publisher.settle().expect("the broker has it");
        broker.restart();
    }
    gateway.relaunch(&[]);
    gateway.await_ready();
    let ledger = gateway.await_settled(2, WITHIN);
    assert_eq!((&ledger["stored"], &ledger["closed"]), (&json!(2), &json!(true)), "{ledger}");
}

/// Two concentrators and a device for itself, and who is behind which.
const DEVICES: [(&str, &str); 4] = [("det-1", "c-1"), ("det-2", "c-1"), ("det-3", "c-2"), ("det-9", "det-9")];
const AGENTS: [&str; 3] = ["c-1", "c-2", "det-9"];
const OF_AGENTS: [&str; 5] = ["durable", "config", "cmd", "state", "reply"];

/// Every topic of the contract, of every device and agent, and some that are nobody's.
fn topics() -> Vec<String> {
    let mut topics = vec![
        "hunhe/v1/alerts/gas/critical".into(),
        "hunhe/v1/00/det-1/up".into(),
        "hunhe/v1/+/nobody/up".replace('+', "00"),
        "hunhe/v2/00/det-1/up".into(),
        "hunhe/v1/agents/gateway/state".into(),
    ];
    for (device, _) in DEVICES {
        let id = Id::new(device).expect("an id");
        topics.extend([topic::up(id), topic::alarm(id), topic::up(id).replace("/up", "/other")]);
    }
    for agent in AGENTS {
        topics.extend(OF_AGENTS.map(|kind| format!("hunhe/v1/agents/{agent}/{kind}")));
    }
    topics
}

/// What an agent may publish, from the list of devices alone.
fn may_write(agent: &str, to: &str) -> bool {
    let own_devices =
        DEVICES.iter().filter(|(_, of)| *of == agent).map(|(device, _)| Id::new(device).expect("an id"));
    own_devices.into_iter().any(|id| to == topic::up(id) || to == topic::alarm(id))
        || ["state", "reply"].iter().any(|kind| to == format!("hunhe/v1/agents/{agent}/{kind}"))
}

#[test]
fn with_the_registrys_list_each_agent_reaches_its_own_topics_and_no_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start_as_shipped(dir.path(), Saving::EveryMinute, &Agents::named(&[]));
    let setup = setup(dir.path(), broker.gateway_port, &DEVICES);
    let gateway = Gateway::start(dir.path(), &setup, &[]);
    broker.admit_registry_of(&gateway, "user judge\ntopic read #\n", None);

    let judge = events::published(broker.port, "judge", "#");
    for agent in AGENTS {
        let mut publisher = Publisher::connect(broker.port, agent, 64).expect("a connection");
        for (cell, topic) in topics().iter().enumerate() {
            publisher
                .publish(topic.as_bytes(), json!({"by": agent, "cell": cell}).to_string().as_bytes())
                .expect("sent");
        }
        publisher.settle().expect("each is answered, allowed or not");
    }
    // The last one allowed of the last agent.
    let came = || -> BTreeSet<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let events = events::so_far(&judge).into_iter();
        events
            .filter(|(_, event)| event["by"].is_string())
            .map(|(_, event)| (text(&event["by"]), text(&event["topic"])))
            .collect()
    };
    let allowed: BTreeSet<(String, String)> = AGENTS
        .iter()
        .flat_map(|agent| {
            topics().into_iter().filter(|to| may_write(agent, to)).map(|to| ((*agent).to_owned(), to))
        })
        .collect();
    assert_eq!(allowed.len(), 2 * (4 + 3));
    eventually(WITHIN, "what is allowed arrives", || allowed.is_subset(&came()).then_some(()));
    assert_eq!(came(), allowed, "an agent wrote what is not its own");

    // What the gateway's user says reaches the agent it is said to.
    let heard: BTreeMap<&str, _> =
        AGENTS.iter().map(|agent| (*agent, events::published(broker.port, agent, "#"))).collect();
    let mut publisher = Publisher::connect(broker.gateway_port, GATEWAY, 64).expect("a connection");
    for topic in topics() {
        publisher
            .publish(topic.as_bytes(), json!({"by": "gateway", "topic": topic}).to_string().as_bytes())
            .expect("sent");
    }
    publisher.settle().expect("each is answered");
    // Behind all of it, so that whatever an agent hears of the rest has come by then.
    for agent in AGENTS {
        let last = json!({"by": "gateway", "last": true}).to_string();
        publisher.publish(format!("hunhe/v1/agents/{agent}/cmd").as_bytes(), last.as_bytes()).expect("sent");
    }
    publisher.settle().expect("each is answered");
    for (agent, events) in heard {
        let own: BTreeSet<String> =
            ["durable", "config", "cmd"].map(|kind| format!("hunhe/v1/agents/{agent}/{kind}")).into();
        let came = eventually(WITHIN, &format!("{agent} hears the last thing said to it"), || {
            let events = events::so_far(&events);
            events.iter().any(|(_, event)| event["last"] == true).then_some(events)
        });
        let came = came.iter().filter(|(_, event)| event["by"] == "gateway");
        let came: BTreeSet<String> =
            came.map(|(_, event)| event["topic"].as_str().unwrap_or_default().to_owned()).collect();
        assert_eq!(came, own, "what {agent} hears");
    }
    // The gateway's user is no agent, and agents' users are none of the gateway's.
    assert_eq!(intrude(broker.port, GATEWAY, GATEWAY), Some(5));
    assert_eq!(intrude(broker.gateway_port, "c-1", "c-1"), Some(5));
}

/// What `agent` may publish: what reaches one who reads all, once the last thing has.
fn heard_of(broker: &Mosquitto, agent: &str) -> BTreeSet<String> {
    let judge = events::published(broker.port, "judge", "#");
    let mut publisher = Publisher::connect(broker.port, agent, 64).expect("a connection");
    for topic in topics() {
        publisher.publish(topic.as_bytes(), json!({"by": agent}).to_string().as_bytes()).expect("sent");
    }
    let last = json!({"by": agent, "last": true}).to_string();
    publisher
        .publish(format!("hunhe/v1/agents/{agent}/reply").as_bytes(), last.as_bytes())
        .and_then(|()| publisher.settle())
        .expect("each is answered, allowed or not");
    let came = eventually(WITHIN, "the last thing arrives", || {
        let events = events::so_far(&judge);
        events.iter().any(|(_, event)| event["last"] == true).then_some(events)
    });
    let came = came.iter().filter(|(_, event)| event["by"] == agent);
    came.map(|(_, event)| event["topic"].as_str().unwrap_or_default().to_owned()).collect()
}

fn owner_and_mode(path: &Path) -> String {
    let output = Command::new("stat").args(["-c", "%U:%G %04a"]).arg(path).output().expect("stat runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A list that Mosquitto cannot read allows everything after a reload, and keeps it from starting.
#[test]
fn a_broker_that_gives_up_root_goes_on_to_refuse_with_the_next_list_whoever_owned_the_one_before() {
    for (owner, mode) in [("root:root", "0644"), ("root:mosquitto", "0640"), ("mosquitto:mosquitto", "0600")]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let agents = Agents::named(&["c-1"]);
        let mut broker = Mosquitto::start_as_its_own_user(dir.path(), Saving::EveryMinute, &agents);
        let setup = setup(dir.path(), broker.gateway_port, &DEVICES);
        let gateway = Gateway::start(dir.path(), &setup, &[]);
        let list = broker.agents_acl();
        for (program, argument) in [("chown", owner), ("chmod", mode)] {
            assert!(Command::new(program).arg(argument).arg(&list).status().expect("it runs").success());
        }
        broker.admit_registry_of(&gateway, "user judge\ntopic read #\n", None);
        assert_eq!(owner_and_mode(&list), format!("{owner} {mode}"), "as they were");

        let allowed: BTreeSet<String> = topics().into_iter().filter(|to| may_write("c-1", to)).collect();
        assert_eq!(heard_of(&broker, "c-1"), allowed, "with {owner} {mode}, after the reload");
        broker.restart();
        assert_eq!(heard_of(&broker, "c-1"), allowed, "with {owner} {mode}, after a start");
    }
}

#[test]
fn an_agent_with_a_name_of_the_gateways_own_is_refused_by_check_and_run_and_gets_no_list() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = setup(dir.path(), free_port(), &[("det-0", "hunhe-gateway-up")]);
    let mut gateway = Gateway::launch(dir.path(), &setup, &[], &[]);
    assert_eq!(gateway.process.wait(WITHIN).code(), Some(2), "{}", gateway.log());
    assert!(!gateway.log().contains("the gateway runs"), "{}", gateway.log());
    for command in [["check"].as_slice(), &["registry", "acl"]] {
        let mut asked = command_of("hunhe-gateway");
        asked.args(command).arg("--config").arg(gateway.configuration());
        let output = asked.output().expect("it runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
        assert!(said.contains("hunhe-gateway-up bears a name of the gateway's own"), "{command:?}: {said}");
    }
}
