//! Speed over ground from a u-blox receiver's binary protocol: UBX-NAV-PVT (class 01, id 07).
//!
//! `B5 62 class id length(2, low first) payload ck_a ck_b`, the checksum being Fletcher's over class to payload. NAV-PVT
//! has 92 bytes, 84 in receivers before protocol 14; no field read here lies beyond the 84.
//!
//! A speed is a speed iff gnssFixOK is set, the fix is 2D, 3D or with dead reckoning (2 to 4), and the receiver's own
//! estimate of its error, sAcc, is below a limit. sAcc is the uncertainty that is told. Unlike NMEA's, this tells what a
//! speed is worth, so where a receiver can do both this is the one to have.
//!
//! Sentences of NMEA and other frames may be mixed in. They are passed over byte by byte rather than by their told length:
//! a length out of line noise would swallow up to 64 KiB of what follows.

use std::time::Duration;

use speedwell_wire::{NoData, Quality, Quantity};

use self::{
    frame::{Framed, Framer},
    pvt::Pvt,
};
use super::{ByteSensor, ChannelSpec, Counters, Reading, Sensor, Value, nmea::NmeaUtc, noise::Noise, said::Said};
use crate::clock::BootNs;

mod frame;
mod pvt;

/// 1e-3, mm to m.
const MILLI: f64 = 1e-3;
/// A degree of latitude, m.
const METRES_A_DEGREE: f64 = 111_120.0;
/// Below this speed, m/s, a receiver's course is noise and is not said.
const COURSE_FROM: f64 = 0.5;

/// How the receiver is listened to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Report period; a slower receiver is reported as it comes.
    pub report: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
    /// From the instant a solution is true for to the arrival of its first byte.
    pub latency: Duration,
    /// Speeds the receiver holds to be no better than this, m/s, are not believed.
    pub accuracy_limit: f64,
    /// Also report latitude, longitude, course and altitude.
    pub position: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            report: Duration::from_millis(100),
            timeout: Duration::from_secs(3),
            latency: Duration::from_millis(100),
            accuracy_limit: 0.5,
            position: false,
        }
    }
}

/// A receiver on a serial line.
#[derive(Debug)]
pub struct Ubx {
    options: Options,
    channels: Vec<ChannelSpec>,
    framer: Framer,
    noise: Noise,
    said: Said,
    heard: Option<BootNs>,
    utc: Option<(BootNs, NmeaUtc)>,
    counters: Counters,
}

impl Ubx {
    /// One that has heard nothing. Channel 0 is speed; with `position`, 1 to 4 are latitude, longitude, course, altitude.
    pub fn new(options: Options) -> Self {
        let channel = |quantity, resolution_nano| ChannelSpec { quantity, resolution_nano, period: options.report };
        let mut channels = vec![channel(Quantity::Speed, 1_000_000)];
        if options.position {
            // 1e-7 degrees, the receiver's own step, is 11 mm.
            channels.push(channel(Quantity::Latitude, 100));
            channels.push(channel(Quantity::Longitude, 100));
            channels.push(channel(Quantity::Course, 10_000));
            channels.push(channel(Quantity::Altitude, 1_000_000));
        }
        Self {
            options,
            channels,
            framer: Framer::default(),
            noise: Noise::default(),
            said: Said::new(options.report),
            heard: None,
            utc: None,
            counters: Counters::default(),
        }
    }

