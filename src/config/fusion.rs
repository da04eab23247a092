//! `[fusion]`: one speed out of several sensors.

use std::time::Duration;

use speedwell_wire::Quantity;

use super::{
    Fusion, Sensor, SensorKind,
    walk::{Section, Spot, Walk},
};

/// How old the winner's newest value may become.
const DEFAULT_HOLD: Duration = Duration::from_secs(1);

/// How long a better sensor has to have spoken to take over.
const DEFAULT_BACK_AFTER: Duration = Duration::from_secs(5);

/// Sensors of a fusion at most: more than any vehicle has of one speed.
const MAX_INPUTS: usize = 8;

pub(super) fn read(walk: &mut Walk<'_>, section: &Section<'_>, sensors: &[Sensor]) -> Option<Fusion> {
    if !section.exists() {
        return None;
    }
    walk.unknown_keys(section, &[]);
    let name = walk.text(section, "name").unwrap_or_else(|| Spot {
        value: "speed".into(),
        span: section.span.clone(),
        path: section.key("name"),
    });
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=super::MAX_SENSOR_NAME).contains(&name.value.len()) || !name.value.bytes().all(ok) {
        let message = format!("{:?} cannot be its name", name.value);
        walk.wrong(&name, message).allowed(format!("1 to {} of a-z 0-9 -", super::MAX_SENSOR_NAME));
    } else if sensors.iter().any(|sensor| sensor.name == name.value) {
        let message = format!("{:?} is the name of a sensor already", name.value);
        walk.wrong(&name, message);
    }
    if !section.has("sensors") {
        walk.missing(section, "sensors", "the best first, as sensors = [\"front-wheel\", \"gnss\"]");
    }
    let hold = walk.time(section, "hold", ("100 ms", "60 s")).unwrap_or(DEFAULT_HOLD);
    let back_after = walk.time(section, "back-after", ("0 s", "5 min")).unwrap_or(DEFAULT_BACK_AFTER);
    let listed = walk.list(section, "sensors")?;
    let mut inputs: Vec<String> = Vec::new();
    for spot in &listed {
        if known(walk, spot, sensors) && !inputs.contains(&spot.value) {
            inputs.push(spot.value.clone());
        } else if inputs.contains(&spot.value) {
            walk.wrong(spot, "is named twice");
        }
    }
    if !(2..=MAX_INPUTS).contains(&listed.len()) {
        let spot = section.value("sensors")?;
        let message = format!("{} of them: there is nothing to choose from", listed.len());
        walk.wrong(&spot, message).allowed(format!("2 to {MAX_INPUTS} names of sensors, the best first"));
    }
    Some(Fusion { name: name.value, sensors: inputs, hold, back_after })
}

/// Whether there is such a sensor and it tells a speed.
fn known(walk: &mut Walk<'_>, spot: &Spot<String>, sensors: &[Sensor]) -> bool {
    let names = || sensors.iter().map(|sensor| sensor.name.as_str());
    let Some(sensor) = sensors.iter().find(|sensor| sensor.name == spot.value) else {
        let message = format!("there is no sensor {:?}", spot.value);
        walk.wrong(spot, message).meant(&spot.value, names()).allowed(names().collect::<Vec<_>>().join(", "));
        return false;
    };
    if !tells_speed(&sensor.kind) {
        let message = format!("{:?} tells no speed in m/s", spot.value);
        walk.wrong(spot, message).note("give it a unit of speed, or leave it out of the list");
        return false;
    }
    true
}

/// Whether one of its channels is a speed.
fn tells_speed(kind: &SensorKind) -> bool {
    match kind {
        SensorKind::Hall(_)
        | SensorKind::Nmea(_)
        | SensorKind::Ubx(_)
        | SensorKind::Radar(_)
        | SensorKind::Encoder(_) => true,
        SensorKind::J1939(j1939) => j1939.options().signal.quantity() == Quantity::Speed,
        SensorKind::Obd2(obd2) => obd2.pids.iter().any(|pid| pid.unit.quantity == Quantity::Speed),
        SensorKind::Dbc(dbc) => dbc.options.unit.quantity == Quantity::Speed,
        SensorKind::Modbus(modbus) => modbus.options.unit.quantity == Quantity::Speed,
        SensorKind::Line(line) => line.options.unit.quantity == Quantity::Speed,
        SensorKind::CanOpen(node) => node.options.unit.quantity == Quantity::Speed,
    }
}
