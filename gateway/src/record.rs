//! What the journal's records hold. All a lane needs to decide alike in a replay, the passing of time included.
//!
//! ```text
//! 1 message   arrival ms i64 · flags u8 · topic length u16 · topic · payload
//! 2 tick      now ms i64 · listened ms u32
//! 3 redrive   arrival ms i64 · quarantine record u64 · ranges u16, each: first u64, count u64 · topic length u16 · topic · payload
//! 4 write-off at ms i64 · samples u64 · write-offs before u64 · device, by, reason, each: length u16, text
//! 5 output    now ms i64 · stalled u8 · since ms i64 · name of an output of alerts
//! ```
//! Little endian. The segmented log frames and checks them.

use bytes::{Buf, Bytes};
use hunhe_gateway_core::event::{Arrival, Event, WriteOff};
use hunhe_log::Entry;
use hunhe_proto::{id::Id, size::Size};

/// Never written.
const NO_RECORD: u8 = 0;
const MESSAGE: u8 = 1;
const TICK: u8 = 2;
const REDRIVE: u8 = 3;
const WRITE_OFF: u8 = 4;
const OUTPUT: u8 = 5;

const LIVE: u8 = 1;
const ALARM: u8 = 2;

/// What a message costs the lane beside its samples, values and bytes: a unit is about 20 ns of it.
const MESSAGE_COST: u64 = 64;
/// So many bytes cost a unit, in the journal and where they are kept as refused.
const BYTES_A_UNIT: usize = 16;

/// Which delivery to acknowledge once it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Index of the session.
    pub session: usize,
    /// The session's connection, counted; an acknowledgement never crosses to the next.
    pub epoch: u64,
    /// The packet.
    pub packet: u16,
}

/// Something to be journaled.
#[derive(Debug)]
pub struct Entering {
    kind: u8,
    head: Vec<u8>,
    topic: Bytes,
    payload: Bytes,
    cost: u64,
    /// To be acknowledged when durable.
    pub delivery: Option<Delivery>,
}

impl Entering {
    /// A delivered message. Topics longer than 65,535 bytes do not exist in MQTT.
    #[must_use]
    pub fn message(arrival: Arrival, topic: Bytes, payload: Bytes, delivery: Option<Delivery>) -> Self {
        let (size, _) = Size::read(&payload);
        Self::sized(arrival, topic, payload, size, delivery)
    }

    /// The same for whoever knows what [`Size::read`] says.
    #[must_use]
    pub fn sized(
        arrival: Arrival,
        topic: Bytes,
        payload: Bytes,
        size: Size,
        delivery: Option<Delivery>,
    ) -> Self {
        let mut head = Vec::with_capacity(11);
        head.extend_from_slice(&arrival.at_ms.to_le_bytes());
        head.push((u8::from(arrival.live) * LIVE) | (u8::from(arrival.alarm) * ALARM));
        head.extend_from_slice(&u16::try_from(topic.len()).unwrap_or(u16::MAX).to_le_bytes());
        let cost = cost_of(&payload, size);
        Self { kind: MESSAGE, head, topic, payload, cost, delivery }
    }

    /// A delivery that is acknowledged in its turn and leaves no record.
    #[must_use]
    pub fn unrecorded(delivery: Delivery) -> Self {
        Self {
            kind: NO_RECORD,
            head: Vec::new(),
            topic: Bytes::new(),
            payload: Bytes::new(),
            cost: 0,
            delivery: Some(delivery),
        }
    }

    /// The clock, and for how long the gateway has been able to hear since the tick before.
    #[must_use]
    pub fn tick(now_ms: i64, listened_ms: u32) -> Self {
        let mut head = now_ms.to_le_bytes().to_vec();
        head.extend_from_slice(&listened_ms.to_le_bytes());
        Self { kind: TICK, head, topic: Bytes::new(), payload: Bytes::new(), cost: 0, delivery: None }
    }

