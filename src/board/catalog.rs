//! Which boards there are and what their pins are: data, read from board files.
//!
//! A board file is TOML. `boards/*.toml` of the source is built in; a file in `/etc/speedwell/boards`,
//! `/usr/share/speedwell/boards` or a `--boards` directory makes another board, or replaces one of the same name.
//! The mere existence of the file makes the board: its name is the file's name.
//!
//! Pins are mapped to the **label** of a GPIO chip and an offset in it. Numbers of chips (`gpiochip0`) differ between
//! kernels of the same board, labels do not.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Where board files are looked for besides those built in; an earlier directory wins.
pub const BOARD_DIRECTORIES: [&str; 2] = ["/etc/speedwell/boards", "/usr/share/speedwell/boards"];

/// A board file larger than this is no board file: the largest of ours has 15 KiB.
const MAX_BOARD_FILE_BYTES: u64 = 256 * 1024;

/// Name and text of every file of boards/, listed at build time.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// The boards there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    boards: Vec<Board>,
}

/// A board file that could not be taken; the catalog goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file or its directory could not be read.
    #[error("board file {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a board.
    #[error("board file {}: {message}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why, with line and column.
        message: String,
    },
}

/// A board: what its pins are called and which chip and line they are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Board {
    /// Its name: the file's, without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// Where it is described; `None` when it is built in.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// What a person calls it.
    pub title: String,
    /// Real or simulated.
    #[serde(default)]
    pub kind: BoardKind,
    /// True where any line of any chip may be named: a board this catalog has no pins of.
    #[serde(default)]
    pub any_line: bool,
    /// Edges a second, summed over a chip, up to which every edge is counted on to arrive (supported).
    pub supported_rate_hz: f64,
    /// Edges a second up to which losses are found and told, but may happen (best effort).
    pub best_effort_rate_hz: f64,
    /// GPIO chips.
    #[serde(default)]
    pub chips: Vec<Chip>,
    /// Pins, in the order of the header.
    #[serde(default)]
    pub pins: Vec<BoardPin>,
    /// I2C buses.
    #[serde(default)]
    pub i2c: Vec<Bus>,
    /// SPI buses.
    #[serde(default)]
    pub spi: Vec<Bus>,
    /// Serial ports.
    #[serde(default)]
    pub uart: Vec<Bus>,
    /// CAN interfaces that are part of the board; others may be named too.
    #[serde(default)]
    pub can: Vec<Bus>,
}

/// Whether a board's pins lead anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoardKind {
    /// Real lines, CAN interfaces and serial ports.
    #[default]
    Hardware,
    /// A simulated vehicle feeds the lines, CAN interfaces and serial ports.
    Simulated,
}

/// A GPIO chip.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Chip {
    /// The label the kernel gives it.
    pub label: String,
    /// How many lines it has.
    pub lines: u32,
}

/// A pin of a header: a GPIO line, or power.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BoardPin {
    /// Its place on the header, as `P11` or `P9_12`; absent for a line that is on no header.
    #[serde(default)]
    pub at: Option<String>,
    /// What supplies it, for a pin that is no line: `3V3`, `GND`.
    #[serde(default)]
    pub power: Option<String>,
    /// The line's name on this board.
    #[serde(default)]
    pub line: Option<String>,
    /// The chip's label; the board's only chip when left out.
    #[serde(default)]
    pub chip: Option<String>,
    /// Offset in the chip.
    #[serde(default)]
    pub offset: Option<u32>,
    /// The name the kernel gives the line, or its first word. Where set, the line is found by it, and chip and offset
    /// are only what is usual: on a board whose chip labels follow the order of probing.
    #[serde(default)]
    pub kernel: Option<String>,
    /// Other names: the kernel's, the maker's.
    #[serde(default)]
    pub names: Vec<String>,
    /// What else the pin can be.
    #[serde(default)]
    pub also: Option<String>,
    /// Why a sensor may not have it.
    #[serde(default)]
    pub reserved: Option<String>,
}

/// A bus or port: its name on the board and its device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bus {
    /// Name on the board, as `UART0`.
    pub name: String,
    /// Device path, or interface name for CAN.
    pub device: String,
    /// The lines it takes while it is in use.
    #[serde(default)]
    pub pins: Vec<String>,
    /// What has to be done before it is there.
    #[serde(default)]
    pub note: Option<String>,
}

/// A pin, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// As the configuration names it.
    pub written: String,
    /// Which line that is.
    pub at: PinAt,
}

/// Which line a pin is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PinAt {
    /// A line of the chip with this label (on a board with `any-line` also a chip's name, as `gpiochip0`).
    Line {
        /// The chip's label.
        chip: String,
        /// Offset in the chip.
        offset: u32,
    },
    /// The line whose kernel name is this, or begins with this and a space (`P9_12` means `P9_12 [gpio1_28]` too), on
    /// whichever chip has it: on a board with `any-line`, and where a board file says `kernel`.
    Named(String),
}

