//! The table people read: one line a case, columns aligned, a verdict each.

use std::fmt::{self, Write};

use super::peers;

/// What a figure has to keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gate {
    AtMost(f64),
    AtLeast(f64),
    Between(f64, f64),
    /// Told for comparison; nothing depends on it.
    Told,
}

impl Gate {
    fn holds(self, figure: f64) -> bool {
        match self {
            Gate::AtMost(limit) => figure <= limit,
            Gate::AtLeast(limit) => figure >= limit,
            Gate::Between(low, high) => (low..=high).contains(&figure),
            Gate::Told => true,
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Gate::AtMost(limit) => write!(f, "<= {}", limit_text(*limit)),
            Gate::AtLeast(limit) => write!(f, ">= {}", limit_text(*limit)),
            Gate::Between(low, high) => write!(f, "{}..{}", limit_text(*low), limit_text(*high)),
            Gate::Told => Ok(()),
        }
    }
}

/// One case.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// What was driven, measured and spoilt.
    pub(crate) case: String,
    /// What no method can beat, or what there was to reach, as text with its unit.
    pub(crate) bound: String,
    pub(crate) peers: [Option<f64>; 4],
    pub(crate) ours: f64,
    pub(crate) gate: Gate,
    /// False when something besides the figure is wrong; the case then says what.
    pub(crate) sound: bool,
}

impl Row {
    pub(crate) fn new(case: impl Into<String>, ours: f64, gate: Gate) -> Self {
        Self { case: case.into(), bound: String::new(), peers: [None; 4], ours, gate, sound: true }
    }

    pub(crate) fn bound(self, bound: impl Into<String>) -> Self {
        Self { bound: bound.into(), ..self }
    }

    pub(crate) fn peers(self, peers: [Option<f64>; 4]) -> Self {
        Self { peers, ..self }
    }

    /// Unless `sound`, the row fails, and says why.
    pub(crate) fn unless(mut self, sound: bool, why: &str) -> Self {
        if !sound {
            self.case = format!("{} [{why}]", self.case);
            self.sound = false;
        }
        self
    }

    /// A figure that is none (no reading at all) never passes.
    pub(crate) fn passes(&self) -> bool {
        self.sound && self.ours.is_finite() && self.gate.holds(self.ours)
    }

    fn verdict(&self) -> &'static str {
        match (self.passes(), self.gate) {
            (true, Gate::Told) => "-",
            (true, _) => "pass",
            (false, _) => "FAIL",
        }
    }
}

/// The cases of one property.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    /// S1 to S14.
    pub(crate) id: &'static str,
    /// What the figures are, with their unit.
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
}

impl Group {
    pub(crate) fn new(id: &'static str, title: impl Into<String>) -> Self {
        Self { id, title: title.into(), rows: Vec::new() }
    }

    /// How many judged rows pass, and how many fail.
    pub(crate) fn tally(&self) -> (usize, usize) {
        let failed = self.rows.iter().filter(|row| !row.passes()).count();
        let told = self.rows.iter().filter(|row| row.passes() && row.gate == Gate::Told).count();
        (self.rows.len() - failed - told, failed)
    }
}

/// Width of the case, of the bound, of a figure, of the gate.
const CASE: usize = 64;
const BOUND: usize = 12;
const FIGURE: usize = 8;
const GATE: usize = 13;

/// The line above the columns.
pub(crate) fn heading() -> String {
    let mut line = format!("{:<CASE$}{:>BOUND$}", "", "bound");
    for name in peers::NAMES {
        let _ = write!(line, "{name:>FIGURE$}");
    }
    let _ = write!(line, "{:>FIGURE$}  {:<GATE$}verdict", "ours", "gate");
    line
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{:<5}{}", self.id, self.title)?;
        for row in &self.rows {
            write!(f, "     {:<width$}{:>BOUND$}", row.case, row.bound, width = CASE - 5)?;
            for peer in row.peers {
                write!(f, "{:>FIGURE$}", peer.map_or("-".into(), figure))?;
            }
            writeln!(f, "{:>FIGURE$}  {:<GATE$}{}", figure(row.ours), row.gate.to_string(), row.verdict())?;
        }
        Ok(())
    }
}

/// Three digits that mean something, without an exponent where that reads well.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "none".into(),
        0.0 => "0".into(),
        _ if !(0.005..999_999.5).contains(&size) => format!("{value:.1e}"),
        _ if size < 0.0995 => format!("{value:.3}"),
        _ if size < 9.995 => format!("{value:.2}"),
        _ if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A limit as it was written down: 1.10 and 2e-5, not 1.1000000.
fn limit_text(value: f64) -> String {
    match value.abs() {
        size if size != 0.0 && size < 0.001 => format!("{value:e}"),
        size if size != 0.0 && size < 10.0 && value.fract() != 0.0 => format!("{value:.2}"),
        _ => format!("{value}"),
    }
}

/// A speed in mm/s, for the bound's column.
pub(crate) fn mm_per_s(speed: Option<f64>) -> String {
    speed.map_or("none".into(), |speed| format!("{} mm/s", figure(speed * 1e3)))
}
