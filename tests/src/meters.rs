//! Gas meters whose messages can be told apart and counted: message `n` holds one sample, of meter `n % meters`, with
//! sequence number `n / meters`, so that whoever knows the numbers knows what must be stored.

use std::{fs, path::Path};

use hunhe_proto::{id::Id, reading::Header, topic};

use crate::{
    gateway::{Gateway, Setup},
    now_h,
    wire::{GAS_METER_VERSION, gas_meter_id, gas_meter_list, report, up_topic},
};

/// Identity of every meter's outbox.
pub const BOOT: u32 = 77;
const VOLUME: u16 = 1;
/// Event time begins so long ago: far enough for every test, near enough to be taken.
const BEGIN_HOURS_AGO: i64 = 35 * 24;

/// Meters behind concentrators.
#[derive(Debug, Clone, Copy)]
pub struct Meters {
    /// How many.
    pub count: u64,
    /// Behind one concentrator.
    pub per_agent: u64,
    begin_hour: i64,
}

impl Meters {
    /// So many.
    #[must_use]
    pub fn new(count: u64, per_agent: u64) -> Self {
        Self { count, per_agent, begin_hour: now_h() - BEGIN_HOURS_AGO }
    }

    /// A gateway's configuration for them, with the embedded store as the sink of record.
    ///
    /// # Panics
    /// The list of devices cannot be written.
    #[must_use]
    pub fn setup(&self, dir: &Path, broker: u16, more: &str) -> Setup {
        let list = dir.join("devices.csv");
        let plain = gas_meter_list(self.count, self.per_agent);
        // Households are asked for by their pseudonyms.
        let mut text = String::new();
        for (index, line) in plain.lines().enumerate() {
            let pseudonym = index.checked_sub(1).map_or("pseudonym".into(), |meter| pseudonym(meter as u64));
            text += &format!("{line},{pseudonym}\n");
        }
        fs::write(&list, text).expect("a list");
        Setup::embedded(broker, format!("devices = [{list:?}]"), more)
    }

    /// The payload of one sample.
    #[must_use]
    pub fn sample(&self, seq: u64, held_from: Option<u64>) -> Vec<u8> {
        let seq_signed = i64::try_from(seq).unwrap_or(0);
        let class_version = Some(GAS_METER_VERSION);
        let header = Header { boot: BOOT, seq, held_from, class_version, ..Header::default() };
        report(header, self.begin_hour + seq_signed, VOLUME, &[10_000_000 + 100 * seq_signed])
    }

    /// Message `number`: itself, its topic, its payload.
    #[must_use]
    pub fn message(&self, number: u64) -> (u64, String, Vec<u8>) {
        let topic = up_topic(&gas_meter_id(number % self.count));
        (number, topic, self.sample(number / self.count, None))
    }

    /// Message `number` with an unknown field of so many bytes, which a gateway ignores: it fills a journal, and counts as
    /// what it repeats.
    #[must_use]
    pub fn padded(&self, number: u64, bytes: usize) -> (String, Vec<u8>) {
        let (_, topic, mut payload) = self.message(number);
        // Field 100, bytes, in protobuf.
        payload.extend_from_slice(&[0xa2, 0x06]);
        let mut length = bytes;
        while length >= 0x80 {
            payload.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        payload.push(u8::try_from(length).unwrap_or(0));
        payload.resize(payload.len() + bytes, 0xff);
        (topic, payload)
    }

    /// Where a meter reports.
    #[must_use]
    pub fn up_topic(&self, meter: u64) -> String {
        up_topic(&gas_meter_id(meter))
    }

    /// Where a meter reports alarms.
    ///
    /// # Panics
    /// Never: the ids are valid.
    #[must_use]
    pub fn alarm_topic(&self, meter: u64) -> String {
        topic::alarm(Id::new(&gas_meter_id(meter)).expect("an id"))
    }

    /// How many samples of a meter the gateway's store holds: points of its series, which has one an instant.
    ///
    /// # Panics
    /// The gateway does not answer.
    #[must_use]
    pub fn stored(&self, gateway: &Gateway, meter: u64) -> u64 {
        let from = self.begin_hour * 3_600_000;
        let to = from + 40 * 86_400_000;
        let path =
            format!("/api/v1/devices/{}/series?channel=register&from={from}&to={to}", pseudonym(meter));
        let answer = gateway.http.json(&path);
        answer["values"].as_array().expect("values").iter().filter(|value| !value.is_null()).count() as u64
    }
}

fn pseudonym(meter: u64) -> String {
    format!("household-{meter}")
}
