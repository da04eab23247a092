//! What a wheel says, out of what it knows.

use std::time::Duration;

use speedwell_wire::{NoData, Quality};

use super::Wheel;
use crate::{
    clock::BootNs,
    estimator::{odometer::Between, tracker::Motion, window::Rate},
    sensor::{Reading, Value, hall::Pulse},
};

/// In stamp jitters, how much later than it should a pulse may come: three times the sqrt(2) by which two stamps differ.
const LATE: f64 = 4.3;
/// Edges refused between two ticks, without a rate, that are noise rather than a bounce.
const MANY_REFUSED: u64 = 5;

impl Wheel {
    pub(super) fn say_speed(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        let Some(newest) = self.newest else {
            return self.say(now, Err(NoData::Silent), out);
        };
        let rejected = self.conditioner.counters().rejected;
        let refused = rejected - std::mem::replace(&mut self.rejected, rejected);
        let quiet = self.quiet(now);
        if quiet > self.patience {
            self.window.clear();
            self.speed = None;
            return self.say(now, Ok(self.stopped(quiet)), out);
        }
        if self.start.trembles() {
            return self.say(now, Ok(self.stopped(self.patience)), out);
        }
        if let Some(rate) = self.window.rate() {
            let measured = self.measured(&rate);
            self.speed = measured.ok().map(|value| value.value);
            self.say(rate.t, measured, out);
        } else if refused > MANY_REFUSED {
            // Edges come, so many that none makes sense beside another.
            return self.say(now, Err(NoData::OutOfRange), out);
        }
        if self.speed.is_some_and(|speed| self.is_overdue(&newest, now, speed)) {
            self.say(now, Ok(self.overdue(&newest, now)), out);
        }
    }

    /// `v = f1 d`, `u2 = (d s)2 / S2 + (d j W2/40)2 + (u_cal v)2`, `s2 = max(SSE2/(n-3), (sigma f1)2)`.
    fn measured(&self, rate: &Rate) -> Result<Value, NoData> {
        let speed = rate.fit.rate * self.pitch;
        if speed > self.options.max_speed {
            return Err(NoData::OutOfRange);
        }
        let stamps = self.conditioner.jitter() * rate.fit.rate;
        let scatter = rate.fit.variance.max(stamps * stamps);
        let measuring = self.pitch * (scatter / rate.fit.s2 + rate.bias * rate.bias).sqrt();
        let calibration = self.options.calibration_uncertainty * speed;
        let quality = if rate.doubtful || self.is_too_fast(speed) { Quality::Degraded } else { Quality::Good };
        Ok(Value { value: speed, uncertainty: measuring.hypot(calibration), quality })
    }

    pub(super) fn is_too_fast(&self, speed: f64) -> bool {
        self.options.trusted_rate.is_some_and(|rate| speed > rate * self.pitch)
    }

    /// Since the newest pulse the wheel has not reached the next tooth: `v <= d_next / age`.
    fn bound(&self, newest: &Pulse, now: BootNs) -> f64 {
        let between = self.between(newest);
        (between.next - between.last) * self.pitch / now.since(newest.t).as_secs_f64()
    }

    /// How much later than it should a stamp may be, by chance.
    pub(super) fn late(&self) -> Duration {
        Duration::from_secs_f64(LATE * self.conditioner.jitter())
    }

    /// Whether a wheel at `speed` would have brought the next pulse, and its stamp not been late by more than chance.
    fn is_overdue(&self, newest: &Pulse, now: BootNs, speed: f64) -> bool {
        let late = self.late();
        now > newest.t + late && speed > self.bound(newest, BootNs(now.0 - late.as_nanos() as u64))
    }

    /// `v = clamp(v_l + min(a_l, 0) age, 0, bound)`: as it was at the newest pulse, braking on. The wheel may do anything
    /// evenly between 0 and the bound `b`: `u2 = b2/12 + (b/2 - v)2`.
    fn overdue(&self, newest: &Pulse, now: BootNs) -> Value {
        let bound = self.bound(newest, now);
        let age = now.since(newest.t).as_secs_f64();
        let braking = |motion: Motion| (motion.rate + motion.change.min(0.0) * age) * self.pitch;
        let value = self.tracker.at(newest.t).map_or(bound, braking).max(0.0).min(bound);
        let uncertainty = (bound * bound / 12.0 + (0.5 * bound - value).powi(2)).sqrt();
        Value { value, uncertainty, quality: Quality::Estimated }
    }

