//! The data in `seeds` against the model that lives by it: every class, every fault, every rule, and the scenario.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly, its helpers too"
)]

use hunhe_edge::{
    classes::{self, Classes},
    drivers::Driver as _,
};
use hunhe_edge_core::sample::Late;
use hunhe_fleet::{
    faults::Faults,
    rounds::Span,
    scenario::{Plan, Scenario},
    simulated::Simulated,
};
use hunhe_proto::{
    class::{Channel, Class, Fault, Kind},
    fleet::{Fleet, Member},
    id::{AgentId, DeviceId},
    reading::ABSENT,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Local midnights of 2026: in winter, in both seasons of tillage, in summer.
const DAYS_MS: [i64; 4] = [1_768_406_400_000, 1_776_614_400_000, 1_784_044_800_000, 1_792_080_000_000];
/// The last of them: an autumn day on which tractors work.
const AUTUMN_MS: i64 = DAYS_MS[3];

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seeds")
}

fn classes() -> Classes {
    classes::load(&seeds().join("classes")).unwrap()
}

fn fleet(name: &str) -> Fleet {
    toml::from_str(&std::fs::read_to_string(seeds().join("city").join(name)).unwrap()).unwrap()
}

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn model(class: &Arc<Class>, device: DeviceId, start_ms: i64) -> Simulated {
    Simulated::new(Arc::clone(class), device, 0, None, start_ms, Late::CatchUp)
}

/// Calls `each` with every sample up to `until_ms`.
fn play(mut driver: Simulated, width: usize, until_ms: i64, mut each: impl FnMut(i64, &[i64])) {
    let mut row = vec![0; width];
    while driver.next_ms().is_some_and(|next| next < until_ms) {
        if let Some(taken) = driver.take(until_ms - 1, &mut row) {
            each(taken.time_ms, &row);
        }
    }
}

#[test]
fn every_class_has_ordinary_days_within_what_is_usual() {
    for class in classes().values() {
        for start_ms in DAYS_MS {
            for number in 0..20 {
                let mut last: Vec<i64> = vec![ABSENT; class.channels.len()];
                let device = id(&format!("d-{number}"));
                let mut samples = 0;
                play(
                    model(class, device, start_ms),
                    class.channels.len(),
                    start_ms + DAY_MS,
                    |time_ms, row| {
                        samples += 1;
                        for ((channel, &wire), last) in class.channels.iter().zip(row).zip(&mut last) {
                            if wire == ABSENT {
                                continue;
                            }
                            let value = channel.value(wire);
                            let least = channel.usual_min.unwrap_or(channel.min);
                            let most = channel.usual_max.unwrap_or(channel.max);
                            let name = format!("{} of {} at {time_ms}", channel.name, class.name);
                            assert!((least..=most).contains(&value), "{name}: {value}");
                            assert_eq!(wire % i64::from(channel.resolution.max(1)), 0, "{name}");
                            if channel.kind == Kind::Register && *last != ABSENT {
                                assert!(wire >= *last, "{name} runs backwards");
                            }
                            *last = wire;
                        }
                    },
                );
                let every = class.work.as_ref().map_or(1, |work| i64::from(work.rest_every));
                assert!(samples >= DAY_MS / class.interval_ms() / every, "{}: {samples}", class.name);
                assert!(
                    last.iter().all(|&wire| wire != ABSENT),
                    "{}: a channel is never carried",
                    class.name
                );
            }
        }
    }
}

#[test]
fn every_fault_of_every_class_shows_and_ends() {
    for class in classes().values() {
        assert!(class.faults.len() >= 7, "{} has few faults", class.name);
        for (name, fault) in &class.faults {
            let shown = (0..40).filter(|number| shows(class, fault, id(&format!("d-{number}")))).count();
            assert!(shown > 0, "fault {name} of {} does not show", class.name);
        }
    }
}

