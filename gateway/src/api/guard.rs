//! What surrounds every route: the request's id, the bounds that hold for all, the headers that keep a browser
//! strict, and the shape of failures.
//!
//! There is no authentication here: the gateway binds to loopback unless told otherwise, and a proxy stands in front
//! of anything wider. What a browser on the same machine could be tricked into is refused: a page of another origin
//! changes nothing (`Sec-Fetch-Site`, `Origin`), and reads nothing, since no answer carries a CORS header. One that has
//! its own name point to this machine is refused by that name ([`super::hosts`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::ApiError;
use super::{Api, Figures, Hosts, Limits};

/// Header that names a request in answers and logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Nothing but the gateway's own files, no inline script or style, no frame around the page.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Answered whatever others leave untaken: who asks them restarts a gateway that does not answer.
const HEALTH: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// State of the guard.
#[derive(Debug)]
pub(super) struct Guard {
    limits: Limits,
    hosts: Arc<Hosts>,
    figures: Arc<Figures>,
    /// Tells the ids of this process from those of the one before.
    prefix: u32,
    next: AtomicU64,
}

impl Guard {
    pub(super) fn new(api: &Api) -> Self {
        let prefix = crc32c::crc32c(&api.backend.now_ms().to_le_bytes()) ^ std::process::id();
        let (hosts, figures) = (Arc::clone(&api.hosts), Arc::clone(&api.figures));
        Self { limits: api.limits, hosts, figures, prefix, next: AtomicU64::new(1) }
    }

    /// The caller's id where it is harmless to log and echo, else a new one.
    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(REQUEST_ID).filter(|value| {
            let bytes = value.as_bytes();
            (1..=64).contains(&bytes.len())
                && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        });
        if let Some(given) = given {
            return given.clone();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:08x}-{number:06x}", self.prefix);
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unnamed"))
    }

    fn refuse(&self, request: &Request) -> Option<ApiError> {
        if !self.hosts.allow(request.uri(), request.headers()) {
            self.figures.misdirected();
            return Some(ApiError::Misdirected);
        }
        let limit_bytes = self.limits.address_bytes;
        let address_bytes = request.uri().path_and_query().map_or(0, |whole| whole.as_str().len());
        if address_bytes > limit_bytes {
            return Some(ApiError::AddressTooLong { limit_bytes });
        }
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        (changes && foreign(request.headers())).then_some(ApiError::ForeignOrigin)
    }

    /// An answer that can be taken without too many others waiting to be.
    fn weigh(&self, response: Response, id: &str) -> Response {
        let (head, body) = response.into_parts();
        match self.figures.weights().weigh(body) {
            Some(body) => Response::from_parts(head, body),
            None => {
                self.figures.too_heavy();
                ApiError::Busy("answers to others are not yet taken: try again in a second".into()).render(id)
            }
        }
    }

    /// Tells the operator, by the route's pattern: the path itself is the caller's text.
    fn log_failure(&self, pattern: &str, status: u16, id: &str) {
        if self.figures.failures().note(Instant::now(), pattern, status) {
            tracing::warn!(
                request_id = id,
                path = pattern,
                status,
                "request not answered; further ones are counted and logged once a minute"
            );
        }
    }
}

/// Whether a browser says that another origin's page sent this. Programs send neither header.
pub(super) fn foreign(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin_host = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, host)| host);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    origin_host.is_none() || origin_host != host
}

/// The layer around all routes.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let id = guard.request_id(request.headers());
    let id_text = id.to_str().unwrap_or("unnamed").to_owned();
    // Without one it is a file of the page, or nothing.
    let route = request.extensions().get::<MatchedPath>().cloned();
    // A route that logs what was asked for names the request.
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = match guard.refuse(&request) {
        Some(error) => error.render(&id_text),
        None => match tokio::time::timeout(guard.limits.request, next.run(request)).await {
            Ok(response) if route.as_ref().is_none_or(weighs_nothing) => shape(response, &id_text),
            Ok(response) => guard.weigh(shape(response, &id_text), &id_text),
            Err(_) => ApiError::TimedOut { limit_s: guard.limits.request.as_secs() }.render(&id_text),
        },
    };
    if response.status().is_server_error() {
        let pattern = route.as_ref().map_or("page", MatchedPath::as_str);
        guard.log_failure(pattern, response.status().as_u16(), &id_text);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    harden(headers);
    response
}

fn weighs_nothing(route: &MatchedPath) -> bool {
    HEALTH.contains(&route.as_str())
}

/// Gives a failure its body.
fn shape(response: Response, id: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let error =
        response.extensions().get::<ApiError>().cloned().unwrap_or_else(|| ApiError::from_status(status));
    let mut shaped = error.render(id);
    if let Some(allow) = response.headers().get(header::ALLOW) {
        shaped.headers_mut().insert(header::ALLOW, allow.clone());
    }
    shaped
}

fn harden(headers: &mut HeaderMap) {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Files of the page say themselves how long they hold; everything else is of this moment.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
