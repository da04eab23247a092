//! Bytes to columns.

use alloc::vec::Vec;

use super::{
    BlockError, Column, Context, FORM, Mode, Sample, Uncertainty,
    bits::Reader,
    code::{K_MAX, Mean, gamma, is_jump, long, near, rice, unzigzag},
    predict::{FRAC, GAINS, PERIOD_END, Predictor},
};
use crate::Quality;

/// The columns out of their bytes. Takes at most 8 samples for each byte of the block, whatever the bytes are: every
/// sample has at least a bit of its own, and a count beyond the bits left is refused before anything is kept for it.
pub fn decode(block: &[u8]) -> Result<Vec<Column>, BlockError> {
    let mut columns = Vec::new();
    each(block, |column, _| columns.push(column))?;
    Ok(columns)
}

/// Gives each column with the period (in parts of a tick) its times were told with.
pub(super) fn each(block: &[u8], mut take: impl FnMut(Column, u64)) -> Result<(), BlockError> {
    let Some((&form, rest)) = block.split_first() else { return Err(BlockError::Short(0)) };
    if form != FORM {
        return Err(BlockError::Form(form));
    }
    let most = block.len().saturating_mul(8);
    let mut decoder = Decoder { r: Reader::new(rest), last: Context::before_first(), last_ticks: Vec::new(), most };
    for _ in 0..gamma(&mut decoder.r)? {
        take(decoder.column()?, decoder.last.period);
    }
    // The encoder fills up a block whose samples have less than a bit each.
    let samples = most - decoder.most;
    decoder.r.end(samples.div_ceil(8) - usize::from(samples > 0))
}

struct Decoder<'b> {
    r: Reader<'b>,
    last: Context,
    last_ticks: Vec<u64>,
    /// Samples there can still be.
    most: usize,
}

