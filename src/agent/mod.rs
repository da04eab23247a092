//! Hangs the rooms together and runs them until told to stop.
//!
//! In      a [`Config`] and a word to stop.
//! Out     the way of a measurement, from the pin to the broker.
//! Keeps   nothing but the handles of what it started.
//! Imports every room below.
//!
//! ```text
//! sensor threads, tasks ──Said──> recording ──Record──> spool thread ──> uplink task ──> broker
//!                                     │ live, troubles        └ stats ┐       ^ live
//!                                     └──────> local socket, health ──┴───────┘ status
//! ```
//! Stopping goes the same way: sensors close, the recorder keeps what is left, the spool flushes, the uplink says
//! goodbye. What was not confirmed by then waits on the disk.

mod backoff;
mod can;
mod direct;
mod drivers;
mod local;
mod memories;
pub mod record;
mod recording;
pub mod replay;
mod sensors;
mod sources;
mod timekeeping;
mod view;
mod vitals;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use speedwell_wire::{Event, EventKind, Record};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

pub use direct::watch_directly;
pub use local::socket_path;
pub use sensors::Sensors;
pub use view::View;

use crate::{
    clock::{self, BootId, Clock, ClockError, Memory, SystemClock},
    config::Config,
    health::{Systemd, Vitals},
    recorder::Recorder,
    spool::{self, OpenError, Spool},
    uplink,
};
use memories::MemoryFile;
use recording::{Kept, Pace, Recording};
use sources::Outlet;

/// Records of others that wait for the recorder: a clock fix an hour, now and then an event.
const OTHERS: usize = 64;

/// How long the uplink may go on after the last record was kept, to bring it home.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why the agent does not start. Nothing that was spooled is touched.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] OpenError),
    /// The boot cannot be told from others.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The operating system refused a thread.
    #[error("cannot start a thread for sensor {sensor}: {cause}")]
    Thread {
        /// Which.
        sensor: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A loop of the agent ended by itself, which is a defect. What was recorded until then is kept.
    #[error(
        "the {part} ended by itself, which is a defect of speedwell: please report it with the log before this line"
    )]
    Ended {
        /// Which.
        part: &'static str,
    },
}

