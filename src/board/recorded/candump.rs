//! A log as `candump -l` writes it: `(seconds.microseconds) interface ID#DATA`, one frame a line.
//!
//! ```text
//! (1436509052.249713) can0 18FEF100#F3003C0000FF1FFF     a frame with a 29-bit identifier (8 digits)
//! (1436509052.449847) can0 123#R                         a remote frame with an 11-bit one (3 digits)
//! (1436509052.749213) can0 123##1112233                  a CAN FD frame, with a digit of flags before its data
//! (1436509052.849213) can0 20000004#0004000000000000     an error frame: counted, and told what it says of the bus
//! ```

use std::{collections::BTreeMap, io::BufRead};

use embedded_can::Frame as _;

use super::{BadLine, Input, Item, Lines, Recording, RecordingError, Step, shown};
use crate::{
    board::{BusState, ErrorFrame},
    clock::BootNs,
    sensor::{
        Frame,
        field::MAX_PAYLOAD,
        frame::{MAX_DATA_BYTES, id_of},
    },
};

/// CAN_ERR_FLAG: in a log an error frame is an 8-digit identifier with this bit.
const ERROR_FLAG: u32 = 0x2000_0000;

/// Interfaces counted by name; a log has a handful.
const INTERFACES_MAX: usize = 64;

/// Reads a candump log.
#[derive(Debug)]
pub struct Candump<R> {
    lines: Lines<R>,
    interface: String,
    last: BootNs,
    errors: u64,
    /// The worst that they say of the bus.
    worst: BusState,
    others: BTreeMap<String, u64>,
}

/// What a line of a log holds.
enum Line<'a> {
    Frame(Frame),
    Error(ErrorFrame),
    Other(&'a str),
}

impl<R: BufRead> Candump<R> {
    /// From its beginning; frames of other interfaces than this are passed over.
    pub fn new(reader: R, interface: &str) -> Self {
        let lines = Lines::new(reader);
        let (errors, worst, others) = (0, BusState::Active, BTreeMap::new());
        Self { lines, interface: interface.into(), last: BootNs(0), errors, worst, others }
    }

    /// Interfaces whose frames were passed over.
    pub fn other_interfaces(&self) -> impl Iterator<Item = &str> {
        self.others.keys().map(String::as_str)
    }
}

impl<R: BufRead> Recording for Candump<R> {
    fn next_step(&mut self) -> Result<Option<Step>, RecordingError> {
        loop {
            let (line, text) = match self.lines.next()? {
                None => return Ok(None),
                Some(Err(bad)) => return Ok(Some(Err(bad))),
                Some(Ok((_, text))) if text.trim().is_empty() || text.starts_with('#') => continue,
                Some(Ok(found)) => found,
            };
            match parse(text, &self.interface) {
                Ok((t, _)) if t < self.last => {
                    let reason = format!("time goes back: {} after {}", seconds(t), seconds(self.last));
                    return Ok(Some(Err(BadLine { line, reason })));
                }
                Ok((t, Line::Frame(frame))) => {
                    self.last = t;
                    return Ok(Some(Ok(Item { t, input: Input::Frame(frame) })));
                }
                Ok((_, Line::Error(error))) => {
                    self.errors += 1;
                    self.worst = self.worst.max(error.state().unwrap_or_default());
                }
                Ok((_, Line::Other(name))) => {
                    if self.others.len() < INTERFACES_MAX || self.others.contains_key(name) {
                        *self.others.entry(name.to_owned()).or_default() += 1;
                    }
                }
                Err(reason) => return Ok(Some(Err(BadLine { line, reason }))),
            }
        }
    }

    fn passed_over(&self) -> String {
        let mut words = Vec::new();
        if self.errors > 0 {
            let state = if self.worst == BusState::Active { String::new() } else { format!(" (bus: {})", self.worst) };
            words.push(format!("{} error frames{state}", self.errors));
        }
        words.extend(self.others.iter().map(|(name, count)| format!("{count} frames of {name}")));
        if words.is_empty() { String::new() } else { format!("passed over {}", words.join(", ")) }
    }
}

fn seconds(t: BootNs) -> String {
    format!("{}.{:06}", t.0 / 1_000_000_000, t.0 % 1_000_000_000 / 1_000)
}

