//! Columns to bytes. What is chosen here is free: any choice is read back exactly; these are the cheap ones.

use alloc::vec::Vec;

use super::{
    Column, Context, FORM, Mode, Periods, Sample,
    bits::Writer,
    code::{self, Mean, bits_of, is_jump, put_gamma, put_near, put_rice, zigzag},
    predict::{FRAC, Predictor, TIME_GAINS, VALUE_GAINS},
};
use crate::Quality;

/// The columns as bytes. Columns without samples are left out.
pub fn encode(columns: &[Column], periods: &impl Periods) -> Vec<u8> {
    let filled = || columns.iter().filter(|column| !column.samples.is_empty());
    let samples: usize = filled().map(|column| column.samples.len()).sum();
    let mut bytes = Vec::with_capacity(16 + samples * 2);
    bytes.push(FORM);
    let mut w = Writer::new(bytes);
    put_gamma(&mut w, filled().count() as u64);
    let mut encoder = Encoder { w, last: Context::before_first(), last_samples: &[], scratch: Vec::new() };
    for column in filled() {
        encoder.column(column, periods.period(column.channel));
    }
    encoder.w.finish()
}

struct Encoder<'c> {
    w: Writer,
    last: Context,
    last_samples: &'c [Sample],
    scratch: Vec<i64>,
}

/// How the times of a column are told.
#[derive(Clone, Copy)]
struct Times {
    mode: Mode,
    period: u64,
    origin: u64,
}

impl<'c> Encoder<'c> {
    fn column(&mut self, column: &'c Column, period: u64) {
        let samples = &column.samples[..];
        let times = self.choose_times(samples, period);
        self.head(column, times);
        if times.mode != Mode::Copy {
            self.times(samples, times);
        }
        self.values(samples);
        self.last.channel = column.channel;
        self.last_samples = samples;
    }

    fn head(&mut self, column: &Column, times: Times) {
        let samples = &column.samples[..];
        let good = samples.iter().all(|s| s.quality == Quality::Good);
        let steady = samples.iter().all(|s| s.uncertainty == self.last.uncertainty);
        let next = column.channel == self.last.channel.wrapping_add(1);
        let (count, shape) = (samples.len() as u64, (times.mode, times.period));
        let (same_count, same_shape) = (count == self.last.count, shape == (self.last.mode, self.last.period));
        let as_last = good && steady && next && same_count && same_shape;
        self.w.put_flag(as_last);
        if as_last {
            return;
        }
        self.w.put_flag(next);
        if !next {
            self.w.put(u64::from(column.channel), 16);
        }
        self.w.put_flag(same_count);
        if !same_count {
            put_gamma(&mut self.w, count);
            self.last.count = count;
        }
        self.w.put_flag(same_shape);
        if !same_shape {
            self.w.put(times.mode as u64, 2);
            self.period(times);
        }
        self.w.put_flag(steady);
        if !steady {
            self.uncertainties(samples);
        }
        self.w.put_flag(good);
        if !good {
            self.qualities(samples);
        }
    }

    fn period(&mut self, times: Times) {
        self.last.mode = times.mode;
        if times.mode == Mode::Copy {
            return;
        }
        let whole = times.period.trailing_zeros() >= FRAC;
        self.w.put_flag(whole);
        put_gamma(&mut self.w, if whole { times.period >> FRAC } else { times.period });
        self.last.period = times.period;
    }

    fn uncertainties(&mut self, samples: &[Sample]) {
        let mut last = samples[0].uncertainty;
        let one = samples.iter().all(|s| s.uncertainty == last);
        self.w.put_flag(one);
        self.w.put(u64::from(last.0), 8);
        if !one {
            let mut mean = Mean::of_k(1);
            for sample in &samples[1..] {
                let d = sample.uncertainty.0.wrapping_sub(last.0) as i8;
                let u = zigzag(i64::from(d));
                put_rice(&mut self.w, u, mean.k());
                mean.take(u);
                last = sample.uncertainty;
            }
        }
        self.last.uncertainty = last;
    }

    fn qualities(&mut self, samples: &[Sample]) {
        for run in samples.chunk_by(|a, b| a.quality == b.quality) {
            self.w.put(super::quality_code(run[0].quality), 2);
            put_gamma(&mut self.w, run.len() as u64);
        }
    }

