//! `speedwell decode`: frames to JSON, one line a message.

use std::{
    io::{ErrorKind, Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use serde::{Serialize, de::DeserializeOwned};
use speedwell_wire::{Batch, ClockFix, ClockSource, Live, Manifest, Record, frame, json};

use super::Exit;

/// Largest input, in bytes: a day of a gateway's frames as hex lines; it is held in memory.
const MAX_INPUT: u64 = 256 << 20;

/// Decode batch, manifest and live frames (as they go over MQTT) to JSON
#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// Files with one frame each, or with frames as lines of hex digits; standard input when left out
    #[arg(value_name = "FRAME")]
    pub(crate) frames: Vec<PathBuf>,
    /// Manifests (frames or JSON) that batches are read with; without its manifest a batch is shown in raw steps
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Vec<PathBuf>,
}

/// Decodes. A frame that cannot be read is told on standard error and does not stop the others.
pub(crate) fn run(args: DecodeArgs) -> ExitCode {
    let mut decoder = Decoder::default();
    let mut exit = Exit::Fine;
    for path in &args.manifest {
        let manifest = read(path).and_then(|bytes| {
            let manifest = frame::decode_any::<Manifest>(&bytes);
            manifest.map_err(|error| (Exit::Data, format!("{}: no manifest: {error}", path.display())))
        });
        match manifest {
            Ok(manifest) => decoder.manifests.push(manifest),
            Err((code, message)) => exit = told(code, &message),
        }
    }
    let stdin = [PathBuf::from("-")];
    let inputs = if args.frames.is_empty() { &stdin[..] } else { &args.frames[..] };
    for path in inputs {
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err((code, message)) => {
                exit = told(code, &message);
                continue;
            }
        };
        for (i, bytes) in split(&bytes).into_iter().enumerate() {
            match decoder.message(&bytes) {
                // Whoever reads us may have read enough.
                Ok(line) if writeln!(std::io::stdout(), "{line}").is_err() => return Exit::Io.into(),
                Ok(_) => {}
                Err(why) => exit = told(Exit::Data, &format!("{}: frame {}: {why}", path.display(), i + 1)),
            }
        }
    }
    exit.into()
}

fn told(code: Exit, message: &str) -> Exit {
    eprintln!("speedwell decode: {message}");
    code
}

fn read(path: &PathBuf) -> Result<Vec<u8>, (Exit, String)> {
    let mut bytes = Vec::new();
    let result = if path.as_os_str() == "-" {
        std::io::stdin().take(MAX_INPUT + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_INPUT + 1).read_to_end(&mut bytes))
    };
    match result {
        Ok(_) if bytes.len() as u64 > MAX_INPUT => {
            Err((Exit::Data, format!("{}: longer than {MAX_INPUT} bytes", path.display())))
        }
        Ok(_) => Ok(bytes),
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::NotFound => Exit::NoInput,
                ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::Io,
            };
            Err((code, format!("{}: {error}", path.display())))
        }
    }
}

/// One frame of raw bytes, or a frame a line of hex digits: no frame begins with a hex digit.
fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hex = |line: &[u8]| -> Option<Vec<u8>> {
        let text = std::str::from_utf8(line).ok()?;
        if !text.is_ascii() || text.len() % 2 != 0 {
            return None;
        }
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
    };
    let lines = bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let frames: Option<Vec<_>> = lines.map(hex).collect();
    frames.filter(|frames| !frames.is_empty()).unwrap_or_else(|| vec![bytes.to_vec()])
}

/// Remembers the manifests and clock fixes that went by, for the batches after them.
#[derive(Default)]
struct Decoder {
    manifests: Vec<Manifest>,
    fixes: Vec<ClockFix>,
}

impl Decoder {
    fn message(&mut self, bytes: &[u8]) -> Result<String, String> {
        if frame::is_json(bytes) {
            return String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string());
        }
        // Postcard does not say what it holds: it is what comes out the same when written again.
        if let Some(batch) = exactly::<Batch>(bytes) {
            return self.batch(&batch);
        }
        if let Some(manifest) = exactly::<Manifest>(bytes) {
            let text = serde_json::to_string(&manifest).map_err(|e| e.to_string());
            self.manifests.push(manifest);
            return text;
        }
        if let Some(live) = exactly::<Live>(bytes) {
            let manifest = self.manifests.iter().find(|manifest| manifest.hash() == live.manifest);
            return json::live_to_json(&live, manifest).map_err(|e| e.to_string());
        }
        Err(match frame::decode::<Batch>(bytes) {
            Err(error) => error.to_string(),
            Ok(_) => "neither batch nor manifest nor live values as this version knows them".into(),
        })
    }

    fn batch(&mut self, batch: &Batch) -> Result<String, String> {
        self.fixes.extend(batch.entries.iter().filter_map(|entry| match entry.record {
            Record::Clock(fix) if fix.source != ClockSource::Untrusted => Some(fix),
            _ => None,
        }));
        let manifest_of = |hash| self.manifests.iter().find(|manifest| manifest.hash() == hash);
        json::batch_to_json(batch, manifest_of, |boot, t_ns| self.utc(boot, t_ns)).map_err(|e| e.to_string())
    }

    /// By the fix nearest in time of the same boot: `utc_ns + (t - boot_ns) * (1 + rate_ppb / 1e9)`.
    fn utc(&self, boot: u32, t_ns: u64) -> Option<i64> {
        let fixes = self.fixes.iter().filter(|fix| fix.boot == boot);
        let fix = fixes.min_by_key(|fix| fix.boot_ns.abs_diff(t_ns))?;
        let since = i128::from(t_ns) - i128::from(fix.boot_ns);
        let utc = i128::from(fix.utc_ns) + since + since * i128::from(fix.rate_ppb) / 1_000_000_000;
        i64::try_from(utc).ok()
    }
}

fn exactly<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    frame::decode::<T>(bytes).ok().filter(|message| frame::encode(message) == bytes)
}
