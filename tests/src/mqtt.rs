//! MQTT 3.1.1 as bytes, both ways: what tests say to the programs, and read of what they say, without any client
//! library's opinion of it.
//!
//! Deliberately absent: refusal. What is no packet comes out as [`Packet::Other`], and a packet may be written that no
//! library would.

/// A publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Sent before.
    pub dup: bool,
    /// 0 to 2.
    pub qos: u8,
    /// To be kept, or kept before.
    pub retain: bool,
    /// Where to.
    pub topic: String,
    /// Packet id; 0 at QoS 0.
    pub id: u16,
    /// What.
    pub payload: Vec<u8>,
}

/// A packet, as far as tests look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A client says who it is.
    Connect {
        /// Its id.
        client_id: String,
        /// It wants no session kept.
        clean: bool,
    },
    /// The broker's answer: session present, return code.
    ConnAck(bool, u8),
    /// A message.
    Publish(Publish),
    /// Its acknowledgement.
    PubAck(u16),
    /// Filters asked for.
    Subscribe {
        /// Packet id.
        id: u16,
        /// The filters.
        filters: Vec<String>,
    },
    /// The broker's answer, a code each.
    SubAck(Vec<u8>),
    /// A sign of life.
    PingReq,
    /// Its answer.
    PingResp,
    /// Good-bye.
    Disconnect,
    /// Anything else, by its first byte.
    Other(u8),
}

/// Takes bytes as they come, gives packets.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Where the next packet begins.
    at: usize,
}

impl Decoder {
    /// Adds bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet.
    pub fn next_packet(&mut self) -> Option<Packet> {
        let rest = &self.bytes[self.at..];
        let first = *rest.first()?;
        let (mut length, mut shift, mut header) = (0_usize, 0, 1);
        loop {
            let byte = *rest.get(header)?;
            length |= usize::from(byte & 0x7f) << shift;
            header += 1;
            shift += 7;
            if byte & 0x80 == 0 || shift > 21 {
                break;
            }
        }
        let body = rest.get(header..header + length)?;
        let packet = parse(first, body).unwrap_or(Packet::Other(first));
        self.at += header + length;
        Some(packet)
    }
}

fn parse(first: u8, body: &[u8]) -> Option<Packet> {
    let mut rest = body;
    Some(match first >> 4 {
        1 => {
            text(&mut rest)?;
            let flags = *rest.get(1)?;
            rest = rest.get(4..)?;
            Packet::Connect { client_id: text(&mut rest)?, clean: flags & 2 != 0 }
        }
        2 => Packet::ConnAck(*body.first()? & 1 != 0, *body.get(1)?),
        3 => {
            let qos = first >> 1 & 3;
            let topic = text(&mut rest)?;
            let id = if qos > 0 { number(&mut rest)? } else { 0 };
            let (dup, retain) = (first & 8 != 0, first & 1 != 0);
            Packet::Publish(Publish { dup, qos, retain, topic, id, payload: rest.to_vec() })
        }
        4 => Packet::PubAck(number(&mut rest)?),
        8 => {
            let id = number(&mut rest)?;
            let mut filters = Vec::new();
            while !rest.is_empty() {
                filters.push(text(&mut rest)?);
                rest = rest.get(1..)?;
            }
            Packet::Subscribe { id, filters }
        }
        9 => Packet::SubAck(body.get(2..)?.to_vec()),
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect,
        _ => return None,
    })
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    let (first, others) = rest.split_first_chunk::<2>()?;
    *rest = others;
    Some(u16::from_be_bytes(*first))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::from(number(rest)?);
    let (text, others) = rest.split_at_checked(length)?;
    *rest = others;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Writes a publish.
pub fn push_publish(out: &mut Vec<u8>, publish: &Publish) {
    out.push(0x30 | u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain));
    let id = if publish.qos > 0 { 2 } else { 0 };
    push_length(out, 2 + publish.topic.len() + id + publish.payload.len());
    push_text(out, publish.topic.as_bytes());
    if publish.qos > 0 {
        out.extend_from_slice(&publish.id.to_be_bytes());
    }
    out.extend_from_slice(&publish.payload);
}

/// A packet of two bytes of header and a packet id: PUBACK (`0x40`), PUBREC (`0x50`), PUBREL (`0x62`), …
#[must_use]
pub fn with_id(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

/// A CONNECT without keep-alive, as the tests' own user of that name.
#[must_use]
pub fn connect(client_id: &str, clean: bool) -> Vec<u8> {
    connect_as(client_id, &password_of(client_id), client_id, clean)
}

/// A CONNECT without keep-alive: a user who calls its client as it likes.
#[must_use]
pub fn connect_as(user: &str, password: &str, client_id: &str, clean: bool) -> Vec<u8> {
    let mut body = vec![0, 4];
    body.extend_from_slice(b"MQTT");
    // A user name and a password follow.
    body.extend_from_slice(&[4, 0xc0 | u8::from(clean) << 1, 0, 0]);
    for text in [client_id, user, password] {
        push_text(&mut body, text.as_bytes());
    }
    packet(0x10, &body)
}

/// The password of a user of the tests' broker.
#[must_use]
pub fn password_of(user: &str) -> String {
    format!("the password of {user}")
}

/// A SUBSCRIBE at QoS 1.
#[must_use]
pub fn subscribe(id: u16, filter: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    push_text(&mut body, filter.as_bytes());
    body.push(1);
    packet(0x82, &body)
}

/// A packet of any first byte and body.
#[must_use]
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    push_length(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

pub(crate) fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text[..usize::from(length)]);
}

pub(crate) fn push_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = length.to_le_bytes()[0] & 0x7f;
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

/// Whether a filter with `+` and `#` matches a topic.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_however_they_are_cut() {
        let publish =
            Publish { dup: true, qos: 1, retain: false, topic: "a/b".into(), id: 7, payload: vec![9; 200] };
        let mut bytes = connect("me", true);
        bytes.extend(subscribe(3, "a/+"));
        push_publish(&mut bytes, &publish);
        bytes.extend(with_id(0x40, 513));
        bytes.extend([0xf0, 0]);
        let expected = [
            Packet::Connect { client_id: "me".into(), clean: true },
            Packet::Subscribe { id: 3, filters: vec!["a/+".into()] },
            Packet::Publish(publish),
            Packet::PubAck(513),
            Packet::Other(0xf0),
        ];
        for step in [1, 3, bytes.len()] {
            let (mut decoder, mut found) = (Decoder::default(), Vec::new());
            for part in bytes.chunks(step) {
                decoder.feed(part);
                found.extend(std::iter::from_fn(|| decoder.next_packet()));
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn filters_match_level_by_level() {
        assert!(matches("hunhe/v1/+/+/up", "hunhe/v1/3f/meter/up"));
        assert!(matches("a/#", "a/b/c"));
        assert!(!matches("hunhe/v1/+/+/up", "hunhe/v1/3f/meter/alarm"));
        assert!(!matches("a/+", "a"));
    }
}