fn parse<'a>(text: &'a str, interface: &str) -> Result<(BootNs, Line<'a>), String> {
    let mut words = text.split_ascii_whitespace();
    let mut word = |name: &str| words.next().ok_or_else(|| format!("no {name} in {}", shown(text)));
    let t = time(word("time")?)?;
    let name = word("interface")?;
    let frame = word("frame")?;
    // candump -x adds the direction; anything else is another format.
    if let Some(rest) = words.next()
        && !matches!(rest, "R" | "T")
    {
        return Err(format!("{} behind the frame in {}", shown(rest), shown(text)));
    }
    if name != interface {
        return Ok((t, Line::Other(name)));
    }
    frame_or_error(frame).map(|line| (t, line))
}

/// `(seconds.fraction)`, the fraction of one to nine digits.
fn time(word: &str) -> Result<BootNs, String> {
    let bad = || format!("time is {}, not (seconds.microseconds)", shown(word));
    let inner = word.strip_prefix('(').and_then(|w| w.strip_suffix(')')).ok_or_else(bad)?;
    let (whole, fraction) = inner.split_once('.').ok_or_else(bad)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(bad());
    }
    let nanoseconds = fraction.parse::<u64>().map_err(|_| bad())? * 10u64.pow(9 - fraction.len() as u32);
    let whole = whole.parse::<u64>().ok().and_then(|s| s.checked_mul(1_000_000_000)).ok_or_else(bad)?;
    whole.checked_add(nanoseconds).map(BootNs).ok_or_else(bad)
}

fn frame_or_error(word: &str) -> Result<Line<'static>, String> {
    let (id, data) = word.split_once('#').ok_or_else(|| format!("frame is {}, not ID#DATA", shown(word)))?;
    let hex = id.bytes().all(|b| b.is_ascii_hexdigit());
    let raw = u32::from_str_radix(id, 16).ok().filter(|_| hex && matches!(id.len(), 3 | 8));
    let raw = raw.ok_or_else(|| format!("identifier is {}, not 3 or 8 hexadecimal digits", shown(id)))?;
    if id.len() == 8 && raw & ERROR_FLAG != 0 {
        let (bytes, _) = payload::<MAX_DATA_BYTES>(data)?;
        return Ok(Line::Error(ErrorFrame { class: raw & !ERROR_FLAG, data: bytes }));
    }
    let id = id_of(raw, id.len() == 8).ok_or_else(|| format!("identifier {} has too many bits", shown(id)))?;
    if let Some(fd) = data.strip_prefix('#') {
        // Its flags (bit rate switched, error state) say nothing that is needed here.
        let data = fd.strip_prefix(|c: char| c.is_ascii_hexdigit());
        let data = data.ok_or_else(|| format!("frame is {}, without the flags of a CAN FD frame", shown(word)))?;
        let (bytes, len) = payload::<MAX_PAYLOAD>(data)?;
        let frame = Frame::new_fd(id, &bytes[..len]);
        return frame.map(Line::Frame).ok_or_else(|| format!("{len} bytes are no length of a CAN FD frame"));
    }
    let frame = match data.strip_prefix('R') {
        Some(length) => Frame::new_remote(id, remote_length(length)?),
        None => {
            let (bytes, len) = payload::<MAX_DATA_BYTES>(data)?;
            Frame::new(id, &bytes[..len])
        }
    };
    frame.map(Line::Frame).ok_or_else(|| format!("frame {} is no classic CAN frame", shown(word)))
}

/// `R`, `R0` to `R8`; candump may add `_` and a raw length code.
fn remote_length(text: &str) -> Result<usize, String> {
    let text = text.split('_').next().unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| format!("length of a remote frame is {}, not 0 to 8", shown(text)))
}

