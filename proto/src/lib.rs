//! The wire between Hunhe's edge and gateway. Both sides meet here and nowhere else.
//!
//! - [`id`], [`topic`]: who speaks and where; nothing a device says becomes a name unchecked
//! - [`reading`]: quality, limits and the checked [`Report`](reading::Report)
//! - [`mod@column`]: one channel's values as bits, on the wire and on disk
//! - [`encode`]: writes a report into a caller's buffer, without allocation
//! - [`decode`]: reads a report with every limit enforced before memory is taken
//! - [`size`]: how much a report holds at most, without decoding it
//! - [`class`], [`fleet`]: device classes and fleets as data
//! - [`v1`]: the generated protobuf types; small control messages use them as they are
//!
//! Deliberately absent: I/O, clocks, and any text from a device in a report.
#![no_std]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod class;
pub mod column;
pub mod decode;
pub mod encode;
pub mod fleet;
pub mod id;
pub mod reading;
pub mod size;
pub mod topic;

/// Generated from `hunhe/v1/*.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/hunhe.v1.rs"));
}
