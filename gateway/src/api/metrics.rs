//! Figures for Prometheus: the shape in which the gateway hands them over, and the text format 0.0.4.
//!
//! Names and label keys are literals of ours; label values may be any text and are escaped.

use std::fmt::Write;

/// One family of figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Name, with its unit: `hunhe_journal_bytes`, `hunhe_samples_total`.
    pub name: &'static str,
    /// One line.
    pub help: &'static str,
    /// What the figures do.
    pub kind: MetricKind,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// What a family's figures do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises while the process lives.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// One figure of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Label keys and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: FigureValue,
}

/// A number, or a whole histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum FigureValue {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// (upper bound, observations up to it), bounds rising; the bucket `+Inf` is added from `count`.
        buckets: Vec<(f64, u64)>,
        /// Sum of all observations.
        sum: f64,
        /// Number of all observations.
        count: u64,
    },
}

impl Metric {
    /// A family with one figure and no label.
    pub fn single(name: &'static str, help: &'static str, kind: MetricKind, value: f64) -> Self {
        let figures = vec![Figure { labels: Vec::new(), value: FigureValue::Number(value) }];
        Self { name, help, kind, figures }
    }
}

/// The text that a scrape reads. A name that appears twice is written once, the first wins.
pub fn render(metrics: &[Metric]) -> String {
    let mut text = String::with_capacity(metrics.len() * 128);
    for (at, metric) in metrics.iter().enumerate() {
        if metrics[..at].iter().any(|before| before.name == metric.name) {
            continue;
        }
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String does not fail.
        let _ = writeln!(text, "# HELP {} {help}\n# TYPE {} {kind}", metric.name, metric.name);
        for figure in &metric.figures {
            write_figure(&mut text, metric.name, figure);
        }
    }
    text
}

fn write_figure(text: &mut String, name: &str, figure: &Figure) {
    match &figure.value {
        FigureValue::Number(value) => write_line(text, name, "", &figure.labels, None, *value),
        FigureValue::Histogram { buckets, sum, count } => {
            for (bound, seen) in buckets {
                write_line(text, name, "_bucket", &figure.labels, Some(*bound), count_of(*seen));
            }
            write_line(text, name, "_bucket", &figure.labels, Some(f64::INFINITY), count_of(*count));
            write_line(text, name, "_sum", &figure.labels, None, *sum);
            write_line(text, name, "_count", &figure.labels, None, count_of(*count));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "the text format carries doubles; counts stay far below 2^53")]
fn count_of(count: u64) -> f64 {
    count as f64
}

fn write_line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&'static str, String)],
    bound: Option<f64>,
    value: f64,
) {
    text.push_str(name);
    text.push_str(suffix);
    if !labels.is_empty() || bound.is_some() {
        text.push('{');
        for (key, value) in labels {
            let _ = write!(text, "{key}=\"");
            escape(text, value);
            text.push_str("\",");
        }
        if let Some(bound) = bound {
            let _ = write!(text, "le=\"{}\",", number(bound));
        }
        text.pop();
        text.push('}');
    }
    let _ = writeln!(text, " {}", number(value));
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        value.to_string()
    }
}

fn escape(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_label_value_stays_inside_its_quotes() {
        let labels = vec![("reason", "a\"} 9\nhunhe_forged 1\\".to_owned())];
        let metric = Metric {
            name: "hunhe_messages_refused_total",
            help: "Refused.",
            kind: MetricKind::Counter,
            figures: vec![Figure { labels, value: FigureValue::Number(3.0) }],
        };
        let text = render(&[metric.clone(), metric]);
        assert_eq!(
            text,
            "# HELP hunhe_messages_refused_total Refused.\n# TYPE hunhe_messages_refused_total counter\n\
             hunhe_messages_refused_total{reason=\"a\\\"} 9\\nhunhe_forged 1\\\\\"} 3\n"
        );
    }

    #[test]
    fn a_histogram_ends_in_the_bucket_that_holds_everything() {
        let value = FigureValue::Histogram { buckets: vec![(0.005, 2), (0.5, 3)], sum: 1.25, count: 4 };
        let metric = Metric {
            name: "hunhe_commit_seconds",
            help: "Commits.",
            kind: MetricKind::Histogram,
            figures: vec![Figure { labels: vec![], value }],
        };
        let text = render(&[metric]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "hunhe_commit_seconds_bucket{le=\"0.005\"} 2",
                "hunhe_commit_seconds_bucket{le=\"0.5\"} 3",
                "hunhe_commit_seconds_bucket{le=\"+Inf\"} 4",
                "hunhe_commit_seconds_sum 1.25",
                "hunhe_commit_seconds_count 4",
            ]
        );
    }
}
