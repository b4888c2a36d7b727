//! VictoriaMetrics answers 204 to lines that it then skips. Its own counters tell; other writers move them, too, so a
//! move is a warning and a number, never a dead letter.

/// The counters, added up, since this sink began to look.
#[derive(Debug, Default)]
pub(super) struct SkippedRows {
    seen: Option<u64>,
}

impl SkippedRows {
    /// Takes the text of `/metrics`; returns how many rows were skipped since the last one.
    pub(super) fn since_last(&mut self, metrics: &str) -> u64 {
        let now = count(metrics);
        let before = self.seen.replace(now).unwrap_or(now);
        // Smaller: the database was restarted and counts from zero.
        if now < before { now } else { now - before }
    }
}

fn count(metrics: &str) -> u64 {
    let lines = metrics.lines().filter(|line| {
        line.starts_with("vm_rows_ignored_total") || line.starts_with("vm_rows_invalid_total")
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_skipped_are_counted_over_reasons_and_restarts() {
        let page = |invalid: u64, ignored: u64| {
            format!(
                "vm_rows_added_to_storage_total 7\nvm_rows_invalid_total{{type=\"influx\"}} {invalid}\n\
                 vm_rows_ignored_total{{reason=\"big_timestamp\"}} 1\nvm_rows_ignored_total{{reason=\"small_timestamp\"}} {ignored}\n"
            )
        };
        let mut rows = SkippedRows::default();
        assert_eq!(rows.since_last(&page(5, 5)), 0, "what was before is not ours");
        assert_eq!(rows.since_last(&page(5, 5)), 0);
        assert_eq!(rows.since_last(&page(6, 7)), 3);
        assert_eq!(rows.since_last(&page(0, 1)), 2, "restarted");
    }
}
