//! `speedwell spool`: looks at a spool, on this gateway or on its card in another machine.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use speedwell::spool::{OpenError, Options, Reader, Spool};
use speedwell_wire::{LossReason, Record, record};

use super::{
    BoardDirs, ConfigArgs, Exit,
    export::{self, Format},
    summary,
};

/// Problems of one kind told one by one; more are only counted.
const TOLD: u64 = 20;

/// Look at a spool, check it, export it, repair it
///
/// All but `repair` write nothing, so a card may be mounted read-only, and damaged.
#[derive(Debug, Args)]
pub(crate) struct SpoolArgs {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Tell what a spool holds
    Info(Place),
    /// Read every record and tell what cannot be read
    Verify(Place),
    /// Print samples, events, losses and clock fixes, as far as they can be read
    Export(ExportArgs),
    /// Set damage aside, as the agent does when it starts, and tell what was done
    Repair(Place),
}

/// Which spool.
#[derive(Debug, Args)]
struct Place {
    /// The spool's directory, wherever its card is mounted; otherwise it is the one of the configuration
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "SPEEDWELL_CONFIG", default_value = "/etc/speedwell/gateway.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// How it is printed
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// The first record wanted; by default the oldest that is there
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
}

/// Does it.
pub(crate) fn run(args: SpoolArgs) -> ExitCode {
    let done = match args.command {
        What::Info(place) => reader(&place).map(|(reader, dir)| info(&reader, &dir)),
        What::Verify(place) => unused(&place).map(|(reader, _)| verify(&reader)),
        What::Export(args) => unused(&args.place).map(|(reader, _)| export::run(&reader, args.format, args.from)),
        What::Repair(place) => repair(&place),
    };
    done.unwrap_or_else(|exit| exit).into()
}

fn options(place: &Place) -> Result<Options, Exit> {
    match &place.directory {
        // Nothing is to be dropped by looking: bounds are the agent's.
        Some(directory) => Ok(Options { max_size: 1 << 40, keep_free: 0, ..Options::new(directory) }),
        None => {
            let config = ConfigArgs { config: place.config.clone(), boards: BoardDirs { boards: Vec::new() } };
            config.load().map(|config| Options { fallback_to_memory: false, ..config.spool_options() })
        }
    }
}

fn failed(error: &OpenError) -> Exit {
    eprintln!("speedwell spool: {error}");
    match error {
        OpenError::Permission { .. } => Exit::Permission,
        OpenError::NoSpool { .. } | OpenError::NotADirectory { .. } => Exit::NoInput,
        OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::NoInput,
        OpenError::Io { .. } => Exit::Io,
        OpenError::FutureVersion { .. } | OpenError::Damaged { .. } => Exit::Data,
        OpenError::Locked { .. } => Exit::Unavailable,
        OpenError::NotSyncing => Exit::Software,
        _ => Exit::Spool,
    }
}

fn reader(place: &Place) -> Result<(Reader, PathBuf), Exit> {
    let directory = options(place)?.directory;
    let reader = Reader::open(&directory).map_err(|error| failed(&error))?;
    Ok((reader, directory))
}

/// A spool that nobody writes: what is removed while it is read would look like damage.
fn unused(place: &Place) -> Result<(Reader, PathBuf), Exit> {
    let (reader, directory) = reader(place)?;
    match reader.in_use() {
        Some(pid) => Err(failed(&OpenError::Locked { path: directory, pid })),
        None => Ok((reader, directory)),
    }
}

fn info(reader: &Reader, dir: &Path) -> Exit {
    if let Some(pid) = reader.in_use() {
        eprintln!("warning: process {pid} writes to it: what follows changes while it is read");
    }
    print!("{}", told(reader, dir));
    for problem in reader.problems() {
        eprintln!("warning: {problem}");
    }
    if reader.problems().is_empty() { Exit::Fine } else { Exit::Data }
}

