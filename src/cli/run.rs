//! `speedwell run`: the agent.

use std::{io::IsTerminal, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use speedwell::{
    agent::{self, AgentError, Reloads},
    config::{Complaints, Config, Level},
    spool::OpenError,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, reload, util::SubscriberInitExt};

use super::{ConfigArgs, Exit};

/// How long a stop may take before the process ends all the same: a disk that hangs must not hold up a shutdown. The
/// service manager's own patience (TimeoutStopSec=20s) is longer, so that this is told before it kills.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Run the agent until it is told to stop (SIGTERM or Ctrl-C); SIGHUP reads the configuration again
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
    let set_level = start_log(config.log.level);
    // One thread for all that is awaited: sensors that block and the disk have threads of their own, and a gateway of
    // this class has little memory to spare for more.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("speedwell run: the system gives no event loop: {cause}");
            return Exit::Io.into();
        }
    };
    let ended = runtime.block_on(async {
        let (read_in, configs) = mpsc::channel(1);
        let taken = Box::new(move |config: &Config| set_level(config.log.level));
        // On a terminal a hang-up means that the terminal is gone, and nobody is left to look after what runs in it.
        let on_terminal = std::io::stdin().is_terminal();
        let stop = told_to_stop(on_terminal);
        if let (false, Ok(hang_up)) = (on_terminal, signal(SignalKind::hangup())) {
            tokio::spawn(read_again(hang_up, args.config, read_in));
        }
        agent::run(config, Reloads { configs, taken }, stop).await
    });
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
fn told_to_stop(at_hang_up: bool) -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let hang_up = at_hang_up.then(|| signal(SignalKind::hangup()));
    async {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            // Without handlers the signals end the process at once, which loses at most what was not yet committed.
            return std::future::pending().await;
        };
        let hung_up = async {
            match hang_up {
                Some(Ok(mut hang_up)) => drop(hang_up.recv().await),
                _ => std::future::pending().await,
            }
        };
        // Cancel-safe: all only wait.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = hung_up => {}
        }
        end_at_last();
    }
}

/// Reads the configuration again at each SIGHUP. Several that come while one is being taken are one.
async fn read_again(mut hang_up: Signal, file: ConfigArgs, read: mpsc::Sender<Result<Config, Complaints>>) {
    let file = Arc::new(file);
    while hang_up.recv().await.is_some() {
        let file = file.clone();
        // In a thread of its own: a disk that is slow holds up no measurement.
        let reading = tokio::task::spawn_blocking(move || Config::load(&file.config, &file.boards.catalog()));
        let Ok(config) = reading.await else { continue };
        if read.send(config).await.is_err() {
            return;
        }
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
/// configured level, for one run: a level, or `module=level` for some modules beside it. Gives what sets another level.
fn start_log(level: Level) -> impl Fn(Level) + Send {
    let (filter, handle) = reload::Layer::new(filter(level));
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let terminal = journal.is_none().then(|| {
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        layer.with_ansi(std::io::stderr().is_terminal()).with_target(false)
    });
    tracing_subscriber::registry().with(filter).with(journal).with(terminal).init();
    // It fails only when there is no log any more.
    move |level| drop(handle.reload(self::filter(level)))
}

fn filter(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let told = std::env::var("RUST_LOG").ok().filter(|told| !told.is_empty());
    let told = told.map_or(Ok(Targets::new()), |told| told.parse()).unwrap_or_else(|cause| {
        eprintln!("RUST_LOG is not used: {cause}; it is a level, or `module=level` joined by commas");
        Targets::new()
    });
    let others = told.default_level().unwrap_or(level);
    told.with_default(others)
}
