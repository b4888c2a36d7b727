//! stub

pub mod api;
