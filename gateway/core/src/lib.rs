//! Every decision the gateway takes, and no I/O: no clock, file, socket or random hash is in reach.
//!
//! - [`event`]: all that can happen to a lane, and all that it decides
//! - [`registry`]: who may report what; [`rule`]: what is alarming, as data
//! - [`device`]: what concerns one device: deduplication, validation, windows, alerts, its ledger
//! - [`city`]: what crosses devices: agents, silence and other deadlines, the ledger's totals, write-offs
//! - [`lane`]: all state, and the way of an event through it; [`view`]: what people and programs ask of it
#![no_std]
extern crate alloc;

pub mod city;
pub mod device;
pub mod event;
pub mod lane;
pub mod registry;
pub mod rule;
pub mod view;
