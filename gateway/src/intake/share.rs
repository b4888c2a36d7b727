//! A share of the gateway for each device and each agent, so that none delays the others: how many samples a session takes of
//! them, by the rate of the device's class.
//!
//! A message over its share is not journaled. It is acknowledged to the broker, which would otherwise hold back everybody's. Its
//! agent keeps the samples until a watermark passes them, and sends them again when a watermark names them missing, or after ten
//! minutes. So a backlog larger than the burst comes in at [`FACTOR`] times the pace of sampling. Alarms have a session, and
//! shares, of their own.
//!
//! | who | samples at once | then |
//! |---|---|---|
//! | a device, `up` | 64 days of its class, at least 32 of the largest reports | 16 times its class's fastest rate |
//! | a device, `alarm` | 4 of the largest reports | the same |
//! | an agent with several devices | the sum of its devices', on `alarm` 64 of the largest reports | the sum of its devices' |
//! | an agent's state | 64 messages | one in 10 s; of those beyond, the newest is taken as soon as it fits |
//! | all that no registered device or agent sent | 64 of the largest reports | 256 a second |
//!
//! A message counts as its samples at most ([`Size::at_most`]), which is up to twice what it holds, and as one for each 64 bytes; bytes that are no report as one for
//! each 16. A restart gives full shares. Pure: the time is an argument. Bounds: 8 bytes a device and an agent, allocated when the session begins; of an agent
//! over its share one state of [`STATE_BYTES_MAX`]; the devices most often over their share are known, [`OFFENDERS_MAX`] at most.

use bytes::Bytes;
use hunhe_gateway_core::registry::{AgentIx, ClassRules, DeviceIx, Registry};
use hunhe_proto::{
    reading::{COLUMNS_MAX, SAMPLES_MAX},
    size::Size,
    topic::{self, Topic},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How much faster than it samples a device is let in.
const FACTOR: u64 = 16;
/// So many milliseconds of samples may come at once: half of them where each counts twice.
const BURST_MS: u64 = 64 * 86_400_000;
/// The largest reports that may come at once of a device, on each session, and of an agent with alarms or of nobody.
const REPORTS_UP: u64 = 32;
const REPORTS_ALARM: u64 = 4;
const REPORTS_SHARED: u64 = 64;
const STATES: Rate = Rate { each_ns: 10_000_000_000, burst_ns: 640_000_000_000 };
const OTHERS: Rate = Rate::of(1_000_000_000 / 256, REPORTS_SHARED * SAMPLES_MAX as u64);
const BYTES_A_SAMPLE: usize = 64;
const JUNK_BYTES_A_SAMPLE: usize = 16;
/// The longest state that is kept, with its topic: an honest one has a tenth of it.
const STATE_BYTES_MAX: usize = 1_024;
/// Devices over their share that are counted one by one.
const OFFENDERS_MAX: usize = 64;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Its device is over its share.
    Device(DeviceIx),
    /// Its agent is, with all its devices.
    Agent(DeviceIx),
    /// An agent says too often that it is online.
    State(AgentIx),
    /// It is of nobody who is registered, and there were too many of these.
    Others,
}

impl Over {
    /// Names for metrics, by [`Self::at`].
    pub const NAMES: [&'static str; 4] = ["device", "agent", "state", "unregistered"];

    const fn at(self) -> usize {
        match self {
            Self::Device(_) => 0,
            Self::Agent(_) => 1,
            Self::State(_) => 2,
            Self::Others => 3,
        }
    }
}

/// A pace, and how much may come before it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    each_ns: u64,
    burst_ns: u64,
}

impl Rate {
    const fn of(each_ns: u64, burst: u64) -> Self {
        Self { each_ns, burst_ns: each_ns.saturating_mul(burst) }
    }

    /// Takes `samples` where they fit. `paid_ns`: up to when what was taken before is paid for.
    fn fits(self, paid_ns: u64, samples: u64, now_ns: u64) -> Option<u64> {
        let paid_ns = paid_ns.max(now_ns).saturating_add(self.each_ns.saturating_mul(samples));
        (paid_ns - now_ns <= self.burst_ns).then_some(paid_ns)
    }
}

