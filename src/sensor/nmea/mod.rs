//! Speed over ground from a satellite receiver: NMEA 0183, the RMC sentence and what VTG and GGA add to it.
//!
//! RMC carries its own validity. A speed is a speed iff the checksum is there and right, the status (field 2) is `A`,
//! the mode (field 12, since version 2.3) is not `N`, `E`, `M` or `S`, and the field is not empty: empty is not zero.
//! VTG repeats the speed without a status of its own, and old receivers send it with mode `A` beside a void RMC: it counts
//! only right behind a valid RMC that had no speed. GGA has the altitude of a valid RMC's place, before or behind it: the
//! two belong together when they name the same time.
//!
//! What no sentence of a solution tells is not available, on each channel by itself; a void solution is no fix on all.
//!
//! A sentence is stamped with the arrival of its first byte less the receiver's latency. What the speed of a receiver
//! is worth is not in RMC; Doppler speeds are good for 0.05 to 0.1 m/s, and the larger is said.

use std::time::Duration;

use speedwell_wire::{NoData, Quality, Quantity};

pub use self::rmc::{NmeaUtc, Rmc};
use self::{
    others::{Gga, Vtg},
    sentence::{Framed, Framer},
};
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
/// A solution is complete by then, whether or not another has begun: receivers say all of one in one go.
const ONE_GO: Duration = Duration::from_millis(900);
/// VTG has no time: it belongs to the solution whose sentences it follows without a longer pause than this.
const BREATH: Duration = Duration::from_millis(250);
/// Below this speed, m/s, a receiver's course is noise and is not said.
const COURSE_FROM: f64 = 0.5;

