//! A number out of lines of text, by a pattern.
//!
//! The pattern is a regular expression with a group named `v` around the number; a group `u` around the unit and a group
//! `s` around a sign may stand beside it. It is matched in time that grows only with the line's length, and its own size
//! is bounded. A line it does not match is passed over; one that says a token for "no value" says so.
//!
//! A byte that is no UTF-8 is a character like any other to the pattern, so that a degree sign of an older character set
//! does no harm; a number that it touches is refused, because it may be a digit that was damaged on the way.

use std::time::Duration;

use regex_lite::{CaptureLocations, Regex, RegexBuilder};
use speedwell_wire::{NoData, Quality};

use super::{
    ByteSensor, ChannelSpec, Counters, Reading, Sensor, Value,
    lines::{Ended, Lines, NO_TEXT},
    noise::Noise,
    said::Said,
    unit::Unit,
};
use crate::clock::BootNs;

/// Longest pattern, bytes, and what its compiled form may take.
pub const PATTERN_MAX: usize = 512;
const COMPILED_MAX: usize = 64 * 1024;
/// Largest number believed, in the line's own unit.
const LARGEST: f64 = 1e12;
/// Digits behind the point that still mean something.
const DECIMALS_MAX: i32 = 12;

/// A pattern that can be used.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    value: usize,
    unit: Option<usize>,
    sign: Option<usize>,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// It is no regular expression, or too large a one.
    #[error("{0}")]
    Regex(String),
    /// It is longer than anybody needs.
    #[error("{0} bytes: at most {PATTERN_MAX} are taken")]
    TooLong(usize),
    /// Which part is the number is not told.
    #[error("it has no group named v around the number, as in (?P<v>[0-9.]+)")]
    NoValue,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Pattern {
    /// Takes a regular expression.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        if text.len() > PATTERN_MAX {
            return Err(BadPattern::TooLong(text.len()));
        }
        let regex = RegexBuilder::new(text).size_limit(COMPILED_MAX).build();
        let regex = regex.map_err(|cause| BadPattern::Regex(cause.to_string()))?;
        let group = |name| regex.capture_names().position(|group| group == Some(name));
        let value = group("v").ok_or(BadPattern::NoValue)?;
        let (unit, sign) = (group("u"), group("s"));
        Ok(Self { regex, value, unit, sign })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

/// What is listened to.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where the number is.
    pub pattern: Pattern,
    /// What it is told in, where the line itself does not say.
    pub unit: Unit,
    /// `value = number * scale + offset`.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// The number has a comma where others have a point.
    pub decimal_comma: bool,
    /// What stands in the number's place when there is none.
    pub invalid: Vec<String>,
    /// Report period; a slower device is reported as it comes.
    pub report: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
}

/// A device that writes lines.
#[derive(Debug)]
pub struct Line {
    options: Options,
    channels: [ChannelSpec; 1],
    lines: Lines,
    found: CaptureLocations,
    noise: Noise,
    said: Said,
    heard: Option<BootNs>,
    /// The newest number was refused, because a byte that is no text touches it.
    damaged: bool,
    counters: Counters,
}

impl Line {
    /// One that has heard nothing.
    pub fn new(options: Options) -> Self {
        let (quantity, period) = (options.unit.quantity, options.report);
        // How many digits will come is not known beforehand.
        let resolution_nano = options.unit.resolution_nano(1.0, 0.5);
        Self {
            channels: [ChannelSpec { quantity, resolution_nano, period }],
            lines: Lines::default(),
            found: options.pattern.regex.capture_locations(),
            noise: Noise::default(),
            said: Said::new(options.report),
            heard: None,
            damaged: false,
            counters: Counters::default(),
            options,
        }
    }

    fn say(&mut self, t: BootNs, value: Result<Value, NoData>, out: &mut Vec<Reading>) {
        if self.said.passes(t, value.map(|_| ())) {
            out.push(Reading { channel: 0, t, value });
        }
    }
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    /// A number, or that there is none.
    Value(Result<Value, NoData>),
    /// A number that a byte touches which is no text.
    Damaged,
}

