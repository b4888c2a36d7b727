//! A channel's values over a stretch of time, never more than one answer can carry.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::devices::device_id;
use crate::api::backend::SeriesQuery;
use crate::api::query::{self, Asked};
use crate::api::types::Series;
use crate::api::{Api, ApiError, Problem};

const DAY_MS: i64 = 86_400_000;

/// Steps that a reader expects on an axis, seconds.
const USUAL_STEPS_S: [u32; 13] = [1, 5, 10, 30, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400];

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Keys {
    /// Channel name.
    channel: String,
    /// First instant: RFC 3339, a date, or milliseconds since 1970; by default a day before `to`.
    from: Option<String>,
    /// First instant after the stretch; by default the gateway's clock.
    to: Option<String>,
    /// `900`, `30s`, `15m`, `1h`, `1d`: one point a step. Without it, the samples themselves.
    step: Option<String>,
}

/// One channel's values in columns, with gaps as `null`; at most 20,000 points.
#[utoipa::path(get, path = "/api/v1/devices/{id}/series", tag = "devices",
    params(("id" = String, Path, description = "Device id or pseudonym"), Keys),
    responses(
        (status = 200, body = Series),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn series(
    State(api): State<Api>,
    Path(id): Path<String>,
    Asked(keys): Asked<Keys>,
) -> Result<Json<Series>, ApiError> {
    let device = device_id(id)?;
    let to_ms = keys.to.map_or_else(|| Ok(api.backend.now_ms()), |to| query::instant_ms("to", &to))?;
    let from_ms = keys
        .from
        .map_or_else(|| Ok(to_ms.saturating_sub(DAY_MS)), |from| query::instant_ms("from", &from))?;
    if from_ms >= to_ms {
        return Err(ApiError::BadRequest("query: `from` is not before `to`".into()));
    }
    let step_s = keys.step.as_deref().map(query::step_s).transpose()?;
    let limit_points = api.limits.series_points;
    if let Some(step_s) = step_s
        && points(from_ms, to_ms, step_s) > limit_points
    {
        return Err(too_long(from_ms, to_ms, limit_points));
    }
    let asked = SeriesQuery { device, channel: keys.channel, from_ms, to_ms, step_s, limit_points };
    let series = api.backend.series(asked).await?;
    if series.times.len() > limit_points {
        return Err(too_long(from_ms, to_ms, limit_points));
    }
    if series.values.len() != series.times.len() || series.quality.len() != series.times.len() {
        tracing::error!(
            device = series.device,
            channel = series.channel,
            "columns of a series differ in length"
        );
        return Err(ApiError::Internal);
    }
    Ok(Json(series))
}

/// Steps that begin at multiples of themselves and touch the stretch.
fn points(from_ms: i64, to_ms: i64, step_s: u32) -> usize {
    let step_ms = i128::from(step_s) * 1_000;
    let first = i128::from(from_ms).div_euclid(step_ms);
    let last = (i128::from(to_ms) - 1).div_euclid(step_ms);
    usize::try_from(last - first + 1).unwrap_or(usize::MAX)
}

/// The smallest usual step (whole days above a day) that keeps the bound.
fn fitting_step_s(from_ms: i64, to_ms: i64, limit_points: usize) -> Option<u32> {
    let days = (1..=366).map(|days| days * 86_400);
    USUAL_STEPS_S.into_iter().chain(days).find(|step_s| points(from_ms, to_ms, *step_s) <= limit_points)
}

fn too_long(from_ms: i64, to_ms: i64, limit_points: usize) -> ApiError {
    let remedy = fitting_step_s(from_ms, to_ms, limit_points).map_or_else(
        || "ask for a shorter stretch".to_owned(),
        |step_s| format!("step={step_s} would fit, or ask for a shorter stretch"),
    );
    ApiError::SeriesTooLong(format!("one answer carries at most {limit_points} points: {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_that_is_named_keeps_the_bound_and_is_the_smallest_usual_one() {
        let year_ms = 365 * DAY_MS;
        assert_eq!(fitting_step_s(0, year_ms, 20_000), Some(1_800));
        assert_eq!(points(0, year_ms, 1_800), 17_520);
        assert_eq!(fitting_step_s(0, 20_000_000, 20_000), Some(1));
        assert_eq!(fitting_step_s(0, 20_000_001, 20_000), Some(5));
        assert_eq!(fitting_step_s(i64::MIN, i64::MAX, 20_000), None);
    }

    #[test]
    fn a_stretch_that_cuts_steps_at_both_ends_counts_them_both() {
        assert_eq!(points(999, 1_001, 1), 2);
        assert_eq!(points(-1, 1, 60), 2);
        assert_eq!(points(0, 1_000, 1), 1);
    }
}