/// Why a name is no pin a sensor can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPin {
    /// The board has no such pin.
    Unknown,
    /// The pin is power or ground.
    Power(String),
    /// The pin has another use, told in the reason.
    Reserved {
        /// The line's name.
        line: String,
        /// Why.
        reason: String,
    },
    /// The chip is the board's, but has not so many lines.
    NoSuchOffset {
        /// The chip's label.
        chip: String,
        /// How many lines it has.
        lines: u32,
    },
}

impl fmt::Display for PinAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PinAt::Line { chip, offset } => write!(f, "{chip} line {offset}"),
            PinAt::Named(name) => write!(f, "line named {name}"),
        }
    }
}

impl Catalog {
    /// The boards built in.
    pub fn built_in() -> Catalog {
        let boards = BUILT_IN
            .iter()
            .map(|(name, text)| Board::parse(name, text).expect("a test parses every built-in board"))
            .collect();
        Catalog { boards }
    }

    /// The boards built in, and those of `directories` and [`BOARD_DIRECTORIES`], an earlier directory winning.
    ///
    /// A file that cannot be taken is left out and told; a directory that is not there is no problem.
    pub fn search(directories: &[PathBuf]) -> (Catalog, Vec<CatalogError>) {
        let mut catalog = Catalog::built_in();
        let mut problems = Vec::new();
        let standard = BOARD_DIRECTORIES.iter().map(PathBuf::from);
        let all: Vec<PathBuf> = directories.iter().cloned().chain(standard).collect();
        for directory in all.iter().rev() {
            catalog.add_directory(directory, &mut problems);
        }
        (catalog, problems)
    }

    fn add_directory(&mut self, directory: &Path, problems: &mut Vec<CatalogError>) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        let mut files: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
        files.sort();
        for file in files {
            match Board::read(&file) {
                Ok(board) => self.put(board),
                Err(problem) => problems.push(problem),
            }
        }
    }

    fn put(&mut self, board: Board) {
        self.boards.retain(|b| b.name != board.name);
        self.boards.push(board);
        self.boards.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// The board of that name.
    pub fn board(&self, name: &str) -> Option<&Board> {
        self.boards.iter().find(|b| b.name == name)
    }

    /// All boards, by name.
    pub fn boards(&self) -> &[Board] {
        &self.boards
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.boards.iter().map(|b| b.name.as_str()).collect()
    }
}

impl Board {
    /// Reads a board out of a file's text.
    pub fn parse(name: &str, text: &str) -> Result<Board, String> {
        let mut board: Board = toml::from_str(text).map_err(|e| e.to_string())?;
        board.name = name.to_owned();
        board.verify()?;
        Ok(board)
    }

    fn read(path: &Path) -> Result<Board, CatalogError> {
        let read = |source| CatalogError::Read { path: path.into(), source };
        let malformed = |message: String| CatalogError::Malformed { path: path.into(), message };
        let size = fs::metadata(path).map_err(read)?.len();
        if size > MAX_BOARD_FILE_BYTES {
            return Err(malformed(format!("{size} bytes; a board file has at most {MAX_BOARD_FILE_BYTES}")));
        }
        let text = fs::read_to_string(path).map_err(read)?;
        let name = path.file_stem().and_then(|s| s.to_str()).ok_or_else(|| malformed("name is not UTF-8".into()))?;
        let mut board = Board::parse(name, &text).map_err(malformed)?;
        board.file = Some(path.into());
        Ok(board)
    }

