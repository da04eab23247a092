//! Recordings through the same sensors as live input, on the recording's own clock.
//!
//! Every recording feeds the sensors that the configuration connects to its pin, interface or port. Inputs are merged in
//! order of time; a sensor's ticks fall on multiples of its report period between the first and the last item of its own
//! recording, so recordings of different clocks (edges since boot, frames in UTC) can be played together. Nothing is
//! concluded from a recording's end: after it no time passes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use speedwell_wire::{NoData, Quantity};

use super::drivers::{Origin, Wiring};
use crate::{
    board::{
        CanFilter,
        recorded::{
            BadLine, BusFile, Candump, EdgesFile, Input, Item, Recording, RecordingError, SERIAL_HEADER, SerialFile,
            TimedBytes,
        },
    },
    clock::BootNs,
    config::{Config, Sensor as Configured},
    sensor::{
        ByteSensor, Counters, EdgeSensor, FrameSensor, Reading, Sensor, TimedFrame, Value, modbus, shaft::LookSensor,
    },
};

/// A hole in a recording is ticked through for so long, ten minutes, until every time-out has run out; then the time jumps
/// to its end. One wrong time stamp would otherwise keep a processor busy for years.
const TICKED_HOLE_NS: u64 = 600 * 1_000_000_000;

/// How long after the last item sensors are asked once more: edges younger than a few milliseconds count as perhaps not
/// all delivered, and the last of a recording are.
const LAST_WORD_NS: u64 = 10_000_000;

/// How much of a log is looked through for its interfaces.
const PEEKED_BYTES: u64 = 64 * 1024;

/// What was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Edges of a pin.
    Edges,
    /// Frames of a CAN interface.
    Can,
    /// Bytes of a serial port, raw or with their times.
    Serial,
    /// Looks at a chip on I2C or SPI.
    Bus,
}

/// A recording and what it was recorded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Of what kind.
    pub kind: SourceKind,
    /// Pin, interface or port, as the configuration or the board names it; a sensor's name will do.
    pub name: String,
    /// The file.
    pub file: PathBuf,
}

/// A reading of a sensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// When, on the recording's clock.
    pub t: BootNs,
    /// Whose.
    pub sensor: &'a str,
    /// Of what.
    pub quantity: Quantity,
    /// Decimals worth printing: three more than the channel resolves.
    pub decimals: usize,
    /// The value, or why there is none.
    pub value: Result<Value, NoData>,
}

/// Why a recording could not be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// No sensor of the configuration is connected to it.
    #[error("no sensor is connected to {what} {name}; the configuration has {}", those(has))]
    NoSensor {
        /// Pin, CAN interface or serial port.
        what: &'static str,
        /// The name given.
        name: String,
        /// Names that would do.
        has: Vec<String>,
    },
    /// The file is not there or may not be read.
    #[error("{}: {cause}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Rows could not be written.
    #[error("writing: {0}")]
    Write(#[source] io::Error),
}

fn those(names: &[String]) -> String {
    if names.is_empty() { "none of that kind".into() } else { names.join(", ") }
}

/// What is told while playing.
pub trait Audience {
    /// A reading.
    fn row(&mut self, row: &Row<'_>) -> io::Result<()>;
    /// A line that was left out.
    fn bad_line(&mut self, file: &Path, bad: &BadLine);
    /// Something to know about a file: why reading it ended early, or another interface than was named.
    fn note(&mut self, file: &Path, note: &str);
}

/// What was played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// File by file.
    pub files: Vec<FileSummary>,
    /// Sensor by sensor.
    pub sensors: Vec<SensorSummary>,
}

/// What was in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// Which.
    pub file: PathBuf,
    /// Edges, frames or pieces of bytes played.
    pub items: u64,
    /// Lines left out as damaged.
    pub bad_lines: u64,
    /// What was passed over on purpose, in words.
    pub passed_over: String,
    /// Whether it could not be read to its end.
    pub broken: bool,
}

/// What a sensor made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorSummary {
    /// Whose.
    pub sensor: String,
    /// Its counters.
    pub counters: Counters,
    /// Rows with a value.
    pub values: u64,
}

