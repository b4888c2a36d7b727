//! Everything the gateway keeps, as one stream.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use std::convert::Infallible;

use crate::api::guard::foreign;
use crate::api::query::{Asked, Nothing};
use crate::api::server::Patient;
use crate::api::{Api, ApiError, Problem};
use crate::backup::PATIENCE;

/// A backup of everything, for `hunhe-gateway restore`, taken while the gateway runs; one at a time. It ends with a frame that
/// says that it is complete: what has none was cut short. It holds raw payloads and who is behind a pseudonym.
#[utoipa::path(get, path = "/api/v1/backup", tag = "gateway", responses(
    (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn backup(
    State(api): State<Api>,
    _: Asked<Nothing>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // It changes nothing, and yet a page could make us work.
    if foreign(&headers) {
        return Err(ApiError::ForeignOrigin);
    }
    let stream = api.backend.backup().await?;
    let pieces = unfold(stream, async |mut stream| {
        let piece: Bytes = stream.recv().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    });
    let kind = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"hunhe.backup\""),
    ];
    // Whoever keeps it on a busy disk may need a moment.
    let patient = Extension(Patient(PATIENCE));
    Ok((kind, patient, Body::from_stream(pieces)).into_response())
}
