//! `quarantine`: records of a running gateway listed, exported and sent through validation again.
//!
//! A redrive that is refused is reported and does not stop the rest; who is not there at all ends it.

use std::io::{self, Write};

use serde_json::Value;

use super::ask::{AskError, Gateway, items, plain};
use super::{Asking, QuarantineCommand, RecordsAsked};

/// Records on one page; the interface's own bound.
const PAGE: u32 = 1_000;

/// Lists, exports or re-drives; writes to `out`. Answers false where a record could not be re-driven.
///
/// # Errors
/// [`AskError`].
pub async fn quarantine(command: &QuarantineCommand, out: &mut dyn Write) -> Result<bool, AskError> {
    match command {
        QuarantineCommand::List { asking, filter, limit } => {
            list(asking, filter, *limit, out).await?;
            Ok(true)
        }
        QuarantineCommand::Export { asking, filter, payload } => {
            export(asking, filter, *payload, out).await?;
            Ok(true)
        }
        QuarantineCommand::Redrive { asking, filter, ids, .. } if ids.is_empty() => {
            redrive_all(asking, filter, out).await
        }
        QuarantineCommand::Redrive { asking, ids, .. } => {
            let gateway = Gateway::at(asking);
            let mut done = Done::default();
            for id in ids {
                redrive(&gateway, id, asking.json, &mut done, out).await?;
            }
            done.report(asking.json, out)
        }
    }
}

async fn list(
    asking: &Asking,
    filter: &RecordsAsked,
    limit: u32,
    out: &mut dyn Write,
) -> Result<(), AskError> {
    let mut pages = Pages::of(asking, filter);
    if asking.json {
        let page = pages.next(limit).await?.map(|(_, page)| page);
        return Ok(writeln!(out, "{:#}", page.unwrap_or_default())?);
    }
    let mut shown = 0;
    let mut total = Value::Null;
    // A page may hold fewer than were asked for.
    while shown < limit
        && let Some((url, page)) = pages.next(limit - shown).await?
    {
        for record in items(&page, &url)? {
            write_record(record, out)?;
            shown += 1;
        }
        total = page.get("total").cloned().unwrap_or_default();
    }
    match total {
        Value::Null => Ok(writeln!(out, "{shown} records shown")?),
        total => Ok(writeln!(out, "{total} records in all")?),
    }
}

