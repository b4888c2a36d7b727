//! Ten times the load in a memory-limited control group, briefly: nothing acknowledged is lost, memory stays bounded and
//! alarms come through. `make overload` does a minute.

use std::time::Duration;

use hunhe_tests::{
    overload::{self, Plan},
    report,
};
use serde_json::json;

const LIMIT_BYTES: u64 = 256 << 20;

#[test]
fn an_overload_costs_patience_and_nothing_else() {
    let figures = overload::run(&Plan {
        messages_per_s: 50_000,
        lasting: Duration::from_secs(10),
        limit_bytes: Some(LIMIT_BYTES),
    });
    report::write("faults", Some("overload"), &figures);
    for what in ["lost", "doubled", "unexplained"] {
        assert_eq!(figures[what], json!(0), "{what}: {figures}");
    }
    let below = |name: &str, bound: f64| figures[name].as_f64().is_some_and(|found| found < bound);
    assert!(below("rss_peak_mib", 256.0), "{figures}");
    // Generous, since this machine is shared; the campaign's bound is a second.
    assert!(below("alarm_to_acknowledgement_ms_p99", 5_000.0), "{figures}");
}
