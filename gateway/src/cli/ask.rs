//! `ledger`, and what every question to a running gateway over its HTTP interface needs.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use super::Asking;

/// A whole city's ledger is answered well within this.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody there.
    #[error("no gateway answers at {url}: start it, or name its address with --url")]
    Nobody {
        /// The address.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The gateway refused.
    #[error("{url} answered {status}: {detail}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The reason, in the gateway's words.
        detail: String,
    },
    /// Something else listens there.
    #[error("{url} did not answer as a gateway does: name its address with --url")]
    Foreign {
        /// The address.
        url: String,
    },
    /// The answer could not be passed on.
    #[error("cannot write the report")]
    Write(#[from] io::Error),
}

/// Writes the ledger to `out`; answers whether it closes.
///
/// # Errors
/// [`AskError`].
pub async fn ledger(asking: &Asking, out: &mut dyn Write) -> Result<bool, AskError> {
    let gateway = Gateway::at(asking);
    let (url, answer) = gateway.get("/api/v1/ledger", &[]).await?;
    let totals = answer.get("totals").unwrap_or(&answer);
    let Some(closed) = totals.get("closed").and_then(Value::as_bool) else {
        return Err(AskError::Foreign { url });
    };
    if asking.json {
        writeln!(out, "{answer:#}")?;
        return Ok(closed);
    }
    for name in
        ["sampled", "stored", "quarantined", "declared_lost", "outstanding", "unexplained", "duplicates"]
    {
        // As text first: a JSON value does not heed a width.
        let count = totals.get(name).map_or_else(|| "-".into(), Value::to_string);
        writeln!(out, "{name:<14} {count:>14}")?;
    }
    let retired = |name: &str| answer["retired"][name].as_u64().unwrap_or(0);
    let (expired, oversize) = (retired("expired"), retired("oversize"));
    if expired + oversize > 0 {
        writeln!(
            out,
            "retired        {:>14} of the stored samples: the embedded store dropped {expired} by age, {oversize} by size",
            expired + oversize
        )?;
    }
    writeln!(out, "the ledger {}", if closed { "closes" } else { "does not close" })?;
    Ok(closed)
}

/// Text from outside must not steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(super) struct Gateway {
    client: reqwest::Client,
    base: String,
}

impl Gateway {
    pub(super) fn at(asking: &Asking) -> Self {
        Self { client: reqwest::Client::new(), base: asking.url.trim_end_matches('/').into() }
    }

    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<(String, Value), AskError> {
        let url = format!("{}{path}", self.base);
        let nobody = |_| AskError::Foreign { url: url.clone() };
        let mut address: reqwest::Url = url.parse().map_err(nobody)?;
        if !query.is_empty() {
            address.query_pairs_mut().extend_pairs(query);
        }
        self.answer(url, self.client.get(address)).await
    }

    /// An answer that is taken piece by piece.
    pub(super) async fn stream(&self, path: &str) -> Result<reqwest::Response, AskError> {
        let url = format!("{}{path}", self.base);
        let request = self.client.get(&url).send();
        let response = match tokio::time::timeout(TIMEOUT, request).await {
            Ok(response) => response.map_err(|source| AskError::Nobody { url: url.clone(), source })?,
            Err(_) => return Err(AskError::Foreign { url }),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        match response.json::<Value>().await {
            Ok(body) => {
                let detail = body.get("detail").and_then(Value::as_str).unwrap_or("without a reason");
                Err(AskError::Refused { url, status, detail: plain(detail) })
            }
            Err(_) => Err(AskError::Foreign { url }),
        }
    }

    /// Asks for a change.
    pub(super) async fn post(&self, path: &str) -> Result<(String, Value), AskError> {
        let url = format!("{}{path}", self.base);
        let request = self.client.post(&url);
        self.answer(url, request).await
    }

    async fn answer(
        &self,
        url: String,
        request: reqwest::RequestBuilder,
    ) -> Result<(String, Value), AskError> {
        let response = request.timeout(TIMEOUT).send().await;
        let response = response.map_err(|source| AskError::Nobody { url: url.clone(), source })?;
        let status = response.status();
        let body: Option<Value> = response.json().await.ok();
        match body {
            Some(body) if status.is_success() => Ok((url, body)),
            Some(body) => {
                let detail = body.get("detail").and_then(Value::as_str).unwrap_or("without a reason");
                Err(AskError::Refused { url, status: status.as_u16(), detail: plain(detail) })
            }
            None => Err(AskError::Foreign { url }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Json;
    use axum::routing::get;
    use serde_json::json;

    /// Serves `router` on a free loopback port.
    async fn serve(router: axum::Router) -> Asking {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Asking { url, json: false }
    }

    fn totals(closed: bool) -> Value {
        json!({"sampled": 10, "stored": 9, "quarantined": 0, "declared_lost": 0, "outstanding": 0,
            "unexplained": u8::from(!closed), "duplicates": 3, "closed": closed})
    }

    #[tokio::test]
    async fn the_ledger_says_whether_it_closes() {
        for closed in [true, false] {
            let answer = json!({"totals": totals(closed), "rows": []});
            let router = axum::Router::new().route("/api/v1/ledger", get(async || Json(answer)));
            let mut asking = serve(router).await;
            let mut out = Vec::new();
            assert_eq!(ledger(&asking, &mut out).await.unwrap(), closed);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("stored                      9\n"), "{text}");
            assert!(text.ends_with(if closed { "closes\n" } else { "does not close\n" }), "{text}");
            asking.json = true;
            let mut out = Vec::new();
            ledger(&asking, &mut out).await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&out).unwrap()["totals"], totals(closed));
        }
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_named_with_the_remedy() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let error = ledger(&Asking { url: url.clone(), json: false }, &mut Vec::new()).await.unwrap_err();
        let expected =
            format!("no gateway answers at {url}/api/v1/ledger: start it, or name its address with --url");
        assert_eq!(error.to_string(), expected);

        let stranger = serve(axum::Router::new().route("/api/v1/ledger", get(async || "hello"))).await;
        assert!(matches!(ledger(&stranger, &mut Vec::new()).await, Err(AskError::Foreign { .. })));
    }
}