/// Runs the agent until `shutdown` comes true, then stops it gracefully.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let started = Instant::now();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sensors = Sensors::new(&config);
    let (sources, fusion) = (sensors.sources(), sensors.fusion());
    let (said_in, said) = mpsc::channel(sources::CHANNEL);
    let (stop, shed, lost) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::new(AtomicU64::new(0)));
    // One a source: the fused speed has words too, and counts nothing.
    let counters: Vec<_> = sources.iter().map(|_| Arc::new(Mutex::default())).collect();
    let outlets = config.sensors.iter().enumerate().map(|(index, sensor)| Outlet {
        sensor: index,
        name: sensor.name.as_str().into(),
        clock: clock.clone(),
        said: said_in.clone(),
        stop: stop.clone(),
        shed: Arc::clone(&shed),
        counters: counters[index].clone(),
        counts_from: sensors.counts_from(index),
        memory: Some(MemoryFile::of(&config.gateway.state_directory, &sensor.name)),
    });
    // The sensors first: they measure while the disk is being opened, and what they say waits in the channel.
    let halt = |_: &AgentError| stop.store(true, Ordering::Relaxed);
    let outlets = outlets.collect();
    let running = sensors.start(outlets).inspect_err(halt)?;
    drop(said_in);

    let mut options = config.spool_options();
    let pace = Pace::of(options.commit_every);
    options.commit_every = pace.commit;
    let state_directory = config.gateway.state_directory.clone();
    let opening = tokio::task::spawn_blocking(move || open(options, &state_directory)).await;
    let (spool, opened, boot) = opening
        .unwrap_or_else(|panic| {
            // The spool catches the panics of its store; one of its own is a defect and must not pass for a start.
            std::panic::resume_unwind(panic.into_panic())
        })
        .inspect_err(halt)?;
    info!(log = %opened.log, last = opened.last_seq, confirmed = opened.confirmed_seq, "spool open");

    let mut recorder = Recorder::new(&sources, boot.number, clock.now());
    greet(&mut recorder, &*clock, boot, &opened);
    if let Err(cause) = spool.keep_manifest(recorder.manifest()).await {
        warn!(%cause, "the channel list could not be kept beside the log");
    }

    let mut vitals = Vitals::default();
    let begun = Instant::now();
    let beat = vitals.watch("recorder", Duration::from_secs(30), begun);
    let (live_in, live) = watch::channel(None);
    let (troubles_in, troubles) = watch::channel(vec![None; sources.len()]);
    let (others_in, others) = mpsc::channel(OTHERS);
    let manifest = recorder.manifest().clone();

    let (sensors_closed, closed) = oneshot::channel();

    let recording = Recording {
        recorder,
        fusion: fusion.map(|fusion| (config.sensors.len(), fusion)),
        fused: counters.get(config.sensors.len()).cloned(),
        spool: spool.clone(),
        clock: clock.clone(),
        said,
        others,
        shed,
        live: live_in,
        troubles: troubles_in,
        lost: lost.clone(),
        beat,
        closed,
        failing: None,
        pace,
        shown: false,
        memories: config
            .sensors
            .iter()
            .map(|sensor| Kept::in_file(MemoryFile::of(&config.gateway.state_directory, &sensor.name)))
            .collect(),
    };
    let mut recording = tokio::spawn(recording.run());

    let known = timekeeping::Known::default();
    let timekeeper = tokio::spawn(timekeeping::run(boot.number, known.clone(), others_in.clone()));
    let door = tokio::spawn(local::serve(config.gateway.state_directory.clone(), manifest, live.clone()));

    let observer = uplink::Observer::default();
    let (health_in, health) = watch::channel(None);
    let reporter = vitals::Reporter {
        started,
        boot: boot.number,
        spool: spool.clone(),
        observer: observer.clone(),
        known: known.clone(),
        lost,
        names: sources.iter().map(|source| source.name.clone()).collect(),
        counters,
        troubles,
        health: health_in,
        systemd: Systemd::from_env(),
        vitals,
    };
    let reporter = tokio::spawn(reporter.run());

    let (hang_up, hung_up) = oneshot::channel::<()>();
    let parts = uplink::Parts {
        clock: clock.clone(),
        boot: boot.number,
        live,
        health,
        events: events_into(others_in.clone()),
        utc: Arc::new(move |of, t_ns| (of == boot.number).then(|| known.utc(clock::BootNs(t_ns))).flatten()),
        observer: observer.clone(),
    };
    let mut uplink = tokio::spawn(uplink::run(config.uplink_options(), spool.clone(), parts, async {
        // A dropped sender means that the agent is going down as well.
        let _ = hung_up.await;
    }));
    info!(sensors = config.sensors.len(), start_ms = started.elapsed().as_millis(), "running");

    // Cancel-safe: the loops are only watched here. One that ends takes the agent with it, for somebody to start anew:
    // an agent that looks alive and records nothing is the worst of all.
    let ended = tokio::select! {
        () = shutdown => None,
        _ = &mut recording => Some("recorder"),
        _ = &mut uplink => Some("uplink"),
    };
    match ended {
        None => info!("stopping"),
        Some(part) => error!(part, "ended by itself: stopping"),
    }
    Systemd::from_env().stopping();
    stop.store(true, Ordering::Relaxed);
    running.join().await;
    timekeeper.abort();
    drop(others_in);
    let _ = sensors_closed.send(());
    // A task that was seen to end above must not be waited for again.
    if ended != Some("recorder") {
        let _ = recording.await;
    }
    if ended != Some("uplink") {
        bring_home(&spool, &observer).await;
        let _ = hang_up.send(());
        let _ = uplink.await;
    }
    reporter.abort();
    door.abort();
    let _ = std::fs::remove_file(socket_path(&config.gateway.state_directory));
    if let Err(cause) = spool.close().await {
        warn!(%cause, "the spool did not close cleanly");
    }
    ended.map_or(Ok(()), |part| Err(AgentError::Ended { part }))
}

/// Opens the spool and numbers the boot: what takes the disk some tens of milliseconds.
fn open(
    options: spool::Options,
    state_directory: &Path,
) -> Result<(Spool, spool::Opened, clock::BootNumber), AgentError> {
    let (spool, opened) = Spool::open(options)?;
    let boot = clock::boot_number(state_directory, BootId::read()?, 0)?;
    Ok((spool, opened, boot))
}

/// The first words of this run in the log.
fn greet(recorder: &mut Recorder, clock: &dyn Clock, boot: clock::BootNumber, opened: &spool::Opened) {
    let now = clock.now();
    let version = env!("CARGO_PKG_VERSION");
    let before = match opened.created {
        true => "a new log".to_owned(),
        false => format!("the log goes on after {}", opened.last_seq),
    };
    let memory = match boot.memory {
        Memory::SameBoot => "still the same boot",
        Memory::Kept => "a new boot",
        Memory::Nothing => "no boot before it is known",
        Memory::Damaged => "the file that tells the boots before it is damaged",
    };
    let detail = format!("speedwell {version}, boot {} ({memory}), {before}", boot.number);
    recorder.event(EventKind::Started, detail, now);
    for finding in &opened.findings {
        warn!("{finding}");
        recorder.event(EventKind::Spool, finding.clone(), now);
    }
}

/// Waits a little for the last records to be confirmed, so that a stop leaves nothing behind where it need not.
async fn bring_home(spool: &Spool, observer: &uplink::Observer) {
    let until = Instant::now() + LAST_WORDS;
    let connected = || observer.stats().link == uplink::Link::Connected;
    let behind = || {
        let stats = spool.stats();
        stats.confirmed_seq < stats.durable_seq
    };
    while connected() && behind() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The uplink speaks in events, the recorder takes records.
fn events_into(records: mpsc::Sender<Record>) -> mpsc::Sender<Event> {
    let (events, mut heard) = mpsc::channel(OTHERS);
    tokio::spawn(async move {
        while let Some(event) = heard.recv().await {
            if records.send(Record::Event(event)).await.is_err() {
                return;
            }
        }
    });
    events
}
