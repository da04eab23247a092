//! Finds lines in a stream of bytes: whatever ends at a carriage return or a line feed. One that is longer than any line
//! that is hoped for is dropped up to its end, and the next one is good.

use std::borrow::Cow;

use crate::clock::BootNs;

/// Longest line, bytes.
pub(crate) const LONGEST: usize = 256;

/// What stands for a byte that is no UTF-8: a degree sign of an older character set, or a damaged letter.
pub(crate) const NO_TEXT: char = char::REPLACEMENT_CHARACTER;

/// Gathers a line.
#[derive(Debug)]
pub(crate) struct Lines {
    buffer: [u8; LONGEST],
    len: usize,
    at: BootNs,
    /// It is too long: what comes up to its end is dropped.
    over: bool,
}

/// What a byte completed.
pub(crate) enum Ended<'a> {
    /// A line without its end; `at` is when its first byte came. A byte that is no UTF-8 stands in it as [`NO_TEXT`].
    Line { at: BootNs, text: Cow<'a, str> },
    /// One that was too long.
    Refused,
}

impl Default for Lines {
    fn default() -> Self {
        Self { buffer: [0; LONGEST], len: 0, at: BootNs(0), over: false }
    }
}

impl Lines {
    /// Takes the next byte, which came at `t`. Empty lines are nothing: CR LF ends one line.
    pub(crate) fn push(&mut self, t: BootNs, byte: u8) -> Option<Ended<'_>> {
        if !matches!(byte, b'\r' | b'\n') {
            if self.len == 0 {
                self.at = t;
            }
            match self.buffer.get_mut(self.len) {
                Some(place) => {
                    *place = byte;
                    self.len += 1;
                }
                None => self.over = true,
            }
            return None;
        }
        let (len, over) = (std::mem::take(&mut self.len), std::mem::take(&mut self.over));
        if len == 0 {
            return None;
        }
        if over {
            return Some(Ended::Refused);
        }
        Some(Ended::Line { at: self.at, text: String::from_utf8_lossy(&self.buffer[..len]) })
    }
}
