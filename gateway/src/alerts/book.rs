//! The newest state of every alert, in memory: a fold of the alert log, made anew from it at each start.
//!
//! Bounds: [`Bounds::open`] open alerts (the registry times the rules is far more than ever stand at once) and
//! [`Bounds::resolved`] resolved ones; beyond either the one that changed longest ago is forgotten, which is counted for
//! open ones, and a later change brings it back. A pending alert that goes away leaves nothing.
//! After a start an alert is missing until it changes where its record was released at the log's limit.

use crate::api::{
    backend::{AlertQuery, AlertStateQuery},
    types::{Alert, AlertCounts, AlertMode, AlertPage, AlertState, FiringCounts},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How much a book keeps.
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

/// Alerts as they stand.
#[derive(Debug, Default)]
pub struct Book {
    bounds: Bounds,
    pages: Mutex<Pages>,
}

/// Each alert lies in one of the two maps, by the sequence of its newest change.
#[derive(Debug, Default)]
struct Pages {
    open: BTreeMap<u64, Arc<Alert>>,
    resolved: BTreeMap<u64, Arc<Alert>>,
    sequence_of: HashMap<String, u64>,
    forgotten: u64,
}

impl Book {
    /// An empty book.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, pages: Mutex::default() }
    }

    /// Takes a change. The same one twice is taken as once.
    pub fn note(&self, alert: Alert) {
        let mut pages = self.lock();
        if let Some(before) = pages.sequence_of.remove(&alert.id) {
            pages.open.remove(&before);
            pages.resolved.remove(&before);
        }
        let resolved = alert.state == AlertState::Resolved;
        if resolved && !alert.fired {
            return;
        }
        let sequence = alert.sequence;
        pages.sequence_of.insert(alert.id.clone(), sequence);
        let shelf = if resolved { &mut pages.resolved } else { &mut pages.open };
        let displaced = shelf.insert(sequence, Arc::new(alert));
        pages.forget(displaced);
        if pages.resolved.len() > self.bounds.resolved {
            let oldest = pages.resolved.pop_first().map(|(_, oldest)| oldest);
            pages.forget(oldest);
        }
        if pages.open.len() > self.bounds.open {
            let oldest = pages.open.pop_first().map(|(_, oldest)| oldest);
            pages.forgotten += 1;
            pages.forget(oldest);
        }
    }

    /// Open alerts that the core does not know as open: their rule, class or device was taken away.
    #[must_use]
    pub fn withdrawn(&self, known: &std::collections::HashSet<u64>) -> Vec<Alert> {
        let is_known = |alert: &Alert| u64::from_str_radix(&alert.id, 16).is_ok_and(|id| known.contains(&id));
        self.lock().open.values().filter(|alert| !is_known(alert)).map(|alert| (**alert).clone()).collect()
    }

    /// A page of alerts, newest change first.
    #[must_use]
    pub fn page(&self, query: &AlertQuery) -> AlertPage {
        let pages = self.lock();
        let below = ..query.before.unwrap_or(u64::MAX);
        let shelf = |shelf: &BTreeMap<u64, Arc<Alert>>| -> Vec<Arc<Alert>> {
            let matching = shelf.range(below).rev().map(|(_, alert)| alert).filter(|a| query.matches(a));
            matching.take(query.limit + 1).cloned().collect()
        };
        let mut found = match query.state {
            AlertStateQuery::Open => shelf(&pages.open),
            AlertStateQuery::Resolved => shelf(&pages.resolved),
            AlertStateQuery::All => [shelf(&pages.open), shelf(&pages.resolved)].concat(),
        };
        let open = pages.firing().live;
        drop(pages);
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
        let mut counts: HashMap<String, AlertCounts> = HashMap::new();
        for alert in self.lock().open.values().filter(|alert| fires(alert, AlertMode::Live)) {
            if let Some(district) = &alert.district {
                counts.entry(district.clone()).or_default().count(alert.severity);
            }
        }
        counts
    }

    /// Open alerts that were forgotten at the bound.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        // A change that was cut short leaves an alert out at worst.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn forget(&mut self, alert: Option<Arc<Alert>>) {
        if let Some(alert) = alert
            && self.sequence_of.get(&alert.id) == Some(&alert.sequence)
        {
            self.sequence_of.remove(&alert.id);
        }
    }

    fn firing(&self) -> FiringCounts {
        let mut counts = FiringCounts::default();
        for alert in self.open.values() {
            if fires(alert, AlertMode::Live) {
                counts.live.count(alert.severity);
            } else if fires(alert, AlertMode::Retrospective) {
                counts.retrospective += 1;
            }
        }
        counts
    }
}

fn fires(alert: &Alert, mode: AlertMode) -> bool {
    alert.state == AlertState::Firing && alert.mode == mode
}

#[cfg(test)]
#[path = "book/tests.rs"]
mod tests;
