//! The way, at any time and not only where a pulse came.

use super::tracker::Motion;
use crate::clock::BootNs;

/// A mean over an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// Where it begins.
    pub from: BootNs,
    /// Where it ends, and the next one begins.
    pub to: BootNs,
    /// The way between over the time between, m/s; below zero on the way back.
    pub speed: f64,
}

/// The newest pulse and the tooth that comes next, in pitches from the first pulse, in the direction of travel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between {
    pub(super) last: f64,
    pub(super) next: f64,
    pub(super) t: BootNs,
}

/// Says where the wheel stands. What was said is never taken back: the ways from one time to the next add up to the
/// whole way, however many they are.
#[derive(Debug, Default)]
pub(super) struct Odometer {
    /// Metres before the first pulse.
    pub(super) start: f64,
    /// The newest two, in pitches.
    newest: Option<(BootNs, f64)>,
    before: Option<(BootNs, f64)>,
}

impl Odometer {
    /// The wheel stands, as far as anyone knows, where it was last seen.
    pub(super) fn stand(&mut self, t: BootNs) {
        if let Some((_, phase)) = self.newest {
            self.say(t, phase);
        }
    }

    /// Works out the phase at `t`: by the motion between the newest pulse and the next, which did not come yet.
    pub(super) fn advance(&mut self, t: BootNs, between: &Between, motion: Option<Motion>, way: i8, both_ways: bool) {
        let Between { last, next, t: newest } = *between;
        let phase = match motion {
            _ if t == newest => last,
            // The pulse came after `t`, so the wheel was not there yet.
            Some(motion) if t < newest => (last + motion.phase).min(last),
            Some(motion) => (last + motion.phase).max(last).min(next),
            None => last.min(next),
        };
        let phase = phase * f64::from(way);
        let before = self.newest.map_or(phase, |(_, before)| before);
        self.say(t, if both_ways { phase } else { phase.max(before) });
    }

    fn say(&mut self, t: BootNs, phase: f64) {
        if self.newest.is_none_or(|(newest, _)| t > newest) {
            self.before = self.newest.replace((t, phase));
        }
    }

    /// When it was last asked, and the way at that time, m.
    pub(super) fn way(&self, pitch: f64) -> Option<(BootNs, f64)> {
        self.newest.map(|(t, phase)| (t, self.start + phase * pitch))
    }

    /// `mean = (phi(t) - phi(t')) d / (t - t')` between the newest two times.
    pub(super) fn mean(&self, pitch: f64) -> Option<Mean> {
        let ((from, before), (to, after)) = (self.before?, self.newest?);
        Some(Mean { from, to, speed: (after - before) * pitch / to.since(from).as_secs_f64() })
    }
}
