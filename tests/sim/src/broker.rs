//! A broker as far as MQTT 3.1.1 at QoS 1 goes: sessions that persist or not, packet ids, redelivery, retained messages,
//! takeover of a client id, a window of unacknowledged deliveries. What it remembers over its own crash, the crash says.
//!
//! Pure: packets in, packets out. Time and loss are the network's.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// The gateway's session for reports.
    Up,
    /// The gateway's session for alarms.
    Alarm,
    /// The gateway's session for watermarks.
    Out,
    /// An agent.
    Agent(usize),
}

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its topic.
    pub topic: Rc<str>,
    /// Its payload.
    pub payload: Rc<[u8]>,
    /// To be kept, or was kept.
    pub retain: bool,
}

/// What goes over a connection.
#[derive(Debug, Clone)]
pub enum Packet {
    /// A client's first.
    Connect {
        /// It wants no session.
        clean: bool,
    },
    /// The broker's first.
    ConnAck {
        /// There was a session.
        present: bool,
    },
    /// A client wants these.
    Subscribe(Vec<Rc<str>>),
    /// The broker grants it or not.
    SubAck(bool),
    /// A message.
    Publish {
        /// The packet's id.
        packet: u16,
        /// It was sent before.
        again: bool,
        /// The message.
        message: Message,
    },
    /// A message was taken.
    PubAck(u16),
    /// A client leaves in good order.
    Disconnect,
}

/// How a broker may break the rules, or bend them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manners {
    /// Redelivers without saying so.
    pub hides_repeats: bool,
    /// Delivers every n-th message twice.
    pub doubles_every: Option<u64>,
    /// Refuses every subscription.
    pub refuses_subscriptions: bool,
    /// Acknowledges nothing that is published.
    pub never_acknowledges: bool,
}

/// What is left of sessions and retained messages after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembers {
    /// Everything.
    All,
    /// What was there at its last save.
    Saved,
    /// Nothing.
    Nothing,
}

#[derive(Debug, Clone, Default)]
struct Session {
    clean: bool,
    connection: Option<u64>,
    filters: Vec<Rc<str>>,
    waiting: VecDeque<Message>,
    in_flight: VecDeque<(u16, Message)>,
    last_packet: u16,
}

/// The broker.
#[derive(Debug, Default)]
pub struct Broker {
    sessions: BTreeMap<Client, Session>,
    retained: BTreeMap<Rc<str>, Message>,
    connections: BTreeMap<u64, Client>,
    saved: (BTreeMap<Client, Session>, BTreeMap<Rc<str>, Message>),
    /// How it behaves.
    pub manners: Manners,
    delivered: u64,
    /// To be sent, by connection.
    pub out: Vec<(u64, Packet)>,
    /// Connections that it closed.
    pub closed: Vec<u64>,
}

/// Deliveries to one client that may be unacknowledged.
const WINDOW: usize = 20;

