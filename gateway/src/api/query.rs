//! Questions in the address: strict about keys, generous about how an instant is written.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::ApiError;

/// The query string as `T`. An unknown or repeated key is an error that names it.
pub(super) struct Asked<T>(pub(super) T);

/// A route without any key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => {
                let text = rejection.body_text();
                let reason = text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason);
                Err(ApiError::BadRequest(format!("query: {reason}")))
            }
        }
    }
}

/// The most bytes of an order.
const ORDER_BYTES_MAX: usize = 4_096;

/// The body as an order in JSON. An unknown key is an error that names it.
pub(super) struct Ordered<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Ordered<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = axum::body::to_bytes(request.into_body(), ORDER_BYTES_MAX).await;
        let body = body.map_err(|_| {
            ApiError::BadRequest(format!("body: more than {ORDER_BYTES_MAX} bytes, or cut off"))
        })?;
        let order = serde_json::from_slice(&body);
        order.map(Self).map_err(|error| ApiError::BadRequest(format!("body: {error}")))
    }
}

/// An instant: RFC 3339 (`2026-01-02T03:04:05Z`), a date (`2026-01-02`, UTC) or integer milliseconds since 1970.
pub(super) fn instant_ms(key: &str, text: &str) -> Result<i64, ApiError> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let midnight = (text.len() == 10).then(|| format!("{text}T00:00:00Z").parse::<jiff::Timestamp>());
    midnight.and_then(Result::ok).map(|at| at.as_millisecond()).ok_or_else(|| {
        ApiError::BadRequest(format!(
            "query: `{key}` is not an instant: write 2026-01-02T03:04:05Z, 2026-01-02 or milliseconds since 1970"
        ))
    })
}

/// A step: seconds, or a number with `s`, `m`, `h` or `d`; at least a second, at most 366 days.
pub(super) fn step_s(text: &str) -> Result<u32, ApiError> {
    let (number, unit_s) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3_600),
        Some(b'd') => (&text[..text.len() - 1], 86_400),
        _ => (text, 1),
    };
    number
        .parse::<u32>()
        .ok()
        .and_then(|number| number.checked_mul(unit_s))
        .filter(|step| (1..=366 * 86_400).contains(step))
        .ok_or_else(|| {
            ApiError::BadRequest(
                "query: `step` is not a step: write 900, 30s, 15m, 1h or 1d, up to 366d".into(),
            )
        })
}

/// A page size between 1 and `most`; `default` when not asked for.
pub(super) fn page(limit: Option<usize>, default: usize, most: usize) -> Result<usize, ApiError> {
    match limit {
        None => Ok(default.min(most)),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(limit) => Err(ApiError::BadRequest(format!(
            "query: `limit` is {limit}: a page has 1 to {most}, the rest follows by the key in `next`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_read_in_each_of_its_forms() {
        for text in ["2026-01-02T00:00:00Z", "2026-01-02", "1767312000000", "2026-01-02T08:00:00+08:00"] {
            assert_eq!(instant_ms("from", text), Ok(1_767_312_000_000), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-01-02T00:00:00", "1e3"] {
            assert!(
                instant_ms("from", text).is_err_and(|error| error.to_string().contains("`from`")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_step_has_a_unit_and_bounds() {
        assert_eq!(step_s("900"), Ok(900));
        assert_eq!(step_s("15m"), Ok(900));
        assert_eq!(step_s("366d"), Ok(31_622_400));
        for text in ["", "0", "-1", "m", "367d", "99999999999h", "1.5h", "1 h", "五"] {
            assert!(step_s(text).is_err(), "{text}");
        }
    }
}
