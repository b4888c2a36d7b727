//! The Hunhe gateway: MQTT in, journal, validation, ledger, time-series stores out.

pub mod cli;
pub mod config;
pub mod enrol;
pub mod observe;
