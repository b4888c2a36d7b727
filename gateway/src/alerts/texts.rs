//! One line about an alert in Chinese and English, made of the city's, the class's and the rule's own words.

use hunhe_gateway_core::device::alert::Phase;
use hunhe_proto::class::Text;

/// What was found.
#[derive(Debug)]
pub(super) enum Finding<'a> {
    /// A channel's value against a level.
    Level(Level<'a>),
    /// Bits of the status word.
    Bits {
        /// The class's.
        title: &'a Text,
        /// The bits.
        bits: u32,
    },
    /// Nothing arrives from a device.
    Silent {
        /// The class's.
        title: &'a Text,
        /// For so long.
        seconds: i64,
        /// The threshold.
        after_s: i64,
    },
    /// Most devices behind an agent are silent.
    ManySilent {
        /// The agent.
        agent: &'a str,
        /// How many.
        devices: i64,
        /// The threshold.
        share: f64,
    },
    /// A device reports from outboxes that were unknown before.
    NewOutboxes {
        /// The class's.
        title: &'a Text,
        /// How many within an hour.
        outboxes: i64,
        /// The threshold.
        most: u32,
    },
    /// An outbox was replaced by another.
    FoldedMissing {
        /// The class's.
        title: &'a Text,
        /// How many samples were still to come.
        samples: i64,
    },
    /// A device does what a rule watches, in the rule's words.
    Conduct {
        /// The class's.
        title: &'a Text,
        /// The rule's.
        rule: &'a Text,
    },
}

/// A channel's value against a level.
#[derive(Debug)]
pub(super) struct Level<'a> {
    /// The channel's.
    pub(super) title: &'a Text,
    /// The value; none where old data ended.
    pub(super) value: Option<f64>,
    /// The class's.
    pub(super) decimals: u8,
    /// As the class writes it.
    pub(super) unit: &'a str,
    /// How value and threshold compare.
    pub(super) sign: &'static str,
    /// The level.
    pub(super) threshold: f64,
}

/// The line.
pub(super) fn line(
    district: Option<&Text>,
    zone: Option<&Text>,
    finding: &Finding<'_>,
    phase: Phase,
) -> Text {
    let zh = |name: &Text| name.zh.clone();
    let en = |name: &Text| name.en.clone();
    let (place_zh, place_en) = (place(district.map(zh), zone.map(zh)), place(district.map(en), zone.map(en)));
    let (found_zh, found_en) = finding.in_words(phase);
    let (after_zh, after_en) = match phase {
        Phase::Pending => ("，待确认", ", pending"),
        Phase::Firing => ("", ""),
        Phase::Resolved => ("，已恢复", ", resolved"),
    };
    let (colon_zh, colon_en) = if place_zh.is_empty() { ("", "") } else { ("：", ": ") };
    Text {
        zh: format!("{place_zh}{colon_zh}{found_zh}{after_zh}"),
        en: format!("{place_en}{colon_en}{found_en}{after_en}"),
    }
}

/// District and zone; the name of a zone that begins with its district's stands for both.
fn place(district: Option<String>, zone: Option<String>) -> String {
    match (district, zone) {
        (Some(district), Some(zone)) if !zone.starts_with(&district) => format!("{district} · {zone}"),
        (district, zone) => zone.or(district).unwrap_or_default(),
    }
}

impl Finding<'_> {
    fn in_words(&self, phase: Phase) -> (String, String) {
        let over = phase == Phase::Resolved;
        match self {
            Self::Level(level) => level.in_words(),
            Self::Bits { title, bits: 0 } => (title.zh.clone(), title.en.clone()),
            Self::Bits { title, bits } => {
                let (zh, en): (Vec<&str>, Vec<&str>) = bit_names(*bits).unzip();
                (format!("{}，{}", title.zh, zh.join("、")), format!("{}, {}", title.en, en.join(", ")))
            }
            Self::Silent { title, seconds, after_s } if over => {
                let (zh, en) = duration(*seconds);
                let (after_zh, after_en) = duration(*after_s);
                (
                    format!("{}曾失联 {zh}，阈值 {after_zh}", title.zh),
                    format!("{} was offline for {en}, threshold {after_en}", title.en),
                )
            }
            Self::Silent { title, seconds, after_s } => {
                let (zh, en) = duration(*seconds);
                let (after_zh, after_en) = duration(*after_s);
                (
                    format!("{}失联 {zh}，阈值 {after_zh}", title.zh),
                    format!("{} offline for {en}, threshold {after_en}", title.en),
                )
            }
            Self::ManySilent { agent, devices, share } => {
                let percent = number(share * 100.0, 1);
                (
                    format!("集中器 {agent} 下 {devices} 台设备失联，阈值 {percent} %"),
                    format!("{devices} devices behind {agent} offline, threshold {percent} %"),
                )
            }
            Self::NewOutboxes { title, outboxes, most } => (
                format!(
                    "{}一小时内启用 {outboxes} 个新的发送缓存，阈值 {most}，可能有人冒充该设备",
                    title.zh
                ),
                format!(
                    "{} reports from {outboxes} new outboxes within an hour, threshold {most}: somebody may pose as it",
                    title.en
                ),
            ),
            Self::FoldedMissing { title, samples } => (
                format!("{}的发送缓存过多，最早的一个被替换，其中 {samples} 条数据尚未送达", title.zh),
                format!(
                    "{} has too many outboxes: one gave way with {samples} samples still to come",
                    title.en
                ),
            ),
            Self::Conduct { title, rule } => {
                (format!("{}：{}", title.zh, rule.zh), format!("{}: {}", title.en, lowered(&rule.en)))
            }
        }
    }
}

