//! Identifiers of devices and agents, checked once and then trusted.
//!
//! A checked id is safe in a topic, a file name, a tag and a page: lower-case letters, digits and inner hyphens only.

use core::{fmt, str::FromStr};

/// The longest id in bytes.
pub const ID_BYTES_MAX: usize = 32;

/// An identifier that matches `[a-z0-9][a-z0-9-]{0,31}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    bytes: [u8; ID_BYTES_MAX],
    len: u8,
}

/// The id of a device.
pub type DeviceId = Id;
/// The id of what holds an MQTT connection: a device, or a concentrator for many.
pub type AgentId = Id;

/// A text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an id has 1 to 32 characters, lower-case letters, digits and hyphens, and starts with a letter or digit"
)]
pub struct IdError;

impl Id {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`IdError`] where it does not match the pattern.
    pub fn new(text: &str) -> Result<Self, IdError> {
        Self::from_bytes(text.as_bytes())
    }

    /// Checks bytes of any origin.
    ///
    /// # Errors
    /// [`IdError`] where they do not match the pattern.
    pub fn from_bytes(text: &[u8]) -> Result<Self, IdError> {
        let (&head, tail) = text.split_first().ok_or(IdError)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !plain(head) || !tail.iter().all(|&byte| plain(byte) || byte == b'-') {
            return Err(IdError);
        }
        let len = u8::try_from(text.len()).map_err(|_| IdError)?;
        let mut bytes = [0; ID_BYTES_MAX];
        bytes.get_mut(..text.len()).ok_or(IdError)?.copy_from_slice(text);
        Ok(Self { bytes, len })
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII was let in, so this is never the default.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// The lowest byte of the id's CRC-32: the unit by which gateways divide a city.
    #[must_use]
    pub fn shard(&self) -> u8 {
        crc32fast::hash(self.as_str().as_bytes()).to_le_bytes()[0]
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&IdError, f)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                Id::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}
