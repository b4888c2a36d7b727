//! Asks a database, before the first write, whether it is there and what the configuration says. Creates InfluxDB's bucket
//! where it is missing.
//!
//! `hunhe-gateway check` asks once ([`ask`]). The sink's own thread asks until the answer is good ([`prepare`]).
//!
//! Invariants
//! - Nothing is written before a good answer. Decisions wait in the decided log, and nothing else in the gateway waits.
//! - A token that may write is good, even if it sees neither organisation nor bucket: an empty write proves it. It proves
//!   the same of a proxy that lets through writes alone and answers all else with a page of its own.
//! - A bucket that exists is never changed.
//! - An error names what is wrong and the command that mends it.
//!
//! Bounds: one question takes at most [`ANSWER_WITHIN`]; the waits between questions are those of [`retry`](crate::retry).
//! The `influxdb2` crate reads an answer whole, whatever its length.
//!
//! Deliberately absent: creating an organisation or a token. VictoriaMetrics has no organisation and no bucket: it is asked
//! for its health alone.

use std::{error::Error, time::Duration};

use influxdb2::{
    Client, RequestError,
    api::{buckets::ListBucketsRequest, organization::ListOrganizationRequest},
    models::{Bucket, PostBucketRequest, RetentionRule, health::Status, retention_rule::Type},
};
use reqwest::{Url, header::AUTHORIZATION, redirect};
use tokio::sync::watch as signal;

use super::{
    Options,
    deliver::{authorization, log_failure},
    line_protocol::Dialect,
};
use crate::{
    retry::{
        Answer, Backoff, Verdict,
        http::{ANSWER_BYTES_MAX, random, read_text, words_of},
    },
    sinks::status::{SinkStatus, State},
};

/// The crate sets no time-out of its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A database that can be written to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// Its name and version.
    pub database: String,
    /// Was the bucket created just now?
    pub created_bucket: bool,
    /// What may lose data, each with its remedy.
    pub warnings: Vec<String>,
}

/// A database that cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Not a URL this sink can use.
    #[error("url {url} is not http://host:port: correct it")]
    Url {
        /// As configured.
        url: String,
    },
    /// No answer.
    #[error("the database at {url} does not answer ({words}): start it, or correct the url")]
    Silent {
        /// As configured.
        url: String,
        /// Why not.
        words: String,
    },
    /// It answers, and is not ready.
    #[error("the database at {url} is not ready: {words}")]
    NotReady {
        /// As configured.
        url: String,
        /// The database's words.
        words: String,
    },
    /// Another database, or no database at all.
    #[error("what answers at {url} is not {expected}: correct url or kind")]
    Other {
        /// As configured.
        url: String,
        /// The configured database.
        expected: &'static str,
    },
    /// The token is refused.
    #[error("the database at {url} refuses the token ({words}): make one with `{command}`")]
    Token {
        /// As configured.
        url: String,
        /// The database's words.
        words: String,
        /// Makes one.
        command: String,
    },
    /// No such organisation.
    #[error("the database at {url} has no organisation {org:?}: correct its name, or run `{command}`")]
    Organisation {
        /// As configured.
        url: String,
        /// As configured.
        org: String,
        /// Creates it.
        command: String,
    },
    /// No such bucket, and the token may not create it.
    #[error(
        "organisation {org:?} has no bucket {bucket:?}, and the token may not create it: run `{command}`"
    )]
    Bucket {
        /// As configured.
        org: String,
        /// As configured.
        bucket: String,
        /// Creates it.
        command: String,
    },
}

impl SetupError {
    /// Can it pass by itself? The others need a person.
    const fn is_temporary(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::NotReady { .. })
    }
}

