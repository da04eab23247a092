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

use super::{ChannelSpec, Counters, FrameSensor, Reading, Sensor, TimedFrame, Value, pace::Pace};
use crate::clock::BootNs;

/// A parameter that is a speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SPN 84 of CCVS1, what the wheels or the gearbox turn to.
    WheelBasedSpeed,
    /// SPN 1624 of TCO1, what the tachograph records.
    TachographSpeed,
    /// SPN 904 of EBC2, the brakes' mean of the front wheels.
    FrontAxleSpeed,
    /// SPN 190 of EEC1.
    EngineSpeed,
}

/// Where a parameter is, and its scale. All here are two bytes, low byte first, without offset.
struct Place {
    pgn: u32,
    /// From 0.
    first_byte: usize,
    quantity: Quantity,
    /// Unit of the quantity a bit.
    scale: f64,
    /// Resolution of the channel in 1e-9 of the unit: no coarser than a bit.
    resolution_nano: u64,
}

/// 1/256 km/h in m/s.
const KMH_256: f64 = 1.0 / 256.0 / 3.6;

impl Signal {
    const fn place(self) -> Place {
        let (pgn, first_byte) = match self {
            Signal::WheelBasedSpeed => (0xFEF1, 1),
            Signal::TachographSpeed => (0xFE6C, 6),
            Signal::FrontAxleSpeed => (0xFEBF, 0),
            Signal::EngineSpeed => (0xF004, 3),
        };
        match self {
            Signal::EngineSpeed => {
                let quantity = Quantity::RotationalSpeed;
                Place { pgn, first_byte, quantity, scale: 0.125, resolution_nano: 125_000_000 }
            }
            _ => Place { pgn, first_byte, quantity: Quantity::Speed, scale: KMH_256, resolution_nano: 1_000_000 },
        }
    }

    /// The parameter group it is in, for a filter in the kernel.
    pub fn pgn(self) -> u32 {
        self.place().pgn
    }

    /// What it measures.
    pub fn quantity(self) -> Quantity {
        self.place().quantity
    }
}

/// What to listen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pace: Pace,
    /// The sender listened to, and when it was last heard.
    heard: Option<(u8, BootNs)>,
    /// What was last said: a value, or the reason why there is none.
    said: Option<Result<(), NoData>>,
    /// Last time given to a reading: they only grow.
    last: Option<BootNs>,
    counters: Counters,
}

impl J1939 {
    /// One that has heard nothing.
    pub fn new(options: Options) -> Self {
        let place = options.signal.place();
        let channel =
            ChannelSpec { quantity: place.quantity, resolution_nano: place.resolution_nano, period: options.report };
        Self {
            options,
            channels: [channel],
            pace: Pace::new(options.report),
            heard: None,
            said: None,
            last: None,
            counters: Counters::default(),
        }
    }

    /// Takes a frame of the bus, any frame. Readings are thinned to the report period and carry the frame's time; a
    /// change between a value and a reason for none is told at once.
    pub fn on_frame<F: Frame>(&mut self, timed: &TimedFrame<F>, out: &mut Vec<Reading>) {
        let Some((pgn, source)) = header(&timed.frame) else { return };
        let place = self.options.signal.place();
        if pgn != place.pgn || timed.frame.is_remote_frame() || !self.listens_to(source, timed.t) {
            return;
        }
        self.counters.inputs += 1;
        let data = &timed.frame.data()[..timed.frame.dlc().min(timed.frame.data().len())];
        let Some(&[low, high]) = data.get(place.first_byte..place.first_byte + 2) else {
            self.counters.rejected += 1;
            return;
        };
        self.heard = Some((source, timed.t));
        let value = in_range(u16::from_le_bytes([low, high])).map(|raw| Value {
            value: f64::from(raw) * place.scale,
            // A rounded number is off by up to half a bit, evenly: bit/sqrt(12). What the sender's own sensor is
            // worth is not told on the bus.
            uncertainty: place.scale / 12f64.sqrt(),
            quality: Quality::Good,
        });
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
        let kind = value.map(|_| ());
        let changed = self.said != Some(kind);
        let passes = self.pace.passes(t);
        if !(passes || changed) || self.last.is_some_and(|last| t <= last) {
            return;
        }
        self.said = Some(kind);
        self.last = Some(t);
        out.push(Reading { channel: 0, t, value });
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

/// The transmitted parameter ranges of two bytes.
fn in_range(raw: u16) -> Result<u16, NoData> {
    match raw >> 8 {
        0x00..=0xFA => Ok(raw),
        0xFB..=0xFD => Err(NoData::OutOfRange),
        0xFE => Err(NoData::SensorError),
        _ => Err(NoData::NotAvailable),
    }
}

#[cfg(test)]
#[path = "j1939_tests.rs"]
mod tests;
