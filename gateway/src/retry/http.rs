//! What asking a database and telling a webhook have in common: reading an answer within bounds, and saying in words why
//! there is none.

use reqwest::{Response, header::RETRY_AFTER};

/// Of an answer's body, no more than this is read.
pub(crate) const ANSWER_BYTES_MAX: usize = 4096;

/// The answer's `Retry-After` in seconds; a date there counts as none.
pub(crate) fn retry_after_s(response: &Response) -> Option<u64> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// A body up to a bound; what is longer is cut.
pub(crate) async fn read_text(mut response: Response, bytes_max: usize) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < bytes_max {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(_) => return None,
        }
    }
    bytes.truncate(bytes_max);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// An HTTP client's error hides its cause behind its source. The URL stays out: it is in the configuration.
pub(crate) fn words_of(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "connection lost"
    };
    format!("{what}: {innermost}")
}

/// Spreads waits. Where the system has no random number, nothing is spread.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
