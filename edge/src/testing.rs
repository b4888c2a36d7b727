//! Classes for this crate's own tests, so that they stand apart from the data in `seeds`.

use hunhe_proto::class::Class;
use std::sync::Arc;

pub(crate) const GAS_METER: &str = include_str!("../tests/classes/gas_meter.toml");

pub(crate) const DMA_FLOW: &str = include_str!("../tests/classes/dma_flow.toml");

pub(crate) fn class(text: &str) -> Arc<Class> {
    let class: Class = toml::from_str(text).unwrap();
    assert_eq!(class.faults_found(), []);
    Arc::new(class)
}

pub(crate) fn gas_meter() -> Arc<Class> {
    class(GAS_METER)
}

pub(crate) fn dma_flow() -> Arc<Class> {
    class(DMA_FLOW)
}
