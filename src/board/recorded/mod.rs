//! Recordings: edges, CAN frames, serial bytes and looks at a chip out of files and into them, each with the time on the recording's own clock.
//!
//! In      an edges file (CSV `timestamp_ns,kind,seqno,line_seqno`), a candump log, the bytes of a serial port, raw or with
//!         their times, or looks at a chip.
//! Out     one [`Item`] after another in order of time, or a [`BadLine`] for what could not be read; never both.
//! Keeps   a line, for serial bytes a sentence: a recording of days needs no more memory than one of seconds.
//!
//! `t` is nanoseconds on the recording's clock: an edges file's own `timestamp_ns`, a candump log's seconds, and for raw
//! serial bytes, which carry no time, the UTC of the RMC sentences among them. [`Writer`] writes what is read here.

mod candump;
mod edges;
mod sentences;
mod timed;
mod write;

use std::{
    fmt,
    io::{self, BufRead},
};

pub use candump::Candump;
pub use edges::EdgesFile;
pub use sentences::SerialFile;
pub use timed::{BUS_HEADER, BYTES_MAX, BusFile, SERIAL_HEADER, TimedBytes};
pub use write::Writer;

use crate::{
    clock::BootNs,
    sensor::{Edge, Frame, shaft::Look},
};

/// A line longer than this is no line of ours: the longest of a candump log is 160 bytes.
const LINE_BYTES_MAX: usize = 4096;

/// What a recording holds, with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// When, on the recording's clock.
    pub t: BootNs,
    /// What.
    pub input: Input,
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// An edge.
    Edge(Edge),
    /// A CAN frame.
    Frame(Frame),
    /// Bytes of a serial port.
    Bytes(Vec<u8>),
    /// A look at a chip.
    Look(Look),
}

/// A line that could not be taken; reading goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.reason)
    }
}

/// Why reading a recording ended early.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file could not be read any further.
    #[error("line {line}: {cause}")]
    Io {
        /// Lines read so far.
        line: u64,
        /// Why.
        cause: io::Error,
    },
    /// The file is something else.
    #[error("{0}")]
    NotOne(String),
}

/// One step of a recording.
pub type Step = Result<Item, BadLine>;

/// A recording, read from its beginning.
pub trait Recording {
    /// The next item or bad line; `None` at the end.
    fn next_step(&mut self) -> Result<Option<Step>, RecordingError>;
    /// What was passed over or put right on purpose, in words, with its count: "12 CAN FD frames"; empty when nothing
    /// was.
    fn passed_over(&self) -> String;
}

/// Lines of a file, none longer than [`LINE_BYTES_MAX`].
struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader, line: Vec::with_capacity(256), number: 0 }
    }

    /// The next line without its end, and its number; `Err` inside when it is too long or not text.
    #[allow(clippy::type_complexity, reason = "the end, a failing disk and a bad line are three things")]
    fn next(&mut self) -> Result<Option<Result<(u64, &str), BadLine>>, RecordingError> {
        self.line.clear();
        let mut too_long = false;
        loop {
            let available = self.reader.fill_buf().map_err(|cause| RecordingError::Io { line: self.number, cause })?;
            if available.is_empty() {
                if self.line.is_empty() && !too_long {
                    return Ok(None);
                }
                break;
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = end.unwrap_or(available.len());
            let room = LINE_BYTES_MAX - self.line.len();
            too_long |= taken > room;
            self.line.extend_from_slice(&available[..taken.min(room)]);
            self.reader.consume(end.map_or(taken, |end| end + 1));
            if end.is_some() {
                break;
            }
        }
        self.number += 1;
        let bad = |reason: String| Ok(Some(Err(BadLine { line: self.number, reason })));
        if too_long {
            return bad(format!("longer than {LINE_BYTES_MAX} bytes"));
        }
        match str::from_utf8(&self.line) {
            Ok(text) => Ok(Some(Ok((self.number, text.trim_end_matches('\r'))))),
            Err(_) => bad("not text".into()),
        }
    }
}

impl<R> fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The first line that is no remark, without what editors put before it and between its fields.
fn skip_remarks<R: BufRead>(lines: &mut Lines<R>) -> Result<String, RecordingError> {
    loop {
        match lines.next()? {
            Some(Ok((_, text))) if text.starts_with('#') => {}
            Some(Ok((_, text))) => {
                let fields: Vec<&str> = text.trim_start_matches('\u{FEFF}').split(',').map(str::trim).collect();
                return Ok(fields.join(","));
            }
            Some(Err(bad)) => return Err(RecordingError::NotOne(format!("line {bad}"))),
            None => return Err(RecordingError::NotOne("empty: a recording begins with its header".into())),
        }
    }
}

fn number<N: std::str::FromStr>(name: &str, text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{name} is {}, not a whole number in range", shown(text)))
}

/// Shows what was read, cut to a length that fits a message.
fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 40;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_never_ends_is_one_bad_line_and_the_next_is_good() {
        let text = format!("{}\ngood\r\nlast", "x".repeat(100_000));
        let mut lines = Lines::new(io::BufReader::with_capacity(64, text.as_bytes()));
        assert!(lines.next().unwrap().unwrap().unwrap_err().reason.contains("longer than 4096"));
        assert_eq!(lines.next().unwrap().unwrap().unwrap(), (2, "good"));
        assert_eq!(lines.next().unwrap().unwrap().unwrap(), (3, "last"));
        assert!(lines.next().unwrap().is_none());
    }

    #[test]
    fn a_line_that_is_no_text_is_told() {
        let mut lines = Lines::new(&b"\xFF\xFE\nok\n"[..]);
        assert_eq!(lines.next().unwrap().unwrap().unwrap_err().to_string(), "1: not text");
        assert_eq!(lines.next().unwrap().unwrap().unwrap().1, "ok");
    }
}
