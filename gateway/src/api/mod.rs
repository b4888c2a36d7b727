//! The HTTP interface: `/api/v1` as the contract names it, its OpenAPI document, figures for Prometheus, health, the
//! live stream, and the dashboard's files.
//!
//! It holds no state of the gateway: it asks a [`Backend`] and listens to a [`Hub`]. Every `/api/v1` route is
//! registered together with its description, so the document lists what is mounted. Every failure is a
//! `problem+json` with a request id, every bound is in [`Limits`] or [`HubLimits`] and answered in words.
//!
//! It does not authenticate and does not speak TLS: it serves the listener that it is given, on loopback unless the
//! operator confirms in words that it may be another, and a proxy in front of it does both.

pub mod backend;
mod failures;
mod guard;
mod hosts;
pub mod live;
pub mod metrics;
mod page;
mod problem;
pub mod queries;
mod query;
mod routes;
mod server;
pub mod types;
mod weight;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use backend::Backend;
pub use guard::REQUEST_ID;
pub use hosts::Hosts;
pub use live::{Hub, HubLimits};
pub use problem::{ApiError, Problem};
pub use server::{ConnectionLimits, Patience, bind};
use server::{Figures, Leave};

/// Bytes of a request's body that a route may read: no route has a long one.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Bounds of the routes; what happens at each is an answer in words.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Items on a page when not asked for; more follow by `next`.
    pub page_default: usize,
    /// Items on a page at most; more are refused (400).
    pub page: usize,
    /// Points in a series; more are refused (400) with a step that would fit.
    pub series_points: usize,
    /// Bytes of path and query; longer ones are refused (414).
    pub address_bytes: usize,
    /// Time until a request is given up (503); the live stream is exempt once it has begun.
    pub request: Duration,
    /// Devices named by one live stream; more are refused (400).
    pub live_devices: usize,
    /// Connections, and how long each step of one may take.
    pub connections: ConnectionLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            page_default: 100,
            page: 1_000,
            series_points: 20_000,
            address_bytes: 8_192,
            request: Duration::from_secs(10),
            live_devices: 200,
            connections: ConnectionLimits::default(),
        }
    }
}

/// What the interface stands on.
#[derive(Clone)]
pub struct Api {
    /// The gateway.
    pub backend: Arc<dyn Backend>,
    /// The live stream; [`live::drive`] must run beside.
    pub hub: Arc<Hub>,
    /// Bounds.
    pub limits: Limits,
    hosts: Arc<Hosts>,
    figures: Arc<Figures>,
}

impl Api {
    /// The interface to a backend, asked for under `hosts`.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, hub: Arc<Hub>, limits: Limits, hosts: Hosts) -> Self {
        Self { backend, hub, limits, hosts: Arc::new(hosts), figures: Arc::default() }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hunhe 浑河",
        description = "Telemetry gateway for a city's gas, water and farm devices: state, ledger, devices, series, \
                       quarantine, alerts and a live stream. Failures are application/problem+json with a request id.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact()
    ),
    components(schemas(Problem, types::Samples))
)]
struct Document;

fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(routes::status::status))
        .routes(routes!(routes::ledger::ledger))
        .routes(routes!(routes::ledger::write_off))
        .routes(routes!(routes::ledger::write_offs))
        .routes(routes!(routes::catalogue::classes))
        .routes(routes!(routes::catalogue::districts))
        .routes(routes!(routes::catalogue::zones))
        .routes(routes!(routes::devices::devices))
        .routes(routes!(routes::devices::device))
        .routes(routes!(routes::series::series))
        .routes(routes!(routes::quarantine::quarantine))
        .routes(routes!(routes::quarantine::record))
        .routes(routes!(routes::quarantine::redrive))
        .routes(routes!(routes::alerts::alerts))
        .routes(routes!(routes::alerts::rules))
        .routes(routes!(routes::live::live))
        .routes(routes!(routes::backup::backup))
        .routes(routes!(routes::health::metrics))
        .routes(routes!(routes::health::healthz))
        .routes(routes!(routes::health::readyz))
}

/// The OpenAPI 3.1 document as JSON.
pub fn openapi() -> String {
    described().split_for_parts().1.to_pretty_json().unwrap_or_default()
}

/// All routes, the document and the dashboard, inside the guard.
pub fn router(api: Api) -> Router {
    let guard = Arc::new(guard::Guard::new(&api));
    let (routes, document) = described().split_for_parts();
    let document: Arc<str> = document.to_json().unwrap_or_default().into();
    let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
    routes
        .route(
            "/api/openapi.json",
            get(move |_: query::Asked<query::Nothing>| async move {
                (json, document.to_string()).into_response()
            }),
        )
        .fallback(page::file)
        .with_state(api)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(guard, guard::guard))
}

/// Serves until `shutdown` is ready, then ends the live streams, lets answers under way finish for a moment, and
/// returns. Nothing that clients do ends it.
pub async fn serve(listener: TcpListener, api: Api, shutdown: impl Future<Output = ()> + Send) {
    let hub = Arc::clone(&api.hub);
    let (limits, figures) = (api.limits.connections, Arc::clone(&api.figures));
    let server = server::Server::new(router(api), limits, figures);
    let shutdown = async move {
        shutdown.await;
        hub.close();
    };
    server.serve(listener, shutdown).await;
}
