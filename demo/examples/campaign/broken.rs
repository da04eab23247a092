//! Breaks the promise on purpose, from outside the programs, to show that the oracle sees it.

use std::path::Path;

use clap::ValueEnum;

use crate::world::{Failed, Tools};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Broken {
    /// A stranger confirms what the hub has not committed.
    Confirmation,
    /// The hub's ledger forgets a log.
    Ledger,
    /// Syncing does nothing, and the power is cut.
    Flush,
}

/// Whether the oracle sees it.
pub(crate) fn run(_broken: Broken, _folder: &Path, _tools: &Tools) -> Result<bool, Failed> {
    Ok(false)
}
