//! Reads `[[sensor]]` tables, each by the keys of its kind, then looks for what two of them both claim.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use toml::de::{DeTable, DeValue};

use super::{
    Sensor, SensorKind, keys,
    walk::{Section, Seen, Spot, Walk},
};
use crate::{
    board::{Board, LineSettings, PinAt, polled},
    sensor::shaft::Chip,
};

mod can;
mod canopen;
mod dbc;
mod encoder;
mod hall;
mod j1939;
mod line;
mod modbus;
mod nmea;
mod obd2;
mod pins;
mod radar;
mod scale;
mod serial;
mod ubx;

pub use canopen::CanOpenSensor;
pub use dbc::DbcSensor;
pub use encoder::EncoderSensor;
pub use hall::{Bias, Edges, HallSensor, PulseSource};
pub use j1939::J1939Sensor;
pub use line::LineSensor;
pub use modbus::ModbusSensor;
pub use nmea::NmeaSensor;
pub use obd2::Obd2Sensor;
pub(super) use pins::give_audit_pins;
pub use radar::RadarSensor;
pub use ubx::UbxSensor;

/// More sensors than any gateway has lines; the bound keeps channel numbers within 16 bits.
pub const MAX_SENSORS: usize = 500;

/// Longest name of a sensor, bytes.
pub const MAX_SENSOR_NAME: usize = 48;

/// Pulses a second a polled pin is trusted with, whichever of their edges count.
pub fn polled_limit_hz() -> f64 {
    polled::trusted_rate_hz(polled::POLL_INTERVAL)
}

/// Fastest a sensor reports, and slowest.
const REPORT: (&str, &str) = ("100 Hz", "60 s");

/// Silence after which there is no value.
const TIMEOUT: (&str, &str) = ("10 ms", "5 min");

/// As often as people want to see a speed.
const DEFAULT_REPORT: Duration = Duration::from_millis(100);

/// What the sensors claim for themselves, and what they share.
#[derive(Default)]
struct Claims {
    names: Seen<String>,
    lines: Seen<PinAt>,
    ports: Seen<PathBuf>,
    /// Lines that several devices share, and who named them first.
    shared: Vec<(PathBuf, LineSettings, String)>,
    /// Receivers that vouch for UTC.
    clocks: Seen<()>,
    /// Chips on I2C and SPI: device and address.
    chips: Seen<(PathBuf, u8)>,
    /// CAN interfaces on which questions are asked.
    askers: Seen<String>,
    /// Where relative paths begin.
    base: PathBuf,
    /// Edges a second by chip.
    rates: Vec<(String, f64)>,
}

pub(super) fn read(walk: &mut Walk<'_>, document: &DeTable<'_>, board: Option<&Board>, base: &Path) -> Vec<Sensor> {
    let Some(value) = document.get("sensor") else {
        walk.complain_of_file("sensor", "no sensor is described: at least one [[sensor]] is wanted");
        return Vec::new();
    };
    let DeValue::Array(list) = value.get_ref() else {
        let complaint =
            walk.complain(&value.span(), "sensor", "there can be several sensors, so each is one of a list");
        complaint.note("write [[sensor]], with two brackets");
        return Vec::new();
    };
    if list.len() > MAX_SENSORS {
        let message = format!("{} sensors; at most {MAX_SENSORS} are taken", list.len());
        walk.complain(&value.span(), "sensor", message);
        return Vec::new();
    }
    let mut claims = Claims { base: base.to_owned(), ..Claims::default() };
    let mut sensors = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        match entry.get_ref() {
            DeValue::Table(table) => sensors.extend(sensor(walk, index, entry.span(), table, board, &mut claims)),
            other => {
                let message = format!("a table is wanted, {} was read", super::walk::described(other));
                walk.complain(&entry.span(), &format!("sensor #{}", index + 1), message);
            }
        }
    }
    if list.is_empty() {
        walk.complain_of_file("sensor", "no sensor is described: at least one [[sensor]] is wanted");
    }
    sensors
}

fn sensor(
    walk: &mut Walk<'_>,
    index: usize,
    span: std::ops::Range<usize>,
    table: &DeTable<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<Sensor> {
    let name = table.get("name").and_then(|v| v.get_ref().as_str());
    let path = match name {
        Some(name) if good_name(name) => format!("sensor.{name}"),
        _ => format!("sensor #{}", index + 1),
    };
    let section = |known| Section::new(&path, span.clone(), Some(table), known);
    let any = section(keys::ANY_SENSOR);
    let name = sensor_name(walk, &any, claims);
    let kind = kind(walk, &any)?;
    let section = section(kind.keys);
    let others: Vec<(&str, &[&str])> =
        KINDS.iter().filter(|other| other.word != kind.word).map(|other| (other.word, other.keys)).collect();
    walk.unknown_keys(&section, &others);
    let kind = (kind.read)(walk, &section, board, claims)?;
    Some(Sensor { name: name?, kind })
}

/// Reads what is particular to a kind.
type Read = fn(&mut Walk<'_>, &Section<'_>, Option<&Board>, &mut Claims) -> Option<SensorKind>;

/// A kind of sensor.
struct Kind {
    /// As it is written.
    word: &'static str,
    keys: &'static [&'static str],
    read: Read,
}

