//! The command line: one file a subcommand, each with its arguments and a `run`.
//!
//! In      the arguments, `SPEEDWELL_HUB_CONFIG`.
//! Out     text for an operator on standard output, complaints on standard error, an [`Exit`] code for systemd.
//! Keeps   nothing.
//! Imports every room.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use speedwell_hub::{Config, HubError, config::ConfigError, store::StoreError};

mod access;
mod backup;
mod check;
mod logging;
mod migrate;
mod restore;
mod run;
mod simulate;

/// Central backend of Speedwell: takes batches, stores each record once, confirms it, serves live and past speeds.
#[derive(Debug, Parser)]
#[command(name = "speedwell-hub", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Migrate(migrate::MigrateArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Simulate(simulate::SimulateArgs),
    #[command(flatten)]
    Access(access::Access),
}

/// What `--help` says of exit codes.
const EXIT_CODES: &str = "Exit codes, after sysexits.h: 0 done, 64 wrong arguments, 65 a file that cannot be used, 69 something \
                          needed is not there, 73 a file may not be made, 75 try again later, 78 the configuration is wrong";

/// Exit codes, after sysexits.h; 64 and 78 keep systemd from starting it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Usage = 64,
    Data = 65,
    Unavailable = 69,
    CannotCreate = 73,
    TryAgain = 75,
    Config = 78,
}

/// What a person is told, and what systemd is.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) told: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, told: impl Into<String>) -> Self {
        Self { exit, told: told.into() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error.to_string())
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        let exit = match &error {
            HubError::Config(_) | HubError::Tls(_) | HubError::Broker(_) => Exit::Config,
            HubError::Store { source: StoreError::Newer { .. } | StoreError::Foreign, .. } => Exit::Data,
            _ => Exit::Unavailable,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::Newer { .. } | StoreError::Foreign | StoreError::Content(_) => Exit::Data,
            StoreError::InUse { .. } | StoreError::Locked => Exit::TryAgain,
            _ => Exit::Unavailable,
        };
        Self::new(exit, error.to_string())
    }
}

/// Which configuration: for every subcommand that reads one.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", env = "SPEEDWELL_HUB_CONFIG", default_value = "/etc/speedwell-hub/hub.toml")]
    pub(crate) config: PathBuf,
}

impl ConfigArgs {
    /// Reads it.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.config)?)
    }
}

pub(crate) fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(Cli { command }) => match command {
            Command::Run(args) => run::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Migrate(args) => migrate::run(&args),
            Command::Backup(args) => backup::run(&args),
            Command::Restore(args) => restore::run(&args),
            Command::Simulate(args) => simulate::run(&args),
            Command::Access(command) => access::run(command),
        },
        Err(error) => {
            // What was asked for, help or version, is no error. A terminal that is gone is nobody's concern.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit, told }) => {
            eprintln!("{told}");
            ExitCode::from(exit as u8)
        }
    }
}