/// Does `fault`, from eight to sixteen o'clock, show in what the device says, and only while it stands?
fn shows(class: &Arc<Class>, fault: &Fault, device: DeviceId) -> bool {
    let (from_ms, until_ms) = (AUTUMN_MS + 8 * HOUR_MS, AUTUMN_MS + 16 * HOUR_MS);
    let width = class.channels.len();
    let run = |struck: bool| {
        let mut model = model(class, device, AUTUMN_MS);
        if struck {
            model.strike(fault.clone(), (from_ms..until_ms).into());
        }
        let mut rows = Vec::new();
        play(model, width, AUTUMN_MS + DAY_MS, |time_ms, row| rows.push((time_ms, row.to_vec())));
        rows
    };
    let (healthy, struck) = (run(false), run(true));
    let between = |rows: &[(i64, Vec<i64>)], from_ms, until_ms| -> Vec<(i64, Vec<i64>)> {
        rows.iter().filter(|(time, _)| (from_ms..until_ms).contains(time)).cloned().collect()
    };
    if !matches!(fault, Fault::Rollover { .. }) {
        assert_eq!(between(&healthy, AUTUMN_MS, from_ms), between(&struck, AUTUMN_MS, from_ms), "too early");
    }
    // What counts keeps what it counted, and denser sampling may go on for a while; all else is as it was.
    let levels = |rows: &[(i64, Vec<i64>)]| -> Vec<(i64, Vec<i64>)> {
        let counts = |kind| matches!(kind, Kind::Register | Kind::Identity);
        let level = |(channel, &wire): (&Channel, &i64)| (!counts(channel.kind)).then_some(wire);
        let rows = between(rows, until_ms + 2 * HOUR_MS, AUTUMN_MS + DAY_MS).into_iter();
        rows.map(|(time, row)| (time, class.channels.iter().zip(&row).filter_map(level).collect())).collect()
    };
    assert_eq!(levels(&healthy), levels(&struck), "goes on");
    match fault {
        Fault::Silent => between(&struck, from_ms, until_ms).is_empty(),
        // The port's, not the device's.
        Fault::Disorder | Fault::Duplicate => {
            let mut model = model(class, device, AUTUMN_MS);
            model.strike(fault.clone(), (from_ms..until_ms).into());
            let mut faults = Faults::default();
            faults.add(device, &model);
            let by_device = [faults.disorder_ms, faults.duplicate_ms].into_iter().flatten();
            let spans: Vec<_> = by_device.flat_map(|(_, spans)| spans).collect();
            matches!(spans.as_slice(), [span] if *span == Span::from(from_ms..until_ms))
        }
        Fault::Clock { .. } => struck.iter().zip(&healthy).any(|(struck, healthy)| struck.0 != healthy.0),
        Fault::Status { bits } => {
            let at = class.channels.iter().position(|channel| channel.number == 0).unwrap();
            let of = |rows: &[(i64, Vec<i64>)]| rows.iter().any(|(_, row)| row[at] & i64::from(*bits) != 0);
            of(&struck) && !of(&healthy)
        }
        _ => {
            let at = class.channels.iter().position(|c| Some(c.name.as_str()) == fault.channel()).unwrap();
            let values = |rows: &[(i64, Vec<i64>)]| -> BTreeMap<i64, i64> {
                rows.iter().map(|(time, row)| (*time, row[at])).collect()
            };
            let healthy = values(&healthy);
            values(&struck)
                .into_iter()
                .any(|(time, value)| healthy.get(&time).is_some_and(|&was| was != value))
        }
    }
}

/// A rule's file as far as this test needs it; the gateway's own reader is stricter.
#[derive(Debug, serde::Deserialize)]
struct Rules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, serde::Deserialize)]
struct Rule {
    id: String,
    class: Option<String>,
    when: When,
    #[serde(default)]
    hold_s: i64,
    #[serde(default)]
    clear_hold_s: i64,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct When {
    channel: Option<String>,
    at_least: Option<f64>,
    clear_below: Option<f64>,
    at_most: Option<f64>,
    clear_above: Option<f64>,
    bits: Option<u32>,
    silent_s: Option<i64>,
    silent_share: Option<f64>,
    devices_min: Option<u32>,
    new_outboxes_per_h: Option<u32>,
    folded_missing: Option<u64>,
    refused: Option<String>,
}

fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for file in std::fs::read_dir(seeds().join("rules")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Rules = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        rules.extend(read.rules);
    }
    rules
}

