//! The HTTP interface over an invented backend, on a real loopback port.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, in its helpers too")]

mod connections;
mod fake;
mod routes;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;

use hunhe_gateway::api::{Api, Hosts, Hub, HubLimits, Limits, serve};
use serde_json::Value;

/// A served interface; it ends with the test's runtime.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) backend: Arc<fake::Fake>,
    pub(crate) hub: Arc<Hub>,
    client: reqwest::Client,
}

impl Served {
    pub(crate) async fn start(limits: Limits, hub_limits: HubLimits) -> Self {
        let backend = fake::Fake::new(40);
        let hub = Hub::new(hub_limits, fake::NOW_MS);
        let listener = hunhe_gateway::api::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let api = Api::new(backend.clone(), Arc::clone(&hub), limits, Hosts::new(address, &[]));
        tokio::spawn(serve(listener, api, std::future::pending()));
        Self { address, backend, hub, client: reqwest::Client::new() }
    }

    pub(crate) async fn plain() -> Self {
        Self::start(Limits::default(), HubLimits::default()).await
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.request("GET", path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert!(response.headers().contains_key("x-request-id"), "{path}");
        response.json().await.unwrap()
    }

    /// The problem that `path` is answered with, checked for its whole shape.
    pub(crate) async fn problem(&self, method: &str, path: &str, status: u16) -> Value {
        problem(self.request(method, path).send().await.unwrap(), status).await
    }
}

pub(crate) async fn problem(response: reqwest::Response, status: u16) -> Value {
    assert_eq!(response.status(), status, "{}", response.url());
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"], id);
    for key in ["type", "title", "detail"] {
        assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {problem}");
    }
    assert_eq!(problem.as_object().unwrap().len(), 5);
    problem
}