    /// The cheapest of: as the last column, its mode continued, a schedule, a drifting one, none.
    fn choose_times(&mut self, samples: &'c [Sample], period: u64) -> Times {
        let ticks = || samples.iter().map(|s| s.tick);
        if samples.len() == self.last_samples.len() && ticks().eq(self.last_samples.iter().map(|s| s.tick)) {
            return Times { mode: Mode::Copy, period: self.last.period, origin: 0 };
        }
        let first = samples[0].tick;
        let steady = period != 0 && period < 1 << 50 && median_gap_is_near(samples, period, &mut self.scratch);
        let period = if steady { period } else { estimate(samples, &mut self.scratch) };
        let middle = first.wrapping_add(self.middle(samples, period) as u64);
        let last = Times { mode: self.last.mode, period: self.last.period, origin: self.last.expected_origin() };
        let candidates = [
            last,
            Times { mode: Mode::Schedule, period, origin: last.origin },
            Times { mode: Mode::Schedule, period, origin: middle },
            Times { mode: Mode::Drift, period, origin: first },
            Times { mode: Mode::Free, period, origin: first },
        ];
        let mut best = (u64::MAX, candidates[4]);
        for times in candidates {
            if times.mode == Mode::Copy {
                continue;
            }
            let cost = self.cost(samples, times);
            if cost < best.0 {
                best = (cost, times);
            }
        }
        best.1
    }

    /// About how many bits these times will take.
    fn cost(&self, samples: &[Sample], times: Times) -> u64 {
        let mut cost = 0;
        if (times.mode, times.period) != (self.last.mode, self.last.period) {
            cost += 8 + 2 * u64::from(bits_of(times.period >> FRAC));
        }
        let off = times.origin.wrapping_sub(self.last.expected_origin()) as i64;
        cost += 1 + 2 * u64::from(bits_of(zigzag(off)));
        let Some(gains) = times.mode.gains() else { return cost };
        let mut predictor = Predictor::new(TIME_GAINS[gains], 0);
        let step = times.period as i64;
        for (i, sample) in samples.iter().enumerate() {
            let x = sample.tick.wrapping_sub(times.origin) as i64;
            let r = x.wrapping_sub(predictor.next());
            let bits = u64::from(bits_of(zigzag(r)));
            cost += bits;
            // What is far off the schedule will be told in full.
            if bits > 8 && r.unsigned_abs() > times.period >> (FRAC + 1) {
                cost += 20;
                predictor.jump(r, step);
            } else {
                predictor.take(x);
            }
            if i == 0 {
                predictor.set_trend(step);
            }
        }
        cost
    }

    /// The middle of the first times that the samples' times would give on a schedule, relative to the first.
    fn middle(&mut self, samples: &[Sample], period: u64) -> i64 {
        self.scratch.clear();
        let first = samples[0].tick;
        let on = |i: u64| (i.wrapping_mul(period).wrapping_add(1 << (FRAC - 1)) >> FRAC) as i64;
        let offs = samples.iter().zip(0u64..).map(|(s, i)| (s.tick.wrapping_sub(first) as i64).wrapping_sub(on(i)));
        self.scratch.extend(offs);
        let half = self.scratch.len() / 2;
        *self.scratch.select_nth_unstable(half).1
    }

    fn times(&mut self, samples: &[Sample], times: Times) {
        let off = times.origin.wrapping_sub(self.last.expected_origin()) as i64;
        self.w.put_flag(off == 0);
        if off != 0 {
            put_gamma(&mut self.w, zigzag(off));
        }
        self.last.take_origin(times.origin);
        let gains = TIME_GAINS[times.mode.gains().unwrap_or(0)];
        let step = times.period as i64;

        // Once to see which k to begin with, once to write.
        let k = {
            let mut predictor = Predictor::new(gains, 0);
            let residuals = samples.iter().enumerate().map(|(i, sample)| {
                let x = sample.tick.wrapping_sub(times.origin) as i64;
                let r = x.wrapping_sub(predictor.next());
                predictor.take(x);
                if i == 0 {
                    predictor.set_trend(step);
                }
                zigzag(r)
            });
            code::first_k(residuals)
        };
        put_near(&mut self.w, i64::from(k) - i64::from(self.last.time_k));
        self.last.time_k = k;
        let mut mean = Mean::of_k(k);
        let mut predictor = Predictor::new(gains, 0);
        for (i, sample) in samples.iter().enumerate() {
            let x = sample.tick.wrapping_sub(times.origin) as i64;
            let r = x.wrapping_sub(predictor.next());
            let (u, k) = (zigzag(r), mean.k());
            put_rice(&mut self.w, u, k);
            mean.take(u);
            if is_jump(u, k) {
                predictor.jump(r, step)
            } else {
                predictor.take(x)
            }
            if i == 0 {
                predictor.set_trend(step);
            }
        }
    }

