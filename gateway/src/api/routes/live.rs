//! The live stream as server-sent events.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use utoipa::IntoParams;

use super::devices::device_id;
use crate::api::live::{Outgoing, Subscription};
use crate::api::query::Asked;
use crate::api::{Api, ApiError, Leave, Problem};

/// A comment after so long without an event keeps proxies from closing the stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a browser waits before it comes back.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Keys {
    /// Device ids, separated by commas, at most 200: send the values of these alone.
    devices: Option<String>,
}

/// Events as they happen: `status` twice a second, `samples` with the newest values, `quarantine` for each refusal,
/// `alert` for each change of an alert, at once, `reset` when events in between are gone. Resumes after the event named in
/// `Last-Event-ID`. Where there are too many streams, the one that was opened first is closed.
#[utoipa::path(get, path = "/api/v1/live", tag = "live",
    params(Keys, ("last-event-id" = Option<u64>, Header, description = "The newest event that arrived")),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn live(
    State(api): State<Api>,
    Asked(keys): Asked<Keys>,
    leave: Option<Extension<Leave>>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let devices = device_set(keys.devices.as_deref(), api.limits.live_devices)?;
    let leave = leave.map(|Extension(Leave(leave))| leave).unwrap_or_default();
    let subscription = api.hub.subscribe(last_event_id(&headers)?, devices, leave);
    Ok(Sse::new(events(subscription)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn device_set(listed: Option<&str>, most: usize) -> Result<HashSet<String>, ApiError> {
    let Some(listed) = listed.filter(|listed| !listed.is_empty()) else { return Ok(HashSet::new()) };
    let devices: HashSet<String> =
        listed.split(',').map(|id| device_id(id.to_owned())).collect::<Result<_, _>>()?;
    if devices.len() > most {
        return Err(ApiError::BadRequest(format!(
            "query: `devices` names {} devices: at most {most} in one stream",
            devices.len()
        )));
    }
    Ok(devices)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| {
        ApiError::BadRequest("header: `last-event-id` is not an id that this stream gave".into())
    })
}

fn events(subscription: Subscription) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold((subscription, VecDeque::new()), async |(mut subscription, mut waiting)| {
        if waiting.is_empty() {
            waiting.extend(subscription.next().await?);
        }
        let Outgoing { id, name, data } = waiting.pop_front()?;
        let event = Event::default().id(id.to_string()).event(name).retry(RETRY).data(data);
        Some((Ok(event), (subscription, waiting)))
    })
}
