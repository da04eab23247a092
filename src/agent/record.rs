//! Writes what comes from the sensors' pins, buses and ports into files that [`replay`](super::replay) plays.
//!
//! One thread a pin, CAN interface and chip, one task a serial port, each with a file of its own; a sensor that has to ask
//! asks as in the agent, and what it makes of the answers is thrown away. A file is complete up to its last flush, once a
//! second, whatever happens to the program. What can be written is bounded: by time, by size, and by the disk's free space.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::drivers::{Origin, Wiring};
use crate::{
    board::{BoardError, CanFilter, Doors, EdgeWish, LineSettings, ShaftWish, recorded::Writer},
    clock::{BootNs, Clock, Fix, FixKeeper, SystemClock},
    config::{Config, Sensor as Configured},
    sensor::{ByteSensor, FrameSensor, modbus},
};

/// How often files are handed to the system and limits are looked at.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Longest wait before a track looks whether to stop.
const WAIT: Duration = Duration::from_millis(100);

/// How long tracks have to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Edges and bytes taken at once.
const EDGES: usize = 1024;
const BYTES: usize = 1024;

/// Where to and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The folder; made if it is not there. Files in it are never written over.
    pub out: PathBuf,
    /// For how long; until stopped when `None`.
    pub span: Option<Duration>,
    /// Bytes of all files together, at most.
    pub max_size: u64,
    /// Bytes of the disk left to others.
    pub keep_free: u64,
    /// Sensors whose input is recorded; all when empty.
    pub sensors: Vec<String>,
}

/// Why nothing could be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A sensor is named that the configuration does not have.
    #[error("the configuration has no sensor {name:?}; it has {has}")]
    NoSensor {
        /// The name given.
        name: String,
        /// Names that would do.
        has: String,
    },
    /// A file or the folder could not be made.
    #[error("{}: {cause}{}", file.display(), written_over(cause))]
    Create {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Less of the disk is free than is to be kept free.
    #[error("{}: {free} bytes are free and {keep} are kept free; record to another disk, or keep less", out.display())]
    Full {
        /// The folder.
        out: PathBuf,
        /// Free.
        free: u64,
        /// To be kept free.
        keep: u64,
    },
}

fn written_over(cause: &io::Error) -> &'static str {
    if cause.kind() == io::ErrorKind::AlreadyExists {
        "; a recording is never written over: take another folder"
    } else {
        ""
    }
}

/// Why recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its time was over, or it was stopped.
    Asked,
    /// The files are as large as they may be.
    Size,
    /// No more of the disk may be taken.
    Disk,
    /// Nothing can be recorded any more: every track has failed.
    Failed,
}

/// A file being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The file's name.
    pub file: String,
    /// Edges, frames, pieces of bytes or looks so far.
    pub items: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// Lost by the kernel, where it tells.
    pub dropped: u64,
    /// Why it ended early.
    pub failed: Option<String>,
}

/// What recording made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// File by file.
    pub files: Vec<Progress>,
    /// Why it ended.
    pub ended: Ended,
}

/// Who says what is to be sent on a serial line.
enum Asker {
    Sensor(Box<dyn ByteSensor + Send>),
    Line { slaves: Vec<modbus::Options> },
}

/// What is recorded and by what.
enum Input {
    Edges(EdgeWish),
    Can { interface: String, filters: Vec<CanFilter>, sensors: Vec<Box<dyn FrameSensor + Send>> },
    Serial { port: PathBuf, settings: LineSettings, asker: Asker },
    Shaft(ShaftWish),
}

/// A file and what goes into it.
struct Track {
    input: Input,
    of: String,
    file: String,
}

/// What all tracks share.
#[derive(Clone)]
struct Shared {
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
    progress: Arc<Mutex<Vec<Progress>>>,
    doors: Doors,
}

/// Records until `stop` is set or a limit is reached; `tell` hears of it once a second. Within a tokio runtime.
pub async fn record(
    config: &Config,
    doors: &Doors,
    options: &Options,
    stop: Arc<AtomicBool>,
    mut tell: impl FnMut(&[Progress]),
) -> Result<Summary, RecordError> {
    let tracks = tracks(config, options)?;
    fs::create_dir_all(&options.out).map_err(|cause| RecordError::Create { file: options.out.clone(), cause })?;
    if let Some(free) = free_space(&options.out).filter(|free| *free < options.keep_free) {
        return Err(RecordError::Full { out: options.out.clone(), free, keep: options.keep_free });
    }
    let fix = FixKeeper::new().take(SystemClock.sample()).map(|(fix, _)| fix);
    let mut writers = Vec::with_capacity(tracks.len());
    for track in &tracks {
        writers.push(create(&options.out.join(&track.file), track, fix.as_ref())?);
    }
    let fresh = |track: &Track| Progress { file: track.file.clone(), items: 0, bytes: 0, dropped: 0, failed: None };
    let shared = Shared {
        stop,
        total: Arc::default(),
        progress: Arc::new(Mutex::new(tracks.iter().map(fresh).collect())),
        doors: doors.clone(),
    };
    let running = start(tracks, writers, &shared);
    let ended = watch(options, &shared, &running, &mut tell).await;
    shared.stop.store(true, Ordering::Relaxed);
    running.close().await;
    let files = shared.progress.lock().map(|progress| progress.clone()).unwrap_or_default();
    Ok(Summary { files, ended })
}