impl When {
    /// Does the sample set it, and does it clear it? `None` where the sample lacks the channel.
    fn judge(&self, class: &Class, row: &[i64]) -> Option<(bool, bool)> {
        if let Some(bits) = self.bits {
            let at = class.channels.iter().position(|channel| channel.number == 0)?;
            let set = row[at] != ABSENT && row[at] & i64::from(bits) != 0;
            return Some((set, !set));
        }
        let at = class.channels.iter().position(|channel| Some(&channel.name) == self.channel.as_ref())?;
        let value =
            Some(row[at]).filter(|&wire| wire != ABSENT).map(|wire| class.channels[at].value(wire))?;
        let above = self.at_least.is_some_and(|limit| value >= limit);
        let below = self.at_most.is_some_and(|limit| value <= limit);
        let clear = self.clear_below.is_none_or(|limit| value < limit)
            && self.clear_above.is_none_or(|limit| value > limit);
        Some((above || below, clear))
    }
}

#[test]
fn rules_name_classes_and_channels_that_are_there_and_leave_room() {
    let classes = classes();
    let mut ids = BTreeSet::new();
    for rule in rules() {
        assert!(ids.insert(rule.id.clone()), "{} is there twice", rule.id);
        let Some(name) = &rule.class else {
            let When { new_outboxes_per_h, folded_missing, refused, .. } = &rule.when;
            let conduct = new_outboxes_per_h.is_some() || folded_missing.is_some() || refused.is_some();
            let share = rule.when.silent_share.is_some() && rule.when.devices_min.is_some();
            assert!(conduct || share, "{}", rule.id);
            continue;
        };
        let class = classes.get(name).unwrap_or_else(|| panic!("{}: no class {name}", rule.id));
        if let Some(channel) = &rule.when.channel {
            assert!(class.channel(channel).is_some(), "{}: no channel {channel}", rule.id);
            let band = (rule.when.at_least, rule.when.clear_below, rule.when.at_most, rule.when.clear_above);
            assert!(
                matches!(band, (Some(set), Some(clear), None, None) if clear <= set)
                    || matches!(band, (None, None, Some(set), Some(clear)) if clear >= set),
                "{}",
                rule.id
            );
        }
        if let Some(silent_s) = rule.when.silent_s {
            let report_s = class.interval_ms() / 1000 * i64::from(class.report.samples);
            let period_s = report_s + i64::from(class.report.dispersal_s);
            assert!(silent_s >= period_s, "{}: an ordinary report comes every {period_s} s", rule.id);
            assert!(silent_s >= i64::from(class.report.silent_after_s), "{}", rule.id);
        }
    }
    for class in classes.values().filter(|class| class.work.is_none()) {
        let named = |rule: &Rule| rule.class.as_ref() == Some(&class.name) && rule.when.silent_s.is_some();
        assert!(rules().iter().any(named), "{} has no rule of silence", class.name);
    }
}

#[test]
fn on_an_ordinary_day_no_device_of_the_demonstration_meets_a_rule() {
    let (classes, fleet, rules) = (classes(), fleet("demo.toml"), rules());
    for start_ms in DAYS_MS {
        for member in fleet.expand().unwrap() {
            let class = &classes[&member.group.class];
            let of_class: Vec<&Rule> =
                rules.iter().filter(|rule| rule.class.as_ref() == Some(&class.name)).collect();
            let mut model = model(class, member.id, start_ms);
            model.stand(member.place.lon, member.place.lat);
            play(model, class.channels.len(), start_ms + DAY_MS, |time_ms, row| {
                for rule in &of_class {
                    let set = rule.when.judge(class, row).is_some_and(|(set, _)| set);
                    assert!(!set, "{} of {} at {time_ms}: {row:?}", rule.id, member.id);
                }
            });
        }
    }
}

