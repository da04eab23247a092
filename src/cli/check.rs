//! `speedwell check`: is the configuration right, and is everything there that it names?
//!
//! Nothing is opened for good, nothing is created, nothing is sent: it may run beside the agent.

use std::{os::unix::net::UnixStream, process::ExitCode};

use clap::Args;
use speedwell::{agent::socket_path, board::BoardKind, config::Config};

use super::{
    ConfigArgs, gpio,
    probe::{self, Finding, Mark},
    storage, summary,
};

/// Check the configuration file, and that the devices and directories it names are there
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Check the file only, as on a desk or in CI
    #[arg(long)]
    pub(crate) no_hardware: bool,
    /// Connect to the broker, too: name, TLS, login
    #[arg(long)]
    pub(crate) online: bool,
}

/// Checks.
pub(crate) fn run(args: CheckArgs) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(exit) => return exit.into(),
    };
    print!("{}", summary::summary(&config));
    for warning in &config.warnings {
        print!("\nwarning: {}", warning.render(&config.file));
    }
    let findings = findings(&config, &args);
    if !findings.is_empty() {
        println!();
    }
    for finding in &findings {
        print!("{finding}");
    }
    println!("\n{}", verdict(&findings, args.no_hardware));
    if UnixStream::connect(socket_path(&config.gateway.state_directory)).is_ok() {
        println!("An agent runs: `systemctl reload speedwell` (SIGHUP) has it take this file.");
    }
    probe::exit(&findings).into()
}

fn findings(config: &Config, args: &CheckArgs) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !args.no_hardware {
        if config.gateway.board.kind == BoardKind::Hardware {
            findings.extend(gpio::check(config));
            findings.extend(probe::buses(config));
        }
        findings.extend(storage::directories(config));
        findings.extend(storage::files(&config.broker));
    }
    if args.online {
        findings.push(probe::online(config));
    }
    findings
}

fn verdict(findings: &[Finding], no_hardware: bool) -> String {
    let bad = findings.iter().filter(|f| matches!(f.mark, Mark::Bad(_))).count();
    match (bad, no_hardware) {
        (0, true) => "The file is right. What it names was not looked at.".into(),
        (0, false) => "All is well.".into(),
        (1, _) => "1 thing is not as it has to be.".into(),
        (n, _) => format!("{n} things are not as they have to be."),
    }
}
