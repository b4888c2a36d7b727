//! `ledger`, and what every question to a running gateway over its HTTP interface needs.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use super::{Asking, LedgerOptions, write_off};

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

/// Shows the ledger and answers whether it closes, or does what else is asked of it.
///
/// # Errors
/// [`AskError`].
pub async fn ledger(options: &LedgerOptions, out: &mut dyn Write) -> Result<bool, AskError> {
    match &options.command {
        None => show_ledger(&options.asking, out).await,
        Some(command) => write_off::run(command, out).await.map(|()| true),
    }
}

async fn show_ledger(asking: &Asking, out: &mut dyn Write) -> Result<bool, AskError> {
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
    let written_off = totals.get("written_off").and_then(Value::as_u64).unwrap_or(0);
    let names =
        ["sampled", "stored", "quarantined", "declared_lost", "outstanding", "unexplained", "duplicates"];
    for name in names {
        // As text first: a JSON value does not heed a width.
        let count = totals.get(name).map_or_else(|| "-".into(), Value::to_string);
        write!(out, "{name:<14} {count:>14}")?;
        if name == "declared_lost" && written_off > 0 {
            write!(out, "  ({written_off} written off)")?;
        }
        writeln!(out)?;
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
    writeln!(
        out,
        "the ledger {}{}",
        if closed { "closes" } else { "does not close" },
        refused_whole(totals)
    )?;
    Ok(closed)
}

/// What the ledger's counts do not hold, in words: messages refused whole, the commonest reason first.
fn refused_whole(totals: &Value) -> String {
    let Some(by_reason) = totals.get("messages_refused").and_then(Value::as_object) else {
        return String::new();
    };
    let mut reasons: Vec<(u64, String)> =
        by_reason.iter().map(|(reason, count)| (count.as_u64().unwrap_or(0), plain(reason))).collect();
    reasons.retain(|(count, _)| *count > 0);
    if reasons.is_empty() {
        return String::new();
    }
    reasons.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    let sum = reasons.iter().fold(0_u64, |sum, (count, _)| sum.saturating_add(*count));
    let words: Vec<String> =
        reasons.iter().map(|(count, reason)| format!("{reason} {}", grouped(*count))).collect();
    let messages = if sum == 1 { "message was" } else { "messages were" };
    let (sum, words) = (grouped(sum), words.join(", "));
    format!("; {sum} {messages} refused whole ({words}): none of their samples is counted above")
}

/// `1,182`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn items<'a>(page: &'a Value, url: &str) -> Result<&'a Vec<Value>, AskError> {
    page.get("items").and_then(Value::as_array).ok_or_else(|| AskError::Foreign { url: url.into() })
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

    pub(super) async fn order(&self, path: &str, order: &Value) -> Result<(String, Value), AskError> {
        let url = format!("{}{path}", self.base);
        let request = self
            .client
            .post(&url)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(order.to_string());
        self.answer(url, request).await
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
            assert_eq!(show_ledger(&asking, &mut out).await.unwrap(), closed);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("stored                      9\n"), "{text}");
            assert!(text.ends_with(if closed { "closes\n" } else { "does not close\n" }), "{text}");
            asking.json = true;
            let mut out = Vec::new();
            show_ledger(&asking, &mut out).await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&out).unwrap()["totals"], totals(closed));
        }
    }

    #[tokio::test]
    async fn the_ledger_names_the_messages_that_it_does_not_count() {
        let text = async |closed: bool, refused: Value| {
            let mut totals = totals(closed);
            totals["messages_refused"] = refused;
            let answer = json!({"totals": totals, "rows": []});
            let router = axum::Router::new().route("/api/v1/ledger", get(async || Json(answer)));
            let (asking, mut out) = (serve(router).await, Vec::new());
            ledger(&LedgerOptions { command: None, asking }, &mut out).await.unwrap();
            let text = String::from_utf8(out).unwrap();
            text.lines().last().unwrap().to_owned()
        };
        assert_eq!(
            text(true, json!({"not_protobuf": 82, "unknown_device": 1_100, "oversize": 0})).await,
            "the ledger closes; 1,182 messages were refused whole (unknown_device 1,100, not_protobuf 82): none of \
             their samples is counted above"
        );
        assert_eq!(
            text(false, json!({"a\u{1b}[2J": 1})).await,
            "the ledger does not close; 1 message was refused whole (a\u{fffd}[2J 1): none of their samples is \
             counted above"
        );
        assert_eq!(text(true, json!({})).await, "the ledger closes");
        assert_eq!(
            grouped(12_345_678) + " " + &grouped(999) + " " + &grouped(100_000),
            "12,345,678 999 100,000"
        );
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_named_with_the_remedy() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let nobody = Asking { url: url.clone(), json: false };
        let error = show_ledger(&nobody, &mut Vec::new()).await.unwrap_err();
        let expected =
            format!("no gateway answers at {url}/api/v1/ledger: start it, or name its address with --url");
        assert_eq!(error.to_string(), expected);

        let stranger = serve(axum::Router::new().route("/api/v1/ledger", get(async || "hello"))).await;
        assert!(matches!(show_ledger(&stranger, &mut Vec::new()).await, Err(AskError::Foreign { .. })));
    }
}