impl Level<'_> {
    fn in_words(&self) -> (String, String) {
        let unit = shown_unit(self.unit);
        let threshold = number(self.threshold, self.decimals);
        let Some(value) = self.value else {
            let (zh, en) = (&self.title.zh, lowered(&self.title.en));
            return (format!("{zh}，历史数据结束"), format!("{en}, end of the old data"));
        };
        let value = number(value, self.decimals);
        let gap = if unit.is_empty() { "" } else { " " };
        let sign = self.sign;
        (
            format!("{} {value}{gap}{unit} {sign} {threshold}", self.title.zh),
            format!("{} {value}{gap}{unit} {sign} {threshold}", lowered(&self.title.en)),
        )
    }
}

/// With the class's decimals, and no zeros at the end.
fn number(value: f64, decimals: u8) -> String {
    let text = format!("{value:.*}", usize::from(decimals));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".into() } else { text.into() }
}

/// In the middle of a sentence: `Methane` becomes `methane`, `CO2` and `pH` stay.
fn lowered(title: &str) -> String {
    let mut letters = title.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => title.into(),
    }
}

/// A UCUM code as people write it.
fn shown_unit(unit: &str) -> String {
    match unit {
        "1" => String::new(),
        "Cel" => "°C".into(),
        "deg" => "°".into(),
        other => other
            .replace("m3", "m³")
            .replace("m2", "m²")
            .chars()
            .filter(|letter| !matches!(letter, '{' | '}' | '[' | ']'))
            .collect(),
    }
}

/// In its two largest units: `2 小时 5 分`.
fn duration(seconds: i64) -> (String, String) {
    const UNITS: [(i64, &str, &str); 4] =
        [(86_400, "天", "d"), (3_600, "小时", "h"), (60, "分", "min"), (1, "秒", "s")];
    let mut rest = seconds.max(0);
    let largest = UNITS.iter().position(|(length, ..)| rest >= *length).unwrap_or(3);
    let (mut zh, mut en) = (Vec::new(), Vec::new());
    for (length, unit_zh, unit_en) in UNITS.iter().skip(largest).take(2) {
        let count = rest / length;
        rest %= length;
        if count > 0 || zh.is_empty() {
            zh.push(format!("{count} {unit_zh}"));
            en.push(format!("{count} {unit_en}"));
        }
    }
    (zh.join(" "), en.join(" "))
}

/// Names of the bits that are set.
fn bit_names(bits: u32) -> impl Iterator<Item = (&'static str, &'static str)> {
    BITS.iter().enumerate().filter(move |(at, _)| bits >> at & 1 == 1).map(|(_, names)| *names)
}