/// Plays recordings through the sensors of a configuration.
pub fn replay(config: &Config, sources: &[Source], audience: &mut dyn Audience) -> Result<Summary, ReplayError> {
    let mut tracks =
        sources.iter().map(|source| Track::open(config, source, audience)).collect::<Result<Vec<_>, _>>()?;
    tracks.iter_mut().for_each(|track| track.advance(audience));
    // The track whose next item is the earliest goes on; there are a handful of tracks.
    while let Some(track) = tracks.iter_mut().filter(|t| t.next.is_some()).min_by_key(|t| t.next.as_ref().map(|i| i.t))
    {
        track.play(audience)?;
    }
    let mut summary = Summary::default();
    for track in tracks {
        summary.sensors.extend(track.players.iter().map(Player::summary));
        summary.files.push(FileSummary { passed_over: track.recording.passed_over(), ..track.summary });
    }
    Ok(summary)
}

/// A recording being played.
struct Track {
    recording: Box<dyn Recording>,
    next: Option<Item>,
    players: Vec<Player>,
    summary: FileSummary,
}

impl Track {
    fn open(config: &Config, source: &Source, audience: &mut dyn Audience) -> Result<Self, ReplayError> {
        let origin = origin(source);
        let players: Vec<Player> =
            config.sensors.iter().filter(|s| is_fed(config, source, s)).map(|s| Player::new(s, origin)).collect();
        if players.is_empty() {
            return Err(no_sensor(config, source));
        }
        let recording =
            open_recording(source, audience).map_err(|cause| ReplayError::Open { file: source.file.clone(), cause })?;
        let summary = FileSummary {
            file: source.file.clone(),
            items: 0,
            bad_lines: 0,
            passed_over: String::new(),
            broken: false,
        };
        Ok(Self { recording, next: None, players, summary })
    }

    /// Reads up to the next good item.
    fn advance(&mut self, audience: &mut dyn Audience) {
        self.next = None;
        while self.next.is_none() {
            match self.recording.next_step() {
                Ok(Some(Ok(item))) => self.next = Some(item),
                Ok(Some(Err(bad))) => {
                    self.summary.bad_lines += 1;
                    audience.bad_line(&self.summary.file, &bad);
                }
                Ok(None) => return,
                Err(error) => {
                    self.summary.broken = true;
                    let note = match error {
                        RecordingError::Io { .. } => format!("reading ended early: {error}"),
                        RecordingError::NotOne(what) => what,
                    };
                    return audience.note(&self.summary.file, &note);
                }
            }
        }
    }

    fn play(&mut self, audience: &mut dyn Audience) -> Result<(), ReplayError> {
        let Some(item) = self.next.take() else { return Ok(()) };
        self.summary.items += 1;
        for player in &mut self.players {
            player.take(&item, audience).map_err(ReplayError::Write)?;
        }
        self.advance(audience);
        if self.next.is_none() {
            for player in &mut self.players {
                player.last_word(item.t, audience).map_err(ReplayError::Write)?;
            }
        }
        Ok(())
    }
}

/// Whether a sensor is connected to what was recorded.
fn is_fed(config: &Config, source: &Source, sensor: &Configured) -> bool {
    let board = &config.gateway.board;
    let named = |name: &str| name == source.name || sensor.name == source.name;
    match (Wiring::of(sensor, Origin::Recorded), source.kind) {
        (Wiring::Edges { wish, .. }, SourceKind::Edges) => {
            let same_line = board.resolve(&source.name).is_ok_and(|pin| pin.at == wish.pin.at);
            named(&wish.pin.written) || same_line
        }
        (Wiring::Can { interface, .. }, SourceKind::Can) => named(&interface),
        (Wiring::Serial { port, .. } | Wiring::Modbus { port, .. }, SourceKind::Serial) => {
            let same_port = board.uart(&source.name).is_some_and(|uart| Path::new(&uart.device) == port);
            named(&port.to_string_lossy()) || same_port
        }
        (Wiring::Shaft { wish, .. }, SourceKind::Bus) => named(&wish.device.to_string_lossy()),
        _ => false,
    }
}

fn no_sensor(config: &Config, source: &Source) -> ReplayError {
    let name_of = |sensor: &Configured| match (Wiring::of(sensor, Origin::Recorded), source.kind) {
        (Wiring::Edges { wish, .. }, SourceKind::Edges) => Some(wish.pin.written),
        (Wiring::Can { interface, .. }, SourceKind::Can) => Some(interface),
        (Wiring::Serial { port, .. } | Wiring::Modbus { port, .. }, SourceKind::Serial) => {
            Some(port.display().to_string())
        }
        (Wiring::Shaft { .. }, SourceKind::Bus) => Some(sensor.name.clone()),
        _ => None,
    };
    let what = match source.kind {
        SourceKind::Edges => "pin",
        SourceKind::Can => "CAN interface",
        SourceKind::Serial => "serial port",
        SourceKind::Bus => "encoder on a bus",
    };
    let mut has: Vec<String> = config.sensors.iter().filter_map(name_of).collect();
    has.dedup();
    ReplayError::NoSensor { what, name: source.name.clone(), has }
}

