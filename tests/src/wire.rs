//! Reports as a device would make them, good ones and others.

use hunhe_proto::{
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    id::Id,
    reading::Header,
    topic,
};

/// A day of an hourly gas register: what [`gas_day`] makes.
pub const GAS_SAMPLES: usize = 24;

/// The version of their class that gas meters here follow: of `seeds/classes/gas_meter.toml`.
pub const GAS_METER_VERSION: u32 = 2;

/// The id of a gas meter, from 0.
#[must_use]
pub fn gas_meter_id(meter: u64) -> String {
    format!("load-{meter}")
}

/// A device list of gas meters, so many behind one concentrator.
#[must_use]
pub fn gas_meter_list(meters: u64, per_agent: u64) -> String {
    let mut text = String::from("device,class,operator,district,zone,agent,lon,lat\n");
    for meter in 0..meters {
        text += &gas_meter_id(meter);
        text += ",gas_meter,gas,210102,gas-heping,c-load-";
        text += &(meter / per_agent).to_string();
        text += ",123.4,41.8\n";
    }
    text
}

/// The topic of a device's reports.
///
/// # Panics
/// The text is no id.
#[must_use]
pub fn up_topic(device: &str) -> String {
    topic::up(Id::new(device).expect("an id"))
}

/// A report of one channel's values from `t0` on, in the class's units of time and value.
///
/// # Panics
/// The values do not encode.
#[must_use]
pub fn report(header: Header, t0: i64, channel: u16, values: &[i64]) -> Vec<u8> {
    report_every(header, t0, 0, channel, values)
}

/// The same with so many units of time between values; 0 is the class's interval.
///
/// # Panics
/// The values do not encode.
#[must_use]
pub fn report_every(header: Header, t0: i64, step: u32, channel: u16, values: &[i64]) -> Vec<u8> {
    let columns = [ColumnDraft { channel, values, quality: &[] }];
    let samples = u32::try_from(values.len()).expect("few values");
    let blocks = [BlockDraft { t0, step, dt: &[], samples, columns: &columns }];
    let mut bytes = vec![0; 64 + 10 * values.len()];
    let length = encode(&Draft { header, drops: &[], blocks: &blocks }, &mut bytes).expect("it encodes");
    bytes.truncate(length);
    bytes
}

/// Which outbox a report is of: its first field, fixed and never absent.
#[must_use]
pub fn boot_of(report: &[u8]) -> Option<u32> {
    let (tag, rest) = report.split_first()?;
    (*tag == 0x0d).then(|| rest.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes)))?
}

/// The hourly register of a gas meter for some hours from `hour` since 1970 on: in litres, by a different course for each `meter`.
#[must_use]
pub fn gas_hours(boot: u32, seq: u64, hour: i64, hours: u64, meter: u64) -> Vec<u8> {
    let values: Vec<i64> = (hour..)
        .take(usize::try_from(hours).unwrap_or(usize::MAX))
        .map(|hour| {
            let noise = (meter ^ hour.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let noise = i64::try_from(noise % 100).unwrap_or(0);
            10_000_000 + i64::try_from(meter % 9_000_000).unwrap_or(0) + hour % 200_000 * 100 + noise
        })
        .collect();
    let class_version = Some(GAS_METER_VERSION);
    report(Header { boot, seq, class_version, ..Header::default() }, hour, 1, &values)
}

/// The hourly register of a gas meter for the day that begins at `hour` since 1970: in litres, rising as a household's does, by a
/// different course for each `meter`.
#[must_use]
pub fn gas_day(boot: u32, seq: u64, hour: i64, meter: u64) -> Vec<u8> {
    let day = u64::try_from(hour / 24).unwrap_or(0);
    let mut state = meter.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ day.wrapping_mul(0xd1b5_4a32_d192_ed03);
    let mut litres =
        i64::try_from(10_000_000 + meter % 9_000_000 + day.saturating_sub(20_000) % 10_000 * 7_000)
            .unwrap_or(0);
    let values: [i64; GAS_SAMPLES] = std::array::from_fn(|_| {
        // xorshift; a third of the hours without use.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let use_litres = if state.is_multiple_of(3) { 0 } else { (state >> 8) % 220 };
        litres += i64::try_from(use_litres).unwrap_or(0);
        litres
    });
    let class_version = Some(GAS_METER_VERSION);
    report(Header { boot, seq, class_version, ..Header::default() }, hour, 1, &values)
}
