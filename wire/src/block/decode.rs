//! Bytes to columns.

use alloc::vec::Vec;

use super::{
    BlockError, Column, Context, FORM, Mode, Sample, Uncertainty,
    bits::{Reader, mask},
    code::{K_MAX, Mean, gamma, is_jump, near, rice, unzigzag},
    predict::{FRAC, Predictor, TIME_GAINS, VALUE_GAINS},
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
    let mut decoder = Decoder { r: Reader::new(rest), last: Context::before_first(), last_ticks: Vec::new() };
    for _ in 0..gamma(&mut decoder.r)? {
        take(decoder.column()?, decoder.last.period);
    }
    decoder.r.end()
}

struct Decoder<'b> {
    r: Reader<'b>,
    last: Context,
    last_ticks: Vec<u64>,
}

impl Decoder<'_> {
    fn column(&mut self) -> Result<Column, BlockError> {
        let as_last = self.r.flag()?;
        let mut samples = if as_last {
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
    fn blank(&self) -> Result<Vec<Sample>, BlockError> {
        let count = usize::try_from(self.last.count).unwrap_or(usize::MAX);
        if count == 0 || count > self.r.left() {
            return Err(BlockError::Count(self.last.count));
        }
        let blank = Sample { tick: 0, value: 0, uncertainty: self.last.uncertainty, quality: Quality::Good };
        Ok(alloc::vec![blank; count])
    }

    fn head(&mut self) -> Result<Vec<Sample>, BlockError> {
        self.last.channel = if self.r.flag()? { self.last.channel.wrapping_add(1) } else { self.r.get(16)? as u16 };
        if !self.r.flag()? {
            self.last.count = gamma(&mut self.r)?;
        }
        if !self.r.flag()? {
            self.last.mode = Mode::ALL[self.r.get(2)? as usize];
            self.period()?;
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

    fn period(&mut self) -> Result<(), BlockError> {
        if self.last.mode != Mode::Copy {
            let whole = self.r.flag()?;
            let period = gamma(&mut self.r)?;
            self.last.period = if whole { period << FRAC } else { period };
        }
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
        self.last.uncertainty = Uncertainty(code);
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
        let Some(gains) = self.last.mode.gains() else { return self.copy_times(samples) };
        let off = if self.r.flag()? { 0 } else { unzigzag(gamma(&mut self.r)?) };
        let origin = self.last.expected_origin().wrapping_add(off as u64);
        self.last.take_origin(origin);
        let k = self.k(self.last.time_k)?;
        self.last.time_k = k;
        let step = self.last.period as i64;
        let mut mean = Mean::of_k(k);
        let mut predictor = Predictor::new(TIME_GAINS[gains], 0);
        self.last_ticks.clear();
        for (i, sample) in samples.iter_mut().enumerate() {
            let k = mean.k();
            let u = rice(&mut self.r, k)?;
            let r = unzigzag(u);
            let x = predictor.next().wrapping_add(r);
            mean.take(u);
            if is_jump(u, k) {
                predictor.jump(r, step)
            } else {
                predictor.take(x)
            }
            if i == 0 {
                predictor.set_trend(step);
            }
            sample.tick = origin.wrapping_add(x as u64);
            self.last_ticks.push(sample.tick);
        }
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

    fn k(&mut self, last: u32) -> Result<u32, BlockError> {
        let k = i64::from(last) + near(&mut self.r)?;
        u32::try_from(k).ok().filter(|&k| k <= K_MAX).ok_or(BlockError::Number)
    }

    fn values(&mut self, samples: &mut [Sample]) -> Result<(), BlockError> {
        let first = self.first_value()?;
        samples[0].value = first;
        if samples.len() == 1 {
            return Ok(());
        }
        let gains = self.r.get(2)? as usize;
        let k = self.k(self.last.value_k)?;
        self.last.value_k = k;
        let mut predictor = Predictor::new(VALUE_GAINS[gains], 0);
        let x = unzigzag(rice(&mut self.r, super::second_k(k))?);
        predictor.take_second(x);
        samples[1].value = first.wrapping_add(x);
        let mut mean = Mean::of_k(k);
        for sample in &mut samples[2..] {
            let k = mean.k();
            let u = rice(&mut self.r, k)?;
            let r = unzigzag(u);
            let x = predictor.next().wrapping_add(r);
            mean.take(u);
            if is_jump(u, k) {
                predictor.jump(r, 0)
            } else {
                predictor.take(x)
            }
            sample.value = first.wrapping_add(x);
        }
        Ok(())
    }

    fn first_value(&mut self) -> Result<i64, BlockError> {
        let against = self.r.flag()?;
        let n = i64::from(self.last.first_bits) + near(&mut self.r)?;
        let n = u32::try_from(n).ok().filter(|&n| n <= 64).ok_or(BlockError::Number)?;
        let u = if n == 0 { 0 } else { 1 << (n - 1) | self.r.get_long(n - 1)? & mask(n - 1) };
        let value = if against { self.last.first_value.wrapping_add(unzigzag(u)) } else { unzigzag(u) };
        self.last.first_bits = n;
        self.last.first_value = value;
        Ok(value)
    }
}
