use super::*;
use std::rc::Rc;

const BASE_MS: i64 = 1_785_513_600_000;

fn connect(process: &mut Process, now_ms: u64) {
    process.turn_sessions(now_ms);
    for client in CLIENTS {
        process.take_packet(client, Packet::ConnAck { present: false }, now_ms);
        if client != Client::Out {
            process.take_packet(client, Packet::SubAck(true), now_ms);
        }
    }
}

/// Two minutes, with all that is due in them; the packets of watermarks that were sent.
fn go_on(process: &mut Process, now_ms: &mut u64) -> Vec<u16> {
    let mut sent = Vec::new();
    for _ in 0..120 {
        *now_ms += 1_000;
        process.tick(*now_ms);
        process.commit(|_, _| ()).unwrap();
        let (_, acts) = process.decide(*now_ms).unwrap();
        for act in acts {
            if let Act::Send(Client::Out, Packet::Publish { packet, .. }) = act {
                sent.push(packet);
            }
        }
        for begun in process.take_unfinished() {
            process.finish_checkpoint(begun);
        }
    }
    sent
}

#[test]
fn what_an_agent_is_told_people_can_see() {
    let mut random = Random::new(1);
    let fleet = Fleet::draw(&mut random.fork(), 60).unwrap();
    let nature = Nature::draw(&mut random.fork(), BASE_MS, 60);
    let mut process = Process::start(&nature, &fleet, &SimulatedDisk::new(), random.fork(), 0).unwrap();
    connect(&mut process, 2_000);
    let turn = |process: &mut Process, now_ms: u64| {
        process.commit(|_, _| ()).unwrap();
        let (_, acts) = process.decide(now_ms).unwrap();
        acts.iter().any(|act| matches!(act, Act::Send(Client::Out, Packet::Publish { .. })))
    };
    assert!(!turn(&mut process, 3_950));
    assert!(!turn(&mut process, 5_900));
    let (device, _) = fleet.crews[0].devices[0];
    let message =
        Message { topic: topic::up(device).into(), payload: Rc::from([0xff_u8].as_slice()), retain: false };
    process.take_packet(Client::Up, Packet::Publish { packet: 1, again: false, message }, 5_920);
    // A publication was made 50 ms ago, and the watermark is due.
    assert!(turn(&mut process, 5_950), "the agent is told");
    assert_eq!(process.published.overview().counters.messages, 1);
}

#[test]
fn a_watermark_that_the_broker_never_took_is_sent_again_by_the_next_process() {
    let mut random = Random::new(1);
    let fleet = Fleet::draw(&mut random.fork(), 60).unwrap();
    let mut nature = Nature::draw(&mut random.fork(), BASE_MS, 60);
    nature.policy = CheckpointPolicy { every: Duration::from_secs(30), every_journal_bytes: u64::MAX };
    let disk = SimulatedDisk::new();
    let mut now_ms = 2_000;
    let mut start = |now_ms: u64| {
        let mut process = Process::start(&nature, &fleet, &disk, random.fork(), now_ms - 2_000).unwrap();
        connect(&mut process, now_ms);
        process
    };
    let mut process = start(now_ms);
    assert!(go_on(&mut process, &mut now_ms).is_empty(), "nobody waits for a word");
    // What cannot be read is told to its agent, so that it does not come back for ever.
    let (device, _) = fleet.crews[0].devices[0];
    let message =
        Message { topic: topic::up(device).into(), payload: Rc::from([0xff_u8].as_slice()), retain: false };
    process.take_packet(Client::Up, Packet::Publish { packet: 1, again: false, message }, now_ms);
    assert_eq!(go_on(&mut process, &mut now_ms).first(), Some(&1));
    drop(process);
    disk.kill();
    now_ms += 3_000;
    let mut process = start(now_ms);
    let sent = go_on(&mut process, &mut now_ms);
    assert!(!sent.is_empty(), "it was never acknowledged");
    for packet in sent {
        process.take_packet(Client::Out, Packet::PubAck(packet), now_ms);
    }
    for packet in go_on(&mut process, &mut now_ms) {
        process.take_packet(Client::Out, Packet::PubAck(packet), now_ms);
    }
    go_on(&mut process, &mut now_ms);
    drop(process);
    disk.kill();
    now_ms += 3_000;
    let mut process = start(now_ms);
    assert!(go_on(&mut process, &mut now_ms).is_empty(), "it was acknowledged");
}