/// When a rule fires and resolves on a device, in seconds from the start; event time, as if each sample came at once.
fn episodes(rule: &Rule, class: &Class, samples: &[(i64, Vec<i64>)]) -> Vec<(i64, Option<i64>)> {
    let mut episodes: Vec<(i64, Option<i64>)> = Vec::new();
    let (mut set_since, mut clear_since): (Option<i64>, Option<i64>) = (None, None);
    for (time_s, row) in samples {
        let Some((set, clear)) = rule.when.judge(class, row) else { continue };
        let firing = episodes.last().is_some_and(|(_, end)| end.is_none());
        if firing {
            clear_since = clear.then(|| clear_since.unwrap_or(*time_s));
            if clear_since.is_some_and(|since| time_s - since >= rule.clear_hold_s) {
                episodes.last_mut().unwrap().1 = Some(*time_s);
                (set_since, clear_since) = (None, None);
            }
        } else {
            set_since = set.then(|| set_since.unwrap_or(*time_s));
            if set_since.is_some_and(|since| time_s - since >= rule.hold_s) {
                episodes.push((*time_s, None));
            }
        }
    }
    episodes
}

/// By round, device and rule: when it fires and resolves, in seconds from the round's start.
type Raised = BTreeMap<(i64, String, String), (i64, Option<i64>)>;

