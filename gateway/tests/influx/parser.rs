//! Line protocol read back, by the format's description and without a look at the encoder.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) measurement: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) fields: BTreeMap<String, f64>,
    pub(crate) time_ms: i64,
    /// Tag keys as they stood.
    pub(crate) tag_order: Vec<String>,
}

/// Splits at unescaped occurrences of a character.
fn split(text: &str, at: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        if c == at && !escaped {
            parts.push(&text[start..i]);
            start = i + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str, special: &[char]) -> String {
    let (mut out, mut chars) = (String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next) if c == '\\' && special.contains(next) => {}
            _ => out.push(c),
        }
    }
    out
}

pub(crate) fn point(line: &str) -> Result<Point, String> {
    let sections = split(line, ' ');
    let [series, fields, time] = sections.as_slice() else {
        return Err(format!("{} sections", sections.len()));
    };
    let mut series = split(series, ',').into_iter();
    let measurement = unescape(series.next().ok_or("no measurement")?, &[',', ' ']);
    let (mut tags, mut tag_order) = (BTreeMap::new(), Vec::new());
    for tag in series {
        let pair = split(tag, '=');
        let [key, value] = pair.as_slice() else { return Err(format!("tag {tag}")) };
        if key.is_empty() || value.is_empty() {
            return Err(format!("tag {tag}"));
        }
        let key = unescape(key, &[',', ' ', '=']);
        tag_order.push(key.clone());
        tags.insert(key, unescape(value, &[',', ' ', '=']));
    }
    let mut values = BTreeMap::new();
    for field in split(fields, ',') {
        let pair = split(field, '=');
        let [key, value] = pair.as_slice() else { return Err(format!("field {field}")) };
        let value: f64 = value.parse().map_err(|_| format!("value {value}"))?;
        if key.is_empty()
            || !value.is_finite()
            || values.insert(unescape(key, &[',', ' ', '=']), value).is_some()
        {
            return Err(format!("field {field}"));
        }
    }
    let time_ms = time.parse().map_err(|_| format!("time {time}"))?;
    Ok(Point { measurement, tags, fields: values, time_ms, tag_order })
}

/// Every line of a body; each must end with a line feed.
pub(crate) fn points(body: &[u8]) -> Vec<Point> {
    let text = std::str::from_utf8(body).unwrap();
    let text = text.strip_suffix('\n').expect("a body ends its last line");
    text.split('\n').map(|line| point(line).unwrap_or_else(|why| panic!("{why} in {line}"))).collect()
}
