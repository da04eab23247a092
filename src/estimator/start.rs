//! Pulses after a standstill: a wheel that starts, or a tooth that trembles before the sensor.

use std::time::Duration;

use crate::clock::BootNs;

/// A start is believed once the wheel has turned by so many pitches in a time it could have: a tooth that trembles does
/// not get so far.
const BELIEVED: u32 = 2;
/// What no start explains is held back for so long; then it was no standstill but a wire that came back, or nobody
/// knows.
const HOLD: Duration = Duration::from_secs(3);

/// What is known of the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Fastest at the first tooth after a standstill, m/s: a pitch from rest, or from a creep that nobody could see.
    fastest: f64,
    pitch: f64,
    acceleration: f64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// It moves, or nothing is known.
    Moving,
    /// Since the pulse at `first`, so many came that a start explains; what was held back began at `held_since`.
    Starting { first: BootNs, pulses: u32, held_since: Option<BootNs> },
}

impl Start {
    /// Of a wheel that stands when no pulse came for `patience`, and gains at most `acceleration` m/s2.
    pub(super) fn new(pitch: f64, acceleration: f64, patience: Duration) -> Self {
        let unseen = pitch / patience.as_secs_f64();
        let fastest = (unseen * unseen + 2.0 * acceleration * pitch).sqrt();
        Self { fastest, pitch, acceleration, state: State::Moving }
    }

    /// The first pulse after a standstill.
    pub(super) fn begin(&mut self, t: BootNs) {
        self.state = State::Starting { first: t, pulses: 0, held_since: None };
    }

    /// Whether pulses came that no start explains.
    pub(super) fn trembles(&self) -> bool {
        matches!(self.state, State::Starting { held_since: Some(_), .. })
    }

    /// Whether the pulse at `t`, whose stamp is good to `late`, is a tooth that passed.
    pub(super) fn explains(&mut self, t: BootNs, late: Duration) -> bool {
        let State::Starting { first, pulses, held_since } = &mut self.state else { return true };
        *pulses += 1;
        // n d = v1 t + a t2/2 gives the least time from the first tooth to the n-th after it.
        let way = f64::from(*pulses) * self.pitch;
        let v1 = self.fastest;
        let least = 2.0 * way / (v1 + (v1 * v1 + 2.0 * self.acceleration * way).sqrt());
        let possible = (t.since(*first) + late).as_secs_f64() >= least;
        let over = held_since.is_some_and(|since| t.since(since) > HOLD);
        if over || (possible && *pulses >= BELIEVED) {
            self.state = State::Moving;
        } else if !possible {
            held_since.get_or_insert(*first);
            (*first, *pulses) = (t, 0);
        }
        possible || over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Start {
        let mut start = Start::new(0.04, 40.0, Duration::from_millis(400));
        start.begin(BootNs(0));
        start
    }

    #[test]
    fn the_hardest_start_there_can_be_is_one() {
        let mut wheel = start();
        for n in 1..50 {
            let at = |n: f64| (2.0 * 0.04 * n / 40.0).sqrt();
            let t = BootNs(((at(f64::from(n) + 1.0) - at(1.0)) * 1e9) as u64);
            assert!(wheel.explains(t, Duration::from_micros(1)), "{n}");
        }
        assert!(!wheel.trembles());
    }

    #[test]
    fn a_tooth_that_trembles_does_not_start_until_nobody_knows() {
        let mut wheel = start();
        for k in 1..300 {
            let t = BootNs(k * 10_000_000);
            assert!(!wheel.explains(t, Duration::ZERO) && wheel.trembles(), "{k}");
        }
        assert!(wheel.explains(BootNs(3_010_000_000), Duration::ZERO) && !wheel.trembles());
    }
}
