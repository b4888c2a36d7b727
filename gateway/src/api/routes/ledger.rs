//! The ledger, whole or split.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::backend::LedgerQuery;
use crate::api::query::{self, Asked};
use crate::api::types::{Ledger, LedgerBy};
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
