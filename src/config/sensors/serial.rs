//! Serial ports that sensors name, and their speeds.

use std::path::PathBuf;

use super::{Claims, claim};
use crate::{
    board::{Board, BoardKind, LineSettings, Parity},
    config::walk::{Section, Spot, Walk},
};

/// The speeds that serial ports and devices have.
const BAUDS: [u64; 23] = [
    300, 600, 1200, 2400, 4800, 9600, 14_400, 19_200, 28_800, 38_400, 57_600, 76_800, 115_200, 230_400, 250_000,
    460_800, 500_000, 921_600, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 4_000_000,
];

/// The speed of a port; `None` when it is not told, or wrong.
fn baud(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<u32> {
    let spot = walk.whole(section, "baud", 1..4_000_001)?;
    if !BAUDS.contains(&spot.value) {
        let allowed: Vec<String> = BAUDS.iter().map(u64::to_string).collect();
        walk.wrong(&spot, format!("{} is no speed of a serial port", spot.value)).allowed(allowed.join(", "));
    }
    Some(spot.value as u32)
}

/// Where a device on a serial line is, by its path or by the board's name for it.
pub(super) fn port_of_its_own(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<PathBuf> {
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
                let what = "where the device is, as port = \"/dev/ttyACM0\" or uart = \"UART0\"";
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

/// The same for a line that several devices share: all of them at its one setting.
pub(super) fn shared_port(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
    settings: LineSettings,
) -> Option<PathBuf> {
    let text = |key| section.value(key).and_then(|spot| Some((spot.value.as_str()?.to_owned(), spot)));
    let port = text("port").map(|(path, spot)| (PathBuf::from(path), spot));
    let uart = text("uart").and_then(|(name, spot)| Some((PathBuf::from(&board?.uart(&name)?.device), spot)));
    let known = |path: &PathBuf| claims.shared.iter().find(|(other, ..)| other == path).cloned();
    let shared = port.or(uart).and_then(|(path, spot)| known(&path).map(|known| (known, spot)));
    match shared {
        Some(((path, others, _), _)) if others == settings => Some(path),
        Some(((path, _, first), spot)) => {
            let message = format!("{} has other settings in sensor.{first}", path.display());
            walk.wrong(&spot, message).note("all devices of a line share its baud, parity, stop-bits and rs485");
            None
        }
        None => {
            let path = port_of_its_own(walk, section, board, claims)?;
            let name = section.value("name").and_then(|spot| Some(spot.value.as_str()?.to_owned()));
            claims.shared.push((path.clone(), settings, name.unwrap_or_default()));
            Some(path)
        }
    }
}

/// How a line is set, as far as the kind of sensor leaves that open, and as `otherwise` where it is not told.
pub(super) fn settings(walk: &mut Walk<'_>, section: &Section<'_>, otherwise: LineSettings) -> LineSettings {
    let parities = [("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)];
    let data_bits = if section.knows("data-bits") { walk.whole(section, "data-bits", 7..9) } else { None };
    let rs485 = if section.knows("rs485") { walk.flag(section, "rs485") } else { None };
    LineSettings {
        baud: baud(walk, section).unwrap_or(otherwise.baud),
        seven_data_bits: data_bits.map_or(otherwise.seven_data_bits, |spot| spot.value == 7),
        parity: walk.choice(section, "parity", &parities).unwrap_or(otherwise.parity),
        two_stop_bits: walk.whole(section, "stop-bits", 1..3).map_or(otherwise.two_stop_bits, |spot| spot.value == 2),
        rs485: rs485.unwrap_or(otherwise.rs485),
    }
}

/// Whether a receiver is to vouch for UTC: one may.
pub(super) fn clock(walk: &mut Walk<'_>, section: &Section<'_>, claims: &mut Claims) -> bool {
    let vouches = walk.flag(section, "clock").unwrap_or(false);
    if let Some(place) = section.value("clock").filter(|_| vouches) {
        claim(walk, &mut claims.clocks, (), &place, |(), line| format!("{line} vouches for the time already: one may"));
    }
    vouches
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
