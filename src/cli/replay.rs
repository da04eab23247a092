//! `speedwell replay`: recorded input through the same sensor and estimator code.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use speedwell::{
    agent::replay::{Audience, ReplayError, Row, Source, SourceKind, Summary, replay},
    board::recorded::BadLine,
    sensor::Counters,
};

use super::{ConfigArgs, Exit};

/// Bad lines told of a file; a file of another kind would have as many as it has lines.
const BAD_LINES_TOLD: u64 = 20;

/// Run recorded edges, CAN frames, serial bytes and encoder counts through the sensors of a configuration and print what they say
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Edges of a pin: CSV with the header `timestamp_ns,kind,seqno,line_seqno`; repeatable
    #[arg(long, value_name = "PIN=FILE", value_parser = recording)]
    pub(crate) edges: Vec<Recording>,
    /// Frames of a CAN interface, as candump -l writes them; repeatable
    #[arg(long, value_name = "IFACE=FILE", value_parser = recording)]
    pub(crate) can: Vec<Recording>,
    /// Bytes of a serial port, raw or with their times; repeatable
    #[arg(long, value_name = "PORT=FILE", value_parser = recording)]
    pub(crate) serial: Vec<Recording>,
    /// Looks at an encoder on I2C or SPI: CSV with the header `from_ns,to_ns,count,health`; repeatable
    #[arg(long, value_name = "SENSOR=FILE", value_parser = recording)]
    pub(crate) bus: Vec<Recording>,
    /// A folder that `speedwell record` wrote: every file in it
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    /// How readings are printed
    #[arg(long, value_enum, default_value = "csv")]
    pub(crate) format: Format,
}

/// A recording and what it was recorded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recording {
    /// Pin, interface or port, as the configuration names it.
    pub(crate) source: String,
    /// The file.
    pub(crate) file: PathBuf,
}

/// How readings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `time,sensor,quantity,value,unit,uncertainty,quality`
    Csv,
    /// One JSON object a line
    Json,
}

fn recording(text: &str) -> Result<Recording, String> {
    match text.split_once('=') {
        Some((source, file)) if !source.is_empty() && !file.is_empty() => {
            Ok(Recording { source: source.into(), file: file.into() })
        }
        _ => Err("wanted NAME=FILE, as in GPIO17=edges.csv".into()),
    }
}

/// Replays.
pub(crate) fn run(args: ReplayArgs) -> ExitCode {
    let given = [
        (SourceKind::Edges, &args.edges),
        (SourceKind::Can, &args.can),
        (SourceKind::Serial, &args.serial),
        (SourceKind::Bus, &args.bus),
    ];
    let mut sources: Vec<Source> =
        given.into_iter().flat_map(|(kind, recordings)| recordings.iter().map(move |r| r.source(kind))).collect();
    if let Some(folder) = &args.from {
        match recorded_in(folder) {
            Ok(found) => sources.extend(found),
            Err(cause) => {
                eprintln!("{}: {cause}", folder.display());
                return Exit::NoInput.into();
            }
        }
    }
    if sources.is_empty() {
        eprintln!("nothing to replay: give at least one of --edges, --can, --serial, --bus and --from");
        return Exit::Usage.into();
    }
    let config = match args.config.load() {
        Ok(config) => config,
        Err(exit) => return exit.into(),
    };
    let mut printer = Printer::new(args.format, io::stdout().lock());
    let outcome = printer.head().map_err(ReplayError::Write).and_then(|()| {
        let summary = replay(&config, &sources, &mut printer)?;
        printer.out.flush().map_err(ReplayError::Write)?;
        Ok(summary)
    });
    match outcome {
        Ok(summary) => tell(&summary).into(),
        // Whoever read along has seen enough, as with `| head`.
        Err(ReplayError::Write(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => Exit::Fine.into(),
        Err(error) => {
            eprintln!("{error}");
            exit_of(&error).into()
        }
    }
}

/// The files of a folder that `speedwell record` wrote, by their names.
fn recorded_in(folder: &Path) -> io::Result<Vec<Source>> {
    let forms = [
        (SourceKind::Edges, "edges-", ".csv"),
        (SourceKind::Can, "can-", ".log"),
        (SourceKind::Serial, "serial-", ".csv"),
        (SourceKind::Bus, "bus-", ".csv"),
    ];
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.path();
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
        let form = forms.iter().find_map(|(kind, before, after)| {
            let of = name.strip_prefix(before)?.strip_suffix(after)?;
            Some(Source { kind: *kind, name: of.to_owned(), file: file.clone() })
        });
        found.extend(form);
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    match found.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "no recording in this folder")),
        false => Ok(found),
    }
}

