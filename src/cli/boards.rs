//! `speedwell boards`: which boards are known, and what their pins are.

use std::process::ExitCode;

use clap::Args;

use super::{BoardDirs, Exit};

/// List the boards, or the pins of one
#[derive(Debug, Args)]
pub(crate) struct BoardsArgs {
    /// A board's name
    #[arg(value_name = "BOARD")]
    pub(crate) board: Option<String>,
    #[command(flatten)]
    pub(crate) boards: BoardDirs,
}

/// Lists.
pub(crate) fn run(args: BoardsArgs) -> ExitCode {
    for name in args.boards.catalog().names() {
        println!("{name}");
    }
    Exit::Fine.into()
}
