//! Bytes of a serial port with the time they arrived at, and looks at a chip: CSV, as `speedwell record` writes them.
//!
//! ```text
//! timestamp_ns,bytes                              from_ns,to_ns,count,health
//! 1000000000,24475052                             1000000000,1000140000,2048,good
//! 1010000000,4D432C0D0A                           1002000000,1002140000,2051,
//! ```
//! Bytes are two hexadecimal digits each, at most [`BYTES_MAX`] a line. A look's time is a bracket round the transfer; its
//! count is empty where the answer was damaged, its health where the chip was not asked. Times never go back. A line that
//! begins with `#` is a remark.

use std::io::BufRead;

use super::{BadLine, Input, Item, Lines, Recording, RecordingError, Step, number, shown, skip_remarks};
use crate::{
    clock::BootNs,
    sensor::shaft::{Health, Look},
};

/// The first line of recorded bytes.
pub const SERIAL_HEADER: &str = "timestamp_ns,bytes";

/// The first line of recorded looks.
pub const BUS_HEADER: &str = "from_ns,to_ns,count,health";

/// Bytes a line at most: two digits each have to fit into a line.
pub const BYTES_MAX: usize = 1024;

/// Latest time there can be: what fits into 63 bits.
const TIME_MAX_NS: u64 = i64::MAX as u64;

/// A file of lines that each begin with a time, which never goes back.
#[derive(Debug)]
struct Table<R> {
    lines: Lines<R>,
    header: &'static str,
    begun: bool,
    last: BootNs,
}

impl<R: BufRead> Table<R> {
    fn new(reader: R, header: &'static str) -> Self {
        Self { lines: Lines::new(reader), header, begun: false, last: BootNs(0) }
    }

    fn step(&mut self, parse: impl Fn(&str) -> Result<Item, String>) -> Result<Option<Step>, RecordingError> {
        if !self.begun {
            self.begun = true;
            let found = skip_remarks(&mut self.lines)?;
            if found != self.header {
                let (header, found) = (self.header, shown(&found));
                return Err(RecordingError::NotOne(format!("begins with {found}, not `{header}`")));
            }
        }
        loop {
            let (line, text) = match self.lines.next()? {
                None => return Ok(None),
                Some(Err(bad)) => return Ok(Some(Err(bad))),
                Some(Ok((_, text))) if text.trim().is_empty() || text.starts_with('#') => continue,
                Some(Ok(found)) => found,
            };
            let parsed = parse(text).and_then(|item| match item.t {
                t if t.0 > TIME_MAX_NS => Err(format!("the time is {}, beyond the year 2262", t.0)),
                t if t < self.last => Err(format!("time goes back: {} after {}", t.0, self.last.0)),
                _ => Ok(item),
            });
            return Ok(Some(match parsed {
                Ok(item) => {
                    self.last = item.t;
                    Ok(item)
                }
                Err(reason) => Err(BadLine { line, reason }),
            }));
        }
    }
}

/// Reads bytes with times.
#[derive(Debug)]
pub struct TimedBytes<R>(Table<R>);

impl<R: BufRead> TimedBytes<R> {
    /// From its beginning.
    pub fn new(reader: R) -> Self {
        Self(Table::new(reader, SERIAL_HEADER))
    }
}

impl<R: BufRead> Recording for TimedBytes<R> {
    fn next_step(&mut self) -> Result<Option<Step>, RecordingError> {
        self.0.step(|text| {
            let (t, digits) = text.split_once(',').ok_or_else(|| format!("no comma in {}", shown(text)))?;
            Ok(Item { t: BootNs(number("timestamp_ns", t.trim())?), input: Input::Bytes(bytes(digits.trim())?) })
        })
    }

    fn passed_over(&self) -> String {
        String::new()
    }
}

fn bytes(digits: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("bytes are {}, not pairs of hexadecimal digits", shown(digits));
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    if digits.len() > 2 * BYTES_MAX {
        return Err(format!("{} bytes in a line; at most {BYTES_MAX} are taken", digits.len() / 2));
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).map_err(|_| bad())).collect()
}