fn open_recording(source: &Source, audience: &mut dyn Audience) -> io::Result<Box<dyn Recording>> {
    let open = || File::open(&source.file).map(BufReader::new);
    Ok(match source.kind {
        SourceKind::Edges => Box::new(EdgesFile::new(open()?)),
        SourceKind::Serial if has_times(&source.file)? => Box::new(TimedBytes::new(open()?)),
        SourceKind::Serial => Box::new(SerialFile::new(open()?)),
        SourceKind::Bus => Box::new(BusFile::new(open()?)),
        SourceKind::Can => {
            let recorded = interface_in(open()?, &source.name);
            if recorded != source.name {
                audience.note(&source.file, &format!("recorded from {recorded}, played as {}", source.name));
            }
            Box::new(Candump::new(open()?, &recorded))
        }
    })
}

/// Whether bytes of a serial port have their times beside them: the first line that is no remark says so.
fn has_times(file: &Path) -> io::Result<bool> {
    let head = BufReader::new(File::open(file)?.take(PEEKED_BYTES));
    let first = head.lines().map_while(Result::ok).find(|line| !line.starts_with('#'));
    Ok(first.is_some_and(|line| line.trim() == SERIAL_HEADER))
}

/// Bytes with times beside them have been on the way as live ones are; of others the sentences tell when they were true.
fn origin(source: &Source) -> Origin {
    match source.kind {
        // A file that cannot be read is told when it is opened.
        SourceKind::Serial if has_times(&source.file).unwrap_or(false) => Origin::Arrived,
        _ => Origin::Recorded,
    }
}

/// The interface of a log to play as `wanted`: that one where the log has it, else the only one it begins with.
fn interface_in(log: impl io::Read, wanted: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    // A log that cannot be read or is no text is told when it is played.
    for line in BufReader::new(log.take(PEEKED_BYTES)).lines().map_while(Result::ok) {
        let mut words = line.split_ascii_whitespace();
        let (Some(_), Some(name), Some(_)) = (words.next(), words.next(), words.next()) else { continue };
        if !names.iter().any(|seen| seen == name) {
            names.push(name.to_owned());
        }
    }
    match <[String; 1]>::try_from(names) {
        Ok([only]) => only,
        Err(_) => wanted.to_owned(),
    }
}

/// A sensor being fed.
struct Player {
    name: String,
    driver: Driver,
    period_ns: u64,
    /// `None` until the first item.
    next_tick: Option<u64>,
    /// Channel by channel, the time of the last row, and the reason when it had no value.
    told: Vec<Option<(BootNs, Option<NoData>)>>,
    readings: Vec<Reading>,
    values: u64,
}

/// A sensor's own code, by what it is fed with.
enum Driver {
    Edges(Box<dyn EdgeSensor + Send>),
    Frames { filters: Vec<CanFilter>, sensor: Box<dyn FrameSensor + Send> },
    Bytes(Box<dyn ByteSensor + Send>),
    Looks(Box<dyn LookSensor + Send>),
}

impl Driver {
    fn of(sensor: &Configured, origin: Origin) -> Self {
        match Wiring::of(sensor, origin) {
            Wiring::Edges { make, .. } => Driver::Edges(make()),
            Wiring::Can { filters, make, .. } => Driver::Frames { filters, sensor: make() },
            Wiring::Serial { make, .. } => Driver::Bytes(make()),
            Wiring::Modbus { slave, .. } => Driver::Bytes(Box::new(modbus::Alone::new(slave))),
            Wiring::Shaft { make, .. } => Driver::Looks(make()),
        }
    }

    fn sensor(&self) -> &dyn Sensor {
        match self {
            Driver::Edges(sensor) => sensor.as_ref(),
            Driver::Frames { sensor, .. } => sensor.as_ref(),
            Driver::Bytes(sensor) => sensor.as_ref(),
            Driver::Looks(sensor) => sensor.as_ref(),
        }
    }

    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        match self {
            Driver::Edges(sensor) => sensor.tick(now, out),
            Driver::Frames { sensor, .. } => sensor.tick(now, out),
            Driver::Bytes(sensor) => sensor.tick(now, out),
            Driver::Looks(sensor) => sensor.tick(now, out),
        }
    }

    fn take(&mut self, item: &Item, out: &mut Vec<Reading>) {
        match (self, &item.input) {
            (Driver::Edges(sensor), Input::Edge(edge)) => sensor.on_edge(edge),
            // As the kernel would let it pass: a CAN FD frame of the same identifier is another frame to most.
            (Driver::Frames { filters, sensor }, Input::Frame(frame)) if CanFilter::any_matches(filters, frame) => {
                sensor.on_frame(&TimedFrame { t: item.t, frame: *frame }, out);
            }
            (Driver::Bytes(sensor), Input::Bytes(bytes)) => sensor.on_bytes(item.t, bytes, out),
            (Driver::Looks(sensor), Input::Look(look)) => sensor.on_look(look, out),
            // A track only has players of its own kind.
            _ => {}
        }
    }
}

