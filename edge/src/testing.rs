//! Classes for this crate's own tests, so that they stand apart from the data in `seeds`.

use hunhe_proto::class::Class;
use std::sync::Arc;

pub(crate) const GAS_METER: &str = r#"
name = "gas_meter"
version = 2
title = { zh = "燃气表", en = "gas meter" }
time_unit_ms = 3600000
interval = 1
report = { samples = 24, dispersal_s = 600, sleeping = true, silent_after_s = 180000, bytes_max = 480 }
household = true
[[channels]]
number = 1
name = "register"
title = { zh = "读数", en = "register" }
unit = "m3"
kind = "register"
decimals = 3
resolution = 10
min = 0
max = 100000
rollover = 100000
simulate = { base = 0.3, noise = 0.1, active = 0.3 }
[[channels]]
number = 2
name = "temperature"
title = { zh = "温度", en = "temperature" }
unit = "Cel"
kind = "gauge"
decimals = 1
min = -40
max = 70
simulate = { base = 8, daily = 6, peak_h = 14, seasonal = -18, noise = 1.5 }
[[channels]]
number = 0
name = "status"
title = { zh = "状态", en = "status" }
unit = "1"
kind = "bits"
min = 0
max = 4294967295
[[channels]]
number = 3
name = "serial"
title = { zh = "表号", en = "serial number" }
unit = "1"
kind = "identity"
min = 0
max = 99999999
[faults]
stuck = { effect = "stuck", channel = "register" }
reverse = { effect = "reverse", channel = "register" }
rollover = { effect = "rollover", channel = "register" }
swap = { effect = "swap", channel = "register" }
silent = { effect = "silent" }
tamper = { effect = "status", bits = 8 }
fast_clock = { effect = "clock", offset_s = 7200 }
"#;

pub(crate) const DMA_FLOW: &str = r#"
name = "dma_flow"
version = 1
title = { zh = "分区流量", en = "district inflow" }
time_unit_ms = 60000
interval = 60
report = { samples = 24, silent_after_s = 7200 }
[[channels]]
number = 1
name = "flow"
title = { zh = "流量", en = "flow" }
unit = "L/s"
kind = "gauge"
decimals = 4
min = -500
max = 500
simulate = { base = 20, daily = 8, peak_h = 8, noise = 1 }
"#;

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
