//! True alarms, one a second: each from a detector that has said nothing before, on the topic for alarms.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hunhe_proto::reading::Header;

use super::city::Agent;
use crate::{
    detectors::{CH4, CLASS_VERSION, HIGH},
    now_s,
    publisher::Publisher,
    wire::report,
};

/// The rule that a true alarm breaks, and that receivers are asked for.
pub(super) const RULE: &str = "station_ch4_high";
/// From one to the next.
pub(super) const EVERY: Duration = Duration::from_secs(1);
const BOOT: u32 = 0x0a1a;
const RETRY: Duration = Duration::from_millis(10);

/// By device: when its alarm was handed to the broker.
pub(super) type Raised = BTreeMap<String, Instant>;

/// The alarms, from their own thread until they are dropped.
#[derive(Debug)]
pub(super) struct Alarms {
    raised: Arc<Mutex<Raised>>,
    ended: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Alarms {
    /// Starts them.
    pub(super) fn start(port: u16, agents: &[Agent]) -> Self {
        let (raised, [ended, paused]) =
            (Arc::<Mutex<Raised>>::default(), [(); 2].map(|()| Arc::<AtomicBool>::default()));
        let (kept, agents) = (Arc::clone(&raised), agents.to_vec());
        let (until, pause) = (Arc::clone(&ended), Arc::clone(&paused));
        let thread = std::thread::spawn(move || raise(port, &agents, &kept, [&until, &pause]));
        Self { raised, ended, paused, thread: Some(thread) }
    }

    /// Raises nothing more, or goes on.
    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    /// Those raised so far.
    pub(super) fn raised(&self) -> Raised {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Alarms {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn raise(port: u16, agents: &[Agent], raised: &Mutex<Raised>, [ended, paused]: [&AtomicBool; 2]) {
    let connect = |agent: &Agent| Publisher::connect(port, &agent.id, 8);
    let mut connections: Vec<Option<Publisher>> = agents.iter().map(|agent| connect(agent).ok()).collect();
    let mut at = Instant::now();
    let detectors = agents.iter().map(|agent| agent.devices.len()).max().unwrap_or(0);
    let turns = (0..detectors).flat_map(|device| (0..agents.len()).map(move |agent| (agent, device)));
    for (agent, device) in turns {
        let Some((id, topic)) = agents[agent].devices.get(device) else { continue };
        at += EVERY;
        while (Instant::now() < at || paused.load(Relaxed)) && !ended.load(Relaxed) {
            std::thread::sleep(RETRY.min(at.saturating_duration_since(Instant::now())).max(RETRY / 10));
        }
        at = at.max(Instant::now().checked_sub(EVERY).unwrap_or(at));
        if ended.load(Relaxed) {
            return;
        }
        let header = Header { boot: BOOT, class_version: Some(CLASS_VERSION), ..Header::default() };
        let payload = report(header, now_s(), CH4, &[HIGH]);
        let topic = topic.replace("/up", "/alarm");
        raised.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), Instant::now());
        while !ended.load(Relaxed) {
            let taken = connections[agent].as_mut().is_some_and(|publisher| {
                publisher.publish(topic.as_bytes(), &payload).and_then(|()| publisher.settle()).is_ok()
            });
            if taken {
                break;
            }
            // As an agent does: connected anew, and sent again; the time counts from the first attempt.
            std::thread::sleep(RETRY);
            connections[agent] = connect(&agents[agent]).ok();
        }
    }
}
