//! Where decisions go. Every sink reads the decided log in its own thread, at its own pace, with its own cursor, so that
//! one being down delays neither another nor the intake.
//!
//! A cursor is a cause: the journal record up to which all decisions are at the sink. After a crash a sink begins
//! at its cursor again and may write a last batch twice; each destination takes that as once (same series, same time).
//! The sink of record also counts what it wrote, by device and outbox, for the ledger: see [`Confirmation`](crate::decided::Confirmation).

pub mod embedded;
pub mod influx;
pub mod status;
