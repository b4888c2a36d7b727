//! What an attack did, and whether that reached what it aims at.
//!
//! An attacker counts what came of its attempts: answers by status, messages that the broker took, connections that were closed. Its
//! aims say which of these counts, and which of the gateway's own counters, must have moved. An attack that misses its aim proves
//! nothing, so that is a broken promise like any other.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Counts by name.
pub(super) type Counts = BTreeMap<String, u64>;

/// What one attack has done so far, counted from its threads.
#[derive(Debug, Default)]
pub(super) struct Effects(Mutex<Counts>);

impl Effects {
    /// Counts so many more of this.
    pub(super) fn add(&self, what: &str, more: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(what) {
            Some(count) => *count += more,
            None => drop(counts.insert(what.to_owned(), more)),
        }
    }

    /// What came to light.
    pub(super) fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What must be so after an attack.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aim {
    /// The attack counted this at least so often.
    Did(&'static str, u64),
    /// The attack never counted this.
    Never(&'static str),
    /// The gateway's counters of this name, with this in their labels, rose by at least so much.
    Rose(&'static str, &'static str, f64),
    /// The gateway's counters of this name did not move.
    Still(&'static str),
}

/// By how much the gateway's figures rose.
#[derive(Debug, Default)]
pub(super) struct Rises {
    /// While the attack lasted and until all had drained.
    pub(super) during: BTreeMap<String, f64>,
    /// Since the gateway was started again behind the attack, where it was.
    pub(super) restarted: BTreeMap<String, f64>,
}

impl Rises {
    fn of(figures: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
        let is_meant = |line: &str| {
            let (family, labels) = line.split_once('{').unwrap_or((line, ""));
            family == name && labels.contains(label)
        };
        figures.iter().filter(|(line, _)| is_meant(line)).fold(0.0, |sum, (_, rise)| sum + rise)
    }
}

impl Aim {
    /// What was expected and is not so, in words. Expected is one of `part`: of an attack beside others, less.
    pub(super) fn missed(&self, counts: &Counts, rises: &Rises, part: u32) -> Option<String> {
        let count = |what: &str| counts.get(what).copied().unwrap_or(0);
        match *self {
            Self::Did(what, least) => {
                let (found, least) = (count(what), least.div_ceil(part.into()));
                (found < least).then(|| format!("had no effect: {what} {found}, expected at least {least}"))
            }
            Self::Never(what) => {
                (count(what) > 0).then(|| format!("met {what} {} times, expected never", count(what)))
            }
            Self::Rose(name, label, least) => {
                let least = least / f64::from(part);
                let rise = Rises::of(&rises.during, name, label) + Rises::of(&rises.restarted, name, label);
                let label = if label.is_empty() { String::new() } else { format!(" ({label})") };
                (rise < least).then(|| {
                    format!("had no effect: {name}{label} rose by {rise}, expected at least {least}")
                })
            }
            Self::Still(name) => {
                let rise = Rises::of(&rises.during, name, "");
                (rise != 0.0).then(|| format!("moved {name} by {rise}, expected not to"))
            }
        }
    }
}

/// The text that Prometheus reads, by name and labels of each line.
pub(super) fn figures(text: &str) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

/// By how much each figure rose, of those that did.
pub(super) fn rises(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let rise = |(name, value): (&String, &f64)| {
        let rise = value - before.get(name).copied().unwrap_or(0.0);
        (rise > 0.0).then(|| (name.clone(), rise))
    };
    after.iter().filter_map(rise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# HELP hunhe_refused_total Refused.\n# TYPE hunhe_refused_total counter\n\
                          hunhe_refused_total{reason=\"junk\"} 3\nhunhe_messages_total 10\n";
    const AFTER: &str = "hunhe_refused_total{reason=\"junk\"} 8\nhunhe_refused_total{reason=\"late\"} 2\n\
                         hunhe_messages_total 10\nhunhe_refused_totals 9\n";

    fn seen() -> Rises {
        Rises { during: rises(&figures(BEFORE), &figures(AFTER)), restarted: BTreeMap::new() }
    }

    #[test]
    fn an_idle_attacker_misses_its_aim_in_words() {
        let effects = Effects::default();
        let aim = Aim::Did("200", 5);
        let words = aim.missed(&effects.counts(), &Rises::default(), 1);
        assert_eq!(words.as_deref(), Some("had no effect: 200 0, expected at least 5"));
        effects.add("200", 4);
        assert!(aim.missed(&effects.counts(), &Rises::default(), 1).is_some());
        effects.add("200", 1);
        assert_eq!(aim.missed(&effects.counts(), &Rises::default(), 1), None);
        let words = Aim::Never("200").missed(&effects.counts(), &Rises::default(), 1);
        assert_eq!(words.as_deref(), Some("met 200 5 times, expected never"));
    }

    #[test]
    fn beside_others_less_is_expected_and_never_nothing() {
        let effects = Effects::default();
        let missed = |least| Aim::Did("200", least).missed(&effects.counts(), &Rises::default(), 10);
        assert!(missed(1).is_some(), "an idle one is noticed in any crowd");
        effects.add("200", 10);
        assert_eq!((missed(1), missed(100)), (None, None));
        assert!(missed(101).is_some());
        let rose =
            |least| Aim::Rose("hunhe_refused_total", "junk", least).missed(&Counts::new(), &seen(), 10);
        assert_eq!(rose(50.0), None);
        assert!(rose(51.0).is_some());
    }

    #[test]
    fn a_counter_counts_by_its_name_and_label_alone() {
        let missed = |aim: Aim| aim.missed(&Counts::new(), &seen(), 1);
        assert_eq!(missed(Aim::Rose("hunhe_refused_total", "junk", 5.0)), None);
        assert_eq!(missed(Aim::Rose("hunhe_refused_total", "", 7.0)), None, "a reason that is new counts");
        assert!(missed(Aim::Rose("hunhe_refused_total", "", 8.0)).is_some(), "another name does not");
        let words = missed(Aim::Rose("hunhe_refused_total", "junk", 6.0));
        assert_eq!(
            words.as_deref(),
            Some("had no effect: hunhe_refused_total (junk) rose by 5, expected at least 6")
        );
        assert_eq!(missed(Aim::Still("hunhe_messages_total")), None);
        assert!(missed(Aim::Still("hunhe_refused_total")).is_some());
    }

    #[test]
    fn what_a_gateway_counts_after_a_restart_counts_as_well() {
        let restarted = figures("hunhe_refused_total{reason=\"late\"} 4\n");
        let rises = Rises { restarted, ..seen() };
        assert_eq!(Aim::Rose("hunhe_refused_total", "late", 6.0).missed(&Counts::new(), &rises, 1), None);
        let quiet = Rises { during: BTreeMap::new(), ..rises };
        assert_eq!(
            Aim::Still("hunhe_refused_total").missed(&Counts::new(), &quiet, 1),
            None,
            "a start is no fault"
        );
    }
}
