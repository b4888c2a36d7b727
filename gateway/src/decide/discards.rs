//! Which discards of the quarantine are new to the ledger.
//!
//! The store reports a discard again after a crash that the ledger's checkpoint did not know of. Numbers tell those from
//! the ones that were counted: `counted` is in the checkpoint with the counts that it stands for.

use hunhe_store::Discard;

/// The discards behind `counted`, each once, which then is the last of them.
pub(super) fn uncounted<'d>(discards: &'d [Discard], counted: &mut u64) -> impl Iterator<Item = &'d Discard> {
    discards.iter().filter(move |discard| {
        let is_new = discard.number > *counted;
        if is_new {
            *counted = discard.number;
        }
        is_new
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hunhe_proto::id::Id;
    use hunhe_store::RecordId;

    #[test]
    fn a_discard_that_is_reported_again_counts_once() {
        let discard = |number| Discard {
            number,
            id: RecordId::Message { source_lsn: number },
            device: Id::new("a").unwrap(),
            boot: 1,
            samples: 1,
        };
        let mut counted = 2;
        let mut numbers = |reported: &[u64]| {
            let discards: Vec<Discard> = reported.iter().copied().map(discard).collect();
            uncounted(&discards, &mut counted).map(|discard| discard.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&[1, 2, 3, 4]), [3, 4], "behind what the checkpoint counted");
        assert_eq!(numbers(&[3, 4, 5]), [5]);
        assert_eq!(numbers(&[5]), [0; 0]);
    }
}
