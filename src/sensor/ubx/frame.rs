//! Finds NAV-PVT frames in a stream of bytes: sync, class and id, a length it can have, a right checksum.
//!
//! What looked like a frame and has a wrong checksum is looked through again from its second byte: a true frame may have
//! begun inside a cut one.

use crate::clock::BootNs;

/// Sync, class and id of the only frame that is read.
const HEAD: [u8; 4] = [0xB5, 0x62, 0x01, 0x07];
/// Head and length before the payload, checksum behind it.
const AROUND: usize = 6 + 2;
/// Lengths of the payload: since protocol 14, and before.
const LENGTHS: [usize; 2] = [92, 84];
/// The longest frame.
const MAX_FRAME: usize = LENGTHS[0] + AROUND;

/// The payload as far as both lengths go.
pub(super) const PAYLOAD: usize = LENGTHS[1];

/// What was found.
pub(super) enum Framed {
    /// A solution with a right checksum; `at` is when its first byte came.
    Solution { at: BootNs, payload: [u8; PAYLOAD] },
    /// Something that began as one and has a wrong checksum.
    Refused,
}

/// Gathers a frame, each byte with its time.
#[derive(Debug)]
pub(super) struct Framer {
    bytes: [u8; MAX_FRAME],
    times: [BootNs; MAX_FRAME],
    len: usize,
}

impl Default for Framer {
    fn default() -> Self {
        Self { bytes: [0; MAX_FRAME], times: [BootNs(0); MAX_FRAME], len: 0 }
    }
}

impl Framer {
    /// Takes the next byte, which came at `t`. What it completes is had from [`Framer::take`].
    pub(super) fn push(&mut self, t: BootNs, byte: u8) {
        // There is always room: what fills a frame is taken before the next byte comes.
        if let (Some(place), Some(time)) = (self.bytes.get_mut(self.len), self.times.get_mut(self.len)) {
            (*place, *time) = (byte, t);
            self.len += 1;
        }
        self.find_head();
    }

    /// A whole frame that lies ready, if one does; ask again until none does.
    pub(super) fn take(&mut self) -> Option<Framed> {
        let whole = self.told_length()? + AROUND;
        if self.len < whole {
            return None;
        }
        let frame = self.bytes.get(2..whole)?;
        let (sum_over, told) = frame.split_at_checked(whole - 4)?;
        if fletcher(sum_over) == *told {
            let mut payload = [0; PAYLOAD];
            payload.copy_from_slice(self.bytes.get(6..6 + PAYLOAD)?);
            let framed = Framed::Solution { at: self.times[0], payload };
            self.drop_first(whole);
            return Some(framed);
        }
        self.drop_first(1);
        Some(Framed::Refused)
    }

    /// The payload's length once it has come; the head is known to be right by then.
    fn told_length(&self) -> Option<usize> {
        (self.len >= 6).then(|| usize::from(u16::from_le_bytes([self.bytes[4], self.bytes[5]])))
    }

    /// Drops bytes until what is gathered begins as a frame does.
    fn find_head(&mut self) {
        while self.len > 0 {
            let seen = self.len.min(HEAD.len());
            let right_length = self.told_length().is_none_or(|length| LENGTHS.contains(&length));
            if self.bytes[..seen] == HEAD[..seen] && right_length {
                return;
            }
            let next = self.bytes[1..self.len].iter().position(|&byte| byte == HEAD[0]);
            self.shift(next.map_or(self.len, |at| at + 1));
        }
    }

    fn drop_first(&mut self, count: usize) {
        self.shift(count);
        self.find_head();
    }

    fn shift(&mut self, count: usize) {
        self.bytes.copy_within(count..self.len, 0);
        self.times.copy_within(count..self.len, 0);
        self.len -= count;
    }
}

/// `a = Σ byte`, `b = Σ a`, both of eight bits (the receiver's interface description, "UBX checksum").
pub(super) fn fletcher(bytes: &[u8]) -> [u8; 2] {
    bytes.iter().fold([0u8, 0], |[a, b], &byte| {
        let a = a.wrapping_add(byte);
        [a, b.wrapping_add(a)]
    })
}
