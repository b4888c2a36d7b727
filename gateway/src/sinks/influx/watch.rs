//! What VictoriaMetrics says of itself in `/metrics`: which process it is, and what it answered 204 to and then skipped.
//! Other writers move these counters, too.

/// One look at the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// When the process started, in milliseconds since 1970; VictoriaMetrics says whole seconds.
    pub(super) started_ms: u64,
    /// Rows that it took in since, where it counts them; falls only by a restart.
    pub(super) rows_inserted: Option<u64>,
    /// Rows that it skipped since, whatever the reason.
    pub(super) rows_skipped: u64,
}

const SKIPPED: [&str; 4] = [
    "vm_rows_ignored_total",
    "vm_rows_invalid_total",
    "vm_hourly_series_limit_rows_dropped_total",
    "vm_daily_series_limit_rows_dropped_total",
];

impl Page {
    /// Reads the page; `None` where it does not say when its process started.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (mut started_ms, mut rows_inserted, mut rows_skipped) = (None, None, 0_u64);
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let name = series.split('{').next().unwrap_or(series);
            let count = || value.parse::<u64>().unwrap_or(0);
            if name == "process_start_time_seconds" {
                // Others write it as 1.7e+09, with a fraction.
                started_ms = value.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0).map(milliseconds);
            } else if name == "vm_rows_inserted_total" {
                rows_inserted = Some(rows_inserted.unwrap_or(0_u64).saturating_add(count()));
            } else if SKIPPED.contains(&name) {
                rows_skipped = rows_skipped.saturating_add(count());
            }
        }
        Some(Self { started_ms: started_ms?, rows_inserted, rows_skipped })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time since 1970, not negative"
)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_over_all_reasons_and_types() {
        let text = "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1795528945\n\
                    vm_rows_inserted_total{type=\"influx\"} 3\nvm_rows_inserted_total{type=\"graphite\"} 4\n\
                    vm_rows_added_to_storage_total 7\nvm_rows_invalid_total{type=\"influx\"} 5\n\
                    vm_rows_ignored_total{reason=\"big_timestamp\"} 1\nvm_hourly_series_limit_rows_dropped_total 2\n";
        let page = Page { started_ms: 1_795_528_945_000, rows_inserted: Some(7), rows_skipped: 8 };
        assert_eq!(Page::read(text), Some(page));
        let other = Page::read("process_start_time_seconds 1.79552894521e+09\n").unwrap();
        assert_eq!(other, Page { started_ms: 1_795_528_945_210, rows_inserted: None, rows_skipped: 0 });
        assert_eq!(Page::read("vm_rows_invalid_total 3\n"), None, "not told from another process");
    }
}
