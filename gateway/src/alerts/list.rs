//! The newest change of every alert, in memory: a fold of the alert log, rebuilt from it at each start.
//!
//! Bounds: [`Bounds::open`] open alerts and [`Bounds::resolved`] resolved ones are listed. Beyond either, the alert that
//! changed longest ago leaves the list, and a later change brings it back. A rule with a bad threshold raises one for every
//! device of its class, so some thirty bytes are kept of each firing alert that has left the list: the counts include it.
//! These are bounded by the registry times the rules. A pending alert that goes away leaves nothing.
//! After a start, an alert whose record was released at the log's limit is missing until it changes.

use super::Alert;
use hunhe_gateway_core::{
    device::alert::{Mode, Phase},
    rule::Severity,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many alerts are listed.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open alerts.
    pub open: usize,
    /// Resolved alerts.
    pub resolved: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { open: 50_000, resolved: 10_000 }
    }
}

/// Which alerts by their phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phases {
    /// Pending and firing ones.
    Open,
    /// Those that are over.
    Resolved,
    /// Both.
    #[default]
    All,
}

/// Which alerts: every filter that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// By phase.
    pub phases: Phases,
    /// Live or retrospective.
    pub mode: Option<Mode>,
    /// Severity.
    pub severity: Option<Severity>,
    /// District code.
    pub district: Option<String>,
    /// Operator.
    pub operator: Option<String>,
    /// Only alerts whose newest change is before this sequence.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl Filter {
    fn matches(&self, alert: &Alert) -> bool {
        self.mode.is_none_or(|mode| alert.mode == mode)
            && self.severity.is_none_or(|severity| alert.severity == severity)
            && (self.district.is_none() || alert.district == self.district)
            && self.operator.as_ref().is_none_or(|operator| alert.operator == *operator)
    }
}

/// One page of alerts, newest change first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The alerts.
    pub alerts: Vec<Arc<Alert>>,
    /// [`Filter::before`] of the next page; none on the last.
    pub next: Option<u64>,
    /// All that fire and are live, whatever was asked for.
    pub firing: BySeverity,
}

/// Alerts by severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BySeverity {
    /// Of severity `critical`.
    pub critical: u64,
    /// Of severity `major`.
    pub major: u64,
    /// Of severity `warning`.
    pub warning: u64,
    /// Of severity `info`.
    pub info: u64,
}

impl BySeverity {
    fn count(&mut self, severity: Severity) {
        let slot = match severity {
            Severity::Critical => &mut self.critical,
            Severity::Major => &mut self.major,
            Severity::Warning => &mut self.warning,
            Severity::Info => &mut self.info,
        };
        *slot += 1;
    }
}

/// Alerts that fire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Firing {
    /// Live ones by severity.
    pub live: BySeverity,
    /// Retrospective ones.
    pub retrospective: u64,
}

/// Alerts as they stand.
#[derive(Debug, Default)]
pub struct AlertList {
    bounds: Bounds,
    shelves: Mutex<Shelves>,
}

/// Each listed alert lies in one of the two maps, by the sequence of its newest change.
#[derive(Debug, Default)]
struct Shelves {
    open: BTreeMap<u64, Arc<Alert>>,
    resolved: BTreeMap<u64, Arc<Alert>>,
    /// By id.
    sequence_of: HashMap<u64, u64>,
    /// Those that fire and are not listed, by id.
    unlisted: HashMap<u64, Unlisted>,
    forgotten: u64,
}

/// What the counts need of an alert that fires.
#[derive(Debug, Clone, Copy)]
struct Unlisted {
    mode: Mode,
    severity: Severity,
    district: Option<u32>,
}

impl Unlisted {
    fn of(alert: &Alert) -> Option<Self> {
        let Alert { mode, severity, .. } = *alert;
        let district = alert.district.as_ref().and_then(|code| code.parse().ok());
        (alert.phase == Phase::Firing).then_some(Self { mode, severity, district })
    }
}

