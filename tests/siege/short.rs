//! The siege's short form: all attackers together for half a minute. Every true alarm must reach page, MQTT and webhook, no
//! honest sample may be lost, memory stays within its bound, and all of it drains. How fast alarms arrive is what `make siege`
//! measures: half a minute holds too few of them for a 99th percentile, and other tests run beside this one.

use std::time::Duration;

use hunhe_tests::{
    report,
    siege::{self, Plan},
};

const TOGETHER: Duration = Duration::from_secs(30);

#[test]
fn every_alarm_gets_through_and_nothing_is_lost_whatever_all_attackers_do_together() {
    let plan = Plan { alone: None, together: Some(TOGETHER), only: Vec::new(), readings_per_s: 5_000 };
    let (figures, broken) = siege::run(&plan);
    report::write("siege_short", None, &figures);
    let but_speed: Vec<&String> = broken.iter().filter(|words| !words.contains(" alarm_ms_")).collect();
    assert!(but_speed.is_empty(), "{but_speed:?}");
}
