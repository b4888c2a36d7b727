//! `ledger write-off` and `ledger write-offs`: orders to a running gateway, and their audit trail.

use std::io::Write;

use serde_json::{Value, json};

use super::LedgerCommand;
use super::ask::{AskError, Gateway, items, plain};

pub(super) async fn run(command: &LedgerCommand, out: &mut dyn Write) -> Result<(), AskError> {
    match command {
        LedgerCommand::WriteOff { asking, device, reason, by } => {
            let by = by.clone().or_else(user).unwrap_or_else(|| "unknown".into());
            let order = json!({"device": device, "reason": reason, "by": by});
            let (_, done) = Gateway::at(asking).order("/api/v1/ledger/write-off", &order).await?;
            if asking.json {
                return Ok(writeln!(out, "{done:#}")?);
            }
            let samples = done.get("samples").unwrap_or(&Value::Null);
            Ok(writeln!(out, "{samples} samples of {} are declared lost", plain(device))?)
        }
        LedgerCommand::WriteOffs { asking, limit } => {
            let query = [("limit", limit.to_string())];
            let (url, page) = Gateway::at(asking).get("/api/v1/ledger/write-offs", &query).await?;
            if asking.json {
                return Ok(writeln!(out, "{page:#}")?);
            }
            for write_off in items(&page, &url)? {
                let text = |name: &str| match write_off.get(name) {
                    None | Some(Value::Null) => "-".into(),
                    Some(Value::String(text)) => plain(text),
                    Some(other) => other.to_string(),
                };
                let fields = ["id", "at", "device", "samples", "by", "reason"].map(text);
                writeln!(out, "{}", fields.join("  "))?;
            }
            Ok(writeln!(out, "{} write-offs in all", page.get("total").unwrap_or(&Value::Null))?)
        }
    }
}

/// Who is logged in.
fn user() -> Option<String> {
    ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cli::Asking;
    use axum::Json;
    use axum::routing::{get, post};

    #[tokio::test]
    async fn an_order_carries_who_and_why_and_the_audit_trail_steers_no_terminal() {
        let order = async |Json(order): Json<Value>| {
            assert_eq!(order["device"], "p-7");
            assert_eq!((&order["reason"], &order["by"]), (&json!("恢复备份之后"), &json!("lin")));
            Json(json!({"samples": 12}))
        };
        let trail = async || Json(json!({"items": [{"id": 3, "reason": "x\u{1b}[2J"}], "total": 1}));
        let router = axum::Router::new()
            .route("/api/v1/ledger/write-off", post(order))
            .route("/api/v1/ledger/write-offs", get(trail));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let asking = Asking { url, json: false };
        let mut out = Vec::new();
        let order = LedgerCommand::WriteOff {
            asking: asking.clone(),
            device: "p-7".into(),
            reason: "恢复备份之后".into(),
            by: Some("lin".into()),
        };
        run(&order, &mut out).await.unwrap();
        assert_eq!(out, b"12 samples of p-7 are declared lost\n");
        let mut out = Vec::new();
        run(&LedgerCommand::WriteOffs { asking, limit: 20 }, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("3  -  -  -  -  x") && text.ends_with("1 write-offs in all\n"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
