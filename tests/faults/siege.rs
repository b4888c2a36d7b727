//! The siege's short form: all attackers together for half a minute. Every true alarm must reach page, MQTT and webhook, no
//! honest sample may be lost, memory stays within its bound, and all of it drains. An alarm may take five seconds, since other tests
//! run beside this one; `make siege` measures whether alarms keep their promised time.

use std::time::Duration;

use hunhe_tests::{
    report,
    siege::{self, Plan},
};

const TOGETHER: Duration = Duration::from_secs(30);

#[test]
fn every_alarm_gets_through_and_nothing_is_lost_whatever_all_attackers_do_together() {
    let plan = Plan {
        alone: None,
        together: Some(TOGETHER),
        only: Vec::new(),
        readings_per_s: 5_000,
        beside_tests: true,
    };
    let (figures, broken) = siege::run(&plan);
    report::write("siege_short", None, &figures);
    assert!(broken.is_empty(), "{broken:?}");
}
