//! The gateway at this moment.

use axum::Json;
use axum::extract::State;

use crate::api::query::{Asked, Nothing};
use crate::api::types::Status;
use crate::api::{Api, ApiError, Problem};

/// The gateway at this moment: rates, journal, sinks, ledger.
#[utoipa::path(get, path = "/api/v1/status", tag = "gateway", responses(
    (status = 200, body = Status),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn status(
    State(api): State<Api>,
    _: Asked<Nothing>,
) -> Result<Json<Status>, ApiError> {
    api.backend.status().await.map(Json)
}
