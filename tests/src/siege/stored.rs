//! What the store itself holds of the honest: the ledger is the gateway's own word.
//!
//! Households' devices are asked for by their pseudonyms, which the gateway's own folder tells whoever runs it.

use std::{collections::HashMap, fs, path::Path};

use serde_json::Value;

use crate::now_ms;

/// Devices that are looked at behind each stage, of each kind.
pub(super) const LOOKED_AT: usize = 40;
/// Older than any honest sample.
const BACK_MS: i64 = 30 * 86_400_000;

/// Devices that are named in words; the others are counted.
const NAMED: usize = 3;

/// The names under which households' devices are shown, by device.
pub(super) fn pseudonyms(data_dir: &Path) -> HashMap<String, String> {
    let text = fs::read_to_string(data_dir.join("pseudonyms.csv")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(','));
    pairs.map(|(device, shown)| (device.to_owned(), shown.to_owned())).collect()
}

/// As many faults as people read.
pub(super) fn shown(mut faults: Vec<String>) -> Vec<String> {
    let more = faults.len().saturating_sub(NAMED);
    faults.truncate(NAMED);
    faults.extend((more > 0).then(|| format!("the store is wrong about {more} devices more")));
    faults
}

/// Where the samples of one device's channel are asked for.
pub(super) fn path(device: &str, channel: &str) -> String {
    let (from, to) = (now_ms() - BACK_MS, now_ms() + 86_400_000);
    format!("/api/v1/devices/{device}/series?channel={channel}&from={from}&to={to}")
}

/// What is wrong with an answer, in words.
pub(super) fn fault(device: &str, expected: u64, answer: Option<&Value>) -> Option<String> {
    let values = answer.and_then(|answer| answer["values"].as_array());
    let Some(values) = values else { return Some(format!("the store says nothing of {device}")) };
    let held = values.iter().filter(|value| value.is_number()).count() as u64;
    (held != expected).then(|| format!("the store holds {held} samples of {device}, which sent {expected}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn many_faults_are_counted() {
        let faults: Vec<String> = (0..5).map(|number| number.to_string()).collect();
        assert_eq!(shown(faults), ["0", "1", "2", "the store is wrong about 2 devices more"]);
        assert_eq!(shown(vec!["0".into()]), ["0"]);
    }

    #[test]
    fn the_store_must_hold_as_many_samples_as_were_sent() {
        let found = |expected, answer: Option<&Value>| fault("h-1", expected, answer);
        assert_eq!(found(2, Some(&json!({ "values": [1.0, 2] }))), None);
        let words = found(2, Some(&json!({ "values": [1.0, null] })));
        assert_eq!(words.as_deref(), Some("the store holds 1 samples of h-1, which sent 2"));
        assert!(found(1, Some(&json!({ "values": [1.0, 2.0] }))).is_some(), "one too many was forged");
        assert!(found(0, None).is_some(), "no answer proves nothing");
    }
}
