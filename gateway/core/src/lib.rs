//! Every decision the gateway takes, and no I/O: no clock, file, socket or random hash is in reach.
//!
//! In the order of a message's journey:
//! - [`event`]: all that can happen to a lane, and all that it decides
//! - [`registry`]: who may report what
//! - [`rule`]: what is alarming, as data
//! - [`validate`]: which samples and values are plausible, and why not
//! - [`ranges`], [`dedup`]: what has been received of each outbox
//! - `judge`: what becomes of a report's fresh samples
//! - [`ledger`], `books`: where every sample is, of one device and of all
//! - [`aggregate`]: tumbling windows over event time
//! - [`alert`], [`silence`]: ok → pending → firing → resolved, in event time
//! - `conduct`: alerts on how a device reports
//! - [`audit`]: what operators wrote off
//! - [`device`]: all that is known of one device
//! - [`lane`]: all state of a shard of devices; composes the above
//! - [`city`]: what crosses devices: agents, and who is silent
//! - [`view`]: what people and programs ask of a lane
#![no_std]
extern crate alloc;

pub mod aggregate;
pub mod alert;
pub mod audit;
mod books;
pub mod city;
mod conduct;
pub mod dedup;
pub mod device;
pub mod event;
mod judge;
pub mod lane;
pub mod ledger;
pub mod ranges;
pub mod registry;
pub mod rule;
pub mod silence;
pub mod validate;
pub mod view;
