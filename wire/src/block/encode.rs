//! Columns to bytes. What is chosen here is free: any choice is read back exactly; these are the cheap ones.

use alloc::vec::Vec;

use super::{
    Column, Context, FORM, Mode, Periods, Sample,
    bits::Writer,
    code::{self, Mean, bits_of, is_jump, put_gamma, put_long, put_near, put_rice, zigzag},
    predict::{FRAC, GAINS, Predictor, Schedule},
};
use crate::Quality;

/// Steps between the k that times go on with and the k they would like, from which it pays to tell it.
const K_OFF: u32 = 3;

/// Bits that another mode than the last column's costs.
const MODE_CHANGE: u64 = 8;

/// The columns as bytes. Columns without samples are left out.
pub fn encode(columns: &[Column], periods: &impl Periods) -> Vec<u8> {
    let filled = || columns.iter().filter(|column| !column.samples.is_empty());
    let samples: usize = filled().map(|column| column.samples.len()).sum();
    let mut bytes = Vec::with_capacity(64 + samples * 2);
    bytes.push(FORM);
    let mut w = Writer::new(bytes);
    put_gamma(&mut w, filled().count() as u64);
    let mut encoder = Encoder { w, last: Context::before_first(), last_samples: &[], scratch: Vec::new() };
    for column in filled() {
        encoder.column(column, periods.period(column.channel));
    }
    // A bit for each sample, so that a reader can tell from the length how many there can be.
    encoder.w.finish(samples.div_ceil(8))
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
    k: u32,
}

impl<'c> Encoder<'c> {
    fn column(&mut self, column: &'c Column, period: u64) {
        let samples = &column.samples[..];
        let times = self.choose_times(samples, period);
        self.head(column, times);
        if times.mode != Mode::Copy {
            self.times(samples);
        }
        self.values(samples);
        self.last.channel = column.channel;
        self.last_samples = samples;
    }

