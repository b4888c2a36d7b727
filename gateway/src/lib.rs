//! The Hunhe gateway: MQTT in, journal, validation, ledger, time-series stores out.

pub mod config;
