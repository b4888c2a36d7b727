//! A minimal MQTT 3.1.1 publisher over a plain socket, QoS 1 with a window: it says what a test wants said, whether a
//! client library would or not, and costs a fraction of one where a benchmark loads a broker.
//!
//! Deliberately absent: reconnection, subscriptions, keep-alive (it is switched off).

use crate::mqtt::{self, push_length, push_text};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNACK: u8 = 0x20;
const PUBACK: u8 = 0x40;
const PUBLISH_QOS1: u8 = 0x32;
const RETAIN: u8 = 1;

/// One connection.
#[derive(Debug)]
pub struct Publisher {
    socket: TcpStream,
    window: u32,
    /// Published, the answer not yet here.
    unanswered: u32,
    packet_id: u16,
    out: Vec<u8>,
    /// The beginning of an answer of which the rest is to come.
    partial: Vec<u8>,
}

impl Publisher {
    /// Connects with a clean session; at most `window` publishes are unanswered.
    ///
    /// # Errors
    /// No connection, or not accepted.
    pub fn connect(port: u16, client_id: &str, window: u16) -> std::io::Result<Self> {
        Self::connect_with(port, client_id, None, window)
    }

    /// The same with another password than the tests' own.
    ///
    /// # Errors
    /// No connection, or not accepted.
    pub fn connect_with(
        port: u16,
        client_id: &str,
        password: Option<&str>,
        window: u16,
    ) -> std::io::Result<Self> {
        let own = mqtt::password_of(client_id);
        let connect = mqtt::connect_as(client_id, password.unwrap_or(&own), client_id, true);
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        socket.write_all(&connect)?;
        let mut answer = [0; 4];
        socket.read_exact(&mut answer)?;
        if answer[0] != CONNACK || answer[3] != 0 {
            return Err(std::io::Error::other(format!("connection refused: {answer:?}")));
        }
        Ok(Self {
            socket,
            window: window.into(),
            unanswered: 0,
            packet_id: 0,
            out: Vec::with_capacity(2 * BUFFER_BYTES),
            partial: Vec::new(),
        })
    }

    /// Publishes; waits for answers only where the window is full.
    ///
    /// # Errors
    /// The broker ended the connection.
    pub fn publish(&mut self, topic: &[u8], payload: &[u8]) -> std::io::Result<()> {
        self.push(PUBLISH_QOS1, topic, payload)
    }

    /// The same, to be kept by the broker for whoever subscribes later.
    ///
    /// # Errors
    /// The broker ended the connection.
    pub fn publish_retained(&mut self, topic: &[u8], payload: &[u8]) -> std::io::Result<()> {
        self.push(PUBLISH_QOS1 | RETAIN, topic, payload)
    }

    fn push(&mut self, first: u8, topic: &[u8], payload: &[u8]) -> std::io::Result<()> {
        if self.unanswered == self.window {
            self.send()?;
            // Down to half, so that neither side works message by message.
            while self.unanswered > self.window / 2 {
                self.read_answers()?;
            }
        }
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.out.push(first);
        push_length(&mut self.out, 2 + topic.len() + 2 + payload.len());
        push_text(&mut self.out, topic);
        self.out.extend_from_slice(&self.packet_id.to_be_bytes());
        self.out.extend_from_slice(payload);
        self.unanswered += 1;
        if self.out.len() >= BUFFER_BYTES { self.send() } else { Ok(()) }
    }

    /// Sends what is gathered and waits until every publish is answered.
    ///
    /// # Errors
    /// The broker ended the connection.
    pub fn settle(&mut self) -> std::io::Result<()> {
        self.send()?;
        while self.unanswered > 0 {
            self.read_answers()?;
        }
        Ok(())
    }

    fn send(&mut self) -> std::io::Result<()> {
        self.socket.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn read_answers(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let length = self.socket.read(&mut buffer)?;
        if length == 0 {
            return Err(std::io::Error::other("the broker ended the connection"));
        }
        self.partial.extend_from_slice(&buffer[..length]);
        let whole = self.partial.len() / 4 * 4;
        for answer in self.partial[..whole].chunks(4) {
            if answer[0] != PUBACK || answer[1] != 2 {
                return Err(std::io::Error::other(format!("not a PUBACK: {answer:?}")));
            }
            self.unanswered =
                self.unanswered.checked_sub(1).ok_or_else(|| std::io::Error::other("a PUBACK too many"))?;
        }
        self.partial.drain(..whole);
        Ok(())
    }
}