    fn head(&mut self, column: &Column, times: Times) {
        let samples = &column.samples[..];
        let good = samples.iter().all(|s| s.quality == Quality::Good);
        let steady_at = |u| samples.iter().all(|s| s.uncertainty == u);
        let steady = steady_at(self.last.head.uncertainty);
        let next = column.channel == self.last.channel.wrapping_add(1);
        let count = samples.len() as u64;
        let same_count = count == self.last.head.count;
        let goes_on = self.goes_on(times);
        let same_mode = goes_on && times.mode == self.last.head.mode;
        let as_last = good && steady && next && same_count && same_mode;
        let (last, before) = (self.last.head, self.last.head_before);
        self.last.head_before = last;
        self.w.put_flag(as_last);
        if as_last {
            return;
        }
        let as_before = good && next && count == before.count && goes_on && times.mode == before.mode;
        let as_before = as_before && steady_at(before.uncertainty);
        self.w.put_flag(as_before);
        if as_before {
            self.last.head = before;
            return;
        }
        self.w.put_flag(next);
        if !next {
            self.w.put(u64::from(column.channel), 16);
        }
        self.w.put_flag(same_count);
        if !same_count {
            put_gamma(&mut self.w, count);
            self.last.head.count = count;
        }
        self.w.put_flag(same_mode);
        if !same_mode {
            self.mode(times, goes_on);
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

    /// Whether times can be told with the period and k that are in force.
    fn goes_on(&self, times: Times) -> bool {
        let same = times.period == self.last.period && self.last.time_mean.k().abs_diff(times.k) < K_OFF;
        times.mode == Mode::Copy || same
    }

    fn mode(&mut self, times: Times, goes_on: bool) {
        self.last.head.mode = times.mode;
        self.w.put(times.mode as u64, 2);
        if times.mode == Mode::Copy {
            return;
        }
        self.w.put_flag(goes_on);
        if goes_on {
            return;
        }
        let whole = times.period.trailing_zeros() >= FRAC;
        self.w.put_flag(whole);
        put_long(&mut self.w, if whole { times.period >> FRAC } else { times.period });
        self.w.put(u64::from(times.k), 6);
        self.last.period = times.period;
        self.last.time_mean = Mean::of_k(times.k);
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
        self.last.head.uncertainty = last;
    }

    fn qualities(&mut self, samples: &[Sample]) {
        for run in samples.chunk_by(|a, b| a.quality == b.quality) {
            self.w.put(super::quality_code(run[0].quality), 2);
            put_gamma(&mut self.w, run.len() as u64);
        }
    }

    /// As the last column, on a schedule, or free; whichever is cheapest.
    fn choose_times(&mut self, samples: &'c [Sample], period: u64) -> Times {
        let ticks = || samples.iter().map(|s| s.tick);
        if samples.len() == self.last_samples.len() && ticks().eq(self.last_samples.iter().map(|s| s.tick)) {
            return Times { mode: Mode::Copy, period: self.last.period, k: 0 };
        }
        let near = period != 0 && period < 1 << 50 && median_gap_is_near(samples, period, &mut self.scratch);
        let period = if near { period } else { estimate(samples, &mut self.scratch) };
        let (mut bits, mut sums) = ([0u64; 2], [0u64; 2]);
        let first = samples[0].tick;
        let mut schedules = [false, true].map(|free| Schedule::expecting(0, period, free));
        schedules.iter_mut().for_each(|schedule| schedule.start(0));
        schedules.iter_mut().for_each(|schedule| schedule.take(0));
        for (i, sample) in samples.iter().enumerate().skip(1) {
            let x = sample.tick.wrapping_sub(first) as i64;
            for (schedule, (bits, sum)) in schedules.iter_mut().zip(bits.iter_mut().zip(&mut sums)) {
                let r = x.wrapping_sub(schedule.next());
                let cost = bits_of(zigzag(r));
                *bits += u64::from(cost);
                // What is far off the schedule will be told in full.
                if cost > 8 && r.unsigned_abs() > period >> (FRAC + 1) {
                    *bits += 20;
                    schedule.jump(r);
                } else {
                    if i <= 16 {
                        *sum += zigzag(r);
                    }
                    schedule.take(x);
                }
            }
        }
        // To and from another mode costs twice this; a few lucky times are not worth it.
        let change = |mode| if self.last.head.mode == mode { 0 } else { MODE_CHANGE };
        let free = usize::from(bits[1] + change(Mode::Free) < bits[0] + change(Mode::Schedule));
        // A single time says nothing of how far times are off.
        let k = match samples.len() as u64 - 1 {
            0 => self.last.time_mean.k(),
            n => code::k_of(sums[free] / n.min(16)),
        };
        Times { mode: if free == 1 { Mode::Free } else { Mode::Schedule }, period, k }
    }

    fn times(&mut self, samples: &[Sample]) {
        let base = *self.last.base.get_or_insert_with(|| {
            put_long(&mut self.w, samples[0].tick);
            samples[0].tick
        });
        let mut schedule = self.last.schedule();
        let mut mean = self.last.time_mean;
        let first = samples[0].tick.wrapping_sub(base) as i64;
        let r = first.wrapping_sub(schedule.next());
        let (u, k) = (zigzag(r), mean.k());
        let near = u >> k < 8;
        self.w.put_flag(near);
        if near {
            put_rice(&mut self.w, u, k);
            mean.take(u);
        } else {
            put_long(&mut self.w, u);
            schedule.start(first);
        }
        schedule.take(first);
        for sample in &samples[1..] {
            let x = sample.tick.wrapping_sub(base) as i64;
            let r = x.wrapping_sub(schedule.next());
            let (u, k) = (zigzag(r), mean.k());
            put_rice(&mut self.w, u, k);
            mean.take(u);
            if is_jump(u, k) { schedule.jump(r) } else { schedule.take(x) }
        }
        self.last.time_mean = mean;
        self.last.take_origin(schedule.origin(samples.len()), near);
    }

    fn values(&mut self, samples: &[Sample]) {
        let first = samples[0].value;
        let moves = samples.iter().any(|s| s.value != first);
        self.w.put_flag(moves);
        if !moves {
            self.w.put_flag(first != 0);
            if first == 0 {
                return;
            }
        }
        self.first_value(first);
        if !moves {
            return;
        }
        let (gains, k) = best_gains(samples);
        self.w.put(gains as u64, 2);
        put_near(&mut self.w, i64::from(k) - i64::from(self.last.value_k));
        self.last.value_k = k;
        let second = samples[1].value.wrapping_sub(first);
        put_rice(&mut self.w, zigzag(second), super::second_k(k));
        let mut mean = Mean::of_k(k);
        let mut predictor = Predictor::new(GAINS[gains], second);
        for sample in &samples[2..] {
            let x = sample.value.wrapping_sub(first);
            let r = x.wrapping_sub(predictor.next());
            let (u, k) = (zigzag(r), mean.k());
            put_rice(&mut self.w, u, k);
            mean.take(u);
            if is_jump(u, k) { predictor.jump(x) } else { predictor.take(x) }
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

/// The cheapest gains and the k to begin with.
fn best_gains(samples: &[Sample]) -> (usize, u32) {
    let first = samples[0].value;
    let second = samples[1].value.wrapping_sub(first);
    let mut predictors = GAINS.map(|gains| Predictor::new(gains, second));
    let (mut bits, mut sums) = ([0u64; 4], [0u64; 4]);
    for (i, sample) in samples.iter().enumerate().skip(2) {
        let x = sample.value.wrapping_sub(first);
        for ((predictor, bits), sum) in predictors.iter_mut().zip(&mut bits).zip(&mut sums) {
            let u = zigzag(x.wrapping_sub(predictor.next()));
            *bits += u64::from(bits_of(u));
            if i < 18 {
                *sum = sum.saturating_add(u.min(u64::MAX >> 8));
            }
            predictor.take(x);
        }
    }
    // The random walk first: of equals it is the one that comes out of a jump at once.
    let mut best = 1;
    for gains in [2, 3, 0] {
        if bits[gains] < bits[best] {
            best = gains;
        }
    }
    let n = (samples.len() as u64 - 2).clamp(1, 16);
    (best, code::k_of(sums[best] / n))
}

/// Whether the samples come at about this period; a wrong configuration must not cost bytes.
fn median_gap_is_near(samples: &[Sample], period: u64, scratch: &mut Vec<i64>) -> bool {
    if samples.len() < 3 {
        return true;
    }
    let gap = samples[1].tick.wrapping_sub(samples[0].tick);
    let near = |gap: u64| gap < 1 << 50 && (gap << FRAC).abs_diff(period) <= period / 4;
    // Nearly always the first gap tells.
    near(gap) && near(samples[2].tick.wrapping_sub(samples[1].tick))
        || estimate(samples, scratch).abs_diff(period) <= period / 4
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