    /// Zero; what it could still be moving, unseen within a pitch, is its uncertainty.
    pub(super) fn stopped(&self, quiet: Duration) -> Value {
        let bound = self.pitch / quiet.as_secs_f64();
        Value { value: 0.0, uncertainty: bound / 3f64.sqrt(), quality: Quality::Stopped }
    }

    pub(super) fn between(&self, newest: &Pulse) -> Between {
        let way = i64::from(newest.way);
        let offset = |index| self.teeth.as_ref().map_or(0.0, |teeth| f64::from(newest.way) * teeth.offset(index));
        let places = self.conditioner.places_to_next() as i64;
        let (last, next) = (newest.index * way, newest.index * way + places);
        Between {
            last: last as f64 + offset(newest.index),
            // However wrong a table is, the next tooth is not behind this one.
            next: (next as f64 + offset(newest.index + way * places)).max(last as f64 + offset(newest.index)),
            t: newest.t,
        }
    }

    /// The speed now rather than half a window ago, m/s: what the filter over the pulses says, never above what the wait
    /// for the next pulse allows. For alarms and displays; the readings of [`Sensor::tick`](crate::sensor::Sensor::tick) are the better measurement.
    pub fn live(&self, now: BootNs) -> Result<Value, NoData> {
        let newest = self.newest.ok_or(NoData::Silent)?;
        let quiet = self.quiet(now);
        if quiet > self.patience || self.start.trembles() {
            return Ok(self.stopped(quiet.max(self.patience)));
        }
        let motion = self.tracker.at(now).ok_or(NoData::NotAvailable)?;
        let speed = motion.rate * self.pitch;
        if speed > self.options.max_speed {
            return Err(NoData::OutOfRange);
        }
        if self.is_overdue(&newest, now, speed) {
            return Ok(self.overdue(&newest, now));
        }
        let calibration = self.options.calibration_uncertainty * speed;
        let uncertainty = (motion.variance.sqrt() * self.pitch).hypot(calibration);
        Ok(Value { value: speed.max(0.0), uncertainty, quality: Quality::Good })
    }

    fn say(&mut self, t: BootNs, value: Result<Value, NoData>, out: &mut Vec<Reading>) {
        if self.said.is_some_and(|said| t <= said) {
            return;
        }
        self.said = Some(t);
        out.push(Reading { channel: 0, t, value });
        if let (Some(channel), Some(turn)) = (self.channels.rotational, self.options.pulses_per_turn) {
            let rpm = 60.0 * self.options.pulses_per_metre / f64::from(turn);
            // The calibration is of the way, not of the turning.
            let own = |v: Value| {
                (v.uncertainty.powi(2) - (self.options.calibration_uncertainty * v.value).powi(2)).max(0.0).sqrt()
            };
            let value = value.map(|v| Value { value: v.value * rpm, uncertainty: own(v) * rpm, ..v });
            out.push(Reading { channel, t, value });
        }
    }

    /// The way, and in it the place between two pulses: a pitch times `1/sqrt(12)` is what a filter that knew nothing
    /// would be off.
    pub(super) fn say_distance(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        let (Some(channel), Some((t, way))) = (self.channels.distance, self.way()) else { return };
        if t != now {
            return;
        }
        let within = self.pitch / 12f64.sqrt();
        let uncertainty = within.hypot(self.options.calibration_uncertainty * way);
        let quality = if self.conditioner.counters().lost > 0 { Quality::Degraded } else { Quality::Good };
        out.push(Reading { channel, t, value: Ok(Value { value: way, uncertainty, quality }) });
    }

    /// 1, -1, or 0 while it is not known: before two steps agreed, and at a standstill.
    pub(super) fn say_direction(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        let (Some(channel), Some(_)) = (self.channels.direction, self.newest) else { return };
        let stands = self.quiet(now) > self.patience;
        let value = if stands { 0.0 } else { f64::from(self.conditioner.direction()) };
        let quality = if stands { Quality::Stopped } else { Quality::Good };
        out.push(Reading { channel, t: now, value: Ok(Value { value, uncertainty: 0.0, quality }) });
    }
}
