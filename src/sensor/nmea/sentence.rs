//! Finds sentences in a stream of bytes: `$` body `*` two hex digits, then a line end. The checksum is the exclusive or
//! of the body. What does not end so is refused and counted once; a `$` begins anew wherever it comes.

use crate::clock::BootNs;

/// The standard ends a sentence at 82 characters; receivers are known to send a little more.
pub(super) const MAX_SENTENCE: usize = 120;

/// What a byte completed.
pub(super) enum Framed<'a> {
    /// A sentence with a right checksum, without `$` and checksum; `at` is when its `$` came.
    Sentence { at: BootNs, text: &'a str },
    /// Something that began as a sentence and did not end as one.
    Refused,
}

/// Gathers a sentence.
#[derive(Debug)]
pub(super) struct Framer {
    buffer: [u8; MAX_SENTENCE],
    len: usize,
    at: BootNs,
    inside: bool,
}

impl Default for Framer {
    fn default() -> Self {
        Self { buffer: [0; MAX_SENTENCE], len: 0, at: BootNs(0), inside: false }
    }
}

impl Framer {
    /// Takes the next byte, which came at `t`.
    pub(super) fn push(&mut self, t: BootNs, byte: u8) -> Option<Framed<'_>> {
        match byte {
            b'$' => {
                let cut = self.inside;
                (self.inside, self.len, self.at) = (true, 0, t);
                cut.then_some(Framed::Refused)
            }
            _ if !self.inside => None,
            b'\r' | b'\n' => {
                self.inside = false;
                Some(match body(&self.buffer[..self.len]) {
                    Some(text) => Framed::Sentence { at: self.at, text },
                    None => Framed::Refused,
                })
            }
            // The standard's characters. Anything else is line noise, a wrong baud rate or binary data.
            b' '..=b'~' if self.len < MAX_SENTENCE => {
                self.buffer[self.len] = byte;
                self.len += 1;
                None
            }
            _ => {
                self.inside = false;
                Some(Framed::Refused)
            }
        }
    }
}

/// The text a right checksum stands behind.
fn body(line: &[u8]) -> Option<&str> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(3)?)?;
    let hex = std::str::from_utf8(tail.strip_prefix(b"*")?).ok()?;
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let told = u8::from_str_radix(hex, 16).ok()?;
    let sum = body.iter().fold(0, |sum, byte| sum ^ byte);
    if sum == told { std::str::from_utf8(body).ok() } else { None }
}
