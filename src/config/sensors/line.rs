//! `kind = "line"`: a number out of lines of text.

use std::{path::PathBuf, time::Duration};

use super::{Claims, DEFAULT_REPORT, REPORT, TIMEOUT, scale, serial};
use crate::{
    board::{Board, LineSettings},
    config::walk::{Section, Walk},
    sensor::line::{Options, Pattern},
};

/// `kind = "line"`: a number out of lines of text.
#[derive(Clone, Debug, PartialEq)]
pub struct LineSensor {
    /// The serial port's device.
    pub port: PathBuf,
    /// How its line is set.
    pub settings: LineSettings,
    /// What is listened to.
    pub options: Options,
}

/// Tokens for "no value": a device has one or two.
const INVALID_MAX: usize = 16;

pub(super) fn read(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<LineSensor> {
    let port = serial::port_of_its_own(walk, section, board, claims);
    let settings = serial::settings(walk, section, LineSettings::at(9600));
    let what = "where in a line the number is, as pattern = 'SPD=(?P<v>[0-9.]+)'";
    let pattern = walk.required_text(section, "pattern", what).and_then(|spot| match Pattern::new(&spot.value) {
        Ok(pattern) => Some(pattern),
        Err(bad) => {
            let first = bad.to_string().lines().last().unwrap_or_default().to_owned();
            walk.wrong(&spot, format!("cannot be used: {first}"));
            None
        }
    });
    let scale = scale::read(walk, section, None);
    let decimals = [("point", false), ("comma", true)];
    let decimal_comma = walk.choice(section, "decimal", &decimals).unwrap_or(false);
    let invalid = walk.list(section, "invalid").unwrap_or_default();
    if let Some(beyond) = invalid.get(INVALID_MAX) {
        let message = format!("{} tokens; at most {INVALID_MAX} are taken", invalid.len());
        walk.wrong(beyond, message)
            .note("more are better told apart by the pattern: what it does not match is passed over");
    }
    let invalid: Vec<String> = invalid.into_iter().map(|spot| spot.value).collect();
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_secs(2));
    let scale = scale?;
    let options = Options {
        pattern: pattern?,
        unit: scale.unit,
        scale: scale.scale,
        offset: scale.offset,
        decimal_comma,
        invalid,
        report,
        timeout,
    };
    Some(LineSensor { port: port?, settings, options })
}
