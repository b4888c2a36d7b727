//! Who gets one of a bounded number of connections. Pure: the time is an argument, and closing is the caller's.
//!
//! At a bound the connection that has been silent for longest makes room, so that any number of silent ones keeps nobody
//! out who has something to ask. Where all are being answered, the new one is refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// A peer: an IPv4 address, or the network of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peer(IpAddr);

impl Peer {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// Which bound is reached, and nobody is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Peer,
}

/// What to do about a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is room.
    Take,
    /// This one must go first.
    After(u64),
    /// There will be none.
    Refuse(Full),
}

/// The open connections.
#[derive(Debug)]
pub(super) struct Places<C> {
    all_max: usize,
    peer_max: usize,
    next: u64,
    open: BTreeMap<u64, (Peer, C)>,
}

impl<C> Places<C> {
    pub(super) fn new(all_max: usize, peer_max: usize) -> Self {
        Self { all_max, peer_max, next: 0, open: BTreeMap::new() }
    }

    /// Whether there is room for a connection of this peer. `silent_since` tells of an open one since when it has been
    /// silent, if it is.
    pub(super) fn admission(&self, peer: Peer, silent_since: impl Fn(&C) -> Option<Instant>) -> Admission {
        let of_peer = self.open.values().filter(|(other, _)| *other == peer).count();
        let full = if of_peer >= self.peer_max {
            Full::Peer
        } else if self.open.len() >= self.all_max {
            Full::All
        } else {
            return Admission::Take;
        };
        let longest = self
            .open
            .iter()
            .filter(|(_, (other, _))| full == Full::All || *other == peer)
            .filter_map(|(id, (_, connection))| Some((silent_since(connection)?, *id)))
            .min();
        longest.map_or(Admission::Refuse(full), |(_, id)| Admission::After(id))
    }

    /// The one for which `since` tells the earliest time.
    pub(super) fn longest(&self, since: impl Fn(&C) -> Option<Instant>) -> Option<(Instant, &C)> {
        let since = self.open.values().filter_map(|(_, connection)| Some((since(connection)?, connection)));
        since.min_by_key(|(since, _)| *since)
    }

    pub(super) fn open(&mut self, peer: Peer, connection: C) -> u64 {
        self.next += 1;
        self.open.insert(self.next, (peer, connection));
        self.next
    }

    pub(super) fn get(&self, id: u64) -> Option<&C> {
        self.open.get(&id).map(|(_, connection)| connection)
    }

    pub(super) fn close(&mut self, id: u64) {
        self.open.remove(&id);
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn peer(text: &str) -> Peer {
        Peer::of(text.parse().unwrap())
    }

    #[test]
    fn the_longest_silent_makes_room_of_the_peer_at_its_bound_and_of_anyone_at_the_bound_of_all() {
        let begun = Instant::now();
        let at = |second| Some(begun + Duration::from_secs(second));
        let mut places = Places::new(4, 2);
        let (a, b, c) = (peer("192.0.2.1"), peer("192.0.2.2"), peer("192.0.2.3"));
        let silent = |since: &Option<Instant>| *since;
        places.open(a, None);
        let a_silent = places.open(a, at(5));
        assert_eq!(places.admission(a, silent), Admission::After(a_silent));
        places.open(b, at(7));
        let b_longest = places.open(b, at(3));
        assert_eq!(places.admission(b, silent), Admission::After(b_longest));
        assert_eq!(places.admission(a, silent), Admission::After(a_silent), "not another peer's");
        assert_eq!(places.admission(c, silent), Admission::After(b_longest));
        places.close(b_longest);
        assert_eq!((places.len(), places.admission(c, silent)), (3, Admission::Take));
    }

    #[test]
    fn where_all_are_being_answered_the_new_one_is_refused() {
        let mut places = Places::new(3, 2);
        let (a, b) = (peer("192.0.2.1"), peer("192.0.2.2"));
        let busy = |_: &()| None;
        places.open(a, ());
        places.open(a, ());
        assert_eq!(places.admission(a, busy), Admission::Refuse(Full::Peer));
        assert_eq!(places.admission(b, busy), Admission::Take);
        places.open(b, ());
        assert_eq!(places.admission(b, busy), Admission::Refuse(Full::All));
    }

    #[test]
    fn an_ipv6_network_is_one_peer_and_a_mapped_address_is_its_ipv4_one() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
