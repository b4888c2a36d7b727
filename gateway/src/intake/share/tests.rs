use super::*;
use hunhe_fixtures::{enrolment, id, seed_class};
use hunhe_proto::reading::Header;

const SECOND: u64 = 1_000_000_000;
const LARGEST: usize = SAMPLES_MAX;

/// A meter by itself, and three detectors behind one agent.
fn registry() -> Arc<Registry> {
    registry_with(3)
}

fn registry_with(detectors: usize) -> Arc<Registry> {
    let detectors = (0..detectors).map(|at| (format!("det-{at}"), "gas_station_detector", "box"));
    let meter = ("meter".to_owned(), "gas_meter", "meter");
    let devices = std::iter::once(meter).chain(detectors);
    let devices = devices.map(|(name, class, agent)| enrolment(&name, class, agent));
    let classes = ["gas_meter", "gas_station_detector"].map(seed_class).into();
    Arc::new(hunhe_fixtures::registry(classes, Vec::new(), devices))
}

fn report(samples: usize) -> Vec<u8> {
    hunhe_fixtures::report(Header { boot: 1, ..Header::default() }, 1, 1, &vec![150; samples])
}

fn taken(shares: &mut Shares, topic: &str, payload: &[u8], now_ns: u64, offered: usize) -> usize {
    (0..offered).filter(|_| shares.take(topic.as_bytes(), payload, now_ns).is_ok()).count()
}

#[test]
fn a_flood_of_one_device_is_cut_to_its_share_and_takes_nothing_of_the_others() {
    let mut shares = Shares::new(registry(), false);
    let (flood, other) = (topic::up(id("meter")), topic::up(id("det-0")));
    let large = report(LARGEST);
    assert_eq!(taken(&mut shares, &flood, &large, 0, 1_000), 32, "the largest reports at once");
    assert_eq!(shares.take(flood.as_bytes(), &report(1), 0), Err(Over::Device(DeviceIx(0))));
    // Sixteen times an hourly meter's pace, from then on.
    let hours = 10;
    let later = hours * 3_600 * SECOND;
    assert_eq!(taken(&mut shares, &flood, &report(1), later, 1_000), 160);
    assert_eq!(taken(&mut shares, &other, &report(6), later, 1_000), 1_000);
}

/// Whoever was over the share and then says one sample an interval, as the class has it, is taken: so the gateway learns how
/// far it is, and asks for what was not taken.
#[test]
fn a_device_over_its_share_is_heard_again_at_its_own_pace() {
    let mut shares = Shares::new(registry(), false);
    let topic = topic::up(id("det-0"));
    taken(&mut shares, &topic, &report(LARGEST), 0, 1_000);
    for minute in 1..60 {
        assert!(shares.take(topic.as_bytes(), &report(6), minute * 60 * SECOND).is_ok(), "{minute}");
    }
}

#[test]
fn eighty_days_of_a_detectors_backlog_come_in_within_three_hours() {
    let mut shares = Shares::new(registry(), false);
    let topic = topic::up(id("det-0"));
    let (batch, mut left, mut hours) = (report(360), 80 * 24, 0);
    while left > 0 {
        // All that is left comes again each ten minutes, as where no watermark names it.
        for ten_minutes in 0..6 {
            let now = (hours * 6 + ten_minutes) * 600 * SECOND;
            left -= taken(&mut shares, &topic, &batch, now, left);
        }
        hours += 1;
        assert!(hours <= 3, "{left} hours of backlog are left");
    }
}

#[test]
fn an_agent_has_the_sum_of_its_devices_and_on_the_alarm_session_a_share_of_its_own() {
    // Alone each may send four of the largest reports; together they may send 64.
    let mut shares = Shares::new(registry_with(20), true);
    let large = report(LARGEST);
    let all = |shares: &mut Shares, offered| -> Vec<usize> {
        let topics = (0..20).map(|at| topic::alarm(id(&format!("det-{at}"))));
        topics.map(|topic| taken(shares, &topic, &large, 0, offered)).collect()
    };
    assert_eq!(all(&mut shares, 50), [[4; 16].as_slice(), &[0; 4]].concat());
    let over = shares.take(topic::alarm(id("det-19")).as_bytes(), &large, 0);
    assert_eq!(over, Err(Over::Agent(DeviceIx(20))));
    assert!(shares.take(topic::alarm(id("meter")).as_bytes(), &large, 0).is_ok());
    // From then on the sum of its devices': of each one sample a second in an alarm, sixteenfold.
    let seconds = 256;
    let later = seconds * SECOND;
    let each: Vec<usize> = (0..20)
        .map(|at| taken(&mut shares, &topic::alarm(id(&format!("det-{at}"))), &large, later, 50))
        .collect();
    assert_eq!(each.iter().sum::<usize>() as u64, seconds * 16 * 20 / LARGEST as u64, "{each:?}");
    // With few devices their own shares are less than an agent's.
    let mut few = Shares::new(registry(), true);
    let each =
        ["det-0", "det-1", "det-2"].map(|name| taken(&mut few, &topic::alarm(id(name)), &large, 0, 50));
    assert_eq!(each, [4, 4, 4]);
}

