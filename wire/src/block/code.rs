//! Whole numbers as bits: gamma for what is told once, adaptive Rice for series.
//!
//! ```text
//! zigzag(i)     0, -1, 1, -2, 2 ...  ->  0, 1, 2, 3, 4 ...
//! gamma(u)      n ones, a zero, the n - 1 bits below the topmost; n = bits of u
//! near(i)       zigzag(i) ones, a zero
//! rice(u, k)    q = u >> k below 20:  q ones, a zero, the low k bits of u
//!               otherwise:            20 ones, n - 1 in 6 bits, the n bits of u
//! ```
//! A Rice code costs at least one bit and at most 90. Its parameter k follows the numbers: with `m` the running mean of
//! `u` over some 16 numbers, `k = floor(log2 m)`, which is within 0.05 bit of the best for noise of normal
//! distribution. So a series needs one first k only and a stretch of standstill costs one bit a number.

use super::{
    BlockError,
    bits::{Reader, Writer, mask},
};

/// Ones that stand for "told in full": a jump then costs 26 bits and its own.
pub(super) const ESCAPE: u32 = 20;
/// Largest Rice parameter. Above, every number is told in full anyway.
pub(super) const K_MAX: u32 = 32;

pub(super) fn zigzag(i: i64) -> u64 {
    (i << 1 ^ i >> 63) as u64
}

pub(super) fn unzigzag(u: u64) -> i64 {
    (u >> 1) as i64 ^ -((u & 1) as i64)
}

/// Bits of a number; 0 has none.
pub(super) fn bits_of(u: u64) -> u32 {
    64 - u.leading_zeros()
}

pub(super) fn put_gamma(w: &mut Writer, u: u64) {
    let n = bits_of(u);
    put_unary(w, n);
    if n > 1 {
        w.put_long(u & mask(n - 1), n - 1);
    }
}

pub(super) fn gamma(r: &mut Reader<'_>) -> Result<u64, BlockError> {
    match unary(r, 64)? {
        0 => Ok(0),
        n => Ok(1 << (n - 1) | r.get_long(n - 1)?),
    }
}

/// Its number of bits in 7 bits, then the bits below the topmost.
pub(super) fn put_long(w: &mut Writer, u: u64) {
    let n = bits_of(u);
    w.put(u64::from(n), 7);
    if n > 1 {
        w.put_long(u & mask(n - 1), n - 1);
    }
}

pub(super) fn long(r: &mut Reader<'_>) -> Result<u64, BlockError> {
    match r.get(7)? as u32 {
        0 => Ok(0),
        n @ 1..=64 => Ok(1 << (n - 1) | r.get_long(n - 1)?),
        _ => Err(BlockError::Number),
    }
}

pub(super) fn put_near(w: &mut Writer, i: i64) {
    put_unary(w, zigzag(i) as u32);
}

/// Between -64 and 64.
pub(super) fn near(r: &mut Reader<'_>) -> Result<i64, BlockError> {
    Ok(unzigzag(u64::from(unary(r, 128)?)))
}

fn put_unary(w: &mut Writer, mut n: u32) {
    while n >= 32 {
        w.put(mask(32), 32);
        n -= 32;
    }
    w.put(mask(n) << 1, n + 1);
}

fn unary(r: &mut Reader<'_>, most: u32) -> Result<u32, BlockError> {
    let mut n = 0;
    while r.flag()? {
        n += 1;
        if n > most {
            return Err(BlockError::Number);
        }
    }
    Ok(n)
}

pub(super) fn put_rice(w: &mut Writer, u: u64, k: u32) {
    let q = u >> k;
    if q < u64::from(ESCAPE) {
        // At most 19 + 1 + 32 bits.
        let q = q as u32;
        w.put(mask(q) << 1 << k | u & mask(k), q + 1 + k);
    } else {
        let n = bits_of(u);
        w.put(mask(ESCAPE) << 6 | u64::from(n - 1), ESCAPE + 6);
        w.put_long(u, n);
    }
}

/// The number, and whether it was told in full.
pub(super) fn rice(r: &mut Reader<'_>, k: u32) -> Result<u64, BlockError> {
    let q = (!r.peek()).leading_zeros();
    if q >= ESCAPE {
        r.skip(ESCAPE)?;
        let n = r.get(6)? as u32 + 1;
        return r.get_long(n);
    }
    // At most 19 + 1 + 32 bits, which are all in one word. Two shifts, because a shift by 64 (k = 0) is none.
    let low = r.peek() << (q + 1) >> 1 >> (63 - k);
    r.skip(q + 1 + k)?;
    Ok(u64::from(q) << k | low)
}

/// Whether a number is told in full: a jump.
pub(super) fn is_jump(u: u64, k: u32) -> bool {
    u >> k >= u64::from(ESCAPE)
}

/// The running mean that k follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    /// 16 times the mean.
    sum: u64,
}

impl Mean {
    pub(super) fn of_k(k: u32) -> Self {
        Self { sum: 24 << k }
    }

    pub(super) fn k(&self) -> u32 {
        k_of(self.sum >> 4)
    }

    /// A jump counts no more than the largest number that is none, so that it does not spoil what follows.
    pub(super) fn take(&mut self, u: u64) {
        let most = u64::from(ESCAPE) << self.k();
        self.sum = self.sum - self.sum / 16 + u.min(most);
    }
}

/// The best k for numbers of this mean.
pub(super) fn k_of(mean: u64) -> u32 {
    bits_of(mean).saturating_sub(1).min(K_MAX)
}
