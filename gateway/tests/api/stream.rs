//! The live stream: order, resumption, reset, and its bounds.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hunhe_gateway::api::live::{Outgoing, Subscription};
use hunhe_gateway::api::types::Latest;
use hunhe_gateway::api::{Api, Backend, Hosts, Hub, HubLimits, Limits};
use serde_json::Value;

use crate::fake::{self, Fake, NOW_MS};
use crate::{Served, problem};

fn latest(device: &str, time: i64, value: f64) -> Latest {
    Latest { device: device.into(), channel: "ch4".into(), time, value: Some(value), quality: 1 }
}

fn everyone() -> HashSet<String> {
    HashSet::new()
}

/// What has not come by then will not come: a broken stream fails instead of waiting for ever.
const DEADLINE: Duration = Duration::from_secs(10);

async fn next(subscription: &mut Subscription) -> Vec<Outgoing> {
    let events = tokio::time::timeout(DEADLINE, subscription.next()).await.expect("an event in time");
    events.expect("the hub is open")
}

fn names(events: &[Outgoing]) -> Vec<&'static str> {
    events.iter().map(|event| event.name).collect()
}

fn data(event: &Outgoing) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

#[tokio::test]
async fn values_are_coalesced_and_a_late_one_does_not_move_the_newest() {
    let hub = Hub::new(HubLimits::default(), NOW_MS);
    let mut client = hub.subscribe(None, everyone(), Arc::default());
    hub.note([latest("b", 20, 2.0), latest("a", 10, 1.0), latest("b", 30, 3.0), latest("b", 25, 9.0)]);
    hub.flush();
    let events = next(&mut client).await;
    assert_eq!(names(&events), ["samples"]);
    let samples = data(&events[0]);
    assert_eq!(samples["values"].as_array().unwrap().len(), 2);
    assert_eq!(samples["values"][0]["device"], "a");
    assert_eq!(samples["values"][1]["value"], 3.0);
    assert_eq!(samples["omitted"], 0);
}

#[tokio::test]
async fn ids_rise_and_a_returning_client_gets_just_what_it_missed() {
    let hub = Hub::new(HubLimits::default(), NOW_MS);
    let mut client = hub.subscribe(None, everyone(), Arc::default());
    for id in 1..=5 {
        hub.quarantined(&fake::record(id));
    }
    let events = next(&mut client).await;
    assert!(events.windows(2).all(|pair| pair[0].id + 1 == pair[1].id));
    drop(client);
    hub.quarantined(&fake::record(6));
    let mut back = hub.subscribe(Some(events[2].id), everyone(), Arc::default());
    let missed: Vec<Value> = next(&mut back).await.iter().map(|event| data(event)["id"].clone()).collect();
    assert_eq!(missed, ["m-4", "m-5", "m-6"]);
}

#[tokio::test]
async fn a_slow_client_is_reset_and_never_holds_a_publisher() {
    let hub = Hub::new(HubLimits { ring_events: 8, ..HubLimits::default() }, NOW_MS);
    let mut slow = hub.subscribe(None, everyone(), Arc::default());
    for id in 1..=1_000 {
        hub.quarantined(&fake::record(id));
    }
    let events = next(&mut slow).await;
    assert_eq!(names(&events), ["reset"]);
    hub.quarantined(&fake::record(7));
    let after = next(&mut slow).await;
    assert_eq!(names(&after), ["quarantine"]);
    assert_eq!(after[0].id, events[0].id + 1);
}

#[tokio::test]
async fn an_id_that_fell_out_or_was_never_given_is_answered_with_reset() {
    let hub = Hub::new(HubLimits { ring_events: 2, ..HubLimits::default() }, NOW_MS);
    let first = hub.subscribe(None, everyone(), Arc::default());
    (1..=5).for_each(|id| hub.quarantined(&fake::record(id)));
    let base = u64::try_from(NOW_MS).unwrap();
    for (last, expected) in [
        (0, "reset"),
        (base + 1, "reset"),
        (base + 2, "quarantine"),
        (base + 3, "quarantine"),
        (base + 5, "reset"),
        (u64::MAX, "reset"),
    ] {
        let mut client = hub.subscribe(Some(last), everyone(), Arc::default());
        assert_eq!(next(&mut client).await[0].name, expected, "last id {last}");
    }
    drop(first);
}

