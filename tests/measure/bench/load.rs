//! The messages of a run, made beforehand, and the connections that carry them.

use std::time::{SystemTime, UNIX_EPOCH};

use hunhe_tests::{
    publisher::Publisher,
    wire::{GAS_SAMPLES, gas_day, gas_meter_id, up_topic},
};

/// Connections, each with its thread: as concentrators hold them.
const CONNECTIONS: u64 = 8;
const WINDOW: u16 = 1024;
const BOOT: u32 = 0x00c0_ffee;
/// Coprime with every number of meters below it: it scatters the meters over a day.
const SCATTER: u64 = 1_000_003;

/// Reports of some days, by day.
#[derive(Debug)]
pub(crate) struct Messages {
    /// Meters.
    pub(crate) meters: u64,
    topics: Vec<Box<[u8]>>,
    days: Vec<Day>,
}

#[derive(Debug)]
struct Day {
    payloads: Vec<u8>,
    /// Where each meter's ends.
    ends: Vec<usize>,
}

impl Messages {
    /// The newest `days` whole days of every meter.
    pub(crate) fn of_days(meters: u64, days: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 86_400;
        let topics = (0..meters).map(|meter| up_topic(&gas_meter_id(meter)).into_bytes().into()).collect();
        let day = |number: u64| {
            let hour = i64::try_from((now - days + number) * 24).expect("a year of this age");
            let mut day = Day { payloads: Vec::new(), ends: Vec::new() };
            for meter in 0..meters {
                day.payloads.extend(gas_day(BOOT, number * GAS_SAMPLES as u64, hour, meter));
                day.ends.push(day.payloads.len());
            }
            day
        };
        Self { meters, topics, days: (0..days).map(day).collect() }
    }

    /// How many days there are.
    pub(crate) fn days(&self) -> usize {
        self.days.len()
    }

    /// Readings of a day.
    pub(crate) fn readings_per_day(&self) -> u64 {
        self.meters * GAS_SAMPLES as u64
    }

    /// Bytes.
    pub(crate) fn payload_bytes_per_reading(&self) -> f64 {
        let bytes: usize = self.days.iter().map(|day| day.payloads.len()).sum();
        bytes as f64 / (self.readings_per_day() * self.days.len() as u64) as f64
    }

    /// Publishes some days' reports of the first `meters` meters, and returns when the broker has all.
    pub(crate) fn publish(&self, port: u16, days: std::ops::Range<usize>, meters: u64) {
        std::thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                let days = days.clone();
                scope.spawn(move || {
                    let name = format!("load-{connection}");
                    let mut publisher = Publisher::connect(port, &name, WINDOW).expect("a connection");
                    for day in &self.days[days] {
                        for number in (connection..meters).step_by(usize::try_from(CONNECTIONS).unwrap_or(1))
                        {
                            let at = usize::try_from(number * SCATTER % meters).expect("an index");
                            let from = if at == 0 { 0 } else { day.ends[at - 1] };
                            let payload = &day.payloads[from..day.ends[at]];
                            publisher.publish(&self.topics[at], payload).expect("the broker takes it");
                        }
                    }
                    publisher.settle().expect("the broker answers");
                });
            }
        });
    }
}
