//! Twenty SIGKILLs of gateway, broker and agent, and pauses longer than the keep-alive, under a load of thousands of
//! messages a second: nothing lost, nothing doubled, whether or not the broker keeps what it acknowledged.
//!
//! `make kills` does ten times as many.

use hunhe_tests::{broker::Saving, kill_campaign, report};
use serde_json::json;

const KILLS: u64 = 10;
const MESSAGES_PER_S: u64 = 5_000;

fn history(saving: Saving, name: &str) {
    let seed = std::env::var("TESTS_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_124);
    let figures = kill_campaign::run(&kill_campaign::Plan {
        kills: KILLS,
        seed,
        messages_per_s: MESSAGES_PER_S,
        saving,
        read_back_every: 20,
    });
    report::write("faults", Some(name), &figures);
    for what in ["lost", "doubled", "invented", "unexplained"] {
        assert_eq!(figures[what], json!(0), "{what}: {figures}");
    }
}

#[test]
fn kills_under_load_lose_nothing_where_the_broker_keeps_what_it_acknowledged() {
    history(Saving::EverySecond, "kills_under_load");
}

#[test]
fn kills_under_load_lose_nothing_where_the_broker_forgets_everything() {
    history(Saving::Never, "kills_under_load_without_persistence");
}