/// Asks until the answer is good; `false`: the sink was stopped before.
pub(super) async fn prepare(
    options: &Options,
    status: &SinkStatus,
    stopped: &mut signal::Receiver<bool>,
) -> bool {
    let mut backoff = Backoff::default();
    loop {
        let answer = tokio::select! {
            answer = ask(options) => answer,
            _ = stopped.wait_for(|stopped| *stopped) => return false,
        };
        let error = match answer {
            Ok(found) => {
                tracing::info!(sink = status.name(), database = found.database, "the database is ready");
                report(&found, options, status);
                return true;
            }
            Err(error) => error,
        };
        let held = !error.is_temporary();
        let wait_ms = if held { backoff.next_held_ms() } else { backoff.next_ms(None, random()) };
        let words = error.to_string();
        log_failure(status, held, &words, wait_ms);
        status.enter(if held { State::Held } else { State::Retrying }, &words);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return false,
        }
    }
}

fn report(found: &Found, options: &Options, status: &SinkStatus) {
    let sink = status.name();
    if found.created_bucket {
        tracing::info!(sink, org = options.org, bucket = options.bucket, "the bucket was created");
    }
    if !found.warnings.is_empty() {
        let warning = found.warnings.join("; ");
        tracing::warn!(sink, warning, "the database may lose data");
        status.warn(warning);
    }
    status.enter(State::Running, "");
}

/// Asks once, and creates InfluxDB's bucket where it is missing.
///
/// # Errors
/// [`SetupError`] with the first thing that keeps every line from being stored.
pub async fn ask(options: &Options) -> Result<Found, SetupError> {
    let url = Url::parse(&options.url).ok().filter(|url| url.scheme() == "http" && url.has_host());
    // The crate panics on a URL that does not parse.
    let url = url.ok_or_else(|| SetupError::Url { url: options.url.clone() })?;
    match options.dialect {
        Dialect::Influxdb => Influxdb::of(options).ask().await,
        Dialect::Victoriametrics => victoriametrics(options, url).await,
    }
}

/// Why a question has no good answer.
enum Failure {
    /// Nobody answers.
    Silent(String),
    /// Not at the moment.
    Later(String),
    /// An answer that no repetition changes.
    Refused { code: u16, words: String },
    /// An answer that InfluxDB 2 does not give.
    Foreign,
}

struct Influxdb<'a> {
    options: &'a Options,
    client: Client,
}

impl<'a> Influxdb<'a> {
    fn of(options: &'a Options) -> Self {
        Self { options, client: Client::new(&options.url, &options.org, &options.token) }
    }

    async fn ask(&self) -> Result<Found, SetupError> {
        let mut health = None;
        match self.look(&mut health).await {
            // An answer that cannot be read: a proxy's page, or a retention beyond 68 years.
            Err(error @ SetupError::Other { .. }) => self.write_nothing(health, error).await,
            answer => answer,
        }
    }

    /// Looks for health, organisation and bucket; `database` becomes the database's name and version, where its health has
    /// them.
    async fn look(&self, database: &mut Option<String>) -> Result<Found, SetupError> {
        // Health hides the code of an answer that is no JSON, as a proxy's 503.
        match answer_of(self.client.ready()).await {
            Ok(_) | Err(Failure::Refused { .. }) => {}
            Err(failure) => return Err(self.error(failure)),
        }
        match answer_of(self.client.health()).await {
            Ok(health) if health.status == Status::Pass => {
                let named = format!("{} {}", health.name, health.version.unwrap_or_default());
                *database = Some(named.trim().to_owned());
            }
            Ok(health) => {
                let words = health.message.unwrap_or_else(|| "its health is `fail`".into());
                return Err(SetupError::NotReady { url: self.url(), words });
            }
            // A proxy may let through writes alone.
            Err(Failure::Refused { .. }) => {}
            Err(failure) => return Err(self.error(failure)),
        }
        let database = database.clone();
        let Some(org_id) = self.organisation_id().await? else {
            let command = self.command("org create", &[("name", &self.options.org)]);
            let org = self.options.org.clone();
            return self
                .write_nothing(database, SetupError::Organisation { url: self.url(), org, command })
                .await;
        };
        match self.bucket(&org_id).await? {
            Some(bucket) => {
                let warnings = retention_warning(self.options, &bucket).into_iter().collect();
                Ok(Found { database: named(database), created_bucket: false, warnings })
            }
            None => self.create_bucket(database, org_id).await,
        }
    }