#[test]
fn what_is_decoded_before_a_fault_counts_as_what_it_is() {
    let mut shares = Shares::new(registry(), false);
    let spoiled = [report(LARGEST), vec![0xff]].concat();
    assert!(Size::at_most(&spoiled).is_err());
    assert_eq!(taken(&mut shares, &topic::up(id("meter")), &spoiled, 0, 1_000), 32);
}

#[test]
fn the_newest_state_over_an_agents_share_is_taken_as_soon_as_it_fits() {
    let mut shares = Shares::new(registry(), false);
    let (topic, agent) = (topic::state(id("box")), AgentIx(1));
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    assert_eq!(taken(&mut shares, &topic, b"on", 0, 64), 64);
    for state in ["off", "on"] {
        assert_eq!(shares.take(topic.as_bytes(), state.as_bytes(), 0), Err(Over::State(agent)));
        shares.keep_state(agent, bytes(&topic), bytes(state));
    }
    assert_eq!((shares.keeps_states(), shares.due_state(9 * SECOND)), (true, None));
    assert_eq!(shares.due_state(10 * SECOND), Some((bytes(&topic), bytes("on"))));
    assert_eq!((shares.keeps_states(), shares.due_state(100 * SECOND)), (false, None));
    // What comes within the share is newer than what waits.
    assert_eq!(taken(&mut shares, &topic, b"on", 100 * SECOND, 10), 9);
    shares.keep_state(agent, bytes(&topic), bytes("off"));
    assert!(shares.take(topic.as_bytes(), b"on", 110 * SECOND).is_ok());
    assert!(!shares.keeps_states());
    shares.keep_state(agent, bytes(&topic), Bytes::from(vec![0; STATE_BYTES_MAX]));
    assert!(!shares.keeps_states());
}

#[test]
fn what_nobody_registered_sends_shares_one_bucket_and_states_have_their_own() {
    let mut shares = Shares::new(registry(), false);
    let junk = vec![0xff; 60_000];
    let nobody = topic::up(id("nobody"));
    assert_eq!(taken(&mut shares, &nobody, &junk, 0, 1_000), 69, "4 MiB");
    for topic in ["some/topic", "hunhe/v1/agents/nobody/state", nobody.as_str()] {
        assert_eq!(shares.take(topic.as_bytes(), &junk, 0), Err(Over::Others), "{topic}");
    }
    assert_eq!(taken(&mut shares, &topic::state(id("box")), b"", 0, 100), 64);
    assert_eq!(shares.take(topic::state(id("box")).as_bytes(), b"", 0), Err(Over::State(AgentIx(1))));
    assert!(shares.take(topic::state(id("meter")).as_bytes(), b"", 0).is_ok());
    // Junk of a device that is registered is its own.
    assert_eq!(taken(&mut shares, &topic::up(id("meter")), &junk, 0, 1_000), 34);
    assert!(shares.take(topic::up(id("det-0")).as_bytes(), &junk, 0).is_ok());
}

#[test]
fn who_is_most_over_the_share_is_named_among_many() {
    let over = OverShare::default();
    for turn in 0..10_000_u32 {
        over.note(Over::Device(DeviceIx(turn)));
        over.note(Over::Agent(DeviceIx(1_000_000 + turn % 2)));
    }
    over.note(Over::Others);
    assert_eq!(over.messages(), [10_000, 10_000, 0, 1]);
    let mut offenders = over.offenders();
    offenders.sort_by_key(|(_, messages)| std::cmp::Reverse(*messages));
    assert_eq!(offenders.len(), OFFENDERS_MAX);
    let named: Vec<u32> = offenders[..2].iter().map(|(device, _)| device.0).collect();
    assert!(named.contains(&1_000_000) && named.contains(&1_000_001), "{offenders:?}");
}
