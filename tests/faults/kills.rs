//! Ten SIGKILLs of gateway, broker and agent, and pauses longer than the keep-alive, under a load of thousands of messages a
//! second: nothing lost, nothing doubled in either sink, and the gateway back within two seconds, whether or not the broker
//! keeps what it acknowledged.
//!
//! `TESTS_KILL_SEED` decides moments and victims. `make kills` does ten times as many.

use hunhe_tests::{broker::Saving, kills, report};
use serde_json::json;

const RESTART_S_MAX: f64 = 2.0;

fn history(saving: Saving, name: &str) {
    let seed = std::env::var("TESTS_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_124);
    let plan = kills::Plan { kills: 10, seed, messages_per_s: 5_000, saving, read_back_every: 20 };
    let figures = kills::run(&plan);
    report::write("faults", Some(name), &figures);
    for what in kills::FAULTS {
        assert_eq!(figures[what], json!(0), "{what}: {figures}");
    }
    assert_eq!((&figures["closed"], &figures["ledger_exit_code"]), (&json!(true), &json!(0)), "{figures}");
    assert!(figures["ready_s_max"].as_f64().is_some_and(|s| s < RESTART_S_MAX), "{figures}");
}

#[test]
fn kills_under_load_lose_nothing_where_the_broker_keeps_what_it_acknowledged() {
    history(Saving::EverySecond, "kills");
}

#[test]
fn kills_under_load_lose_nothing_where_the_broker_forgets_everything() {
    history(Saving::Never, "kills_without_persistence");
}
