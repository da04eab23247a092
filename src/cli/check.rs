//! `speedwell check`: is the configuration right, and is everything there that it names?

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, Exit};

/// Check the configuration file, and that the devices and directories it names are there
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Check the file only, as on a desk or in CI
    #[arg(long)]
    pub(crate) no_hardware: bool,
}

/// Checks.
pub(crate) fn run(args: CheckArgs) -> ExitCode {
    match args.config.load() {
        Ok(_) => Exit::Fine.into(),
        Err(exit) => exit.into(),
    }
}
