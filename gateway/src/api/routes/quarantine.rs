//! Quarantine: listed, shown one by one, and sent through validation again.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::backend::QuarantineQuery;
use crate::api::guard::REQUEST_ID;
use crate::api::query::{self, Asked, Nothing};
use crate::api::types::{QuarantineKind, QuarantinePage, QuarantineRecord, Redriven};
use crate::api::{Api, ApiError, Problem};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Keys {
    /// Only records about this: message, conflict or dead_letter.
    kind: Option<QuarantineKind>,
    /// Only this reason.
    reason: Option<String>,
    /// Only this device, by pseudonym.
    device: Option<String>,
    /// Arrived at or after: RFC 3339, a date, or milliseconds since 1970.
    from: Option<String>,
    /// Arrived before: RFC 3339, a date, or milliseconds since 1970.
    to: Option<String>,
    /// `next` of the page before.
    before: Option<String>,
    /// Records on a page: 1 to 1000, 100 by default.
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Depth {
    /// With the payload. Reading it is logged with the request's id: a household's readings need a purpose.
    payload: Option<bool>,
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
    let instant = |key, text: Option<String>| text.map(|text| query::instant_ms(key, &text)).transpose();
    let asked = QuarantineQuery {
        kind: keys.kind,
        reason: keys.reason,
        device: keys.device,
        from_ms: instant("from", keys.from)?,
        to_ms: instant("to", keys.to)?,
        before: keys.before,
        limit,
    };
    api.backend.quarantine(asked).await.map(Json)
}

/// One record.
#[utoipa::path(get, path = "/api/v1/quarantine/{id}", tag = "quarantine",
    params(("id" = String, Path, description = "Record id"), Depth),
    responses(
        (status = 200, body = QuarantineRecord),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn record(
    State(api): State<Api>,
    Path(id): Path<String>,
    Asked(depth): Asked<Depth>,
    headers: HeaderMap,
) -> Result<Json<QuarantineRecord>, ApiError> {
    let payload = depth.payload.unwrap_or(false);
    let record = api.backend.quarantined(id, payload).await?;
    if payload {
        let request_id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or("unnamed");
        tracing::info!(request_id, record = record.id, "the payload of a quarantine record was read");
    }
    Ok(Json(record))
}

/// Sends one record through validation again, past deduplication. Only messages can be: conflicts and dead letters are
/// refused with a reason.
#[utoipa::path(post, path = "/api/v1/quarantine/{id}/redrive", tag = "quarantine",
    params(("id" = String, Path, description = "Record id")),
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
    api.backend.redrive(id).await.map(|redriven| (StatusCode::ACCEPTED, Json(redriven)))
}