/// What a line says; `None` when it is none of those that are listened to.
fn parse(text: &str, options: &Options, found: &mut CaptureLocations) -> Option<Told> {
    let pattern = &options.pattern;
    pattern.regex.captures_read(found, text)?;
    let group = |index: usize| found.get(index).and_then(|(from, to)| text.get(from..to)).map(str::trim);
    let (from, to) = found.get(pattern.value)?;
    let (before, digits, behind) = (text.get(..from)?, text.get(from..to)?.trim(), text.get(to..)?);
    if before.ends_with(NO_TEXT) || digits.contains(NO_TEXT) || behind.starts_with(NO_TEXT) {
        return Some(Told::Damaged);
    }
    if options.invalid.iter().any(|token| token == digits) {
        return Some(Told::Value(Err(NoData::NotAvailable)));
    }
    let unit = match pattern.unit.and_then(group) {
        Some(word) => Unit::named(word).filter(|unit| unit.quantity == options.unit.quantity),
        None => Some(options.unit),
    };
    let (Some(unit), Some((number, step))) = (unit, number(digits, options.decimal_comma)) else {
        return Some(Told::Value(Err(NoData::OutOfRange)));
    };
    let negative = pattern.sign.and_then(group) == Some("-");
    let number = if negative { -number } else { number };
    // A number written with so many digits is off by up to half of the last, evenly.
    let uncertainty = unit.si(step * options.scale).abs() / 12f64.sqrt();
    let value = unit.si(number * options.scale + options.offset);
    Some(Told::Value(Ok(Value { value, uncertainty, quality: Quality::Good })))
}

/// Digits with at most one point and a sign, and the step of the last digit.
fn number(text: &str, comma: bool) -> Option<(f64, f64)> {
    let point = if comma { b',' } else { b'.' };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut decimals: Option<i32> = None;
    let (mut value, mut any) = (0.0, false);
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => {
                any = true;
                match &mut decimals {
                    None => value = value * 10.0 + f64::from(byte - b'0'),
                    Some(places) if *places < DECIMALS_MAX => {
                        *places += 1;
                        value = value * 10.0 + f64::from(byte - b'0');
                    }
                    Some(_) => {}
                }
            }
            _ if byte == point && decimals.is_none() => decimals = Some(0),
            _ => return None,
        }
    }
    // One division, which rounds once: 12.3 stays the nearest number to 12.3.
    let scale = 10f64.powi(decimals.unwrap_or(0));
    let number = value / scale;
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    (any && number <= LARGEST).then_some((sign * number, 1.0 / scale))
}

impl ByteSensor for Line {
    fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>) {
        self.noise.heard(bytes.len());
        for &byte in bytes {
            match self.lines.push(t, byte) {
                None => {}
                Some(Ended::Refused) => self.counters.rejected += 1,
                Some(Ended::Line { at, text }) => {
                    let Some(told) = parse(&text, &self.options, &mut self.found) else { continue };
                    self.noise.made_sense();
                    let Told::Value(value) = told else {
                        self.counters.rejected += 1;
                        self.damaged = true;
                        continue;
                    };
                    self.counters.inputs += 1;
                    self.damaged = false;
                    self.heard = Some(at);
                    self.counters.rejected += u64::from(value == Err(NoData::OutOfRange));
                    self.say(at, value, out);
                }
            }
        }
    }
}

