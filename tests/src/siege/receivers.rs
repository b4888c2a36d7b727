//! Who must hear of an alarm: the page by the live stream, a program by MQTT, the duty officer by a webhook.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::alarms::{RULE, Raised};
use crate::{
    events::{self, Events},
    webhook::Webhook,
};

/// The broker's user for those who listen to alerts.
pub(super) const LISTENER: &str = "dispatch";
/// A browser comes back after so long where its stream has ended.
const BACK_AFTER: Duration = Duration::from_millis(200);
/// Kinds of receivers, as the figures name them.
pub(super) const KINDS: [&str; 3] = ["page", "mqtt", "webhook"];

/// The receivers.
#[derive(Debug)]
pub(super) struct Receivers {
    page: Page,
    mqtt: Events,
    webhook: Arc<Webhook>,
}

impl Receivers {
    /// Each connected.
    pub(super) fn connect(http: u16, broker: u16, webhook: Arc<Webhook>) -> Self {
        let mqtt = events::published_if(broker, LISTENER, "hunhe/v1/alerts/#", is_awaited);
        Self { page: Page::open(http), mqtt, webhook }
    }

    /// How often the page's stream ended.
    pub(super) fn page_reconnects(&self) -> u64 {
        self.page.opened.load(Relaxed).saturating_sub(1)
    }

    /// By kind: milliseconds of each alarm; `None` for one that has not come.
    pub(super) fn times(&self, raised: &Raised) -> [Vec<Option<f64>>; 3] {
        let webhook = self.webhook.taken().into_iter().map(|received| (received.at, received.body));
        [events::so_far(&self.page.events), events::so_far(&self.mqtt), webhook.collect()].map(|came| {
            let first = first_of(came);
            let ms = |at: &Instant, sent: &Instant| at.duration_since(*sent).as_secs_f64() * 1_000.0;
            raised.iter().map(|(device, sent)| first.get(device).map(|at| ms(at, sent))).collect()
        })
    }
}

/// Whether it may be one of the true alarms: receivers keep nothing else.
pub(super) fn is_awaited(alert: &Value) -> bool {
    alert["rule"] == RULE && alert["state"] == "firing" && alert["mode"] == "live"
}

/// By device: when its alarm came first.
fn first_of(came: Vec<(Instant, Value)>) -> BTreeMap<String, Instant> {
    let mut first = BTreeMap::new();
    for (at, alert) in came {
        first.entry(alert["device"].as_str().unwrap_or_default().to_owned()).or_insert(at);
    }
    first
}

/// The page in a browser: the live stream, taken up again with `Last-Event-ID` wherever it ended.
#[derive(Debug)]
struct Page {
    events: Events,
    opened: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
}

impl Page {
    fn open(port: u16) -> Self {
        let page = Self { events: Events::default(), opened: Arc::default(), closed: Arc::default() };
        let (events, opened, closed) =
            (Arc::clone(&page.events), Arc::clone(&page.opened), Arc::clone(&page.closed));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        std::thread::spawn(move || {
            let mut last_id = String::new();
            while !closed.load(Relaxed) {
                let keep = |alert| {
                    if is_awaited(&alert) {
                        events::keep(&events, alert);
                    }
                };
                runtime.block_on(events::follow(port, &mut last_id, keep, &opened));
                std::thread::sleep(BACK_AFTER);
            }
        });
        page
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.closed.store(true, Relaxed);
    }
}