impl Decoder<'_> {
    fn column(&mut self) -> Result<Column, BlockError> {
        let as_last = self.r.flag()?;
        let before = core::mem::replace(&mut self.last.head_before, self.last.head);
        let as_before = !as_last && self.r.flag()?;
        if as_before {
            self.last.head = before;
        }
        let mut samples = if as_last || as_before {
            self.last.channel = self.last.channel.wrapping_add(1);
            self.blank()?
        } else {
            self.head()?
        };
        self.times(&mut samples)?;
        self.values(&mut samples)?;
        Ok(Column { channel: self.last.channel, samples })
    }

    /// As many samples as are announced, if there can be so many.
    fn blank(&mut self) -> Result<Vec<Sample>, BlockError> {
        let count = usize::try_from(self.last.head.count).unwrap_or(usize::MAX);
        if count == 0 || count > self.most {
            return Err(BlockError::Count(self.last.head.count));
        }
        self.most -= count;
        let blank = Sample { tick: 0, value: 0, uncertainty: self.last.head.uncertainty, quality: Quality::Good };
        Ok(alloc::vec![blank; count])
    }

    fn head(&mut self) -> Result<Vec<Sample>, BlockError> {
        self.last.channel = if self.r.flag()? { self.last.channel.wrapping_add(1) } else { self.r.get(16)? as u16 };
        if !self.r.flag()? {
            self.last.head.count = gamma(&mut self.r)?;
        }
        if !self.r.flag()? {
            self.mode()?;
        }
        let mut samples = self.blank()?;
        if !self.r.flag()? {
            self.uncertainties(&mut samples)?;
        }
        if !self.r.flag()? {
            self.qualities(&mut samples)?;
        }
        Ok(samples)
    }

    fn mode(&mut self) -> Result<(), BlockError> {
        self.last.head.mode = match self.r.get(2)? {
            0 => Mode::Copy,
            1 => Mode::Schedule,
            2 => Mode::Free,
            _ => return Err(BlockError::Number),
        };
        if self.last.head.mode == Mode::Copy || self.r.flag()? {
            return Ok(());
        }
        let whole = self.r.flag()?;
        let period = long(&mut self.r)?;
        let parts = if whole { FRAC } else { 0 };
        if period >= PERIOD_END >> parts {
            return Err(BlockError::Number);
        }
        self.last.period = period << parts;
        self.last.time_mean = Mean::of_k(within(self.r.get(6)? as i64, K_MAX)?);
        Ok(())
    }

    fn uncertainties(&mut self, samples: &mut [Sample]) -> Result<(), BlockError> {
        let one = self.r.flag()?;
        let mut code = self.r.get(8)? as u8;
        let mut mean = Mean::of_k(1);
        for (i, sample) in samples.iter_mut().enumerate() {
            if i > 0 && !one {
                let u = rice(&mut self.r, mean.k())?;
                mean.take(u);
                code = code.wrapping_add(unzigzag(u) as u8);
            }
            sample.uncertainty = Uncertainty(code);
        }
        self.last.head.uncertainty = Uncertainty(code);
        Ok(())
    }

    fn qualities(&mut self, mut samples: &mut [Sample]) -> Result<(), BlockError> {
        while !samples.is_empty() {
            let quality = super::QUALITIES[self.r.get(2)? as usize];
            let length = gamma(&mut self.r)?;
            let long = usize::try_from(length).unwrap_or(usize::MAX);
            if long == 0 || long > samples.len() {
                return Err(BlockError::Count(length));
            }
            let (run, rest) = samples.split_at_mut(long);
            run.iter_mut().for_each(|sample| sample.quality = quality);
            samples = rest;
        }
        Ok(())
    }

    fn times(&mut self, samples: &mut [Sample]) -> Result<(), BlockError> {
        if self.last.head.mode == Mode::Copy {
            return self.copy_times(samples);
        }
        let base = match self.last.base {
            Some(base) => base,
            None => *self.last.base.insert(long(&mut self.r)?),
        };
        let mut schedule = self.last.schedule();
        let mut mean = self.last.time_mean;
        let near = self.r.flag()?;
        let u = if near { rice(&mut self.r, mean.k())? } else { long(&mut self.r)? };
        let first = schedule.next().wrapping_add(unzigzag(u));
        if near {
            mean.take(u);
        } else {
            schedule.start(first);
        }
        schedule.take(first);
        samples[0].tick = base.wrapping_add(first as u64);
        for sample in &mut samples[1..] {
            let k = mean.k();
            let u = rice(&mut self.r, k)?;
            let r = unzigzag(u);
            let x = schedule.next().wrapping_add(r);
            mean.take(u);
            if is_jump(u, k) {
                schedule.jump(r)
            } else {
                schedule.take(x)
            }
            sample.tick = base.wrapping_add(x as u64);
        }
        self.last.time_mean = mean;
        self.last.take_origin(schedule.origin(samples.len()), near);
        self.last_ticks.clear();
        self.last_ticks.extend(samples.iter().map(|s| s.tick));
        Ok(())
    }

    fn copy_times(&mut self, samples: &mut [Sample]) -> Result<(), BlockError> {
        if samples.len() != self.last_ticks.len() {
            return Err(BlockError::Count(samples.len() as u64));
        }
        for (sample, &tick) in samples.iter_mut().zip(&self.last_ticks) {
            sample.tick = tick;
        }
        Ok(())
    }

    fn values(&mut self, samples: &mut [Sample]) -> Result<(), BlockError> {
        let moves = self.r.flag()?;
        if !moves && !self.r.flag()? {
            return Ok(());
        }
        let first = self.first_value()?;
        samples.iter_mut().for_each(|sample| sample.value = first);
        if !moves || samples.len() == 1 {
            return Ok(());
        }
        let gains = GAINS[self.r.get(2)? as usize];
        let k = within(i64::from(self.last.value_k) + near(&mut self.r)?, K_MAX)?;
        self.last.value_k = k;
        let second = unzigzag(rice(&mut self.r, super::second_k(k))?);
        samples[1].value = first.wrapping_add(second);
        let mut predictor = Predictor::new(gains, second);
        let mut mean = Mean::of_k(k);
        for sample in &mut samples[2..] {
            let k = mean.k();
            let u = rice(&mut self.r, k)?;
            let x = predictor.next().wrapping_add(unzigzag(u));
            mean.take(u);
            if is_jump(u, k) {
                predictor.jump(x)
            } else {
                predictor.take(x)
            }
            sample.value = first.wrapping_add(x);
        }
        Ok(())
    }

    fn first_value(&mut self) -> Result<i64, BlockError> {
        let against = self.r.flag()?;
        let n = within(i64::from(self.last.first_bits) + near(&mut self.r)?, 64)?;
        let u = if n == 0 { 0 } else { 1 << (n - 1) | self.r.get_long(n - 1)? };
        let value = if against { self.last.first_value.wrapping_add(unzigzag(u)) } else { unzigzag(u) };
        self.last.first_bits = n;
        self.last.first_value = value;
        Ok(value)
    }
}

/// A number that the encoder writes between 0 and `most`.
fn within(n: i64, most: u32) -> Result<u32, BlockError> {
    u32::try_from(n).ok().filter(|&n| n <= most).ok_or(BlockError::Number)
}
