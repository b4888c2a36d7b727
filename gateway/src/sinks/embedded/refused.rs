//! Quarantine: refused messages and conflicts go in; what was judged again and accepted comes out.

use super::{EmbeddedError, Sink};
use crate::decided::{Confirmation, Refused, RefusedParts, Samples, StoredChannel, feed::Feed};
use hunhe_gateway_core::event::Confirmed;
use hunhe_proto::{
    encode::{BlockDraft, ColumnDraft, Draft, encode},
    reading::Header,
};
use hunhe_store::{Conflict, NewRecord, RecordId};

/// Why the loser of two samples at one time is in quarantine.
const CONFLICT: &str = "conflict";

impl Sink {
    /// The loser of two samples at one time stays in the store's own list, and moves in the ledger.
    pub(super) fn quarantine_conflict(
        &mut self,
        samples: &Samples<'_>,
        conflict: &Conflict,
        confirm: bool,
    ) -> Result<(), EmbeddedError> {
        let report = self.as_report(samples.device, conflict);
        let ranges = [(conflict.seq, 1, CONFLICT)];
        let arrival_ms = self.options.clock.now_ms();
        let body = RefusedParts {
            source_lsn: samples.source_lsn,
            device: Some(samples.device),
            arrival_ms,
            boot: conflict.boot,
            redrive_of: None,
            announced: false,
            reason: CONFLICT,
            topic: hunhe_proto::topic::up(samples.device).as_bytes(),
            payload: &report,
        }
        .to_record(ranges.into_iter());
        self.put(&NewRecord {
            id: RecordId::Conflict { source_lsn: samples.source_lsn, boot: conflict.boot, seq: conflict.seq },
            arrival_ms,
            device: Some(samples.device),
            boot: conflict.boot,
            // Where another sink is of record, the ledger hears nothing of it.
            samples: self.options.of_record.into(),
            reason: CONFLICT,
            body: &body,
        })?;
        if conflict.was_stored && confirm {
            self.open.push(displaced(samples.source_lsn, samples.device, conflict.boot));
        }
        Ok(())
    }

    /// A source record that was written before a crash: its losers are in quarantine, or were discarded from there, and are
    /// reported as displaced, whichever sample of the two it was.
    pub(super) fn tell_conflicts_again(&mut self, source_lsn: u64) -> Result<(), EmbeddedError> {
        let conflicts = self.store.conflicts_of(source_lsn)?;
        self.open.extend(conflicts.into_iter().map(|(device, boot)| displaced(source_lsn, device, boot)));
        Ok(())
    }

    /// The loser as the report it could have come in, so that it can be looked at like any other.
    fn as_report(&self, device: hunhe_proto::id::Id, conflict: &Conflict) -> Vec<u8> {
        let Some(index) = self.registry.find(device) else { return Vec::new() };
        let rules = self.registry.class_of(index);
        let unit_ms = i64::from(rules.axis.unit_ms.max(1));
        let quality = [conflict.quality];
        // As the newest version has them: the sample may have been stored under an older one.
        let values: Vec<(u16, i64)> = conflict
            .values
            .iter()
            .filter_map(|&(bits, value)| {
                let channel = StoredChannel::from_bits(bits);
                let decimals = rules.class.channels[rules.position(channel.number())?].decimals;
                Some((channel.number(), value.saturating_mul(channel.factor_to(decimals))))
            })
            .collect();
        let columns: Vec<ColumnDraft<'_>> = values
            .iter()
            .map(|(channel, value)| ColumnDraft {
                channel: *channel,
                values: std::slice::from_ref(value),
                quality: &quality,
            })
            .collect();
        let block =
            BlockDraft { t0: conflict.time_ms / unit_ms, step: 0, dt: &[], samples: 1, columns: &columns };
        let class_version = Some(rules.class.version);
        let header = Header { boot: conflict.boot, seq: conflict.seq, class_version, ..Header::default() };
        let mut out = vec![0; hunhe_proto::reading::REPORT_BYTES_MAX];
        let written = encode(&Draft { header, drops: &[], blocks: &[block] }, &mut out);
        // One sample of at most 32 channels always fits.
        out.truncate(written.unwrap_or(0));
        out
    }

