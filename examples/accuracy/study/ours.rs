//! Speedwell's wheel at work: edges and ticks go in as a gateway would send them, readings come out.

use std::time::Duration;

use speedwell::{
    estimator::{Wheel, WheelOptions},
    sensor::{Edge, Reading, Sensor},
};

use super::{
    gear::{Gear, Passing, boot, drive_time},
    peers::Seen,
};

/// Fastest the simulated vehicles may go, m/s: above what any case reaches.
const MAX_SPEED: f64 = 130.0;

/// What a technician would write for this wheel.
pub(crate) fn options(gear: &Gear, period: f64) -> WheelOptions {
    WheelOptions {
        pulses_per_metre: 1.0 / gear.pitch,
        pulses_per_turn: Some(gear.teeth.len() as u32),
        max_speed: MAX_SPEED,
        report: Duration::from_secs_f64(period),
        ..WheelOptions::default()
    }
}

/// A wheel and the edges it has yet to be given.
#[derive(Debug)]
pub(crate) struct Feed<'a> {
    pub(crate) wheel: Wheel,
    edges: &'a [Edge],
    fed: usize,
    out: Vec<Reading>,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(options: WheelOptions, edges: &'a [Edge]) -> Self {
        Self { wheel: Wheel::new(options), edges, fed: 0, out: Vec::with_capacity(16) }
    }

    /// Hands over all edges up to `now`, without a tick.
    pub(crate) fn edges_until(&mut self, now: f64) {
        let limit = boot(now);
        while let Some(edge) = self.edges.get(self.fed).filter(|edge| edge.t <= limit) {
            self.wheel.on_edge(edge);
            self.fed += 1;
        }
    }

    /// Hands over all edges up to `now`, then ticks; gives what was said.
    pub(crate) fn tick(&mut self, now: f64) -> &[Reading] {
        self.edges_until(now);
        self.out.clear();
        self.wheel.tick(boot(now), &mut self.out);
        &self.out
    }
}

/// Times of ticks from `from` to `to`, none lost to rounding.
pub(crate) fn ticks(from: f64, to: f64, period: f64) -> impl Iterator<Item = f64> {
    let count = ((to - from) / period).floor().max(0.0) as usize;
    (0..count).map(move |k| from + k as f64 * period)
}

/// How many of `passings` were stamped by `now`.
pub(crate) fn known(passings: &[Passing], now: f64) -> usize {
    let limit = boot(now);
    passings.partition_point(|passing| passing.stamp <= limit)
}

/// Which of the newest edges a reading said for `t` was made of: the window for which `mean + S3/(2 S2)`, the time a
/// least-squares slope is true for, is `t`. The length of the estimator's window is its own affair; this finds out.
pub(crate) fn window_of(passings: &[Passing], t: f64) -> &[Passing] {
    let Some(last) = passings.last() else { return passings };
    let newest = drive_time(last.stamp);
    let (mut n, mut x1, mut x2, mut x3) = (0.0, 0.0, 0.0, 0.0);
    let mut best = (f64::INFINITY, passings.len().min(2));
    for (before, passing) in passings.iter().rev().enumerate() {
        let x = drive_time(passing.stamp) - newest;
        (n, x1, x2, x3) = (n + 1.0, x1 + x, x2 + x * x, x3 + x * x * x);
        let mean = x1 / n;
        let s2 = x2 - n * mean * mean;
        let s3 = x3 - 3.0 * mean * x2 + 2.0 * n * mean.powi(3);
        let own = newest + mean + s3 / (2.0 * s2);
        let off = (own - t).abs();
        if before > 0 && off < best.0 {
            best = (off, before + 1);
        } else if own < t && off > best.0 {
            break;
        }
    }
    &passings[passings.len() - best.1..]
}

/// What a peer sees of delivered edges at a tick: those between the window's ends, and those in the gate.
pub(crate) fn seen<'a>(
    stamps: &'a [speedwell::clock::BootNs],
    window: &[Passing],
    now: f64,
    period: f64,
    pitch: f64,
) -> Seen<'a> {
    let until = |t| stamps.partition_point(|&stamp| stamp <= t);
    let (first, last) = match (window.first(), window.last()) {
        (Some(first), Some(last)) => (stamps.partition_point(|&stamp| stamp < first.stamp), until(last.stamp)),
        _ => (0, 0),
    };
    let in_gate = until(boot(now)) - until(boot(now - period));
    Seen { window: &stamps[first..last], in_gate, now, period, pitch }
}