    /// A request to judge quarantined samples again.
    #[must_use]
    pub fn redrive(
        at_ms: i64,
        quarantine_id: u64,
        ranges: &[(u64, u64)],
        topic: Bytes,
        payload: Bytes,
    ) -> Self {
        let mut head = Vec::with_capacity(20 + 16 * ranges.len());
        head.extend_from_slice(&at_ms.to_le_bytes());
        head.extend_from_slice(&quarantine_id.to_le_bytes());
        head.extend_from_slice(&u16::try_from(ranges.len()).unwrap_or(u16::MAX).to_le_bytes());
        for (first, count) in ranges {
            head.extend_from_slice(&first.to_le_bytes());
            head.extend_from_slice(&count.to_le_bytes());
        }
        head.extend_from_slice(&u16::try_from(topic.len()).unwrap_or(u16::MAX).to_le_bytes());
        let cost = cost_of(&payload, Size::read(&payload).0);
        Self { kind: REDRIVE, head, topic, payload, cost, delivery: None }
    }

    /// An operator's word that unexplained samples are lost. Its number comes from the journal. Texts are far shorter than
    /// 65,535 bytes.
    #[must_use]
    pub fn write_off(write_off: &WriteOff<'_>) -> Self {
        let WriteOff { at_ms, device, samples, before, reason, by, .. } = *write_off;
        let mut head = Vec::with_capacity(72 + reason.len() + by.len());
        head.extend_from_slice(&at_ms.to_le_bytes());
        head.extend_from_slice(&samples.to_le_bytes());
        head.extend_from_slice(&before.to_le_bytes());
        for text in [device.as_str(), by, reason] {
            head.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
            head.extend_from_slice(text.as_bytes());
        }
        Self { kind: WRITE_OFF, head, topic: Bytes::new(), payload: Bytes::new(), cost: 0, delivery: None }
    }

    /// An output of alerts has stalled, or moves again.
    #[must_use]
    pub fn output(now_ms: i64, change: OutputChange<'_>) -> Self {
        let mut head = now_ms.to_le_bytes().to_vec();
        head.push(u8::from(change.stalled));
        head.extend_from_slice(&change.since_ms.to_le_bytes());
        head.extend_from_slice(change.name.as_bytes());
        Self { kind: OUTPUT, head, topic: Bytes::new(), payload: Bytes::new(), cost: 0, delivery: None }
    }
}

/// What the lane has to do for a message, come now or judged again. What is no report is refused, and kept; what it holds
/// before its fault may be decoded first.
fn cost_of(payload: &[u8], size: Size) -> u64 {
    MESSAGE_COST + (size.samples + size.values + payload.len() / BYTES_A_UNIT) as u64
}

/// An output of alerts has stalled, or moves again: journaled, so that a replay raises and ends the same alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputChange<'a> {
    /// The output.
    pub name: &'a str,
    /// Since when it had made no progress.
    pub since_ms: i64,
    /// Whether it is stalled now.
    pub stalled: bool,
}

impl Entry for Entering {
    fn kind(&self) -> u8 {
        self.kind
    }

    fn parts(&self) -> [&[u8]; 4] {
        [&self.head, &self.topic, &self.payload, &[]]
    }

    fn cost(&self) -> u64 {
        self.cost
    }

    fn is_recorded(&self) -> bool {
        self.kind != NO_RECORD
    }
}

/// A journal record, read.
#[derive(Debug)]
pub struct Journaled<'a> {
    /// The gateway's clock, milliseconds since 1970.
    pub at_ms: i64,
    /// As delivered; empty for what is no message.
    pub topic: &'a [u8],
    /// As delivered; empty for what is no message.
    pub payload: &'a [u8],
    /// Which quarantine record is to be judged again.
    pub redrive_of: Option<u64>,
    /// A change of an output: for the alert log alone, not for the lane's core.
    pub output: Option<OutputChange<'a>>,
    ranges: Vec<(u64, u64)>,
    arrival: Option<Arrival>,
    listened_ms: u32,
    lsn: u64,
    write_off: Option<WriteOff<'a>>,
}

impl Journaled<'_> {
    /// As the lane takes it.
    #[must_use]
    pub fn event(&self) -> Event<'_> {
        if let Some(write_off) = self.write_off {
            return Event::WriteOff(write_off);
        }
        match (self.arrival, self.redrive_of) {
            (Some(arrival), None) => Event::Message { arrival, topic: self.topic, payload: self.payload },
            (Some(arrival), Some(_)) => {
                Event::Redrive { arrival, topic: self.topic, payload: self.payload, refused: &self.ranges }
            }
            (None, _) => Event::Tick { lsn: self.lsn, now_ms: self.at_ms, listened_ms: self.listened_ms },
        }
    }
}

