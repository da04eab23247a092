//! Bits in a row, most significant first.

use alloc::vec::Vec;

use super::BlockError;

/// Writes bits.
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// The bits not yet in `bytes`, at the low end; what stands above them is shifted out in time.
    hold: u64,
    /// How many they are, below 64.
    held: u32,
}

impl Writer {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, hold: 0, held: 0 }
    }

    /// The low `n` bits of `value`, above which there are none; `n` at most 56.
    pub(super) fn put(&mut self, value: u64, n: u32) {
        debug_assert!(n <= 56 && (value >> n) == 0);
        let free = 64 - self.held;
        if n < free {
            self.hold = self.hold << n | value;
            self.held += n;
        } else {
            self.held = n - free;
            let full = self.hold << free | value >> self.held;
            self.bytes.extend_from_slice(&full.to_be_bytes());
            self.hold = value;
        }
    }

    /// The low `n` bits of `value`; `n` at most 64.
    pub(super) fn put_long(&mut self, value: u64, n: u32) {
        if n > 32 {
            self.put(value >> 32 & mask(n - 32), n - 32);
        }
        self.put(value & mask(n.min(32)), n.min(32));
    }

    pub(super) fn put_flag(&mut self, flag: bool) {
        self.put(u64::from(flag), 1);
    }

    /// The bytes, the last filled up with zeros; and as many bytes of zeros as make `least`.
    pub(super) fn finish(mut self, least: usize) -> Vec<u8> {
        if self.held > 0 {
            let last = self.hold << (64 - self.held);
            self.bytes.extend_from_slice(&last.to_be_bytes()[..self.held.div_ceil(8) as usize]);
        }
        self.bytes.resize(self.bytes.len().max(least), 0);
        self.bytes
    }
}

/// The low `n` bits; `n` at most 64.
pub(super) fn mask(n: u32) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// Reads bits.
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    /// Bits read.
    at: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bits left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    /// The next bits at the top of the word: at least 57 of them, zeros behind the end.
    pub(super) fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or(&[]);
        let word = match rest.first_chunk::<8>() {
            Some(eight) => u64::from_be_bytes(*eight),
            None => {
                let mut eight = [0; 8];
                eight[..rest.len()].copy_from_slice(rest);
                u64::from_be_bytes(eight)
            }
        };
        word << (self.at % 8)
    }

    pub(super) fn skip(&mut self, n: u32) -> Result<(), BlockError> {
        if self.left() < n as usize {
            return Err(BlockError::Short(self.bytes.len()));
        }
        self.at += n as usize;
        Ok(())
    }

    /// `n` bits; `n` at most 56.
    pub(super) fn get(&mut self, n: u32) -> Result<u64, BlockError> {
        // Two shifts, because a shift by 64 (n = 0) is none.
        let value = self.peek() >> 1 >> (63 - n);
        self.skip(n)?;
        Ok(value)
    }

    /// `n` bits; `n` at most 64.
    pub(super) fn get_long(&mut self, n: u32) -> Result<u64, BlockError> {
        let high = if n > 32 { self.get(n - 32)? } else { 0 };
        Ok(high << 32 | self.get(n.min(32))?)
    }

    pub(super) fn flag(&mut self) -> Result<bool, BlockError> {
        Ok(self.get(1)? == 1)
    }

    /// Nothing but zeros may be left: those that fill the last byte and, if the block has no more than `least` bytes,
    /// those that fill the block.
    pub(super) fn end(&self, least: usize) -> Result<(), BlockError> {
        let full = self.left() >= 8 && self.bytes.len() > least;
        let rest = self.bytes.get(self.at.div_ceil(8)..).unwrap_or(&[]);
        let partly = self.peek() >> (56 + self.at % 8) != 0;
        if full || partly || rest.iter().any(|&b| b != 0) { Err(BlockError::Rest(self.left() / 8)) } else { Ok(()) }
    }
}
