//! Frames and their check: CRC-16, polynomial A001 reflected, from FFFF, sent low byte first (Modbus over serial line,
//! 2.5.1.2).

use super::Table;

/// Bytes of a question.
pub(super) const QUESTION: usize = 8;
/// Bytes around the data of an answer: slave, function and count before them, the check behind.
pub(super) const AROUND: usize = 3 + 2;
/// Bytes of a refusal.
pub(super) const REFUSAL: usize = 5;
/// What makes a function's number a refusal of it.
pub(super) const REFUSED: u8 = 0x80;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) slave: u8,
    pub(super) table: Table,
    pub(super) register: u16,
    pub(super) count: u8,
}

/// What was found at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// The answer, and how many bytes it took.
    Answer(&'a [u8], usize),
    /// The refusal's code.
    Refusal(u8, usize),
    /// It may become one yet.
    Part,
    /// None of this question.
    Nothing,
}

impl Question {
    pub(super) fn frame(&self) -> [u8; QUESTION] {
        let [high, low] = self.register.to_be_bytes();
        let mut frame = [self.slave, self.table.function(), high, low, 0, self.count, 0, 0];
        let check = crc(&frame[..QUESTION - 2]).to_le_bytes();
        frame[QUESTION - 2..].copy_from_slice(&check);
        frame
    }

    /// The question that some bytes begin with.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[slave, function, high, low, 0, count, ..] = checked(bytes, QUESTION)? else { return None };
        let table = Table::of(function)?;
        Some(Self { slave, table, register: u16::from_be_bytes([high, low]), count })
    }

    /// Bytes of its answer.
    pub(super) fn answer(&self) -> usize {
        AROUND + 2 * usize::from(self.count)
    }

    /// What of an answer to this some bytes begin with.
    pub(super) fn find<'a>(&self, bytes: &'a [u8]) -> Found<'a> {
        let function = self.table.function();
        let starts = |expected: &[u8]| bytes.iter().zip(expected).all(|(a, b)| a == b);
        if starts(&[self.slave, function | REFUSED]) && bytes.len() >= 2 {
            return match checked(bytes, REFUSAL) {
                Some(refusal) => Found::Refusal(refusal[2], REFUSAL),
                None if bytes.len() < REFUSAL => Found::Part,
                None => Found::Nothing,
            };
        }
        if !starts(&[self.slave, function, 2 * self.count]) {
            return Found::Nothing;
        }
        let length = self.answer();
        match checked(bytes, length) {
            Some(answer) => Found::Answer(&answer[3..length - 2], length),
            None if bytes.len() < length => Found::Part,
            None => Found::Nothing,
        }
    }
}

/// The first `length` bytes, when their check is right.
fn checked(bytes: &[u8], length: usize) -> Option<&[u8]> {
    let frame = bytes.get(..length)?;
    let (body, check) = frame.split_at_checked(length.checked_sub(2)?)?;
    (crc(body).to_le_bytes() == check).then_some(frame)
}

/// The check of some bytes.
pub(super) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}
