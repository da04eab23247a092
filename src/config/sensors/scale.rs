//! How a device's number becomes a value: `value = number * scale + offset`, in a unit.

use crate::{
    config::walk::{Section, Walk},
    sensor::unit::{UNITS, Unit},
};

/// Bounds of scale and offset: beyond them a value would have no digits left.
const LARGEST: f64 = 1e12;

/// A unit with its scale and offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) unit: Unit,
    pub(super) scale: f64,
    pub(super) offset: f64,
}

/// Reads `unit`, `scale` and `offset`. What the unit is when it is not told, the caller knows, or nobody.
pub(super) fn read(walk: &mut Walk<'_>, section: &Section<'_>, unit_else: Option<Unit>) -> Option<Scale> {
    let unit = unit(walk, section, unit_else);
    let scale = walk.number(section, "scale", -LARGEST, LARGEST);
    if let Some(spot) = &scale
        && spot.value == 0.0
    {
        walk.wrong(spot, "a scale of 0 makes every value the same");
        return None;
    }
    let offset = walk.number(section, "offset", -LARGEST, LARGEST).map_or(0.0, |spot| spot.value);
    Some(Scale { unit: unit?, scale: scale.map_or(1.0, |spot| spot.value), offset })
}

/// Reads `unit`.
pub(super) fn unit(walk: &mut Walk<'_>, section: &Section<'_>, otherwise: Option<Unit>) -> Option<Unit> {
    if !section.has("unit") {
        if otherwise.is_none() {
            walk.missing(section, "unit", "what the value is told in, as unit = \"km/h\"");
        }
        return otherwise;
    }
    let choices: Vec<(&str, Unit)> = UNITS.iter().map(|unit| (unit.word, *unit)).collect();
    walk.choice(section, "unit", &choices)
}
