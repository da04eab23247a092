//! Reads `[[sensor]]` tables, each by the keys of its kind, then looks for what two of them both claim.

use std::path::PathBuf;

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::board::{Board, BoardKind, NoPin, Pin, PinAt, polled};

use super::{
    Bias, Edges, HallSensor, J1939Sensor, J1939Signal, NmeaSensor, PulseSource, Sensor, SensorKind, calibration, keys,
    quantity::Dimension,
    show::significant,
    walk::{Section, Seen, Spot, Walk},
};

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

/// What the sensors claim for themselves.
#[derive(Default)]
struct Claims {
    names: Seen<String>,
    lines: Seen<PinAt>,
    ports: Seen<PathBuf>,
    /// Edges a second by chip.
    rates: Vec<(String, f64)>,
}

pub(super) fn read(walk: &mut Walk<'_>, document: &DeTable<'_>, board: Option<&Board>) -> Vec<Sensor> {
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
    let mut claims = Claims::default();
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
    let known = kind_keys(kind);
    let section = section(known);
    let others: Vec<(&str, &[&str])> = keys::ALL
        .iter()
        .filter(|(t, k)| t.starts_with("sensor") && *k != known)
        .map(|(t, k)| (home_of(t), *k))
        .collect();
    walk.unknown_keys(&section, &others);
    let kind = match kind {
        Kind::Hall => SensorKind::Hall(hall(walk, &section, board, claims)?),
        Kind::J1939 => SensorKind::J1939(j1939(walk, &section)?),
        Kind::Nmea => SensorKind::Nmea(nmea(walk, &section, board, claims)?),
    };
    Some(Sensor { name: name?, kind })
}

#[derive(Clone, Copy)]
enum Kind {
    Hall,
    J1939,
    Nmea,
}

fn kind_keys(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Hall => keys::HALL,
        Kind::J1939 => keys::J1939,
        Kind::Nmea => keys::NMEA,
    }
}

fn home_of(table: &str) -> &'static str {
    match table {
        "sensor hall" => "sensors of kind = \"hall\"",
        "sensor j1939" => "sensors of kind = \"j1939\"",
        _ => "sensors of kind = \"nmea\"",
    }
}

