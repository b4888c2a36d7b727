//! The messages of a run, made beforehand, and the connections that carry them.

use std::time::{SystemTime, UNIX_EPOCH};

use hunhe_tests::{
    publisher::Publisher,
    wire::{GAS_SAMPLES, gas_day, gas_hours, gas_meter_id, up_topic},
};

/// Connections, each with its thread: as concentrators hold them.
const CONNECTIONS: u64 = 8;
const WINDOW: u16 = 1024;
const DAY: u64 = GAS_SAMPLES as u64;
const BOOT: u32 = 0x00c0_ffee;
/// Coprime with every number of meters below it: it scatters the meters over a day.
const SCATTER: u64 = 1_000_003;

/// Reports in rounds: one of each meter. A round of 24 readings is a day.
#[derive(Debug)]
pub(crate) struct Messages {
    /// Meters.
    pub(crate) meters: u64,
    /// Readings in each report.
    pub(crate) readings: u64,
    topics: Vec<Box<[u8]>>,
    rounds: Vec<Round>,
}

#[derive(Debug)]
struct Round {
    payloads: Vec<u8>,
    /// Where each meter's ends.
    ends: Vec<usize>,
}

impl Messages {
    /// The newest `rounds` reports of every meter, each with so many hourly readings.
    pub(crate) fn new(meters: u64, rounds: u64, readings: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 86_400 * 24;
        let topics = (0..meters).map(|meter| up_topic(&gas_meter_id(meter)).into_bytes().into()).collect();
        let round = |number: u64| {
            let hour = i64::try_from(now - (rounds - number) * readings).expect("a year of this age");
            let mut round = Round { payloads: Vec::new(), ends: Vec::new() };
            for meter in 0..meters {
                let seq = number * readings;
                round.payloads.extend(match readings {
                    DAY => gas_day(BOOT, seq, hour, meter),
                    hours => gas_hours(BOOT, seq, hour, hours, meter),
                });
                round.ends.push(round.payloads.len());
            }
            round
        };
        Self { meters, readings, topics, rounds: (0..rounds).map(round).collect() }
    }

    /// How many rounds there are.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// Bytes.
    pub(crate) fn payload_bytes_per_reading(&self) -> f64 {
        let bytes: usize = self.rounds.iter().map(|round| round.payloads.len()).sum();
        bytes as f64 / (self.meters * self.readings * self.rounds.len() as u64) as f64
    }

    /// Publishes some rounds of the first `meters` meters, and returns when the broker has all.
    pub(crate) fn publish(&self, port: u16, rounds: std::ops::Range<usize>, meters: u64) {
        std::thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                let rounds = rounds.clone();
                scope.spawn(move || {
                    let name = format!("load-{connection}");
                    let mut publisher = Publisher::connect(port, &name, WINDOW).expect("a connection");
                    for round in &self.rounds[rounds] {
                        for number in (connection..meters).step_by(usize::try_from(CONNECTIONS).unwrap_or(1))
                        {
                            let at = usize::try_from(number * SCATTER % meters).expect("an index");
                            let from = if at == 0 { 0 } else { round.ends[at - 1] };
                            let payload = &round.payloads[from..round.ends[at]];
                            publisher.publish(&self.topics[at], payload).expect("the broker takes it");
                        }
                    }
                    publisher.settle().expect("the broker answers");
                });
            }
        });
    }
}
