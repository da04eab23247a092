//! Serial ports that sensors name, and their speeds.

use std::path::PathBuf;

use super::{Claims, claim};
use crate::{
    board::{Board, BoardKind},
    config::walk::{Section, Spot, Walk},
};

/// What a serial port can be set to by name.
const BAUDS: [u64; 10] = [4800, 9600, 14400, 19200, 38400, 57600, 115_200, 230_400, 460_800, 921_600];

/// The speed of a port; `None` when it is not told, or wrong.
pub(super) fn baud(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<u32> {
    let spot = walk.whole(section, "baud", 1..4_000_001)?;
    if !BAUDS.contains(&spot.value) {
        let allowed: Vec<String> = BAUDS.iter().map(u64::to_string).collect();
        walk.wrong(&spot, format!("{} is no speed of a serial port", spot.value)).allowed(allowed.join(", "));
    }
    Some(spot.value as u32)
}

/// Where a device on a serial line is, by its path or by the board's name for it.
pub(super) fn port(
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
