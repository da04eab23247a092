//! Whether a vehicle moves, by its best speed. Pure.
//!
//! Between the two thresholds nothing changes, and what changes has to last: noise of a speed near a threshold is no
//! driving off, and a queue at a light no parking.

use std::time::{Duration, Instant};

/// Faster than this it moves, m/s: slow walking pace. Noise of satellite speeds at rest stays below.
pub const MOVES_OVER: f64 = 1.0;
/// Slower than this it stands, m/s.
pub const STANDS_UNDER: f64 = 0.5;
/// It has moved for so long before it moves.
const MOVES_FOR: Duration = Duration::from_secs(2);
/// It has stood for so long before it has stopped.
const STANDS_FOR: Duration = Duration::from_secs(10);
/// There was no speed for so long before there is none.
const NONE_FOR: Duration = Duration::from_secs(5);

/// What a vehicle does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// It moves.
    Moving,
    /// It stands.
    Stopped,
    /// Nothing tells.
    NoSpeed,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Moves {
    is: Motion,
    seems: Motion,
    since: Instant,
}

impl Moves {
    /// As it was when last known. That there is no speed counts from `since` on.
    pub fn new(is: Motion, since: Instant) -> Self {
        Self { is, seems: Motion::NoSpeed, since }
    }

    /// What it does.
    pub fn is(&self) -> Motion {
        self.is
    }

    /// This is its speed now, either way, m/s.
    pub fn see(&mut self, speed: Option<f64>, now: Instant) -> Motion {
        let seems = match speed.map(f64::abs) {
            None => Motion::NoSpeed,
            Some(v) if v > MOVES_OVER => Motion::Moving,
            Some(v) if v < STANDS_UNDER => Motion::Stopped,
            // Creeping.
            Some(_) if self.is == Motion::NoSpeed => Motion::Stopped,
            Some(_) => self.is,
        };
        if seems != self.seems {
            (self.seems, self.since) = (seems, now);
        }
        let lasts = match (self.is, seems) {
            (Motion::NoSpeed, _) => Duration::ZERO,
            (_, Motion::Moving) => MOVES_FOR,
            (_, Motion::Stopped) => STANDS_FOR,
            (_, Motion::NoSpeed) => NONE_FOR,
        };
        if now.saturating_duration_since(self.since) >= lasts {
            self.is = seems;
        }
        self.is
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is told of a speed a second.
    fn drive(speeds: impl IntoIterator<Item = Option<f64>>) -> Vec<(usize, Motion)> {
        let start = Instant::now();
        let mut moves = Moves::new(Motion::NoSpeed, start);
        let mut told = Vec::new();
        for (s, speed) in speeds.into_iter().enumerate() {
            let is = moves.see(speed, start + Duration::from_secs(s as u64));
            if told.last().is_none_or(|(_, last)| *last != is) {
                told.push((s, is));
            }
        }
        told
    }

    fn some(speed: f64, times: usize) -> impl Iterator<Item = Option<f64>> {
        std::iter::repeat_n(Some(speed), times)
    }

    #[test]
    fn a_drive_with_a_light_and_a_tunnel_and_a_stop_is_told_as_one_drive_and_one_stop() {
        let light = some(12.0, 20).chain(some(0.0, 8)).chain(some(12.0, 20));
        let tunnel = std::iter::repeat_n(None, 4).chain(some(-12.0, 20));
        let told = drive(light.chain(tunnel).chain(some(0.0, 30)));
        assert_eq!(told, [(0, Motion::Moving), (82, Motion::Stopped)], "backwards is moving too");
    }

    #[test]
    fn no_speed_is_not_standing_still() {
        let told = drive(some(0.0, 20).chain(std::iter::repeat_n(None, 20)).chain(some(3.0, 3)));
        assert_eq!(told, [(0, Motion::Stopped), (25, Motion::NoSpeed), (40, Motion::Moving)]);
    }

    proptest! {
        #[test]
        fn noise_between_the_thresholds_changes_nothing(noise in prop::collection::vec(-0.99f64..0.99, 1..200)) {
            let standing = drive(some(0.0, 20).chain(noise.iter().copied().map(Some)));
            prop_assert_eq!(standing, vec![(0, Motion::Stopped)]);
            let creeping = noise.iter().map(|v| Some(0.51 + v.abs() / 2.1));
            prop_assert_eq!(drive(some(5.0, 20).chain(creeping)), vec![(0, Motion::Moving)]);
        }
    }
}
