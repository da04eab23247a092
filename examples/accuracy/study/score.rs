//! Errors of a drive's readings, ours and the peers', against the truth and against the bound.

use speedwell::{clock::BootNs, sensor::Edge};
use speedwell_wire::Quality;

use super::{
    bound::{Unknown, bound},
    gear::{Gear, Passing, drive_time},
    ours::{Feed, known, seen, ticks, window_of},
    peers,
    road::Road,
};

/// 95 % of a normal distribution lie within so many standard deviations.
const TWO_SIDED_95: f64 = 1.959_964;

/// A sum of squares and how many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rms {
    sum: f64,
    pub(crate) count: usize,
}

impl Rms {
    pub(crate) fn add(&mut self, error: f64) {
        self.sum += error * error;
        self.count += 1;
    }

    /// `None` when there was nothing.
    pub(crate) fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.sum / self.count as f64).sqrt())
    }
}

/// What came of one case, over all its wheels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Score {
    /// Our error, m/s, and in multiples of the bound of the same window.
    pub(crate) error: Rms,
    pub(crate) ratio: Rms,
    /// The peers', likewise.
    pub(crate) peer_error: [Rms; 4],
    pub(crate) peer_ratio: [Rms; 4],
    /// The bound, m/s.
    pub(crate) bound: Rms,
    /// Our largest error, m/s.
    pub(crate) worst: f64,
    /// Readings whose true value lay in the 95 % interval they stated.
    covered: usize,
    /// Edges and seconds in the windows, all together.
    edges: usize,
    seconds: f64,
    /// Ticks at which there was something new to say, and those of them that brought a bound because a pulse was overdue.
    expected: usize,
    estimated: usize,
}

impl Score {
    /// Share of readings whose stated 95 % interval held the truth, percent.
    pub(crate) fn coverage(&self) -> f64 {
        100.0 * self.covered as f64 / self.error.count.max(1) as f64
    }

    /// Edges a window on average.
    pub(crate) fn edges(&self) -> f64 {
        self.edges as f64 / self.error.count.max(1) as f64
    }

    /// Length of a window on average, s.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds / self.error.count.max(1) as f64
    }

    /// Share of ticks at which there was something new and nothing was said, percent: no method is good for being silent.
    pub(crate) fn silence(&self) -> f64 {
        let spoken = self.error.count + self.estimated;
        100.0 * self.expected.saturating_sub(spoken) as f64 / self.expected.max(1) as f64
    }

    /// Whether it spoke when there was something to say. One tick in fifty may fall to the pacing of the reports. Where
    /// the acceleration jumps, a wheel of few pulses begins anew, and that takes some of them: one in four.
    pub(crate) fn spoke(&self, jumps: bool) -> bool {
        self.error.count > 0 && self.silence() <= if jumps { 25.0 } else { 2.0 } && self.bounds() <= 33.0
    }

    /// Share of bounds among what was said, percent.
    pub(crate) fn bounds(&self) -> f64 {
        100.0 * self.estimated as f64 / (self.error.count + self.estimated).max(1) as f64
    }

    pub(crate) fn peer_ratios(&self) -> [Option<f64>; 4] {
        self.peer_ratio.map(|rms| rms.get())
    }

    pub(crate) fn peer_errors(&self) -> [Option<f64>; 4] {
        self.peer_error.map(|rms| rms.get())
    }
}

/// One wheel on one drive.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    pub(crate) road: &'a Road,
    pub(crate) gear: &'a Gear,
    /// The truth.
    pub(crate) passings: &'a [Passing],
    /// What was delivered of it.
    pub(crate) edges: &'a [Edge],
    /// Standard deviation of the stamps, s.
    pub(crate) sigma: f64,
    /// Report period, s.
    pub(crate) period: f64,
    /// What counts, s.
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) unknown: Unknown,
}

impl Trial<'_> {
    /// Drives, and adds every reading of speed to the score. A window that reaches over a change of motion is left out:
    /// the bound supposes one motion.
    pub(crate) fn run(&self, feed: &mut Feed, score: &mut Score) {
        let stamps: Vec<BootNs> = self.edges.iter().map(|edge| edge.t).collect();
        let mut heard = known(self.passings, self.from);
        let mut spoken_of = f64::NEG_INFINITY;
        for now in ticks(self.from, self.to, self.period) {
            let readings = feed.tick(now);
            let known = known(self.passings, now);
            let fresh = known > std::mem::replace(&mut heard, known);
            let said = readings.iter().find(|reading| reading.channel == 0);
            let windowed = &self.passings[..known];
            // A tick that said nothing stands for a window of the last edges.
            let at = said.map_or(now - 0.5 * self.period, |reading| drive_time(reading.t));
            let window = window_of(windowed, at);
            // Readings go forward in time: a window that lies before an overdue pulse's bound says nothing new.
            let told_already = said.is_none() && spoken_of >= self.middle(windowed);
            spoken_of = said.map_or(spoken_of, |reading| drive_time(reading.t));
            if !fresh || told_already || !self.one_motion(window) {
                continue;
            }
            score.expected += 1;
            let Some((reading, value)) = said.and_then(|reading| Some((reading, reading.value.ok()?))) else {
                continue;
            };
            if value.quality == Quality::Estimated {
                score.estimated += 1;
                continue;
            }
            let t = drive_time(reading.t);
            let speed = |t| self.road.speed(t);
            // Two edges tell the speed halfway between them, whatever the acceleration.
            let unknown = if window.len() > 2 { self.unknown } else { Unknown::Speed };
            let least = bound(window, t, speed, self.gear.pitch, self.sigma, unknown);
            let error = value.value - speed(t);
            score.error.add(error);
            score.ratio.add(error / least);
            score.bound.add(least);
            score.worst = score.worst.max(error.abs());
            score.covered += usize::from(error.abs() <= TWO_SIDED_95 * value.uncertainty);
            score.edges += window.len();
            score.seconds += window[window.len() - 1].t - window[0].t;
            let seen = seen(&stamps, window, now, self.period, self.gear.pitch);
            for (k, said) in peers::all(&seen).into_iter().enumerate() {
                let Some(said) = said else { continue };
                let error = said.speed - speed(said.t);
                score.peer_error[k].add(error);
                score.peer_ratio[k].add(error / least);
            }
        }
    }

    /// The mean time of the newest four edges, the shortest window where pulses are few.
    fn middle(&self, known: &[Passing]) -> f64 {
        let newest = &known[known.len().saturating_sub(4)..];
        newest.iter().map(|edge| drive_time(edge.stamp)).sum::<f64>() / newest.len().max(1) as f64
    }

    fn one_motion(&self, window: &[Passing]) -> bool {
        let (Some(first), Some(last)) = (window.first(), window.last()) else { return false };
        let piece = self.road.piece(last.t);
        piece.from <= first.t && last.t <= piece.to && window.len() > 1
    }
}
