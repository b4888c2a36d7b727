//! Devices: found by filters, or one by its id.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::backend::DeviceQuery;
use crate::api::query::{self, Asked, Nothing};
use crate::api::types::{Device, DevicePage};
use crate::api::{Api, ApiError, Problem};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Keys {
    /// Class name.
    class: Option<String>,
    /// District code.
    district: Option<String>,
    /// Zone id.
    zone: Option<String>,
    /// Part of the device's id, its zone or its agent, ignoring case.
    text: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Devices on a page: 1 to 1000, 100 by default.
    limit: Option<usize>,
}

/// Devices that match every filter, ordered by id.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", params(Keys), responses(
    (status = 200, body = DevicePage),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn devices(
    State(api): State<Api>,
    Asked(keys): Asked<Keys>,
) -> Result<Json<DevicePage>, ApiError> {
    let limit = query::page(keys.limit, api.limits.page_default, api.limits.page)?;
    let Keys { class, district, zone, text, after, limit: _ } = keys;
    let text = text.filter(|text| !text.is_empty());
    api.backend.devices(DeviceQuery { class, district, zone, text, after, limit }).await.map(Json)
}

/// One device: its newest values and its ledger.
#[utoipa::path(get, path = "/api/v1/devices/{id}", tag = "devices",
    params(("id" = String, Path, description = "Device id or pseudonym")),
    responses(
        (status = 200, body = Device),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn device(
    State(api): State<Api>,
    Path(id): Path<String>,
    _: Asked<Nothing>,
) -> Result<Json<Device>, ApiError> {
    api.backend.device(device_id(id)?).await.map(Json)
}

/// Refuses what no device can be called before anything looks it up.
pub(super) fn device_id(id: String) -> Result<String, ApiError> {
    let letters = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if letters && !id.starts_with('-') && (1..=32).contains(&id.len()) {
        return Ok(id);
    }
    Err(ApiError::BadRequest(
        "path: a device id has 1 to 32 of a-z, 0-9 and -, and does not begin with -".into(),
    ))
}