impl Player {
    fn new(sensor: &Configured, origin: Origin) -> Self {
        let (driver, report) = (Driver::of(sensor, origin), sensor.kind.report());
        Self {
            name: sensor.name.clone(),
            told: vec![None; driver.sensor().channels().len()],
            driver,
            period_ns: (report.as_nanos() as u64).max(1_000_000),
            next_tick: None,
            readings: Vec::new(),
            values: 0,
        }
    }

    fn take(&mut self, item: &Item, audience: &mut dyn Audience) -> io::Result<()> {
        self.tick_until(item.t.0, audience)?;
        self.driver.take(item, &mut self.readings);
        self.tell(audience)
    }

    /// Ticks on multiples of the report period before `t`: what comes at the very time of a tick comes first.
    fn tick_until(&mut self, t: u64, audience: &mut dyn Audience) -> io::Result<()> {
        let after = |t: u64| (t / self.period_ns + 1).saturating_mul(self.period_ns);
        let mut next = *self.next_tick.get_or_insert(after(t));
        let mut ticked_to = next.saturating_add(TICKED_HOLE_NS);
        while next < t {
            if next > ticked_to {
                next = t / self.period_ns * self.period_ns;
                ticked_to = u64::MAX;
            }
            self.driver.tick(BootNs(next), &mut self.readings);
            self.tell(audience)?;
            next = next.saturating_add(self.period_ns);
        }
        self.next_tick = Some(next);
        Ok(())
    }

    fn last_word(&mut self, end: BootNs, audience: &mut dyn Audience) -> io::Result<()> {
        let t = end.0.saturating_add(LAST_WORD_NS);
        self.tick_until(t, audience)?;
        self.driver.tick(BootNs(t), &mut self.readings);
        self.tell(audience)
    }

    /// Hands on what the sensor said: every value, and a lack of one when it begins or its reason changes. Times of a
    /// channel only grow.
    fn tell(&mut self, audience: &mut dyn Audience) -> io::Result<()> {
        for reading in self.readings.drain(..) {
            let (Some(told), Some(channel)) =
                (self.told.get_mut(reading.channel), self.driver.sensor().channels().get(reading.channel))
            else {
                continue;
            };
            let reason = reading.value.err();
            let news = told.is_none_or(|(t, before)| reading.t > t && (reason.is_none() || reason != before));
            if !news {
                continue;
            }
            *told = Some((reading.t, reason));
            self.values += u64::from(reason.is_none());
            audience.row(&Row {
                t: reading.t,
                sensor: &self.name,
                quantity: channel.quantity,
                decimals: decimals(channel.resolution_nano),
                value: reading.value,
            })?;
        }
        Ok(())
    }

    fn summary(&self) -> SensorSummary {
        SensorSummary { sensor: self.name.clone(), counters: self.driver.sensor().counters(), values: self.values }
    }
}

/// Three decimals more than the resolution has.
fn decimals(resolution_nano: u64) -> usize {
    // ilog10 of 1 mm/s, 1_000_000 nano, is 6: three decimals of its own.
    12 - resolution_nano.max(1).ilog10().min(9) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_three_decimals_more_than_its_channel_resolves() {
        assert_eq!(decimals(1_000_000), 6);
        assert_eq!(decimals(100), 10);
        assert_eq!(decimals(125_000_000), 4);
        assert_eq!(decimals(0), 12);
    }

    #[test]
    fn a_log_is_played_as_the_interface_named_unless_it_has_only_another() {
        assert_eq!(interface_in(&b"(1.0) vcan0 123#00\n(2.0) vcan0 123#00\n"[..], "can0"), "vcan0");
        assert_eq!(interface_in(&b"(1.0) vcan0 123#00\n(2.0) can0 123#00\n"[..], "can0"), "can0");
        assert_eq!(interface_in(&b""[..], "can0"), "can0");
    }
}
