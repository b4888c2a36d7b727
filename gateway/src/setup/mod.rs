//! What the operator wants: configuration, registry and names of places. All of it is read and checked before a port opens.

pub mod config;
pub mod places;
pub mod registry;