#[tokio::test]
async fn the_ring_is_bounded_by_its_values_too() {
    let hub = Hub::new(HubLimits { ring_values: 100, ..HubLimits::default() }, NOW_MS);
    let mut client = hub.subscribe(None, everyone(), Arc::default());
    for round in 0..3 {
        hub.note((0..60).map(|n| latest(&format!("d{n}"), round, 0.0)));
        hub.flush();
    }
    assert_eq!(names(&next(&mut client).await), ["reset"]);
}

#[tokio::test]
async fn what_an_event_has_no_room_for_is_counted_and_a_named_device_is_sent_all_the_same() {
    let limits = HubLimits { pending_values: 50, values_per_event: 10, ..HubLimits::default() };
    let hub = Hub::new(limits, NOW_MS);
    let mut all = hub.subscribe(None, everyone(), Arc::default());
    let mut one = hub.subscribe(None, HashSet::from(["d49".to_owned()]), Arc::default());
    hub.note((0..70).map(|n| latest(&format!("d{n:02}"), 1, 0.0)));
    hub.flush();
    let seen = data(&next(&mut all).await[0]);
    assert_eq!(seen["values"].as_array().unwrap().len(), 10);
    assert_eq!(seen["omitted"], 60);
    let seen = data(&next(&mut one).await[0]);
    assert_eq!(seen["values"].as_array().unwrap().len(), 1);
    assert_eq!(seen["values"][0]["device"], "d49");
}

#[tokio::test]
async fn only_the_newest_of_several_states_is_sent() {
    let hub = Hub::new(HubLimits::default(), NOW_MS);
    let backend = Fake::new(4);
    let mut client = hub.subscribe(None, everyone(), Arc::default());
    for second in 1..=3 {
        let mut status = backend.status_now();
        status.uptime_s = second;
        hub.status(&status);
    }
    let events = next(&mut client).await;
    assert_eq!(names(&events), ["status"]);
    assert_eq!(data(&events[0])["uptime_s"], 3);
}

#[tokio::test]
async fn a_hub_without_clients_sleeps_and_whoever_resumes_across_the_sleep_is_reset() {
    let hub = Hub::new(HubLimits { idle_flushes: 3, ..HubLimits::default() }, NOW_MS);
    assert!(!hub.awake());
    let mut client = hub.subscribe(None, everyone(), Arc::default());
    hub.quarantined(&fake::record(1));
    let last = next(&mut client).await[0].id;
    (0..10).for_each(|_| hub.flush());
    assert!(hub.awake(), "a client keeps the hub awake");
    drop(client);
    (0..3).for_each(|_| hub.flush());
    assert!(!hub.awake());
    hub.quarantined(&fake::record(2));
    let mut back = hub.subscribe(Some(last), everyone(), Arc::default());
    assert_eq!(names(&next(&mut back).await), ["reset"]);
}

#[tokio::test]
async fn for_a_client_above_the_bound_the_first_one_gives_way_and_comes_back_with_what_it_missed() {
    let hub = Hub::new(HubLimits { clients: 2, ..HubLimits::default() }, NOW_MS);
    let leave = Arc::<tokio::sync::Notify>::default();
    let mut first = hub.subscribe(None, everyone(), Arc::clone(&leave));
    let mut second = hub.subscribe(None, everyone(), Arc::default());
    hub.quarantined(&fake::record(1));
    let seen = next(&mut first).await[0].id;
    let mut third = hub.subscribe(None, everyone(), Arc::default());
    hub.quarantined(&fake::record(2));
    tokio::time::timeout(DEADLINE, leave.notified()).await.expect("its connection is told");
    assert!(tokio::time::timeout(DEADLINE, first.next()).await.unwrap().is_none(), "its stream ends");
    assert_eq!(next(&mut third).await.len(), 1);
    assert_eq!(next(&mut second).await.len(), 2);
    drop(third);
    let mut back = hub.subscribe(Some(seen), everyone(), Arc::default());
    assert_eq!(data(&next(&mut back).await[0])["id"], "m-2");
    // Dropped late, it frees nobody else's place.
    drop(first);
    hub.quarantined(&fake::record(3));
    assert_eq!((next(&mut second).await.len(), next(&mut back).await.len()), (1, 1));
}

