//! The gateway's sockets, disks and clocks, around the decisions of `hunhe-gateway-core`.

pub mod journal;
