//! The newest intervals: what they say of the next one, and of how well edges are stamped.

use super::Options;

/// A pulse this much of a pitch early or late is what tooth errors and a steady hand explain.
const SLACK: f64 = 0.25;
/// A wheel that may gain more than this in a pitch may turn from braking to accelerating unforeseen.
const SUDDEN: f64 = 0.05;
/// A pulse let through that comes this much of a pitch before it should may be a spark.
const SPARK: f64 = 0.1;
/// A pulse before so much of the way to the next tooth, by the one who follows the wheel, is none, whatever the intervals.
const FAR_TOO_EARLY: f64 = 0.5;
/// An interval and the one before it differ by sqrt(6) sigma of jitter: this is 3.7 of that, and the shortest of three is
/// taken on top. Where it comes to a whole pitch the stamps are too rough to refuse anything.
const NOISE: f64 = 9.0;
/// Above this, in pitches, the wheel or the jitter could have done it: nothing is put back.
const AMBIGUOUS: f64 = 0.35;
/// Bounds of the jitter that is believed, seconds: below, the kernel's stamps are not better; above, it is the wheel.
const JITTER_MIN: f64 = 0.3e-6;
const JITTER_MAX: f64 = 100e-6;
/// Jitter assumed until four pulses have come.
const JITTER_FIRST: f64 = 50e-6;
/// E|D3| of white jitter: sqrt(20) * sqrt(2/pi), D3 being the third difference of the stamps.
const THIRD_DIFFERENCE: f64 = 3.568;
/// A difference counts for at most so many times the mean: one late stamp must not make the others look rough.
const CLIP: f64 = 5.0;

/// What an interval means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// No wheel turns so fast.
    Early,
    /// So many places; `sure` unless others would do as well.
    By { places: u64, sure: bool },
    /// Pulses were lost, and the phase does not agree how many.
    Unknown,
}

/// What is to be judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Seconds since the newest pulse.
    pub(super) interval: f64,
    /// Places to the next tooth.
    pub(super) next: u64,
    /// Places to the tooth that comes after those known lost, if any is.
    pub(super) told: Option<u64>,
    /// Places the wheel should have turned by now, by whoever follows it more closely.
    pub(super) foreseen: Option<f64>,
    /// Whether that is worth more than the intervals.
    pub(super) follows: bool,
}

/// The last three intervals a place, newest first, and what they say of the jitter.
#[derive(Debug)]
pub(super) struct History {
    intervals: [f64; 3],
    known: usize,
    /// Whether all of them were single places.
    single: [bool; 3],
    floor: f64,
    jitter: f64,
    measured: u32,
    /// So many of the newest intervals begin or end at what may have been a spark.
    tainted: u32,
}

impl History {
    pub(super) fn new(floor: f64) -> Self {
        let floor = floor.max(JITTER_MIN);
        let jitter = JITTER_FIRST.max(floor);
        // As if eight had been measured: one small difference must not make the gate narrow.
        Self { intervals: [0.0; 3], known: 0, single: [false; 3], floor, jitter, measured: 8, tainted: 0 }
    }

    pub(super) fn forget(&mut self) {
        self.known = 0;
    }

    /// Standard deviation of the stamps, seconds.
    pub(super) fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The newest interval a place, seconds.
    pub(super) fn newest(&self) -> Option<f64> {
        (self.known > 0).then_some(self.intervals[0])
    }

    /// Takes an interval over so many places; `early` when it ended before the wheel should have got there.
    pub(super) fn push(&mut self, interval: f64, places: u64, early: bool) {
        self.tainted = if early { 2 } else { self.tainted.saturating_sub(1) };
        self.intervals = [interval / places as f64, self.intervals[0], self.intervals[1]];
        self.single = [places == 1, self.single[0], self.single[1]];
        self.known = (self.known + 1).min(3);
        if self.known == 3 && self.single == [true; 3] {
            self.measure_jitter();
        }
    }