/// Reads server-sent events until one is called `name`; returns its id and data.
async fn read_until(response: reqwest::Response, name: &str) -> (u64, Value) {
    let mut bytes = response.bytes_stream();
    let mut text = String::new();
    loop {
        let chunk = tokio::time::timeout(DEADLINE, bytes.next()).await.expect("an event in time");
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
        for block in text.split_inclusive("\n\n").filter(|block| block.ends_with("\n\n")) {
            let field = |key: &str| block.lines().find_map(|line| line.strip_prefix(&format!("{key}: ")));
            if field("event") == Some(name) {
                return (
                    field("id").unwrap().parse().unwrap(),
                    serde_json::from_str(field("data").unwrap()).unwrap(),
                );
            }
        }
    }
}

#[tokio::test]
async fn the_stream_over_http_sends_states_and_values_and_resumes_by_header() {
    let served = Served::plain().await;
    let backend: Arc<dyn Backend> = served.backend.clone();
    let response = served.request("GET", "/api/v1/live").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    tokio::spawn(hunhe_gateway::api::live::drive(Arc::clone(&served.hub), backend));
    served.hub.note(served.backend.newest());
    let (_, samples) = read_until(response, "samples").await;
    assert_eq!(samples["values"].as_array().unwrap().len(), 38);
    assert_eq!(samples["values"][0]["time"], NOW_MS);

    let response = served.request("GET", "/api/v1/live?devices=gas-leak-0000").send().await.unwrap();
    let (id, status) = read_until(response, "status").await;
    assert_eq!(status["devices_known"], 40);
    served.hub.quarantined(&fake::record(9));
    let back = served.request("GET", "/api/v1/live").header("last-event-id", id.to_string());
    let (_, record) = read_until(back.send().await.unwrap(), "quarantine").await;
    assert_eq!(record["id"], "m-9");

    let lost = served.request("GET", "/api/v1/live").header("last-event-id", "3").send().await.unwrap();
    read_until(lost, "reset").await;
    let wrong = served.request("GET", "/api/v1/live").header("last-event-id", "-1").send().await.unwrap();
    problem(wrong, 400).await;
}

#[tokio::test]
async fn streams_end_when_the_server_is_told_to_stop() {
    let backend = Fake::new(4);
    let hub = Hub::new(HubLimits::default(), NOW_MS);
    let listener = hunhe_gateway::api::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let api = Api::new(backend, hub, Limits::default(), Hosts::new(address, &[]));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(hunhe_gateway::api::serve(listener, api, async {
        let _ = stopped.await;
    }));
    let response = reqwest::get(format!("http://{address}/api/v1/live")).await.unwrap();
    stop.send(()).unwrap();
    let rest = tokio::time::timeout(DEADLINE, response.bytes_stream().collect::<Vec<_>>());
    let rest = rest.await.expect("the stream ends");
    assert!(rest.iter().all(Result::is_ok), "the stream ends, it is not cut");
    server.await.unwrap();
}

#[tokio::test]
async fn an_alert_goes_out_at_once_and_waits_for_no_flush() {
    let hub = Hub::new(HubLimits::default(), NOW_MS);
    hub.alert(&fake::alert(2));
    let mut client = hub.subscribe(None, everyone(), Arc::default());
    hub.note([latest("a", 10, 1.0)]);
    let alert = fake::alert(3);
    hub.alert(&alert);
    let events = next(&mut client).await;
    assert_eq!(names(&events), ["alert"]);
    assert_eq!(events[0].data, serde_json::to_string(&alert).unwrap());
}
