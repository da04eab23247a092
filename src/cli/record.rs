//! `speedwell record`: what comes from pins, buses and ports into files that `speedwell replay` plays.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use speedwell::{
    agent::record::{Ended, Options, Progress, RecordError, Summary, record},
    board::Doors,
    config::{parse_bytes, parse_time},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArgs, Exit, summary::bytes};

/// Record what comes from the sensors of a configuration into files that `replay` plays
///
/// Pins and serial ports have one user at a time: stop the agent first, or record other sensors with --sensor. CAN
/// interfaces can be recorded while the agent runs. Ends after --for, at a limit, or with Ctrl-C; the files are complete
/// up to the last second in any case.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The folder to write to; `recording-` and the time when left out
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// For how long, as `10 min`; until Ctrl-C when left out
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub(crate) span: Option<Duration>,
    /// A sensor whose input to record; repeatable, all when left out
    #[arg(long = "sensor", value_name = "NAME")]
    pub(crate) sensors: Vec<String>,
    /// All files together, at most
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "1 GiB")]
    pub(crate) max_size: u64,
    /// Of the disk, left to others
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "256 MiB")]
    pub(crate) keep_free: u64,
}

/// Records.
pub(crate) fn run(args: RecordArgs) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(exit) => return exit.into(),
    };
    let out = args.out.unwrap_or_else(|| {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        PathBuf::from(format!("recording-{seconds}"))
    });
    let (max_size, keep_free, sensors) = (args.max_size, args.keep_free, args.sensors);
    let options = Options { out: out.clone(), span: args.span, max_size, keep_free, sensors };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the system gives no event loop: {error}");
            return Exit::Io.into();
        }
    };
    let doors = Doors::of(&config.gateway.board);
    let outcome = runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        if let Err(error) = stop_on_signals(&stop) {
            eprintln!("warning: Ctrl-C ends this without a summary: {error}");
        }
        eprintln!("recording to {}", out.display());
        record(&config, &doors, &options, stop, show).await
    });
    runtime.shutdown_background();
    match outcome {
        Ok(summary) => tell(&summary).into(),
        Err(error) => {
            eprintln!("{error}");
            exit_of(&error).into()
        }
    }
}

/// Sets `stop` at the first of the signals that ask a program to end. Within a tokio runtime.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut asked, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            asked.recv().await;
            stop.store(true, Ordering::Relaxed);
        });
    }
    Ok(())
}

/// One line that stays in its place, for a person who waits.
fn show(progress: &[Progress]) {
    let mut out = std::io::stderr();
    if !out.is_terminal() {
        return;
    }
    let total: u64 = progress.iter().map(|file| file.bytes).sum();
    let each: Vec<String> = progress.iter().map(|file| format!("{} {}", file.file, file.items)).collect();
    // Nobody is hurt where a terminal has gone away.
    let _ = write!(out, "\r\x1B[K{}, {}", each.join(", "), bytes(total));
}

fn tell(summary: &Summary) -> Exit {
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    let mut exit = Exit::Fine;
    for Progress { file, items, bytes: size, dropped, failed } in &summary.files {
        let lost = if *dropped > 0 { format!(", {dropped} lost by the kernel") } else { String::new() };
        eprintln!("{file}: {items} recorded, {}{lost}", bytes(*size));
        if let Some(cause) = failed {
            eprintln!("{file}: {cause}");
            exit = Exit::Unavailable;
        }
    }
    match summary.ended {
        Ended::Asked | Ended::Failed => {}
        Ended::Size => eprintln!("ended: the files are as large as --max-size allows"),
        Ended::Disk => eprintln!("ended: no more of the disk may be taken than --keep-free leaves"),
    }
    exit
}

fn exit_of(error: &RecordError) -> Exit {
    match error {
        RecordError::NoSensor { .. } => Exit::Usage,
        RecordError::Create { .. } | RecordError::Full { .. } => Exit::Spool,
    }
}