/// Reads a journal record; `None` where it is of a kind or shape that this version does not write.
#[must_use]
pub fn read(lsn: u64, kind: u8, mut payload: &[u8]) -> Option<Journaled<'_>> {
    let rest = &mut payload;
    let at_ms = rest.try_get_i64_le().ok()?;
    let journaled = Journaled {
        at_ms,
        topic: &[],
        payload: &[],
        redrive_of: None,
        output: None,
        ranges: Vec::new(),
        arrival: None,
        listened_ms: 0,
        lsn,
        write_off: None,
    };
    match kind {
        TICK => Some(Journaled { listened_ms: rest.try_get_u32_le().ok()?, ..journaled }),
        WRITE_OFF => Some(Journaled { write_off: Some(read_write_off(lsn, at_ms, rest)?), ..journaled }),
        MESSAGE => {
            let flags = rest.try_get_u8().ok()?;
            let arrival = Arrival { lsn, at_ms, live: flags & LIVE != 0, alarm: flags & ALARM != 0 };
            let topic = take_sized(rest)?;
            Some(Journaled { topic, payload: rest, arrival: Some(arrival), ..journaled })
        }
        REDRIVE => {
            let redrive_of = Some(rest.try_get_u64_le().ok()?);
            let count = usize::from(rest.try_get_u16_le().ok()?);
            // A count that the record cannot hold asks for no memory.
            if rest.len() < count * 16 {
                return None;
            }
            let pair = |rest: &mut &[u8]| Some((rest.try_get_u64_le().ok()?, rest.try_get_u64_le().ok()?));
            let ranges = (0..count).map(|_| pair(rest)).collect::<Option<_>>()?;
            let arrival = Arrival { lsn, at_ms, live: false, alarm: false };
            let topic = take_sized(rest)?;
            Some(Journaled { topic, payload: rest, redrive_of, ranges, arrival: Some(arrival), ..journaled })
        }
        OUTPUT => {
            let (stalled, since_ms) = (rest.try_get_u8().ok()? == 1, rest.try_get_i64_le().ok()?);
            let output = OutputChange { name: std::str::from_utf8(rest).ok()?, since_ms, stalled };
            Some(Journaled { output: Some(output), ..journaled })
        }
        _ => None,
    }
}

fn read_write_off<'a>(lsn: u64, at_ms: i64, rest: &mut &'a [u8]) -> Option<WriteOff<'a>> {
    let (samples, before) = (rest.try_get_u64_le().ok()?, rest.try_get_u64_le().ok()?);
    let (device, by, reason) = (take_sized(rest)?, take_sized(rest)?, take_sized(rest)?);
    let text = |bytes| core::str::from_utf8(bytes).ok();
    Some(WriteOff {
        lsn,
        at_ms,
        device: Id::new(text(device)?).ok()?,
        samples,
        before,
        reason: text(reason)?,
        by: text(by)?,
    })
}

/// Takes bytes that their length, u16, stands before.
fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.try_get_u16_le().ok()?;
    let (head, tail) = rest.split_at_checked(length.into())?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hunhe_proto::{
        encode::{BlockDraft, ColumnDraft, Draft, encode},
        reading::Header,
    };

    #[test]
    fn a_message_costs_what_is_decoded_of_it_though_it_ends_in_a_fault() {
        let values = [1_i64; 4_096];
        let column = |channel| ColumnDraft { channel, values: &values, quality: &[] };
        let columns: Vec<ColumnDraft<'_>> = (1..=16).map(column).collect();
        let blocks = [BlockDraft { t0: 1, step: 0, dt: &[], samples: 4_096, columns: &columns }];
        let draft = Draft { header: Header { boot: 1, ..Header::default() }, drops: &[], blocks: &blocks };
        let mut payload = vec![0; 64 * 1024];
        let length = encode(&draft, &mut payload).unwrap();
        payload.truncate(length);
        assert!(length < 10_000, "a bit a value: {length}");
        let arrival = Arrival { lsn: 0, at_ms: 0, live: true, alarm: false };
        let cost = |payload: Vec<u8>| Entering::message(arrival, Bytes::new(), payload.into(), None).cost();
        let whole = cost(payload.clone());
        payload.push(0xff);
        assert!(whole >= 65_536 && cost(payload) == whole, "{whole}");
    }
}
