//! The InfluxDB sink against the real VictoriaMetrics, against a scripted server, and its lines against another parser.

mod database;
mod encode;
mod faults;
mod fixture;
mod parser;
mod server;
