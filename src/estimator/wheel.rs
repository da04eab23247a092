//! A wheel with teeth, or anything else that gives pulses in proportion to the way.

use std::time::Duration;

use speedwell_wire::{NoData, Quality, Quantity};

use super::window::{Rate, Window};
use crate::{
    clock::BootNs,
    sensor::{
        ChannelSpec, Counters, Edge, EdgeSensor, Pace, Reading, Sensor, Value,
        hall::{Conditioner, Edges, Options},
    },
};

/// Widest window: longer ones are more precise at a steady speed and blind to a change of acceleration, which costs
/// jerk * W^2 / 40: 2.5 mm/s at 0.1 s and 10 m/s3, 0.25 m/s at 1 s.
const WIDEST: Duration = Duration::from_millis(100);
/// Longest wait for a pulse before standstill is called confirmed, when the slowest speed would take longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Edges refused between two ticks, without a rate, that are noise rather than a bounce.
const MANY_REFUSED: u64 = 5;
/// Distance is said once a second.
const DISTANCE_PERIOD: Duration = Duration::from_secs(1);

/// What is known of the wheel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WheelOptions {
    /// Which edges are listened to; pulses are those of one polarity.
    pub edges: Edges,
    /// Pulses of one polarity a metre of way.
    pub pulses_per_metre: f64,
    /// Pulses a turn of the part the teeth are on; gives rotational speed when asked for.
    pub pulses_per_turn: Option<u32>,
    /// Fastest there can be, m/s; anything above is told as out of range.
    pub max_speed: f64,
    /// Hardest acceleration or braking there can be, m/s2: the bound by which pulses are refused or put back. It is
    /// what the wheel does that counts, which may spin or lock.
    pub max_acceleration: f64,
    /// Report period.
    pub report: Duration,
    /// Slower than this is standstill, m/s.
    pub zero_below: f64,
    /// Relative standard uncertainty of `pulses_per_metre`.
    pub calibration_uncertainty: f64,
    /// How well edges are stamped at best: a third of a microsecond by the kernel, some milliseconds when polled.
    pub stamp_floor: Duration,
    /// Edges younger than this may not have been delivered yet: what is said because no edge came is said for so long
    /// ago.
    pub delivery: Duration,
    /// The request's sequence number counts this line alone.
    pub request_audit: bool,
    /// Also report rotational speed; needs `pulses_per_turn`.
    pub rotational_speed: bool,
    /// Also report the way since the start, once a second.
    pub distance: bool,
}

impl Default for WheelOptions {
    /// A car's wheel: 48 teeth on 1.985 m.
    fn default() -> Self {
        Self {
            edges: Edges::Rising,
            pulses_per_metre: 48.0 / 1.985,
            pulses_per_turn: Some(48),
            max_speed: 70.0,
            max_acceleration: 40.0,
            report: Duration::from_millis(100),
            zero_below: 0.1,
            calibration_uncertainty: 0.0,
            stamp_floor: Duration::from_nanos(300),
            delivery: Duration::from_millis(5),
            request_audit: true,
            rotational_speed: false,
            distance: false,
        }
    }
}

/// Edges in, speed out.
#[derive(Debug)]
pub struct Wheel {
    options: WheelOptions,
    /// Metres a pulse.
    pitch: f64,
    /// Without a pulse for so long, it stands.
    patience: Duration,
    channels: Vec<ChannelSpec>,
    rotational: Option<usize>,
    distance: Option<usize>,
    conditioner: Conditioner,
    window: Window,
    pace: Pace,
    distance_pace: Pace,
    /// The newest pulse, and how many pitches were turned since the start.
    newest: Option<(BootNs, u64)>,
    /// The newest measured speed since the last start or cut, m/s.
    speed: Option<f64>,
    /// Time of the newest reading of speed: they only grow.
    said: Option<BootNs>,
    /// Edges refused up to the last tick.
    rejected: u64,
}

impl Wheel {
    /// One that has seen nothing. Channel 0 is speed; then rotational speed and distance, as asked for.
    pub fn new(options: WheelOptions) -> Self {
        let rate_of = |speed: f64| speed * options.pulses_per_metre;
        let conditioner = Conditioner::new(Options {
            edges: options.edges,
            max_rate: rate_of(options.max_speed),
            max_rate_change: rate_of(options.max_acceleration),
            stamp_floor: options.stamp_floor,
            request_audit: options.request_audit,
        });
        let channel = |quantity, resolution_nano, period| ChannelSpec { quantity, resolution_nano, period };
        let mut channels = vec![channel(Quantity::Speed, 1_000_000, options.report)];
        let rotational = (options.rotational_speed && options.pulses_per_turn.is_some()).then(|| {
            channels.push(channel(Quantity::RotationalSpeed, 10_000_000, options.report));
            channels.len() - 1
        });
        let distance_period = DISTANCE_PERIOD.max(options.report);
        let distance = options.distance.then(|| {
            channels.push(channel(Quantity::Distance, 1_000_000, distance_period));
            channels.len() - 1
        });
        let pitch = 1.0 / options.pulses_per_metre;
        // d / v: a speed of v would have brought a pulse in this time.
        let slowest = Duration::try_from_secs_f64(pitch / options.zero_below).unwrap_or(PATIENCE);
        Self {
            pitch,
            patience: slowest.min(PATIENCE),
            channels,
            rotational,
            distance,
            conditioner,
            window: Window::new(options.report.min(WIDEST)),
            pace: Pace::new(options.report),
            distance_pace: Pace::new(distance_period),
            newest: None,
            speed: None,
            said: None,
            rejected: 0,
            options,
        }
    }

