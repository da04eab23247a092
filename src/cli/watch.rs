//! `speedwell watch`: live values in the terminal.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use speedwell::{
    agent::{View, socket_path, watch_directly},
    config::Config,
};
use speedwell_wire::{Live, Manifest};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::UnixStream,
    sync::mpsc,
};

use super::{ConfigArgs, Exit};

/// Longest line of the local socket: 500 sensors of 3 channels at 100 bytes.
const MAX_LINE: usize = 256 * 1024;

/// Without a terminal a line a channel is printed this often.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// Show live values in the terminal: those of the running agent, or, when none runs, of the sensors themselves
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Names of the sensors; all when left out
    #[arg(value_name = "SENSOR")]
    pub(crate) sensors: Vec<String>,
    /// Stop after so many seconds instead of on Ctrl-C
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Shows live values.
pub(crate) fn run(args: WatchArgs) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(exit) => return exit.into(),
    };
    if let Some(unknown) = args.sensors.iter().find(|name| config.sensor(name).is_none()) {
        let known: Vec<_> = config.sensors.iter().map(|sensor| sensor.name.as_str()).collect();
        eprintln!("speedwell watch: no sensor named {unknown}; there are: {}", known.join(", "));
        return Exit::Usage.into();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let seconds = args.seconds;
    let outcome = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let end = async {
                match seconds.map(Duration::try_from_secs_f64) {
                    Some(Ok(wait)) => tokio::time::sleep(wait).await,
                    _ => std::future::pending().await,
                }
            };
            // Cancel-safe: what is cut off is only looked at.
            tokio::select! {
                outcome = watch(config, &args.sensors) => outcome,
                _ = tokio::signal::ctrl_c() => Ok(()),
                () = end => Ok(()),
            }
        })
    });
    match outcome {
        Ok(()) => Exit::Fine.into(),
        // The reader of a pipe has seen enough.
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Exit::Fine.into(),
        Err(cause) => {
            eprintln!("speedwell watch: {cause}");
            let denied = cause.kind() == io::ErrorKind::PermissionDenied;
            if denied { Exit::Permission.into() } else { Exit::Io.into() }
        }
    }
}

/// What is heard of the values, wherever they come from.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Heard {
    /// The newest values.
    Values(Live),
    /// The channels from now on: the agent has another configuration.
    Channels(Manifest),
}

impl From<Live> for Heard {
    fn from(live: Live) -> Self {
        Heard::Values(live)
    }
}

async fn watch(config: Config, sensors: &[String]) -> io::Result<()> {
    match UnixStream::connect(socket_path(&config.gateway.state_directory)).await {
        Ok(agent) => {
            let title = format!("{}  live from the running agent; Ctrl-C ends", config.gateway.id);
            let mut lines = BufReader::new(agent);
            let manifest: Manifest = next(&mut lines).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let (values_in, values) = mpsc::channel::<Heard>(4);
            let screen = show(&title, manifest, sensors, values);
            let feed = async {
                while let Some(heard) = next(&mut lines).await? {
                    if values_in.send(heard).await.is_err() {
                        break;
                    }
                }
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the agent has stopped"))
            };
            // Cancel-safe: either end ends the watch.
            tokio::select! { outcome = screen => outcome, outcome = feed => outcome }
        }
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
            let path = socket_path(&config.gateway.state_directory);
            let advice = "an agent runs as another user: be that user, or of its group";
            Err(io::Error::new(cause.kind(), format!("{}: permission denied; {advice}", path.display())))
        }
        Err(_no_agent) => {
            let title = format!("{}  no agent runs: the sensors themselves; Ctrl-C ends", config.gateway.id);
            let mut config = config;
            config.sensors.retain(|sensor| sensors.is_empty() || sensors.contains(&sensor.name));
            let (values_in, values) = mpsc::channel::<Live>(4);
            let (manifest, feed) = watch_directly(&config, values_in);
            let screen = show(&title, manifest, sensors, values);
            tokio::select! { outcome = screen => outcome, outcome = feed => outcome.map_err(io::Error::other) }
        }
    }
}

/// The next line of the local socket.
async fn next<T: serde::de::DeserializeOwned>(lines: &mut BufReader<impl AsyncRead + Unpin>) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let mut bounded = tokio::io::AsyncReadExt::take(lines, MAX_LINE as u64);
    if bounded.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
}

/// Draws until there is nothing more to hear. On a terminal in place; into a pipe or file, lines.
async fn show(
    title: &str,
    channels: Manifest,
    sensors: &[String],
    mut values: mpsc::Receiver<impl Into<Heard>>,
) -> io::Result<()> {
    let mut view = View::new(title, &channels, sensors);
    let terminal = io::stdout().is_terminal();
    let color = terminal && std::env::var_os("NO_COLOR").is_none();
    if !terminal {
        eprintln!("{}", view.title());
    }
    let mut printed: Option<Instant> = None;
    let mut drawn = 0;
    while let Some(heard) = values.recv().await {
        match heard.into() {
            Heard::Values(live) => view.take(&live),
            Heard::Channels(channels) => {
                view = View::new(title, &channels, sensors);
                continue;
            }
        }
        let mut out = io::stdout().lock();
        if terminal {
            if drawn > 0 {
                write!(out, "\x1b[{drawn}A")?;
            }
            let lines = view.lines(color);
            drawn = lines.len();
            lines.iter().try_for_each(|line| writeln!(out, "\x1b[2K{line}"))?;
        } else if printed.is_none_or(|printed| printed.elapsed() >= PLAIN_EVERY) {
            printed = Some(Instant::now());
            view.lines(false).iter().skip(1).try_for_each(|line| writeln!(out, "{}", line.trim_end()))?;
        }
        out.flush()?;
    }
    Ok(())
}
