//! Every failure as `application/problem+json` (RFC 9457): what is wrong, and what would be right.
//!
//! A handler returns an [`ApiError`]; the body is written by the guard around all routes ([`super::guard`]), which
//! knows the request's id. So a failure that axum itself answers (no such route, wrong method) has the same shape.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request is not answered as asked. The texts reach the caller: they name nothing internal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The question itself is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// A series with more points than one answer carries.
    #[error("{0}")]
    SeriesTooLong(String),
    /// The address is longer than allowed.
    #[error("the address is longer than {limit_bytes} bytes: ask for less at once")]
    AddressTooLong {
        /// The bound.
        limit_bytes: usize,
    },
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The route exists, the method does not.
    #[error("this address does not take that method: see /api/openapi.json")]
    MethodNotAllowed,
    /// A page of another origin asked for a change.
    #[error("a page from another origin may not change anything here")]
    ForeignOrigin,
    /// It exists, and its state does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// Too much of this is under way.
    #[error("{0}")]
    Busy(String),
    /// The request is for a host that this is not: a page elsewhere may have had its name point here.
    #[error(
        "the gateway does not answer under this host name: ask 127.0.0.1 or localhost, or name it in http.hosts"
    )]
    Misdirected,
    /// Cannot be answered now.
    #[error("{0}")]
    Unavailable(String),
    /// Took longer than allowed.
    #[error("no answer within {limit_s} s: ask for less at once, or try again")]
    TimedOut {
        /// The bound.
        limit_s: u64,
    },
    /// A fault of the gateway. The cause is in its log under the request's id, not in the answer.
    #[error("the gateway failed to answer: its log has the cause under this request id")]
    Internal,
}

impl ApiError {
    /// The HTTP status that this is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::SeriesTooLong(_) => StatusCode::BAD_REQUEST,
            Self::AddressTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Unavailable(_) | Self::TimedOut { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// (name in the problem's type, title).
    fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::BadRequest(_) => ("bad-request", "The request is malformed"),
            Self::SeriesTooLong(_) => ("series-too-long", "The series has too many points"),
            Self::AddressTooLong { .. } => ("address-too-long", "The address is too long"),
            Self::NotFound(_) => ("not-found", "There is no such thing"),
            Self::MethodNotAllowed => ("method-not-allowed", "The method is not allowed here"),
            Self::ForeignOrigin => ("foreign-origin", "The request comes from another origin"),
            Self::Conflict(_) => ("conflict", "The state does not allow this"),
            Self::Busy(_) => ("busy", "Too many such requests at once"),
            Self::Misdirected => ("misdirected", "The host name is not the gateway's"),
            Self::Unavailable(_) => ("unavailable", "Not available now"),
            Self::TimedOut { .. } => ("timed-out", "The answer took too long"),
            Self::Internal => ("internal", "The gateway failed"),
        }
    }

    /// What a bare status code, answered by the framework, means to a caller.
    pub(super) fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound("nothing at this address: see /api/openapi.json".into()),
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            status if status.is_client_error() => Self::BadRequest(
                status.canonical_reason().unwrap_or("the request was not understood").to_lowercase(),
            ),
            _ => Self::Internal,
        }
    }

    /// The whole answer.
    pub(super) fn render(&self, request_id: &str) -> Response {
        let (kind, title) = self.kind();
        let status = self.status();
        let problem = Problem {
            kind: format!("urn:hunhe:problem:{kind}"),
            title: title.into(),
            status: status.as_u16(),
            detail: self.to_string(),
            request_id: request_id.into(),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let retry_after = match status {
            StatusCode::SERVICE_UNAVAILABLE => Some("5"),
            StatusCode::TOO_MANY_REQUESTS => Some("1"),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// Leaves the body to the guard, which finds the error among the extensions.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The body of every failure.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem: a name, not an address.
    #[serde(rename = "type")]
    #[schema(example = "urn:hunhe:problem:bad-request")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// This problem in words, with the remedy.
    pub detail: String,
    /// Also in the header `x-request-id` and in the gateway's log.
    pub request_id: String,
}
