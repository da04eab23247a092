//! `kind = "dbc"`: a signal that a DBC file describes.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use super::{Claims, DEFAULT_REPORT, REPORT, TIMEOUT, can, scale};
use crate::{
    config::walk::{Section, Spot, Walk},
    sensor::{
        dbc::{DbcFile, MAX_FILE, Message, Options},
        unit::Unit,
    },
};

/// `kind = "dbc"`: a signal that a DBC file describes.
#[derive(Clone, Debug, PartialEq)]
pub struct DbcSensor {
    /// CAN interface.
    pub interface: String,
    /// What is listened to.
    pub options: Options,
}

/// Nothing is said of the message's period: silence of half a second.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);
/// So many messages have to be missing.
const MISSING_MESSAGES: u32 = 3;
/// Names shown where one was not found.
const NAMES_SHOWN: usize = 8;

pub(super) fn read(walk: &mut Walk<'_>, section: &Section<'_>, claims: &Claims) -> Option<DbcSensor> {
    let interface = can::interface(walk, section);
    let file = walk.required_text(section, "file", "the DBC file, as file = \"vehicle.dbc\"");
    let message = walk.required_text(section, "message", "the message's name in the file");
    let signal = walk.required_text(section, "signal", "the signal's name in the message");
    let counter = walk.text(section, "counter");
    let any_sender = walk.flag(section, "any-sender").unwrap_or(false);
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let timeout = walk.time(section, "timeout", TIMEOUT);
    let told = Told { message: message?, signal: signal?, counter };
    let (message, signal, counter) = found(walk, &file?, told, claims)?;
    let its_own = unit_of(&message.signals[signal].unit);
    if its_own.is_none() && !section.has("unit") {
        let unit = &message.signals[signal].unit;
        walk.missing(section, "unit", &format!("the file says {unit:?}, which is none that is known here"));
    }
    let unit = if section.has("unit") { scale::unit(walk, section, None) } else { its_own };
    let cycle = message.cycle_ms.map(|ms| Duration::from_millis(ms.into()) * MISSING_MESSAGES);
    let timeout = timeout.or(cycle).unwrap_or(DEFAULT_TIMEOUT);
    let message = Arc::new(message);
    let options = Options { message, signal, counter, unit: unit?, any_sender, report, timeout };
    Some(DbcSensor { interface: interface?, options })
}

/// Names as they are written.
struct Told {
    message: Spot<String>,
    signal: Spot<String>,
    counter: Option<Spot<String>>,
}

/// The message with the indices of the signal and the counter.
fn found(
    walk: &mut Walk<'_>,
    file: &Spot<String>,
    told: Told,
    claims: &Claims,
) -> Option<(Message, usize, Option<usize>)> {
    let path = claims.base.join(&file.value);
    let dbc = match bytes(&path) {
        Ok(bytes) => DbcFile::parse(&bytes),
        Err(cause) => {
            walk.wrong(file, format!("{}: {cause}", path.display()));
            return None;
        }
    };
    if dbc.messages.is_empty() {
        walk.wrong(file, format!("{} has no message that can be read: is it a DBC file?", path.display()));
        return None;
    }
    let Some(message) = dbc.message(&told.message.value) else {
        let names: Vec<&str> = dbc.messages.iter().map(|message| message.name.as_str()).collect();
        unknown(walk, &told.message, &names, "message", &file.value);
        return None;
    };
    let signals: Vec<&str> = message.signals.iter().map(|signal| signal.name.as_str()).collect();
    let Some(signal) = message.signal(&told.signal.value) else {
        unknown(walk, &told.signal, &signals, "signal", &message.name);
        return None;
    };
    let counter = match &told.counter {
        Some(spot) => match message.signal(&spot.value) {
            Some(counter) => Some(counter),
            None => {
                unknown(walk, spot, &signals, "signal", &message.name);
                return None;
            }
        },
        None => None,
    };
    if dbc.bad_lines > 0 {
        let first = dbc.complaints.first().map_or_else(String::new, |bad| format!("line {}: {}", bad.line, bad.why));
        tracing::debug!(file = %path.display(), bad_lines = dbc.bad_lines, first, "lines of the DBC file are left out");
    }
    Some((message.clone(), signal, counter))
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    if size > MAX_FILE as u64 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes, at most {MAX_FILE} are taken")));
    }
    fs::read(path)
}

fn unknown(walk: &mut Walk<'_>, spot: &Spot<String>, names: &[&str], what: &str, place: &str) {
    let message = format!("{place} has no {what} {:?}", spot.value);
    let complaint = walk.wrong(spot, message);
    complaint.meant(&spot.value, names.iter().copied());
    let shown = names.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    complaint.note(format!("it has {shown}{rest}"));
}

/// The unit that a file's word means: DBC files write them as they please.
fn unit_of(word: &str) -> Option<Unit> {
    let word = word.trim().to_ascii_lowercase();
    let meant = match word.as_str() {
        "kph" | "kmh" | "kmph" | "km/hr" => "km/h",
        "1/min" | "u/min" | "r/min" | "/min" => "rpm",
        "mps" => "m/s",
        "miles/h" | "mi/h" => "mph",
        "knots" | "kts" | "kt" => "kn",
        "m/s^2" | "m/s/s" | "m/s\u{b2}" => "m/s2",
        "degrees" | "degree" | "\u{b0}" => "deg",
        other => other,
    };
    (meant != "1").then(|| Unit::named(meant)).flatten()
}
