//! Alerts to a webhook: one POST with the alert as JSON, `Idempotency-Key` and, where configured, a bearer token.
//!
//! | answer | meaning | then |
//! |---|---|---|
//! | 2xx | taken | next |
//! | none, 408, 425, 429, 5xx | not now | the same again, for ever, after a growing random wait or as long as `Retry-After` says |
//! | 401, 403, 404, 405, 407, 410, a redirect | not the configured receiver, or not with this token | kept; tried again after 5 s, growing to a minute |
//! | 4xx else | this alert is refused | logged, counted, skipped |
//!
//! Deliberately absent: TLS (the receiver, or a proxy to it, is on this host) and following redirects: an alert goes where
//! it was configured to go.

use super::{
    Handle, Notification, Outcome, Receiver, Source,
    output::{self, Named},
    queues::Limits,
};
use crate::{
    alerts::deliver::status::Kind,
    retry::{
        Answer,
        http::{ANSWER_BYTES_MAX, read_text, retry_after_s, words_of},
    },
    setup::config::Webhook,
};
use anyhow::Context;
use reqwest::{
    Client, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect,
};
use std::time::Duration;

/// Live alerts under way, each on a connection of its own. Where seventy agents alarm at once and an answer takes 50 ms, the
/// alert of one more waits for a notification of each: for 220 ms. Ten webhooks keep within the files of `descriptors`.
const IN_FLIGHT: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Starts a webhook's output.
///
/// # Errors
/// Where the machine refuses, or a configured text cannot be sent.
pub fn start(webhook: &Webhook, source: Source) -> anyhow::Result<Handle> {
    let limits = Limits::with_in_flight(IN_FLIGHT);
    let named = Named { name: &webhook.name, kind: Kind::Webhook, limits };
    output::start(&named, source, || Endpoint::new(webhook))
}

struct Endpoint {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    fn new(webhook: &Webhook) -> anyhow::Result<Self> {
        let name = &webhook.name;
        let url = Url::parse(&webhook.url).with_context(|| format!("webhook {name}: url"))?;
        let bearer =
            webhook.token.as_ref().map(|token| HeaderValue::from_str(&format!("Bearer {}", token.expose())));
        let mut authorization = bearer.transpose().with_context(|| {
            format!("webhook {name}: the token has characters that no header can carry: check the secret's file for line ends")
        })?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let client = Client::builder()
            .timeout(Duration::from_secs(webhook.timeout_s.into()))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { client, url, authorization })
    }
}

impl Receiver for Endpoint {
    async fn attempt(&self, notification: Notification) -> Outcome {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(IDEMPOTENCY_KEY, notification.key)
            .body(notification.body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return outcome(&Answer::None(&words_of(&error))),
        };
        let code = response.status().as_u16();
        let retry_after_s = retry_after_s(&response);
        // The status decides, whether or not the body arrives; reading it frees the connection.
        let body = read_text(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
        outcome(&Answer::Status { code, retry_after_s, body: &body })
    }
}

fn outcome(answer: &Answer<'_>) -> Outcome {
    let reason = answer.words();
    match *answer {
        Answer::None(_) => Outcome::Later { reason, retry_after_s: None },
        Answer::Status { code, retry_after_s, .. } => match code {
            200..=299 => Outcome::Taken,
            408 | 425 | 429 | 500..=599 => Outcome::Later { reason, retry_after_s },
            // What is wrong with the address or the token is wrong for every notification: none is given up for it.
            401 | 403 | 404 | 405 | 407 | 410 => Outcome::Held { reason },
            400..=499 => Outcome::Refused { reason },
            _ => Outcome::Held { reason },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_meaning() {
        let of = |code| outcome(&Answer::Status { code, retry_after_s: Some(7), body: "why" });
        for code in [200, 201, 202, 204, 299] {
            assert_eq!(of(code), Outcome::Taken, "{code}");
        }
        for code in [408, 425, 429, 500, 502, 503, 504, 507, 599] {
            let reason = format!("{code} why");
            assert_eq!(of(code), Outcome::Later { reason, retry_after_s: Some(7) }, "{code}");
        }
        for code in [400, 409, 413, 415, 422, 499] {
            assert_eq!(of(code), Outcome::Refused { reason: format!("{code} why") }, "{code}");
        }
        for code in [300, 301, 302, 307, 308, 401, 403, 404, 405, 407, 410] {
            assert_eq!(of(code), Outcome::Held { reason: format!("{code} why") }, "{code}");
        }
        let none = outcome(&Answer::None("cannot connect"));
        assert_eq!(none, Outcome::Later { reason: "cannot connect".into(), retry_after_s: None });
    }
}
