//! Speed over ground from a satellite receiver: NMEA 0183, the RMC sentence and what VTG and GGA add to it.
//!
//! RMC carries its own validity. A speed is a speed iff the checksum is there and right, the status (field 2) is `A`,
//! the mode (field 12, since version 2.3) is not `N`, `E`, `M` or `S`, and the field is not empty: empty is not zero.
//! VTG repeats the speed without a status of its own, and old receivers send it with mode `A` beside a void RMC: it counts
//! only behind a valid RMC of the same solution that had no speed. GGA has the altitude of a valid RMC's place.
//!
//! A sentence is stamped with the arrival of its first byte less the receiver's latency. What the speed of a receiver
//! is worth is not in RMC; Doppler speeds are good for 0.05 to 0.1 m/s, and the larger is said.

use std::time::Duration;

use speedwell_wire::{NoData, Quality, Quantity};

pub use self::rmc::{NmeaUtc, Rmc};
use self::sentence::{Framed, Framer};
pub(crate) use super::unit::KNOT;
use super::{ByteSensor, ChannelSpec, Counters, Reading, Sensor, Value, noise::Noise, said::Said, unit::KMH};
use crate::clock::BootNs;

mod others;
mod rmc;
mod sentence;

/// Uncertainty of a Doppler speed, m/s.
const SPEED_UNCERTAINTY: f64 = 0.1;
/// Uncertainty of a position: 5 m, in degrees of latitude.
const POSITION_UNCERTAINTY: f64 = 5.0 / 111_120.0;
/// Uncertainty of an altitude, m: about twice that of a place.
const ALTITUDE_UNCERTAINTY: f64 = 10.0;
/// VTG and GGA belong to the RMC before them when they come no later than this: receivers say all of a solution in one go.
const ONE_GO: Duration = Duration::from_millis(900);
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
    /// Also report latitude, longitude, course and altitude.
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
    noise: Noise,
    said: Said,
    heard: Option<BootNs>,
    solution: Option<Solution>,
    utc: Option<(BootNs, NmeaUtc)>,
    counters: Counters,
}

impl Nmea {
    /// One that has heard nothing. Channel 0 is speed; with `position`, 1 to 4 are latitude, longitude, course, altitude.
    pub fn new(options: Options) -> Self {
        let channel = |quantity, resolution_nano| ChannelSpec { quantity, resolution_nano, period: options.report };
        let mut channels = vec![channel(Quantity::Speed, 1_000_000)];
        if options.position {
            // 1e-7 degrees is 11 mm.
            channels.push(channel(Quantity::Latitude, 100));
            channels.push(channel(Quantity::Longitude, 100));
            channels.push(channel(Quantity::Course, 10_000_000));
            channels.push(channel(Quantity::Altitude, 100_000_000));
        }
        Self {
            options,
            channels,
            framer: Framer::default(),
            noise: Noise::default(),
            said: Said::new(options.report),
            heard: None,
            solution: None,
            utc: None,
            counters: Counters::default(),
        }
    }

    /// Takes bytes as they come, however they are cut; `t` is when the first of them arrived.
    pub fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>) {
        self.noise.heard(bytes.len());
        for &byte in bytes {
            match self.framer.push(t, byte) {
                None => {}
                Some(Framed::Refused) => self.counters.rejected += 1,
                Some(Framed::Sentence { at, text }) => {
                    self.counters.inputs += 1;
                    self.noise.made_sense();
                    let sentence = Sentence::of(text);
                    if self.hear(at, sentence, out).is_err() {
                        self.counters.rejected += 1;
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

    fn hear(&mut self, at: BootNs, sentence: Sentence, out: &mut Vec<Reading>) -> Result<(), rmc::BadField> {
        match sentence {
            Sentence::Rmc(rmc) => {
                let rmc = rmc?;
                self.take(at, &rmc, out);
            }
            Sentence::Vtg(kmh) => self.add_speed(at, kmh?, out),
            Sentence::Gga(altitude) => self.add_altitude(at, altitude?, out),
            Sentence::Other => {}
        }
        Ok(())
    }

    /// The solution that a sentence which came at `at` says more of.
    fn solution_at(&mut self, at: BootNs) -> Option<&mut Solution> {
        self.solution.as_mut().filter(|solution| at.since(solution.at) <= ONE_GO)
    }

    /// The speed of a VTG, where the RMC before it was valid and had none. VTG has no word for "not valid" of its own in
    /// old receivers, which send 0.00 beside a void RMC.
    fn add_speed(&mut self, at: BootNs, kmh: Option<f64>, out: &mut Vec<Reading>) {
        let Some(solution) = self.solution_at(at).filter(|solution| !solution.has_speed) else { return };
        // That the RMC had none was said at its own time; times only grow.
        let (Some(kmh), t) = (kmh, BootNs(solution.t.0.saturating_add(1))) else { return };
        solution.has_speed = true;
        if self.said.passes(t, Ok(())) {
            out.push(reading(0, t, kmh * KMH, SPEED_UNCERTAINTY));
        }
    }

    fn add_altitude(&mut self, at: BootNs, altitude: Option<f64>, out: &mut Vec<Reading>) {
        if !self.options.position {
            return;
        }
        let Some(solution) = self.solution_at(at).filter(|solution| solution.passed) else { return };
        solution.passed = false;
        if let Some(altitude) = altitude {
            out.push(reading(4, solution.t, altitude, ALTITUDE_UNCERTAINTY));
        }
    }

    fn take(&mut self, at: BootNs, rmc: &Rmc, out: &mut Vec<Reading>) {
        self.heard = Some(at);
        let t = self.stamp(at);
        self.solution = None;
        if !rmc.valid {
            return self.say(t, Err(NoData::NoFix), out);
        }
        if let Some(utc) = rmc.utc {
            self.utc = Some((t, utc));
        }
        let mut solution = Solution { at, t, has_speed: rmc.speed_knots.is_some(), passed: false };
        match rmc.speed_knots {
            // A VTG may follow that has it.
            None => self.say(t, Err(NoData::NotAvailable), out),
            Some(knots) if self.said.passes(t, Ok(())) => {
                let speed = knots * KNOT;
                solution.passed = true;
                out.push(reading(0, t, speed, SPEED_UNCERTAINTY));
                if self.options.position {
                    self.say_position(t, rmc, speed, out);
                }
            }
            Some(_) => {}
        }
        self.solution = Some(solution);
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
        if self.said.passes(t, value.map(|_| ())) {
            out.push(Reading { channel: 0, t, value });
        }
    }
}

/// A valid RMC, for the sentences that say more of it.
#[derive(Clone, Copy, Debug)]
struct Solution {
    /// When it came.
    at: BootNs,
    /// What it is stamped with.
    t: BootNs,
    has_speed: bool,
    /// Whether it was passed on, so that its altitude may be too.
    passed: bool,
}

/// A sentence that is listened to.
enum Sentence {
    Rmc(Result<Rmc, rmc::BadField>),
    Vtg(Result<Option<f64>, rmc::BadField>),
    Gga(Result<Option<f64>, rmc::BadField>),
    Other,
}

impl Sentence {
    fn of(text: &str) -> Self {
        let vtg = || others::vtg(text).map(Sentence::Vtg);
        let gga = || others::gga(text).map(Sentence::Gga);
        rmc::parse(text).map(Sentence::Rmc).or_else(vtg).or_else(gga).unwrap_or(Sentence::Other)
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

    fn trouble(&self) -> Option<String> {
        self.noise.trouble("a sentence of NMEA 0183", "receivers speak at 4800, 9600, 38400 or 115200")
    }
}

#[cfg(test)]
mod tests;
