//! `kind = "radar"`: a Doppler radar of the OPS243 family.

use std::{path::PathBuf, time::Duration};

use super::{Claims, DEFAULT_REPORT, REPORT, TIMEOUT, scale, serial};
use crate::{
    board::{Board, LineSettings},
    config::walk::{Section, Walk},
    sensor::{radar::Options, unit::Unit},
};

/// `kind = "radar"`: a Doppler radar of the OPS243 family.
#[derive(Clone, Debug, PartialEq)]
pub struct RadarSensor {
    /// The serial port's device.
    pub port: PathBuf,
    /// How its line is set.
    pub settings: LineSettings,
    /// How it is mounted and listened to.
    pub options: Options,
}

/// Steeper than this a degree's error of the angle is a tenth of the speed, and there is little left to measure.
const ANGLE_MAX_DEG: f64 = 80.0;

pub(super) fn read(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<RadarSensor> {
    let port = serial::port_of_its_own(walk, section, board, claims);
    let settings = serial::settings(walk, section, LineSettings::at(19_200));
    let degrees = |walk: &mut Walk<'_>, key, most| walk.number(section, key, 0.0, most).map(|spot| spot.value);
    let angle = degrees(walk, "angle", ANGLE_MAX_DEG).unwrap_or(0.0);
    let angle_uncertainty = degrees(walk, "angle-uncertainty", 20.0).unwrap_or(1.0);
    let unit = scale::unit(walk, section, Some(Unit::default()));
    let zeros = [("standing", true), ("no-target", false)];
    let zero_is_standing = walk.choice(section, "zero", &zeros).unwrap_or(true);
    let direction = walk.flag(section, "direction").unwrap_or(false);
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_secs(1));
    let options = Options {
        angle: angle.to_radians(),
        angle_uncertainty: angle_uncertainty.to_radians(),
        unit: unit?,
        zero_is_standing,
        direction,
        report,
        timeout,
        set_up: true,
    };
    Some(RadarSensor { port: port?, settings, options })
}
