//! Speeds that a truck's control units tell on the CAN bus: SAE J1939-71.
//!
//! A parameter group is recognised by its number (PGN) alone: priority and source address differ from truck to truck
//! (`18FEF100`, `0CFEF100` and `18FEF147` all are CCVS1). Two senders of one group are never mixed: the first one heard
//! is listened to until it has been silent for the timeout, unless the source address is given.
//!
//! Ranges come before scaling (J1939-71, transmitted parameter ranges): up to FAFF a value, FB00 to FDFF reserved,
//! FE00 to FEFF the sender's own error, FF00 to FFFF not available; the whole ranges, not only FEFF and FFFF. A group
//! that is shorter than the parameter's place in it is refused.

use std::time::Duration;

use embedded_can::{Frame, Id};
use speedwell_wire::{NoData, Quality, Quantity};

use super::{
    ChannelSpec, Counters, FrameSensor, Reading, Sensor, TimedFrame, Value,
    field::Field,
    said::Said,
    unit::{self, Unit},
};
use crate::clock::BootNs;

/// What is listened to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    /// SPN 84 of CCVS1, what the wheels or the gearbox turn to.
    WheelBasedSpeed,
    /// SPN 1624 of TCO1, what the tachograph records.
    TachographSpeed,
    /// SPN 904 of EBC2, the brakes' mean of the front wheels.
    FrontAxleSpeed,
    /// SPN 905 to 910 of EBC2: what one wheel turns to, told relative to the front axle.
    Wheel(Wheel),
    /// SPN 190 of EEC1.
    EngineSpeed,
    /// Any parameter, by its place.
    Parameter(Parameter),
}

/// A wheel, as EBC2 counts them; SPN 905 to 910 in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wheel {
    /// Front axle, left.
    FrontLeft,
    /// Front axle, right.
    FrontRight,
    /// First rear axle, left.
    Rear1Left,
    /// First rear axle, right.
    Rear1Right,
    /// Second rear axle, left.
    Rear2Left,
    /// Second rear axle, right.
    Rear2Right,
}

/// A parameter: its group, its bits, and `value = raw * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// Parameter group number, below 2^18.
    pub pgn: u32,
    /// Where in the payload; low byte first, as all of J1939.
    pub field: Field,
    /// Of the unit, a bit.
    pub scale: f64,
    /// Of the unit, at 0.
    pub offset: f64,
    /// What it is told in.
    pub unit: Unit,
}

const KMH: Unit = Unit { word: "km/h", quantity: Quantity::Speed, factor: unit::KMH };
const RPM: Unit = Unit { word: "rpm", quantity: Quantity::RotationalSpeed, factor: 1.0 };

/// EBC2: the front axle's speed and, relative to it, each wheel's.
const EBC2: u32 = 0xFEBF;
/// Speeds are told in 1/256 km/h.
const SPEED_SCALE: f64 = 1.0 / 256.0;
/// A wheel's speed relative to the axle: 1/16 km/h a bit from -7.8125 km/h, so that 125 is none.
const RELATIVE_SCALE: f64 = 1.0 / 16.0;
const RELATIVE_OFFSET: f64 = -7.8125;

const fn parameter(pgn: u32, first_byte: u16, bytes: u16, scale: f64, offset: f64, unit: Unit) -> Parameter {
    Parameter { pgn, field: Field::intel(first_byte * 8, bytes * 8), scale, offset, unit }
}

impl Signal {
    /// The parameter told, and the one it is relative to.
    const fn parameters(self) -> (Parameter, Option<Parameter>) {
        let axle = parameter(EBC2, 0, 2, SPEED_SCALE, 0.0, KMH);
        match self {
            Signal::WheelBasedSpeed => (parameter(0xFEF1, 1, 2, SPEED_SCALE, 0.0, KMH), None),
            Signal::TachographSpeed => (parameter(0xFE6C, 6, 2, SPEED_SCALE, 0.0, KMH), None),
            Signal::FrontAxleSpeed => (axle, None),
            Signal::Wheel(wheel) => {
                let place = 2 + wheel as u16;
                (parameter(EBC2, place, 1, RELATIVE_SCALE, RELATIVE_OFFSET, KMH), Some(axle))
            }
            Signal::EngineSpeed => (parameter(0xF004, 3, 2, 0.125, 0.0, RPM), None),
            Signal::Parameter(parameter) => (parameter, None),
        }
    }

    /// The parameter group it is in, for a filter in the kernel.
    pub fn pgn(self) -> u32 {
        self.parameters().0.pgn
    }

    /// What it measures.
    pub fn quantity(self) -> Quantity {
        self.parameters().0.unit.quantity
    }
}

impl Parameter {
    /// What a payload says of it, in the quantity's unit; `None` where the payload ends before it.
    fn read(&self, payload: &[u8]) -> Option<Result<f64, NoData>> {
        let raw = self.field.raw(payload)?;
        Some(in_range(raw, self.field.bits()).map(|raw| self.unit.si(raw as f64 * self.scale + self.offset)))
    }

    /// A rounded number is off by up to half a bit, evenly: bit/sqrt(12). What the sender's own sensor is worth is not
    /// told on the bus.
    fn uncertainty(&self) -> f64 {
        self.unit.si(self.scale).abs() / 12f64.sqrt()
    }

