//! The count of an encoder, looked at again and again, becomes speed.
//!
//! ```text
//! unwrap    Δ = (c - c') mod wrap, taken as between -wrap/2 and +wrap/2: right while the shaft turns less than half a
//!           turn between two looks, which is why it is looked at eight times a turn at its fastest
//! speed     the least-squares slope of the unwrapped count on the middle of each look's bracket, over a window
//! u²        σ² / s2 + (INL · rate · min(1, 1/(π · turns)) / √2)²
//! σ²        the scatter about the line, and never less than 1/12 count² and (rate · half bracket/√3)²
//! way       the sum of all Δ, forwards and back; kept over a restart. A hole in which the shaft may have turned by half
//!           a turn or more adds nothing and is counted as suspected: the way is degraded from then on
//! ```
//! An encoder's angle is off by up to INL once and twice a turn (a magnet that is not centred). Over a window of many
//! turns that cancels; over part of a turn it goes into the slope, and therefore into the uncertainty.

use std::{collections::VecDeque, f64::consts::PI, time::Duration};

use speedwell_wire::{NoData, Quality, Quantity};

use super::{
    block::Sums,
    memory::{self, Memory},
};
use crate::{
    clock::BootNs,
    sensor::{
        ChannelSpec, Counters, Reading, Sensor, Value,
        shaft::{Chip, Health, Look, LookSensor},
    },
};

/// Widest window a speed is measured in: as for pulses, see [`WheelOptions`](super::WheelOptions).
const WINDOW: Duration = Duration::from_millis(100);

/// Looks kept: a tenth of a second at the highest rate, 2 kHz, and as much again for the jitter of a busy machine.
const LOOKS_MAX: usize = 512;

/// Silence after which nothing is said any more, in report periods, and at least so long.
const STALE_PERIODS: u32 = 3;
const STALE_LEAST: Duration = Duration::from_millis(500);

/// A step this much faster than the fastest there can be is a damaged answer, not a turn of the shaft; two counts are
/// always possible.
const IMPOSSIBLE: f64 = 1.5;

/// Refusals in a row after which it is the last count that was wrong.
const MAX_REFUSED: u32 = 3;

/// Ticks in a row that have to agree before the direction changes.
const DIRECTION_TICKS: u32 = 2;

/// Integral non-linearity of a magnetic encoder with its magnet in place, degrees (AS5600 and AS5048A: 1 at most).
const INL_DEG: f64 = 1.0;

/// Resolution of the channels: 0.01 rpm, 0.01 degrees.
const FINE_NANO: u64 = 10_000_000;

/// What is known of a shaft.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShaftOptions {
    /// Which chip looks at it.
    pub chip: Chip,
    /// Counts a turn of the shaft; those of the chip where its count is an angle.
    pub counts_per_turn: u32,
    /// Way of a turn, m; without it there is no speed, only rotational speed.
    pub metres_per_turn: Option<f64>,
    /// Fastest there can be, turns a second.
    pub max_turns: f64,
    /// Slower than this is standstill, turns a second.
    pub zero_below: f64,
    /// Relative standard uncertainty of `metres_per_turn`.
    pub calibration_uncertainty: f64,
    /// Counts fall on the way forward.
    pub reversed: bool,
    /// Report period.
    pub report: Duration,
    /// Also report rotational speed.
    pub rotational_speed: bool,
    /// Also report the way.
    pub distance: bool,
    /// Also report the angle; where the count is one.
    pub angle: bool,
    /// Also report the direction.
    pub direction: bool,
}

/// One look, unwrapped.
#[derive(Clone, Copy, Debug)]
struct Point {
    t: BootNs,
    count: i64,
    half_ns: u64,
}

/// A shaft that is looked at.
#[derive(Debug)]
pub struct Shaft {
    options: ShaftOptions,
    channels: Vec<ChannelSpec>,
    points: VecDeque<Point>,
    /// The count as the chip gave it last.
    raw: u32,
    heard: Option<BootNs>,
    health: Health,
    refused: u32,
    /// Forward 1, backward -1, not known 0; and how often in a row the other was seen.
    direction: i8,
    against: u32,
    /// Metres before the first look, and counts since then.
    start: f64,
    way: i64,
    counters: Counters,
}

/// Turns a second at a time, with a standard uncertainty.
#[derive(Clone, Copy, Debug)]
struct Rate {
    t: BootNs,
    turns: f64,
    uncertainty: f64,
    still: bool,
}

impl Shaft {
    /// One that nobody has looked at.
    pub fn new(options: ShaftOptions) -> Self {
        let spec = |quantity, resolution_nano| ChannelSpec { quantity, resolution_nano, period: options.report };
        let mut channels = Vec::with_capacity(5);
        if options.metres_per_turn.is_some() {
            channels.push(spec(Quantity::Speed, 1_000_000));
        }
        if options.rotational_speed || channels.is_empty() {
            channels.push(spec(Quantity::RotationalSpeed, FINE_NANO));
        }
        if options.distance && options.metres_per_turn.is_some() {
            channels.push(spec(Quantity::Distance, 1_000_000));
        }
        if options.angle && options.chip.is_absolute() {
            channels.push(spec(Quantity::Angle, FINE_NANO));
        }
        if options.direction {
            channels.push(spec(Quantity::Direction, 1_000_000_000));
        }
        Self {
            options,
            channels,
            points: VecDeque::with_capacity(LOOKS_MAX),
            raw: 0,
            heard: None,
            health: Health::Good,
            refused: 0,
            direction: 0,
            against: 0,
            start: 0.0,
            way: 0,
            counters: Counters::default(),
        }
    }