impl AlertList {
    /// An empty list.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, shelves: Mutex::default() }
    }

    /// Takes a change. The same one twice has no further effect.
    pub fn note(&self, alert: Arc<Alert>) {
        let mut shelves = self.lock();
        shelves.unlisted.remove(&alert.id);
        if let Some(before) = shelves.sequence_of.remove(&alert.id) {
            shelves.open.remove(&before);
            shelves.resolved.remove(&before);
        }
        let resolved = alert.phase == Phase::Resolved;
        if resolved && !alert.fired {
            return;
        }
        let sequence = alert.sequence;
        shelves.sequence_of.insert(alert.id, sequence);
        let shelf = if resolved { &mut shelves.resolved } else { &mut shelves.open };
        let displaced = shelf.insert(sequence, alert);
        shelves.forget(displaced);
        if shelves.resolved.len() > self.bounds.resolved {
            let oldest = shelves.resolved.pop_first().map(|(_, oldest)| oldest);
            shelves.forget(oldest);
        }
        if shelves.open.len() > self.bounds.open {
            let oldest = shelves.open.pop_first().map(|(_, oldest)| oldest);
            if let Some((id, firing)) = oldest.as_ref().and_then(|a| Some((a.id, Unlisted::of(a)?))) {
                shelves.unlisted.insert(id, firing);
            }
            shelves.forgotten += 1;
            shelves.forget(oldest);
        }
    }

    /// A page of alerts, newest change first.
    #[must_use]
    pub fn page(&self, filter: &Filter) -> Page {
        let shelves = self.lock();
        let below = ..filter.before.unwrap_or(u64::MAX);
        let matching = |shelf: &BTreeMap<u64, Arc<Alert>>| -> Vec<Arc<Alert>> {
            let matching = shelf.range(below).rev().map(|(_, alert)| alert).filter(|a| filter.matches(a));
            matching.take(filter.limit + 1).cloned().collect()
        };
        let mut alerts = match filter.phases {
            Phases::Open => matching(&shelves.open),
            Phases::Resolved => matching(&shelves.resolved),
            Phases::All => [matching(&shelves.open), matching(&shelves.resolved)].concat(),
        };
        let firing = shelves.firing().live;
        drop(shelves);
        alerts.sort_unstable_by_key(|alert| std::cmp::Reverse(alert.sequence));
        let more = alerts.len() > filter.limit;
        alerts.truncate(filter.limit);
        let next = alerts.last().filter(|_| more).map(|alert| alert.sequence);
        Page { alerts, next, firing }
    }

    /// Alerts that fire.
    #[must_use]
    pub fn firing(&self) -> Firing {
        self.lock().firing()
    }

    /// Alerts that fire and are live, by district code.
    #[must_use]
    pub fn by_district(&self) -> HashMap<String, BySeverity> {
        let mut counts: HashMap<u32, BySeverity> = HashMap::new();
        for firing in self.lock().all_firing().filter(|firing| firing.mode == Mode::Live) {
            if let Some(district) = firing.district {
                counts.entry(district).or_default().count(firing.severity);
            }
        }
        counts.into_iter().map(|(district, counts)| (district.to_string(), counts)).collect()
    }

    /// Open alerts that left the list for want of room, over time.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        // A panic within a change leaves one alert out at worst.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelves {
    fn forget(&mut self, alert: Option<Arc<Alert>>) {
        if let Some(alert) = alert
            && self.sequence_of.get(&alert.id) == Some(&alert.sequence)
        {
            self.sequence_of.remove(&alert.id);
        }
    }

    fn firing(&self) -> Firing {
        let mut counts = Firing::default();
        for firing in self.all_firing() {
            match firing.mode {
                Mode::Live => counts.live.count(firing.severity),
                Mode::Retrospective => counts.retrospective += 1,
            }
        }
        counts
    }

    fn all_firing(&self) -> impl Iterator<Item = Unlisted> {
        let listed = self.open.values().filter_map(|alert| Unlisted::of(alert));
        listed.chain(self.unlisted.values().copied())
    }
}

#[cfg(test)]
#[path = "list/tests.rs"]
mod tests;