/// Every kind there is.
const KINDS: &[Kind] = &[
    Kind {
        word: "hall",
        keys: keys::HALL,
        read: |walk, section, board, claims| hall::read(walk, section, board, claims).map(SensorKind::Hall),
    },
    Kind {
        word: "encoder",
        keys: keys::ENCODER,
        read: |walk, section, board, claims| hall::read_encoder(walk, section, board, claims).map(SensorKind::Hall),
    },
    Kind {
        word: "j1939",
        keys: keys::J1939,
        read: |walk, section, _, _| j1939::read(walk, section).map(SensorKind::J1939),
    },
    Kind {
        word: "obd2",
        keys: keys::OBD2,
        read: |walk, section, _, claims| obd2::read(walk, section, claims).map(SensorKind::Obd2),
    },
    Kind {
        word: "dbc",
        keys: keys::DBC,
        read: |walk, section, _, claims| dbc::read(walk, section, claims).map(SensorKind::Dbc),
    },
    Kind {
        word: "canopen",
        keys: keys::CANOPEN,
        read: |walk, section, _, _| canopen::read(walk, section).map(SensorKind::CanOpen),
    },
    Kind {
        word: "modbus",
        keys: keys::MODBUS,
        read: |walk, section, board, claims| modbus::read(walk, section, board, claims).map(SensorKind::Modbus),
    },
    Kind {
        word: "radar",
        keys: keys::RADAR,
        read: |walk, section, board, claims| radar::read(walk, section, board, claims).map(SensorKind::Radar),
    },
    Kind {
        word: "line",
        keys: keys::LINE,
        read: |walk, section, board, claims| line::read(walk, section, board, claims).map(SensorKind::Line),
    },
    Kind {
        word: "ubx",
        keys: keys::UBX,
        read: |walk, section, board, claims| ubx::read(walk, section, board, claims).map(SensorKind::Ubx),
    },
    Kind {
        word: "nmea",
        keys: keys::NMEA,
        read: |walk, section, board, claims| nmea::read(walk, section, board, claims).map(SensorKind::Nmea),
    },
    Kind {
        word: "as5600",
        keys: keys::AS5600,
        read: |walk, section, board, claims| {
            encoder::read(walk, section, Chip::As5600, board, claims).map(SensorKind::Encoder)
        },
    },
    Kind {
        word: "as5048a",
        keys: keys::AS5048A,
        read: |walk, section, board, claims| {
            encoder::read(walk, section, Chip::As5048a, board, claims).map(SensorKind::Encoder)
        },
    },
    Kind {
        word: "ls7366r",
        keys: keys::LS7366R,
        read: |walk, section, board, claims| {
            encoder::read(walk, section, Chip::Ls7366r, board, claims).map(SensorKind::Encoder)
        },
    },
];

fn kind(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<&'static Kind> {
    let words: Vec<&str> = KINDS.iter().map(|kind| kind.word).collect();
    let listed = match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
        None => String::new(),
    };
    walk.required_text(section, "kind", &format!("what the sensor is: {listed}"))?;
    let choices: Vec<(&str, &'static Kind)> = KINDS.iter().map(|kind| (kind.word, kind)).collect();
    walk.choice(section, "kind", &choices)
}

fn good_name(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_SENSOR_NAME).contains(&name.len()) && name.bytes().all(ok)
}

fn sensor_name(walk: &mut Walk<'_>, section: &Section<'_>, claims: &mut Claims) -> Option<String> {
    let spot = walk.required_text(section, "name", "what the sensor is called, as name = \"front-wheel\"")?;
    if !good_name(&spot.value) {
        let message = format!("{:?} cannot be a sensor's name", spot.value);
        let complaint = walk.wrong(&spot, message);
        complaint.allowed(format!("1 to {MAX_SENSOR_NAME} of a-z 0-9 -"));
        let better: String = spot.value.to_lowercase().replace(['_', ' ', '.', '/'], "-");
        if good_name(&better) {
            complaint.note(format!("did you mean \"{better}\"?"));
        }
        return None;
    }
    claim(walk, &mut claims.names, spot.value.clone(), &spot, |name, line| {
        format!("the name {name:?} is taken by {line}")
    });
    Some(spot.value)
}

/// Takes something for this sensor, or tells who has it already.
fn claim<K: PartialEq, T>(
    walk: &mut Walk<'_>,
    seen: &mut Seen<K>,
    what: K,
    spot: &Spot<T>,
    told: impl Fn(&K, String) -> String,
) {
    match seen.iter().find(|(other, ..)| *other == what) {
        Some((_, path, span)) => {
            let message = told(&what, format!("{path} ({})", walk.place_text(span)));
            walk.wrong(spot, message);
        }
        None => seen.push((what, spot.path.clone(), spot.span.clone())),
    }
}
