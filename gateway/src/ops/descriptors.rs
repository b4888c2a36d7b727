//! Open files, shared out once at the start: so many for clients of page and API, so many for the store's tables, and
//! the rest for journal, logs, broker, databases and outputs, which nobody else can take. A process that could not open
//! the journal's next segment because browsers hold its files would lose alarms.

use anyhow::Context;

/// For journal, logs, checkpoints, backups, broker, databases and outputs.
const RESERVED: usize = 256;
/// Fewer connections serve nobody.
const CONNECTIONS_MIN: usize = 16;
/// With fewer tables open the store opens one for nearly every read.
const TABLES_MIN: usize = 64;
/// More are of no use to it.
const TABLES_MAX: usize = 900;

/// Who may have how many files open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Connections to page and API.
    pub(crate) connections: usize,
    /// Tables that the store keeps open.
    pub(crate) tables: usize,
}

impl Shares {
    /// For this process, whose system may bound it; `connections_wanted` are configured.
    ///
    /// # Errors
    /// The bound is too low to run.
    pub(crate) fn of_process(connections_wanted: u32) -> anyhow::Result<Self> {
        let wanted = usize::try_from(connections_wanted)?;
        // Where the system says nothing, it is not Linux, and the reserve cannot be kept.
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let shares = Self::of(limit_in(&limits).unwrap_or(usize::MAX), wanted)?;
        if shares.connections < wanted {
            tracing::warn!(
                configured = wanted,
                connections = shares.connections,
                "fewer connections than http.connections_max: the process may open too few files; raise \
                 LimitNOFILE or `ulimit -n`"
            );
        }
        Ok(shares)
    }

    fn of(limit: usize, connections_wanted: usize) -> anyhow::Result<Self> {
        let needed = RESERVED + CONNECTIONS_MIN + TABLES_MIN;
        let free = limit.checked_sub(RESERVED).filter(|_| limit >= needed).with_context(|| {
            format!(
                "the process may open {limit} files, and the gateway needs {needed}: raise LimitNOFILE in its unit, or \
                 `ulimit -n`"
            )
        })?;
        let connections = connections_wanted.min(free / 3 * 2).min(free - TABLES_MIN);
        Ok(Self { connections, tables: (free - connections).min(TABLES_MAX) })
    }
}

/// The soft bound of open files; `None` where there is none.
fn limit_in(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_limit_the_reserve_is_kept_and_too_few_files_are_refused_with_the_remedy() {
        for limit in RESERVED + CONNECTIONS_MIN + TABLES_MIN..3_000 {
            for wanted in [CONNECTIONS_MIN, 512, 10_000] {
                let Shares { connections, tables } = Shares::of(limit, wanted).unwrap();
                assert!(connections + tables + RESERVED <= limit, "{limit}");
                assert!(connections >= CONNECTIONS_MIN && connections <= wanted, "{limit}");
                assert!((TABLES_MIN..=TABLES_MAX).contains(&tables), "{limit}");
            }
        }
        assert_eq!(Shares::of(1_024, 512).unwrap(), Shares { connections: 512, tables: 256 });
        assert_eq!(Shares::of(usize::MAX, 512).unwrap(), Shares { connections: 512, tables: 900 });
        for limit in [0, 64, RESERVED + CONNECTIONS_MIN + TABLES_MIN - 1] {
            let words = Shares::of(limit, 512).unwrap_err().to_string();
            assert!(words.contains("LimitNOFILE") && words.contains(&limit.to_string()), "{words}");
        }
    }

    #[test]
    fn the_limit_is_read_as_linux_writes_it() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             unlimited            unlimited            processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(limit_in(text), Some(1_024));
        assert_eq!(limit_in(&text.replace("1024  ", "unlimited  ")), None);
        assert_eq!(limit_in(""), None);
    }
}