/// Reads looks at a chip.
#[derive(Debug)]
pub struct BusFile<R>(Table<R>);

impl<R: BufRead> BusFile<R> {
    /// From its beginning.
    pub fn new(reader: R) -> Self {
        Self(Table::new(reader, BUS_HEADER))
    }
}

impl<R: BufRead> Recording for BusFile<R> {
    fn next_step(&mut self) -> Result<Option<Step>, RecordingError> {
        self.0.step(|text| look(text).map(|look| Item { t: look.to, input: Input::Look(look) }))
    }

    fn passed_over(&self) -> String {
        String::new()
    }
}

fn look(text: &str) -> Result<Look, String> {
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    let &[from, to, count, health] = fields.as_slice() else {
        return Err(format!("{} fields instead of four in {}", fields.len(), shown(text)));
    };
    let (from, to) = (BootNs(number("from_ns", from)?), BootNs(number("to_ns", to)?));
    if from > to {
        return Err(format!("from_ns is later than to_ns in {}", shown(text)));
    }
    let count = if count.is_empty() { None } else { Some(number("count", count)?) };
    let known = |word: &str| Health::ALL.into_iter().find(|health| health.name() == word);
    let health = match health {
        "" => None,
        word => Some(known(word).ok_or_else(|| {
            let words = Health::ALL.map(Health::name).join(", ");
            format!("health is {}, none of {words}", shown(word))
        })?),
    };
    Ok(Look { from, to, count, health })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(mut file: impl Recording) -> Vec<Result<Item, String>> {
        std::iter::from_fn(|| file.next_step().unwrap()).map(|step| step.map_err(|bad| bad.to_string())).collect()
    }

    #[test]
    fn bytes_come_with_their_times_and_bad_lines_with_their_numbers() {
        let text = "# a remark\ntimestamp_ns,bytes\n10,244750\n20,2447F\n\n5,00\n30, 0d0A\n40\n50,zz\n";
        let told = steps(TimedBytes::new(text.as_bytes()));
        let wanted = [
            Ok(Item { t: BootNs(10), input: Input::Bytes(vec![0x24, 0x47, 0x50]) }),
            Err("4: bytes are \"2447F\", not pairs of hexadecimal digits".to_owned()),
            Err("6: time goes back: 5 after 10".to_owned()),
            Ok(Item { t: BootNs(30), input: Input::Bytes(vec![0x0D, 0x0A]) }),
            Err("8: no comma in \"40\"".to_owned()),
            Err("9: bytes are \"zz\", not pairs of hexadecimal digits".to_owned()),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn looks_come_with_their_brackets() {
        let text = "from_ns,to_ns,count,health\n10,20,4095,good\n30,40,,too-weak\n60,50,1,\n70,80,1,fine\n90,95,1\n";
        let told = steps(BusFile::new(text.as_bytes()));
        let look = |from, to, count, health| {
            let look = Look { from: BootNs(from), to: BootNs(to), count, health };
            Ok(Item { t: BootNs(to), input: Input::Look(look) })
        };
        let wanted = [
            look(10, 20, Some(4095), Some(Health::Good)),
            look(30, 40, None, Some(Health::TooWeak)),
            Err("4: from_ns is later than to_ns in \"60,50,1,\"".to_owned()),
            Err("5: health is \"fine\", none of good, no-magnet, too-weak, too-strong, invalid".to_owned()),
            Err("6: 3 fields instead of four in \"90,95,1\"".to_owned()),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn another_file_is_told_by_its_first_line() {
        let mut file = BusFile::new(&b"timestamp_ns,bytes\n1,00\n"[..]);
        let text = file.next_step().unwrap_err().to_string();
        assert_eq!(text, "begins with \"timestamp_ns,bytes\", not `from_ns,to_ns,count,health`");
        assert!(TimedBytes::new(&b""[..]).next_step().is_err());
    }
}