    /// `D3 = t0 - 3 t1 + 3 t2 - t3`, to which steady and evenly changing speeds contribute nothing; a mean over about
    /// 64 of them.
    fn measure_jitter(&mut self) {
        let [newest, middle, oldest] = self.intervals;
        let sigma = (newest - 2.0 * middle + oldest).abs() / THIRD_DIFFERENCE;
        self.measured = (self.measured + 1).min(64);
        let mean = self.jitter + (sigma.min(CLIP * self.jitter) - self.jitter) / f64::from(self.measured);
        self.jitter = mean.clamp(self.floor, JITTER_MAX.max(self.floor));
    }

    /// Whether what came as the pulse of so many places may be a spark: earlier than foreseen by more than the
    /// wheel may have gained.
    pub(super) fn is_spark(&self, step: &Step, places: u64, options: &Options) -> bool {
        let newest = self.newest().unwrap_or(step.interval);
        let gain = gain(options, step.interval, newest);
        let early = |phase: f64| phase + gain < places as f64 - SPARK;
        step.follows && self.is_clear(gain, newest) && step.foreseen.is_some_and(early)
    }

    /// Whether neither a brake nor the jitter can move a pulse by much of a pitch, `newest` being an interval a place.
    fn is_clear(&self, gain: f64, newest: f64) -> bool {
        gain < SUDDEN && NOISE * self.jitter < SLACK * newest
    }

    /// Says what came. An edge is refused, or lost ones are put back without the kernel's word, only where both the
    /// last intervals and the foresight say so: the one is misled by a single late stamp, the other lags in a skid.
    pub(super) fn judge(&self, step: &Step, options: &Options) -> Advance {
        let Step { interval, next, told, foreseen, follows } = *step;
        if (interval + NOISE * self.jitter) * options.max_rate * 2.0 < 1.0 {
            return Advance::Early;
        }
        if self.known == 0 {
            return if told.is_none() { Advance::By { places: next, sure: true } } else { Advance::Unknown };
        }
        let newest = match foreseen {
            Some(phase) if follows && self.tainted > 0 && phase > FAR_TOO_EARLY => interval / phase,
            _ => self.intervals[0],
        };
        let change = gain(options, interval, newest);
        let shortest = self.intervals[..self.known].iter().copied().fold(f64::INFINITY, f64::min);
        let noise = SLACK.max(NOISE * self.jitter / shortest);
        // By the shortest of three: after a gap in the teeth, or a glitch let through, the others are the longer.
        let is_early = |phase: f64| phase + change < next as f64 * (1.0 - noise);
        // A spark let through spoils the intervals the next one is measured by; who follows the wheel knows better. Not so
        // where pulses come late: in a skid the follower lags.
        let clear = follows && self.is_clear(change, newest);
        let is_far_too_early = |phase: f64| clear && phase + change < next as f64 * FAR_TOO_EARLY;
        if (is_early(interval / shortest) && foreseen.is_none_or(is_early)) || foreseen.is_some_and(is_far_too_early) {
            return Advance::Early;
        }
        let phase = interval / newest;
        let slack = change.max(noise);
        let fits = |phase: f64, places: f64| (phase - places).abs() <= slack;
        if let Some(told) = told {
            let agrees = fits(foreseen.unwrap_or(phase), told as f64);
            return if agrees { Advance::By { places: told, sure: false } } else { Advance::Unknown };
        }
        let places = phase.round();
        let braking = (1.0 / newest - 1.0 / interval) / (0.5 * (newest + interval));
        if places <= next as f64 || braking <= options.max_rate_change {
            return Advance::By { places: next, sure: true };
        }
        // Too late for the hardest brake.
        let lost = slack <= AMBIGUOUS && fits(phase, places) && foreseen.is_none_or(|phase| fits(phase, places));
        let foreseen_next = foreseen.is_some_and(|phase| fits(phase, next as f64));
        if lost {
            Advance::By { places: places as u64, sure: false }
        } else {
            Advance::By { places: next, sure: foreseen_next }
        }
    }
}

/// How many pitches a wheel may gain in an interval, at most. Its rate was measured over the interval before: from the
/// middle of that to the end of this one it may have gained 1/2 g (old + new) in rate, and that times the interval in
/// phase.
fn gain(options: &Options, interval: f64, before: f64) -> f64 {
    0.5 * options.max_rate_change * interval * (before + interval)
}
