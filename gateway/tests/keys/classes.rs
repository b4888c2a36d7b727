//! The keys of a class.

use super::{agent, general, lane, leaves, program, set, source::has_word};
use hunhe_gateway_core::rule::Rule;
use hunhe_proto::class::{AlarmReporting, Channel, Class, Fault, Reporting, Shape, Text, Work};
use serde::Deserialize as _;
use std::{collections::BTreeSet, sync::Arc};
use toml::Value;

/// A class with every key.
const WHOLE: &str = r#"
name = "whole"
version = 3
title = { zh = "全", en = "Whole" }
time_unit_ms = 60000
interval = 10
household = true

[report]
samples = 12
dispersal_s = 7200
sleeping = true
silent_after_s = 90000
bytes_max = 200
keep_s = 86400
[report.on_alarm]
interval = 5
clear_s = 3600

[[channels]]
number = 0
name = "status"
title = { zh = "状态字", en = "Status" }
unit = "1"
kind = "bits"
min = 0
max = 4294967295

[[channels]]
number = 1
name = "level"
title = { zh = "液位", en = "Level" }
unit = "mm"
kind = "gauge"
decimals = 1
resolution = 2
min = -20
max = 600
usual_min = 0
usual_max = 500
change_per_h_max = 60.0
report_on_change = 30.0
every = 2
rollup = true
source = "D"
[channels.simulate]
base = 200
daily = 60
peak_h = 9
seasonal = 50
noise = 3
active = 0.9
spread = 30
wave = 20
wave_h = 7
rest = 100

[[channels]]
number = 2
name = "total"
title = { zh = "累计", en = "Total" }
unit = "m3"
kind = "register"
decimals = 1
min = 0
max = 99999.9
rollover = 100000
change_per_h_max = 600
source = "D"
simulate = { base = 3, noise = 0.5 }

[[channels]]
number = 3
name = "latitude"
title = { zh = "纬度", en = "Latitude" }
unit = "deg"
kind = "position"
decimals = 4
min = 0
max = 90
simulate = { track = "north" }

[work]
share = 0.9
from_h = 8
to_h = 18
seasons = [[501, 1031]]
rest_every = 6

[faults]
leap = { effect = "step", channel = "level", by = 150 }
stuck = { effect = "stuck", channel = "level" }
flat = { effect = "constant", channel = "level", value = 40 }
drift = { effect = "drift", channel = "level", per_h = 2 }
swap = { effect = "swap", channel = "total" }
rollover = { effect = "rollover", channel = "total" }
reverse = { effect = "reverse", channel = "total" }
tamper = { effect = "status", bits = 8 }
clock = { effect = "clock", offset_s = 7200 }
"#;

/// What shows that a key acts: where it stands in [`WHOLE`], and another value of it.
const ACTING: &[(&str, &str)] = &[
    ("version", "4"),
    ("time_unit_ms", "30000"),
    ("interval", "20"),
    ("report.samples", "6"),
    ("report.dispersal_s", "0"),
    ("report.silent_after_s", "36000"),
    ("report.bytes_max", "60"),
    ("report.keep_s", "3600"),
    ("report.on_alarm.interval", "10"),
    ("report.on_alarm.clear_s", "60"),
    ("channels.1.number", "9"),
    ("channels.1.kind", "\"angle\""),
    ("channels.1.decimals", "2"),
    ("channels.1.resolution", "4"),
    ("channels.1.min", "-21.0"),
    ("channels.1.max", "590.0"),
    ("channels.1.usual_min", "10.0"),
    ("channels.1.usual_max", "510.0"),
    ("channels.1.change_per_h_max", "120.0"),
    ("channels.1.report_on_change", "10.0"),
    ("channels.1.every", "3"),
    ("channels.1.rollup", "false"),
    ("channels.1.simulate.base", "210.0"),
    ("channels.1.simulate.daily", "50.0"),
    ("channels.1.simulate.peak_h", "12.0"),
    ("channels.1.simulate.seasonal", "40.0"),
    ("channels.1.simulate.noise", "4.0"),
    ("channels.1.simulate.active", "0.5"),
    ("channels.1.simulate.spread", "50.0"),
    ("channels.1.simulate.wave", "30.0"),
    ("channels.1.simulate.wave_h", "5.0"),
    ("channels.1.simulate.rest", "90.0"),
    ("channels.2.rollover", "99000.0"),
    ("channels.3.simulate.track", "\"east\""),
    ("work.share", "0.1"),
    ("work.from_h", "7.0"),
    ("work.to_h", "17.0"),
    ("work.seasons", "[[601, 1031]]"),
    ("work.rest_every", "3"),
    ("faults.leap.effect", "\"drift\""),
    ("faults.leap.channel", "\"total\""),
    ("faults.leap.by", "160.0"),
    ("faults.flat.value", "41.0"),
    ("faults.drift.per_h", "3.0"),
    ("faults.tamper.bits", "16"),
    ("faults.clock.offset_s", "14400"),
];

