//! The newest state of every alert, in memory: a fold of the alert log, made anew from it at each start.
//!
//! Bounds: [`Bounds::open`] open alerts and [`Bounds::resolved`] resolved ones are listed; beyond either the one that
//! changed longest ago is listed no more, and a later change brings it back. A rule with a bad threshold raises one for
//! every device of its class, so of an open alert that fires and is not listed some thirty bytes are kept: the figures
//! count it. These are bounded by the registry times the rules. A pending alert that goes away leaves nothing.
//! After a start an alert is missing until it changes where its record was released at the log's limit.

use crate::api::{
    backend::{AlertQuery, AlertStateQuery},
    types::{Alert, AlertCounts, AlertMode, AlertPage, AlertSeverity, AlertState, FiringCounts},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How much the list keeps.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open alerts that are listed.
    pub open: usize,
    /// Resolved alerts.
    pub resolved: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { open: 50_000, resolved: 10_000 }
    }
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
    sequence_of: HashMap<String, u64>,
    /// Those that fire and are not listed, by id.
    unlisted: HashMap<u64, Firing>,
    forgotten: u64,
}

/// What the figures need of an alert that fires.
#[derive(Debug, Clone, Copy)]
struct Firing {
    mode: AlertMode,
    severity: AlertSeverity,
    district: Option<u32>,
}

impl Firing {
    fn of(alert: &Alert) -> Option<Self> {
        let Alert { mode, severity, .. } = *alert;
        let district = alert.district.as_ref().and_then(|code| code.parse().ok());
        (alert.state == AlertState::Firing).then_some(Self { mode, severity, district })
    }
}

impl AlertList {
    /// An empty list.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, shelves: Mutex::default() }
    }

    /// Takes a change. The same one twice is taken as once.
    pub fn note(&self, alert: Alert) {
        let mut shelves = self.lock();
        if let Some(id) = alert.number() {
            shelves.unlisted.remove(&id);
        }
        if let Some(before) = shelves.sequence_of.remove(&alert.id) {
            shelves.open.remove(&before);
            shelves.resolved.remove(&before);
        }
        let resolved = alert.state == AlertState::Resolved;
        if resolved && !alert.fired {
            return;
        }
        let sequence = alert.sequence;
        shelves.sequence_of.insert(alert.id.clone(), sequence);
        let shelf = if resolved { &mut shelves.resolved } else { &mut shelves.open };
        let displaced = shelf.insert(sequence, Arc::new(alert));
        shelves.forget(displaced);
        if shelves.resolved.len() > self.bounds.resolved {
            let oldest = shelves.resolved.pop_first().map(|(_, oldest)| oldest);
            shelves.forget(oldest);
        }
        if shelves.open.len() > self.bounds.open {
            let oldest = shelves.open.pop_first().map(|(_, oldest)| oldest);
            if let Some((id, firing)) = oldest.as_ref().and_then(|a| Some((a.number()?, Firing::of(a)?))) {
                shelves.unlisted.insert(id, firing);
            }
            shelves.forgotten += 1;
            shelves.forget(oldest);
        }
    }

    /// A page of alerts, newest change first.
    #[must_use]
    pub fn page(&self, query: &AlertQuery) -> AlertPage {
        let shelves = self.lock();
        let below = ..query.before.unwrap_or(u64::MAX);
        let shelf = |shelf: &BTreeMap<u64, Arc<Alert>>| -> Vec<Arc<Alert>> {
            let matching = shelf.range(below).rev().map(|(_, alert)| alert).filter(|a| query.matches(a));
            matching.take(query.limit + 1).cloned().collect()
        };
        let mut found = match query.state {
            AlertStateQuery::Open => shelf(&shelves.open),
            AlertStateQuery::Resolved => shelf(&shelves.resolved),
            AlertStateQuery::All => [shelf(&shelves.open), shelf(&shelves.resolved)].concat(),
        };
        let open = shelves.firing().live;
        drop(shelves);
        found.sort_unstable_by_key(|alert| std::cmp::Reverse(alert.sequence));
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|alert| alert.sequence);
        AlertPage { items: found.iter().map(|alert| Alert::clone(alert)).collect(), next, open }
    }

    /// Alerts that fire.
    #[must_use]
    pub fn firing(&self) -> FiringCounts {
        self.lock().firing()
    }

    /// Alerts that fire and are live, by district.
    #[must_use]
    pub fn by_district(&self) -> HashMap<String, AlertCounts> {
        let mut counts: HashMap<u32, AlertCounts> = HashMap::new();
        for firing in self.lock().all_firing().filter(|firing| firing.mode == AlertMode::Live) {
            if let Some(district) = firing.district {
                counts.entry(district).or_default().count(firing.severity);
            }
        }
        counts.into_iter().map(|(district, counts)| (district.to_string(), counts)).collect()
    }

    /// Open alerts that the list had no room for, over time.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        // A change that was cut short leaves an alert out at worst.
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

    fn firing(&self) -> FiringCounts {
        let mut counts = FiringCounts::default();
        for firing in self.all_firing() {
            match firing.mode {
                AlertMode::Live => counts.live.count(firing.severity),
                AlertMode::Retrospective => counts.retrospective += 1,
            }
        }
        counts
    }

    fn all_firing(&self) -> impl Iterator<Item = Firing> {
        let listed = self.open.values().filter_map(|alert| Firing::of(alert));
        listed.chain(self.unlisted.values().copied())
    }
}

#[cfg(test)]
#[path = "list/tests.rs"]
mod tests;
