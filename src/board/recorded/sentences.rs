//! Raw bytes of a serial port. They carry no time, so the RMC sentences among them give it.
//!
//! The time of a serial recording is the UTC of its RMC sentences, as seconds since 1970. From the `$` of an RMC on, bytes
//! have its time, until the next one. What comes before the first one is taken to have come a second earlier. An RMC
//! without time (no satellites yet) is taken to have come a second after the one before. Receivers that start cold step
//! their clock, by years even: a step back is taken to be a second forward, what follows keeps its distance to that, and
//! how often that was is told. Bytes that are no sentence are handed on as they are: to judge them is the sensor's business.

use std::io::BufRead;

use super::{Input, Item, Lines, Recording, RecordingError, Step};
use crate::clock::BootNs;

/// Lines held back until the first time is known: a receiver that starts cold speaks ten a second for a minute or two. A
/// recording with more before its first time is handed on from time 0.
const HELD_LINES_MAX: usize = 4096;

/// A receiver's usual period.
const SECOND_NS: u64 = 1_000_000_000;

/// Reads the raw bytes of a serial port.
#[derive(Debug)]
pub struct SerialFile<R> {
    lines: Lines<R>,
    /// Time of the last RMC; `None` before the first.
    now: Option<BootNs>,
    /// Days since 1970 of the last date.
    day: Option<u64>,
    /// What is added to a sentence's time since its clock stepped back, ns.
    shift_ns: u64,
    steps_back: u64,
    held: Vec<u8>,
    held_lines: usize,
    /// A line that was read while held ones had still to go out.
    pending: Option<Item>,
}

impl<R: BufRead> SerialFile<R> {
    /// From its beginning.
    pub fn new(reader: R) -> Self {
        Self {
            lines: Lines::new(reader),
            now: None,
            day: None,
            shift_ns: 0,
            steps_back: 0,
            held: Vec::new(),
            held_lines: 0,
            pending: None,
        }
    }

    /// The time of a sentence that says `t`, on a clock that never goes back.
    fn onward(&mut self, t: BootNs) -> BootNs {
        let shifted = BootNs(t.0.saturating_add(self.shift_ns));
        match self.now {
            Some(now) if shifted < now => {
                self.steps_back += 1;
                let onward = now.0.saturating_add(SECOND_NS);
                self.shift_ns = onward.saturating_sub(t.0);
                BootNs(onward)
            }
            _ => shifted,
        }
    }

    /// The step a line makes; `None` when it was held back.
    fn step(&mut self, stamp: Option<Stamp>, bytes: Vec<u8>) -> Option<Step> {
        let t = match (stamp, self.now) {
            (Some(Stamp::At(t)), _) => self.onward(t),
            (Some(Stamp::None), Some(now)) => BootNs(now.0.saturating_add(SECOND_NS)),
            (None, Some(now)) => now,
            (_, None) => return self.hold(bytes),
        };
        self.now = Some(t);
        let item = Item { t, input: Input::Bytes(bytes) };
        if self.held.is_empty() {
            return Some(Ok(item));
        }
        self.pending = Some(item);
        self.let_go(BootNs(t.0.saturating_sub(SECOND_NS)))
    }

    fn hold(&mut self, bytes: Vec<u8>) -> Option<Step> {
        self.held.extend_from_slice(&bytes);
        self.held_lines += 1;
        if self.held_lines > HELD_LINES_MAX {
            self.now = Some(BootNs(0));
            return self.let_go(BootNs(0));
        }
        None
    }

    fn let_go(&mut self, t: BootNs) -> Option<Step> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then_some(Ok(Item { t, input: Input::Bytes(held) }))
    }
}

impl<R: BufRead> Recording for SerialFile<R> {
    fn next_step(&mut self) -> Result<Option<Step>, RecordingError> {
        if let Some(item) = self.pending.take() {
            return Ok(Some(Ok(item)));
        }
        loop {
            // Binary between the sentences is no fault here: it is handed on as it is.
            let Some(outcome) = self.lines.next()? else {
                return Ok(self.let_go(BootNs(0)));
            };
            let too_long = outcome.is_err_and(|bad| bad.reason.starts_with("longer"));
            let text = String::from_utf8_lossy(&self.lines.line);
            let stamp = if too_long { None } else { stamp(&text, &mut self.day) };
            let mut bytes = self.lines.line.clone();
            bytes.push(b'\n');
            if let Some(step) = self.step(stamp, bytes) {
                return Ok(Some(step));
            }
        }
    }

    fn passed_over(&self) -> String {
        match self.steps_back {
            0 => String::new(),
            n => format!("{n} steps back of the receiver's clock, each played as a second forward"),
        }
    }
}

/// The time a line gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    /// An RMC with time and, here or before, a date.
    At(BootNs),
    /// An RMC without.
    None,
}

