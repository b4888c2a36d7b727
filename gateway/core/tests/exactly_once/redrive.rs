//! A redrive moves samples from quarantine to stored, each once.

use super::*;

/// What a keeper of quarantine records does, by record id, as `lane` asks of it.
#[derive(Default)]
struct Quarantine {
    records: BTreeMap<u32, (Sent, Vec<(u64, u64)>)>,
    in_progress: BTreeSet<u32>,
}

impl Quarantine {
    /// A record is redriven once at a time, and what was accepted leaves it.
    fn redrive(&mut self, lane: &mut Lane, record: u32) -> Option<Decisions> {
        if !self.records.contains_key(&record) || !self.in_progress.insert(record) {
            return None;
        }
        let (sent, refused) = &self.records[&record];
        let decisions = redrive(lane, NOW_MS, "gas-0", sent, refused);
        assert!(decisions.redriven);
        Some(decisions)
    }

    fn done(&mut self, record: u32, decisions: &Decisions) {
        self.in_progress.remove(&record);
        let again: Vec<_> = decisions.refused.iter().map(|range| (range.seq, range.count)).collect();
        match again.is_empty() {
            true => self.records.remove(&record),
            false => self
                .records
                .get_mut(&record)
                .map(|kept| (kept.0.clone(), std::mem::replace(&mut kept.1, again))),
        };
    }
}

#[test]
fn a_redrive_moves_samples_from_quarantine_to_stored_once_and_keeps_the_rest() {
    // The class's range was too narrow; then a corrected registry is loaded.
    let narrow = GAS.replace("max = 99999.999", "max = 0.005").replace("rollover = 100000.0", "");
    let mut lane = Lane::new(registry_of(&[&narrow, FLOW]), Policy::default());
    let device = device("gas-0");
    let sent = Sent::new(1, 0).block(START_H, 1, &[0, 20, 30, 45]);
    let decisions = send(&mut lane, NOW_MS, "gas-0", &sent);
    let refused: Vec<_> = decisions.refused.iter().map(|range| (range.seq, range.count)).collect();
    assert_eq!((accepted_seqs(&decisions), refused.as_slice()), (vec![0], [(1, 3)].as_slice()));
    lane.confirmed(device, 1, Confirmed { handled: 4, stored: 1, quarantined: 3, displaced: 0 });

    let mut restored = Lane::new(registry(), Policy::default());
    restored.restore(lane.snapshot());
    let mut lane = restored;
    let mut quarantine = Quarantine::default();
    quarantine.records.insert(9, (sent.clone(), refused));

    let first = quarantine.redrive(&mut lane, 9).unwrap();
    assert!(quarantine.redrive(&mut lane, 9).is_none(), "one at a time");
    assert_eq!(accepted_seqs(&first), [1, 2]);
    assert_eq!(first.refused.iter().map(|range| (range.seq, range.count)).collect::<Vec<_>>(), [(3, 1)]);
    let seen = ledger(&lane);
    assert_eq!((seen.stored, seen.outstanding, seen.quarantined, seen.unexplained()), (1, 2, 1, 0));
    lane.confirmed(device, 1, Confirmed { handled: 2, stored: 2, quarantined: 0, displaced: 0 });
    quarantine.done(9, &first);
    let seen = ledger(&lane);
    assert_eq!((seen.stored, seen.outstanding, seen.quarantined, seen.unexplained()), (3, 0, 1, 0));

    // Again: only what was refused again is judged, and it stays.
    let second = quarantine.redrive(&mut lane, 9).unwrap();
    quarantine.done(9, &second);
    assert_eq!(accepted_seqs(&second), []);
    assert_eq!(ledger(&lane), seen);
    let counted: Vec<_> = lane.counters().samples_refused.iter().collect();
    assert_eq!(counted, [(&"out_of_range".to_string(), &3)], "counted when refused first");
    lane.discarded(device, 1, 1);
    let seen = ledger(&lane);
    assert_eq!((seen.quarantined, seen.declared_lost, seen.unexplained()), (0, 1, 0));
}

#[test]
fn a_redrive_may_overtake_the_word_that_its_samples_are_in_quarantine() {
    let mut lane = lane();
    let device = device("gas-0");
    let sent = Sent::new(1, 0).block(0, 1, &[10, 20]);
    send(&mut lane, NOW_MS, "gas-0", &sent);
    let mut wide = Lane::new(registry(), Policy { accept_past_ms: NOW_MS, ..Policy::default() });
    wide.restore(lane.snapshot());
    assert_eq!(accepted_seqs(&redrive(&mut wide, NOW_MS, "gas-0", &sent, &[(0, 2), (0, 9), (1, 1)])), [0, 1]);
    assert_eq!((ledger(&wide).outstanding, ledger(&wide).unexplained()), (2, 0));
    wide.confirmed(device, 1, Confirmed { handled: 2, stored: 0, quarantined: 2, displaced: 0 });
    assert_eq!((ledger(&wide).outstanding, ledger(&wide).unexplained()), (2, 0));
    wide.confirmed(device, 1, Confirmed { handled: 2, stored: 2, quarantined: 0, displaced: 0 });
    assert_eq!((ledger(&wide).stored, ledger(&wide).outstanding, ledger(&wide).unexplained()), (2, 0, 0));
}

#[test]
fn a_message_refused_whole_is_redriven_like_one_come_now() {
    let mut lane = lane();
    let sent = samples(1, 0..3, 0);
    let decisions = redrive(&mut lane, NOW_MS, "gas-0", &sent, &[]);
    assert_eq!((accepted_seqs(&decisions), decisions.redriven), (vec![0, 1, 2], false));
    assert!(redrive(&mut lane, NOW_MS, "gas-0", &sent, &[]).accepted.sets.is_empty(), "and deduplicated");
    assert_eq!((ledger(&lane).outstanding, ledger(&lane).duplicates), (3, 3));
}
