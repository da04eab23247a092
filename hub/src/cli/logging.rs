//! What goes into the journal, and how.

use std::io::{self, IsTerminal};

use speedwell_hub::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

use super::{Exit, Failure};

/// Whether the filter can be used.
pub(crate) fn filter(log: &Log) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(&log.level).map_err(|error| {
        let level = &log.level;
        Failure::new(
            Exit::Config,
            format!("[log] level {level:?}: {error}; wanted error, warn, info, debug, trace, or speedwell_hub=debug"),
        )
    })
}

/// Begins to log on standard error.
pub(crate) fn start(log: &Log) -> Result<(), Failure> {
    let lines = tracing_subscriber::fmt().with_env_filter(filter(log)?).with_writer(io::stderr);
    // In a journal or a file colours are only noise, and journalctl hides lines that have them.
    let lines = lines.with_ansi(io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => lines.init(),
        // One object a line: "timestamp", "level", "target", "message", and the fields beside them.
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    Ok(())
}
