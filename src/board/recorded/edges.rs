//! An edges file: CSV with the header `timestamp_ns,kind,seqno,line_seqno`, one edge a line.
//!
//! ```text
//! timestamp_ns,kind,seqno,line_seqno
//! 1000000000,rising,1,1
//! 1002067000,rising,2,2
//! ```
//! `kind` is `rising` or `falling`. A sequence number that is not known is left empty or 0. Times never go back. A fifth
//! column, `line`, tells two lines apart, 0 and 1. A line that begins with `#` is a remark.

use std::io::BufRead;

use super::{BadLine, Input, Item, Lines, Recording, RecordingError, Step, number, shown};
use crate::{
    clock::BootNs,
    sensor::{Edge, EdgeKind},
};

/// The first line.
const HEADER: &str = "timestamp_ns,kind,seqno,line_seqno";

/// The first line where edges of two lines are told apart, as `speedwell record` writes it.
pub(super) const HEADER_WITH_LINE: &str = "timestamp_ns,kind,seqno,line_seqno,line";

/// Lines of a capture: two, a quarter of a period apart.
const LINES: usize = 2;

/// Latest time there can be: what fits into 63 bits, in the year 2262 for a clock in UTC.
const TIME_MAX_NS: u64 = i64::MAX as u64;

/// Reads an edges file.
#[derive(Debug)]
pub struct EdgesFile<R> {
    lines: Lines<R>,
    begun: bool,
    with_line: bool,
    last: BootNs,
}

impl<R: BufRead> EdgesFile<R> {
    /// From its beginning.
    pub fn new(reader: R) -> Self {
        Self { lines: Lines::new(reader), begun: false, with_line: false, last: BootNs(0) }
    }

    fn header(&mut self) -> Result<(), RecordingError> {
        self.begun = true;
        let found = super::skip_remarks(&mut self.lines)?;
        self.with_line = found == HEADER_WITH_LINE;
        let told = || RecordingError::NotOne(format!("no edges file: begins with {}, not `{HEADER}`", shown(&found)));
        if self.with_line || found == HEADER { Ok(()) } else { Err(told()) }
    }
}

impl<R: BufRead> Recording for EdgesFile<R> {
    fn next_step(&mut self) -> Result<Option<Step>, RecordingError> {
        if !self.begun {
            self.header()?;
        }
        loop {
            let (line, text) = match self.lines.next()? {
                None => return Ok(None),
                Some(Err(bad)) => return Ok(Some(Err(bad))),
                Some(Ok((_, text))) if text.trim().is_empty() || text.starts_with('#') => continue,
                Some(Ok(found)) => found,
            };
            let parsed = edge(text, self.with_line).and_then(|edge| match edge.t >= self.last {
                true => Ok(edge),
                false => Err(format!("time goes back: {} after {}", edge.t.0, self.last.0)),
            });
            return Ok(Some(match parsed {
                Ok(edge) => {
                    self.last = edge.t;
                    Ok(Item { t: edge.t, input: Input::Edge(edge) })
                }
                Err(reason) => Err(BadLine { line, reason }),
            }));
        }
    }

    fn passed_over(&self) -> String {
        String::new()
    }
}

fn edge(text: &str, with_line: bool) -> Result<Edge, String> {
    let mut fields = text.split(',').map(str::trim);
    let mut field = |name: &str| fields.next().ok_or_else(|| format!("{name} is missing in {}", shown(text)));
    let t: u64 = number("timestamp_ns", field("timestamp_ns")?)?;
    if t > TIME_MAX_NS {
        return Err(format!("timestamp_ns is {t}, beyond the year 2262"));
    }
    let kind = match field("kind")? {
        "rising" => EdgeKind::Rising,
        "falling" => EdgeKind::Falling,
        other => return Err(format!("kind is {}, not rising or falling", shown(other))),
    };
    let seqno = sequence("seqno", field("seqno")?)?;
    let line_seqno = sequence("line_seqno", field("line_seqno")?)?;
    let line: usize = if with_line { number("line", field("line")?)? } else { 0 };
    if line >= LINES {
        return Err(format!("line is {line}; there are 0 and 1"));
    }
    match fields.next() {
        None => Ok(Edge { t: BootNs(t), line, kind, seqno, line_seqno }),
        Some(_) if with_line => Err(format!("more than five fields in {}", shown(text))),
        Some(_) => Err(format!("more than four fields in {}", shown(text))),
    }
}

fn sequence(name: &str, text: &str) -> Result<u32, String> {
    if text.is_empty() { Ok(0) } else { number(name, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        let mut file = EdgesFile::new(text.as_bytes());
        std::iter::from_fn(|| file.next_step().unwrap()).collect()
    }

    #[test]
    fn good_lines_are_kept_and_bad_ones_told_with_their_number() {
        let steps = steps(
            "timestamp_ns,kind,seqno,line_seqno\n1000,rising,1,1\n2000,up,2,2\n\n3000,falling,,\n2500,rising,4,4\n\
             99999999999999999999,rising,5,5\n4000,rising,6\n5000,rising,7,7,7\n6000, rising , 8, 8\r\n",
        );
        let good: Vec<u64> = steps.iter().filter_map(|s| s.as_ref().ok()).map(|item| item.t.0).collect();
        assert_eq!(good, [1000, 3000, 6000]);
        let bad: Vec<String> = steps.iter().filter_map(|s| s.as_ref().err()).map(ToString::to_string).collect();
        assert_eq!(
            bad,
            [
                "3: kind is \"up\", not rising or falling",
                "6: time goes back: 2500 after 3000",
                "7: timestamp_ns is \"99999999999999999999\", not a whole number in range",
                "8: line_seqno is missing in \"4000,rising,6\"",
                "9: more than four fields in \"5000,rising,7,7,7\"",
            ]
        );
    }

    #[test]
    fn a_file_without_the_header_is_no_edges_file() {
        let mut file = EdgesFile::new(&b"1000,rising,1,1\n"[..]);
        let text = file.next_step().unwrap_err().to_string();
        assert_eq!(text, "no edges file: begins with \"1000,rising,1,1\", not `timestamp_ns,kind,seqno,line_seqno`");
        assert!(EdgesFile::new(&b""[..]).next_step().unwrap_err().to_string().starts_with("empty"));
    }
}