    /// Takes an edge of this sensor's line.
    pub fn on_edge(&mut self, edge: &Edge) {
        let quiet_since = self.conditioner.last_edge();
        let Some(pulse) = self.conditioner.on_edge(edge) else { return };
        let stood = quiet_since.is_some_and(|last| pulse.t.since(last) > self.patience);
        if pulse.cut || stood {
            self.window.clear();
            self.speed = None;
        }
        self.window.push(&pulse);
        self.newest = Some((pulse.t, pulse.index));
    }

    fn say_speed(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        let Some((newest, _)) = self.newest else {
            return self.say(now, Err(NoData::Silent), out);
        };
        let rejected = self.conditioner.counters().rejected;
        let refused = rejected - std::mem::replace(&mut self.rejected, rejected);
        let quiet = self.conditioner.last_edge().map_or(Duration::ZERO, |last| now.since(last));
        if quiet > self.patience {
            self.window.clear();
            self.speed = None;
            return self.say(now, Ok(self.stopped(quiet)), out);
        }
        if let Some(rate) = self.window.rate() {
            let measured = self.measured(&rate);
            self.speed = measured.ok().map(|value| value.value);
            self.say(rate.t, measured, out);
        } else if refused > MANY_REFUSED {
            // Edges come, so many that none makes sense beside another.
            return self.say(now, Err(NoData::OutOfRange), out);
        }
        self.say_bound(now, now.since(newest), out);
    }

    /// `v = f1 d`, `u2 = (d s)2 / S2 + (u_cal v)2`, `s2 = max(SSE2/(n-3), (sigma f1)2)`.
    fn measured(&self, rate: &Rate) -> Result<Value, NoData> {
        let speed = rate.fit.rate * self.pitch;
        if speed > self.options.max_speed {
            return Err(NoData::OutOfRange);
        }
        let stamps = self.conditioner.jitter() * rate.fit.rate;
        let scatter = rate.fit.variance.max(stamps * stamps);
        let measuring = self.pitch * (scatter / rate.fit.s2).sqrt();
        let calibration = self.options.calibration_uncertainty * speed;
        let quality = if rate.doubtful { Quality::Degraded } else { Quality::Good };
        Ok(Value { value: speed, uncertainty: measuring.hypot(calibration), quality })
    }

    /// Since the newest pulse the wheel has turned less than a pitch: `v <= d / age`. Said once that is less than what
    /// was measured, for then the pulse is overdue. The bound itself is the value; a speed evenly between 0 and it
    /// lies off by bound/sqrt(3).
    fn say_bound(&mut self, now: BootNs, age: Duration, out: &mut Vec<Reading>) {
        let bound = self.pitch / age.as_secs_f64();
        if self.speed.is_some_and(|speed| bound < speed) {
            let value = Value { value: bound, uncertainty: bound / 3f64.sqrt(), quality: Quality::Estimated };
            self.say(now, Ok(value), out);
        }
    }

    /// Zero; what it could still be moving, unseen within a pitch, is its uncertainty.
    fn stopped(&self, quiet: Duration) -> Value {
        let bound = self.pitch / quiet.as_secs_f64();
        Value { value: 0.0, uncertainty: bound / 3f64.sqrt(), quality: Quality::Stopped }
    }

    fn say(&mut self, t: BootNs, value: Result<Value, NoData>, out: &mut Vec<Reading>) {
        if self.said.is_some_and(|said| t <= said) {
            return;
        }
        self.said = Some(t);
        out.push(Reading { channel: 0, t, value });
        if let (Some(channel), Some(turn)) = (self.rotational, self.options.pulses_per_turn) {
            let rpm = 60.0 * self.options.pulses_per_metre / f64::from(turn);
            // The calibration is of the way, not of the turning.
            let own = |v: Value| {
                (v.uncertainty.powi(2) - (self.options.calibration_uncertainty * v.value).powi(2)).max(0.0).sqrt()
            };
            let value = value.map(|v| Value { value: v.value * rpm, uncertainty: own(v) * rpm, ..v });
            out.push(Reading { channel, t, value });
        }
    }

    /// The way since the start, whole pitches; where between two of them the wheel stands is not known.
    fn say_distance(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        let (Some(channel), Some((_, pitches))) = (self.distance, self.newest) else { return };
        if !self.distance_pace.passes(now) {
            return;
        }
        let way = pitches as f64 * self.pitch;
        let within = self.pitch / 12f64.sqrt();
        let uncertainty = within.hypot(self.options.calibration_uncertainty * way);
        let quality = if self.conditioner.counters().lost > 0 { Quality::Degraded } else { Quality::Good };
        out.push(Reading { channel, t: now, value: Ok(Value { value: way, uncertainty, quality }) });
    }
}

impl EdgeSensor for Wheel {
    fn on_edge(&mut self, edge: &Edge) {
        Wheel::on_edge(self, edge);
    }
}

impl Sensor for Wheel {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Once a report period: the speed of the window, when it is newer than what was said; then, when the next pulse
    /// is overdue, the bound; when it is overdue for long, standstill. Between a standstill and the second pulse
    /// nothing is said, because nothing is known.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        if !self.pace.passes(now) {
            return;
        }
        let heard_until = BootNs(now.0.saturating_sub(self.options.delivery.as_nanos() as u64));
        self.say_speed(heard_until, out);
        self.say_distance(heard_until, out);
    }

    fn counters(&self) -> Counters {
        self.conditioner.counters()
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
