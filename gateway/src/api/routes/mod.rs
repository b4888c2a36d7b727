//! The routes, one file a subject. Each checks its question against the bounds and hands it to the backend.

#![expect(unused_qualifications, reason = "utoipa::path writes the keys' type with its trait in full")]

pub(super) mod alerts;
pub(super) mod backup;
pub(super) mod catalogue;
pub(super) mod devices;
pub(super) mod health;
pub(super) mod ledger;
pub(super) mod live;
pub(super) mod quarantine;
pub(super) mod series;
pub(super) mod status;