    fn per_turn(&self) -> f64 {
        f64::from(self.options.counts_per_turn.max(1))
    }

    /// Steps from the last count to this one, by the shorter way round.
    fn step(&self, raw: u32) -> i64 {
        let wrap = self.options.chip.wrap() as i64;
        let ahead = (i64::from(raw) - i64::from(self.raw)).rem_euclid(wrap);
        if ahead > wrap / 2 { ahead - wrap } else { ahead }
    }

    fn count(&mut self, look: &Look, raw: u32) {
        let half_ns = look.to.since(look.from).as_nanos() as u64 / 2;
        let t = BootNs(look.from.0 + half_ns);
        let Some(last) = self.points.back().copied() else { return self.begin(t, raw, half_ns) };
        if t <= last.t {
            self.counters.rejected += 1;
            return;
        }
        let step = self.step(raw);
        let possible = self.options.max_turns * self.per_turn() * t.since(last.t).as_secs_f64();
        // Half the way round or more: which way, and how often, cannot be told.
        if possible >= self.options.chip.wrap() as f64 / 2.0 {
            self.counters.suspected += 1;
            return self.begin(t, raw, half_ns);
        }
        if step.unsigned_abs() as f64 > possible * IMPOSSIBLE + 2.0 {
            self.counters.rejected += 1;
            self.refused += 1;
            if self.refused >= MAX_REFUSED {
                self.begin(t, raw, half_ns);
            }
            return;
        }
        self.refused = 0;
        self.raw = raw;
        self.way = self.way.saturating_add(step);
        self.keep(Point { t, count: last.count + step, half_ns });
    }

    fn begin(&mut self, t: BootNs, raw: u32, half_ns: u64) {
        self.points.clear();
        (self.raw, self.refused) = (raw, 0);
        self.keep(Point { t, count: 0, half_ns });
    }

