//! Quantities as people write them: a number and a unit.

use std::fmt;

/// What is measured, and so which units are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    /// In metres.
    Length,
    /// In metres a second.
    Speed,
    /// In hertz.
    Frequency,
    /// In seconds.
    Time,
    /// A rate, written as frequency or as the time between two; in seconds between two.
    Period,
    /// In bytes.
    Bytes,
    /// In metres a second a second.
    Acceleration,
    /// A part of the whole.
    Ratio,
}

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoQuantity {
    /// It does not begin with a number.
    NoNumber,
    /// It has no unit.
    NoUnit,
    /// It has a unit that is not one of the dimension's.
    OtherUnit(String),
}

/// Unit and how many of the SI unit it is. The exact factors: sensing of speed is no place for 3.6 rounded.
type Units = &'static [(&'static str, f64)];

const LENGTH: Units = &[("m", 1.0), ("cm", 0.01), ("mm", 0.001), ("in", 0.0254), ("ft", 0.3048)];
const SPEED: Units = &[("km/h", 1.0 / 3.6), ("m/s", 1.0), ("mph", 0.447_04), ("kn", 1852.0 / 3600.0), ("ft/s", 0.3048)];
const FREQUENCY: Units = &[("Hz", 1.0), ("kHz", 1000.0)];
const TIME: Units = &[("s", 1.0), ("ms", 0.001), ("min", 60.0), ("h", 3600.0)];
const ACCELERATION: Units = &[("m/s2", 1.0), ("m/s²", 1.0), ("g", 9.806_65)];
const RATIO: Units = &[("%", 0.01), ("‰", 0.001), ("ppm", 1e-6)];
const BYTES: Units = &[
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
];

impl Dimension {
    fn units(self) -> Units {
        match self {
            Dimension::Length => LENGTH,
            Dimension::Speed => SPEED,
            Dimension::Frequency => FREQUENCY,
            Dimension::Time | Dimension::Period => TIME,
            Dimension::Bytes => BYTES,
            Dimension::Acceleration => ACCELERATION,
            Dimension::Ratio => RATIO,
        }
    }

    /// Names of the units that are allowed.
    pub(super) fn unit_names(self) -> Vec<&'static str> {
        let hz = if self == Dimension::Period { FREQUENCY } else { &[] };
        hz.iter().chain(self.units()).map(|(name, _)| *name).collect()
    }

    /// An example, for complaints.
    pub(super) fn example(self) -> &'static str {
        match self {
            Dimension::Length => "1.985 m",
            Dimension::Speed => "130 km/h",
            Dimension::Frequency => "16 Hz",
            Dimension::Time => "500 ms",
            Dimension::Period => "10 Hz",
            Dimension::Bytes => "256 MiB",
            Dimension::Acceleration => "40 m/s2",
            Dimension::Ratio => "0.5 %",
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dimension::Length => "a length",
            Dimension::Speed => "a speed",
            Dimension::Frequency => "a frequency",
            Dimension::Time => "a time",
            Dimension::Period => "a rate or the time between two",
            Dimension::Bytes => "an amount of bytes",
            Dimension::Acceleration => "an acceleration",
            Dimension::Ratio => "a ratio",
        })
    }
}

/// A time as it is written on the command line, `10 min`; `10m` is taken for minutes too.
pub fn parse_time(text: &str) -> Result<std::time::Duration, String> {
    let minutes = text.trim().strip_suffix('m').map(|number| format!("{number} min"));
    let seconds = on_command_line(minutes.as_deref().unwrap_or(text), Dimension::Time)?;
    std::time::Duration::try_from_secs_f64(seconds).map_err(|_| "longer than there can be".to_owned())
}

/// An amount of bytes as it is written on the command line, `1 GiB`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    on_command_line(text, Dimension::Bytes).map(|bytes| bytes.round() as u64)
}

fn on_command_line(text: &str, dimension: Dimension) -> Result<f64, String> {
    match parse(text, dimension) {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(format!(
            "wanted {dimension}, as in {:?}; units: {}",
            dimension.example(),
            dimension.unit_names().join(", ")
        )),
    }
}

