//! Test support: the HTTP interface and the dashboard over an invented city, for the browser test and for work on the
//! page. Nothing here is a gateway; every figure is made up.
//!
//! `cargo run --example api_on_invented_data -- 127.0.0.1:8480`

#[path = "../tests/api/fake/mod.rs"]
mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hunhe_gateway::api::{Api, Hosts, Hub, HubLimits, Limits, bind, live, serve};

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let backend = fake::Fake::new(320);
    backend.now_ms.store(wall_ms(), Ordering::Relaxed);
    let hub = Hub::new(HubLimits::default(), wall_ms());
    tokio::spawn(live::drive(Arc::clone(&hub), backend.clone()));
    let (city, stream) = (Arc::clone(&backend), Arc::clone(&hub));
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(250));
        for tick in 0_u64.. {
            ticks.tick().await;
            city.now_ms.store(wall_ms(), Ordering::Relaxed);
            stream.note(city.newest());
            if tick % 40 == 39 {
                stream.quarantined(&fake::record(tick % 17 + 1));
            }
        }
    });
    let listener = bind(address.parse().map_err(std::io::Error::other)?)?;
    println!("http://{}/", listener.local_addr()?);
    let api = Api::new(backend, hub, Limits::default(), Hosts::new(listener.local_addr()?, &[]));
    serve(listener, api, async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await;
    Ok(())
}
