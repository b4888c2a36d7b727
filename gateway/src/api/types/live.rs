//! What the live stream carries beside [`super::Status`] and [`super::QuarantineRecord`].

use std::sync::Arc;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// The newest value of one channel of one device. Names are shared with the registry: noting a value copies no text.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Latest {
    /// Device, by pseudonym where it has one.
    #[serde(serialize_with = "shared")]
    #[schema(value_type = String)]
    pub device: Arc<str>,
    /// Channel name.
    #[serde(serialize_with = "shared")]
    #[schema(value_type = String)]
    pub channel: Arc<str>,
    /// Time of the sample, milliseconds since 1970 UTC.
    pub time: i64,
    /// Value; `null` where the sample lacked the channel.
    pub value: Option<f64>,
    /// Quality code.
    pub quality: u8,
}

/// The values that changed since the last such event.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Samples {
    /// Newest value by device and channel.
    pub values: Vec<Latest>,
    /// Values that changed and were left out, because one event carries no more: ask for `devices` by name.
    pub omitted: u64,
}

fn shared<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