    pub(super) fn take_refused(
        &mut self,
        refused: &Refused<'_>,
        write: bool,
        confirm: bool,
    ) -> Result<(), EmbeddedError> {
        let again = refused.redrive_of;
        if let Some(source_lsn) = again {
            self.redriven = Some((source_lsn, true));
        }
        let samples = refused.samples();
        if write && self.is_wanted(refused)? {
            self.put(&NewRecord {
                id: RecordId::Message { source_lsn: again.unwrap_or(refused.source_lsn) },
                arrival_ms: refused.arrival_ms,
                device: refused.device,
                boot: refused.boot,
                samples: u32::try_from(samples).unwrap_or(u32::MAX),
                reason: refused.reason,
                body: &refused.to_record(),
            })?;
        }
        if let Some(device) = refused.device.filter(|_| confirm && refused.announced && samples > 0) {
            let confirmed = Confirmed { handled: samples, quarantined: samples, ..Confirmed::default() };
            self.open.push(Confirmation {
                source_lsn: refused.source_lsn,
                device,
                index: None,
                boot: refused.boot,
                confirmed,
            });
        }
        Ok(())
    }

    /// A record that was judged again and names no samples, as of a device unknown by now, must not take the place of one
    /// that does.
    fn is_wanted(&self, refused: &Refused<'_>) -> Result<bool, EmbeddedError> {
        let Some(source_lsn) = refused.redrive_of.filter(|_| refused.samples() == 0) else { return Ok(true) };
        let known = self.store.record(RecordId::Message { source_lsn })?;
        Ok(known.is_some_and(|known| known.head.samples == 0))
    }

    fn put(&mut self, record: &NewRecord<'_>) -> Result<(), EmbeddedError> {
        self.store.put_record(record)?;
        self.checkpoint_due |= self.store.is_checkpoint_due();
        Ok(())
    }

    /// What was judged again leaves the quarantine, unless some of it was refused once more.
    pub(super) fn end_redrive(&mut self) -> Result<(), EmbeddedError> {
        match self.redriven.take() {
            Some((source_lsn, false)) => {
                self.store.remove_record(RecordId::Message { source_lsn })?;
            }
            Some((source_lsn, true)) => self.store.release_record(RecordId::Message { source_lsn })?,
            None => {}
        }
        Ok(())
    }

    /// Lets records be judged again once every order for it that the journal had at the start has been carried out here.
    pub(super) fn open_redrives(&mut self, feed: &Feed) {
        if self.store.are_redrives_open() {
            return;
        }
        // What is decided is visible before the lane says so.
        let handled = self.ledger.decided_through();
        if self.replay_end.is_none() && handled >= self.options.replay_to {
            self.replay_end = Some(feed.head());
        }
        if self.replay_end.is_some_and(|end| feed.complete().decided_lsn >= end) {
            self.store.open_redrives();
        }
    }

    /// What the last checkpoint has made durable is reported to the ledger; what both of the ledger's checkpoints have
    /// counted is forgotten.
    pub(super) fn report_discards(&mut self) {
        let discards = self.store.discards_after(self.reported);
        if let Some(last) = discards.last() {
            self.reported = last.number;
            self.ledger.discarded(discards);
        }
        self.store.forget_discards(self.ledger.discards_counted());
    }
}

fn displaced(source_lsn: u64, device: hunhe_proto::id::Id, boot: u32) -> Confirmation {
    let confirmed = Confirmed { displaced: 1, ..Confirmed::default() };
    Confirmation { source_lsn, device, index: None, boot, confirmed }
}
