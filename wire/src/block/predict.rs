//! What the next number of a series will be: a level and a trend that follow the series with fixed gains.
//!
//! ```text
//! prediction   p = level + trend
//! error        e = x - p
//! then         level = p + e * a/8      trend = trend + e * b/8
//! ```
//! in wrapping 64-bit integers of 1/1024, relative to the first of the series, rounded to the nearest whole. With gains
//! (8, 0) it is the last value, with (8, 8) a straight line through the last two, with (0, 0) a fixed schedule; in
//! between it averages the noise away. Any series comes back exactly whatever is predicted.

/// Bits of the fraction.
pub(super) const FRAC: u32 = 10;

/// How far level and trend follow an error, in eighths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gains {
    pub(super) level: i64,
    pub(super) trend: i64,
}

const fn gains(level: i64, trend: i64) -> Gains {
    Gains { level, trend }
}

/// Of values, by their number in a block: noise about a level, a random walk, smooth motion, motion with noise.
pub(super) const VALUE_GAINS: [Gains; 4] = [gains(2, 0), gains(8, 0), gains(8, 8), gains(6, 4)];
/// Of times: the schedule, the schedule of a clock that drifts, as they please.
pub(super) const TIME_GAINS: [Gains; 3] = [gains(0, 0), gains(1, 0), gains(8, 0)];

#[derive(Clone, Copy, Debug)]
pub(super) struct Predictor {
    gains: Gains,
    level: i64,
    trend: i64,
}

impl Predictor {
    /// For a series that stands at 0 now and rises by `trend` a step.
    pub(super) fn new(gains: Gains, trend: i64) -> Self {
        Self { gains, level: 0, trend }
    }

    /// From here on the series rises by `trend` a step.
    pub(super) fn set_trend(&mut self, trend: i64) {
        self.trend = trend;
    }

    fn ahead(&self) -> i64 {
        self.level.wrapping_add(self.trend)
    }

    pub(super) fn next(&self) -> i64 {
        self.ahead().wrapping_add(1 << (FRAC - 1)) >> FRAC
    }

    /// The next number has come.
    pub(super) fn take(&mut self, x: i64) {
        let ahead = self.ahead();
        let e = (x << FRAC).wrapping_sub(ahead);
        self.level = ahead.wrapping_add(e.wrapping_mul(self.gains.level) >> 3);
        self.trend = self.trend.wrapping_add(e.wrapping_mul(self.gains.trend) >> 3);
    }

    /// The second number has come: it sets the trend, if there is to be one.
    pub(super) fn take_second(&mut self, x: i64) {
        self.take(x);
        if self.gains.trend > 0 {
            (self.level, self.trend) = (x << FRAC, x << FRAC);
        }
    }

    /// The next number has come after a jump of `r`: the level moves by as many whole `step`s as come nearest.
    pub(super) fn jump(&mut self, r: i64, step: i64) {
        let r = if r.unsigned_abs() >> (62 - FRAC) == 0 { r << FRAC } else { 0 };
        let whole = if step > 0 { r.wrapping_add(step / 2).div_euclid(step).wrapping_mul(step) } else { r };
        self.level = self.ahead().wrapping_add(whole);
    }
}
