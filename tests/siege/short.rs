//! The siege's short form: all attackers together for half a minute, by the promises of two.

use std::time::Duration;

use hunhe_tests::{
    report,
    siege::{self, Plan},
};

const TOGETHER: Duration = Duration::from_secs(30);

#[test]
fn an_alarm_gets_through_whatever_all_attackers_do_together() {
    let plan = Plan { alone: None, together: Some(TOGETHER), only: Vec::new(), readings_per_s: 5_000 };
    let (figures, broken) = siege::run(&plan);
    report::write("siege_short", None, &figures);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
