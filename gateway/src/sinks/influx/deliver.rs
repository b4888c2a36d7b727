//! One batch over HTTP, until every line is stored or refused. The decisions are [`Delivery`]'s.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use reqwest::{
    Client, Url,
    header::{AUTHORIZATION, HeaderValue},
    redirect,
};
use tokio::sync::watch as signal;

use super::{Options, StartError, batch::Sealed};
use crate::sinks::{
    http::{ANSWER_BYTES_MAX, random, read_text, retry_after_s, words_of},
    manners::{Answer, Delivery, RefusedLine, Step},
    status::{SinkStatus, State},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// VictoriaMetrics' own metrics are some 100 KiB.
const METRICS_BYTES_MAX: usize = 4 << 20;

/// A database's address.
pub(super) struct Database {
    client: Client,
    write: Url,
    metrics: Url,
    authorization: Option<HeaderValue>,
}

/// A batch that is done with, or given up because the sink stops.
pub(super) struct Delivered {
    pub(super) batch: Sealed,
    pub(super) refused: Vec<RefusedLine>,
    pub(super) refused_in_a_row: u32,
    pub(super) too_large: bool,
    /// Not done: the cursor must not pass it.
    pub(super) given_up: bool,
}

impl Database {
    pub(super) fn new(options: &Options) -> Result<Self, StartError> {
        let bad_url = || StartError::Url { name: options.name.clone() };
        let base = Url::parse(&options.url).map_err(|_| bad_url())?;
        if base.scheme() != "http"
            || !base.has_host()
            || !matches!(base.path(), "" | "/")
            || base.query().is_some()
        {
            return Err(bad_url());
        }
        let mut write = base.clone();
        write.set_path("/api/v2/write");
        let names = [("org", options.org.as_str()), ("bucket", &options.bucket), ("precision", "ms")];
        write.query_pairs_mut().extend_pairs(names);
        let mut metrics = base;
        metrics.set_path("/metrics");
        let authorization = if options.token.is_empty() {
            None
        } else {
            let value = authorization(&options.token);
            Some(value.ok_or_else(|| StartError::Token { name: options.name.clone() })?)
        };
        let client = Client::builder()
            .timeout(options.request_timeout)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(usize::from(options.in_flight_max.get()) + 1)
            .tcp_nodelay(true)
            .build();
        let client = client.map_err(|source| StartError::System {
            name: options.name.clone(),
            action: "make an HTTP client",
            source: source.into(),
        })?;
        Ok(Self { client, write, metrics, authorization })
    }

    /// Writes lines. The answer's text is put into `text`.
    async fn write<'a>(&self, body: Bytes, text: &'a mut String) -> Answer<'a> {
        let mut request = self.client.post(self.write.clone()).body(body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        text.clear();
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                *text = words_of(&error);
                return Answer::None(text);
            }
        };
        let code = response.status().as_u16();
        let retry_after_s = retry_after_s(&response);
        // The status has come, so the write is decided, whether or not the words arrive.
        *text = read_text(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
        Answer::Status { code, retry_after_s, body: text }
    }

    /// The database's own metrics, where they can be had.
    pub(super) async fn metrics(&self) -> Option<String> {
        let response = self.client.get(self.metrics.clone()).send().await.ok()?;
        read_text(response.error_for_status().ok()?, METRICS_BYTES_MAX).await
    }
}

fn authorization(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Token {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Sends a batch until every line is stored or refused, or the sink stops.
pub(super) async fn deliver(
    database: Arc<Database>,
    batch: Sealed,
    refused_in_a_row: u32,
    status: Arc<SinkStatus>,
    mut stopped: signal::Receiver<bool>,
) -> Delivered {
    let mut delivery = Delivery::new(batch.rows(), refused_in_a_row);
    let mut text = String::new();
    let mut given_up = false;
    while let Some(lines) = delivery.lines() {
        status.requested();
        let answer = database.write(batch.body(&lines), &mut text).await;
        let (wait_ms, held) = match delivery.answered(&answer, random()) {
            Step::Wait { wait_ms, held } => (wait_ms, held),
            Step::Send | Step::Done => continue,
        };
        let words = answer.words();
        if held {
            tracing::error!(
                sink = status.name(),
                words,
                "the database refuses this gateway; everything is kept"
            );
        } else {
            tracing::warn!(sink = status.name(), words, wait_ms, "the database takes nothing; trying again");
        }
        status.enter(if held { State::Held } else { State::Retrying }, &words);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {
                given_up = true;
                break;
            }
        }
    }
    if !given_up && batch.rows() > 0 {
        status.enter(State::Running, "");
    }
    let (refused_in_a_row, too_large) = (delivery.refused_in_a_row(), delivery.was_too_large());
    Delivered { batch, refused: delivery.into_refused(), refused_in_a_row, too_large, given_up }
}