    fn values(&mut self, samples: &[Sample]) {
        let first = samples[0].value;
        self.first_value(first);
        if samples.len() == 1 {
            return;
        }
        let gains = best_gains(samples);
        self.w.put(gains as u64, 2);
        let residuals = residuals(samples, gains).skip(1);
        let k = code::first_k(residuals);
        put_near(&mut self.w, i64::from(k) - i64::from(self.last.value_k));
        self.last.value_k = k;
        let mut mean = Mean::of_k(k);
        let mut predictor = Predictor::new(VALUE_GAINS[gains], 0);
        for (i, sample) in samples.iter().enumerate().skip(1) {
            let x = sample.value.wrapping_sub(first);
            let r = x.wrapping_sub(predictor.next());
            let u = zigzag(r);
            if i == 1 {
                put_rice(&mut self.w, u, super::second_k(k));
                predictor.take_second(x);
                continue;
            }
            let k = mean.k();
            put_rice(&mut self.w, u, k);
            mean.take(u);
            if is_jump(u, k) { predictor.jump(r, 0) } else { predictor.take(x) }
        }
    }

    /// Against 0 or against the first value of the last column, whichever is nearer.
    fn first_value(&mut self, first: i64) {
        let plain = zigzag(first);
        let against = zigzag(first.wrapping_sub(self.last.first_value));
        self.w.put_flag(against < plain);
        let u = plain.min(against);
        let n = bits_of(u);
        put_near(&mut self.w, i64::from(n) - i64::from(self.last.first_bits));
        if n > 1 {
            self.w.put_long(u & super::bits::mask(n - 1), n - 1);
        }
        self.last.first_bits = n;
        self.last.first_value = first;
    }
}

fn residuals(samples: &[Sample], gains: usize) -> impl Iterator<Item = u64> {
    let first = samples[0].value;
    let mut predictor = Predictor::new(VALUE_GAINS[gains], 0);
    samples.iter().enumerate().skip(1).map(move |(i, sample)| {
        let x = sample.value.wrapping_sub(first);
        let r = x.wrapping_sub(predictor.next());
        if i == 1 {
            predictor.take_second(x)
        } else {
            predictor.take(x)
        }
        zigzag(r)
    })
}

fn best_gains(samples: &[Sample]) -> usize {
    let cost = |gains: usize| residuals(samples, gains).map(|u| u64::from(bits_of(u))).sum::<u64>();
    // The random walk first: of equals it is the one that comes out of a jump at once.
    let mut best = (cost(1), 1);
    for gains in [2, 3, 0] {
        let cost = cost(gains);
        if cost < best.0 {
            best = (cost, gains);
        }
    }
    best.1
}

/// Whether the samples come at about this period; a wrong configuration must not cost bytes.
fn median_gap_is_near(samples: &[Sample], period: u64, scratch: &mut Vec<i64>) -> bool {
    if samples.len() < 3 {
        return true;
    }
    estimate(samples, scratch).abs_diff(period) <= period / 4
}

/// The mean of those times between samples that are near the middle one, in parts of a tick.
fn estimate(samples: &[Sample], scratch: &mut Vec<i64>) -> u64 {
    scratch.clear();
    scratch.extend(samples.windows(2).map(|pair| pair[1].tick.wrapping_sub(pair[0].tick) as i64));
    if scratch.is_empty() {
        return 0;
    }
    let half = scratch.len() / 2;
    let middle = *scratch.select_nth_unstable(half).1;
    if !(0..1 << 40).contains(&middle) {
        return 0;
    }
    let near = || scratch.iter().filter(|gap| gap.abs_diff(middle) <= middle as u64 / 4);
    let (n, sum) = (near().count() as i128, near().map(|&gap| i128::from(gap)).sum::<i128>());
    // The middle one is near itself, so that n is never 0; the mean is below 2^41, so that it fits.
    (((sum << FRAC) + n / 2) / n) as u64
}
