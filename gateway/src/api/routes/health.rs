//! For machines: figures, liveness, readiness.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api::metrics::render;
use crate::api::query::{Asked, Nothing};
use crate::api::{Api, ApiError, Problem};

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "machines", responses(
    (status = 200, content_type = "text/plain", body = String),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn metrics(State(api): State<Api>, _: Asked<Nothing>) -> Result<Response, ApiError> {
    let mut metrics = api.backend.metrics().await?;
    metrics.extend(api.hub.metrics());
    metrics.extend(api.figures.metrics());
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, render(&metrics)).into_response())
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/healthz", tag = "machines", responses(
    (status = 200, content_type = "text/plain", body = String),
))]
pub(in crate::api) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether samples sent now would be journaled.
#[utoipa::path(get, path = "/readyz", tag = "machines", responses(
    (status = 200, content_type = "text/plain", body = String),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn readyz(State(api): State<Api>) -> Result<&'static str, ApiError> {
    api.backend.ready().await.map(|()| "ready\n")
}
