//! The command line: one file a subcommand, each with its arguments and a `run`.
//!
//! In      the arguments, `SPEEDWELL_CONFIG`.
//! Out     text for a technician on standard output, complaints on standard error, an [`Exit`] code for systemd.
//! Keeps   nothing.
//! Imports every room.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use speedwell::{board::Catalog, config::Config};

pub(crate) use exit::Exit;

mod boards;
mod can;
mod check;
mod decode;
mod exit;
mod export;
mod gpio;
mod lines;
mod probe;
mod record;
mod replay;
mod run;
mod spool;
mod storage;
mod summary;
mod watch;

/// Measures speed on vehicles and rigs, and gets every measurement to the backend exactly once.
#[derive(Debug, Parser)]
#[command(name = "speedwell", version, max_term_width = 100, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Boards(boards::BoardsArgs),
    Lines(lines::LinesArgs),
    Watch(watch::WatchArgs),
    Decode(decode::DecodeArgs),
    Record(record::RecordArgs),
    Replay(replay::ReplayArgs),
    Spool(spool::SpoolArgs),
}

/// Which configuration, and where boards are described: for every subcommand that reads a configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "SPEEDWELL_CONFIG", default_value = "/etc/speedwell/gateway.toml")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) boards: BoardDirs,
}

/// Where boards are described besides those built in.
#[derive(Debug, Args)]
pub(crate) struct BoardDirs {
    /// A directory with more board files; searched before /etc/speedwell/boards and /usr/share/speedwell/boards
    #[arg(long, value_name = "DIR")]
    pub(crate) boards: Vec<PathBuf>,
}

impl BoardDirs {
    /// The catalog of boards; a board file that cannot be read is told on standard error.
    pub(crate) fn catalog(&self) -> Catalog {
        let (catalog, problems) = Catalog::search(&self.boards);
        for problem in problems {
            eprintln!("warning: {problem}");
        }
        catalog
    }
}

impl ConfigArgs {
    /// Loads the configuration, or prints every complaint and gives the exit code.
    pub(crate) fn load(&self) -> Result<Config, Exit> {
        Config::load(&self.config, &self.boards.catalog()).map_err(|complaints| {
            eprint!("{complaints}");
            match complaints.unreadable {
                Some(std::io::ErrorKind::PermissionDenied) => Exit::Permission,
                _ => Exit::Config,
            }
        })
    }
}

/// Parses the arguments and runs the subcommand.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; everything else is wrong usage.
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Fine };
            let _ = error.print();
            return code.into();
        }
    };
    if !matches!(cli.command, Command::Run(_)) {
        end_with_the_reader();
    }
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Boards(args) => boards::run(args),
        Command::Lines(args) => lines::run(args),
        Command::Watch(args) => watch::run(args),
        Command::Decode(args) => decode::run(args),
        Command::Record(args) => record::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Spool(args) => spool::run(args),
    }
}

/// Lets a command whose output nobody reads any more end without a word, as `speedwell check | head` is meant. Programs in
/// Rust are told by a failed write instead, which `println` takes for a defect. The agent writes to nobody, and stays.
fn end_with_the_reader() {
    // SAFETY: it is called before any other thread is made, and sets what a process begins with.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