fn exit_of(error: &ReplayError) -> Exit {
    match error {
        ReplayError::NoSensor { .. } => Exit::Usage,
        ReplayError::Open { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => Exit::Permission,
        ReplayError::Open { .. } => Exit::NoInput,
        ReplayError::Write(_) => Exit::Io,
    }
}

/// Says what was played, on standard error, so that rows can be piped on.
fn tell(summary: &Summary) -> Exit {
    let mut exit = Exit::Fine;
    for file in &summary.files {
        let mut words = format!("{}: {} played, {} bad lines", file.file.display(), file.items, file.bad_lines);
        if !file.passed_over.is_empty() {
            words += &format!("; {}", file.passed_over);
        }
        if file.items == 0 {
            words += "; nothing in it could be used";
            exit = Exit::Data;
        } else if file.broken {
            exit = Exit::Io;
        }
        eprintln!("{words}");
    }
    for sensor in &summary.sensors {
        let Counters { inputs, lost, suspected, repaired, rejected } = sensor.counters;
        let (name, values) = (&sensor.sensor, sensor.values);
        eprintln!(
            "{name}: {values} values from {inputs} inputs; {lost} lost, {suspected} suspected lost, \
             {repaired} repaired, {rejected} rejected"
        );
    }
    exit
}

impl Recording {
    fn source(&self, kind: SourceKind) -> Source {
        Source { kind, name: self.source.clone(), file: self.file.clone() }
    }
}

/// Prints rows on standard output and complaints on standard error.
struct Printer<W: Write> {
    format: Format,
    out: BufWriter<W>,
    /// Bad lines told so far, file by file.
    told: BTreeMap<PathBuf, u64>,
}

impl<W: Write> Printer<W> {
    fn new(format: Format, out: W) -> Self {
        Self { format, out: BufWriter::new(out), told: BTreeMap::new() }
    }

    fn head(&mut self) -> io::Result<()> {
        match self.format {
            Format::Csv => writeln!(self.out, "time,sensor,quantity,value,unit,uncertainty,quality"),
            Format::Json => Ok(()),
        }
    }
}

impl<W: Write> Audience for Printer<W> {
    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        let number = |x: f64| format!("{x:.*}", row.decimals);
        let (value, uncertainty, quality) = match &row.value {
            // An uncertainty of 0 is one that nobody knows.
            Ok(v) => (
                number(v.value),
                if v.uncertainty > 0.0 { number(v.uncertainty) } else { String::new() },
                v.quality.name(),
            ),
            Err(reason) => (String::new(), String::new(), reason.name()),
        };
        let time = format!("{}.{:09}", row.t.0 / 1_000_000_000, row.t.0 % 1_000_000_000);
        let (sensor, quantity, unit) = (row.sensor, row.quantity.name(), row.quantity.unit());
        match self.format {
            // Names of sensors have no comma and no quotation mark in them: the configuration sees to that.
            Format::Csv => writeln!(self.out, "{time},{sensor},{quantity},{value},{unit},{uncertainty},{quality}"),
            Format::Json => {
                let null = |number: String| if number.is_empty() { "null".to_owned() } else { number };
                let (value, uncertainty) = (null(value), null(uncertainty));
                writeln!(
                    self.out,
                    r#"{{"time":{time},"sensor":"{sensor}","quantity":"{quantity}","value":{value},"unit":"{unit}","uncertainty":{uncertainty},"quality":"{quality}"}}"#
                )
            }
        }
    }

    fn bad_line(&mut self, file: &Path, bad: &BadLine) {
        let told = self.told.entry(file.to_owned()).or_default();
        *told += 1;
        match *told {
            ..=BAD_LINES_TOLD => eprintln!("{}:{bad}", file.display()),
            n if n == BAD_LINES_TOLD + 1 => eprintln!("{}: further bad lines are only counted", file.display()),
            _ => {}
        }
    }

    fn note(&mut self, file: &Path, note: &str) {
        eprintln!("{}: {note}", file.display());
    }
}
