//! A wheel that turns as told, for the tests: it shares no code with what is tested.

use std::time::Duration;

use super::{Wheel, WheelOptions};
use crate::{
    clock::BootNs,
    sensor::{Edge, EdgeKind, Reading, Sensor},
};

/// The simulated car's circumference, m.
pub(super) const CIRCUMFERENCE: f64 = 1.94;
/// Boot time at the simulation's zero, s.
pub(super) const START: f64 = 100.0;
pub(super) const SECOND: f64 = 1e9;

/// Normally distributed, of variance 1.
pub(super) fn normal(rng: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

pub(super) fn options(teeth: u32) -> WheelOptions {
    WheelOptions {
        pulses_per_metre: f64::from(teeth) / CIRCUMFERENCE,
        pulses_per_turn: Some(teeth),
        max_speed: 130.0,
        ..WheelOptions::default()
    }
}

/// How it moves: the way at a time, and the speed, both of which only grow or stay above zero.
pub(super) struct Motion {
    pub(super) way: Box<dyn Fn(f64) -> f64>,
    pub(super) speed: Box<dyn Fn(f64) -> f64>,
}

impl Motion {
    pub(super) fn steady(speed: f64) -> Self {
        Self { way: Box::new(move |t| speed * t), speed: Box::new(move |_| speed) }
    }

    /// `v = mean + swing sin(2 pi f t)`.
    pub(super) fn swinging(mean: f64, swing: f64, hz: f64) -> Self {
        let w = std::f64::consts::TAU * hz;
        Self {
            way: Box::new(move |t| mean * t + swing / w * (1.0 - (w * t).cos())),
            speed: Box::new(move |t| mean + swing * (w * t).sin()),
        }
    }

    /// `v0`, from `at` on for `length` seconds `a` faster each second, then steady again.
    pub(super) fn step(v0: f64, a: f64, at: f64, length: f64) -> Self {
        let ramp = move |t: f64| (t - at).clamp(0.0, length);
        Self {
            way: Box::new(move |t| v0 * t + 0.5 * a * ramp(t).powi(2) + a * length * (t - at - length).max(0.0)),
            speed: Box::new(move |t| v0 + a * ramp(t)),
        }
    }
}

/// A wheel's teeth: where each lies beyond its place, in pitches, and how many are left out.
#[derive(Clone)]
pub(super) struct Cut {
    pub(super) offsets: Vec<f64>,
    pub(super) missing: usize,
    pub(super) phase: f64,
}

impl Cut {
    /// Teeth off by a normally distributed part of a pitch.
    pub(super) fn new(teeth: u32, off: f64, rng: &mut fastrand::Rng) -> Self {
        let mut offsets: Vec<f64> = (0..teeth).map(|_| off * normal(rng)).collect();
        let mean = offsets.iter().sum::<f64>() / f64::from(teeth);
        offsets.iter_mut().for_each(|offset| *offset -= mean);
        Self { offsets, missing: 0, phase: rng.f64() }
    }

    /// Place and true time of each pulse up to `length` seconds.
    pub(super) fn pulses(&self, motion: &Motion, length: f64) -> Vec<(usize, f64)> {
        let teeth = self.offsets.len();
        let pitch = CIRCUMFERENCE / teeth as f64;
        let mut pulses = Vec::new();
        let mut t = 0.0;
        for place in 0.. {
            if place % teeth >= teeth - self.missing {
                continue;
            }
            let way = (place as f64 + self.phase + self.offsets[place % teeth]) * pitch;
            for _ in 0..60 {
                let step = ((motion.way)(t) - way) / (motion.speed)(t).max(0.01);
                t -= step;
                if step.abs() < 1e-13 {
                    break;
                }
            }
            if t > length {
                return pulses;
            }
            pulses.push((place, t));
        }
        pulses
    }
}

pub(super) fn rising(t_s: f64, seqno: u32) -> Edge {
    let t = BootNs((t_s * SECOND).round() as u64);
    Edge { t, line: 0, kind: EdgeKind::Rising, seqno, line_seqno: seqno }
}

/// Edges as the kernel stamps them, off by `sigma` seconds.
pub(super) fn stamped(times: impl IntoIterator<Item = f64>, sigma: f64, rng: &mut fastrand::Rng) -> Vec<Edge> {
    let edge = |(k, t): (usize, f64)| rising(START + t + sigma * normal(rng), k as u32 + 1);
    times.into_iter().enumerate().map(edge).collect()
}

/// Feeds edges with ticks each `period`; calls `each` with the time, the count of edges so far and the readings.
pub(super) fn run(
    wheel: &mut Wheel,
    edges: &[Edge],
    from: f64,
    to: f64,
    period: f64,
    mut each: impl FnMut(&Wheel, f64, usize, &[Reading]),
) {
    let mut fed = 0;
    let mut now = from;
    while now < to {
        let limit = BootNs((now * SECOND).round() as u64);
        while fed < edges.len() && edges[fed].t <= limit {
            wheel.on_edge(&edges[fed]);
            fed += 1;
        }
        let mut out = Vec::new();
        wheel.tick(limit, &mut out);
        each(wheel, now, fed, &out);
        now += period;
    }
}

/// Root of the mean of squares.
#[derive(Default)]
pub(super) struct Rms {
    square: f64,
    pub(super) count: usize,
}

impl Rms {
    pub(super) fn add(&mut self, error: f64) {
        self.square += error * error;
        self.count += 1;
    }

    pub(super) fn value(&self) -> f64 {
        (self.square / self.count as f64).sqrt()
    }
}

pub(super) fn seconds(t: BootNs) -> f64 {
    t.0 as f64 / SECOND - START
}

pub(super) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
