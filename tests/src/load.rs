//! A steady load of gas meters' days, each meter's in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{publisher::Publisher, wire};

/// The load's own pace.
const PACE: Duration = Duration::from_millis(10);
/// 2026-01-01, in hours since 1970.
const FIRST_HOUR: i64 = 490_896;
const BOOT: u32 = 7;

/// A load from its own thread.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Load {
    /// Reports of 24 readings, the next meter's each time.
    #[must_use]
    pub fn start(broker: u16, meters: u64, reports_per_s: u64) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || {
                let mut publisher = Publisher::connect(broker, "load", 256)?;
                let begun = Instant::now();
                let mut number = 0;
                while !stop.load(Relaxed) {
                    let due = u64::try_from(begun.elapsed().as_millis()).unwrap_or(0) * reports_per_s / 1000;
                    while number < due {
                        let (meter, day) = (number % meters, number / meters);
                        let hour = FIRST_HOUR + 24 * i64::try_from(day).unwrap_or(0);
                        let payload = wire::gas_day(BOOT, 24 * day, hour, meter);
                        publisher.publish(wire::up_topic(&wire::gas_meter_id(meter)).as_bytes(), &payload)?;
                        number += 1;
                    }
                    publisher.settle()?;
                    sent.store(number, Relaxed);
                    std::thread::sleep(PACE);
                }
                Ok(())
            }
        });
        Self { stop, sent, thread }
    }

    /// Reports that the broker has taken.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Ends it; the number of its reports.
    ///
    /// # Panics
    /// The broker ended the connection.
    #[must_use]
    pub fn stop(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the load's thread").expect("the load's connection");
        self.sent.load(Relaxed)
    }
}
