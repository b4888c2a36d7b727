//! How much committed work its reader may have ahead of it. The lane decides records in the journal's order, so an alarm waits
//! for everything before it: ordinary entries are committed only while what is ahead costs less than a bound.
//!
//! Pure: costs and positions in, open or closed out. Urgent entries are counted and never held. While the lane waits for room in
//! the decided log nothing is held: no alarm would pass sooner, and the journal takes what the broker might lose.
//!
//! Bound: positions are kept in steps of a 64th of the bound, so that a flood of small entries needs no list of them.

use super::Lsn;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Lag {
    bound: u64,
    /// Cost of what was taken for a commit and is not decided.
    undecided: u64,
    /// Of it, what is committed: the last record of each step, and the step's cost.
    committed: VecDeque<(Lsn, u64)>,
    /// Nothing is held, whatever is ahead.
    lifted: bool,
}

impl Lag {
    pub(super) fn new(bound: u64) -> Self {
        Self { bound, undecided: 0, committed: VecDeque::new(), lifted: false }
    }

    /// May an ordinary entry be taken?
    pub(super) fn is_open(&self) -> bool {
        self.lifted || self.undecided < self.bound
    }

    pub(super) fn undecided(&self) -> u64 {
        self.undecided
    }

    /// An entry was taken for a commit.
    pub(super) fn take(&mut self, cost: u64) {
        self.undecided = self.undecided.saturating_add(cost);
    }

    /// An entry that was taken is this record, or can never be one.
    pub(super) fn commit(&mut self, record: Option<Lsn>, cost: u64) {
        let Some(lsn) = record else {
            self.undecided = self.undecided.saturating_sub(cost);
            return;
        };
        match self.committed.back_mut() {
            Some((last, step)) if *step < self.bound / 64 => {
                (*last, *step) = (lsn, step.saturating_add(cost))
            }
            _ => self.committed.push_back((lsn, cost)),
        }
    }

    /// Records up to `through` are decided. `waiting`: the next one waits for room. Says whether that opened what was closed.
    pub(super) fn decided(&mut self, through: Lsn, waiting: bool) -> bool {
        let was_open = self.is_open();
        self.lifted = waiting;
        while let Some(&(last, cost)) = self.committed.front()
            && last <= through
        {
            self.committed.pop_front();
            self.undecided = self.undecided.saturating_sub(cost);
        }
        !was_open && self.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_closes_at_the_bound_and_opens_as_the_lane_decides() {
        let mut lag = Lag::new(1_000);
        for lsn in 1..=3 {
            assert!(lag.is_open());
            lag.take(400);
            lag.commit(Some(Lsn(lsn)), 400);
        }
        assert!(!lag.is_open());
        assert!(!lag.decided(Lsn::NONE, false));
        assert!(lag.decided(Lsn(1), false), "800 are ahead");
        lag.take(400);
        assert!(!lag.is_open());
        assert!(lag.decided(Lsn(1), true), "no alarm would pass a lane that waits for room");
        assert!(!lag.decided(Lsn(1), false) && !lag.is_open());
        lag.commit(None, 400);
        assert!(lag.is_open(), "what can never be a record is not waited for");
    }

    /// What a restart replays was never counted here, so that it neither opens nor closes anything.
    #[test]
    fn records_of_an_earlier_run_give_no_credit() {
        let mut lag = Lag::new(10);
        assert!(!lag.decided(Lsn(500), false));
        lag.take(10);
        lag.commit(Some(Lsn(501)), 10);
        assert!(!lag.decided(Lsn(500), false) && !lag.is_open());
        assert!(lag.decided(Lsn(501), false));
    }

    proptest! {
        #[test]
        fn what_is_ahead_is_what_was_taken_and_not_decided_to_a_64th_of_the_bound(
            steps in prop::collection::vec((0..200_u64, 0..4_u64), 1..300),
        ) {
            let mut lag = Lag::new(6_400);
            let (mut costs, mut through) = (vec![0], 0);
            for (cost, decided) in steps {
                lag.take(cost);
                costs.push(cost);
                lag.commit(Some(Lsn(costs.len() as u64 - 1)), cost);
                through = (through + decided).min(costs.len() as u64 - 1);
                lag.decided(Lsn(through), false);
                let ahead: u64 = costs[usize::try_from(through).unwrap() + 1..].iter().sum();
                prop_assert!((ahead..ahead + 300).contains(&lag.undecided()), "{} of {ahead}", lag.undecided());
                prop_assert!(lag.committed.len() as u64 <= lag.undecided() / 100 + 1);
            }
            lag.decided(Lsn(costs.len() as u64), false);
            prop_assert_eq!((lag.undecided(), lag.committed.len()), (0, 0));
        }
    }
}