/// What is raised from ten hours before the start to two hours into the second round.
fn raised_of(members: &[Member<'_>], plan: &Plan, classes: &Classes, start_ms: i64, repeat_s: i64) -> Raised {
    let (mut raised, rules) = (BTreeMap::new(), rules());
    for member in members.iter().filter(|member| plan.strikes.contains_key(&member.id)) {
        let class = &classes[&member.group.class];
        let from_ms = start_ms - 10 * HOUR_MS;
        let mut model = model(class, member.id, from_ms);
        for strike in &plan.strikes[&member.id] {
            model.strike(strike.fault.clone(), strike.span.later(start_ms));
        }
        let mut samples = Vec::new();
        play(model, class.channels.len(), start_ms + repeat_s * 1000 + 2 * HOUR_MS, |time_ms, row| {
            samples.push(((time_ms - start_ms) / 1000, row.to_vec()));
        });
        for rule in rules.iter().filter(|rule| rule.class.as_ref() == Some(&class.name)) {
            for (from_s, until_s) in episodes(rule, class, &samples) {
                let round = from_s.div_euclid(repeat_s);
                let of_round = (from_s - round * repeat_s, until_s.map(|s| s - round * repeat_s));
                let key = (round, member.id.to_string(), rule.id.clone());
                assert_eq!(raised.insert(key, of_round), None);
            }
        }
    }
    raised
}

#[test]
fn each_round_of_the_scenario_raises_and_ends_what_it_says_and_nothing_else() {
    let (classes, fleet, rules) = (classes(), fleet("demo.toml"), rules());
    let members = fleet.expand().unwrap();
    let scenario = Scenario::read(&seeds().join("scenarios/shenyang.toml")).unwrap();
    let plan = scenario.plan(&members, &classes).unwrap();
    let repeat_s = scenario.repeat_s.expect("the demonstration goes on");
    for start_ms in [AUTUMN_MS, AUTUMN_MS + 9 * HOUR_MS, DAYS_MS[0] + 17 * HOUR_MS] {
        let raised = raised_of(&members, &plan, &classes, start_ms, repeat_s);
        let expected = [
            ("det-3", "station_ch4_warning"),
            ("det-3", "station_ch4_low"),
            ("det-3", "station_ch4_high"),
            ("flow-2", "dma_pressure_low"),
            ("p-6", "water_pressure_low"),
            ("p-7", "water_pressure_low"),
            ("p-8", "water_pressure_low"),
            ("p-9", "water_pressure_low"),
            ("p-10", "water_pressure_low"),
            ("drain-8", "ponding_major"),
            ("drain-8", "ponding_critical"),
            ("hatch-2", "hatcher_cool_warning"),
            ("hatch-2", "hatcher_cool_major"),
            ("hatch-2", "hatcher_cold_critical"),
            ("s-5", "sentinel_ch4_warning"),
            ("s-5", "sentinel_ch4_low"),
        ]
        .map(|(device, rule)| (device.to_string(), rule.to_string()));
        // What began before the start belongs to the first round alone.
        let rounds = |device: &str| if device == "s-5" { vec![-1] } else { vec![0, 1] };
        let expected: BTreeSet<(i64, String, String)> = expected
            .into_iter()
            .flat_map(|(d, r)| rounds(&d).into_iter().map(move |n| (n, d.clone(), r.clone())))
            .collect();
        assert_eq!(raised.keys().cloned().collect::<BTreeSet<_>>(), expected);
        for ((round, device, rule), (from_s, until_s)) in raised {
            let until_s = until_s.unwrap_or_else(|| panic!("{rule} of {device} does not end"));
            if round < 0 {
                let until_s = until_s - repeat_s;
                assert!(until_s < -10_000, "{rule} of {device}: over before anybody hears of it");
            } else {
                assert!(from_s >= 900 && until_s <= 5400, "{rule} of {device}: {from_s} to {until_s} s");
            }
        }
    }
    let offline = |agent: &str| plan.offline[&AgentId::new(agent).unwrap()][0];
    let silence = rules.iter().find(|rule| rule.id == "pipe_sentinel_silent").unwrap().when.silent_s.unwrap();
    let cell = offline("c-s-2");
    let (length_s, until_s) = ((cell.until_ms - cell.from_ms) / 1000, cell.until_ms / 1000);
    // A report has come at most a period before.
    assert!(length_s > silence + 60 && until_s < 5400, "the cell's silence fires, and ends in time");
    assert!(
        offline("c-s-1").until_ms / 1000 < silence,
        "the cell that delivers its night is not missed before"
    );
    assert_eq!(offline("c-s-1").every_ms, None, "later rounds miss no cell that the first does not");
    let behind = |agent: &str| members.iter().filter(|member| member.agent.as_str() == agent).count();
    assert!(behind("c-s-2") >= 5 && behind("c-s-1") >= 5);
}

#[test]
fn the_scenario_fits_a_small_fleet_too() {
    let mut fleet = fleet("demo.toml");
    for group in fleet.groups.iter_mut().filter(|group| !matches!(group.prefix.as_str(), "dma" | "weather")) {
        group.count = (group.count * 300 / 2000).max(1);
    }
    let members: Vec<Member<'_>> = fleet.expand().unwrap();
    let scenario = Scenario::read(&seeds().join("scenarios/shenyang.toml")).unwrap();
    scenario.plan(&members, &classes()).unwrap();
}

#[test]
fn the_scenario_that_the_readme_teaches_fits_the_demonstration() {
    let readme = std::fs::read_to_string(seeds().join("README.md")).unwrap();
    let example = readme.split("```toml\n").find(|text| text.starts_with("# scenario")).unwrap();
    let scenario: Scenario = toml::from_str(example.split("```").next().unwrap()).unwrap();
    scenario.plan(&fleet("demo.toml").expand().unwrap(), &classes()).unwrap();
}

/// The names that a structure's own refusal of an unknown key lists.
fn keys_of(text: &str) -> Vec<String> {
    let refusal = toml::from_str::<Scenario>(text).unwrap_err().to_string();
    let (_, listed) = refusal.split_once("expected one of ").expect("a key that nothing has is refused");
    listed.split('`').skip(1).step_by(2).map(String::from).collect()
}

#[test]
fn every_key_of_a_scenario_stands_in_the_readme() {
    let readme = std::fs::read_to_string(seeds().join("README.md")).unwrap();
    let table = readme.split("\n## ").find(|part| part.starts_with("Scenarios\n")).unwrap();
    let names = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let explained: BTreeSet<&str> = names.flat_map(|names| names.split('`').step_by(2)).collect();
    let keys =
        [keys_of("zzz = 1"), keys_of("title = { zh = \"\", en = \"\" }\n[[events]]\nzzz = 1")].concat();
    assert_eq!(keys.len(), 11, "{keys:?}");
    for key in keys.iter().filter(|key| *key != "events") {
        assert!(explained.contains(key.as_str()), "seeds/README.md does not explain {key}");
    }
}
