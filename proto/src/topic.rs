//! MQTT topics: built from checked ids, parsed without trust.

use crate::id::{AgentId, DeviceId, Id};
use alloc::{format, string::String};

/// What the gateway subscribes to for reports.
pub const UP_FILTER: &str = "hunhe/v1/+/+/up";
/// What the gateway subscribes to for alarms.
pub const ALARM_FILTER: &str = "hunhe/v1/+/+/alarm";
/// What the gateway subscribes to for the agents' states.
pub const STATE_FILTER: &str = "hunhe/v1/agents/+/state";

/// A topic of the contract, as far as a gateway receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// A device's reports.
    Up(DeviceId),
    /// A device's reports with local alarms.
    Alarm(DeviceId),
    /// An agent's retained state and last will.
    State(AgentId),
}

/// Why a topic is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Another number of levels, or other fixed words.
    #[error("topic is none of the contract's")]
    Shape,
    /// The device or agent level is no id.
    #[error("topic names no valid id")]
    Id,
    /// The shard is not the device's.
    #[error("topic's shard is not the device's")]
    Shard,
}

/// `hunhe/v1/{shard}/{device}/up`
#[must_use]
pub fn up(device: DeviceId) -> String {
    format!("hunhe/v1/{:02x}/{device}/up", device.shard())
}

/// `hunhe/v1/{shard}/{device}/alarm`
#[must_use]
pub fn alarm(device: DeviceId) -> String {
    format!("hunhe/v1/{:02x}/{device}/alarm", device.shard())
}

/// `hunhe/v1/agents/{agent}/state`
#[must_use]
pub fn state(agent: AgentId) -> String {
    format!("hunhe/v1/agents/{agent}/state")
}

/// `hunhe/v1/agents/{agent}/durable`
#[must_use]
pub fn durable(agent: AgentId) -> String {
    format!("hunhe/v1/agents/{agent}/durable")
}

/// Parses what a broker delivered.
///
/// # Errors
/// Why it is not a topic of the contract.
pub fn parse(topic: &[u8]) -> Result<Topic, TopicError> {
    let rest = topic.strip_prefix(b"hunhe/v1/").ok_or(TopicError::Shape)?;
    let mut levels = rest.split(|&byte| byte == b'/');
    let (Some(first), Some(name), Some(kind), None) =
        (levels.next(), levels.next(), levels.next(), levels.next())
    else {
        return Err(TopicError::Shape);
    };
    let build: fn(Id) -> Topic = match (first, kind) {
        (b"agents", b"state") => Topic::State,
        (b"agents", _) => return Err(TopicError::Shape),
        (_, b"up") => Topic::Up,
        (_, b"alarm") => Topic::Alarm,
        _ => return Err(TopicError::Shape),
    };
    let id = Id::from_bytes(name).map_err(|_| TopicError::Id)?;
    if first != b"agents" && shard_digits(id.shard()) != first {
        return Err(TopicError::Shard);
    }
    Ok(build(id))
}

fn shard_digits(shard: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(shard >> 4)], DIGITS[usize::from(shard & 15)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_parses_back() {
        for name in ["a", "0", "dma-1", "abcdefghijklmnopqrstuvwxyz012345"] {
            let id = Id::new(name).unwrap();
            assert_eq!(parse(up(id).as_bytes()), Ok(Topic::Up(id)));
            assert_eq!(parse(alarm(id).as_bytes()), Ok(Topic::Alarm(id)));
            assert_eq!(parse(state(id).as_bytes()), Ok(Topic::State(id)));
        }
    }

    #[test]
    fn hostile_topics_are_refused_by_kind() {
        use TopicError::{Id as BadId, Shape, Shard};
        let long = "x".repeat(33);
        let cases: [(&[u8], TopicError); 14] = [
            (b"", Shape),
            (b"hunhe/v1/00/dma-1", Shape),
            (b"hunhe/v1/00/dma-1/up/x", Shape),
            (b"hunhe/v2/00/dma-1/up", Shape),
            (b"hunhe/v1/00/dma-1/down", Shape),
            (b"hunhe/v1/agents/a/durable", Shape),
            (b"hunhe/v1/00/+/up", BadId),
            (b"hunhe/v1/00/#/up", BadId),
            (b"hunhe/v1/00/a\0b/up", BadId),
            (b"hunhe/v1/00/a\nb/up", BadId),
            (b"hunhe/v1/00/\xff\xfe/up", BadId),
            (b"hunhe/v1/00/-a/up", BadId),
            (b"hunhe/v1/zz/dma-1/up", Shard),
            ("hunhe/v1/00/Dma/up".as_bytes(), BadId),
        ];
        for (topic, error) in cases {
            assert_eq!(parse(topic), Err(error), "{:?}", topic.escape_ascii());
        }
        assert_eq!(parse(format!("hunhe/v1/00/{long}/up").as_bytes()), Err(BadId));
    }
}
