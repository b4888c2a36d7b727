//! Looks at a database before anything is written to it, for `check` and for the first start: is it there, is it what the
//! configuration says, will it keep what it is given?
//!
//! InfluxDB 2 is asked through the `influxdb2` crate: health, readiness, organisation, bucket; a missing bucket is made on
//! request. VictoriaMetrics has none of these: there the flags count that decide what it silently drops or doubles.
//!
//! Deliberately absent: waiting for a database that is down, and changing one that exists.

use std::time::Duration;

use influxdb2::{
    Client, RequestError,
    api::{buckets::ListBucketsRequest, organization::ListOrganizationRequest},
    models::{PostBucketRequest, health::Status},
};

use super::influx::Options;
use super::influx::line_protocol::Dialect;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// The database's name and version, as it says itself.
    pub database: String,
    /// Was the bucket made just now?
    pub created_bucket: bool,
    /// What will lose or double data, each with what would be right.
    pub warnings: Vec<String>,
}

/// A database that cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not a URL this sink can use.
    #[error("url {url}: must be http://host:port")]
    Url {
        /// As configured.
        url: String,
    },
    /// No answer.
    #[error("database at {url} does not answer: is it running, and is the address right?")]
    Silent {
        /// As configured.
        url: String,
    },
    /// Not the database that was configured.
    #[error("what answers at {url} is not {expected}: check url and kind")]
    Other {
        /// As configured.
        url: String,
        /// The database it should be.
        expected: &'static str,
    },
    /// It is there, and not in order.
    #[error("database at {url} is not ready: {words}")]
    NotReady {
        /// As configured.
        url: String,
        /// The database's words.
        words: String,
    },
    /// The token is refused.
    #[error("database at {url} refuses the token: {words}")]
    Token {
        /// As configured.
        url: String,
        /// The database's words.
        words: String,
    },
    /// No such organisation.
    #[error(
        "database at {url} has no organisation {org:?} that the token may see: create it, or correct the name"
    )]
    Organisation {
        /// As configured.
        url: String,
        /// Its name.
        org: String,
    },
    /// No such bucket.
    #[error("organisation {org:?} has no bucket {bucket:?}: create it, or correct the name")]
    Bucket {
        /// The organisation.
        org: String,
        /// The bucket.
        bucket: String,
    },
}

/// Looks at the database of a sink; `create`: make InfluxDB's bucket where it is missing.
///
/// # Errors
/// [`ProbeError`] with the first thing that would keep every line from being stored.
pub async fn probe(options: &Options, create: bool) -> Result<Found, ProbeError> {
    let url = reqwest::Url::parse(&options.url).ok().filter(|url| url.scheme() == "http" && url.has_host());
    // The crate panics on a URL that does not parse.
    let url = url.ok_or_else(|| ProbeError::Url { url: options.url.clone() })?;
    match options.dialect {
        Dialect::Influxdb => influxdb(options, create).await,
        Dialect::Victoriametrics => victoriametrics(options, url).await,
    }
}

async fn influxdb(options: &Options, create: bool) -> Result<Found, ProbeError> {
    let client = Client::new(&options.url, &options.org, &options.token);
    let health = ask(options, client.health()).await?;
    if health.status != Status::Pass {
        let words = health.message.unwrap_or_else(|| "health is `fail`".into());
        return Err(ProbeError::NotReady { url: options.url.clone(), words });
    }
    ask(options, client.ready()).await?;
    let request =
        ListOrganizationRequest { org: Some(options.org.clone()), ..ListOrganizationRequest::new() };
    let no_org = || ProbeError::Organisation { url: options.url.clone(), org: options.org.clone() };
    let organizations = match ask(options, client.list_organizations(request)).await {
        // InfluxDB says so of a name that it does not know, or does not show to this token.
        Err(ProbeError::NotReady { words, .. }) if words.starts_with("404") => return Err(no_org()),
        organizations => organizations?,
    };
    let organization = organizations.orgs.into_iter().find(|organization| organization.name == options.org);
    let org_id = organization.and_then(|organization| organization.id).ok_or_else(no_org)?;
    let request = ListBucketsRequest {
        name: Some(options.bucket.clone()),
        org_id: Some(org_id.clone()),
        ..ListBucketsRequest::default()
    };
    let found = match ask(options, client.list_buckets(Some(request))).await {
        Err(ProbeError::NotReady { words, .. }) if words.starts_with("404") => None,
        buckets => buckets?.buckets.into_iter().find(|bucket| bucket.name == options.bucket),
    };
    let mut warnings = Vec::new();
    let created_bucket = match found {
        Some(bucket) => {
            warnings.extend(bucket.retention_rules.iter().filter(|rule| rule.every_seconds > 0).map(
                |rule| {
                    format!(
                        "bucket {:?} refuses points older than {} s: they go to quarantine",
                        options.bucket, rule.every_seconds
                    )
                },
            ));
            false
        }
        None if create => {
            let request = PostBucketRequest::new(org_id, options.bucket.clone());
            ask(options, client.create_bucket(Some(request))).await?;
            true
        }
        None => return Err(ProbeError::Bucket { org: options.org.clone(), bucket: options.bucket.clone() }),
    };
    let version = health.version.unwrap_or_default();
    Ok(Found { database: format!("{} {version}", health.name).trim().to_owned(), created_bucket, warnings })
}