impl Sensor for Line {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says that nothing is heard, when nothing is; values are said as they come.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        match self.heard {
            None => self.say(now, Err(NoData::Silent), out),
            Some(last) if now.since(last) > self.options.timeout => self.say(now, Err(NoData::Stale), out),
            Some(_) => {}
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn trouble(&self) -> Option<String> {
        let pattern = self.options.pattern.as_str();
        if self.damaged {
            return Some(
                "lines have a byte that is no text right at the number: are `data-bits`, `parity` and `baud` as the device \
                 has them? A sign of its character set needs a blank between"
                    .into(),
            );
        }
        self.noise.trouble(&format!("a line that matches {pattern:?}"), "as the device has it")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(pattern: &str) -> Options {
        Options {
            pattern: Pattern::new(pattern).unwrap(),
            unit: Unit::named("km/h").unwrap(),
            scale: 1.0,
            offset: 0.0,
            decimal_comma: false,
            invalid: vec!["---".into()],
            report: Duration::from_nanos(1),
            timeout: Duration::from_secs(1),
        }
    }

    fn hear(line: &mut Line, t: u64, text: &str) -> Option<Result<f64, NoData>> {
        let mut out = Vec::new();
        line.on_bytes(BootNs(t), text.as_bytes(), &mut out);
        out.first().map(|reading| reading.value.map(|value| (value.value * 1e9).round() / 1e9))
    }

    #[test]
    fn the_number_of_the_group_is_the_value_in_the_unit() {
        let mut line = Line::new(options(r"^SPD=(?P<v>[-+0-9.]+)"));
        assert_eq!(hear(&mut line, 1, "SPD=36.0\r\n"), Some(Ok(10.0)));
        assert_eq!(hear(&mut line, 2, "SPD=-7.2\n"), Some(Ok(-2.0)));
        assert_eq!(hear(&mut line, 3, "RPM=900\r"), None, "no match");
        assert_eq!(hear(&mut line, 4, "SPD=1.2.3\n"), Some(Err(NoData::OutOfRange)));
        assert_eq!(hear(&mut line, 5, "SPD=18"), None, "not ended yet");
        assert_eq!(hear(&mut line, 6, ".0\n"), Some(Ok(5.0)), "in two pieces");
        assert_eq!((line.counters().inputs, line.counters().rejected), (4, 1));
    }

    #[test]
    fn unit_sign_comma_and_the_token_for_none_are_heeded() {
        let pattern = r"(?P<s>-?)\s*(?P<v>[0-9,]+|---) *(?P<u>m/s|km/h|mph|rpm)?";
        let mut line = Line::new(Options { decimal_comma: true, ..options(pattern) });
        assert_eq!(hear(&mut line, 1, "- 3,5 m/s\n"), Some(Ok(-3.5)));
        assert_eq!(hear(&mut line, 2, "36,0\n"), Some(Ok(10.0)), "the configured unit");
        assert_eq!(hear(&mut line, 3, "---\n"), Some(Err(NoData::NotAvailable)));
        assert_eq!(hear(&mut line, 4, "900 rpm\n"), Some(Err(NoData::OutOfRange)), "another quantity");
    }

    #[test]
    fn a_line_without_an_end_costs_itself_and_no_other() {
        let mut line = Line::new(options(r"^(?P<v>[0-9.]+)$"));
        assert_eq!(hear(&mut line, 1, &"1".repeat(1000)), None);
        assert_eq!(hear(&mut line, 2, "\n36\n"), Some(Ok(10.0)));
        assert_eq!(line.counters().rejected, 1);
    }

    #[test]
    fn a_byte_that_is_no_text_does_no_harm_unless_it_touches_the_number() {
        let mut line = Line::new(options(r"SPD=(?P<v>[0-9.]+)"));
        let mut hear = |t: u64, bytes: &[u8]| {
            let mut out = Vec::new();
            line.on_bytes(BootNs(t), bytes, &mut out);
            (out.first().map(|reading| reading.value.map(|v| v.value)), line.counters().rejected, line.trouble())
        };
        assert_eq!(hear(1, b"T=21\xB0C SPD=36\n"), (Some(Ok(10.0)), 0, None), "a degree sign of ISO 8859-1");
        for (count, damaged) in [b"SPD=3\xB6\n".as_slice(), b"SPD=36\xAE0 km/h\n"].into_iter().enumerate() {
            let (value, rejected, trouble) = hear(2, damaged);
            assert_eq!((value, rejected), (None, count as u64 + 1), "a digit with its eighth bit set");
            assert!(trouble.unwrap().contains("are `data-bits`, `parity` and `baud`"));
        }
        assert_eq!(hear(3, b"SPD=18\n"), (Some(Ok(5.0)), 2, None));
        let mut line = Line::new(options(r"(?P<v>[0-9.]+) km/h"));
        let mut out = Vec::new();
        line.on_bytes(BootNs(1), b"SPD=\xB36.0 km/h\n", &mut out);
        assert_eq!((out.len(), line.counters().rejected), (0, 1), "its first digit");
    }

    #[test]
    fn a_pattern_without_the_group_or_too_large_is_told() {
        assert_eq!(Pattern::new("[0-9]+"), Err(BadPattern::NoValue));
        assert!(matches!(Pattern::new("(?P<v>[0-9"), Err(BadPattern::Regex(_))));
        assert!(matches!(Pattern::new("(?P<v>(a{100}){100}{100})"), Err(BadPattern::Regex(_))));
        assert_eq!(Pattern::new(&"a".repeat(600)), Err(BadPattern::TooLong(600)));
    }

    #[test]
    fn what_the_digits_leave_open_is_the_uncertainty() {
        let options = options("(?P<v>[0-9.]+)");
        let told = parse("36.00", &options, &mut options.pattern.regex.capture_locations());
        let Some(Told::Value(Ok(value))) = told else { panic!("{told:?}") };
        assert!((value.uncertainty - 0.01 / 3.6 / 12f64.sqrt()).abs() < 1e-12);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn numbers_are_read_as_the_standard_library_reads_them(text in "[-+]?[0-9]{1,9}(\\.[0-9]{0,6})?") {
            let wanted: f64 = text.parse().unwrap();
            prop_assert_eq!(number(&text, false).unwrap().0, wanted);
        }
    }
}
