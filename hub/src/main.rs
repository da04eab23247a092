//! The command line of the hub.

mod cli;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use speedwell_hub::{Config, HubError, run, server};
use tracing_subscriber::EnvFilter;

/// Central backend of Speedwell: takes batches, stores each record once, confirms it, serves live and past speeds.
#[derive(Parser)]
#[command(name = "speedwell-hub", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take batches and serve the page until told to stop (SIGTERM or Ctrl-C).
    Run {
        /// The configuration.
        #[arg(long, default_value = "/etc/speedwell-hub/hub.toml")]
        config: PathBuf,
    },
    /// Tell whether a configuration can be used, and stop.
    Check {
        /// The configuration.
        #[arg(long, default_value = "/etc/speedwell-hub/hub.toml")]
        config: PathBuf,
    },
    #[command(flatten)]
    Access(cli::access::Access),
}

/// Exit codes, after sysexits.h.
const EX_UNAVAILABLE: u8 = 69;
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let (path, start) = match Cli::parse().command {
        Command::Run { config } => (config, true),
        Command::Check { config } => (config, false),
        Command::Access(command) => {
            return cli::access::run(command).map_or_else(
                |error| {
                    eprintln!("{error}");
                    ExitCode::FAILURE
                },
                |()| ExitCode::SUCCESS,
            );
        }
    };
    let config = match Config::load(&path).and_then(|c| c.broker.password().and(c.store.password()).map(|_| c)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    if !start {
        if let Err(error) = server::check(&config) {
            eprintln!("{error}");
            return ExitCode::from(EX_CONFIG);
        }
        println!("{}: fine; broker {}, page on http://{}", path.display(), config.broker.url, config.http.listen);
        return ExitCode::SUCCESS;
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if matches!(error, HubError::Config(_) | HubError::Tls(_)) {
                EX_CONFIG
            } else {
                EX_UNAVAILABLE
            })
        }
    }
}

fn serve(config: Config) -> Result<(), HubError> {
    let filter = EnvFilter::try_new(&config.log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| HubError::Task(format!("no runtime: {e}")))?;
    runtime.block_on(run(config, asked_to_stop()))
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return tokio::signal::ctrl_c().await.unwrap_or_default();
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
