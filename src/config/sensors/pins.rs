//! Pins that sensors name: the right line of the board, no line twice, and a spare one beside each.

use toml::de::DeValue;

use super::{Claims, PulseSource, Sensor, SensorKind, claim};
use crate::{
    board::{Board, BoardKind, NoPin, Pin, PinAt},
    config::walk::{Section, Spot, Walk},
};

/// A pin as a bare number can be two things, so it is none.
pub(super) fn bare(walk: &mut Walk<'_>, section: &Section<'_>, key: &str) -> bool {
    let Some(spot) = section.value(key) else { return false };
    let DeValue::Integer(number) = spot.value else { return false };
    walk.wrong(&spot, format!("the bare number {number} could be a line or a place on the header"))
        .note(format!("write \"GPIO{number}\" for the line, \"P{number}\" for the header's pin"));
    true
}

pub(super) fn pin(walk: &mut Walk<'_>, spot: &Spot<String>, board: Option<&Board>, claims: &mut Claims) -> Option<Pin> {
    // Without a board there is a complaint about that already.
    let board = board?;
    let written = &spot.value;
    match board.resolve(written) {
        Ok(pin) => {
            claim(walk, &mut claims.lines, pin.at.clone(), spot, |at, line| {
                format!("{written:?} is {at}, which {line} has already")
            });
            Some(pin)
        }
        Err(problem) => {
            no_pin(walk, spot, board, &problem);
            None
        }
    }
}

fn no_pin(walk: &mut Walk<'_>, spot: &Spot<String>, board: &Board, problem: &NoPin) {
    let written = &spot.value;
    let name = &board.name;
    let message = match problem {
        NoPin::Unknown => format!("the board {name} has no pin {written:?}"),
        NoPin::Power(what) => format!("{written:?} of the board {name} is {what}, no line"),
        NoPin::Reserved { line, reason } => format!("{written:?} ({line}) of the board {name} is reserved: {reason}"),
        NoPin::NoSuchOffset { chip, lines } => format!("the chip {chip} has lines 0 to {}", lines.saturating_sub(1)),
    };
    let usable = board.pins.iter().filter(|p| p.line.is_some() && p.reserved.is_none());
    let names: Vec<&str> = usable.filter_map(|p| p.line.as_deref()).collect();
    let complaint = walk.wrong(spot, message);
    if *problem == NoPin::Unknown {
        complaint.meant(written, names.iter().copied());
    }
    complaint.note(format!("`speedwell boards {name}` shows its pins"));
}

/// Gives every pin a spare one beside it where the board has one left, so that merged interrupts show.
///
/// Which lines are harmless to ask for only the board's description knows: the kernel calls lines unused that lead to
/// storage or to the wireless network.
pub(in crate::config) fn give_audit_pins(sensors: &mut [Sensor], board: &Board) {
    let halls = |s: &Sensor| match &s.kind {
        SensorKind::Hall(hall) => [Some(&hall.pin), hall.second.as_ref(), hall.audit_pin.as_ref()]
            .map(|pin| pin.map(|pin| pin.at.clone()))
            .to_vec(),
        _ => Vec::new(),
    };
    let mut taken: Vec<PinAt> = sensors.iter().flat_map(halls).flatten().collect();
    for sensor in sensors {
        let SensorKind::Hall(hall) = &mut sensor.kind else { continue };
        if hall.audit_pin.is_some()
            || hall.second.is_some()
            || hall.source == PulseSource::Polled
            || board.kind == BoardKind::Simulated
        {
            continue;
        }
        hall.audit_pin = board.spare_pin(&hall.pin.at, &taken);
        taken.extend(hall.audit_pin.as_ref().map(|pin| pin.at.clone()));
    }
}