/// Reads a number and a unit into the dimension's SI unit. The unit's case does not count where that is no mistake.
pub(super) fn parse(text: &str, dimension: Dimension) -> Result<f64, NoQuantity> {
    let text = text.trim();
    // `e` belongs to the number only before a digit or a sign, so that no unit can be swallowed.
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-._".contains(c))).unwrap_or(text.len());
    let number: f64 = text[..end].replace('_', "").parse().map_err(|_| NoQuantity::NoNumber)?;
    let unit = text[end..].trim();
    if unit.is_empty() {
        return Err(NoQuantity::NoUnit);
    }
    if dimension == Dimension::Period
        && let Some(hertz) = find(FREQUENCY, unit)
    {
        return Ok(1.0 / (number * hertz));
    }
    let factor = find(dimension.units(), unit).ok_or_else(|| NoQuantity::OtherUnit(unit.to_owned()))?;
    Ok(number * factor)
}

fn find(units: Units, name: &str) -> Option<f64> {
    units
        .iter()
        .find(|(unit, _)| *unit == name)
        .or_else(|| units.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(name)))
        .map(|(_, factor)| *factor)
}

/// Effective circumference, in metres, of a radial tyre by its size, as `315/80R22.5`.
///
/// D = rim·25.4 + 2·aspect·width, C = 3.05·D: the rolling factor of radial tyres; pi·D would be 3 % too long.
pub(super) fn tyre_circumference(size: &str) -> Option<f64> {
    const ROLLING_FACTOR: f64 = 3.05;
    let size = size.to_ascii_uppercase();
    let (width, rest) = size.split_once('/')?;
    let (aspect, rim) = rest.split_once('R')?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    let aspect = number(aspect.trim().trim_end_matches('Z'))?;
    let rim = rim.trim_start();
    let end = rim.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rim.len());
    let (width, rim) = (number(width)?, number(&rim[..end])?);
    let sane = (50.0..=800.0).contains(&width) && (20.0..=110.0).contains(&aspect) && (4.0..=60.0).contains(&rim);
    sane.then(|| ROLLING_FACTOR * (rim * 25.4 + 2.0 * aspect / 100.0 * width) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_its_exact_factor() {
        let cases = [
            ("1.985 m", Dimension::Length, 1.985),
            ("1985mm", Dimension::Length, 1.985),
            ("78 in", Dimension::Length, 1.9812),
            ("36 km/h", Dimension::Speed, 10.0),
            ("100 mph", Dimension::Speed, 44.704),
            ("3600 kn", Dimension::Speed, 1852.0),
            ("10 Hz", Dimension::Period, 0.1),
            ("10 hz", Dimension::Period, 0.1),
            ("250 ms", Dimension::Period, 0.25),
            ("2 GiB", Dimension::Bytes, 2_147_483_648.0),
            ("1 min", Dimension::Time, 60.0),
            ("2 g", Dimension::Acceleration, 19.6133),
            ("0.5 %", Dimension::Ratio, 0.005),
        ];
        for (text, dimension, wanted) in cases {
            let got = parse(text, dimension).expect(text);
            assert!((got - wanted).abs() <= 1e-12 * wanted, "{text}: {got}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_told_apart() {
        assert_eq!(parse("fast", Dimension::Speed), Err(NoQuantity::NoNumber));
        assert_eq!(parse("", Dimension::Speed), Err(NoQuantity::NoNumber));
        assert_eq!(parse("130", Dimension::Speed), Err(NoQuantity::NoUnit));
        assert_eq!(parse("130 kph", Dimension::Speed), Err(NoQuantity::OtherUnit("kph".into())));
        assert_eq!(parse("1,5 m", Dimension::Length), Err(NoQuantity::OtherUnit(",5 m".into())));
    }

    #[test]
    fn a_tyre_size_gives_its_rolling_circumference() {
        let truck = tyre_circumference("315/80R22.5").expect("a truck tyre");
        assert!((truck - 3.280).abs() < 0.001, "{truck}");
        let car = tyre_circumference("205/55 R16 91V").expect("a car tyre");
        assert!((car - 1.927).abs() < 0.001, "{car}");
        for wrong in ["", "205", "205/55", "205/55-16", "a/bRc", "9999/55R16", "205/55R"] {
            assert_eq!(tyre_circumference(wrong), None, "{wrong}");
        }
    }
}
