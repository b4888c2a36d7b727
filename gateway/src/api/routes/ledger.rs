//! The ledger, whole or split, and what was written off in it.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::backend::{LedgerQuery, WriteOffQuery};
use crate::api::query::{self, Asked, Nothing, Ordered};
use crate::api::types::{Ledger, LedgerBy, WriteOff, WriteOffOrder, WriteOffPage};
use crate::api::{Api, ApiError, Problem};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Keys {
    /// Split the counts by this; without it, totals alone.
    by: Option<LedgerBy>,
    /// `next` of the page before.
    after: Option<String>,
    /// Rows on a page: 1 to 1000, 100 by default.
    limit: Option<usize>,
}

/// The ledger: five counts, duplicates, and whether it closes.
#[utoipa::path(get, path = "/api/v1/ledger", tag = "ledger", params(Keys), responses(
    (status = 200, body = Ledger),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn ledger(
    State(api): State<Api>,
    Asked(keys): Asked<Keys>,
) -> Result<Json<Ledger>, ApiError> {
    let limit = query::page(keys.limit, api.limits.page_default, api.limits.page)?;
    api.backend.ledger(LedgerQuery { by: keys.by, after: keys.after, limit }).await.map(Json)
}

/// Declares lost what is unexplained of a device, for a reason that is kept.
#[utoipa::path(post, path = "/api/v1/ledger/write-off", tag = "ledger", request_body = WriteOffOrder, responses(
    (status = 200, body = WriteOff),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn write_off(
    State(api): State<Api>,
    _: Asked<Nothing>,
    Ordered(order): Ordered<WriteOffOrder>,
) -> Result<Json<WriteOff>, ApiError> {
    api.backend.write_off(order).await.map(Json)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct WriteOffKeys {
    /// `next` of the page before.
    before: Option<u64>,
    /// Write-offs on a page: 1 to 1000, 100 by default.
    limit: Option<usize>,
}

/// The audit trail of write-offs, newest first.
#[utoipa::path(get, path = "/api/v1/ledger/write-offs", tag = "ledger", params(WriteOffKeys), responses(
    (status = 200, body = WriteOffPage),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn write_offs(
    State(api): State<Api>,
    Asked(keys): Asked<WriteOffKeys>,
) -> Result<Json<WriteOffPage>, ApiError> {
    let limit = query::page(keys.limit, api.limits.page_default, api.limits.page)?;
    api.backend.write_offs(WriteOffQuery { before: keys.before, limit }).await.map(Json)
}
