//! A steady load, and ten times as much. See `hunhe_tests::overload`.
//!
//! Promises: at 5,000 messages a second the 99th percentile from a delivery to its acknowledgement is below 50 ms; under ten
//! times that load the gateway stays below 256 MiB and alarms are acknowledged within a second; nothing is lost or doubled.

use std::time::Duration;

use clap::Args;
use hunhe_tests::overload::{self, Plan};

use crate::{Outcome, not_below};

pub(crate) const MESSAGES_PER_S: u64 = 5_000;
const LIMIT_BYTES: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(crate) struct Acknowledgement {
    /// For so many seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Overload {
    /// For so many seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl Acknowledgement {
    pub(crate) fn run(&self) -> Outcome {
        let lasting = Duration::from_secs(self.seconds);
        let figures = overload::run(&Plan { messages_per_s: MESSAGES_PER_S, lasting, limit_bytes: None });
        let bounds = [("publish_to_acknowledgement_ms_p99", 50.0), ("lost", 1.0), ("doubled", 1.0)];
        Outcome { broken: not_below(&figures, &bounds), figures }
    }
}

impl Overload {
    pub(crate) fn run(&self) -> Outcome {
        let lasting = Duration::from_secs(self.seconds);
        let plan = Plan { messages_per_s: 10 * MESSAGES_PER_S, lasting, limit_bytes: Some(LIMIT_BYTES) };
        let figures = overload::run(&plan);
        let bounds = [
            ("rss_peak_mib", 256.0),
            ("alarm_to_acknowledgement_ms_p99", 1_000.0),
            ("lost", 1.0),
            ("doubled", 1.0),
        ];
        Outcome { broken: not_below(&figures, &bounds), figures }
    }
}
