//! Speed over ground from a satellite receiver: NMEA 0183, the RMC sentence.
//!
//! RMC carries its own validity. A speed is a speed iff the checksum is there and right, the status (field 2) is `A`,
//! the mode (field 12, since version 2.3) is not `N`, `E`, `M` or `S`, and the field is not empty: empty is not zero.
//! VTG repeats the speed without a status of its own, and old receivers send it with mode `A` beside a void RMC; it is
//! not used.
//!
//! A sentence is stamped with the arrival of its first byte less the receiver's latency. What the speed of a receiver
//! is worth is not in RMC; Doppler speeds are good for 0.05 to 0.1 m/s, and the larger is said.

use std::time::Duration;

use speedwell_wire::{NoData, Quality, Quantity};

pub use self::rmc::{NmeaUtc, Rmc};
use self::sentence::{Framed, Framer};
use super::{ByteSensor, ChannelSpec, Counters, Reading, Sensor, Value, pace::Pace};
use crate::clock::BootNs;

mod rmc;
mod sentence;

/// One knot in m/s: 1852 m an hour.
pub(crate) const KNOT: f64 = 1852.0 / 3600.0;

/// Uncertainty of a Doppler speed, m/s.
const SPEED_UNCERTAINTY: f64 = 0.1;
/// Uncertainty of a position: 5 m, in degrees of latitude.
const POSITION_UNCERTAINTY: f64 = 5.0 / 111_120.0;
/// Below this speed, m/s, a receiver's course is noise and is not said.
const COURSE_FROM: f64 = 0.5;

/// How the receiver is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Report period; a slower receiver is reported as it comes.
    pub report: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
    /// From the instant a sentence is true for to the arrival of its first byte: 50 to 200 ms in most receivers.
    pub latency: Duration,
    /// Also report latitude, longitude and course.
    pub position: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            report: Duration::from_millis(100),
            timeout: Duration::from_secs(3),
            latency: Duration::from_millis(100),
            position: false,
        }
    }
}

/// A receiver on a serial line.
#[derive(Debug)]
pub struct Nmea {
    options: Options,
    channels: Vec<ChannelSpec>,
    framer: Framer,
    pace: Pace,
    heard: Option<BootNs>,
    said: Option<Result<(), NoData>>,
    last: Option<BootNs>,
    utc: Option<(BootNs, NmeaUtc)>,
    counters: Counters,
}

impl Nmea {
    /// One that has heard nothing. Channel 0 is speed; with `position`, 1 to 3 are latitude, longitude, course.
    pub fn new(options: Options) -> Self {
        let channel = |quantity, resolution_nano| ChannelSpec { quantity, resolution_nano, period: options.report };
        let mut channels = vec![channel(Quantity::Speed, 1_000_000)];
        if options.position {
            // 1e-7 degrees is 11 mm.
            channels.push(channel(Quantity::Latitude, 100));
            channels.push(channel(Quantity::Longitude, 100));
            channels.push(channel(Quantity::Course, 10_000_000));
        }
        Self {
            options,
            channels,
            framer: Framer::default(),
            pace: Pace::new(options.report),
            heard: None,
            said: None,
            last: None,
            utc: None,
            counters: Counters::default(),
        }
    }

    /// Takes bytes as they come, however they are cut; `t` is when the first of them arrived.
    pub fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>) {
        for &byte in bytes {
            match self.framer.push(t, byte) {
                None => {}
                Some(Framed::Refused) => self.counters.rejected += 1,
                Some(Framed::Sentence { at, text }) => {
                    self.counters.inputs += 1;
                    match rmc::parse(text) {
                        Some(Ok(rmc)) => self.take(at, &rmc, out),
                        Some(Err(rmc::BadField)) => self.counters.rejected += 1,
                        None => {}
                    }
                }
            }
        }
    }

    /// UTC of the newest valid sentence with time and date, and the boot time it stands for: a source for the clock
    /// that has no other. Two in a row with an advancing date are wanted before it is believed.
    pub fn last_utc(&self) -> Option<(BootNs, NmeaUtc)> {
        self.utc
    }

    fn take(&mut self, at: BootNs, rmc: &Rmc, out: &mut Vec<Reading>) {
        self.heard = Some(at);
        let t = self.stamp(at);
        if !rmc.valid {
            return self.say(t, Err(NoData::NoFix), out);
        }
        if let Some(utc) = rmc.utc {
            self.utc = Some((t, utc));
        }
        let Some(knots) = rmc.speed_knots else { return self.say(t, Err(NoData::NotAvailable), out) };
        let speed = knots * KNOT;
        if self.passes(t, Ok(())) {
            out.push(reading(0, t, speed, SPEED_UNCERTAINTY));
            if self.options.position {
                self.say_position(t, rmc, speed, out);
            }
        }
    }

    fn stamp(&self, arrival: BootNs) -> BootNs {
        BootNs(arrival.0.saturating_sub(self.options.latency.as_nanos() as u64))
    }

    fn say_position(&self, t: BootNs, rmc: &Rmc, speed: f64, out: &mut Vec<Reading>) {
        if let Some((latitude, longitude)) = rmc.position {
            out.push(reading(1, t, latitude, POSITION_UNCERTAINTY));
            let narrowing = latitude.to_radians().cos().max(0.01);
            out.push(reading(2, t, longitude, POSITION_UNCERTAINTY / narrowing));
        }
        if let Some(course) = rmc.course.filter(|_| speed >= COURSE_FROM) {
            // The angle a sideways speed of that size makes.
            out.push(reading(3, t, course, (SPEED_UNCERTAINTY / speed).atan().to_degrees()));
        }
    }

    fn say(&mut self, t: BootNs, value: Result<Value, NoData>, out: &mut Vec<Reading>) {
        if self.passes(t, value.map(|_| ())) {
            out.push(Reading { channel: 0, t, value });
        }
    }

    /// One reading a period passes, and each change between a value and a reason for none; times only grow.
    fn passes(&mut self, t: BootNs, kind: Result<(), NoData>) -> bool {
        let changed = self.said != Some(kind);
        let passes = self.pace.passes(t);
        if !(passes || changed) || self.last.is_some_and(|last| t <= last) {
            return false;
        }
        self.said = Some(kind);
        self.last = Some(t);
        true
    }
}

fn reading(channel: usize, t: BootNs, value: f64, uncertainty: f64) -> Reading {
    Reading { channel, t, value: Ok(Value { value, uncertainty, quality: Quality::Good }) }
}

impl ByteSensor for Nmea {
    fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>) {
        Nmea::on_bytes(self, t, bytes, out);
    }
}

impl Sensor for Nmea {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says that nothing is heard, when nothing is; values are said as they come.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        // As far back as a sentence that came now would be stamped, so that the next one is not earlier than this.
        let t = self.stamp(now);
        match self.heard {
            None => self.say(t, Err(NoData::Silent), out),
            Some(last) if now.since(last) > self.options.timeout => self.say(t, Err(NoData::Stale), out),
            Some(_) => {}
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

#[cfg(test)]
mod tests;
