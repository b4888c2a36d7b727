//! A blocking HTTP client: tests are scripts.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Asks one server.
#[derive(Debug)]
pub struct Http {
    base: String,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Http {
    /// Towards a port on loopback.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        // A connection each: a server ends idle ones just when a test comes back to them.
        let client = Client::builder().pool_max_idle_per_host(0).build().expect("client");
        Self { base: format!("http://127.0.0.1:{port}"), client, runtime }
    }

    /// Status and body, or nothing where nobody answers.
    pub fn ask(&self, method: Method, path: &str) -> Option<(u16, String)> {
        self.try_ask(method, path).ok()
    }

    /// Status and body.
    ///
    /// # Errors
    /// Nobody answers, or not to the end.
    pub fn try_ask(&self, method: Method, path: &str) -> reqwest::Result<(u16, String)> {
        let request = self.client.request(method, format!("{}{path}", self.base)).timeout(TIMEOUT);
        self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok((status, response.text().await?))
        })
    }

    /// Whether `path` answers 200.
    pub fn is_ok(&self, path: &str) -> bool {
        self.ask(Method::GET, path).is_some_and(|(status, _)| status == 200)
    }

    /// A body.
    ///
    /// # Panics
    /// There is no answer, or another than 200 or 204.
    pub fn text(&self, path: &str) -> String {
        match self.ask(Method::GET, path) {
            Some((200 | 204, body)) => body,
            other => panic!("GET {}{path}: {other:?}", self.base),
        }
    }

    /// A JSON body.
    ///
    /// # Panics
    /// There is none.
    pub fn json(&self, path: &str) -> Value {
        let text = self.text(path);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// A figure of `/metrics`, by its name with its labels.
    ///
    /// # Panics
    /// There is none of that name.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.text("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

/// Text as a part of a query.
#[must_use]
pub fn quoted(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