/// What to record: a track a pin, port and chip, and one a CAN interface for all its sensors.
fn tracks(config: &Config, options: &Options) -> Result<Vec<Track>, RecordError> {
    for name in &options.sensors {
        if config.sensor(name).is_none() {
            let has: Vec<&str> = config.sensors.iter().map(|sensor| sensor.name.as_str()).collect();
            return Err(RecordError::NoSensor { name: name.clone(), has: has.join(", ") });
        }
    }
    let wanted = |sensor: &&Configured| options.sensors.is_empty() || options.sensors.contains(&sensor.name);
    let mut tracks: Vec<Track> = Vec::new();
    for sensor in config.sensors.iter().filter(wanted) {
        let name = &sensor.name;
        match Wiring::of(sensor, Origin::Live) {
            Wiring::Edges { wish, .. } => {
                let of = format!("edges of pin {} for sensor {name}", wish.pin.written);
                tracks.push(Track { input: Input::Edges(wish), of, file: format!("edges-{name}.csv") });
            }
            Wiring::Shaft { wish, .. } => {
                let of = format!("looks at the {} of sensor {name}", wish.chip.word());
                tracks.push(Track { input: Input::Shaft(wish), of, file: format!("bus-{name}.csv") });
            }
            Wiring::Serial { port, settings, make } => {
                let of = format!("bytes of {} at {} baud for sensor {name}", port.display(), settings.baud);
                let input = Input::Serial { port, settings, asker: Asker::Sensor(make()) };
                tracks.push(Track { input, of, file: format!("serial-{name}.csv") });
            }
            Wiring::Modbus { port, settings, slave } => line_track(&mut tracks, name, (port, settings), slave),
            Wiring::Can { interface, filters, make } => can_track(&mut tracks, interface, filters, make()),
        }
    }
    Ok(tracks)
}

/// All devices of a line are one recording: they are asked in turn.
fn line_track(
    tracks: &mut Vec<Track>,
    name: &str,
    (wanted, settings): (PathBuf, LineSettings),
    slave: modbus::Options,
) {
    for track in tracks.iter_mut() {
        if let Input::Serial { port, asker: Asker::Line { slaves, .. }, .. } = &mut track.input
            && *port == wanted
        {
            slaves.push(slave);
            track.of += &format!(" and {name}");
            return;
        }
    }
    let of = format!("bytes of {} at {} baud for sensor {name}", wanted.display(), settings.baud);
    let asker = Asker::Line { slaves: vec![slave] };
    let input = Input::Serial { port: wanted, settings, asker };
    tracks.push(Track { input, of, file: format!("serial-{name}.csv") });
}

fn can_track(tracks: &mut Vec<Track>, wanted: String, more: Vec<CanFilter>, sensor: Box<dyn FrameSensor + Send>) {
    for track in tracks.iter_mut() {
        if let Input::Can { interface, filters, sensors } = &mut track.input
            && *interface == wanted
        {
            filters.extend(more);
            sensors.push(sensor);
            return;
        }
    }
    let (of, file) = (format!("frames of {wanted}"), format!("can-{wanted}.log"));
    tracks.push(Track { input: Input::Can { interface: wanted, filters: more, sensors: vec![sensor] }, of, file });
}

type Out = Writer<BufWriter<File>>;

fn create(path: &Path, track: &Track, fix: Option<&Fix>) -> Result<Out, RecordError> {
    let failed = |cause| RecordError::Create { file: path.to_owned(), cause };
    let file = File::create_new(path).map_err(failed)?;
    let begin = || {
        let mut out = Writer::new(BufWriter::new(file), &track.of, fix)?;
        match track.input {
            Input::Edges(_) => out.edges_header()?,
            Input::Serial { .. } => out.serial_header()?,
            Input::Shaft(_) => out.bus_header()?,
            Input::Can { .. } => {}
        }
        out.flush()?;
        Ok(out)
    };
    begin().map_err(failed)
}

