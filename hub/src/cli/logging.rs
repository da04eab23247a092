//! What goes into the journal, and how.

use std::{
    fmt::Display,
    io::{self, IsTerminal},
};

use speedwell_hub::config::{Log, LogFormat};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{Exit, Failure};

/// Whether the filter can be used.
pub(crate) fn filter(log: &Log) -> Result<EnvFilter, Failure> {
    let level = &log.level;
    let wrong = |why: &dyn Display| {
        let wanted = "wanted error, warn, info, debug, trace, or speedwell_hub=debug";
        Failure::new(Exit::Config, format!("[log] level {level:?}: {why}; {wanted}"))
    };
    // A filter takes a single word that is no level for the name of a program's part, of which there would be no line.
    let words = level.split(',').map(str::trim).filter(|word| !word.contains(['=', '[', ':']));
    if let Some(word) = words.into_iter().find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(wrong(&format!("{word:?} is no level")));
    }
    EnvFilter::try_new(level).map_err(|error| wrong(&error))
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