    /// Takes bytes as they come, however they are cut; `t` is when the first of them arrived.
    pub fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>) {
        self.noise.heard(bytes.len());
        for &byte in bytes {
            self.framer.push(t, byte);
            while let Some(framed) = self.framer.take() {
                match framed {
                    Framed::Refused => self.counters.rejected += 1,
                    Framed::Solution { at, payload } => {
                        self.counters.inputs += 1;
                        self.noise.made_sense();
                        self.heed(at, &pvt::read(&payload), out);
                    }
                }
            }
        }
    }

    /// UTC of the newest solution with a fix whose date and time the receiver holds to be valid and fully resolved, and the boot time
    /// it stands for.
    pub fn last_utc(&self) -> Option<(BootNs, NmeaUtc)> {
        self.utc
    }

    fn heed(&mut self, at: BootNs, pvt: &Pvt, out: &mut Vec<Reading>) {
        self.heard = Some(at);
        let t = self.stamp(at);
        // Without a fix it is the time of the receiver's own clock.
        if let Some(utc) = pvt.utc.filter(|_| pvt.fix) {
            self.utc = Some((t, utc));
        }
        let accuracy = f64::from(pvt.speed_accuracy_mm) * MILLI;
        if !pvt.fix || accuracy >= self.options.accuracy_limit {
            return self.say_nothing(t, NoData::NoFix, out);
        }
        if self.said.passes(t, Ok(())) {
            let speed = f64::from(pvt.speed_mm) * MILLI;
            out.push(reading(0, t, speed, accuracy));
            if self.options.position {
                self.say_position(t, pvt, speed, accuracy, out);
            }
        }
    }

    fn say_position(&self, t: BootNs, pvt: &Pvt, speed: f64, accuracy: f64, out: &mut Vec<Reading>) {
        // hAcc is of both axes together; each is given the whole of it.
        let horizontal = f64::from(pvt.horizontal_accuracy_mm) * MILLI / METRES_A_DEGREE;
        let latitude = f64::from(pvt.latitude) * 1e-7;
        out.push(reading(1, t, latitude, horizontal));
        let narrowing = latitude.to_radians().cos().max(0.01);
        out.push(reading(2, t, f64::from(pvt.longitude) * 1e-7, horizontal / narrowing));
        let none = |channel| Reading { channel, t, value: Err(NoData::NotAvailable) };
        // The angle a sideways speed of that size makes.
        let course = (f64::from(pvt.course) * 1e-5).rem_euclid(360.0);
        let sideways = (accuracy / speed).atan().to_degrees();
        out.push(if speed >= COURSE_FROM { reading(3, t, course, sideways) } else { none(3) });
        // A 2D fix has no height of its own.
        let vertical = f64::from(pvt.vertical_accuracy_mm) * MILLI;
        let altitude = f64::from(pvt.altitude_mm) * MILLI;
        out.push(if pvt.has_height { reading(4, t, altitude, vertical) } else { none(4) });
    }

    fn say_nothing(&mut self, t: BootNs, reason: NoData, out: &mut Vec<Reading>) {
        if self.said.passes(t, Err(reason)) {
            out.extend((0..self.channels.len()).map(|channel| Reading { channel, t, value: Err(reason) }));
        }
    }

    fn stamp(&self, arrival: BootNs) -> BootNs {
        BootNs(arrival.0.saturating_sub(self.options.latency.as_nanos() as u64))
    }
}

fn reading(channel: usize, t: BootNs, value: f64, uncertainty: f64) -> Reading {
    Reading { channel, t, value: Ok(Value { value, uncertainty, quality: Quality::Good }) }
}

impl ByteSensor for Ubx {
    fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>) {
        Ubx::on_bytes(self, t, bytes, out);
    }
}

impl Sensor for Ubx {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says that nothing is heard, when nothing is; values are said as they come.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        // As far back as a solution that came now would be stamped, so that the next one is not earlier than this.
        let t = self.stamp(now);
        match self.heard {
            None => self.say_nothing(t, NoData::Silent, out),
            Some(last) if now.since(last) > self.options.timeout => self.say_nothing(t, NoData::Stale, out),
            Some(_) => {}
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn utc(&self) -> Option<(BootNs, i64)> {
        self.utc.and_then(|(t, utc)| Some((t, utc.unix_ns()?)))
    }

    fn trouble(&self) -> Option<String> {
        self.noise.trouble(
            "a UBX-NAV-PVT message; a receiver has to be told to send it",
            "receivers speak at 9600, 38400 or 115200; USB takes any",
        )
    }
}

#[cfg(test)]
mod tests;
