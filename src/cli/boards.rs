//! `speedwell boards`: which boards are known, and what their pins are.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use speedwell::{
    board::{Board, BoardPin, Bus},
    config::significant,
};

use super::{BoardDirs, Exit, summary};

/// List the boards, or show the pins, buses and ports of one
#[derive(Debug, Args)]
pub(crate) struct BoardsArgs {
    /// A board's name
    #[arg(value_name = "BOARD")]
    pub(crate) board: Option<String>,
    #[command(flatten)]
    pub(crate) boards: BoardDirs,
}

/// Lists, or shows one.
pub(crate) fn run(args: BoardsArgs) -> ExitCode {
    let catalog = args.boards.catalog();
    let Some(name) = &args.board else {
        let source = |b: &Board| b.file.as_ref().map_or("built in".to_owned(), |f| f.display().to_string());
        let rows: Vec<[String; 3]> =
            catalog.boards().iter().map(|b| [b.name.clone(), b.title.clone(), source(b)]).collect();
        print!("{}", summary::table(["board", "what it is", "described in"], &rows));
        return Exit::Fine.into();
    };
    match catalog.board(name) {
        Some(board) => {
            print!("{}", show(board));
            Exit::Fine.into()
        }
        None => {
            eprintln!("there is no board {name:?}; there are: {}", catalog.names().join(", "));
            Exit::Usage.into()
        }
    }
}

fn show(board: &Board) -> String {
    let mut text = format!("{} (board = \"{}\")\n\n", board.title, board.name);
    for chip in &board.chips {
        text += &format!("GPIO chip {}, {} lines\n", chip.label, chip.lines);
    }
    text += &format!(
        "Edges: up to {} a second supported, up to {} at best effort, all sensors of a chip together\n",
        significant(board.supported_rate_hz),
        significant(board.best_effort_rate_hz)
    );
    if board.any_line {
        text += "Pins: the name of a line or LABEL:OFFSET; `speedwell lines` shows those of this machine\n";
    }
    for (header, rows) in headers(board) {
        text += &drawing(&header, &rows);
    }
    text + &buses(board) + &reserved(board)
}

/// Pins by header, and on it by number; a number can have two lines, A and B.
type Headers<'b> = BTreeMap<String, BTreeMap<u32, Vec<&'b BoardPin>>>;

fn headers(board: &Board) -> Headers<'_> {
    let mut headers = Headers::new();
    for pin in &board.pins {
        let Some(at) = &pin.at else { continue };
        let place = at.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let digits = place.len() - place.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (header, number) = place.split_at(place.len() - digits);
        if let Ok(number) = number.parse() {
            headers.entry(header.to_owned()).or_default().entry(number).or_default().push(pin);
        }
    }
    headers
}

/// The header as it lies on the board: odd numbers left, even numbers right.
fn drawing(header: &str, pins: &BTreeMap<u32, Vec<&BoardPin>>) -> String {
    let cell = |number: u32| pins.get(&number).map_or(String::new(), |pins| described(pins));
    let last = pins.keys().last().copied().unwrap_or(0);
    let odd = || (1..=last).step_by(2);
    let width = odd().map(|n| cell(n).chars().count()).max().unwrap_or(0);
    let place = |n: u32| format!("{header}{n}");
    let mut text = String::from("\n");
    for number in odd() {
        let left = cell(number);
        let pad = " ".repeat(width - left.chars().count());
        text +=
            format!("  {pad}{left}  {:>5} | {:<5}  {}", place(number), place(number + 1), cell(number + 1)).trim_end();
        text.push('\n');
    }
    text
}

/// A pin in a few words; `!` is reserved.
fn described(pins: &[&BoardPin]) -> String {
    let one = |pin: &&BoardPin| {
        let name = pin.line.as_deref().or(pin.power.as_deref()).unwrap_or_default();
        let mark = if pin.reserved.is_some() { "!" } else { "" };
        match &pin.also {
            Some(also) => format!("{name}{mark} [{also}]"),
            None => format!("{name}{mark}"),
        }
    };
    pins.iter().map(one).collect::<Vec<_>>().join(" / ")
}

fn buses(board: &Board) -> String {
    let mut rows = Vec::new();
    for (kind, buses) in [("serial", &board.uart), ("CAN", &board.can), ("I2C", &board.i2c), ("SPI", &board.spi)] {
        rows.extend(buses.iter().map(|bus| bus_row(kind, bus)));
    }
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{}", summary::table(["", "name", "device", "pins", ""], &rows))
}

fn bus_row(kind: &str, bus: &Bus) -> [String; 5] {
    let note = bus.note.clone().unwrap_or_default();
    [kind.to_owned(), bus.name.clone(), bus.device.clone(), bus.pins.join(" "), note]
}

/// Reserved pins by their reason.
fn reserved(board: &Board) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for pin in &board.pins {
        let (Some(reason), Some(line), Some(_)) = (&pin.reserved, &pin.line, &pin.at) else { continue };
        match reasons.iter_mut().find(|(r, _)| r == reason) {
            Some((_, lines)) => lines.push(line),
            None => reasons.push((reason, vec![line])),
        }
    }
    if reasons.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nReserved (!), not for sensors:\n");
    for (reason, lines) in reasons {
        text += &format!("  {}\n    {reason}\n", lines.join(" "));
    }
    match board.pins.iter().filter(|p| p.at.is_none() && p.reserved.is_some()).count() {
        0 => text,
        n => text + &format!("  and {n} lines that are on no header: they serve the board itself\n"),
    }
}
