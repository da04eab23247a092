//! `speedwell run`: the agent.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, Exit};

/// Run the agent until it is told to stop
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Runs the agent.
pub(crate) fn run(args: RunArgs) -> ExitCode {
    match args.config.load() {
        Ok(_) => {
            eprintln!("speedwell run: the agent is not in this build yet");
            Exit::Software.into()
        }
        Err(exit) => exit.into(),
    }
}