/// The time of an RMC sentence with a right checksum; `None` for any other line.
fn stamp(line: &str, day: &mut Option<u64>) -> Option<Stamp> {
    let sentence = &line[line.rfind('$')? + 1..];
    let (body, checksum) = sentence.trim_end().split_once('*')?;
    let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    if u8::from_str_radix(checksum, 16) != Ok(sum) {
        return None;
    }
    let mut fields = body.split(',');
    if !fields.next()?.ends_with("RMC") {
        return None;
    }
    let of_day = fields.next().and_then(nanoseconds_of_day);
    if let Some(found) = fields.nth(7).and_then(days_since_1970) {
        *day = Some(found);
    }
    let at = of_day.zip(*day).map(|(of_day, day)| BootNs(day * 86_400 * SECOND_NS + of_day));
    Some(at.map_or(Stamp::None, Stamp::At))
}

/// `hhmmss` and any decimals.
fn nanoseconds_of_day(field: &str) -> Option<u64> {
    let (whole, fraction) = field.split_once('.').unwrap_or((field, ""));
    let [h, m, s] = pairs(whole)?;
    // 60 is a leap second.
    if h > 23 || m > 59 || s > 60 || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse::<u64>().ok()?;
    Some((h * 3600 + m * 60 + s) * SECOND_NS + nanoseconds)
}

/// `ddmmyy`; years from 80 on are of the last century (GPS began in 1980).
fn days_since_1970(field: &str) -> Option<u64> {
    let [day, month, year] = pairs(field)?;
    if !(1..=31).contains(&day) || !(1..=12).contains(&month) {
        return None;
    }
    let year = if year >= 80 { 1900 + year } else { 2000 + year };
    // Days of the years from March to February, so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468)
}

fn pairs(field: &str) -> Option<[u64; 3]> {
    let bytes: &[u8; 6] = field.as_bytes().try_into().ok()?;
    bytes
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| [0, 2, 4].map(|i| u64::from(bytes[i] - b'0') * 10 + u64::from(bytes[i + 1] - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(body: &str) -> String {
        format!("${body}*{:02X}\r\n", body.bytes().fold(0, |sum, byte| sum ^ byte))
    }

    fn items(text: &[u8]) -> Vec<Step> {
        let mut file = SerialFile::new(text);
        std::iter::from_fn(|| file.next_step().unwrap()).collect()
    }

    fn at(step: &Step) -> u64 {
        step.as_ref().unwrap().t.0
    }

    #[test]
    fn bytes_have_the_time_of_the_rmc_before_them() {
        let text = [
            "garbage\r\n".to_owned(),
            sentence("GPRMC,221320.25,A,5230.0,N,01315.0,E,19.4,90.0,141123,,,A"),
            sentence("GPVTG,90.0,T,,M,19.4,N,36.0,K,A"),
            sentence("GNRMC,221321.25,A,5230.0,N,01315.0,E,19.4,90.0,141123,,,A"),
        ]
        .concat();
        let steps = items(text.as_bytes());
        let t0 = 1_700_000_000_250_000_000;
        assert_eq!(steps.iter().map(at).collect::<Vec<_>>(), [t0 - SECOND_NS, t0, t0, t0 + SECOND_NS]);
        let all: Vec<u8> = steps
            .into_iter()
            .flat_map(|step| match step.unwrap().input {
                Input::Bytes(bytes) => bytes,
                _ => Vec::new(),
            })
            .collect();
        assert_eq!(String::from_utf8(all).unwrap(), text);
    }

    #[test]
    fn an_rmc_without_time_comes_a_second_later_and_a_clock_that_steps_back_goes_on() {
        let text = [
            sentence("GPRMC,221320,A,,,,,19.4,,141123,,,A"),
            sentence("GPRMC,,V,,,,,,,,,,N"),
            sentence("GPRMC,101010,A,,,,,19.4,,010101,,,A"),
            sentence("GPRMC,101015,A,,,,,19.4,,,,,A"),
        ]
        .concat();
        let mut file = SerialFile::new(text.as_bytes());
        let steps: Vec<Step> = std::iter::from_fn(|| file.next_step().unwrap()).collect();
        let after: Vec<u64> = steps.iter().map(|step| (at(step) - at(&steps[0])) / SECOND_NS).collect();
        assert_eq!(after, [0, 1, 2, 7]);
        assert_eq!(file.passed_over(), "1 steps back of the receiver's clock, each played as a second forward");
    }

    #[test]
    fn a_recording_without_any_time_still_hands_its_bytes_on() {
        let steps = items(b"\xFF\xFE\n$GPRMC,,V,,,,,,,,,,N*53\r\n");
        assert_eq!(steps.len(), 1);
        assert_eq!(at(&steps[0]), 0);
    }

    #[test]
    fn a_damaged_rmc_gives_no_time() {
        let mut day = None;
        assert_eq!(stamp("$GPRMC,221320,A,,,,,19.4,,141123,,,A*00", &mut day), None);
        assert_eq!(stamp(&sentence("GPRMC,251320,A,,,,,19.4,,141123,,,A"), &mut day), Some(Stamp::None));
        assert_eq!(days_since_1970("010170"), Some(36_525));
        assert_eq!(days_since_1970("060180"), Some(3657));
    }
}
