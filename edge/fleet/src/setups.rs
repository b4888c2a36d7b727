//! From options to agents: who samples which device, when event time begins, and which faults stand when.

use crate::{
    Connections, FleetError, Options, Past,
    faults::Faults,
    scenario::{Plan, Strike},
    simulated::{Simulated, is_struck},
};
use hunhe_edge::{
    clock::{Clock, wall_ms},
    drivers::replay::{Player, Series},
    mqtt::Broker,
    run::{Equipment, Setup},
    spool::Limits,
};
use hunhe_edge_core::{batch, link, sample::Late};
use hunhe_proto::{
    class::{Class, Fault},
    fleet::{Fleet, Member},
    id::{AgentId, DeviceId},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Samples a device holds where nothing else is said: two days by the minute.
const SAMPLES_MAX: u64 = 2_880;
/// An outage of hours may last seconds here: its agent must not wait much longer than that to connect again.
const OUTAGE_BACKOFF_MS_MAX: u64 = 2_000;

/// One agent to be.
#[derive(Default)]
struct Crew {
    recorded: bool,
    equipment: Vec<Equipment>,
    faults: Faults,
}

/// The agents of a fleet, and the faults between each and its broker.
pub(super) fn setups(options: &Options) -> Result<Vec<(Setup, Faults)>, FleetError> {
    for (name, _) in &options.faults {
        if !options.classes.values().any(|class| class.faults.contains_key(name)) {
            return Err(FleetError::Fault(name.clone()));
        }
    }
    let clocks = Clocks::of(options);
    let members = options.fleet.as_ref().map_or_else(|| Ok(Vec::new()), Fleet::expand)?;
    let plan = match &options.scenario {
        Some(scenario) => scenario.plan(&members, &options.classes).map_err(FleetError::Scenario)?,
        None => Plan::default(),
    };
    let crews = crews(options, &clocks, &members, &plan)?;
    if crews.is_empty() {
        return Err(FleetError::Nothing);
    }
    let spread_ms = if crews.len() > 1 { 500 } else { 0 };
    Ok(crews.into_iter().map(|(id, crew)| crew.setup(id, options, &clocks, spread_ms)).collect())
}

fn crews(
    options: &Options,
    clocks: &Clocks,
    members: &[Member<'_>],
    plan: &Plan,
) -> Result<BTreeMap<AgentId, Crew>, FleetError> {
    let mut recorded: BTreeMap<DeviceId, &Arc<Series>> =
        options.recording.iter().map(|series| (series.device, series)).collect();
    let mut crews: BTreeMap<AgentId, Crew> = BTreeMap::new();
    for member in members {
        let agent = if options.connections == Connections::Each { member.id } else { member.agent };
        if let Some(series) = recorded.remove(&member.id) {
            crews.entry(agent).or_default().replay(clocks, series);
            continue;
        }
        let class = options.classes.get(&member.group.class).ok_or_else(|| FleetError::Class {
            prefix: member.group.prefix.clone(),
            class: member.group.class.clone(),
            known: options.classes.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let model = clocks.modelled(class, member, options, plan);
        let crew = crews.entry(agent).or_default();
        if let Some(times) = plan.offline.get(&member.agent) {
            crew.faults.offline_ms = times.iter().map(|span| span.later(clocks.models_from_ms)).collect();
        }
        crew.model(class, member.id, model);
    }
    for (device, series) in recorded {
        crews.entry(device).or_default().replay(clocks, series);
    }
    Ok(crews)
}

impl Crew {
    fn replay(&mut self, clocks: &Clocks, series: &Arc<Series>) {
        let driver = Box::new(Player::new(Arc::clone(series), clocks.recording_from_ms));
        self.recorded = true;
        self.equipment.push(Equipment::new(series.device, Arc::clone(&series.class), driver));
    }

    fn model(&mut self, class: &Arc<Class>, device: DeviceId, model: Simulated) {
        self.faults.add(device, &model);
        let mut equipment = Equipment::new(device, Arc::clone(class), Box::new(model));
        if self.faults.disorder_ms.contains_key(&device) {
            // Two reports at a time, so that there is an order to change.
            let report_ms = class.interval_ms().saturating_mul(i64::from(class.report.samples));
            equipment.batch.offset_ms += report_ms;
        }
        self.equipment.push(equipment);
    }

    fn setup(self, id: AgentId, options: &Options, clocks: &Clocks, spread_ms: u64) -> (Setup, Faults) {
        let Self { recorded, equipment, faults } = self;
        let single = equipment.len() == 1;
        let sleeping = single && equipment.iter().all(|one| one.class.report.sleeping);
        let mut broker = options.broker.clone();
        if let Some(password) = &options.password {
            broker = Broker { credentials: Some((id.to_string(), password.clone())), ..broker };
        }
        let mut link =
            link::Policy { sleeping, window: options.window, spread_ms, ..link::Policy::default() };
        if !faults.offline_ms.is_empty() {
            link.backoff_ms_max = OUTAGE_BACKOFF_MS_MAX;
        }
        let setup = Setup {
            id,
            equipment,
            broker,
            link,
            state_dir: options.state_dir.as_ref().map(|folder| folder.join(id.as_str())),
            limits: Limits::default(),
            samples_max: options.samples_max.unwrap_or(SAMPLES_MAX),
            lossless: options.lossless,
            clock: if recorded { clocks.recording } else { clocks.models },
            drain: options.drain,
        };
        (setup, faults)
    }
}

/// When event time begins, for models and for the recording.
struct Clocks {
    models: Clock,
    models_from_ms: i64,
    recording: Clock,
    recording_from_ms: i64,
}

impl Clocks {
    fn of(options: &Options) -> Self {
        let span_ms = options.duration.map_or(0, |duration| {
            let event =
                Duration::try_from_secs_f64(duration.as_secs_f64() * options.speed).unwrap_or_default();
            i64::try_from(event.as_millis()).unwrap_or(0)
        });
        let is_live = options.from_ms.is_none() && options.speed == 1.0;
        let models_from_ms = options.from_ms.unwrap_or_else(|| wall_ms() - if is_live { 0 } else { span_ms });
        let first = options.recording.iter().filter_map(|series| series.times_ms().first().copied()).min();
        let shared = options.from_ms.filter(|_| options.recording_speed.is_none());
        let recording_from_ms = shared.or(first).unwrap_or(0);
        let recording_speed = options.recording_speed.unwrap_or(options.speed);
        Self {
            models: match (is_live, options.ahead) {
                (true, _) => Clock::live(),
                (false, true) => Clock::ahead_from(models_from_ms, options.speed),
                (false, false) => Clock::virtual_from(models_from_ms, options.speed),
            },
            models_from_ms,
            recording: Clock::virtual_from(recording_from_ms, recording_speed),
            recording_from_ms,
        }
    }

    fn modelled(&self, class: &Arc<Class>, member: &Member<'_>, options: &Options, plan: &Plan) -> Simulated {
        let device = member.id;
        let struck = |(name, share): &&(String, f64)| is_struck(device, options.seed, name, *share);
        let fault = options.faults.iter().filter(struck).find_map(|(name, _)| class.faults.get(name));
        let fault: Option<Fault> = fault.cloned();
        let offline = plan.offline.get(&member.agent).into_iter().flatten();
        let from_ms = match offline.map(|span| span.from_ms).min() {
            Some(from_ms) if from_ms < 0 => self.models_from_ms.saturating_add(from_ms),
            _ => self.models_from_ms - past_ms(class, member, options.past),
        };
        let mut model =
            Simulated::new(Arc::clone(class), device, options.seed, fault, from_ms, Late::CatchUp);
        model.stand(member.place.lon, member.place.lat);
        for Strike { fault, span, .. } in plan.strikes.get(&device).into_iter().flatten() {
            model.strike(fault.clone(), span.later(self.models_from_ms));
        }
        model
    }
}

/// How long before the start a device began. What has no dispersal of its own comes as its agent does: a concentrator asks
/// all of its devices in one round.
fn past_ms(class: &Class, member: &Member<'_>, past: Past) -> i64 {
    let report_ms = class.interval_ms().saturating_mul(i64::from(class.report.samples)).max(1);
    let by = if class.report.dispersal_s > 0 { member.id } else { member.agent };
    let part_ms = i64::from(batch::slot_s(by, u32::try_from(report_ms / 1000).unwrap_or(u32::MAX))) * 1000;
    match past {
        Past::None => 0,
        Past::Part => part_ms,
        Past::Report => {
            // A machine that rests fills its report at its own pace.
            let pace = class.work.as_ref().map_or(1, |work| i64::from(work.rest_every));
            report_ms.saturating_mul(pace) + i64::from(class.report.dispersal_s) * 1000 + part_ms
        }
    }
}
