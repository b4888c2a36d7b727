//! Which notification is next: agents take turns, and notifications of one alert wait for each other. Pure.
//!
//! Fair queueing by start times (Goyal, Vin and Cheng, SIGCOMM 1996), each notification of length one. A notification's turn
//! is one behind its agent's last one, or the present turn where the agent has none waiting. The least turn goes first, the
//! older notification among equals. So a notification waits for one notification of each other agent that has some.
//!
//! Cost: logarithmic in the notifications that wait. Bound: the window's, which enters and removes them.

use hunhe_log::Lsn;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Of an agent with open notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Agent {
    last_turn: u64,
    open: usize,
}

/// The open notifications: those that wait and those that are under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Turns {
    /// The turn of the notification that was begun last.
    now: u64,
    agents: BTreeMap<String, Agent>,
    /// By alert, the oldest first, with their turns.
    alerts: BTreeMap<u64, VecDeque<(u64, Lsn)>>,
    /// The oldest notification of each alert, but for those under way.
    ready: BTreeSet<(u64, Lsn)>,
}

impl Turns {
    /// A notification waits.
    pub(super) fn enter(&mut self, lsn: Lsn, alert: u64, agent: &str) {
        let turn = match self.agents.get_mut(agent) {
            Some(agent) => {
                *agent = Agent { last_turn: agent.last_turn.max(self.now) + 1, open: agent.open + 1 };
                agent.last_turn
            }
            None => {
                self.agents.insert(agent.to_owned(), Agent { last_turn: self.now, open: 1 });
                self.now
            }
        };
        let of_alert = self.alerts.entry(alert).or_default();
        of_alert.push_back((turn, lsn));
        if of_alert.len() == 1 {
            self.ready.insert((turn, lsn));
        }
    }

    /// Those that may be begun, in the order of their turns.
    pub(super) fn ready(&self) -> impl Iterator<Item = Lsn> {
        self.ready.iter().map(|(_, lsn)| *lsn)
    }

    /// Whether the notification may be begun.
    pub(super) fn is_ready(&self, lsn: Lsn, alert: u64) -> bool {
        self.first(alert).is_some_and(|first| first.1 == lsn && self.ready.contains(&first))
    }

    /// The notification is under way.
    pub(super) fn begin(&mut self, alert: u64) {
        if let Some(first) = self.first(alert)
            && self.ready.remove(&first)
        {
            self.now = self.now.max(first.0);
        }
    }

    /// The alert's notification under way waits again.
    pub(super) fn again(&mut self, alert: u64) {
        self.ready.extend(self.first(alert));
    }

    /// The notification needs nothing more.
    pub(super) fn leave(&mut self, lsn: Lsn, alert: u64, agent: &str) {
        let Some(of_alert) = self.alerts.get_mut(&alert) else { return };
        let Some(at) = of_alert.iter().position(|(_, open)| *open == lsn) else { return };
        let left = of_alert.remove(at);
        if at == 0 {
            self.ready.extend(of_alert.front());
        }
        if of_alert.is_empty() {
            self.alerts.remove(&alert);
        }
        left.map(|left| self.ready.remove(&left));
        if let Some(open) = self.agents.get_mut(agent).map(|agent| &mut agent.open) {
            *open -= 1;
            if *open == 0 {
                self.agents.remove(agent);
            }
        }
        if self.alerts.is_empty() {
            self.now = 0;
        }
    }

    /// The alert's open notifications, the oldest first.
    pub(super) fn of_alert(&self, alert: u64) -> impl Iterator<Item = Lsn> {
        self.alerts.get(&alert).into_iter().flatten().map(|(_, lsn)| *lsn)
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    fn first(&self, alert: u64) -> Option<(u64, Lsn)> {
        self.alerts.get(&alert)?.front().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(turns: &Turns) -> Option<Lsn> {
        turns.ready().next()
    }

    /// Begins and ends notifications until none is left; answers them in that order.
    fn drain(turns: &mut Turns, notifications: &[(u64, &str)]) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(lsn) = first(turns) {
            let (alert, agent) = notifications[usize::try_from(lsn.0).unwrap()];
            turns.begin(alert);
            turns.leave(lsn, alert, agent);
            order.push(lsn.0);
        }
        assert_eq!(*turns, Turns::default(), "nothing is left behind");
        order
    }

    fn entered(notifications: &[(u64, &str)]) -> Turns {
        let mut turns = Turns::default();
        for (lsn, (alert, agent)) in (0..).zip(notifications) {
            turns.enter(Lsn(lsn), *alert, agent);
        }
        turns
    }

    #[test]
    fn each_agent_with_letters_has_one_in_each_round() {
        let notifications = [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"), (6, "c")];
        assert_eq!(drain(&mut entered(&notifications), &notifications), [0, 3, 5, 1, 4, 2]);
    }

    #[test]
    fn who_comes_late_waits_for_nobodys_second_notification() {
        let mut notifications: Vec<(u64, &str)> = (0..100).map(|alert| (alert, "a")).collect();
        let mut turns = entered(&notifications);
        for lsn in 0..10 {
            turns.begin(notifications[usize::try_from(lsn).unwrap()].0);
        }
        notifications.push((100, "b"));
        turns.enter(Lsn(100), 100, "b");
        assert_eq!(first(&turns), Some(Lsn(100)));
    }

    #[test]
    fn notifications_of_one_alert_keep_their_order_and_hold_back_no_other() {
        let notifications = [(1, "a"), (1, "a"), (2, "a")];
        let mut turns = entered(&notifications);
        assert_eq!(turns.ready().collect::<Vec<_>>(), [Lsn(0), Lsn(2)]);
        turns.begin(1);
        assert_eq!(turns.ready().collect::<Vec<_>>(), [Lsn(2)]);
        assert!(!turns.is_ready(Lsn(0), 1) && !turns.is_ready(Lsn(1), 1) && turns.is_ready(Lsn(2), 2));
        turns.again(1);
        assert_eq!(turns.ready().collect::<Vec<_>>(), [Lsn(0), Lsn(2)]);
        assert_eq!(drain(&mut turns, &notifications), [0, 1, 2]);
    }
}
