//! `kind = "j1939"`: a signal of a truck's CAN bus.

use std::time::Duration;

use super::{DEFAULT_REPORT, REPORT, TIMEOUT, can};
use crate::{
    config::walk::{Section, Walk},
    sensor::{self, j1939::Signal},
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
    let signals = [
        ("wheel-based-speed", Signal::WheelBasedSpeed),
        ("tachograph-speed", Signal::TachographSpeed),
        ("front-axle-speed", Signal::FrontAxleSpeed),
        ("engine-speed", Signal::EngineSpeed),
    ];
    let signal = walk.choice(section, "signal", &signals).unwrap_or(Signal::WheelBasedSpeed);
    let source_address = walk.whole(section, "source-address", 0..254).map(|spot| spot.value as u8);
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_millis(500));
    Some(J1939Sensor { interface: interface?, signal, source_address, report, timeout })
}