/// Tracks at work.
struct Running {
    threads: Vec<thread::JoinHandle<()>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    fn is_finished(&self) -> bool {
        self.threads.iter().all(thread::JoinHandle::is_finished) && self.tasks.iter().all(|task| task.is_finished())
    }

    /// Waits until each has written its last line; one that hangs in a driver is left behind.
    async fn close(self) {
        let until = Instant::now() + CLOSE_WITHIN;
        while !self.is_finished() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn start(tracks: Vec<Track>, writers: Vec<Out>, shared: &Shared) -> Running {
    let mut running = Running { threads: Vec::new(), tasks: Vec::new() };
    for (number, (track, out)) in tracks.into_iter().zip(writers).enumerate() {
        let mut tape = Tape { out, number, shared: shared.clone(), items: 0, dropped: 0, flushed: Instant::now() };
        match track.input {
            Input::Serial { port, settings, asker } => running.tasks.push(tokio::spawn(async move {
                let outcome = match asker {
                    Asker::Sensor(sensor) => serial(&mut tape, (&port, &settings), sensor).await,
                    Asker::Line { slaves } => {
                        line(&mut tape, (&port, &settings), modbus::Line::new(settings.line_time(1), slaves)).await
                    }
                };
                tape.close(outcome);
            })),
            input => running.threads.push(thread::spawn(move || {
                let outcome = match input {
                    Input::Edges(wish) => edges(&mut tape, &wish),
                    Input::Can { interface, filters, sensors } => can(&mut tape, (&interface, &filters), sensors),
                    Input::Shaft(wish) => shaft(&mut tape, &wish),
                    Input::Serial { .. } => Ok(()),
                };
                tape.close(outcome);
            })),
        }
    }
    running
}

/// Waits for the end, and looks at the limits meanwhile.
async fn watch(options: &Options, shared: &Shared, running: &Running, tell: &mut impl FnMut(&[Progress])) -> Ended {
    let until = options.span.map(|span| Instant::now() + span);
    let mut told = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if shared.stop.load(Ordering::Relaxed) || until.is_some_and(|until| Instant::now() >= until) {
            return Ended::Asked;
        }
        if running.is_finished() {
            return Ended::Failed;
        }
        if shared.total.load(Ordering::Relaxed) >= options.max_size {
            return Ended::Size;
        }
        if told.elapsed() >= FLUSH_EVERY {
            told = Instant::now();
            if free_space(&options.out).is_some_and(|free| free < options.keep_free) {
                return Ended::Disk;
            }
            if let Ok(progress) = shared.progress.lock() {
                tell(&progress);
            }
        }
    }
}

/// What an ordinary user can still write.
fn free_space(folder: &Path) -> Option<u64> {
    rustix::fs::statvfs(folder).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Why a track ended.
#[derive(Debug, thiserror::Error)]
enum TrackError {
    #[error("{cause}{}", hint(cause))]
    Board { cause: BoardError },
    #[error("writing: {0}")]
    Write(io::Error),
}

impl<E: Into<BoardError>> From<E> for TrackError {
    fn from(cause: E) -> Self {
        TrackError::Board { cause: cause.into() }
    }
}

/// A pin or port has one user at a time.
fn hint(error: &BoardError) -> &'static str {
    let text = error.to_string().to_lowercase();
    let taken = text.contains("busy") || text.contains("in use") || text.contains("used by");
    if taken { "; if it is the agent that has it, `systemctl stop speedwell` first" } else { "" }
}

/// The file of a track.
struct Tape {
    out: Out,
    number: usize,
    shared: Shared,
    items: u64,
    dropped: u64,
    flushed: Instant,
}

impl Tape {
    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn write(&mut self, write: impl FnOnce(&mut Out) -> io::Result<()>) -> Result<(), TrackError> {
        let before = self.out.written();
        write(&mut self.out).map_err(TrackError::Write)?;
        self.items += 1;
        self.shared.total.fetch_add(self.out.written() - before, Ordering::Relaxed);
        Ok(())
    }

    /// Hands the lines to the system when it is time.
    fn turn(&mut self) -> Result<(), TrackError> {
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.flushed = Instant::now();
            self.out.flush().map_err(TrackError::Write)?;
            self.tell(None);
        }
        Ok(())
    }

    fn tell(&self, failed: Option<String>) {
        if let Ok(mut progress) = self.shared.progress.lock()
            && let Some(own) = progress.get_mut(self.number)
        {
            (own.items, own.bytes, own.dropped, own.failed) = (self.items, self.out.written(), self.dropped, failed);
        }
    }

