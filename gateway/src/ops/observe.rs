//! The gateway's log: structured events on standard error, so that standard output stays for reports.
//!
//! An event is something an operator would want to know; nothing is said per reading. The filter is the
//! configuration's, checked there.

use tracing_subscriber::EnvFilter;

use crate::setup::config::{Log, LogFormat};

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The filter does not parse.
    #[error("log.level is not a filter of log events: write a level such as \"info\"")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something set up a log before.
    #[error("the log is set up already")]
    Taken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts the log of this process, once.
///
/// # Errors
/// [`ObserveError`].
pub fn start(log: &Log) -> Result<(), ObserveError> {
    // The store's database tells of its own housekeeping; a directive of the operator's comes later and wins.
    let filter = EnvFilter::builder().parse(format!("fjall=warn,lsm_tree=warn,{}", log.level))?;
    let log_to = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => log_to.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => log_to.json().flatten_event(true).try_init(),
    }
    .map_err(ObserveError::Taken)
}
