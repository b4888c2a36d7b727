//! Alerts on their way from the lane to everyone who should get them.
//!
//! ```text
//! lane ─▶ log (data_dir/alerts) ─┬─▶ list ─▶ GET /alerts, counts, live stream
//!                                └─▶ deliver: a webhook, the broker … each with its own cursor
//! ```
//! Promises:
//! - Every change that the core decides becomes one record, with its texts. What receivers get is a function of the record,
//!   injected at start: nothing here knows its form. Texts are made of the registry, the rules and the city's names alone:
//!   they contain nothing that a device sent.
//! - A record is visible to list and outputs before the decided records of the same message are written, so an alert
//!   waits for no sink. (At the decided log's own limit the lane stops, and with it later alerts.)
//! - An output that makes no progress is an alert like any other, about the gateway ([`own`]).
//! - The log is derived, as the decided log is: synced at a checkpoint, cut to it at a start, and rebuilt by the replay with
//!   the same ids.
//!
//! Bounds: the log's limit, at which its oldest segment is released, delivered or not, and counted; the list's, see [`list`].
//! Deliberately absent: acknowledgement and shelving; deciding anything (that is `gateway_core::alert`).

pub(crate) mod alert;
pub mod deliver;
pub mod describe;
pub mod feed;
mod follow;
pub mod list;
pub mod log;
pub mod own;
mod texts;

pub use alert::Alert;
pub use follow::ById;
pub(crate) use follow::{follow, raised_behind};
pub use list::AlertList;
pub use log::AlertLog;
