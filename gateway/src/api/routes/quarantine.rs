//! Quarantine: listed, and sent through validation again.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::backend::QuarantineQuery;
use crate::api::query::{self, Asked, Nothing};
use crate::api::types::{QuarantinePage, Redriven};
use crate::api::{Api, ApiError, Problem};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Keys {
    /// Only this reason.
    reason: Option<String>,
    /// `next` of the page before.
    before: Option<u64>,
    /// Records on a page: 1 to 1000, 100 by default.
    limit: Option<usize>,
}

/// What was refused and why, newest first.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "quarantine", params(Keys), responses(
    (status = 200, body = QuarantinePage),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn quarantine(
    State(api): State<Api>,
    Asked(keys): Asked<Keys>,
) -> Result<Json<QuarantinePage>, ApiError> {
    let limit = query::page(keys.limit, api.limits.page_default, api.limits.page)?;
    let asked = QuarantineQuery { reason: keys.reason, before: keys.before, limit };
    api.backend.quarantine(asked).await.map(Json)
}

/// Sends one record through validation again, past deduplication.
#[utoipa::path(post, path = "/api/v1/quarantine/{id}/redrive", tag = "quarantine",
    params(("id" = u64, Path, description = "Record id")),
    responses(
        (status = 202, body = Redriven),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn redrive(
    State(api): State<Api>,
    Path(id): Path<String>,
    _: Asked<Nothing>,
) -> Result<(StatusCode, Json<Redriven>), ApiError> {
    let id = id.parse().map_err(|_| ApiError::BadRequest("path: a record id is a whole number".into()))?;
    api.backend.redrive(id).await.map(|redriven| (StatusCode::ACCEPTED, Json(redriven)))
}
