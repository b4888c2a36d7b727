//! The InfluxDB sink against the real VictoriaMetrics, against the real InfluxDB 1.6, against a scripted server, and its lines against another parser.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken promise fails loudly here"
)]

mod database;
mod durability;
mod encode;
mod faults;
mod fixture;
mod influxdb;
mod parser;
mod scripts;
mod server;
mod setup;
mod turns;