/// Up to `N` bytes in hexadecimal, `.` between them allowed; candump may add `_` and a raw length code.
fn payload<const N: usize>(text: &str) -> Result<([u8; N], usize), String> {
    let bad = || format!("data is {}, not up to {N} bytes in hexadecimal", shown(text));
    let (mut bytes, mut nibbles) = ([0u8; N], 0usize);
    for c in text.split('_').next().unwrap_or_default().bytes().filter(|&c| c != b'.') {
        let nibble = (c as char).to_digit(16).ok_or_else(bad)? as u8;
        let byte = bytes.get_mut(nibbles / 2).ok_or_else(bad)?;
        *byte = *byte << 4 | nibble;
        nibbles += 1;
    }
    if nibbles % 2 == 0 { Ok((bytes, nibbles / 2)) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> (Vec<Step>, String) {
        let mut log = Candump::new(text.as_bytes(), "can0");
        let steps = std::iter::from_fn(|| log.next_step().unwrap()).collect();
        (steps, log.passed_over())
    }

    #[test]
    fn frames_come_with_their_time_to_the_microsecond() {
        let (steps, _) =
            steps("(1436509052.249713) can0 18FEF100#F3003C0000FF1FFF\n(1436509052.25) can0 7FF#01.02 R\n");
        let item = steps[0].clone().unwrap();
        assert_eq!(item.t.0, 1_436_509_052_249_713_000);
        let Input::Frame(frame) = item.input else { panic!("no frame") };
        assert_eq!((frame.raw_id(), frame.is_extended()), (0x18FE_F100, true));
        assert_eq!(frame.data(), [0xF3, 0, 0x3C, 0, 0, 0xFF, 0x1F, 0xFF]);
        let Ok(Item { input: Input::Frame(frame), .. }) = &steps[1] else { panic!("no frame") };
        assert_eq!((frame.raw_id(), frame.is_extended(), frame.data()), (0x7FF, false, &[1, 2][..]));
    }

    #[test]
    fn remote_and_fd_frames_are_frames_and_error_frames_are_counted_and_told() {
        let (steps, passed) = steps(
            "(1.0) can0 123#R\n(2.0) can0 123#R8\n(3.0) can0 123##1112233\n(4.0) can0 20000004#0004000000000000\n\
             (5.0) can1 123#00\n(6.0) can0 123#\n",
        );
        let remote: Vec<bool> = steps
            .iter()
            .map(|step| matches!(step, Ok(Item { input: Input::Frame(frame), .. }) if frame.is_remote_frame()))
            .collect();
        assert_eq!(remote, [true, true, false, false]);
        let Ok(Item { input: Input::Frame(fd), .. }) = &steps[2] else { panic!("no frame") };
        assert_eq!((fd.is_fd(), fd.raw_id(), fd.data()), (true, 0x123, &[0x11, 0x22, 0x33][..]));
        assert_eq!(passed, "passed over 1 error frames (bus: error warning), 1 frames of can1");
    }

    #[test]
    fn every_kind_of_bad_line_says_what_is_wrong() {
        for (line, reason) in [
            ("1.0 can0 123#00", "time is \"1.0\", not (seconds.microseconds)"),
            ("(1.x) can0 123#00", "time is \"(1.x)\", not (seconds.microseconds)"),
            ("(99999999999999.0) can0 123#00", "time is \"(99999999999999.0)\", not (seconds.microseconds)"),
            ("(1.0)", "no interface in \"(1.0)\""),
            ("(1.0) can0", "no frame in \"(1.0) can0\""),
            ("(1.0) can0 12#00", "identifier is \"12\", not 3 or 8 hexadecimal digits"),
            ("(1.0) can0 +23#00", "identifier is \"+23\", not 3 or 8 hexadecimal digits"),
            ("(1.0) can0 FFF#00", "identifier \"FFF\" has too many bits"),
            ("(1.0) can0 123#0", "data is \"0\", not up to 8 bytes in hexadecimal"),
            ("(1.0) can0 123#001122334455667788", "data is \"001122334455667788\", not up to 8 bytes in hexadecimal"),
            ("(1.0) can0 123##", "frame is \"123##\", without the flags of a CAN FD frame"),
            ("(1.0) can0 123##1001122334455667788", "9 bytes are no length of a CAN FD frame"),
            ("(1.0) can0 20000040#000", "data is \"000\", not up to 8 bytes in hexadecimal"),
            ("(1.0) can0 123#R9", "frame \"123#R9\" is no classic CAN frame"),
            ("(1.0) can0 123 [8] 00", "\"[8]\" behind the frame in \"(1.0) can0 123 [8] 00\""),
        ] {
            assert_eq!(steps(line).0, [Err(BadLine { line: 1, reason: reason.into() })], "{line}");
        }
    }

    #[test]
    fn a_frame_before_the_last_one_is_told_and_left_out() {
        let (steps, _) = steps("(2.0) can0 123#00\n(1.0) can0 123#00\n(3.0) can0 123#00\n");
        assert_eq!(steps[1], Err(BadLine { line: 2, reason: "time goes back: 1.000000 after 2.000000".into() }));
        assert!(steps[2].is_ok());
    }
}