async fn export(
    asking: &Asking,
    filter: &RecordsAsked,
    payload: bool,
    out: &mut dyn Write,
) -> Result<(), AskError> {
    let gateway = Gateway::at(asking);
    let mut pages = Pages::of(asking, filter);
    while let Some((url, page)) = pages.next(PAGE).await? {
        for record in items(&page, &url)? {
            if !payload {
                writeln!(out, "{record}")?;
                continue;
            }
            let id = id_of(record, &url)?;
            let query = [("payload", "true".to_owned())];
            match gateway.get(&format!("/api/v1/quarantine/{id}"), &query).await {
                Ok((_, record)) => writeln!(out, "{record}")?,
                // Discarded, or judged again with success, since the page was read.
                Err(AskError::Refused { status: 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

async fn redrive_all(asking: &Asking, filter: &RecordsAsked, out: &mut dyn Write) -> Result<bool, AskError> {
    let gateway = Gateway::at(asking);
    let mut pages = Pages::of(asking, filter);
    let mut done = Done::default();
    while let Some((url, page)) = pages.next(PAGE).await? {
        for record in items(&page, &url)? {
            if record.get("kind").and_then(Value::as_str) == Some("message") {
                redrive(&gateway, &id_of(record, &url)?, asking.json, &mut done, out).await?;
            } else {
                done.passed_over += 1;
            }
        }
    }
    done.report(asking.json, out)
}

/// What came of a redrive.
#[derive(Debug, Default)]
struct Done {
    accepted: u64,
    refused: u64,
    passed_over: u64,
}

impl Done {
    fn report(&self, json: bool, out: &mut dyn Write) -> Result<bool, AskError> {
        let Self { accepted, refused, passed_over } = self;
        if !json {
            writeln!(
                out,
                "{accepted} records go through validation again, {refused} failed, {passed_over} passed over as no messages"
            )?;
        }
        Ok(self.refused == 0)
    }
}

async fn redrive(
    gateway: &Gateway,
    id: &str,
    json: bool,
    done: &mut Done,
    out: &mut dyn Write,
) -> Result<(), AskError> {
    // What no record is named must not become another address.
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let answer = if is_id {
        gateway.post(&format!("/api/v1/quarantine/{id}/redrive")).await
    } else {
        let detail = "a record id is m-CAUSE, as a list shows it".to_owned();
        Err(AskError::Refused { url: String::new(), status: 400, detail })
    };
    let id = plain(id);
    match answer {
        Ok((_, answer)) => {
            done.accepted += 1;
            if json {
                writeln!(out, "{answer}")?;
            } else {
                let samples = answer.get("samples").unwrap_or(&Value::Null);
                writeln!(out, "record {id}: {samples} samples go through validation again")?;
            }
            Ok(())
        }
        Err(AskError::Refused { status, detail, .. }) => {
            done.refused += 1;
            if json {
                let answer = serde_json::json!({"id": id, "status": status, "detail": detail});
                writeln!(out, "{answer}")?;
            } else {
                writeln!(out, "record {id}: refused with {status}: {detail}")?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Pages of a list, one behind the other.
struct Pages {
    gateway: Gateway,
    query: Vec<(&'static str, String)>,
    before: Option<String>,
    is_over: bool,
}

impl Pages {
    fn of(asking: &Asking, filter: &RecordsAsked) -> Self {
        let RecordsAsked { kind, reason, device, from, to } = filter;
        let named = [("kind", kind), ("reason", reason), ("device", device), ("from", from), ("to", to)];
        let query = named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
        Self { gateway: Gateway::at(asking), query, before: None, is_over: false }
    }

    async fn next(&mut self, limit: u32) -> Result<Option<(String, Value)>, AskError> {
        if self.is_over {
            return Ok(None);
        }
        let mut query = self.query.clone();
        query.push(("limit", limit.min(PAGE).to_string()));
        query.extend(self.before.iter().map(|before| ("before", before.clone())));
        let (url, page) = self.gateway.get("/api/v1/quarantine", &query).await?;
        let next = page.get("next").and_then(Value::as_str).map(str::to_owned);
        // A page that names itself as the next one would have us ask for ever.
        if next.is_some() && next == self.before {
            return Err(AskError::Foreign { url });
        }
        self.is_over = next.is_none();
        self.before = next;
        Ok(Some((url, page)))
    }
}

fn id_of(record: &Value, url: &str) -> Result<String, AskError> {
    let id = record.get("id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| AskError::Foreign { url: url.into() })
}

fn write_record(record: &Value, out: &mut dyn Write) -> io::Result<()> {
    let text = |name: &str| match record.get(name) {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => plain(text),
        Some(other) => other.to_string(),
    };
    let fields = ["id", "arrival", "device", "reason", "samples", "detail"].map(text);
    writeln!(out, "{}", fields.join("  "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Json;
    use axum::extract::{Path, Query};
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use serde_json::json;
    use std::collections::HashMap;

    /// Serves `router` on a free loopback port.
    async fn serve(router: axum::Router) -> Asking {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Asking { url, json: false }
    }

    /// 2,500 records, every third of them a conflict.
    async fn page(Query(asked): Query<HashMap<String, String>>) -> Json<Value> {
        assert_eq!(asked["reason"], "a&b");
        let before: u64 = asked.get("before").map_or(2_501, |before| before.parse().unwrap());
        let limit: u64 = asked["limit"].parse().unwrap();
        let first = before.saturating_sub(limit).max(1);
        let item = |id: u64| {
            let (letter, kind) = if id.is_multiple_of(3) { ("c", "conflict") } else { ("m", "message") };
            json!({"id": format!("{letter}-{id}"), "kind": kind, "detail": "x\u{1b}[2J"})
        };
        let items: Vec<_> = (first..before).rev().map(item).collect();
        let next = (first > 1).then_some(first.to_string());
        Json(json!({"items": items, "next": next, "total": 2_500}))
    }

    fn filter() -> RecordsAsked {
        RecordsAsked { reason: Some("a&b".into()), ..RecordsAsked::default() }
    }

    #[tokio::test]
    async fn an_export_has_every_record_once_across_pages_and_its_payload_if_asked() {
        let record = async |Path(id): Path<String>, Query(asked): Query<HashMap<String, String>>| {
            assert_eq!(asked["payload"], "true");
            if id == "m-7" {
                return (StatusCode::NOT_FOUND, Json(json!({"detail": "it is gone"})));
            }
            (StatusCode::OK, Json(json!({"id": id, "payload_hex": "00ff"})))
        };
        let router = axum::Router::new()
            .route("/api/v1/quarantine", get(page))
            .route("/api/v1/quarantine/{id}", get(record));
        let asking = serve(router).await;
        for payload in [false, true] {
            let mut out = Vec::new();
            let export = QuarantineCommand::Export { asking: asking.clone(), filter: filter(), payload };
            assert!(quarantine(&export, &mut out).await.unwrap());
            let lines: Vec<Value> =
                String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            let numbers = lines.iter().map(|l| l["id"].as_str().unwrap()[2..].parse::<u64>().unwrap());
            assert!(numbers.eq((1..=2_500).rev().filter(|&number| !payload || number != 7)));
            assert!(lines.iter().all(|line| (line["payload_hex"] == "00ff") == payload));
        }

        let mut out = Vec::new();
        let list = QuarantineCommand::List { asking, filter: filter(), limit: 2 };
        quarantine(&list, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains('\u{1b}'), "a control character reached the terminal");
    }

    #[tokio::test]
    async fn a_redrive_that_fails_gives_the_gateways_reason_and_does_not_stop_the_rest() {
        let redrive = async |Path(id): Path<String>| match id.as_str() {
            "m-1" | "m-3" => (StatusCode::ACCEPTED, Json(json!({"id": id, "samples": 24}))),
            _ => (StatusCode::NOT_FOUND, Json(json!({"detail": "no such record"}))),
        };
        let router = axum::Router::new().route("/api/v1/quarantine/{id}/redrive", post(redrive));
        let asking = serve(router).await;
        let ids = ["m-1", "m-2", "../x", "m-3"].map(str::to_owned).to_vec();
        let command = QuarantineCommand::Redrive { asking, filter: RecordsAsked::default(), ids, all: false };
        let mut out = Vec::new();
        assert!(!quarantine(&command, &mut out).await.unwrap(), "exit code 1");
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "record m-1: 24 samples go through validation again");
        assert_eq!(lines[1], "record m-2: refused with 404: no such record");
        assert!(lines[2].starts_with("record ../x: refused with 400: "), "{text}");
        assert_eq!(lines[3], "record m-3: 24 samples go through validation again");
        assert_eq!(lines[4], "2 records go through validation again, 2 failed, 0 passed over as no messages");
    }

    #[tokio::test]
    async fn a_redrive_by_filter_asks_for_every_message_and_passes_over_the_rest() {
        let redrive = async |Path(id): Path<String>| {
            assert!(id.starts_with("m-"), "{id}");
            (StatusCode::ACCEPTED, Json(json!({"id": id, "samples": 1})))
        };
        let router = axum::Router::new()
            .route("/api/v1/quarantine", get(page))
            .route("/api/v1/quarantine/{id}/redrive", post(redrive));
        let asking = serve(router).await;
        let command = QuarantineCommand::Redrive { asking, filter: filter(), ids: vec![], all: false };
        let mut out = Vec::new();
        assert!(quarantine(&command, &mut out).await.unwrap());
        let text = String::from_utf8(out).unwrap();
        let summary = "1667 records go through validation again, 0 failed, 833 passed over as no messages\n";
        assert!(text.ends_with(summary), "{}", &text[text.len() - 200..]);
    }
}
