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
mod reload;
pub mod replay;
mod running;
mod sensors;
mod sources;
mod timekeeping;
mod view;
mod vitals;

use std::{
    path::Path,
    pin::pin,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use speedwell_wire::{Event, EventKind, Manifest, Record};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tracing::{error, info, warn};

pub use direct::watch_directly;
pub use local::socket_path;
pub use reload::Reloads;
pub use view::View;

use crate::{
    clock::{self, BootId, Clock, ClockError, Memory, SystemClock},
    config::{Complaints, Config},
    health::{Systemd, Vitals},
    recorder::{Recorder, fusion::Fusion},
    spool::{self, OpenError, Spool},
    uplink,
};
use recording::{Change, Pace, Recording};
use running::{Common, Member, Running};

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
pub async fn run(config: Config, mut reloads: Reloads, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let started = Instant::now();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (said_in, said) = mpsc::channel(sources::CHANNEL);
    let (shed, lost) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let state_directory = config.gateway.state_directory.clone();
    let receiver = timekeeping::Receiver::default();
    let common = Common {
        clock: clock.clone(),
        said: said_in,
        shed: Arc::clone(&shed),
        receiver: receiver.clone(),
        state_directory: Some(state_directory.clone()),
    };
    let mut running = Running::new(&config.gateway.board, common);
    let members = running.plan(&config.sensors);
    let fusion = sensors::fusion(config.fusion.as_ref(), &members);
    let sources = sensors::sources(config.sensors.iter(), fusion.as_ref());
    // The sensors first: they measure while the disk is being opened, and what they say waits in the channel.
    running.open(&members)?;

    let mut options = config.spool_options();
    let pace = Pace::of(options.commit_every);
    options.commit_every = pace.commit;
    let directory = state_directory.clone();
    let opening = tokio::task::spawn_blocking(move || open(options, &directory)).await;
    let (spool, opened, boot) = opening.unwrap_or_else(|panic| {
        // The spool catches the panics of its store; one of its own is a defect and must not pass for a start.
        std::panic::resume_unwind(panic.into_panic())
    })?;
    info!(log = %opened.log, last = opened.last_seq, confirmed = opened.confirmed_seq, "spool open");

    let mut recorder = Recorder::new(&sources, boot.number, clock.now());
    greet(&mut recorder, &*clock, boot, &opened);

    let mut vitals = Vitals::default();
    let begun = Instant::now();
    let beat = vitals.watch("recorder", Duration::from_secs(30), begun);
    let (manifest_in, manifest) = watch::channel(Manifest { channels: Vec::new() });
    let (live_in, live) = watch::channel(None);
    let (troubles_in, troubles) = watch::channel(Vec::new());
    let (members_in, members_out) = watch::channel(members.clone());
    let (others_in, others) = mpsc::channel(OTHERS);
    let (changes, changes_out) = mpsc::channel(1);
    let (sensors_closed, closed) = oneshot::channel();
    let fused = recording::Fused::default();

    let recording = Recording {
        recorder,
        places: recording::places(&members),
        fusion: fusion.map(Fusion::new),
        fused: fused.clone(),
        spool: spool.clone(),
        clock: clock.clone(),
        said,
        others,
        changes: changes_out,
        shed,
        manifest: manifest_in,
        live: live_in,
        troubles: troubles_in,
        lost: lost.clone(),
        beat,
        closed,
        failing: None,
        pace,
        shown: false,
        memories: recording::memories(&state_directory, &members),
        forgetful: false,
        state_directory: state_directory.clone(),
    };
    let mut recording = tokio::spawn(recording.run());

    let known = timekeeping::Known::default();
    let timekeeper = tokio::spawn(timekeeping::run(boot.number, known.clone(), receiver, others_in.clone()));
    let door = tokio::spawn(local::serve(state_directory.clone(), manifest, live.clone()));

    let observer = uplink::Observer::default();
    let (health_in, health) = watch::channel(None);
    let reporter = vitals::Reporter {
        started,
        boot: boot.number,
        spool: spool.clone(),
        observer: observer.clone(),
        known: known.clone(),
        lost,
        members: members_out,
        fused,
        troubles,
        health: health_in,
        systemd: Systemd::from_env(),
        vitals,
    };
    let reporter = tokio::spawn(reporter.run());

    let parts = uplink::Parts {
        clock: clock.clone(),
        boot: boot.number,
        live,
        health,
        events: events_into(others_in.clone()),
        utc: Arc::new(move |of, t_ns| (of == boot.number).then(|| known.utc(clock::BootNs(t_ns))).flatten()),
        observer: observer.clone(),
    };
    let uplink = Uplink::start(config.uplink_options(), &spool, &parts);
    info!(sensors = config.sensors.len(), start_ms = started.elapsed().as_millis(), "running");

    let mut crew = Crew { config, running, members: members_in, changes, uplink, spool: spool.clone(), parts };
    let mut shutdown = pin!(shutdown);
    // Cancel-safe: the loops are only watched here. One that ends takes the agent with it, for somebody to start anew:
    // an agent that looks alive and records nothing is the worst of all.
    let ended = loop {
        let read = tokio::select! {
            () = &mut shutdown => break None,
            _ = &mut recording => break Some("recorder"),
            _ = &mut crew.uplink.task => break Some("uplink"),
            Some(read) = reloads.configs.recv() => read,
        };
        // A stop does not wait for a change to come to its end: whoever is half changed is stopped just so.
        tokio::select! {
            () = &mut shutdown => break None,
            taken = crew.reload(read, &others_in) => if taken {
                (reloads.taken)(&crew.config);
            },
        }
        Systemd::from_env().ready();
    };
    match ended {
        None => info!("stopping"),
        Some(part) => error!(part, "ended by itself: stopping"),
    }
    Systemd::from_env().stopping();
    let Crew { running, mut uplink, changes, .. } = crew;
    running.close().await;
    timekeeper.abort();
    drop((others_in, changes));
    let _ = sensors_closed.send(());
    // A task that was seen to end above must not be waited for again.
    if ended != Some("recorder") {
        let _ = recording.await;
    }
    if ended != Some("uplink") {
        bring_home(&spool, &observer).await;
        uplink.hang_up();
        let _ = uplink.task.await;
    }
    reporter.abort();
    door.abort();
    let _ = std::fs::remove_file(socket_path(&state_directory));
    if let Err(cause) = spool.close().await {
        warn!(%cause, "the spool did not close cleanly");
    }
    ended.map_or(Ok(()), |part| Err(AgentError::Ended { part }))
}

/// The uplink at work.
struct Uplink {
    hang_up: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Uplink {
    fn start(options: uplink::Options, spool: &Spool, parts: &uplink::Parts) -> Self {
        let (hang_up, hung_up) = oneshot::channel::<()>();
        let task = tokio::spawn(uplink::run(options, spool.clone(), parts.clone(), async {
            let _ = hung_up.await;
        }));
        Self { hang_up, task }
    }

    fn hang_up(&mut self) {
        // Dropping the sender is the word; one that was told before does not hear it twice.
        self.hang_up = oneshot::channel().0;
    }
}

/// What another configuration changes while the rest goes on.
struct Crew {
    config: Config,
    running: Running,
    members: watch::Sender<Vec<Member>>,
    changes: mpsc::Sender<Change>,
    uplink: Uplink,
    spool: Spool,
    parts: uplink::Parts,
}

impl Crew {
    /// Takes another configuration in the place of the running one, or tells why not; whether it was taken.
    async fn reload(&mut self, read: Result<Config, Complaints>, log: &mpsc::Sender<Record>) -> bool {
        Systemd::from_env().reloading();
        let new = match read {
            Ok(new) => new,
            Err(complaints) => {
                let lines = complaints.to_string();
                let first = lines.lines().next().unwrap_or_default().to_owned();
                return self.refuse(lines.lines(), &first, log).await;
            }
        };
        let fixed = reload::fixed(&self.config, &new);
        if let Some(first) = fixed.first() {
            return self.refuse(fixed.iter().map(String::as_str), first, log).await;
        }
        new.warnings.iter().for_each(|warning| warn!("{}: {}", warning.key, warning.message));
        let Some(words) = reload::differences(&self.config, &new) else {
            info!("configuration reloaded: it says what it said before");
            return true;
        };
        self.change_sensors(&new, words).await;
        if new.uplink_options() != self.config.uplink_options() {
            // One after the other: the broker knows them by the same name.
            self.uplink.hang_up();
            let _ = (&mut self.uplink.task).await;
            self.uplink = Uplink::start(new.uplink_options(), &self.spool, &self.parts);
        }
        self.config = new;
        true
    }

    /// Nothing changes; says so in the journal, and in the log for whoever is not at the gateway.
    async fn refuse(&self, lines: impl Iterator<Item = &str>, first: &str, log: &mpsc::Sender<Record>) -> bool {
        lines.filter(|line| !line.is_empty()).for_each(|line| error!("{line}"));
        error!("nothing was changed: the old configuration stays in force");
        let detail = format!("the new configuration was refused, the old one stays in force: {first}");
        let (boot, t_ns, kind) = (self.parts.boot, self.parts.clock.now().0, EventKind::Configuration);
        let _ = log.send(Record::Event(Event { boot, t_ns, sensor: None, kind, detail })).await;
        false
    }

    async fn change_sensors(&mut self, new: &Config, words: String) {
        let members = self.running.plan(&new.sensors);
        self.running.close_others(&members).await;
        let fusion = sensors::fusion(new.fusion.as_ref(), &members);
        let sources = sensors::sources(new.sensors.iter(), fusion.as_ref());
        self.members.send_replace(members.clone());
        let (done, changed) = oneshot::channel();
        let change = Change { sources, members: members.clone(), fusion, words, done };
        // A recorder that has ended is seen by whoever watches it.
        if self.changes.send(change).await.is_ok() {
            let _ = changed.await;
        }
        if let Err(cause) = self.running.open(&members) {
            error!("{cause}");
        }
    }
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