    async fn create_bucket(&self, database: Option<String>, org_id: String) -> Result<Found, SetupError> {
        let mut request = PostBucketRequest::new(org_id, self.options.bucket.clone());
        let every_s = self.options.retention_s.and_then(|seconds| i32::try_from(seconds).ok());
        request.retention_rules.extend(every_s.map(|seconds| RetentionRule::new(Type::Expire, seconds)));
        match answer_of(self.client.create_bucket(Some(request))).await {
            Ok(()) => Ok(Found { database: named(database), created_bucket: true, warnings: Vec::new() }),
            // The token may not, or it may not see the bucket that exists.
            Err(Failure::Refused { .. }) => self.write_nothing(database, self.no_bucket()).await,
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// `None`: there is none, or the token does not see it.
    async fn organisation_id(&self) -> Result<Option<String>, SetupError> {
        let org = &self.options.org;
        let request = ListOrganizationRequest { org: Some(org.clone()), ..ListOrganizationRequest::new() };
        match answer_of(self.client.list_organizations(request)).await {
            Ok(found) => {
                Ok(found.orgs.into_iter().find(|found| found.name == *org).and_then(|found| found.id))
            }
            Err(Failure::Refused { code: 403 | 404, .. }) => Ok(None),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// `None`: there is none, or the token does not see it.
    async fn bucket(&self, org_id: &str) -> Result<Option<Bucket>, SetupError> {
        let name = &self.options.bucket;
        let request = ListBucketsRequest {
            name: Some(name.clone()),
            org_id: Some(org_id.to_owned()),
            ..ListBucketsRequest::default()
        };
        match answer_of(self.client.list_buckets(Some(request))).await {
            Ok(found) => Ok(found.buckets.into_iter().find(|bucket| bucket.name == *name)),
            Err(Failure::Refused { code: 403 | 404, .. }) => Ok(None),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// InfluxDB looks for bucket and permission before it looks at the lines: 400 says that both are good. VictoriaMetrics
    /// and a proxy's page accept an empty write: that proves nothing where health is not InfluxDB's.
    async fn write_nothing(
        &self,
        database: Option<String>,
        otherwise: SetupError,
    ) -> Result<Found, SetupError> {
        let write = self.client.write_line_protocol(&self.options.org, &self.options.bucket, "");
        match answer_of(write).await {
            Ok(()) if database.is_none() && matches!(otherwise, SetupError::Other { .. }) => Err(otherwise),
            Ok(()) | Err(Failure::Refused { code: 400, .. }) => {
                let warning = "the bucket may be written to, and its retention cannot be seen with this token: check it yourself";
                Ok(Found { database: named(database), created_bucket: false, warnings: vec![warning.into()] })
            }
            Err(Failure::Refused { code: 404, .. }) => Err(otherwise),
            Err(failure) => Err(self.error(failure)),
        }
    }

    fn error(&self, failure: Failure) -> SetupError {
        let url = self.url();
        match failure {
            Failure::Silent(words) => SetupError::Silent { url, words },
            Failure::Later(words) => SetupError::NotReady { url, words },
            Failure::Refused { code: 401 | 403, words } => {
                let org = ("org", self.options.org.as_str());
                let mut command = self.command("auth create", &[org]);
                command += " --read-orgs --read-buckets --write-buckets";
                SetupError::Token { url, words, command }
            }
            Failure::Refused { .. } | Failure::Foreign => SetupError::Other { url, expected: "InfluxDB 2" },
        }
    }

    fn no_bucket(&self) -> SetupError {
        let Options { org, bucket, retention_s, .. } = self.options;
        let mut command = self.command("bucket create", &[("org", org), ("name", bucket)]);
        if let Some(seconds) = retention_s {
            command += &format!(" --retention {seconds}s");
        }
        SetupError::Bucket { org: org.clone(), bucket: bucket.clone(), command }
    }

    /// A command line of the database's own client.
    fn command(&self, what: &str, flags: &[(&str, &str)]) -> String {
        let host = ("host", self.options.url.as_str());
        std::iter::once(&host).chain(flags).fold(format!("influx {what}"), |command, (flag, value)| {
            format!("{command} --{flag} {}", quoted(value))
        })
    }

    fn url(&self) -> String {
        self.options.url.clone()
    }
}

/// The database as its health calls it; a proxy may hide that.
fn named(database: Option<String>) -> String {
    database.unwrap_or_else(|| "InfluxDB 2".into())
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A bucket that drops samples before the gateway expects it.
fn retention_warning(options: &Options, bucket: &Bucket) -> Option<String> {
    let rules = bucket.retention_rules.iter();
    let kept_s = rules.filter_map(|rule| u64::try_from(rule.every_seconds).ok()).filter(|&s| s > 0).min()?;
    let is_expected = options.retention_s.is_some_and(|expected_s| expected_s <= kept_s);
    (!is_expected).then(|| {
        format!(
            "bucket {:?} refuses samples older than {kept_s} s, which go to quarantine: set the database's `retention` to \
             as much or less, or let the bucket keep more",
            options.bucket
        )
    })
}

async fn answer_of<T>(question: impl Future<Output = Result<T, RequestError>>) -> Result<T, Failure> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, question).await;
    let answer = answer.map_err(|_| Failure::Silent("no answer in time".into()))?;
    answer.map_err(|error| match error {
        RequestError::Http { status, text } => failure_of(status.as_u16(), &text),
        RequestError::ReqwestProcessing { source } if !source.is_decode() => {
            // The crate's HTTP client is of another version than ours.
            let mut innermost: &dyn Error = &source;
            while let Some(source_lsn) = innermost.source() {
                innermost = source_lsn;
            }
            Failure::Silent(innermost.to_string())
        }
        _ => Failure::Foreign,
    })
}

fn failure_of(code: u16, body: &str) -> Failure {
    let answer = Answer::Status { code, retry_after_s: None, body };
    match answer.verdict() {
        Verdict::Later => Failure::Later(answer.words()),
        _ => Failure::Refused { code, words: answer.words() },
    }
}

async fn victoriametrics(options: &Options, mut url: Url) -> Result<Found, SetupError> {
    let silent = |error| SetupError::Silent { url: options.url.clone(), words: words_of(&error) };
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).redirect(redirect::Policy::none());
    url.set_path("/health");
    let mut request = client.build().map_err(silent)?.get(url);
    if let Some(token) = authorization(&options.token).filter(|_| !options.token.is_empty()) {
        request = request.header(AUTHORIZATION, token);
    }
    let response = request.send().await.map_err(silent)?;
    let code = response.status().as_u16();
    let body = read_text(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
    if let Failure::Later(words) = failure_of(code, &body) {
        return Err(SetupError::NotReady { url: options.url.clone(), words });
    }
    // InfluxDB answers with JSON; a proxy that lets through writes alone with whatever it likes.
    if body.trim_start().starts_with('{') && body.contains("influxdb") {
        return Err(SetupError::Other { url: options.url.clone(), expected: "VictoriaMetrics" });
    }
    Ok(Found { database: "VictoriaMetrics".into(), created_bucket: false, warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_of_a_command_whatever_it_holds() {
        assert_eq!(quoted("http://127.0.0.1:8086"), "http://127.0.0.1:8086");
        assert_eq!(quoted("my org"), "'my org'");
        assert_eq!(quoted("a'b; $(c)"), r"'a'\''b; $(c)'");
    }

    #[test]
    fn a_bucket_that_keeps_less_than_expected_is_reported() {
        let bucket = |every_s| Bucket::new("city".into(), vec![RetentionRule::new(Type::Expire, every_s)]);
        let warned = |expected_s, every_s| {
            let mut options = Options::new("influx", "http://db", Dialect::Influxdb, "x.cursor".into());
            options.retention_s = expected_s;
            retention_warning(&options, &bucket(every_s)).is_some()
        };
        assert!(warned(None, 86_400) && warned(Some(86_401), 86_400));
        assert!(!warned(Some(86_400), 86_400) && !warned(Some(1), 86_400));
        assert!(!warned(None, 0) && !warned(Some(86_400), 0), "for ever");
    }
}
