//! The dashboard's files, embedded when the gateway was built (`build.rs` says from where).
//!
//! Names of files under `assets/` carry a hash of their content and may be kept for ever; the page itself is asked
//! for each time, so that a new gateway shows its own dashboard.

use axum::http::{Method, Uri, header};
use axum::response::{IntoResponse, Response};
use include_dir::{Dir, include_dir};

use super::problem::ApiError;

static FILES: Dir<'_> = include_dir!("$OUT_DIR/dashboard");

/// Whatever no route answers: a file of the dashboard, or 404.
pub(super) async fn file(method: Method, uri: Uri) -> Result<Response, ApiError> {
    let path = match uri.path() {
        "/" => "index.html",
        path => path.trim_start_matches('/'),
    };
    let file = FILES
        .get_file(path)
        .filter(|_| !path.starts_with("api/"))
        .ok_or_else(|| ApiError::NotFound("nothing at this address: see /api/openapi.json".into()))?;
    if !matches!(method, Method::GET | Method::HEAD) {
        return Err(ApiError::MethodNotAllowed);
    }
    let kept = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [(header::CONTENT_TYPE, content_type(path)), (header::CACHE_CONTROL, kept)];
    Ok((headers, file.contents()).into_response())
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/json",
        Some("woff2") => "font/woff2",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}