/// An agent with several devices.
#[derive(Debug)]
struct Group {
    rate: Rate,
    paid_ns: u64,
}

/// What a session still takes of whom.
#[derive(Debug)]
pub struct Shares {
    registry: Arc<Registry>,
    /// By class.
    rates: Vec<Rate>,
    /// By device.
    devices_ns: Vec<u64>,
    groups: HashMap<AgentIx, Group>,
    /// By agent.
    states_ns: Vec<u64>,
    /// The newest state of agents over their share: topic and payload.
    kept: BTreeMap<AgentIx, (Bytes, Bytes)>,
    others_ns: u64,
}

impl Shares {
    /// Full shares for all who are registered.
    #[must_use]
    pub fn new(registry: Arc<Registry>, alarm: bool) -> Self {
        let rates: Vec<Rate> = registry.classes().iter().map(|rules| rate_of(rules, alarm)).collect();
        let several = |(_, agent): &(u32, &hunhe_gateway_core::registry::Agent)| agent.devices.len() > 1;
        let groups = (0..).zip(registry.agents()).filter(several).map(|(at, agent)| {
            let rates = agent.devices.iter().map(|device| rates[registry.device(*device).class.at()]);
            (AgentIx(at), Group { rate: sum_of(rates, alarm), paid_ns: 0 })
        });
        Self {
            groups: groups.collect(),
            devices_ns: vec![0; registry.devices().len()],
            states_ns: vec![0; registry.agents().len()],
            kept: BTreeMap::new(),
            others_ns: 0,
            rates,
            registry,
        }
    }

    /// Takes a message, or says who sends too much. Answers what it holds at most, up to a fault.
    ///
    /// # Errors
    /// [`Over`]; nothing is taken then.
    pub fn take(&mut self, topic: &[u8], payload: &[u8], now_ns: u64) -> Result<Size, Over> {
        let (size, fault) = Size::read(payload);
        match topic::parse(topic) {
            Ok(Topic::Up(id) | Topic::Alarm(id)) => match self.registry.find(id) {
                Some(device) => self.take_of(device, samples_of(payload, size, fault.is_some()), now_ns),
                None => self.take_other(payload, now_ns),
            },
            Ok(Topic::State(id)) => match self.registry.find_agent(id) {
                Some(agent) => {
                    let paid_ns = &mut self.states_ns[agent.at()];
                    *paid_ns = STATES.fits(*paid_ns, 1, now_ns).ok_or(Over::State(agent))?;
                    // It is newer.
                    self.kept.remove(&agent);
                    Ok(())
                }
                None => self.take_other(payload, now_ns),
            },
            Err(_) => self.take_other(payload, now_ns),
        }
        .map(|()| size)
    }

    /// Keeps a state that was over its agent's share, in the place of one before it.
    pub fn keep_state(&mut self, agent: AgentIx, topic: Bytes, payload: Bytes) {
        // What was read into a batch with others must not hold all of it.
        let own = |bytes: Bytes| Bytes::copy_from_slice(&bytes);
        if topic.len() + payload.len() <= STATE_BYTES_MAX {
            self.kept.insert(agent, (own(topic), own(payload)));
        } else {
            self.kept.remove(&agent);
        }
    }