/// Of the status word common to all classes, by bit.
const BITS: [(&str, &str); 32] = [
    ("电池电量低", "battery low"),
    ("电池即将耗尽", "battery critical"),
    ("外部供电中断", "external power lost"),
    ("磁场干扰", "magnetic tamper"),
    ("外壳被打开", "cover opened"),
    ("阀门关闭", "valve closed"),
    ("阀门故障", "valve fault"),
    ("反向流动", "reverse flow"),
    ("流量过大", "excess flow"),
    ("持续小流量", "continuous low flow"),
    ("压力低", "pressure low"),
    ("压力高", "pressure high"),
    ("泄漏低报", "leak, low alarm"),
    ("泄漏高报", "leak, high alarm"),
    ("传感器故障", "sensor fault"),
    ("超量程", "over range"),
    ("空管", "empty pipe"),
    ("被水淹没", "submerged"),
    ("时钟未设置", "clock not set"),
    ("时钟跳变", "clock stepped"),
    ("存储器故障", "memory fault"),
    ("通信重试", "communication retried"),
    ("看门狗复位", "restarted by watchdog"),
    ("卫星信号丢失", "satellite signal lost"),
    ("校准到期", "calibration due"),
    ("检修中", "under maintenance"),
    ("测试模式", "test mode"),
    ("温度极端", "extreme temperature"),
    ("厂商位 28", "vendor bit 28"),
    ("厂商位 29", "vendor bit 29"),
    ("厂商位 30", "vendor bit 30"),
    ("厂商位 31", "vendor bit 31"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(zh: &str, en: &str) -> Text {
        Text { zh: zh.into(), en: en.into() }
    }

    #[test]
    fn a_raise_and_its_end_have_place_value_and_threshold() {
        let (district, zone) = (text("铁西区", "Tiexi District"), text("铁西站", "Station Tiexi"));
        let methane = text("甲烷", "Methane");
        let level = |value, sign, threshold| {
            Finding::Level(Level { title: &methane, value, decimals: 2, unit: "%{LEL}", sign, threshold })
        };
        let raised = line(Some(&district), Some(&zone), &level(Some(57.0), "≥", 50.0), Phase::Firing);
        assert_eq!(raised.zh, "铁西区 · 铁西站：甲烷 57 %LEL ≥ 50");
        assert_eq!(raised.en, "Tiexi District · Station Tiexi: methane 57 %LEL ≥ 50");
        let over = line(Some(&district), Some(&zone), &level(Some(38.25), "<", 40.0), Phase::Resolved);
        assert_eq!(over.zh, "铁西区 · 铁西站：甲烷 38.25 %LEL < 40，已恢复");
        assert_eq!(over.en, "Tiexi District · Station Tiexi: methane 38.25 %LEL < 40, resolved");
        let ended = line(None, None, &level(None, "<", 40.0), Phase::Resolved);
        assert_eq!(ended.en, "methane, end of the old data, resolved");
        let named_after = text("铁西区燃气场站", "Tiexi District gas station");
        let raised = line(Some(&district), Some(&named_after), &level(Some(0.0), "≤", 0.1), Phase::Firing);
        assert_eq!(raised.zh, "铁西区燃气场站：甲烷 0 %LEL ≤ 0.1");
    }

    #[test]
    fn silence_shows_its_length_and_its_threshold() {
        let title = text("燃气场站泄漏探测器", "Station gas detector");
        let silent = Finding::Silent { title: &title, seconds: 7_512, after_s: 300 };
        let found = line(Some(&text("铁西区", "Tiexi District")), None, &silent, Phase::Firing);
        assert_eq!(found.zh, "铁西区：燃气场站泄漏探测器失联 2 小时 5 分，阈值 5 分");
        assert_eq!(found.en, "Tiexi District: Station gas detector offline for 2 h 5 min, threshold 5 min");
        let many = Finding::ManySilent { agent: "c-gas-3", devices: 57, share: 0.8 };
        let found = line(None, None, &many, Phase::Firing);
        assert_eq!(found.zh, "集中器 c-gas-3 下 57 台设备失联，阈值 80 %");
        assert_eq!(found.en, "57 devices behind c-gas-3 offline, threshold 80 %");
    }

    #[test]
    fn conduct_of_a_device_is_described_with_what_it_may_mean() {
        let title = text("燃气表", "Gas meter");
        let many = Finding::NewOutboxes { title: &title, outboxes: 9, most: 8 };
        let found = line(None, None, &many, Phase::Firing);
        assert_eq!(found.zh, "燃气表一小时内启用 9 个新的发送缓存，阈值 8，可能有人冒充该设备");
        let en = "Gas meter reports from 9 new outboxes within an hour, threshold 8: somebody may pose as it";
        assert_eq!(found.en, en);
        let folded = Finding::FoldedMissing { title: &title, samples: 12 };
        let found = line(None, None, &folded, Phase::Firing);
        assert_eq!(found.en, "Gas meter has too many outboxes: one gave way with 12 samples still to come");
        let rule = text("序号不可信", "Implausible sequence numbers");
        let over = line(None, None, &Finding::Conduct { title: &title, rule: &rule }, Phase::Resolved);
        assert_eq!(over.zh, "燃气表：序号不可信，已恢复");
        assert_eq!(over.en, "Gas meter: implausible sequence numbers, resolved");
    }

    #[test]
    fn bits_are_named_each() {
        let title = text("燃气表", "Gas meter");
        let bits = Finding::Bits { title: &title, bits: 0x8 | 0x8000_0000 };
        let found = line(None, None, &bits, Phase::Firing);
        assert_eq!(found.zh, "燃气表，磁场干扰、厂商位 31");
        assert_eq!(found.en, "Gas meter, magnetic tamper, vendor bit 31");
        let rule = text("电池电量低", "Battery low");
        let over = line(None, None, &Finding::Bits { title: &rule, bits: 0 }, Phase::Resolved);
        assert_eq!((over.zh.as_str(), over.en.as_str()), ("电池电量低，已恢复", "Battery low, resolved"));
    }

    #[test]
    fn durations_have_two_units_at_most() {
        assert_eq!(duration(0).1, "0 s");
        assert_eq!(duration(59).1, "59 s");
        assert_eq!(duration(60).1, "1 min");
        assert_eq!(duration(90_061).1, "1 d 1 h");
        assert_eq!(duration(3_601).1, "1 h", "the unit after the next is left out");
        assert_eq!(duration(-5).0, "0 秒");
    }

    #[test]
    fn numbers_and_units_are_short() {
        assert_eq!(number(57.0, 2), "57");
        assert_eq!(number(100.0, 0), "100");
        assert_eq!(number(-0.001, 2), "0");
        assert_eq!(shown_unit("m3/h"), "m³/h");
        assert_eq!(shown_unit("[ppm]"), "ppm");
        assert_eq!(lowered("pH"), "pH");
        assert_eq!(lowered("CO2"), "CO2");
    }
}
