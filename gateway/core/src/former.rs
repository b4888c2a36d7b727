//! A lane's snapshot as the format before wrote it, read for one upgrade: before there were alerts.
//!
//! What that format did not know begins empty: no alert stands, and silence counts from the first tick. Only what
//! changed since is repeated here; a field that changes once more takes its former type along.

use crate::{
    aggregate::Windows,
    alert::Alerts,
    city::{Agent, Notes},
    dedup::Outboxes,
    device::DeviceState,
    lane::Counters,
    view::{Kept, Snapshot},
};
use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};
use hunhe_proto::id::{AgentId, DeviceId};
use serde::Deserialize;

/// [`Snapshot`] as a checkpoint of format 1 holds it.
#[derive(Debug, Deserialize)]
pub struct SnapshotV1 {
    counters: Counters,
    city: NotesV1,
    classes: Vec<(String, u32)>,
    devices: Vec<(DeviceId, u32, DeviceV1)>,
}

#[derive(Debug, Deserialize)]
struct NotesV1 {
    now_ms: i64,
    agents: Vec<(AgentId, AgentV1)>,
}

#[derive(Debug, Deserialize)]
struct AgentV1 {
    online: Option<bool>,
    since_ms: i64,
    touched: bool,
    refused: VecDeque<u32>,
}

#[derive(Debug, Deserialize)]
struct DeviceV1 {
    outboxes: Outboxes,
    windows: Windows,
    last_ms: i64,
    last: Box<[i64]>,
    last_quality: u8,
    arrival_ms: i64,
    clock_offset_ms: Option<i64>,
    battery_mv: Option<u32>,
    signal_dbm: Option<i32>,
    gaps: u32,
    longest_gap_ms: i64,
    off_grid: u32,
}

impl From<SnapshotV1> for Snapshot<'static> {
    fn from(former: SnapshotV1) -> Self {
        let SnapshotV1 { counters, city, classes, devices } = former;
        let agents = city.agents.into_iter().map(|(id, agent)| (id, agent.into())).collect();
        let city = Notes { now_ms: city.now_ms, listened_ms: 0, agents };
        let devices =
            devices.into_iter().map(|(id, class, device)| (id, class, Kept::Own(Box::new(device.into()))));
        Self { counters, city, classes, devices: devices.collect() }
    }
}

impl From<AgentV1> for Agent {
    fn from(former: AgentV1) -> Self {
        let AgentV1 { online, since_ms, touched, refused } = former;
        Self { online, since_ms, touched, refused, silence: None }
    }
}

impl From<DeviceV1> for DeviceState {
    fn from(former: DeviceV1) -> Self {
        let DeviceV1 {
            outboxes,
            windows,
            last_ms,
            last,
            last_quality,
            arrival_ms,
            clock_offset_ms,
            battery_mv,
            signal_dbm,
            gaps,
            longest_gap_ms,
            off_grid,
        } = former;
        Self {
            outboxes,
            windows,
            alerts: Alerts::default(),
            last_ms,
            last,
            last_quality,
            arrival_ms,
            clock_offset_ms,
            clock_steady: false,
            listened_ms: 0,
            battery_mv,
            signal_dbm,
            gaps,
            longest_gap_ms,
            off_grid,
        }
    }
}
