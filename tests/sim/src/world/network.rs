//! The network of a history: connections, what is on its way, and what is lost with them.

use super::{Due, Line, World};
use crate::broker::{Client, Packet};

impl World {
    pub(super) fn is_partitioned(&self, client: Client) -> bool {
        match client {
            Client::Agent(agent) => self.edges[agent].partitioned,
            _ => self.gateway.partitioned,
        }
    }

    pub(super) fn latency_ms(&mut self) -> u64 {
        if self.random.one_in(50) { self.random.between(50, 2_000) } else { self.random.between(1, 40) }
    }

    pub(super) fn open(&mut self, client: Client, clean: bool) {
        self.trace.note(self.now_ms, "network", &format!("{client:?} connects"), 0, 0);
        self.tear(client, false);
        self.last_line += 1;
        let line = self.last_line;
        let cut = self.is_partitioned(client);
        self.lines.insert(line, Line { client, cut, to_broker_ms: 0, to_client_ms: 0 });
        self.current.insert(client, line);
        if self.broker_up || cut {
            self.send(client, Packet::Connect { clean });
        } else {
            self.after(5, Due::LostAtClient(line));
        }
    }

    pub(super) fn send(&mut self, client: Client, packet: Packet) {
        if let Packet::Publish { message, .. } = &packet
            && matches!(client, Client::Agent(_))
            && !message.retain
            && self.sent.len() < 500
        {
            self.sent.push(message.clone());
        }
        let latency_ms = self.latency_ms();
        let Some(&number) = self.current.get(&client) else { return };
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.to_broker_ms = line.to_broker_ms.max(self.now_ms + latency_ms);
        let at_ms = line.to_broker_ms;
        self.schedule(at_ms, Due::ToBroker(number, packet));
    }

    /// The client forgets its connection; the broker hears of it now or, where nobody tells it, much later.
    pub(super) fn tear(&mut self, client: Client, silently: bool) {
        let Some(number) = self.current.remove(&client) else { return };
        let at_once = !silently && self.lines.get(&number).is_some_and(|line| !line.cut);
        let wait_ms = if at_once { self.latency_ms() } else { self.random.between(1_000, 45_000) };
        let Some(line) = self.lines.get(&number) else { return };
        let at_ms =
            if at_once { (self.now_ms + wait_ms).max(line.to_broker_ms) } else { self.now_ms + wait_ms };
        self.schedule(at_ms, Due::LostAtBroker(number));
    }

    /// A connection breaks without either side being told.
    pub(super) fn cut(&mut self, client: Client) {
        let Some(&number) = self.current.get(&client) else { return };
        if let Some(line) = self.lines.get_mut(&number) {
            line.cut = true;
        }
        let (client_ms, broker_ms) = (self.random.between(10, 20_000), self.random.between(10, 45_000));
        self.after(client_ms, Due::LostAtClient(number));
        self.after(broker_ms, Due::LostAtBroker(number));
    }

    pub(super) fn at_broker(&mut self, number: u64, packet: Packet) {
        let Some(line) = self.lines.get(&number) else { return };
        if line.cut || !self.broker_up {
            return;
        }
        let client = line.client;
        if matches!(packet, Packet::Connect { .. } | Packet::Subscribe(_)) {
            self.trace.note(self.now_ms, "broker", &format!("{client:?} {packet:?}"), number, 0);
        }
        self.broker.take(number, client, packet);
        self.flush_broker();
    }

    pub(super) fn flush_broker(&mut self) {
        for (number, packet) in std::mem::take(&mut self.broker.out) {
            let latency_ms = self.latency_ms();
            let Some(line) = self.lines.get_mut(&number) else { continue };
            line.to_client_ms = line.to_client_ms.max(self.now_ms + latency_ms);
            let at_ms = line.to_client_ms;
            self.schedule(at_ms, Due::ToClient(number, packet));
        }
        for number in std::mem::take(&mut self.broker.closed) {
            let latency_ms = self.latency_ms();
            self.after(latency_ms, Due::LostAtClient(number));
        }
    }

    pub(super) fn at_client(&mut self, number: u64, packet: Packet) {
        let Some(line) = self.lines.get(&number) else { return };
        let client = line.client;
        if line.cut || self.current.get(&client) != Some(&number) {
            return;
        }
        match client {
            Client::Agent(agent) => {
                let Some(process) = &mut self.edges[agent].process else { return };
                process.wire().take_packet(&packet);
                self.edges[agent].turn_ms = self.now_ms;
            }
            _ => {
                let Some(process) = &mut self.gateway.process else { return };
                let acts = process.take_packet(client, packet, self.now_ms);
                self.act(acts);
                self.wake_committer();
            }
        }
    }

    pub(super) fn lose_at_client(&mut self, number: u64) {
        let Some(line) = self.lines.remove(&number) else { return };
        self.trace.note(self.now_ms, "network", &format!("{:?} is cut off", line.client), number, 0);
        self.schedule(self.now_ms, Due::LostAtBroker(number));
        if self.current.get(&line.client) != Some(&number) {
            return;
        }
        self.current.remove(&line.client);
        match line.client {
            Client::Agent(agent) => {
                if let Some(process) = &mut self.edges[agent].process {
                    process.wire().lost();
                    self.edges[agent].turn_ms = self.now_ms;
                }
            }
            client => {
                if let Some(process) = &mut self.gateway.process {
                    process.lost(client, self.now_ms);
                }
            }
        }
    }
}
