//! What `speedwell watch` shows: a line a channel, redrawn as values come.

use std::{collections::VecDeque, fmt::Write};

use speedwell_wire::{Channel, Live, LiveValue, Manifest, Quality, Quantity};

/// Values kept for the small curve.
const CURVE: usize = 24;

/// The channels being watched and what was last heard of them.
pub struct View {
    title: String,
    rows: Vec<Row>,
}

struct Row {
    channel: Channel,
    curve: VecDeque<Option<f64>>,
    last: Option<LiveValue>,
    age_ns: u64,
}

impl View {
    /// A view of the channels of `sensors`, or of all when none is named.
    pub fn new(title: &str, manifest: &Manifest, sensors: &[String]) -> Self {
        let wanted = |channel: &&Channel| sensors.is_empty() || sensors.contains(&channel.sensor);
        let row = |channel: &Channel| Row {
            channel: channel.clone(),
            curve: VecDeque::with_capacity(CURVE),
            last: None,
            age_ns: 0,
        };
        Self { title: title.to_owned(), rows: manifest.channels.iter().filter(wanted).map(row).collect() }
    }

    /// Whether there is nothing to watch.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What is watched, in a line.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Takes newly heard values.
    pub fn take(&mut self, live: &Live) {
        for row in &mut self.rows {
            let Some(value) = live.values.iter().find(|value| value.channel == row.channel.id) else { continue };
            row.age_ns = live.now_ns.saturating_sub(value.t_ns);
            if row.last.is_some_and(|last| last.t_ns == value.t_ns && last.value.is_ok() == value.value.is_ok()) {
                continue;
            }
            row.last = Some(*value);
            if row.curve.len() == CURVE {
                row.curve.pop_front();
            }
            row.curve.push_back(value.value.ok().map(|(value, _, _)| value));
        }
    }

    /// The lines as they are to be shown; with `color`, quality is coloured as well as named.
    pub fn lines(&self, color: bool) -> Vec<String> {
        let mut lines = vec![self.title.clone()];
        let width = self.rows.iter().map(|row| row.channel.sensor.len()).max().unwrap_or(0);
        lines.extend(self.rows.iter().filter(|row| row.is_shown()).map(|row| row.line(width, color)));
        lines
    }
}

impl Row {
    /// Counts of what went wrong are shown once something did.
    fn is_shown(&self) -> bool {
        let wrong = matches!(
            self.channel.quantity,
            Quantity::Lost | Quantity::Suspected | Quantity::Repaired | Quantity::Rejected
        );
        !wrong || self.last.is_some_and(|last| last.value.is_ok_and(|(count, ..)| count > 0.0))
    }

    fn line(&self, width: usize, color: bool) -> String {
        let mut line = format!("{:width$}  {:16}", self.channel.sensor, self.channel.quantity.name());
        let (tint, word) = match self.last.map(|last| last.value) {
            None => ("33", "waiting".to_owned()),
            Some(Err(reason)) => {
                let _ = write!(line, "{:>26}  {:11}", "no value", "");
                ("31", reason.name().to_owned())
            }
            Some(Ok((value, uncertainty, quality))) => {
                let _ = write!(line, "{:>26}  ±{:<10}", self.number(value), two_digits(uncertainty));
                (quality_tint(quality), quality.name().to_owned())
            }
        };
        if color {
            let _ = write!(line, "  \x1b[{tint}m{word:13}\x1b[0m");
        } else {
            let _ = write!(line, "  {word:13}");
        }
        let _ = write!(line, "  {:>6.1} s  {}", self.age_ns as f64 / 1e9, curve(&self.curve));
        line
    }

    /// The number as its reader thinks of it: a driver in km/h, a mechanic in the unit of the quantity.
    fn number(&self, value: f64) -> String {
        let unit = self.channel.quantity.unit();
        match self.channel.quantity {
            Quantity::Speed => format!("{value:.3} {unit} {:7.2} km/h", value * 3.6),
            Quantity::Latitude | Quantity::Longitude => format!("{value:.6} {unit}"),
            _ if unit == "1" => format!("{value:.0}"),
            _ => format!("{value:.2} {unit}"),
        }
    }
}

/// Eighth blocks, scaled from the smallest to the largest value shown; a gap where there was no value.
fn curve(values: &VecDeque<Option<f64>>) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let known = || values.iter().flatten().copied();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let block = |value: &Option<f64>| match value {
        None => ' ',
        Some(_) if high <= low => BLOCKS[0],
        Some(value) => BLOCKS[((value - low) / (high - low) * 7.0).round().clamp(0.0, 7.0) as usize],
    };
    values.iter().map(block).collect()
}

/// An uncertainty says nothing beyond its second digit.
fn two_digits(uncertainty: f32) -> String {
    let digits = if uncertainty > 0.0 { 1 - uncertainty.log10().floor() as i32 } else { 1 };
    format!("{uncertainty:.*}", digits.clamp(0, 7) as usize)
}

fn quality_tint(quality: Quality) -> &'static str {
    match quality {
        Quality::Good | Quality::Stopped => "32",
        Quality::Estimated | Quality::Degraded => "33",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use speedwell_wire::{ManifestHash, NoData};

    fn view() -> View {
        let channel = |id, sensor: &str| Channel {
            id,
            sensor: sensor.into(),
            quantity: Quantity::Speed,
            resolution_nano: 1_000_000,
            tick_ns: 100_000,
            period_ns: 100_000_000,
            calibration: 0,
        };
        let manifest = Manifest { channels: vec![channel(0, "front-wheel"), channel(1, "gnss")] };
        View::new("truck-7", &manifest, &[])
    }

    fn live(value: Result<(f64, f32, Quality), NoData>) -> Live {
        let values = vec![
            LiveValue { channel: 0, t_ns: 1_000_000_000, value: Ok((17.342, 0.002, Quality::Good)) },
            LiveValue { channel: 1, t_ns: 900_000_000, value },
        ];
        Live { manifest: ManifestHash([0; 8]), boot: 1, now_ns: 1_100_000_000, values }
    }

    #[test]
    fn a_value_is_shown_with_both_units_its_uncertainty_and_its_age() {
        let mut view = view();
        view.take(&live(Err(NoData::NoFix)));
        let lines = view.lines(false);
        assert_eq!(
            lines[1].trim_end(),
            "front-wheel  speed              17.342 m/s   62.43 km/h  ±0.0020      good              0.1 s  ▁"
        );
    }

    #[test]
    fn silence_is_never_shown_as_a_number_and_zero_is() {
        let mut view = view();
        view.take(&live(Err(NoData::NoFix)));
        assert!(view.lines(false)[2].contains("no value") && view.lines(false)[2].contains("no-fix"));
        view.take(&live(Ok((0.0, 0.05, Quality::Stopped))));
        assert!(view.lines(false)[2].contains("0.000 m/s"), "{}", view.lines(false)[2]);
    }
}
