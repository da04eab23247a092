//! `kind = "obd2"`: values a car's control units give when they are asked.

use std::time::Duration;

use super::{Claims, REPORT, TIMEOUT, can, claim, scale};
use crate::{
    config::walk::{Section, Walk},
    sensor::{
        self,
        obd2::{PIDS_MAX, Pid, Target},
    },
};

/// `kind = "obd2"`: values a car's control units give when they are asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Obd2Sensor {
    /// CAN interface.
    pub interface: String,
    /// What is asked for, a channel each.
    pub pids: Vec<Pid>,
    /// With 29-bit identifiers.
    pub extended: bool,
    /// Who is asked.
    pub target: Target,
    /// How often each is asked for.
    pub report: Duration,
    /// Time for an answer.
    pub answer_within: Duration,
    /// Silence after which there is no value.
    pub timeout: Duration,
}

impl Obd2Sensor {
    /// How the vehicle is asked.
    pub fn options(&self) -> sensor::obd2::Options {
        sensor::obd2::Options {
            pids: self.pids.clone(),
            extended: self.extended,
            target: self.target,
            report: self.report,
            answer_within: self.answer_within,
            timeout: self.timeout,
            ask: true,
        }
    }
}

/// Two answers a second: as fast as most vehicles give them without being disturbed.
const DEFAULT_REPORT: Duration = Duration::from_millis(500);

pub(super) fn read(walk: &mut Walk<'_>, section: &Section<'_>, claims: &mut Claims) -> Option<Obd2Sensor> {
    let interface = can::spot(walk, section);
    if let Some(spot) = &interface {
        // Two askers would take each other's answers for their own and ask faster than is allowed.
        claim(walk, &mut claims.askers, spot.value.clone(), spot, |name, place| {
            format!(
                "{name} is asked by {place} already: give that sensor both signals, signals = [\"speed\", \"engine-speed\"]"
            )
        });
    }
    let pids = pids(walk, section);
    let extended = walk.choice(section, "identifiers", &[("11-bit", false), ("29-bit", true)]).unwrap_or(false);
    let target = match walk.whole(section, "ecu", if extended { 0..256 } else { 0..8 }) {
        Some(spot) => Target::One(spot.value as u8),
        None => Target::All,
    };
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let answer_within = walk.time(section, "answer-within", ("50 ms", "5 s")).unwrap_or(Duration::from_millis(100));
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_secs(2));
    Some(Obd2Sensor { interface: interface?.value, pids: pids?, extended, target, report, answer_within, timeout })
}

/// The named signals, and one by its number.
fn pids(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<Vec<Pid>> {
    let names = [("speed", Pid::SPEED), ("engine-speed", Pid::ENGINE_SPEED)];
    let mut pids = Vec::new();
    for spot in walk.list(section, "signals").unwrap_or_default().into_iter().take(PIDS_MAX) {
        match names.iter().find(|(name, _)| *name == spot.value) {
            Some((_, pid)) if !pids.contains(pid) => pids.push(*pid),
            Some(_) => {
                walk.wrong(&spot, "is named twice");
                return None;
            }
            None => {
                let words = names.map(|(name, _)| name);
                let message = format!("{:?} is none of the choices", spot.value);
                let complaint = walk.wrong(&spot, message);
                complaint.allowed(words.join(", ")).meant(&spot.value, words);
                complaint.note("any other value goes by its number: pid, bytes, scale, offset, unit");
                return None;
            }
        }
    }
    if section.has("pid") {
        let number = walk.whole(section, "pid", 1..256);
        let bytes = walk.whole(section, "bytes", 1..5).map_or(1, |spot| spot.value as u8);
        let scale = scale::read(walk, section, None)?;
        let pid = number?.value as u8;
        pids.push(Pid { pid, bytes, scale: scale.scale, offset: scale.offset, unit: scale.unit });
    }
    if pids.is_empty() && !section.has("signals") {
        pids.push(Pid::SPEED);
    }
    Some(pids)
}