    /// What serde cannot say: every line has a chip and an offset that is in it, no name means two pins.
    fn verify(&self) -> Result<(), String> {
        let mut names: Vec<String> = Vec::new();
        for pin in &self.pins {
            let label = pin.at.as_deref().or(pin.line.as_deref()).unwrap_or("a pin without a name");
            match (&pin.line, &pin.power) {
                (Some(_), None) => self.verify_line(label, pin)?,
                (None, Some(_)) => {}
                _ => return Err(format!("pin {label}: give either `line` or `power`")),
            }
            names.extend(pin.all_names().map(simplified));
        }
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("two pins are called {}", pair[0])),
            None if self.supported_rate_hz > self.best_effort_rate_hz => {
                Err("supported-rate-hz is above best-effort-rate-hz".into())
            }
            None => Ok(()),
        }
    }

    fn verify_line(&self, label: &str, pin: &BoardPin) -> Result<(), String> {
        let chip = self.chip_of(pin).ok_or_else(|| format!("pin {label}: no chip of `chips` is named"))?;
        match pin.offset {
            None => Err(format!("pin {label}: offset is missing")),
            Some(offset) if offset >= chip.lines => {
                Err(format!("pin {label}: offset {offset}, but {} has {} lines", chip.label, chip.lines))
            }
            Some(_) => Ok(()),
        }
    }

    fn chip_of(&self, pin: &BoardPin) -> Option<&Chip> {
        match &pin.chip {
            Some(label) => self.chips.iter().find(|c| c.label == *label),
            None if self.chips.len() == 1 => self.chips.first(),
            None => None,
        }
    }

    /// Which line a pin's name means: header place (`P11`, `pin 11`), line name (`GPIO17`) or `LABEL:OFFSET`.
    pub fn resolve(&self, written: &str) -> Result<Pin, NoPin> {
        let pin = |at| Ok(Pin { written: written.to_owned(), at });
        if let Some(found) = self.pin(written) {
            return self.line_of(found).and_then(pin);
        }
        if let Some((chip, offset)) = written.rsplit_once(':')
            && let Ok(offset) = offset.trim().parse()
        {
            return self.numbered(chip.trim(), offset).and_then(pin);
        }
        if self.any_line && !written.trim().is_empty() {
            return pin(PinAt::Named(written.trim().to_owned()));
        }
        Err(NoPin::Unknown)
    }

    fn line_of(&self, pin: &BoardPin) -> Result<PinAt, NoPin> {
        let (Some(line), Some(chip), Some(offset)) = (&pin.line, self.chip_of(pin), pin.offset) else {
            return Err(NoPin::Power(pin.power.clone().unwrap_or_default()));
        };
        match (&pin.reserved, &pin.kernel) {
            (Some(reason), _) => Err(NoPin::Reserved { line: line.clone(), reason: reason.clone() }),
            (None, Some(name)) => Ok(PinAt::Named(name.clone())),
            (None, None) => Ok(PinAt::Line { chip: chip.label.clone(), offset }),
        }
    }

    /// The lines a bus takes while it is in use, reserved ones too.
    pub fn lines_of(&self, bus: &Bus) -> Vec<PinAt> {
        let free = |pin: &BoardPin| BoardPin { reserved: None, ..pin.clone() };
        bus.pins.iter().filter_map(|name| self.line_of(&free(self.pin(name)?)).ok()).collect()
    }

    /// The pin of that name.
    pub fn pin(&self, name: &str) -> Option<&BoardPin> {
        let wanted = simplified(name);
        self.pins.iter().find(|p| p.all_names().any(|n| simplified(n) == wanted))
    }

    fn numbered(&self, label: &str, offset: u32) -> Result<PinAt, NoPin> {
        let at = PinAt::Line { chip: label.to_owned(), offset };
        match self.chips.iter().find(|c| c.label == label) {
            Some(chip) if offset >= chip.lines => {
                Err(NoPin::NoSuchOffset { chip: label.to_owned(), lines: chip.lines })
            }
            Some(_) => match self.pin_at(&at) {
                Some(pin) => self.line_of(pin),
                None => Ok(at),
            },
            None if self.any_line => Ok(at),
            None => Err(NoPin::Unknown),
        }
    }

    /// The board's description of a line.
    pub fn pin_at(&self, at: &PinAt) -> Option<&BoardPin> {
        self.pins.iter().find(|pin| match at {
            PinAt::Line { chip, offset } => {
                pin.offset == Some(*offset) && self.chip_of(pin).is_some_and(|c| c.label == *chip)
            }
            PinAt::Named(name) => pin.kernel.as_ref() == Some(name),
        })
    }

    /// The label of the chip a line is on, as far as the board knows: what lines share their rate with.
    pub fn chip_label(&self, at: &PinAt) -> Option<String> {
        match at {
            PinAt::Line { chip, .. } => Some(chip.clone()),
            PinAt::Named(_) => self.pin_at(at).and_then(|pin| pin.chip.clone()),
        }
    }

    /// A header's pin on the same chip that is nothing but a GPIO, and none of `taken`: one that can be asked for beside
    /// a sensor's without taking anything from a bus.
    pub fn spare_pin(&self, beside: &PinAt, taken: &[PinAt]) -> Option<Pin> {
        let chip = self.chip_label(beside)?;
        let plain = |pin: &&BoardPin| pin.at.is_some() && pin.reserved.is_none() && pin.also.is_none();
        self.pins.iter().rev().filter(plain).find_map(|pin| {
            let at = self.line_of(pin).ok()?;
            let free = !taken.contains(&at) && self.chip_label(&at).as_ref() == Some(&chip);
            free.then(|| Pin { written: pin.line.clone().unwrap_or_default(), at })
        })
    }

    /// The serial port of that name.
    pub fn uart(&self, name: &str) -> Option<&Bus> {
        self.uart.iter().find(|bus| bus.name.eq_ignore_ascii_case(name))
    }
}

impl BoardPin {
    /// Every name the pin goes by.
    pub fn all_names(&self) -> impl Iterator<Item = &str> {
        self.at.as_deref().into_iter().chain(self.line.as_deref()).chain(self.names.iter().map(String::as_str))
    }
}

/// Names as people write them: `pin 11`, `P11` and `p11` are one, `gpio17` and `GPIO17` too.
fn simplified(name: &str) -> String {
    let name = name.trim().to_ascii_uppercase();
    match name.strip_prefix("PIN").map(str::trim_start) {
        Some(number) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => format!("P{number}"),
        _ => name,
    }
}
