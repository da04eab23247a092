//! What the next number of a series will be.
//!
//! All arithmetic is in wrapping 64-bit integers of 1/1024, and a prediction is rounded to the nearest whole, halves up.
//! Any series comes back exactly whatever is predicted.

/// Bits of the fraction.
pub(super) const FRAC: u32 = 10;

/// Periods are shorter, in parts of a tick: so they can be added up without thinking.
pub(super) const PERIOD_END: u64 = 1 << 52;

fn rounded(parts: i64) -> i64 {
    parts.wrapping_add(1 << (FRAC - 1)) >> FRAC
}

/// How far level and trend follow an error, in eighths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gains {
    level: i64,
    trend: i64,
}

const fn gains(level: i64, trend: i64) -> Gains {
    Gains { level, trend }
}

/// Of values, by their number in a block: noise about a level, a random walk, smooth motion, motion with noise.
pub(super) const GAINS: [Gains; 4] = [gains(2, 0), gains(8, 0), gains(8, 8), gains(7, 5)];

/// Values: a level and a trend that follow the series with fixed gains.
///
/// ```text
/// prediction   p = level + trend
/// error        e = x - p
/// then         level = p + e * a/8      trend = trend + e * b/8
/// ```
/// With gains (8, 0) it is the last value, with (8, 8) a straight line through the last two; in between it averages the
/// noise away. The series begins at 0 (it is told against its first value); its second value sets the trend whole, if
/// there is to be one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Predictor {
    gains: Gains,
    level: i64,
    trend: i64,
}

impl Predictor {
    /// For a series that stands at 0 and has come to `second`.
    pub(super) fn new(gains: Gains, second: i64) -> Self {
        let mut predictor = Self { gains, level: 0, trend: 0 };
        predictor.take(second);
        if gains.trend > 0 {
            (predictor.level, predictor.trend) = (second << FRAC, second << FRAC);
        }
        predictor
    }

    pub(super) fn next(&self) -> i64 {
        rounded(self.level.wrapping_add(self.trend))
    }

    /// The next number has come.
    pub(super) fn take(&mut self, x: i64) {
        let ahead = self.level.wrapping_add(self.trend);
        let e = (x << FRAC).wrapping_sub(ahead);
        self.level = ahead.wrapping_add(e.wrapping_mul(self.gains.level) >> 3);
        self.trend = self.trend.wrapping_add(e.wrapping_mul(self.gains.trend) >> 3);
    }

    /// The next number has come and is a jump: the level is there, the trend is as before.
    pub(super) fn jump(&mut self, x: i64) {
        self.level = x << FRAC;
    }
}

/// Sixteenths by which a schedule follows the n-th time told on it, about 16 / n: it stands at the mean of all, and
/// later follows slowly, because their clock may drift against ours.
const FOLLOW: [i64; 12] = [16, 16, 8, 5, 4, 3, 3, 2, 2, 2, 2, 1];

/// What a place in [`FOLLOW`] an expected schedule begins with: it is worth so many times.
const TRUST: usize = 4;

/// The times of a column: a schedule of fixed period that moves to where the times are.
///
/// ```text
/// error        e = x - level
/// then         level = level + e * FOLLOW[n]/16 + period      n = n + 1
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    period: i64,
    /// Whether each time is told against the one before.
    free: bool,
    level: i64,
    n: usize,
    /// What all jumps were together.
    shift: i64,
}

impl Schedule {
    /// Expects the first time at `level`, in parts.
    pub(super) fn expecting(level: i64, period: u64, free: bool) -> Self {
        Self { period: period as i64, free, level, n: TRUST, shift: 0 }
    }

    /// Begins at `first` whatever was expected.
    pub(super) fn start(&mut self, first: i64) {
        (self.level, self.n) = (first << FRAC, 1);
    }

    pub(super) fn next(&self) -> i64 {
        rounded(self.level)
    }

    /// The next time has come.
    pub(super) fn take(&mut self, x: i64) {
        let follow = if self.free { 16 } else { FOLLOW[self.n] };
        let e = (x << FRAC).wrapping_sub(self.level);
        self.level = self.level.wrapping_add(e.wrapping_mul(follow) >> 4).wrapping_add(self.period);
        self.n = (self.n + 1).min(FOLLOW.len() - 1);
    }

    /// The next time has come, `r` off: the schedule moves by as many whole periods as come nearest.
    pub(super) fn jump(&mut self, r: i64) {
        let r = if r.unsigned_abs() >> (62 - FRAC) == 0 { r << FRAC } else { 0 };
        let whole = match self.period {
            0 => r,
            period => r.wrapping_add(period / 2).div_euclid(period).wrapping_mul(period),
        };
        self.shift = self.shift.wrapping_add(whole);
        self.level = self.level.wrapping_add(whole).wrapping_add(self.period);
    }

    /// After `count` times: where the first stands by all of them, in parts.
    pub(super) fn origin(&self, count: usize) -> i64 {
        self.level.wrapping_sub(self.shift).wrapping_sub((count as i64).wrapping_mul(self.period))
    }
}