    fn keep(&mut self, point: Point) {
        if self.points.len() == LOOKS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// The speed over the newest window.
    fn rate(&self) -> Option<Rate> {
        let last = *self.points.back()?;
        let window = WINDOW.min(self.options.report);
        let origin = self.points.iter().find(|point| last.t.since(point.t) <= window)?;
        let mut sums = Sums::default();
        let (mut half, mut low, mut high) = (0f64, i64::MAX, i64::MIN);
        for point in self.points.iter().filter(|point| point.t >= origin.t) {
            sums.add(point.t.since(origin.t).as_secs_f64(), (point.count - origin.count) as f64);
            half = half.max(point.half_ns as f64 * 1e-9);
            (low, high) = (low.min(point.count), high.max(point.count));
        }
        let fit = sums.fit()?;
        let span = last.t.since(origin.t).as_secs_f64();
        // 1/12: a count is a whole number. Where several looks see the same count their errors are one error.
        let looks_a_count = (sums.n / (high - low + 1) as f64).max(1.0);
        let stamp = fit.rate * half / 3f64.sqrt();
        let variance = fit.variance.max(looks_a_count / 12.0).max(stamp * stamp);
        let inl = if self.options.chip.is_absolute() { INL_DEG.to_radians() } else { 0.0 };
        let turns = fit.rate.abs() * span / self.per_turn();
        let bent = fit.rate * inl * (1.0 / (PI * turns.max(1e-9))).min(1.0) / 2f64.sqrt();
        let uncertainty = (variance / fit.s2 + bent * bent).sqrt() / self.per_turn();
        let sign = if self.options.reversed { -1.0 } else { 1.0 };
        let turns = sign * fit.rate / self.per_turn();
        // A count that flickers between two values is a shaft that stands.
        let still = high - low <= 1 || turns.abs() < self.options.zero_below;
        let t = origin.t + Duration::from_secs_f64(fit.at.max(0.0));
        Some(Rate { t, turns, uncertainty, still: still && turns.abs() < self.options.zero_below.max(uncertainty) })
    }

    /// Which way it turns: a change has to be seen twice.
    fn turn(&mut self, rate: &Rate) {
        let seen = match rate {
            rate if rate.still || rate.turns.abs() < 3.0 * rate.uncertainty => return self.against = 0,
            rate if rate.turns > 0.0 => 1,
            _ => -1,
        };
        self.against = if seen == self.direction { 0 } else { self.against + 1 };
        if self.direction == 0 || self.against >= DIRECTION_TICKS {
            (self.direction, self.against) = (seen, 0);
        }
    }

    fn value(&self, quantity: Quantity, rate: &Rate) -> Result<Value, NoData> {
        if rate.turns.abs() > self.options.max_turns * IMPOSSIBLE {
            return Err(NoData::OutOfRange);
        }
        let (factor, relative) = match quantity {
            Quantity::Speed => (self.options.metres_per_turn.unwrap_or(0.0), self.options.calibration_uncertainty),
            _ => (60.0, 0.0),
        };
        let (quality, turns) = match rate.still {
            true => (Quality::Stopped, 0.0),
            false if self.refused > 0 => (Quality::Degraded, rate.turns.abs()),
            false => (Quality::Good, rate.turns.abs()),
        };
        let uncertainty = (rate.uncertainty * factor).hypot(turns * factor * relative);
        Ok(Value { value: turns * factor, uncertainty, quality })
    }

    /// Degrees, and how far they may be off.
    fn angle(&self) -> Value {
        let turns = f64::from(self.raw) / self.per_turn();
        let turns = if self.options.reversed && self.raw > 0 { 1.0 - turns } else { turns };
        Value { value: turns * 360.0, uncertainty: INL_DEG / 2f64.sqrt(), quality: Quality::Good }
    }

    /// The way, m: forwards as the shaft is mounted.
    fn metres(&self) -> f64 {
        let turns = self.way as f64 / self.per_turn() * if self.options.reversed { -1.0 } else { 1.0 };
        self.start + turns * self.options.metres_per_turn.unwrap_or(0.0)
    }

    /// The way and how far it may be off: a count, evenly, the shaft's angle, and the calibration.
    fn distance(&self) -> Value {
        let (way, turn) = (self.metres(), self.options.metres_per_turn.unwrap_or(0.0));
        let inl = if self.options.chip.is_absolute() { INL_DEG / 360.0 / 2f64.sqrt() } else { 0.0 };
        let within = turn * inl.hypot(1.0 / self.per_turn() / 12f64.sqrt());
        let quality = if self.counters.suspected > 0 { Quality::Degraded } else { Quality::Good };
        Value { value: way, uncertainty: within.hypot(self.options.calibration_uncertainty * way), quality }
    }

    fn trouble_at(&self, now: BootNs) -> Option<NoData> {
        let stale = (self.options.report * STALE_PERIODS).max(STALE_LEAST);
        match self.heard {
            None => Some(NoData::Silent),
            Some(heard) if now.since(heard) > stale => Some(NoData::Stale),
            Some(_) if self.health != Health::Good => Some(NoData::SensorError),
            Some(_) => None,
        }
    }
}

impl LookSensor for Shaft {
    fn on_look(&mut self, look: &Look, _out: &mut Vec<Reading>) {
        self.counters.inputs += 1;
        if let Some(health) = look.health {
            self.health = health;
        }
        match look.count {
            // What a chip without its magnet says is no angle.
            Some(_) if self.health != Health::Good => {
                self.heard = Some(look.to);
                self.counters.suspected += u64::from(!self.points.is_empty());
                self.points.clear();
            }
            Some(raw) if u64::from(raw) < self.options.chip.wrap() => {
                self.heard = Some(look.to);
                self.count(look, raw);
            }
            _ => self.counters.rejected += 1,
        }
    }
}

impl Sensor for Shaft {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        let none = self.trouble_at(now);
        let rate = if none.is_none() { self.rate() } else { None };
        if let Some(rate) = &rate {
            self.turn(rate);
        }
        for (channel, spec) in self.channels.iter().enumerate() {
            let reading = match (none, &rate, spec.quantity, self.points.back()) {
                (Some(reason), ..) => Reading { channel, t: now, value: Err(reason) },
                (None, _, Quantity::Angle, Some(last)) => Reading { channel, t: last.t, value: Ok(self.angle()) },
                (None, _, Quantity::Distance, Some(last)) => Reading { channel, t: last.t, value: Ok(self.distance()) },
                (None, Some(rate), Quantity::Direction, _) => {
                    let value = f64::from(if rate.still { 0 } else { self.direction });
                    Reading { channel, t: rate.t, value: Ok(Value { value, uncertainty: 0.0, quality: Quality::Good }) }
                }
                (None, Some(rate), quantity, _) => Reading { channel, t: rate.t, value: self.value(quantity, rate) },
                // The first look of a window: there is no speed of one point, and nothing is wrong.
                _ => continue,
            };
            out.push(reading);
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    /// The way.
    fn memory(&self) -> Option<Vec<u8>> {
        Some(memory::write(0, 0, self.metres(), None))
    }

    /// Goes on from before a restart, before the first look only: what the shaft turned meanwhile is not known, also where
    /// the chip went on counting, because it may have lost its supply.
    fn remember(&mut self, bytes: &[u8]) -> bool {
        let Some(kept) = Memory::read(bytes).filter(|_| self.heard.is_none()) else { return false };
        self.start = kept.way;
        true
    }

    fn trouble(&self) -> Option<String> {
        self.health.remedy().map(str::to_owned)
    }
}

#[cfg(test)]
#[path = "shaft_tests.rs"]
mod tests;
