//! `kind = "ubx"`: a u-blox receiver that sends UBX-NAV-PVT.

use std::{path::PathBuf, time::Duration};

use super::{Claims, DEFAULT_REPORT, REPORT, TIMEOUT, serial};
use crate::{
    board::{Board, LineSettings},
    config::{
        quantity::Dimension,
        walk::{Section, Walk},
    },
    sensor::ubx::Options,
};

/// `kind = "ubx"`: a u-blox receiver that sends UBX-NAV-PVT.
#[derive(Clone, Debug, PartialEq)]
pub struct UbxSensor {
    /// The serial port's device.
    pub port: PathBuf,
    /// How its line is set.
    pub settings: LineSettings,
    /// How the receiver is listened to.
    pub options: Options,
    /// Vouch for UTC where the system's own clock is not synchronised.
    pub clock: bool,
}

pub(super) fn read(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<UbxSensor> {
    let port = serial::port_of_its_own(walk, section, board, claims);
    let settings = serial::settings(walk, section, LineSettings::at(38_400));
    let defaults = Options::default();
    let limit = walk.quantity(section, "accuracy-limit", Dimension::Speed, ("0.01 m/s", "10 m/s"));
    let options = Options {
        report: walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT),
        timeout: walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_secs(3)),
        latency: walk.time(section, "latency", ("0 s", "2 s")).unwrap_or(defaults.latency),
        accuracy_limit: limit.map_or(defaults.accuracy_limit, |spot| spot.value),
        position: walk.flag(section, "position").unwrap_or(false),
    };
    let clock = serial::clock(walk, section, claims);
    Some(UbxSensor { port: port?, settings, options, clock })
}
