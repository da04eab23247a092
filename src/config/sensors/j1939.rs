//! `kind = "j1939"`: a signal of a truck's CAN bus.

use std::time::Duration;

use super::{DEFAULT_REPORT, REPORT, TIMEOUT, can, scale};
use crate::{
    config::walk::{Section, Walk},
    sensor::{
        self,
        field::{Field, Form, Order},
        j1939::{Parameter, Signal, Wheel},
    },
};

/// `kind = "j1939"`: a signal of a truck's CAN bus.
#[derive(Clone, Debug, PartialEq)]
pub struct J1939Sensor {
    /// CAN interface.
    pub interface: String,
    /// Which signal.
    pub signal: Signal,
    /// Take it from this sender only.
    pub source_address: Option<u8>,
    /// Between two readings.
    pub report: Duration,
    /// Silence after which there is no value.
    pub timeout: Duration,
}

impl J1939Sensor {
    /// What to listen to.
    pub fn options(&self) -> sensor::j1939::Options {
        sensor::j1939::Options {
            signal: self.signal,
            source_address: self.source_address,
            report: self.report,
            timeout: self.timeout,
        }
    }
}

pub(super) fn read(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<J1939Sensor> {
    let interface = can::interface(walk, section);
    let signal = match walk.choice(section, "signal", &signals()).unwrap_or(Some(Signal::WheelBasedSpeed)) {
        Some(signal) => Some(signal),
        None => parameter(walk, section).map(Signal::Parameter),
    };
    let source_address = walk.whole(section, "source-address", 0..254).map(|spot| spot.value as u8);
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_millis(500));
    Some(J1939Sensor { interface: interface?, signal: signal?, source_address, report, timeout })
}

/// Every signal that has a name, and `parameter` for one that has not.
fn signals() -> [(&'static str, Option<Signal>); 11] {
    let wheel = |wheel| Some(Signal::Wheel(wheel));
    [
        ("wheel-based-speed", Some(Signal::WheelBasedSpeed)),
        ("tachograph-speed", Some(Signal::TachographSpeed)),
        ("front-axle-speed", Some(Signal::FrontAxleSpeed)),
        ("wheel-front-left", wheel(Wheel::FrontLeft)),
        ("wheel-front-right", wheel(Wheel::FrontRight)),
        ("wheel-rear-1-left", wheel(Wheel::Rear1Left)),
        ("wheel-rear-1-right", wheel(Wheel::Rear1Right)),
        ("wheel-rear-2-left", wheel(Wheel::Rear2Left)),
        ("wheel-rear-2-right", wheel(Wheel::Rear2Right)),
        ("engine-speed", Some(Signal::EngineSpeed)),
        ("parameter", None),
    ]
}

/// A parameter by its place: `pgn`, `start-bit`, `length` and how its number becomes a value.
fn parameter(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<Parameter> {
    let needed = "signal = \"parameter\" needs it";
    for key in ["pgn", "start-bit", "length"] {
        if !section.has(key) {
            walk.missing(section, key, needed);
        }
    }
    let pgn = walk.whole(section, "pgn", 0..PGN_END);
    // From 0, counted through the payload as J1939 does from 1: byte 2 begins at bit 8.
    let start = walk.whole(section, "start-bit", 0..64);
    let length = walk.whole(section, "length", 1..65);
    let scale = scale::read(walk, section, None);
    let (pgn, start, length, scale) = (pgn?, start?, length?, scale?);
    if start.value + length.value > 64 {
        walk.wrong(&length, "it would end behind the 8 bytes of a frame").allowed(format!("1 to {}", 64 - start.value));
        return None;
    }
    let field = Field::new(start.value as u16, length.value as u16, Order::Intel, Form::Unsigned).ok()?;
    Some(Parameter { pgn: pgn.value as u32, field, scale: scale.scale, offset: scale.offset, unit: scale.unit })
}

/// Group numbers have 18 bits.
const PGN_END: u64 = 1 << 18;
