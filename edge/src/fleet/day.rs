//! Reports ahead of time, for load runs: the bytes of a modelled device's next report, without a connection.

use crate::{
    drivers::{Driver, simulated::Simulated},
    report::Writer,
    samples::Samples,
};
use hunhe_edge_core::{outbox::Range, sample::Late};
use hunhe_proto::{class::Class, encode::EncodeError, id::DeviceId, reading::Header};
use std::sync::Arc;

/// Encodes one device's reports, one behind the other.
#[derive(Debug)]
pub struct DayEncoder {
    class: Arc<Class>,
    driver: Driver,
    samples: Samples,
    boot: u32,
    row: Vec<i64>,
}

impl DayEncoder {
    /// The model of `device` from `start_ms` on, under the outbox identity `boot`.
    #[must_use]
    pub fn new(class: Arc<Class>, device: DeviceId, seed: u64, boot: u32, start_ms: i64) -> Self {
        let model = Simulated::new(Arc::clone(&class), device, seed, None, start_ms, Late::CatchUp);
        let (samples, row) = (Samples::new(class.channels.len(), 0), vec![0; class.channels.len()]);
        Self { class, driver: Driver::Simulated(Box::new(model)), samples, boot, row }
    }

    /// The payload of the next full report, in the writer's buffer.
    ///
    /// # Errors
    /// [`EncodeError`] where the class's report does not fit its limit.
    pub fn next_report<'a>(&mut self, writer: &'a mut Writer) -> Result<&'a [u8], EncodeError> {
        let start = self.samples.next_seq();
        self.samples.release_below(start);
        for _ in 0..self.class.report.samples {
            let Some(due_ms) = self.driver.next_ms() else { break };
            if let Some(taken) = self.driver.take(due_ms, &mut self.row) {
                self.samples.push(taken.time_ms, &self.row);
            }
        }
        let range = Range { start, end: self.samples.next_seq() };
        // Each says it: who sends them may begin with any.
        let class_version = Some(self.class.version);
        let header =
            |range: Range| Header { boot: self.boot, seq: range.start, class_version, ..Header::default() };
        let (sent, payload) = writer.encode(&self.class, &self.samples, range, &[], header)?;
        if sent == range { Ok(payload) } else { Err(EncodeError::BufferFull) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use hunhe_proto::{decode::decode, reading::Report};

    #[test]
    fn a_modelled_day_decodes_to_the_model() {
        let class = testing::gas_meter();
        let device = DeviceId::new("g-1").unwrap();
        let start = 1_700_000_000_000 / 3_600_000 * 3_600_000;
        let mut encoder = DayEncoder::new(Arc::clone(&class), device, 3, 77, start);
        let mut model = Simulated::new(Arc::clone(&class), device, 3, None, start, Late::CatchUp);
        let (mut writer, mut report) = (Writer::default(), Report::default());
        for day in 0..3 {
            let payload = encoder.next_report(&mut writer).unwrap();
            assert!(payload.len() <= 480);
            decode(payload, class.axis(), &mut report).unwrap();
            assert_eq!((report.header.boot, report.header.seq, report.samples()), (77, day * 24, 24));
            let mut row = [0; 4];
            for (index, &time) in report.times_ms.iter().enumerate() {
                model.resume(time - 1);
                let mut driver = Driver::Simulated(Box::new(model));
                assert_eq!(driver.take(time, &mut row).map(|taken| taken.time_ms), Some(time));
                let Driver::Simulated(back) = driver else { unreachable!() };
                model = *back;
                for column in &report.columns {
                    let place = class.channels.iter().position(|c| c.number == column.channel).unwrap();
                    assert_eq!(report.values_of(column)[index], row[place]);
                }
            }
        }
    }
}
