//! The classes of the agent's own tests, which stand apart from the data in `seeds`.

use hunhe_proto::class::Class;
use std::sync::Arc;

pub(crate) fn gas_meter() -> Arc<Class> {
    let class: Class = toml::from_str(include_str!("../../tests/classes/gas_meter.toml")).unwrap();
    assert_eq!(class.faults_found(), []);
    Arc::new(class)
}
