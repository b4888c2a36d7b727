//! The keys of a rule.

use super::{lane, leaves, program, source::has_word};
use hunhe_gateway_core::rule::{Rule, When};
use hunhe_proto::class::{Class, Text};
use std::collections::BTreeSet;
use toml::Value;

const CLASS: &str = r#"
name = "level"
version = 3
title = { zh = "液位", en = "Level" }
time_unit_ms = 60000
interval = 10
report = { samples = 12, silent_after_s = 36000 }
[[channels]]
number = 0
name = "status"
title = { zh = "状态字", en = "Status" }
unit = "1"
kind = "bits"
min = 0
max = 255
[[channels]]
number = 1
name = "level"
title = { zh = "液位", en = "Level" }
unit = "mm"
kind = "gauge"
decimals = 1
min = -100
max = 600
[[channels]]
number = 3
name = "other"
title = { zh = "另", en = "Other" }
unit = "1"
kind = "gauge"
min = 0
max = 100000
"#;

fn rule(when: &str, more: &str) -> Rule {
    let apart =
        when.contains("silent_share") || CONDUCT.iter().any(|(_, one, other)| [*one, *other].contains(&when));
    let class = if apart { "" } else { "class = \"level\"" };
    let text = format!(
        "id = \"r\"\nversion = 1\n{class}\nseverity = \"major\"\ntitle = {{ zh = \"高\", en = \"High\" }}\n\
         source = \"D\"\nwhen = {{ {when} }}\n{more}\n"
    );
    toml::from_str(&text).unwrap()
}

fn alerts(rules: &[Rule]) -> String {
    lane::observe(&toml::from_str::<Class>(CLASS).unwrap(), rules, 3)
}

const HIGH: &str = "channel = \"level\", at_least = 26, clear_below = 25";
const HIGHER: &str = "channel = \"level\", at_least = 30, clear_below = 25";
const LOW: &str = "channel = \"level\", at_most = 0, clear_above = 5";

/// A condition, and the same with one key changed.
const ACTING: &[(&str, &str, &str)] = &[
    ("when.at_least", HIGH, "channel = \"level\", at_least = 500, clear_below = 25"),
    ("when.clear_below", HIGHER, "channel = \"level\", at_least = 30, clear_below = 27"),
    ("when.channel", HIGH, "channel = \"other\", at_least = 26, clear_below = 25"),
    ("when.at_most", LOW, "channel = \"level\", at_most = 9.9, clear_above = 25"),
    ("when.clear_above", LOW, "channel = \"level\", at_most = 0, clear_above = 400"),
    ("when.bits", "bits = 8", "bits = 1"),
    ("when.silent_s", "silent_s = 36000", "silent_s = 72000"),
    ("when.devices_min", "silent_share = 0.5, devices_min = 2", "silent_share = 0.5, devices_min = 9"),
];

/// The same for conditions on how devices report.
const CONDUCT: &[(&str, &str, &str)] = &[
    ("when.new_outboxes_per_h", "new_outboxes_per_h = 3", "new_outboxes_per_h = 30"),
    ("when.folded_missing", "folded_missing = 1", "folded_missing = 1000"),
    ("when.refused", "refused = \"implausible_seq\"", "refused = \"dedup_window\""),
];

/// Keys for people: which text of the program reads them.
const READ: &[(&str, &str)] = &[
    ("version", "rule.version"),
    ("severity", "rule.severity"),
    ("title.zh", "rule.title"),
    ("title.en", "rule.title"),
    ("source", "rule.source"),
];

/// A new field of a rule does not compile here: it belongs into a table.
fn is_whole(rule: Rule) {
    let Rule { id: _, version: _, class: _, severity: _, title, source: _, when, hold_s: _, clear_hold_s: _ } =
        rule;
    let Text { zh: _, en: _ } = title;
    match when {
        When::AtLeast { channel: _, at_least: _, clear_below: _ }
        | When::AtMost { channel: _, at_most: _, clear_above: _ } => {}
        When::Bits { bits: _ } | When::Silent { silent_s: _ } => {}
        When::SilentShare { silent_share: _, devices_min: _ } => {}
        When::NewOutboxes { new_outboxes_per_h: _ }
        | When::FoldedMissing { folded_missing: _ }
        | When::Refused { refused: _ } => {}
    }
}

#[test]
fn every_key_of_a_rule_changes_the_alerts() {
    let quiet = rule("silent_s = 36000", "");
    let with_silence = |share: &str| {
        let share = Rule { id: "share".into(), ..rule(share, "") };
        alerts(&[quiet.clone(), share])
    };
    for (key, before, after) in ACTING {
        is_whole(rule(before, ""));
        let of = |when: &str| {
            if when.contains("silent_share") { with_silence(when) } else { alerts(&[rule(when, "")]) }
        };
        assert!(of(before) != of(after), "{key} changes nothing");
    }
    for (key, before, after) in CONDUCT {
        let class: Class = toml::from_str(CLASS).unwrap();
        let of = |when: &str| lane::observe_conduct(&class, &[rule(when, "")]);
        assert!(of(before) != of(after), "{key} changes nothing");
    }
    assert!(
        with_silence("silent_share = 0.3, devices_min = 2")
            != with_silence("silent_share = 1.0, devices_min = 2"),
        "silent_share changes nothing"
    );
    let high = alerts(&[rule(HIGH, "")]);
    assert!(high != alerts(&[rule(HIGH, "hold_s = 1200")]), "hold_s changes nothing");
    assert!(high != alerts(&[rule(HIGH, "clear_hold_s = 1200")]), "clear_hold_s changes nothing");
    assert!(high != alerts(&[Rule { id: "s".into(), ..rule(HIGH, "") }]), "id changes nothing");
    assert_ne!(
        high,
        alerts(&[Rule { class: Some("none".into()), ..rule(HIGH, "") }]),
        "class changes nothing"
    );
}

#[test]
fn every_key_of_a_rule_stands_in_a_table_and_those_for_people_are_read() {
    let conditions = ACTING
        .iter()
        .chain(CONDUCT)
        .map(|(_, before, _)| *before)
        .chain(["silent_share = 0.5, devices_min = 2"]);
    let written: BTreeSet<String> = conditions
        .flat_map(|when| leaves(&Value::try_from(rule(when, "hold_s = 1\nclear_hold_s = 1")).unwrap()))
        .collect();
    let listed = ACTING.iter().chain(CONDUCT).map(|(key, ..)| *key).chain(READ.iter().map(|(key, _)| *key));
    let apart = ["id", "class", "hold_s", "clear_hold_s", "when.silent_share"];
    assert_eq!(written, listed.chain(apart).map(str::to_string).collect());
    super::documents::name_each(&written);
    let program = program();
    for (key, text) in READ {
        assert!(has_word(&program, text), "nothing reads {key}");
    }
}
