//! A series in columns: three arrays of one length, which is half the bytes of a list of points and reads faster.

use serde::Serialize;
use utoipa::ToSchema;

/// How the points came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeriesKind {
    /// The samples themselves: an instant without a sample has no point.
    Samples,
    /// One point a step, at the step's beginning, the arithmetic mean of a gauge and the last value of any other
    /// kind: an empty step is a point whose value is `null` and whose quality is 5.
    Steps,
}

/// Values of one channel of one device with `from` ≤ time < `to`, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Series {
    /// Device.
    pub device: String,
    /// Channel.
    pub channel: String,
    /// Unit.
    pub unit: String,
    /// How the points came about.
    pub kind: SeriesKind,
    /// Seconds a step; absent for samples.
    pub step_s: Option<u32>,
    /// First instant asked for, milliseconds since 1970 UTC.
    pub from: i64,
    /// First instant after what was asked for.
    pub to: i64,
    /// Times in milliseconds since 1970 UTC, rising.
    pub times: Vec<i64>,
    /// Values; `null` is a gap (an empty step, or a sample that lacks this channel).
    pub values: Vec<Option<f64>>,
    /// Quality codes, the worst of a step.
    pub quality: Vec<u8>,
}