    /// Is there any that waits?
    #[must_use]
    pub fn keeps_states(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The next state that waited and fits its agent's share now: topic and payload.
    pub fn due_state(&mut self, now_ns: u64) -> Option<(Bytes, Bytes)> {
        let fits = |agent: &AgentIx| STATES.fits(self.states_ns[agent.at()], 1, now_ns);
        let (agent, paid_ns) = self.kept.keys().find_map(|agent| Some((*agent, fits(agent)?)))?;
        self.states_ns[agent.at()] = paid_ns;
        self.kept.remove(&agent)
    }

    fn take_of(&mut self, device: DeviceIx, samples: u64, now_ns: u64) -> Result<(), Over> {
        let known = self.registry.device(device);
        let rate = self.rates[known.class.at()];
        let paid_ns = rate.fits(self.devices_ns[device.at()], samples, now_ns).ok_or(Over::Device(device))?;
        if let Some(group) = self.groups.get_mut(&known.agent) {
            group.paid_ns = group.rate.fits(group.paid_ns, samples, now_ns).ok_or(Over::Agent(device))?;
        }
        self.devices_ns[device.at()] = paid_ns;
        Ok(())
    }

    fn take_other(&mut self, payload: &[u8], now_ns: u64) -> Result<(), Over> {
        let samples = (1 + payload.len() / JUNK_BYTES_A_SAMPLE) as u64;
        self.others_ns = OTHERS.fits(self.others_ns, samples, now_ns).ok_or(Over::Others)?;
        Ok(())
    }
}

fn samples_of(payload: &[u8], size: Size, is_faulty: bool) -> u64 {
    let junk = if is_faulty { payload.len() / JUNK_BYTES_A_SAMPLE } else { 0 };
    let samples = size.samples.max(size.values / COLUMNS_MAX).max(junk);
    samples.max(payload.len() / BYTES_A_SAMPLE).max(1) as u64
}

fn rate_of(rules: &ClassRules, alarm: bool) -> Rate {
    let interval_ms = rules.interval_ms.unsigned_abs().max(1);
    // Of all versions of the class, in alarm or not.
    let fastest_ms = rules.densest_ms.unsigned_abs().max(1);
    let reports = if alarm { REPORTS_ALARM } else { REPORTS_UP };
    let backlog = if alarm { 0 } else { BURST_MS / interval_ms };
    Rate::of(fastest_ms.saturating_mul(1_000_000) / FACTOR, backlog.max(reports * SAMPLES_MAX as u64))
}

/// The rate of several devices together.
fn sum_of(rates: impl Iterator<Item = Rate> + Clone, alarm: bool) -> Rate {
    // A millionth of a sample a second is counted, so that the sum of slow ones is right.
    let micros = |rate: Rate| 1_000_000_000_000_000 / rate.each_ns.max(1);
    let per_s: u64 = rates.clone().map(micros).fold(0, u64::saturating_add);
    let burst: u64 = rates.map(|rate| rate.burst_ns / rate.each_ns.max(1)).fold(0, u64::saturating_add);
    let burst = if alarm { burst.min(REPORTS_SHARED * SAMPLES_MAX as u64) } else { burst };
    Rate::of(1_000_000_000_000_000 / per_s.max(1), burst)
}

/// What was not taken, for status and metrics. The lock is held for a copy of [`OFFENDERS_MAX`] numbers, by nobody who waits.
#[derive(Debug, Default)]
pub struct OverShare {
    messages: [AtomicU64; Over::NAMES.len()],
    offenders: Mutex<Vec<(DeviceIx, u64)>>,
}

impl OverShare {
    pub(super) fn note(&self, over: Over) {
        self.messages[over.at()].fetch_add(1, Ordering::Relaxed);
        let (Over::Device(device) | Over::Agent(device)) = over else { return };
        let mut offenders = self.offenders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, messages)) = offenders.iter_mut().find(|(known, _)| *known == device) {
            *messages += 1;
        } else if offenders.len() < OFFENDERS_MAX {
            offenders.push((device, 1));
        } else if let Some(least) = offenders.iter_mut().min_by_key(|(_, messages)| *messages) {
            // Whoever comes often enough displaces the others ("space saving").
            *least = (device, least.1 + 1);
        }
    }

    /// Messages, by [`Over::NAMES`].
    #[must_use]
    pub fn messages(&self) -> [u64; Over::NAMES.len()] {
        self.messages.each_ref().map(|messages| messages.load(Ordering::Relaxed))
    }

    /// Devices and their messages: at most, where more than [`OFFENDERS_MAX`] were over their share.
    #[must_use]
    pub fn offenders(&self) -> Vec<(DeviceIx, u64)> {
        self.offenders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
