//! `speedwell run`: the agent.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use clap::Args;
use speedwell::{
    agent::{self, AgentError},
    config::Level,
    spool::OpenError,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use super::{ConfigArgs, Exit};

/// How long a stop may take before the process ends all the same: a disk that hangs must not hold up a shutdown. The
/// service manager's own patience (TimeoutStopSec=20s) is longer, so that this is told before it kills.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Run the agent until it is told to stop (SIGTERM or Ctrl-C)
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Runs the agent.
pub(crate) fn run(args: RunArgs) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(exit) => return exit.into(),
    };
    start_log(config.log.level);
    // One thread for all that is awaited: sensors that block and the disk have threads of their own, and a gateway of
    // this class has little memory to spare for more.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("speedwell run: the system gives no event loop: {cause}");
            return Exit::Io.into();
        }
    };
    let ended = runtime.block_on(async { agent::run(config, told_to_stop()).await });
    // A name that is being looked up without a network holds its thread for half a minute: nobody waits for that.
    runtime.shutdown_background();
    match ended {
        Ok(()) => Exit::Fine.into(),
        Err(cause) => {
            eprintln!("speedwell run: {cause}");
            exit_of(&cause).into()
        }
    }
}

/// Which exit code tells systemd, or a script, what is wrong.
fn exit_of(cause: &AgentError) -> Exit {
    match cause {
        AgentError::Spool(OpenError::Permission { .. }) => Exit::Permission,
        AgentError::Spool(OpenError::Io { .. }) | AgentError::Thread { .. } => Exit::Io,
        AgentError::Spool(OpenError::NotSyncing) | AgentError::Ended { .. } => Exit::Software,
        AgentError::Spool(OpenError::TooSmall { .. }) => Exit::Config,
        AgentError::Spool(_) | AgentError::Clock(_) => Exit::Spool,
    }
}

/// Listens for the signals from now on, so that one that comes while the spool opens is obeyed after that.
fn told_to_stop() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            // Without handlers the signals end the process at once, which loses at most what was not yet committed.
            return std::future::pending().await;
        };
        // Cancel-safe: both only wait.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        end_at_last();
    }
}

/// Ends the process should the stop that begins now not come to its end.
fn end_at_last() {
    let guard = || {
        std::thread::sleep(STOP_WITHIN);
        eprintln!(
            "speedwell run: no stop within {} s, a disk that hangs? What was not flushed is lost",
            STOP_WITHIN.as_secs()
        );
        std::process::exit(Exit::Io as i32);
    };
    // Without a thread for it the service manager's patience is the bound.
    let _ = std::thread::Builder::new().name("stop-guard".into()).spawn(guard);
}

/// To the journal where it listens, in its own form with fields; to standard error otherwise. RUST_LOG overrides the
/// configured level, for one run.
fn start_log(level: Level) {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let terminal = journal.is_none().then(|| {
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        layer.with_ansi(std::io::stderr().is_terminal()).with_target(false)
    });
    tracing_subscriber::registry().with(filter).with(journal).with(terminal).init();
}