fn kind(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<Kind> {
    walk.required_text(section, "kind", "what the sensor is: hall, j1939 or nmea")?;
    walk.choice(section, "kind", &[("hall", Kind::Hall), ("j1939", Kind::J1939), ("nmea", Kind::Nmea)])
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

fn hall(walk: &mut Walk<'_>, section: &Section<'_>, board: Option<&Board>, claims: &mut Claims) -> Option<HallSensor> {
    let pin_spot = match bare_pin(walk, section) {
        true => None,
        false => walk.required_text(section, "pin", "where the sensor is connected, as pin = \"GPIO17\""),
    };
    let pin = pin_spot.as_ref().and_then(|spot| pin(walk, spot, board, claims));
    let audit_pin = walk.text(section, "audit-pin").and_then(|spot| self::pin(walk, &spot, board, claims));
    let sources = [("edges", PulseSource::Edges), ("polled", PulseSource::Polled)];
    let source = walk.choice(section, "source", &sources).unwrap_or(PulseSource::Edges);
    let edges = [("rising", Edges::Rising), ("falling", Edges::Falling), ("both", Edges::Both)];
    let edges = walk.choice(section, "edges", &edges).unwrap_or(Edges::Rising);
    let biases =
        [("pull-up", Bias::PullUp), ("pull-down", Bias::PullDown), ("none", Bias::None), ("as-is", Bias::AsIs)];
    let bias = walk.choice(section, "bias", &biases).unwrap_or(Bias::AsIs);
    let calibration = calibration::read(walk, section);
    let max = walk.quantity(section, "max-speed", Dimension::Speed, ("0.1 m/s", "1000 km/h"));
    let max_speed = max.as_ref().map_or(DEFAULT_MAX_SPEED, |spot| spot.value);
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let zero_below =
        walk.quantity(section, "zero-below", Dimension::Speed, ("0.001 m/s", "5 m/s")).map_or(0.1, |s| s.value);
    let bounds = ("1 m/s2", "100 g");
    let max_acceleration = walk.quantity(section, "max-acceleration", Dimension::Acceleration, bounds);
    let rotational_speed = walk.flag(section, "rotational-speed").unwrap_or(false);
    if rotational_speed && !section.has("pulses-per-turn") {
        walk.missing(section, "pulses-per-turn", "rotational-speed cannot be told without it");
    }
    let distance = walk.flag(section, "distance").unwrap_or(false);
    let calibration = calibration?;
    let sensor = HallSensor {
        calibration_uncertainty: calibration.uncertainty,
        max_acceleration: max_acceleration.map_or(DEFAULT_MAX_ACCELERATION, |spot| spot.value),
        rotational_speed,
        distance,
        pin: pin?,
        audit_pin,
        source,
        edges,
        bias,
        pulses_per_metre: calibration.pulses_per_metre,
        pulses_per_turn: calibration.pulses_per_turn,
        circumference: calibration.circumference,
        max_speed,
        report,
        zero_below,
    };
    let rate_spot = max.map(|m| Spot { value: (), span: m.span, path: m.path });
    rate(walk, section, &sensor, rate_spot, board, claims);
    Some(sensor)
}

/// 200 km/h: faster than what most sensors are on, slow enough for every board with an ordinary wheel.
const DEFAULT_MAX_SPEED: f64 = 200.0 / 3.6;

/// A wheel that locks or spins changes faster than any vehicle.
const DEFAULT_MAX_ACCELERATION: f64 = 40.0;

const DEFAULT_REPORT: Duration = Duration::from_millis(100);

/// A pin as a bare number can be two things, so it is none.
fn bare_pin(walk: &mut Walk<'_>, section: &Section<'_>) -> bool {
    let Some(spot) = section.value("pin") else { return false };
    let DeValue::Integer(number) = spot.value else { return false };
    walk.wrong(&spot, format!("the bare number {number} could be a line or a place on the header"))
        .note(format!("write \"GPIO{number}\" for the line, \"P{number}\" for the header's pin"));
    true
}

fn pin(walk: &mut Walk<'_>, spot: &Spot<String>, board: Option<&Board>, claims: &mut Claims) -> Option<Pin> {
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
pub(super) fn give_audit_pins(sensors: &mut [Sensor], board: &Board) {
    let halls = |s: &Sensor| match &s.kind {
        SensorKind::Hall(hall) => vec![Some(hall.pin.at.clone()), hall.audit_pin.as_ref().map(|p| p.at.clone())],
        _ => Vec::new(),
    };
    let mut taken: Vec<PinAt> = sensors.iter().flat_map(halls).flatten().collect();
    for sensor in sensors {
        let SensorKind::Hall(hall) = &mut sensor.kind else { continue };
        if hall.audit_pin.is_some() || hall.source == PulseSource::Polled || board.kind == BoardKind::Simulated {
            continue;
        }
        hall.audit_pin = board.spare_pin(&hall.pin.at, &taken);
        taken.extend(hall.audit_pin.as_ref().map(|pin| pin.at.clone()));
    }
}

/// Is the highest edge rate one that arrives whole?
fn rate(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    sensor: &HallSensor,
    max: Option<Spot<()>>,
    board: Option<&Board>,
    claims: &mut Claims,
) {
    let Some(board) = board else { return };
    let (spot, default) = match max {
        Some(spot) => (spot, ""),
        None => (Spot { value: (), span: section.span.clone(), path: section.key("max-speed") }, " (default)"),
    };
    let hz = sensor.max_edge_rate_hz();
    let at = format!("{} km/h{default} makes {} edges a second", significant(sensor.max_speed * 3.6), significant(hz));
    if sensor.source == PulseSource::Polled {
        let (pulses, limit) = (sensor.max_speed * sensor.pulses_per_metre, polled_limit_hz());
        if pulses > limit {
            let speed = significant(sensor.max_speed * 3.6);
            let message = format!(
                "{speed} km/h{default} makes {} pulses a second; a polled pin is trusted with {}",
                significant(pulses),
                significant(limit)
            );
            walk.wrong(&spot, message).note("source = \"edges\" lets the kernel see every one, or lower max-speed");
        }
        return;
    }
    let chip = board.chip_label(&sensor.pin.at).unwrap_or_default();
    let together = add_rate(&mut claims.rates, chip, hz);
    let sum =
        if together > hz { format!(", {} with the others on this chip", significant(together)) } else { String::new() };
    if together > board.best_effort_rate_hz {
        let most = significant(board.best_effort_rate_hz);
        walk.wrong(&spot, format!("{at}{sum}; the board {} is good for {most}", board.name))
            .note("lower max-speed, count one edge a pulse (edges = \"rising\"), or count in hardware");
    } else if together > board.supported_rate_hz {
        let supported = significant(board.supported_rate_hz);
        walk.doubt(&spot, format!("{at}{sum}; above {supported} the board {} may lose some", board.name))
            .note("losses are found, repaired where the phase allows, and counted");
    }
}

fn add_rate(rates: &mut Vec<(String, f64)>, chip: String, hz: f64) -> f64 {
    match rates.iter_mut().find(|(c, _)| *c == chip) {
        Some((_, sum)) => {
            *sum += hz;
            *sum
        }
        None => {
            rates.push((chip, hz));
            hz
        }
    }
}

fn j1939(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<J1939Sensor> {
    let interface = walk.required_text(section, "interface", "which CAN interface, as interface = \"can0\"");
    let interface = interface.and_then(|spot| {
        // IFNAMSIZ is 16 with the final zero; the kernel forbids slash, colon and space.
        let ok =
            spot.value.len() <= 15 && !spot.value.contains(['/', ':']) && !spot.value.contains(char::is_whitespace);
        if ok {
            return Some(spot.value);
        }
        walk.wrong(&spot, format!("{:?} cannot be the name of an interface", spot.value))
            .note("`ip -brief link show type can` lists those there are");
        None
    });
    let signals = [
        ("wheel-based-speed", J1939Signal::WheelBasedSpeed),
        ("tachograph-speed", J1939Signal::TachographSpeed),
        ("front-axle-speed", J1939Signal::FrontAxleSpeed),
        ("engine-speed", J1939Signal::EngineSpeed),
    ];
    let signal = walk.choice(section, "signal", &signals).unwrap_or(J1939Signal::WheelBasedSpeed);
    let source_address = walk.whole(section, "source-address", 0..254).map(|spot| spot.value as u8);
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_millis(500));
    Some(J1939Sensor { interface: interface?, signal, source_address, report, timeout })
}

/// What a serial port can be set to by name.
const BAUDS: [u64; 10] = [4800, 9600, 14400, 19200, 38400, 57600, 115_200, 230_400, 460_800, 921_600];

fn nmea(walk: &mut Walk<'_>, section: &Section<'_>, board: Option<&Board>, claims: &mut Claims) -> Option<NmeaSensor> {
    let port = port(walk, section, board, claims);
    let baud = walk.whole(section, "baud", 1..4_000_001);
    if let Some(spot) = &baud
        && !BAUDS.contains(&spot.value)
    {
        let allowed: Vec<String> = BAUDS.iter().map(u64::to_string).collect();
        walk.wrong(spot, format!("{} is no speed of a serial port", spot.value)).allowed(allowed.join(", "));
    }
    // As fast as common receivers speak: what is not asked to be thinned is passed whole.
    let report = walk.period(section, "report", REPORT).unwrap_or(Duration::from_millis(100));
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_secs(3));
    let latency = walk.time(section, "latency", ("0 s", "2 s")).unwrap_or(Duration::from_millis(100));
    let position = walk.flag(section, "position").unwrap_or(false);
    Some(NmeaSensor { latency, position, port: port?, baud: baud.map_or(9600, |b| b.value as u32), report, timeout })
}

fn port(walk: &mut Walk<'_>, section: &Section<'_>, board: Option<&Board>, claims: &mut Claims) -> Option<PathBuf> {
    let port = walk.text(section, "port");
    let uart = walk.text(section, "uart");
    let (spot, path) = match (port, uart) {
        (Some(_), Some(uart)) => {
            walk.wrong(&uart, "is given, and port too: which of them holds?");
            return None;
        }
        (Some(port), None) => absolute(walk, port, board)?,
        (None, Some(uart)) => named_uart(walk, uart, board?, claims)?,
        (None, None) => {
            if !section.has("port") && !section.has("uart") {
                let what = "where the receiver is, as port = \"/dev/ttyACM0\" or uart = \"UART0\"";
                walk.missing(section, "port", what);
            }
            return None;
        }
    };
    claim(walk, &mut claims.ports, path.clone(), &spot, |path, line| {
        format!("{} is read by {line} already", path.display())
    });
    Some(path)
}

fn absolute(walk: &mut Walk<'_>, spot: Spot<String>, board: Option<&Board>) -> Option<(Spot<String>, PathBuf)> {
    let path = PathBuf::from(&spot.value);
    let simulated = board.is_none_or(|b| b.kind == BoardKind::Simulated);
    if path.is_absolute() || simulated {
        return Some((spot, path));
    }
    let complaint = walk.wrong(&spot, format!("{:?} is no device", spot.value));
    complaint.allowed("a path, as \"/dev/ttyAMA0\"; the board's own ports go by name, as uart = \"UART0\"");
    None
}

fn named_uart(
    walk: &mut Walk<'_>,
    spot: Spot<String>,
    board: &Board,
    claims: &mut Claims,
) -> Option<(Spot<String>, PathBuf)> {
    match board.uart(&spot.value) {
        Some(bus) => {
            for line in board.lines_of(bus) {
                claim(walk, &mut claims.lines, line, &spot, |at, place| {
                    format!("{} needs {at}, which {place} has already", bus.name)
                });
            }
            let path = PathBuf::from(&bus.device);
            Some((spot, path))
        }
        None => {
            let names: Vec<&str> = board.uart.iter().map(|b| b.name.as_str()).collect();
            let message = format!("the board {} has no serial port {:?}", board.name, spot.value);
            let complaint = walk.wrong(&spot, message);
            complaint.meant(&spot.value, names.iter().copied());
            if names.is_empty() {
                complaint.note("name the device instead: port = \"/dev/ttyUSB0\"");
            } else {
                complaint.allowed(names.join(", "));
            }
            None
        }
    }
}