/// The channels, in their order.
const SPEED: usize = 0;
const LATITUDE: usize = 1;
const LONGITUDE: usize = 2;
const COURSE: usize = 3;
const ALTITUDE: usize = 4;

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
    /// Of each channel.
    said: Vec<Said>,
    heard: Option<BootNs>,
    /// When the newest sentence ended, and the newest time that one named, ns since midnight.
    ended: BootNs,
    named: Option<u64>,
    solution: Option<Solution>,
    /// A GGA whose RMC has not come yet.
    ahead: Option<Gga>,
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
            said: vec![Said::new(options.report); channels.len()],
            channels,
            framer: Framer::default(),
            noise: Noise::default(),
            heard: None,
            ended: BootNs(0),
            named: None,
            solution: None,
            ahead: None,
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
                    self.ended = t;
                }
            }
        }
    }

    /// UTC of the newest valid sentence with time and date, and the boot time it stands for.
    pub fn last_utc(&self) -> Option<(BootNs, NmeaUtc)> {
        self.utc
    }

    fn hear(&mut self, at: BootNs, sentence: Sentence, out: &mut Vec<Reading>) -> Result<(), rmc::BadField> {
        match sentence {
            Sentence::Rmc(rmc) => {
                let rmc = rmc?;
                self.take(at, &rmc, out);
            }
            Sentence::Vtg(vtg) => self.add_speed(at, vtg?, out),
            Sentence::Gga(gga) => self.add_altitude(gga?, out),
            Sentence::Other => {}
        }
        Ok(())
    }

    /// The speed of a VTG, where the RMC before it was valid and had none. VTG has no word for "not valid" of its own in
    /// old receivers, which send 0.00 beside a void RMC.
    fn add_speed(&mut self, at: BootNs, vtg: Vtg, out: &mut Vec<Reading>) {
        let follows = at.since(self.ended) <= BREATH;
        let named = self.named;
        let Some(solution) = self.solution.as_mut().filter(|solution| follows && solution.time == named) else {
            return;
        };
        let (Some(kmh), true) = (vtg.kmh, solution.lacks_speed) else { return };
        solution.lacks_speed = false;
        let (t, course) = (solution.t, solution.course);
        self.say_speed(t, kmh * KMH, course, out);
    }

    fn add_altitude(&mut self, gga: Gga, out: &mut Vec<Reading>) {
        let Some(time) = gga.time else { return };
        self.named = Some(time);
        match &mut self.solution {
            Some(solution) if solution.time == Some(time) => {
                let lacked = std::mem::take(&mut solution.lacks_altitude);
                let t = solution.t;
                if lacked {
                    self.say(ALTITUDE, t, gga.altitude.map(|m| (m, ALTITUDE_UNCERTAINTY)), out);
                }
            }
            _ => self.ahead = Some(gga),
        }
    }

    fn take(&mut self, at: BootNs, rmc: &Rmc, out: &mut Vec<Reading>) {
        self.close(out);
        self.heard = Some(at);
        self.named = rmc.time;
        let (t, ahead) = (self.stamp(at), self.ahead.take());
        if !rmc.valid {
            return self.say_nothing(t, NoData::NoFix, out);
        }
        if let Some(utc) = rmc.utc {
            self.utc = Some((t, utc));
        }
        let ahead = ahead.filter(|gga| gga.time == rmc.time);
        let (lacks_speed, lacks_altitude) = (rmc.speed_knots.is_none(), ahead.is_none());
        self.solution = Some(Solution { at, t, time: rmc.time, course: rmc.course, lacks_speed, lacks_altitude });
        self.say_place(t, rmc.position, out);
        if let Some(knots) = rmc.speed_knots {
            self.say_speed(t, knots * KNOT, rmc.course, out);
        }
        if let Some(gga) = ahead {
            self.say(ALTITUDE, t, gga.altitude.map(|m| (m, ALTITUDE_UNCERTAINTY)), out);
        }
    }

    /// No more comes of a solution: what nothing has told of it is not available.
    fn close(&mut self, out: &mut Vec<Reading>) {
        let Some(solution) = self.solution.take() else { return };
        if solution.lacks_speed {
            self.say(SPEED, solution.t, None, out);
            self.say(COURSE, solution.t, None, out);
        }
        if solution.lacks_altitude {
            self.say(ALTITUDE, solution.t, None, out);
        }
    }

    fn stamp(&self, arrival: BootNs) -> BootNs {
        BootNs(arrival.0.saturating_sub(self.options.latency.as_nanos() as u64))
    }

    fn say_speed(&mut self, t: BootNs, speed: f64, course: Option<f64>, out: &mut Vec<Reading>) {
        self.say(SPEED, t, Some((speed, SPEED_UNCERTAINTY)), out);
        // Its uncertainty is the angle that a sideways speed of that size makes.
        let sideways = (SPEED_UNCERTAINTY / speed).atan().to_degrees();
        self.say(COURSE, t, course.filter(|_| speed >= COURSE_FROM).map(|course| (course, sideways)), out);
    }

    fn say_place(&mut self, t: BootNs, place: Option<(f64, f64)>, out: &mut Vec<Reading>) {
        let narrowing = place.map_or(1.0, |(latitude, _)| latitude.to_radians().cos().max(0.01));
        self.say(LATITUDE, t, place.map(|(latitude, _)| (latitude, POSITION_UNCERTAINTY)), out);
        self.say(LONGITUDE, t, place.map(|(_, longitude)| (longitude, POSITION_UNCERTAINTY / narrowing)), out);
    }

    /// A value with its uncertainty, or that it is not available, on a channel if it is one of the sensor's.
    fn say(&mut self, channel: usize, t: BootNs, value: Option<(f64, f64)>, out: &mut Vec<Reading>) {
        let good = |(value, uncertainty)| Value { value, uncertainty, quality: Quality::Good };
        self.pass(Reading { channel, t, value: value.map(good).ok_or(NoData::NotAvailable) }, out);
    }

    fn say_nothing(&mut self, t: BootNs, reason: NoData, out: &mut Vec<Reading>) {
        (0..self.channels.len()).for_each(|channel| self.pass(Reading { channel, t, value: Err(reason) }, out));
    }

    fn pass(&mut self, reading: Reading, out: &mut Vec<Reading>) {
        let said = self.said.get_mut(reading.channel);
        if said.is_some_and(|said| said.passes(reading.t, reading.value.map(|_| ()))) {
            out.push(reading);
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
    /// What it names, ns since midnight.
    time: Option<u64>,
    course: Option<f64>,
    lacks_speed: bool,
    lacks_altitude: bool,
}

/// A sentence that is listened to.
enum Sentence {
    Rmc(Result<Rmc, rmc::BadField>),
    Vtg(Result<Vtg, rmc::BadField>),
    Gga(Result<Gga, rmc::BadField>),
    Other,
}

impl Sentence {
    fn of(text: &str) -> Self {
        let vtg = || others::vtg(text).map(Sentence::Vtg);
        let gga = || others::gga(text).map(Sentence::Gga);
        rmc::parse(text).map(Sentence::Rmc).or_else(vtg).or_else(gga).unwrap_or(Sentence::Other)
    }
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
        if self.solution.is_some_and(|solution| now.since(solution.at) > ONE_GO) {
            self.close(out);
        }
        // As far back as a sentence that came now would be stamped, so that the next one is not earlier than this.
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
        self.noise.trouble("a sentence of NMEA 0183", "receivers speak at 4800, 9600, 38400 or 115200")
    }
}

#[cfg(test)]
mod tests;
