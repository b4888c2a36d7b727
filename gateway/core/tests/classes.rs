//! Each class in `seeds` as the gateway takes it: what breaks a channel's bounds is refused, with its own reason.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail loudly, its helpers too, and its numbers are its own"
)]

mod support;

use hunhe_gateway_core::{
    lane::{Lane, Policy},
    registry::{Enrolment, Registry},
    rule::{Rule, faults_of},
};
use hunhe_proto::class::Class;
use std::{path::Path, sync::Arc};
use support::*;

fn classes() -> Vec<Class> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seeds/classes");
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| class(&std::fs::read_to_string(file.unwrap().path()).unwrap())).collect()
}

fn lane_of(class: &Class) -> Lane {
    let mut registry = Registry::new(vec![class.clone()]);
    let enrolment = Enrolment {
        id: id("d-1"),
        pseudonym: id("p-1"),
        class: class.name.clone(),
        agent: id("d-1"),
        operator: id("op"),
        district: 210_102,
        zone: id("zone-1"),
        position: (123.4, 41.8),
    };
    registry.enrol(enrolment).unwrap();
    Lane::new(Arc::new(registry), Policy::default())
}

fn of_version(class: &Class) -> Sent {
    let mut sent = Sent::new(7, 0);
    sent.header.class_version = Some(class.version);
    sent
}

/// A report of one sample with one value; what is said of it.
fn verdict(class: &Class, channel: u16, wire: i64) -> Option<&'static str> {
    let mut lane = lane_of(class);
    let now_ms = START_MS + DAY_MS;
    let t0 = START_MS / i64::from(class.time_unit_ms);
    let decisions = send(&mut lane, now_ms, "d-1", &of_version(class).block(t0, channel, &[wire]));
    assert_eq!(decisions.accepted.sets.len(), usize::from(decisions.refusal.is_none()));
    let told = decisions.refused.first().map(|range| range.reason.name());
    assert_eq!(told, decisions.refusal.map(|refusal| refusal.reason.name()));
    told
}

#[test]
fn every_channel_of_every_class_keeps_its_bounds() {
    let classes = classes();
    assert!(classes.len() >= 12, "{}", classes.len());
    for class in &classes {
        for channel in &class.channels {
            let name = format!("{} of {}", channel.name, class.name);
            let wire = |value: f64| (value * channel.scale()).round() as i64;
            let step = i64::from(channel.resolution.max(1));
            let (low, high) = (wire(channel.min), wire(channel.max) / step * step);
            assert_eq!(verdict(class, channel.number, low), None, "{name} at its least");
            assert_eq!(verdict(class, channel.number, high), None, "{name} at its greatest");
            assert_eq!(verdict(class, channel.number, low - step), Some("out_of_range"), "{name}");
            assert_eq!(verdict(class, channel.number, high + step), Some("out_of_range"), "{name}");
            if step > 1 {
                assert_eq!(verdict(class, channel.number, low + 1), Some("resolution"), "{name}");
            }
        }
        assert_eq!(verdict(class, 255, 0), Some("no_known_channel"), "{}", class.name);
    }
}

#[test]
fn a_good_value_saves_a_sample_from_a_bad_one_beside_it() {
    for class in classes() {
        let [first, second] =
            [1, 0].map(|number| class.channels.iter().find(|c| c.number == number).unwrap());
        let wire = |value: f64, scale: f64| (value * scale).round() as i64;
        let block = Block {
            t0: START_MS / i64::from(class.time_unit_ms),
            columns: vec![
                (first.number, vec![wire(first.min, first.scale())], vec![]),
                (second.number, vec![wire(second.max, second.scale()) + 1], vec![]),
            ],
            ..Block::default()
        };
        let mut lane = lane_of(&class);
        let decisions = send(&mut lane, START_MS + DAY_MS, "d-1", &of_version(&class).with(block));
        assert_eq!(accepted_seqs(&decisions), [0], "{}", class.name);
        assert_eq!(lane.counters().values_refused, 1, "{}", class.name);
    }
}

#[test]
fn every_rule_fits_its_class() {
    #[derive(serde::Deserialize)]
    struct File {
        rules: Vec<Rule>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seeds/rules");
    let mut rules = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let read = toml::from_str::<File>(&std::fs::read_to_string(&path).unwrap());
        rules.extend(read.unwrap_or_else(|error| panic!("{}: {error}", path.display())).rules);
    }
    assert_eq!(faults_of(&rules, &classes()), []);
    for rule in &rules {
        assert!(!rule.title.zh.is_empty() && !rule.title.en.is_empty(), "{}", rule.id);
        assert!(rule.source.contains("revision "), "{}: its number has no revision", rule.id);
    }
}