impl Broker {
    /// A packet came over a connection.
    pub fn take(&mut self, connection: u64, client: Client, packet: Packet) {
        if let Packet::Connect { clean } = packet {
            return self.connect(connection, client, clean);
        }
        if self.connections.get(&connection) != Some(&client) {
            return;
        }
        match packet {
            Packet::Subscribe(filters) => self.subscribe(connection, client, &filters),
            Packet::Publish { packet, message, .. } => {
                if !self.manners.never_acknowledges {
                    self.out.push((connection, Packet::PubAck(packet)));
                }
                self.publish(message);
            }
            Packet::PubAck(packet) => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    session.in_flight.retain(|(known, _)| *known != packet);
                }
                self.deliver(client);
            }
            Packet::Disconnect => self.lost(connection),
            Packet::Connect { .. } | Packet::ConnAck { .. } | Packet::SubAck(_) => {}
        }
    }

    /// A connection is gone.
    pub fn lost(&mut self, connection: u64) {
        let Some(client) = self.connections.remove(&connection) else { return };
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if session.connection == Some(connection) {
            session.connection = None;
            if session.clean {
                self.sessions.remove(&client);
            }
        }
    }

    /// Writes its sessions down, as brokers do now and then.
    pub fn save(&mut self) {
        let mut sessions = self.sessions.clone();
        sessions.retain(|_, session| !session.clean);
        self.saved = (sessions, self.retained.clone());
    }

    /// It dies, with all connections.
    pub fn crash(&mut self, remembers: Remembers) {
        self.out.clear();
        self.closed.clear();
        self.connections.clear();
        match remembers {
            Remembers::All => {}
            Remembers::Saved => (self.sessions, self.retained) = self.saved.clone(),
            Remembers::Nothing => {
                self.sessions.clear();
                self.retained.clear();
                self.saved = Default::default();
            }
        }
        self.sessions.retain(|_, session| !session.clean);
        self.sessions.values_mut().for_each(|session| session.connection = None);
    }

    /// Forgets a client's session while it is connected or not, as an operator or a bound may: what waited there is gone.
    pub fn forget(&mut self, client: Client) {
        if let Some(session) = self.sessions.remove(&client)
            && let Some(connection) = session.connection
        {
            self.connections.remove(&connection);
            self.closed.push(connection);
        }
    }

    fn connect(&mut self, connection: u64, client: Client, clean: bool) {
        let session = self.sessions.entry(client).or_default();
        if let Some(before) = session.connection.replace(connection) {
            self.connections.remove(&before);
            self.closed.push(before);
        }
        self.connections.insert(connection, client);
        let present = !clean && !session.clean && !session.filters.is_empty();
        if !present {
            *session = Session { connection: Some(connection), ..Session::default() };
        }
        session.clean = clean;
        self.out.push((connection, Packet::ConnAck { present }));
        let again = !self.manners.hides_repeats;
        for (packet, message) in &session.in_flight {
            let message = message.clone();
            self.out.push((connection, Packet::Publish { packet: *packet, again, message }));
        }
        self.deliver(client);
    }

    fn subscribe(&mut self, connection: u64, client: Client, filters: &[Rc<str>]) {
        let granted = !self.manners.refuses_subscriptions;
        self.out.push((connection, Packet::SubAck(granted)));
        let Some(session) = self.sessions.get_mut(&client).filter(|_| granted) else { return };
        for filter in filters {
            if !session.filters.contains(filter) {
                session.filters.push(Rc::clone(filter));
            }
            let kept = self.retained.iter().filter(|(topic, _)| matches(filter, topic));
            session.waiting.extend(kept.map(|(_, message)| message.clone()));
        }
        self.deliver(client);
    }

    /// Somebody published this.
    pub fn publish(&mut self, message: Message) {
        if message.retain {
            self.retained.insert(Rc::clone(&message.topic), message.clone());
        }
        let mut reached = Vec::new();
        for (client, session) in &mut self.sessions {
            if session.filters.iter().any(|filter| matches(filter, &message.topic)) {
                session.waiting.push_back(Message { retain: false, ..message.clone() });
                reached.push(*client);
            }
        }
        reached.into_iter().for_each(|client| self.deliver(client));
    }

    fn deliver(&mut self, client: Client) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let Some(connection) = session.connection else { return };
        while session.in_flight.len() < WINDOW
            && let Some(message) = session.waiting.pop_front()
        {
            session.last_packet = if session.last_packet == 500 { 1 } else { session.last_packet + 1 };
            let packet = session.last_packet;
            session.in_flight.push_back((packet, message.clone()));
            self.delivered += 1;
            let twice = self.manners.doubles_every.is_some_and(|every| self.delivered.is_multiple_of(every));
            for _ in 0..=u8::from(twice) {
                let message = message.clone();
                self.out.push((connection, Packet::Publish { packet, again: false, message }));
            }
        }
    }
}

/// Does a topic match a filter with `+` in it?
fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    filter.split('/').all(|wanted| levels.next().is_some_and(|level| wanted == "+" || wanted == level))
        && levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_whole_topics() {
        assert!(matches("hunhe/v1/+/+/up", "hunhe/v1/0a/g-1/up"));
        assert!(!matches("hunhe/v1/+/+/up", "hunhe/v1/0a/g-1/alarm"));
        assert!(!matches("hunhe/v1/+/+/up", "hunhe/v1/0a/up"));
        assert!(!matches("hunhe/v1/+/+/up", "hunhe/v1/0a/g-1/up/x"));
    }

    #[test]
    fn a_session_outlives_its_connection_and_delivers_again() {
        let mut broker = Broker::default();
        let message = Message { topic: "a/b".into(), payload: Rc::from([1_u8].as_slice()), retain: false };
        broker.take(1, Client::Up, Packet::Connect { clean: false });
        broker.take(1, Client::Up, Packet::Subscribe(vec!["a/+".into()]));
        broker.take(2, Client::Agent(0), Packet::Connect { clean: false });
        broker.take(2, Client::Agent(0), Packet::Publish { packet: 9, again: false, message });
        broker.lost(1);
        broker.out.clear();
        broker.take(3, Client::Up, Packet::Connect { clean: false });
        assert!(matches!(broker.out[0], (3, Packet::ConnAck { present: true })));
        assert!(matches!(broker.out[1], (3, Packet::Publish { packet: 1, again: true, .. })));
        broker.take(3, Client::Up, Packet::PubAck(1));
        broker.lost(3);
        broker.out.clear();
        broker.take(4, Client::Up, Packet::Connect { clean: false });
        assert_eq!(broker.out.len(), 1, "what was acknowledged does not come again");
    }
}