    fn resolution_nano(&self) -> u64 {
        self.unit.resolution_nano(self.scale, self.offset)
    }
}

/// What to listen to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The parameter.
    pub signal: Signal,
    /// Listen to this sender only.
    pub source_address: Option<u8>,
    /// Report period.
    pub report: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            signal: Signal::WheelBasedSpeed,
            source_address: None,
            report: Duration::from_millis(100),
            timeout: Duration::from_millis(500),
        }
    }
}

/// A parameter on a bus.
#[derive(Debug)]
pub struct J1939 {
    options: Options,
    channels: [ChannelSpec; 1],
    said: Said,
    /// The sender listened to, and when it was last heard.
    heard: Option<(u8, BootNs)>,
    counters: Counters,
}

impl J1939 {
    /// One that has heard nothing.
    pub fn new(options: Options) -> Self {
        let (parameter, _) = options.signal.parameters();
        let (quantity, resolution_nano) = (parameter.unit.quantity, parameter.resolution_nano());
        let channel = ChannelSpec { quantity, resolution_nano, period: options.report };
        Self {
            options,
            channels: [channel],
            said: Said::new(options.report),
            heard: None,
            counters: Counters::default(),
        }
    }

    /// Takes a frame of the bus, any frame. Readings are thinned to the report period and carry the frame's time; a
    /// change between a value and a reason for none is told at once.
    pub fn on_frame<F: Frame>(&mut self, timed: &TimedFrame<F>, out: &mut Vec<Reading>) {
        let Some((pgn, source)) = header(&timed.frame) else { return };
        let (parameter, relative_to) = self.options.signal.parameters();
        if pgn != parameter.pgn || timed.frame.is_remote_frame() || !self.listens_to(source, timed.t) {
            return;
        }
        self.counters.inputs += 1;
        let data = &timed.frame.data()[..timed.frame.dlc().min(timed.frame.data().len())];
        let base = relative_to.map_or(Some(Ok(0.0)), |base| base.read(data));
        let (Some(value), Some(base)) = (parameter.read(data), base) else {
            self.counters.rejected += 1;
            return;
        };
        self.heard = Some((source, timed.t));
        let own = parameter.uncertainty();
        let uncertainty = relative_to.map_or(own, |base| own.hypot(base.uncertainty()));
        let value = base.and_then(|base| value.map(|value| base + value));
        let value = value.map(|value| Value { value, uncertainty, quality: Quality::Good });
        self.say(timed.t, value, out);
    }

    /// The sender given; or else the first one heard, until it falls silent. Which frames count as heard from another
    /// sender is decided by time alone, so that a replay decides alike.
    fn listens_to(&self, source: u8, t: BootNs) -> bool {
        match (self.options.source_address, self.heard) {
            (Some(only), _) => source == only,
            (None, Some((chosen, last))) => source == chosen || t.since(last) > self.options.timeout,
            (None, None) => true,
        }
    }

    fn say(&mut self, t: BootNs, value: Result<Value, NoData>, out: &mut Vec<Reading>) {
        if self.said.passes(t, value.map(|_| ())) {
            out.push(Reading { channel: 0, t, value });
        }
    }
}

impl FrameSensor for J1939 {
    fn on_frame(&mut self, timed: &TimedFrame<super::Frame>, out: &mut Vec<Reading>) {
        J1939::on_frame(self, timed, out);
    }
}

impl Sensor for J1939 {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says that nothing is heard, when nothing is; values are said as they come.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        match self.heard {
            None => self.say(now, Err(NoData::Silent), out),
            Some((_, last)) if now.since(last) > self.options.timeout => self.say(now, Err(NoData::Stale), out),
            Some(_) => {}
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

/// Parameter group number and source address of a frame; `None` for an 11-bit identifier.
/// `priority(3) EDP(1) DP(1) PF(8) PS(8) SA(8)`; PS belongs to the group's number only from PF 240 on.
fn header(frame: &impl Frame) -> Option<(u32, u8)> {
    let Id::Extended(id) = frame.id() else { return None };
    let id = id.as_raw();
    let pgn = id >> 8 & 0x3_FFFF;
    let addressed = pgn >> 8 & 0xFF < 240;
    Some((if addressed { pgn & 0x3_FF00 } else { pgn }, id as u8))
}

/// The transmitted parameter ranges, by the highest byte of whole bytes: up to FA a value, FB to FD reserved, FE an error,
/// FF not available. Of two bits 10 is an error and 11 not available; of other lengths only "all ones" and the number
/// below it have a meaning of their own.
fn in_range(raw: u64, bits: u16) -> Result<u64, NoData> {
    let top = u64::MAX >> (64 - bits);
    match bits {
        8 | 16 | 24 | 32 | 40 | 48 | 56 | 64 => match raw >> (bits - 8) {
            0x00..=0xFA => Ok(raw),
            0xFB..=0xFD => Err(NoData::OutOfRange),
            0xFE => Err(NoData::SensorError),
            _ => Err(NoData::NotAvailable),
        },
        // A single bit has no room for anything but yes and no.
        1 => Ok(raw),
        _ if raw == top => Err(NoData::NotAvailable),
        _ if raw == top - 1 => Err(NoData::SensorError),
        _ => Ok(raw),
    }
}

#[cfg(test)]
#[path = "j1939_tests.rs"]
mod tests;