    fn close(mut self, outcome: Result<(), TrackError>) {
        let outcome = outcome.and(self.out.flush().map_err(TrackError::Write));
        self.tell(outcome.err().map(|error| error.to_string()));
    }
}

fn edges(tape: &mut Tape, wish: &EdgeWish) -> Result<(), TrackError> {
    let mut port = tape.shared.doors.edges(wish)?;
    let mut edges = Vec::with_capacity(EDGES);
    while !tape.stopping() {
        edges.clear();
        port.next_batch(WAIT, &mut edges)?;
        for edge in &edges {
            tape.write(|out| out.edge(edge))?;
        }
        tape.turn()?;
    }
    Ok(())
}

fn shaft(tape: &mut Tape, wish: &ShaftWish) -> Result<(), TrackError> {
    let mut port = tape.shared.doors.shaft(wish)?;
    while !tape.stopping() {
        if let Some(look) = port.next(WAIT)? {
            tape.write(|out| out.look(&look))?;
        }
        tape.turn()?;
    }
    Ok(())
}

fn can(
    tape: &mut Tape,
    (interface, filters): (&str, &[CanFilter]),
    mut sensors: Vec<Box<dyn FrameSensor + Send>>,
) -> Result<(), TrackError> {
    let mut port = tape.shared.doors.can(interface, filters)?;
    let mut unused = Vec::new();
    while !tape.stopping() {
        let now = SystemClock.now();
        for sensor in &mut sensors {
            while let Some(question) = sensor.ask(now) {
                port.send(&question)?;
            }
        }
        let wakes = sensors.iter().filter_map(|sensor| sensor.wakes()).min();
        if let Some(frame) = port.next(until(wakes))? {
            tape.write(|out| out.frame(interface, &frame))?;
            sensors.iter_mut().for_each(|sensor| sensor.on_frame(&frame, &mut unused));
        }
        // What the bus says of itself belongs to a fault that is brought to the desk.
        if let Some((t, error)) = port.take_error() {
            tape.write(|out| out.error_frame(interface, t, &error))?;
        }
        unused.clear();
        tape.dropped = port.dropped();
        tape.turn()?;
    }
    Ok(())
}

async fn serial(
    tape: &mut Tape,
    (port, settings): (&Path, &LineSettings),
    mut sensor: Box<dyn ByteSensor + Send>,
) -> Result<(), TrackError> {
    let mut port = tape.shared.doors.serial(port, settings)?;
    let (mut buffer, mut unused, mut asked) = ([0; BYTES], Vec::new(), Vec::new());
    while !tape.stopping() {
        asked.clear();
        sensor.ask(SystemClock.now(), &mut asked);
        if !asked.is_empty() {
            port.write(&asked).await?;
        }
        // Cancel-safe: the port promises that a read that is dropped loses nothing.
        if let Ok(chunk) = tokio::time::timeout(until(sensor.wakes()), port.read(&mut buffer)).await {
            let chunk = chunk?;
            let bytes = &buffer[..chunk.len];
            tape.write(|out| out.bytes(chunk.t, bytes))?;
            sensor.on_bytes(chunk.t, bytes, &mut unused);
        }
        unused.clear();
        tape.turn()?;
    }
    Ok(())
}

/// The same for a line of several devices. The questions are recorded too: they tell which answer is to which.
async fn line(
    tape: &mut Tape,
    (port, settings): (&Path, &LineSettings),
    mut line: modbus::Line,
) -> Result<(), TrackError> {
    let mut port = tape.shared.doors.serial(port, settings)?;
    let (mut buffer, mut unused, mut asked) = ([0; BYTES], Vec::new(), Vec::new());
    let mut written = BootNs(0);
    while !tape.stopping() {
        asked.clear();
        let now = SystemClock.now();
        line.ask(now, &mut asked);
        if !asked.is_empty() {
            tape.write(|out| out.bytes(now, &asked))?;
            written = now;
            port.write(&asked).await?;
        }
        // Cancel-safe: the port promises that a read that is dropped loses nothing.
        if let Ok(chunk) = tokio::time::timeout(until(line.wakes()), port.read(&mut buffer)).await {
            let chunk = chunk?;
            let bytes = &buffer[..chunk.len];
            // Reckoned back from its end, an answer may have begun before its question was written.
            tape.write(|out| out.bytes(chunk.t.max(written), bytes))?;
            line.on_bytes(chunk.t, bytes, &mut unused);
        }
        unused.clear();
        tape.turn()?;
    }
    Ok(())
}

/// How long to wait for input when something is to be asked at `wakes`.
fn until(wakes: Option<BootNs>) -> Duration {
    wakes.map_or(WAIT, |wakes| wakes.since(SystemClock.now()).min(WAIT))
}
