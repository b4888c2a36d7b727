//! One batch over HTTP, until every line is stored or refused. The decisions are [`Delivery`]'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use reqwest::{
    Client, StatusCode, Url,
    header::{AUTHORIZATION, HeaderValue},
    redirect,
};
use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::{Options, StartError, batch::Sealed, durability::Look, readback::Question, watch::Page};
use crate::{
    retry::{
        Answer, Delivery, RefusedLine, Step, Verdict,
        http::{ANSWER_BYTES_MAX, random, read_text, retry_after_s, words_of},
    },
    sinks::status::{SinkStatus, State},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// VictoriaMetrics' own metrics are some 100 KiB.
const METRICS_BYTES_MAX: usize = 4 << 20;
/// A look that takes longer has failed.
const LOOK_WITHIN: Duration = Duration::from_secs(5);
/// A point of an export is some 60 bytes.
const POINT_BYTES_MAX: usize = 4096;

/// A database's address.
pub(super) struct Database {
    client: Client,
    write: Url,
    metrics: Url,
    export: Url,
    authorization: Option<HeaderValue>,
    lost_connections: AtomicU64,
}

/// Points cannot be read back.
pub(super) enum NoExport {
    /// No whole answer: to be tried again.
    Lost,
    /// The database refuses, in its words.
    Refused(String),
}

/// A batch that is done with, or given up because the sink stops.
pub(super) struct Delivered {
    pub(super) batch: Sealed,
    pub(super) refused: Vec<RefusedLine>,
    pub(super) refused_in_a_row: u32,
    pub(super) too_large: bool,
    /// When the first attempt began.
    pub(super) sent: Instant,
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
        let mut metrics = base.clone();
        metrics.set_path("/metrics");
        let mut export = base;
        export.set_path("/api/v1/export/csv");
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
        Ok(Self { client, write, metrics, export, authorization, lost_connections: AtomicU64::new(0) })
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
                self.lost_connections.fetch_add(1, Ordering::Relaxed);
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

    /// Writes that got no answer so far: nobody knows what became of the database then.
    pub(super) fn lost_connections(&self) -> u64 {
        self.lost_connections.load(Ordering::Relaxed)
    }

    /// Which process answers, and what it says of rows that it skipped.
    pub(super) async fn look(&self) -> Look {
        let asked = self.client.get(self.metrics.clone()).timeout(LOOK_WITHIN).send().await;
        let Ok(response) = asked else { return Look::Silent };
        let code = response.status();
        if code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS {
            return Look::Silent;
        }
        if !code.is_success() {
            return Look::Mute;
        }
        match read_text(response, METRICS_BYTES_MAX).await {
            None => Look::Silent,
            Some(text) => Page::read(&text).map_or(Look::Mute, Look::Process),
        }
    }

    /// Reads points back, as `device,milliseconds,name`, in no order.
    pub(super) async fn export(
        &self,
        question: &Question,
        mut point: impl FnMut(&str),
    ) -> Result<(), NoExport> {
        let mut url = self.export.clone();
        let devices = question.devices.join("|");
        url.query_pairs_mut().extend_pairs([
            ("format", "device,__timestamp__:unix_ms,__name__"),
            // As they lie on disk, one after another.
            ("reduce_mem_usage", "1"),
            ("match[]", &format!("{{device=~\"{devices}\"}}")),
            ("start", &seconds(question.from_ms)),
            ("end", &seconds(question.to_ms)),
        ]);
        let mut request = self.client.get(url);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let mut response = request.send().await.map_err(|_| NoExport::Lost)?;
        let code = response.status();
        if !code.is_success() {
            let body = read_text(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
            let answer = Answer::Status { code: code.as_u16(), retry_after_s: None, body: &body };
            return Err(if answer.verdict() == Verdict::Later {
                NoExport::Lost
            } else {
                NoExport::Refused(answer.words())
            });
        }
        let mut rest: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| NoExport::Lost)? {
            rest.extend_from_slice(&chunk);
            let whole = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            String::from_utf8_lossy(&rest[..whole]).lines().for_each(&mut point);
            rest.drain(..whole);
            if rest.len() > POINT_BYTES_MAX {
                return Err(NoExport::Refused("its export is no list of points".into()));
            }
        }
        Ok(())
    }
}

fn seconds(time_ms: i64) -> String {
    format!("{}.{:03}", time_ms.div_euclid(1000), time_ms.rem_euclid(1000))
}

pub(super) fn authorization(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Token {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

pub(super) fn log_failure(status: &SinkStatus, held: bool, words: &str, wait_ms: u64) {
    let Some(repeats) = status.failure_to_log(held) else { return };
    let sink = status.name();
    if held {
        tracing::error!(sink, words, repeats, "the database refuses this gateway; everything is kept");
    } else {
        tracing::warn!(sink, words, wait_ms, repeats, "the database takes nothing; trying again");
    }
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
    let sent = Instant::now();
    while let Some(lines) = delivery.lines() {
        let on_its_way = status.request();
        let answer = database.write(batch.body(&lines), &mut text).await;
        drop(on_its_way);
        let (wait_ms, held) = match delivery.answered(&answer, random()) {
            Step::Wait { wait_ms, held } => (wait_ms, held),
            Step::Send | Step::Done => continue,
        };
        let words = answer.words();
        log_failure(&status, held, &words, wait_ms);
        status.enter(if held { State::Held } else { State::Retrying }, &words);
        status.will_retry();
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
    Delivered { batch, refused: delivery.into_refused(), refused_in_a_row, too_large, sent, given_up }
}
