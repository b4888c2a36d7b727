//! Parts that are made of the configuration alone.

use crate::{
    mqtt::Broker,
    setup::config::{Config, Period},
    sinks::influx,
};
use hunhe_gateway_core::{event::Rollups, lane::Policy};

pub(super) fn broker(config: &Config) -> anyhow::Result<Broker> {
    Ok(Broker {
        host: config.broker.host.clone(),
        port: config.broker.port,
        client_id: config.broker.client_id.clone(),
        credentials: config.broker.username.clone().map(|name| {
            let password = config.broker.password.as_ref().map_or("", |secret| secret.expose());
            (name, password.to_owned())
        }),
        keep_alive_s: config.broker.keep_alive_s,
        packet_bytes_max: usize::try_from(config.broker.packet_bytes_max)?,
    })
}

/// What decisions follow from beside registry and messages.
pub(super) fn policy(config: &Config) -> anyhow::Result<Policy> {
    let database = config.influx.iter().find(|influx| influx.name == config.sink_of_record);
    let retention = match database {
        Some(database) => database.retention,
        None => Some(config.embedded.retention),
    };
    let policy = Policy::new(config.validate.accept_past.as_ms(), retention.map_or(0, Period::as_ms));
    #[cfg(feature = "planted")]
    let policy = Policy { planted_drop: planted_drop()?, ..policy };
    Ok(policy)
}

/// A test of the ledger may ask for a sample to vanish.
#[cfg(feature = "planted")]
fn planted_drop() -> anyhow::Result<Option<u64>> {
    let Ok(nth) = std::env::var("PLANT_DROP") else { return Ok(None) };
    let nth = nth.parse();
    Ok(Some(nth.map_err(|_| anyhow::anyhow!("PLANT_DROP is the number of the sample to drop"))?))
}

/// The windows that some sink takes.
pub(super) fn rollups(config: &Config) -> Rollups {
    let embedded = if config.embedded.enabled { Rollups::All } else { Rollups::None };
    config.influx.iter().map(influx::rollups).fold(embedded, Rollups::max)
}

pub(super) fn store_options(config: &Config, open_tables: usize) -> anyhow::Result<hunhe_store::Options> {
    let mut options = hunhe_store::Options::new(config.data_dir.join("store"));
    options.retention_days = u32::try_from(config.embedded.retention.as_s().div_ceil(86_400))?;
    options.limit_bytes = config.embedded.limit_bytes;
    options.open_tables = open_tables;
    options.quarantine = hunhe_store::Limits {
        records: usize::try_from(config.quarantine.limit_records)?,
        bytes: config.quarantine.limit_bytes,
    };
    Ok(options)
}
