//! Steady load and overload from a broker that holds whatever the gateway does not take: how soon messages are
//! acknowledged, how much memory that takes, and whether all that was acknowledged is stored.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts from seconds and rates"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{cgroup::MemoryLimit, fake_broker::FakeBroker, gateway::Gateway, meters::Meters, procfs};

const UP: &str = "hunhe-gateway-up";
const ALARM: &str = "hunhe-gateway-alarm";
const METERS: u64 = 20_000;
/// Meters that raise alarms, beside the others.
const ALARMING: u64 = 100;
const ALARMS_PER_S: u64 = 20;
/// Messages that the broker holds as bytes; what is beyond is only counted.
const WAITING_MAX: u64 = 50_000;
const TURN: Duration = Duration::from_millis(4);
const WITHIN: Duration = Duration::from_secs(300);

/// A load.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Messages offered a second.
    pub messages_per_s: u64,
    /// For so long.
    pub lasting: Duration,
    /// Of the gateway's memory, in a control group.
    pub limit_bytes: Option<u64>,
}

/// Runs one; `lost` are samples acknowledged and not stored.
///
/// # Panics
/// The gateway ends, or does not come to its end.
#[must_use]
pub fn run(plan: &Plan) -> Value {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = FakeBroker::start();
    let meters = Meters::new(METERS + ALARMING, 1_000);
    let setup = meters.setup(dir.path(), broker.port, "");
    let limit = plan.limit_bytes.map(|bytes| MemoryLimit::new("hunhe-overload", bytes));
    let (wrapper, confined) = match &limit {
        Some(Ok(group)) => (group.wrapper(), json!(true)),
        Some(Err(words)) => {
            println!("NOT CONFINED: {words}; only the resident memory is judged");
            (Vec::new(), json!(words))
        }
        None => (Vec::new(), json!(false)),
    };
    let mut gateway = Gateway::start_under(dir.path(), &setup, &[], &wrapper);
    broker.await_subscribed(UP);
    broker.await_subscribed(ALARM);
    let (begun, mut offered, mut alarms, mut held_back) = (Instant::now(), 0, 0, 0_u64);
    while begun.elapsed() < plan.lasting {
        let elapsed_s = begun.elapsed().as_secs_f64();
        let due = (elapsed_s * plan.messages_per_s as f64) as u64;
        let room = WAITING_MAX.saturating_sub(broker.waiting(UP) as u64);
        let count = due.saturating_sub(offered + held_back).min(room);
        broker.offer(UP, (offered..offered + count).map(|number| of(&meters, number)));
        offered += count;
        held_back = due.saturating_sub(offered).max(held_back);
        while alarms < (elapsed_s * ALARMS_PER_S as f64) as u64 {
            let (meter, seq) = (METERS + alarms % ALARMING, alarms / ALARMING);
            broker.offer(ALARM, [(alarms, meters.alarm_topic(meter), meters.sample(seq, None))]);
            alarms += 1;
        }
        assert!(gateway.process.ended().is_none(), "the gateway ended under the load");
        std::thread::sleep(TURN);
    }
    let taken = broker.acknowledged(UP);
    let lasted_s = begun.elapsed().as_secs_f64();
    // What never left the broker is not the gateway's.
    let withdrawn = broker.withdraw(UP) as u64;
    broker.await_all_acknowledged(UP, WITHIN);
    broker.await_all_acknowledged(ALARM, WITHIN);
    let (up, alarm) = (broker.record(UP), broker.record(ALARM));
    let samples = (up.acknowledged.len() + alarm.acknowledged.len()) as u64;
    let ledger = gateway.await_settled(samples, WITHIN);
    let rss_mib = procfs::peak_rss_mib(gateway.process.id());
    let stored = ledger["stored"].as_u64().unwrap_or(0);
    let (up_ms, alarm_ms) = (percentiles(up.latencies), percentiles(alarm.latencies));
    json!({
        "offered_per_s": plan.messages_per_s, "lasting_s": lasted_s,
        "acknowledged_per_s": taken as f64 / lasted_s, "left_at_broker": withdrawn + held_back,
        "publish_to_acknowledgement_ms_p50": up_ms[0], "publish_to_acknowledgement_ms_p99": up_ms[1],
        "publish_to_acknowledgement_ms_max": up_ms[2], "alarms": alarms,
        "alarm_to_acknowledgement_ms_p50": alarm_ms[0], "alarm_to_acknowledgement_ms_p99": alarm_ms[1],
        "alarm_to_acknowledgement_ms_max": alarm_ms[2], "connections": up.connections,
        "confined": confined, "group_peak_mib": limit.and_then(Result::ok).map(|group| group.peak_mib()),
        "rss_peak_mib": rss_mib, "acknowledged": samples, "stored": stored,
        "lost": samples.saturating_sub(stored), "doubled": stored.saturating_sub(samples),
        "unexplained": ledger["unexplained"],
    })
}

fn of(meters: &Meters, number: u64) -> (u64, String, Vec<u8>) {
    (number, meters.up_topic(number % METERS), meters.sample(number / METERS, None))
}

/// Median, 99th percentile, maximum in milliseconds.
fn percentiles(mut latencies: Vec<Duration>) -> [f64; 3] {
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        let index = index.min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    };
    [at(0.5), at(0.99), at(1.0)]
}
