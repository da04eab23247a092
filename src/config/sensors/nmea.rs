//! `kind = "nmea"`: a GNSS receiver that sends NMEA 0183.

use std::{path::PathBuf, time::Duration};

use super::{Claims, REPORT, TIMEOUT, serial};
use crate::{
    board::{Board, LineSettings},
    config::walk::{Section, Walk},
    sensor,
};

/// `kind = "nmea"`: a GNSS receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct NmeaSensor {
    /// The serial port's device.
    pub port: PathBuf,
    /// How its line is set.
    pub settings: LineSettings,
    /// Between two readings.
    pub report: Duration,
    /// Silence after which there is no value.
    pub timeout: Duration,
    /// From the instant a sentence is true for to the arrival of its first byte.
    pub latency: Duration,
    /// Report latitude, longitude, course and altitude too.
    pub position: bool,
    /// Vouch for UTC where the system's own clock is not synchronised.
    pub clock: bool,
}

impl NmeaSensor {
    /// How to read the receiver.
    pub fn options(&self) -> sensor::nmea::Options {
        sensor::nmea::Options {
            report: self.report,
            timeout: self.timeout,
            latency: self.latency,
            position: self.position,
        }
    }
}

pub(super) fn read(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<NmeaSensor> {
    let port = serial::port_of_its_own(walk, section, board, claims);
    let settings = serial::settings(walk, section, LineSettings::at(9600));
    // As fast as common receivers speak: what is not asked to be thinned is passed whole.
    let report = walk.period(section, "report", REPORT).unwrap_or(Duration::from_millis(100));
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_secs(3));
    let latency = walk.time(section, "latency", ("0 s", "2 s")).unwrap_or(Duration::from_millis(100));
    let position = walk.flag(section, "position").unwrap_or(false);
    let clock = serial::clock(walk, section, claims);
    Some(NmeaSensor { latency, position, clock, port: port?, settings, report, timeout })
}
