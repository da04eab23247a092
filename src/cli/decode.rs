//! `speedwell decode`: frames to JSON.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::Exit;

/// Decode batch, manifest and live frames (as they go over MQTT) to JSON
#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// Files with one frame each; standard input when left out
    #[arg(value_name = "FRAME")]
    pub(crate) frames: Vec<PathBuf>,
    /// Manifest frames that batches are read with; without its manifest a batch is shown in raw steps
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Vec<PathBuf>,
}

/// Decodes.
pub(crate) fn run(args: DecodeArgs) -> ExitCode {
    eprintln!(
        "speedwell decode: not in this build yet ({} frames, {} manifests given)",
        args.frames.len(),
        args.manifest.len()
    );
    Exit::Software.into()
}
