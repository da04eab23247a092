//! `speedwell replay`: recorded input through the same sensor and estimator code.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};

use super::{ConfigArgs, Exit};

/// Run recorded edges, CAN frames and serial bytes through the sensors of a configuration and print what they say
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
    /// Bytes of a serial port; repeatable
    #[arg(long, value_name = "PORT=FILE", value_parser = recording)]
    pub(crate) serial: Vec<Recording>,
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
    match args.config.load() {
        Ok(_) => {
            let n = args.edges.len() + args.can.len() + args.serial.len();
            eprintln!("speedwell replay: not in this build yet ({n} recordings, format {:?})", args.format);
            for recording in args.edges.iter().chain(&args.can).chain(&args.serial) {
                eprintln!("  {} from {}", recording.source, recording.file.display());
            }
            Exit::Software.into()
        }
        Err(exit) => exit.into(),
    }
}
