//! Each route's answer, each bound's refusal.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hunhe_gateway::api::{HubLimits, Limits};
use serde_json::{Value, json};

use crate::{Served, problem};

#[tokio::test]
async fn every_read_route_answers_with_its_shape() {
    let served = Served::plain().await;
    let status = served.get("/api/v1/status").await;
    assert_eq!(status["now"], "2026-01-02T03:04:05.678Z");
    assert_eq!(status["ledger"]["closed"], true);
    assert_eq!(status["sinks"][1]["state"], "retrying");
    assert_eq!(status["quarantined_by_reason"]["out_of_range"], 9);

    let ledger = served.get("/api/v1/ledger").await;
    assert_eq!(ledger["totals"]["sampled"], 120_000);
    assert_eq!(
        (&ledger["totals"]["declared_lost"], &ledger["totals"]["written_off"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(ledger["rows"], json!([]));
    let split = served.get("/api/v1/ledger?by=district").await;
    assert_eq!(split["rows"][0]["key"], "210106");
    assert_eq!(split["rows"][0]["stored"], 973);

    assert_eq!(served.get("/api/v1/classes").await[0]["channels"][0]["name"], "flow");
    assert_eq!(served.get("/api/v1/districts").await[1]["name"]["zh"], "浑南区");
    assert_eq!(served.get("/api/v1/zones").await.as_array().unwrap().len(), 5);

    let device = served.get("/api/v1/devices/gas-meter-0003").await;
    assert_eq!(device["class"], "gas_meter");
    assert_eq!(device["position"], Value::Null);
    assert_eq!(device["latest"][0]["channel"], "volume");
    assert_eq!(status["quarantine"]["limit_bytes"], 256 << 20);
    assert_eq!(
        (&status["retired"]["expired"], &ledger["retired"]["expired"]),
        (&json!(4_096), &json!(4_096))
    );
    let record = served.get("/api/v1/quarantine/m-4").await;
    assert_eq!((&record["kind"], &record["values"][0]["breach"]), (&json!("message"), &json!("above")));
    assert_eq!(record["payload_hex"], Value::Null, "only who asks for it gets the payload");
    assert_eq!(served.get("/api/v1/quarantine/m-4?payload=true").await["payload_hex"], "00ff");

    assert_eq!(
        status["alerts"],
        json!({"critical": 1, "major": 2, "warning": 0, "info": 0, "retrospective": 1})
    );
    assert_eq!(status["outputs"][1]["kind"], "webhook");
    assert_eq!(status["outputs"][1]["last_error"], "503 later");
    assert_eq!(served.get("/api/v1/districts").await[0]["alerts"]["critical"], 1);
    let rules = served.get("/api/v1/rules").await;
    assert_eq!(rules[0]["when"], json!({"channel": "ch4", "at_least": 50.0, "clear_below": 40.0}));
}

#[tokio::test]
async fn quarantine_is_filtered_and_paged_by_the_key_that_a_page_gives() {
    let served = Served::plain().await;
    let ids = async |keys: &str| {
        let page = served.get(&format!("/api/v1/quarantine?{keys}")).await;
        let items = page["items"].as_array().unwrap();
        let ids: Vec<String> = items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        (ids, page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(ids("reason=time_future&limit=2").await.0, ["m-17", "m-14"]);
    assert_eq!(ids("kind=conflict").await.0, [""; 0]);
    assert_eq!(ids("device=gas-meter-0001&limit=1").await.0, ["m-16"]);
    let span = "from=2026-01-02T03:02:30Z&to=2026-01-02T03:02:35Z";
    assert_eq!(ids(span).await.0, ["m-9", "m-8", "m-7", "m-6", "m-5"]);
    let (mut seen, mut path) = (Vec::new(), "limit=5".to_owned());
    loop {
        let (page, next) = ids(&path).await;
        seen.extend(page);
        let Some(next) = next else { break };
        path = format!("limit=5&before={next}");
    }
    assert!(seen.into_iter().eq((1..=17).rev().map(|id| format!("m-{id}"))));
}

#[tokio::test]
async fn alerts_are_filtered_paged_and_shaped_as_the_contract_says() {
    let served = Served::plain().await;
    let mut seen = Vec::new();
    let mut path = "/api/v1/alerts?limit=4".to_owned();
    loop {
        let page = served.get(&path).await;
        assert_eq!(page["open"]["critical"], 1);
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|alert| alert["sequence"].as_u64().unwrap()),
        );
        let Some(next) = page["next"].as_u64() else {
            assert!(!page.as_object().unwrap().contains_key("next"), "absent on the last page");
            break;
        };
        path = format!("/api/v1/alerts?limit=4&before={next}");
    }
    assert_eq!(seen, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    let numbers = |page: &Value| -> Vec<u64> {
        page["items"].as_array().unwrap().iter().map(|alert| alert["sequence"].as_u64().unwrap()).collect()
    };
    let asked = async |keys: &str| numbers(&served.get(&format!("/api/v1/alerts?{keys}")).await);
    assert_eq!(asked("state=open").await, [9, 7, 5, 3, 1]);
    assert_eq!(asked("state=resolved&severity=critical").await, [6]);
    assert_eq!(asked("mode=retrospective").await, [5]);
    assert_eq!(asked("district=210112&operator=operator-1").await, [7, 4, 1]);
    assert_eq!(asked("operator=nobody").await, [0; 0]);

    let alert = &served.get("/api/v1/alerts?limit=1").await["items"][0];
    let expected = json!({
        "id": "a1b2c3d400000009", "sequence": 9, "rule": "station_ch4_high", "rule_version": 1,
        "severity": "critical", "state": "firing", "fired": true, "mode": "live", "device": "gas-leak-0001",
        "agent": "agent-0", "class": "gas_leak", "zone": "zone-1",
        "zone_name": {"zh": "1 号分区", "en": "DMA 1"}, "district": "210106",
        "district_name": {"zh": "铁西区", "en": "Tiexi"}, "operator": "operator-1", "channel": "ch4",
        "value": 57.0, "threshold": 50.0, "unit": "%{LEL}",
        "since": "2026-01-02T03:04:05.678Z", "event_time": "2026-01-02T03:04:05.678Z",
        "arrival_time": "2026-01-02T03:04:05.798Z",
        "title": {"zh": "站内甲烷高报", "en": "Station methane, high alarm"},
        "text": {"zh": "铁西区 · 1 号分区：甲烷 57 %LEL ≥ 50", "en": "Tiexi · DMA 1: methane 57 %LEL ≥ 50"}
    });
    assert_eq!(*alert, expected);

    served.problem("GET", "/api/v1/alerts?state=shut", 400).await;
    served.problem("GET", "/api/v1/alerts?limit=0", 400).await;
    served.problem("GET", "/api/v1/alerts?colour=red", 400).await;
}

#[tokio::test]
async fn pages_of_devices_join_to_the_whole_without_a_repeat() {
    let served = Served::plain().await;
    let mut seen = Vec::new();
    let mut path = "/api/v1/devices?limit=7".to_owned();
    loop {
        let page = served.get(&path).await;
        assert_eq!(page["total"], 40);
        seen.extend(page["items"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/devices?limit=7&after={next}");
    }
    assert_eq!(seen.len(), 40);
    assert!(seen.is_sorted_by(|a, b| a < b));
    let some = served.get("/api/v1/devices?class=weather&district=210106&text=WEATHER-000").await;
    assert!(
        some["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|d| d["class"] == "weather" && d["district"] == "210106")
    );
    assert_ne!(some["total"], 0);
}

#[tokio::test]
async fn a_series_has_columns_of_one_length_and_its_gaps_are_null() {
    let served = Served::plain().await;
    let series = served
        .get("/api/v1/devices/dma-flow-0000/series?channel=flow&from=2026-01-01&to=2026-01-02T00:00:00Z&step=15m")
        .await;
    let column = |name: &str| series[name].as_array().unwrap().clone();
    assert_eq!(column("times").len(), 96);
    assert_eq!(column("values").len(), 96);
    assert_eq!(column("quality").len(), 96);
    assert_eq!(series["times"][0], 1_767_225_600_000_i64);
    assert_eq!(series["step_s"], 900);
    assert_eq!(series["kind"], "steps");
    let gaps = column("values").iter().zip(column("quality")).filter(|(v, q)| v.is_null() && *q == 5).count();
    assert_eq!(gaps, 4);
    let day = served.get("/api/v1/devices/dma-flow-0000/series?channel=flow").await;
    assert_eq!(day["kind"], "samples");
    assert_eq!(day["to"].as_i64().unwrap() - day["from"].as_i64().unwrap(), 86_400_000);
}

#[tokio::test]
async fn a_series_over_the_bound_is_refused_naming_the_bound_and_a_step_that_is_then_taken() {
    let served = Served::plain().await;
    let path = "/api/v1/devices/gas-leak-0000/series?channel=ch4&from=2025-01-01&to=2026-01-01";
    for over in [format!("{path}&step=60"), path.to_owned()] {
        let problem = served.problem("GET", &over, 400).await;
        assert_eq!(problem["type"], "urn:hunhe:problem:series-too-long");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("20000 points") && detail.contains("step=1800"), "{detail}");
    }
    let fits = served.get(&format!("{path}&step=1800")).await;
    assert_eq!(fits["times"].as_array().unwrap().len(), 17_520);
}

#[tokio::test]
async fn an_unknown_key_is_refused_by_name_on_every_route_that_is_asked_for_data() {
    let served = Served::plain().await;
    let routes = [
        "status",
        "ledger",
        "classes",
        "districts",
        "zones",
        "devices",
        "devices/gas-leak-0000",
        "devices/gas-leak-0000/series",
        "quarantine",
        "quarantine/m-1",
        "live",
    ];
    for route in routes {
        let query = if route.ends_with("series") { "?channel=ch4&colour=red" } else { "?colour=red" };
        let problem = served.problem("GET", &format!("/api/v1/{route}{query}"), 400).await;
        assert!(problem["detail"].as_str().unwrap().contains("`colour`"), "{route}: {problem}");
    }
    let refused = served.problem("POST", "/api/v1/quarantine/m-1/redrive?colour=red", 400).await;
    assert!(refused["detail"].as_str().unwrap().contains("`colour`"));
}

#[tokio::test]
async fn a_malformed_question_is_refused_in_words() {
    let served = Served::plain().await;
    let series = "/api/v1/devices/gas-leak-0000/series";
    let cases = [
        ("/api/v1/devices?limit=0".into(), 400, "`limit`"),
        ("/api/v1/devices?limit=1001".into(), 400, "1 to 1000"),
        ("/api/v1/devices?limit=1&limit=2".into(), 400, "duplicate field `limit`"),
        ("/api/v1/quarantine?before=x".into(), 400, "before"),
        ("/api/v1/quarantine?kind=mood".into(), 400, "`mood`"),
        ("/api/v1/quarantine?from=soon".into(), 400, "`from`"),
        ("/api/v1/quarantine/17".into(), 400, "17"),
        ("/api/v1/quarantine/m-99".into(), 404, "m-99"),
        ("/api/v1/ledger?by=mood".into(), 400, "`mood`"),
        (series.to_owned(), 400, "`channel`"),
        (format!("{series}?channel=ch4&from=soon"), 400, "`from`"),
        (format!("{series}?channel=ch4&from=2026-01-02&to=2026-01-01"), 400, "not before"),
        (format!("{series}?channel=ch4&step=0"), 400, "`step`"),
        (format!("{series}?channel=colour"), 404, "colour"),
        ("/api/v1/devices/no-such".into(), 404, "no-such"),
        ("/api/v1/devices/%3Cscript%3E".into(), 400, "device id"),
        ("/api/v1/live?devices=a,B".into(), 400, "device id"),
        ("/api/v1/nothing".into(), 404, "openapi"),
        ("/api/index.html".into(), 404, "openapi"),
        (format!("/api/v1/devices?text={}", "x".repeat(8_200)), 414, "8192"),
    ];
    for (path, status, word) in cases {
        let problem = served.problem("GET", &path, status).await;
        assert!(problem["detail"].as_str().unwrap().contains(word), "{path}: {problem}");
    }
    served.problem("DELETE", "/api/v1/status", 405).await;
    served.problem("POST", "/api/v1/quarantine/x/redrive", 400).await;
    served.problem("POST", "/api/v1/quarantine/m-99/redrive", 404).await;
    served.problem("POST", "/", 405).await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let limits = Limits { request: Duration::from_millis(50), ..Limits::default() };
    let served = Served::start(limits, HubLimits::default()).await;
    served.backend.stuck.store(true, Ordering::Relaxed);
    let problem = served.problem("GET", "/api/v1/status", 503).await;
    assert_eq!(problem["type"], "urn:hunhe:problem:timed-out");
}

#[tokio::test]
async fn a_query_too_many_is_refused_and_told_when_to_come_back() {
    let served = Served::plain().await;
    served.backend.busy.store(true, Ordering::Relaxed);
    let refused = served.request("GET", "/api/v1/devices").send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(problem(refused, 429).await["type"], "urn:hunhe:problem:busy");
}

#[tokio::test]
async fn a_redrive_is_accepted_from_here_and_refused_from_another_origin() {
    let served = Served::plain().await;
    let path = "/api/v1/quarantine/m-4/redrive";
    let accepted = served.request("POST", path).send().await.unwrap();
    assert_eq!(accepted.status(), 202);
    assert_eq!(accepted.json::<Value>().await.unwrap(), json!({"id": "m-4", "samples": 1}));
    let own = format!("http://{}", served.address);
    let here = served.request("POST", path).header("origin", own).send().await.unwrap();
    assert_eq!(here.status(), 202);
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://evil.test"),
        ("origin", "null"),
    ] {
        let refused = served.request("POST", path).header(name, value).send().await.unwrap();
        assert_eq!(problem(refused, 403).await["type"], "urn:hunhe:problem:foreign-origin");
    }
}

#[tokio::test]
async fn a_write_off_is_ordered_in_json_and_listed_page_by_page() {
    let served = Served::plain().await;
    let path = "/api/v1/ledger/write-off";
    let order = json!({"device": "gas-meter-0007", "reason": "备份恢复之后", "by": "lin"});
    let done = served.request("POST", path).body(order.to_string()).send().await.unwrap();
    assert_eq!(done.status(), 200);
    let expected = json!({
        "id": 9, "at": "2026-01-02T03:04:05.678Z", "device": "gas-meter-0007", "samples": 90,
        "reason": "备份恢复之后", "by": "lin"
    });
    assert_eq!(done.json::<Value>().await.unwrap(), expected);
    for (body, word) in [
        (String::new(), "EOF"),
        ("[]".into(), "invalid length"),
        (json!({"device": "d", "reason": "r"}).to_string(), "`by`"),
        (json!({"device": "d", "reason": "r", "by": "b", "colour": "red"}).to_string(), "`colour`"),
        (json!({"device": "d", "reason": "r".repeat(5_000), "by": "b"}).to_string(), "4096 bytes"),
    ] {
        let refused = problem(served.request("POST", path).body(body).send().await.unwrap(), 400).await;
        assert!(refused["detail"].as_str().unwrap().contains(word), "{word}: {refused}");
    }
    let foreign = served.request("POST", path).header("origin", "http://evil.test");
    problem(foreign.body(order.to_string()).send().await.unwrap(), 403).await;

    let page = served.get("/api/v1/ledger/write-offs?limit=6").await;
    assert_eq!((&page["total"], &page["next"], &page["items"][0]["id"]), (&json!(9), &json!(4), &json!(9)));
    let rest = served.get("/api/v1/ledger/write-offs?limit=6&before=4").await;
    assert_eq!((rest["items"].as_array().unwrap().len(), rest.get("next")), (3, None));
    served.problem("GET", "/api/v1/ledger/write-offs?limit=0", 400).await;
}

#[tokio::test]
async fn a_request_keeps_a_harmless_id_and_loses_any_other() {
    let served = Served::plain().await;
    let ask = async |id: &str| {
        let sent = served.request("GET", "/healthz").header("x-request-id", id);
        let response = sent.send().await.unwrap();
        response.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(ask("trace-42.a_b").await, "trace-42.a_b");
    for hostile in ["a b", "x\"y", &"x".repeat(65)] {
        assert_ne!(ask(hostile).await, hostile);
    }
    assert_ne!(ask("a b").await, ask("a b").await);
}

#[tokio::test]
async fn every_answer_keeps_a_browser_strict() {
    let served = Served::plain().await;
    for path in ["/", "/api/v1/status", "/api/v1/nothing", "/metrics"] {
        let response = served.request("GET", path).send().await.unwrap();
        let headers = response.headers();
        assert!(
            headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"),
            "{path}"
        );
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert!(!headers.contains_key("access-control-allow-origin"), "{path}");
        let kept = if path == "/" { "no-cache" } else { "no-store" };
        assert_eq!(headers["cache-control"], kept, "{path}");
    }
}

#[tokio::test]
async fn the_page_is_served_and_speaks_both_languages() {
    let served = Served::plain().await;
    let response = served.request("GET", "/").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let page = response.text().await.unwrap();
    assert!(page.contains("浑河") && page.contains("Hunhe"), "{page}");
}

#[tokio::test]
async fn machines_read_health_readiness_and_figures() {
    let served = Served::plain().await;
    let text = async |path: &str| served.request("GET", path).send().await.unwrap().text().await.unwrap();
    assert_eq!(text("/healthz").await, "ok\n");
    assert_eq!(text("/readyz").await, "ready\n");
    served.backend.ready.store(false, Ordering::Relaxed);
    let problem = served.problem("GET", "/readyz", 503).await;
    assert!(problem["detail"].as_str().unwrap().contains("no broker"));
    let metrics = text("/metrics").await;
    assert!(
        metrics.contains("# TYPE hunhe_samples_total counter\nhunhe_samples_total 120000\n"),
        "{metrics}"
    );
    assert!(metrics.contains("hunhe_live_clients 0\n"), "{metrics}");
}

#[tokio::test]
async fn one_backup_is_given_at_a_time_and_none_to_a_page_of_another_origin() {
    let served = Served::plain().await;
    let foreign = served.request("GET", "/api/v1/backup").header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let given = served.request("GET", "/api/v1/backup").send().await.unwrap();
    assert_eq!(given.headers()["content-type"], "application/octet-stream");
    assert_eq!(given.text().await.unwrap(), crate::fake::BACKUP);
    let problem = served.problem("GET", "/api/v1/backup", 409).await;
    assert!(problem["detail"].as_str().unwrap().contains("being taken"), "{problem}");
}

#[tokio::test]
async fn the_document_lists_exactly_the_contract_and_every_operation_in_it_is_mounted() {
    let served = Served::plain().await;
    let document = served.get("/api/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut listed: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    listed.sort();
    assert_eq!(
        listed,
        [
            "get /api/v1/alerts",
            "get /api/v1/backup",
            "get /api/v1/classes",
            "get /api/v1/devices",
            "get /api/v1/devices/{id}",
            "get /api/v1/devices/{id}/series",
            "get /api/v1/districts",
            "get /api/v1/ledger",
            "get /api/v1/ledger/write-offs",
            "get /api/v1/live",
            "get /api/v1/quarantine",
            "get /api/v1/quarantine/{id}",
            "get /api/v1/rules",
            "get /api/v1/status",
            "get /api/v1/zones",
            "get /healthz",
            "get /metrics",
            "get /readyz",
            "post /api/v1/ledger/write-off",
            "post /api/v1/quarantine/{id}/redrive",
        ]
    );
    for operation in &listed {
        let (method, path) = operation.split_once(' ').unwrap();
        let path = path.replace("quarantine/{id}", "quarantine/m-4").replace("{id}", "gas-leak-0000");
        let path = if path.ends_with("series") { format!("{path}?channel=ch4") } else { path };
        let request = served.request(&method.to_uppercase(), &path);
        // An order, where one is taken.
        let order = json!({"device": "d", "reason": "r", "by": "b"}).to_string();
        let request = if path.ends_with("write-off") { request.body(order) } else { request };
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{operation}: {}", response.status());
    }
    assert!(document["components"]["schemas"]["Status"]["properties"]["readings_per_s"].is_object());
    let parsed: Value = serde_json::from_str(&hunhe_gateway::api::openapi()).unwrap();
    assert_eq!(parsed, document);
}
