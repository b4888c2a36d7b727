//! What a stage came to, and which of the promises it breaks.

use serde_json::{Map, Value, json};

use super::{receivers::KINDS, stage::Peak};

/// Above the lines of a siege.
pub(super) const HEAD: &str = "attacker               page p50/p99/max ms    mqtt p50/p99/max ms webhook p50/p99/max ms  \
     MiB files lost drain s  cores gateway+broker+harness";

/// What must hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    p99_ms: f64,
    max_ms: f64,
    rss_mib: f64,
}

impl Promise {
    /// Beside one attacker.
    pub(super) const ALONE: Self = Self { p99_ms: 250.0, max_ms: 1_000.0, rss_mib: 512.0 };
    /// Beside all of them.
    pub(super) const TOGETHER: Self = Self { p99_ms: 500.0, max_ms: 2_000.0, rss_mib: 512.0 };
}

/// Processors that each had, of those of the machine.
#[derive(Debug)]
pub(super) struct Cores {
    pub(super) gateway: f64,
    pub(super) broker: f64,
    pub(super) harness: f64,
}

/// What a stage came to.
#[derive(Debug)]
pub(super) struct Figures {
    /// Of each true alarm, by kind of receiver; `None` for one that never came.
    pub(super) times: [Vec<Option<f64>>; 3],
    pub(super) attempts: Vec<(&'static str, u64)>,
    pub(super) peak: Peak,
    pub(super) cores: Cores,
    pub(super) lasted_s: f64,
    pub(super) whole_s: f64,
    pub(super) honest_sent: u64,
    pub(super) honest_lost: u64,
    /// Until everything was through; `None` where it never was.
    pub(super) drained_s: Option<f64>,
    pub(super) page_reconnects: u64,
    pub(super) gateway_ended: Option<String>,
}

/// Of the alarms to one kind of receiver; infinite where one never came.
struct Delays {
    p50: f64,
    p99: f64,
    max: f64,
    missing: usize,
}

impl Delays {
    fn of(times: &[Option<f64>]) -> Self {
        let mut sorted: Vec<f64> = times.iter().map(|ms| ms.unwrap_or(f64::INFINITY)).collect();
        sorted.sort_by(f64::total_cmp);
        // The nearest rank: of fewer than a hundred alarms the greatest.
        let rank = |percent: usize| {
            let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(at).copied().unwrap_or(f64::INFINITY)
        };
        let missing = times.iter().filter(|ms| ms.is_none()).count();
        Self { p50: rank(50), p99: rank(99), max: rank(100), missing }
    }

    fn cell(&self) -> String {
        format!("{:>22}", format!("{:.0}/{:.0}/{:.0}", self.p50, self.p99, self.max))
    }
}

impl Figures {
    fn delays(&self) -> [(&'static str, Delays); 3] {
        std::array::from_fn(|at| (KINDS[at], Delays::of(&self.times[at])))
    }

    /// The promises that are broken, in words.
    pub(super) fn broken(&self, promise: &Promise) -> Vec<String> {
        let mut broken = Vec::new();
        for (kind, delays) in self.delays() {
            for (name, found, most) in
                [("p99", delays.p99, promise.p99_ms), ("max", delays.max, promise.max_ms)]
            {
                if found > most {
                    broken.push(format!("{kind} alarm_ms_{name} is {found:.0}, promised {most}"));
                }
            }
            if delays.missing > 0 {
                broken.push(format!("{} alarms never reached {kind}", delays.missing));
            }
        }
        if self.peak.rss_mib > promise.rss_mib {
            broken.push(format!("rss_mib_max is {:.0}, promised {}", self.peak.rss_mib, promise.rss_mib));
        }
        if self.honest_lost > 0 {
            broken.push(format!("honest_lost is {}, promised 0", self.honest_lost));
        }
        if self.drained_s.is_none() {
            broken.push("it never drained".into());
        }
        broken.extend(self.gateway_ended.iter().map(|status| format!("the gateway ended with {status}")));
        broken
    }

    /// A line of the table.
    pub(super) fn line(&self, name: &str, is_broken: bool) -> String {
        let [page, mqtt, webhook] = self.delays().map(|(_, delays)| delays.cell());
        let drained = self.drained_s.map_or("never".into(), |s| format!("{s:.1}"));
        let Cores { gateway, broker, harness } = self.cores;
        format!(
            "{name:<19}{page} {mqtt} {webhook} {:>4.0} {:>5} {:>4} {drained:>7}  {gateway:.2}+{broker:.2}+{harness:.2}{}",
            self.peak.rss_mib,
            self.peak.files,
            self.honest_lost,
            if is_broken { "  BROKEN" } else { "" }
        )
    }

    /// As the report holds it.
    pub(super) fn to_json(&self) -> Value {
        let ms = |ms: f64| if ms.is_finite() { json!(ms) } else { Value::Null };
        let mut all = Map::new();
        for (kind, delays) in self.delays() {
            all.insert(
                kind.into(),
                json!({ "alarm_ms_p50": ms(delays.p50), "alarm_ms_p99": ms(delays.p99),
                    "alarm_ms_max": ms(delays.max), "missing": delays.missing }),
            );
        }
        let attempts: Map<String, Value> =
            self.attempts.iter().map(|(name, count)| ((*name).into(), json!(count))).collect();
        let rest = json!({
            "alarms": self.times[0].len(), "rss_mib_max": self.peak.rss_mib, "files_max": self.peak.files,
            "threads_max": self.peak.threads, "honest_sent": self.honest_sent, "honest_lost": self.honest_lost,
            "drained_s": self.drained_s, "lasted_s": self.lasted_s, "whole_s": self.whole_s,
            "cores": { "gateway": self.cores.gateway, "broker": self.cores.broker, "harness": self.cores.harness },
            "page_reconnects": self.page_reconnects, "gateway_ended": self.gateway_ended, "attempts": attempts,
        });
        if let Value::Object(rest) = rest {
            all.extend(rest);
        }
        Value::Object(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_that_never_came_is_worse_than_any_number() {
        let times: Vec<Option<f64>> = (1..=200).map(|ms| Some(f64::from(ms))).collect();
        let delays = Delays::of(&times);
        assert_eq!((delays.p50, delays.p99, delays.max, delays.missing), (100.0, 198.0, 200.0, 0));
        let delays = Delays::of(&[Some(1.0), None]);
        assert_eq!((delays.p50, delays.max, delays.missing), (1.0, f64::INFINITY, 1));
        assert_eq!(Delays::of(&[]).p99, f64::INFINITY, "without an alarm nothing is shown");
    }
}
