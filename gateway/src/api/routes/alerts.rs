//! Alerts as they stand, and the rules that make them.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::backend::{AlertQuery, AlertStateQuery};
use crate::api::query::{self, Asked, Nothing};
use crate::api::types::{AlertMode, AlertPage, AlertSeverity, Rule};
use crate::api::{Api, ApiError, Problem};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Keys {
    /// `open` (pending and firing), `resolved` or `all`; all by default.
    state: Option<AlertStateQuery>,
    /// `live` or `retrospective`.
    mode: Option<AlertMode>,
    /// `info`, `warning`, `major` or `critical`.
    severity: Option<AlertSeverity>,
    /// District code.
    district: Option<String>,
    /// Operator.
    operator: Option<String>,
    /// `next` of the page before.
    before: Option<u64>,
    /// Alerts on a page: 1 to 1000, 100 by default.
    limit: Option<usize>,
}

/// Alerts as they stand, newest change first; the most recent ones of those that are over.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", params(Keys), responses(
    (status = 200, body = AlertPage),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn alerts(
    State(api): State<Api>,
    Asked(keys): Asked<Keys>,
) -> Result<Json<AlertPage>, ApiError> {
    let limit = query::page(keys.limit, api.limits.page_default, api.limits.page)?;
    let Keys { state, mode, severity, district, operator, before, limit: _ } = keys;
    let state = state.unwrap_or_default();
    let asked = AlertQuery { state, mode, severity, district, operator, before, limit };
    api.backend.alerts(asked).await.map(Json)
}

/// The rules that make alerts, as they are written.
#[utoipa::path(get, path = "/api/v1/rules", tag = "alerts", responses(
    (status = 200, body = [Rule]),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn rules(
    State(api): State<Api>,
    _: Asked<Nothing>,
) -> Result<Json<Vec<Rule>>, ApiError> {
    api.backend.rules().await.map(Json)
}