/// The crate sets no time-out of its own.
async fn ask<T>(
    options: &Options,
    question: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, ProbeError> {
    let url = || options.url.clone();
    let answer =
        tokio::time::timeout(ANSWER_WITHIN, question).await.map_err(|_| ProbeError::Silent { url: url() })?;
    answer.map_err(|error| match error {
        RequestError::Http { status, text } => {
            let words =
                format!("{} {}", status.as_u16(), text.split_whitespace().collect::<Vec<_>>().join(" "));
            match status.as_u16() {
                401 | 403 => ProbeError::Token { url: url(), words },
                _ => ProbeError::NotReady { url: url(), words },
            }
        }
        RequestError::ReqwestProcessing { source } if !source.is_decode() => {
            ProbeError::Silent { url: url() }
        }
        _ => ProbeError::Other { url: url(), expected: "InfluxDB 2" },
    })
}

async fn victoriametrics(options: &Options, url: reqwest::Url) -> Result<Found, ProbeError> {
    let silent = |_| ProbeError::Silent { url: options.url.clone() };
    let other = || ProbeError::Other { url: options.url.clone(), expected: "VictoriaMetrics" };
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).build().map_err(silent)?;
    let read = async |path: &str| {
        let mut url = url.clone();
        url.set_path(path);
        let response = client.get(url).send().await.map_err(silent)?;
        let words = response.status().to_string();
        match response.error_for_status() {
            Ok(response) => response.text().await.map_err(silent),
            Err(error) if error.status().is_some_and(|status| status.is_server_error()) => {
                Err(ProbeError::NotReady { url: options.url.clone(), words })
            }
            Err(_) => Err(other()),
        }
    };
    let metrics = read("/metrics").await?;
    let labels = metrics.lines().find_map(|line| line.strip_prefix("vm_app_version{version=\""));
    // Distributions build it without a version.
    let version = labels.ok_or_else(other)?.split('"').next().unwrap_or_default();
    let database = format!("VictoriaMetrics {version}").trim().to_owned();
    Ok(Found { database, created_bucket: false, warnings: flag_warnings(&read("/flags").await?) })
}

/// What the flags, one `-name="value"` a line, will do to our data.
fn flag_warnings(flags: &str) -> Vec<String> {
    let flag = |name: &str| {
        let values = flags.lines().filter_map(|line| line.trim().trim_start_matches('-').split_once('='));
        values
            .into_iter()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value.trim_matches('"').to_owned())
    };
    let mut warnings = Vec::new();
    let interval = flag("dedup.minScrapeInterval").unwrap_or_default();
    if !matches!(interval.as_str(), "1s" | "1000ms") {
        warnings.push(format!(
            "-dedup.minScrapeInterval is {interval:?}: with 1s the newest revision of a window is returned; without it all \
             are, and with more, samples are dropped"
        ));
    }
    let retention = flag("retentionPeriod").unwrap_or_default();
    if retention.is_empty() || retention == "1" {
        warnings.push(
            "-retentionPeriod is a month: older points are accepted and dropped; set it to as long as data is to be kept"
                .into(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_lose_or_double_data_are_named() {
        let page = "-dedup.minScrapeInterval=\"1s\"\n-httpListenAddr=\":8428\"\n-retentionPeriod=\"10y\"\n";
        assert_eq!(flag_warnings(page), Vec::<String>::new());
        let warnings = flag_warnings("-httpListenAddr=\":8428\"\n");
        assert!(
            warnings.len() == 2
                && warnings[0].contains("minScrapeInterval")
                && warnings[1].contains("retention")
        );
        assert_eq!(flag_warnings(&page.replace("\"1s\"", "\"1m0s\"")).len(), 1);
    }
}
