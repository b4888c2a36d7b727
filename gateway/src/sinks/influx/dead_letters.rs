//! Dead letters as quarantine keeps them: the line as payload, sink and the database's words in place of a topic.

use super::DeadLetter;
use crate::decided::RefusedParts;
use hunhe_store::{NewRecord, RecordId, Store, StoreError};

/// Why a line is in quarantine.
pub const REFUSED: &str = "refused_by_database";

/// Has them on disk when it returns. `of_record`: the ledger counts their samples as quarantined.
///
/// # Errors
/// The store's.
pub fn keep(
    store: &Store,
    sink: &str,
    of_record: bool,
    letters: &[DeadLetter],
    arrival_ms: i64,
) -> Result<(), StoreError> {
    let bodies: Vec<Vec<u8>> = letters.iter().map(|letter| body_of(letter, sink, arrival_ms)).collect();
    let records: Vec<NewRecord<'_>> = letters
        .iter()
        .zip(&bodies)
        .map(|(letter, body)| NewRecord {
            id: RecordId::DeadLetter { source_lsn: letter.source_lsn, hash: hash_of(letter, sink) },
            arrival_ms,
            device: Some(letter.device),
            boot: letter.boot,
            samples: if of_record { letter.samples } else { 0 },
            reason: REFUSED,
            body,
        })
        .collect();
    store.keep_records(&records)
}

fn body_of(letter: &DeadLetter, sink: &str, arrival_ms: i64) -> Vec<u8> {
    RefusedParts {
        source_lsn: letter.source_lsn,
        device: Some(letter.device),
        arrival_ms,
        boot: letter.boot,
        redrive_of: None,
        announced: false,
        reason: REFUSED,
        topic: format!("{sink}: {}", letter.words).as_bytes(),
        payload: letter.line.as_bytes(),
    }
    .to_record([(letter.seq, u64::from(letter.samples), REFUSED)].into_iter())
}

/// The same letter has the same hash, so that a batch repeated after a crash is quarantined once.
fn hash_of(letter: &DeadLetter, sink: &str) -> u64 {
    let numbers = crc32c::crc32c_append(letter.boot, &letter.seq.to_le_bytes());
    let names = crc32c::crc32c_append(numbers, letter.device.as_str().as_bytes());
    let origin = crc32c::crc32c_append(names, sink.as_bytes());
    u64::from(origin) << 32 | u64::from(crc32c::crc32c(letter.line.as_bytes()))
}
