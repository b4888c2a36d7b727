//! What the city is made of: classes, districts, zones. Each list is bounded by the registry.

use axum::Json;
use axum::extract::State;

use crate::api::query::{Asked, Nothing};
use crate::api::types::{Class, District, Zone};
use crate::api::{Api, ApiError, Problem};

/// Device classes with their channels.
#[utoipa::path(get, path = "/api/v1/classes", tag = "city", responses(
    (status = 200, body = [Class]),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn classes(
    State(api): State<Api>,
    _: Asked<Nothing>,
) -> Result<Json<Vec<Class>>, ApiError> {
    api.backend.classes().await.map(Json)
}

/// Districts with the devices in them.
#[utoipa::path(get, path = "/api/v1/districts", tag = "city", responses(
    (status = 200, body = [District]),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn districts(
    State(api): State<Api>,
    _: Asked<Nothing>,
) -> Result<Json<Vec<District>>, ApiError> {
    api.backend.districts().await.map(Json)
}

/// Zones with the devices in them.
#[utoipa::path(get, path = "/api/v1/zones", tag = "city", responses(
    (status = 200, body = [Zone]),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn zones(
    State(api): State<Api>,
    _: Asked<Nothing>,
) -> Result<Json<Vec<Zone>>, ApiError> {
    api.backend.zones().await.map(Json)
}