fn told(reader: &Reader, dir: &Path) -> String {
    let generations = reader.generations();
    let last = generations.iter().filter_map(|generation| generation.last).max().unwrap_or(0);
    let confirmed = reader.confirmed();
    let log = reader.log().map_or_else(|| "unknown".to_owned(), |log| log.to_string());
    let waiting = last.saturating_sub(confirmed);
    let mut text = format!("spool        {}\nlog          {log}\n", dir.display());
    text += &format!("last record  {last}\nconfirmed    {confirmed}\nunconfirmed  {waiting}\n");
    text += &format!("on disk      {}\n", summary::bytes(reader.disk_bytes()));
    text += &format!("manifests    {}\n", reader.manifests().len());
    for (reason, first, last) in reader.dropped() {
        text += &format!("lost         {first}..={last} ({})\n", reason.name());
    }
    if reader.quarantined() > 0 {
        text += &format!("set aside    {} damaged generations, in quarantine/\n", reader.quarantined());
    }
    let rows: Vec<[String; 5]> = generations
        .iter()
        .map(|generation| {
            let last = generation.last.map_or_else(|| "none can be read".to_owned(), |last| last.to_string());
            let mut kind = if generation.sealed { "sealed" } else { "database" }.to_owned();
            kind += if generation.thinned { ", thinned" } else { "" };
            kind += if generation.salvaged { ", salvaged" } else { "" };
            let name = format!("{:016x}", generation.first);
            [name, generation.first.to_string(), last, summary::bytes(generation.disk_bytes), kind]
        })
        .collect();
    text + "\n" + &summary::table(["generation", "first", "last", "on disk", "kind"], &rows)
}

/// What a walk found.
#[derive(Default)]
struct Seen {
    records: u64,
    undecodable: u64,
    unknown_manifest: u64,
    missing: u64,
}

impl Seen {
    fn bad(&self) -> u64 {
        self.undecodable + self.unknown_manifest + self.missing
    }

    fn complain(&mut self, words: &str) {
        match self.bad() {
            ..=TOLD => eprintln!("{words}"),
            n if n == TOLD + 1 => eprintln!("further damage is only counted"),
            _ => {}
        }
    }
}

fn verify(reader: &Reader) -> Exit {
    let mut seen = Seen::default();
    reader.each(1, |entry| {
        let (first, last) = (entry.first, entry.first + entry.span - 1);
        match record::decode(&entry.bytes) {
            Err(error) => {
                seen.undecodable += 1;
                seen.complain(&format!("record {first}: {error}"));
            }
            Ok(Record::Loss(loss)) if loss.reason == LossReason::Damaged && loss.records == entry.span => {
                seen.missing += entry.span;
                seen.complain(&format!("records {first}..={last}: cannot be read"));
            }
            Ok(Record::Samples(samples)) if !reader.manifests().contains_key(&samples.manifest) => {
                seen.unknown_manifest += 1;
                seen.complain(&format!("record {first}: its manifest {} is not kept", samples.manifest));
            }
            Ok(_) => seen.records += 1,
        }
        ControlFlow::Continue(())
    });
    for problem in reader.problems() {
        eprintln!("{problem}");
    }
    println!("{} entries are whole; {} records cannot be read", seen.records, seen.missing);
    println!("{} cannot be decoded; {} lack their manifest", seen.undecodable, seen.unknown_manifest);
    if seen.bad() == 0 && reader.problems().is_empty() {
        println!("the spool is whole");
        return Exit::Fine;
    }
    println!("`speedwell spool export` gives what can be read, `speedwell spool repair` sets damage aside");
    Exit::Data
}

fn repair(place: &Place) -> Result<Exit, Exit> {
    let options = options(place)?;
    // To open it for writing would make a spool where there is none.
    Reader::open(&options.directory).map_err(|error| failed(&error))?;
    let (spool, opened) = Spool::open(options).map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| {
        eprintln!("speedwell spool: the system gives no event loop: {error}");
        Exit::Io
    })?;
    let mut told = opened.findings;
    let read = runtime.block_on(async {
        let mut next = opened.oldest_seq;
        // Reading meets the damage that opening does not.
        loop {
            let some = spool.read_from(next, 64 << 10).await?;
            told.extend(spool.take_notices());
            match some.last() {
                Some(last) => next = last.first + last.span,
                None => return spool.close().await,
            }
        }
    });
    told.iter().for_each(|words| println!("{words}"));
    if let Err(error) = read {
        eprintln!("speedwell spool: {error}");
        return Err(Exit::Io);
    }
    if told.is_empty() {
        println!("nothing was damaged");
    }
    println!("the log goes on with record {}", opened.last_seq + 1);
    Ok(Exit::Fine)
}
