//! `speedwell lines`: which GPIO lines this machine has, and who uses them.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, Exit};

/// List the GPIO lines of this machine, who uses them, and which the configuration means
#[derive(Debug, Args)]
pub(crate) struct LinesArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Lists.
pub(crate) fn run(args: LinesArgs) -> ExitCode {
    match args.config.load() {
        Ok(_) => Exit::Fine.into(),
        Err(exit) => exit.into(),
    }
}