/// Keys for people, for the database's names, and for what a whole fleet does: which text of the program reads them.
const READ: &[(&str, &str)] = &[
    ("name", "class.name"),
    ("title.zh", "class.title"),
    ("title.en", "class.title"),
    ("household", "class.household"),
    ("report.sleeping", "class.report.sleeping"),
    ("channels[].name", "channel.name"),
    ("channels[].title.zh", "channel.title"),
    ("channels[].title.en", "channel.title"),
    ("channels[].unit", "channel.unit"),
    ("channels[].source", "channel.source"),
];

fn class(value: &Value) -> Class {
    Class::deserialize(value.clone()).unwrap()
}

/// A new field of a class does not compile here: it belongs into [`WHOLE`] and into a table.
fn is_whole(class: &Class) {
    let Class {
        name: _,
        version: _,
        title,
        time_unit_ms: _,
        interval: _,
        report,
        household: _,
        channels,
        faults,
        work,
    } = class;
    let Text { zh: _, en: _ } = title;
    let Reporting {
        samples: _,
        dispersal_s: _,
        sleeping: _,
        silent_after_s: _,
        bytes_max: _,
        keep_s: _,
        on_alarm,
    } = report;
    let Some(AlarmReporting { interval: _, clear_s: _ }) = on_alarm else { panic!("on_alarm") };
    let Some(Work { share: _, from_h: _, to_h: _, seasons, rest_every: _ }) = work else { panic!("work") };
    assert!(!seasons.is_empty() && !faults.is_empty());
    let level = &channels[1];
    let Channel {
        number: _,
        name: _,
        title: _,
        unit: _,
        kind: _,
        decimals: _,
        resolution: _,
        min: _,
        max: _,
        ..
    } = level;
    let Channel {
        usual_min,
        usual_max,
        change_per_h_max,
        report_on_change,
        every,
        rollup,
        rollover,
        source,
        simulate,
        ..
    } = level;
    assert!(usual_min.is_some() && usual_max.is_some() && change_per_h_max.is_some() && rollup.is_some());
    assert!(report_on_change.is_some() && *every > 1 && !source.is_empty());
    assert!(rollover.is_none() && channels[2].rollover.is_some());
    let Shape {
        base: _,
        daily: _,
        peak_h: _,
        seasonal: _,
        noise: _,
        active: _,
        spread: _,
        wave: _,
        wave_h: _,
        rest,
        track,
    } = simulate;
    assert!(rest.is_some() && track.is_none() && channels[3].simulate.track.is_some());
}

/// What is seen of a class, piece by piece, cheap ones first: the gateway's decisions on the base's reports, what its agents
/// do without a fault, what they do under each that it names.
fn pieces(class: &Class) -> impl Iterator<Item = String> {
    let rules: Vec<Rule> = Vec::new();
    let class = Arc::new(class.clone());
    let decided = lane::observe(&class, &rules, 3);
    let faults: Vec<Fault> = class.faults.values().cloned().collect();
    let agents = std::iter::once(None).chain(faults.into_iter().map(Some));
    std::iter::once(decided).chain(agents.map(move |fault| agent::observe(&class, fault.as_ref())))
}

#[test]
fn every_key_of_a_class_changes_what_an_agent_or_a_gateway_does() {
    let whole: Value = toml::from_str(WHOLE).unwrap();
    let base = class(&whole);
    assert_eq!(base.faults_found(), []);
    is_whole(&base);
    let before: Vec<String> = pieces(&base).collect();
    assert!(pieces(&base).take(3).eq(before.iter().take(3).cloned()), "it is the same each time");
    let idle: Vec<&str> = ACTING
        .iter()
        .filter(|(path, value)| {
            let mut changed = whole.clone();
            let value: toml::Table = toml::from_str(&format!("value = {value}")).unwrap();
            set(&mut changed, path, value["value"].clone());
            if *path == "faults.leap.effect" {
                set(
                    &mut changed,
                    "faults.leap",
                    toml::from_str("effect = \"stuck\"\nchannel = \"level\"").unwrap(),
                );
            }
            pieces(&class(&changed)).eq(before.iter().cloned())
        })
        .map(|(path, _)| *path)
        .collect();
    assert_eq!(idle, [""; 0], "these keys change nothing: make them act, or take them away");
}

#[test]
fn every_key_of_a_class_stands_in_a_table_and_those_for_people_are_read() {
    let listed: BTreeSet<String> = ACTING
        .iter()
        .map(|(path, _)| general(path))
        .chain(READ.iter().map(|(key, _)| key.to_string()))
        .collect();
    let written = leaves(&Value::try_from(class(&toml::from_str(WHOLE).unwrap())).unwrap());
    let written: BTreeSet<String> =
        written.into_iter().map(|key| key.replace("work.seasons[][]", "work.seasons")).collect();
    assert_eq!(written, listed);
    super::documents::name_each(&written);
    let program = program();
    for (key, text) in READ {
        assert!(has_word(&program, text), "nothing reads {key}");
    }
}
