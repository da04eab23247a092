//! Speed from a Doppler radar of the OPS243 family, by its own lines of text.
//!
//! ```text
//! -3.6                                             outbound at 3.6, in the unit that was set
//! 137.429,3.6                                      with a time before it
//! {"speed":0.58,"direction":"inbound","unit":"mps"}    the same in JSON; newer firmware puts the numbers in quotes
//! {"Units":"meters-per-second"}                    an answer to a command: no speed
//! ```
//! It is set up when it is opened: metres a second, JSON, units in each report, two decimals, and a zero where nothing
//! moves. A radar that does not know the last of these says nothing then, and silence means "no target", which is not a
//! zero. What it measures is the part of the speed that points at it: at an angle it is divided by the cosine, and how
//! well the angle is known goes into the uncertainty: `dv/v = tan(angle) d(angle)`, 1.75 % a degree at 45 degrees.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use speedwell_wire::{NoData, Quality, Quantity};

use super::{
    ByteSensor, ChannelSpec, Counters, Reading, Sensor, Value,
    lines::{Ended, Lines},
    noise::Noise,
    said::Said,
    unit::{KMH, Unit},
};
use crate::clock::BootNs;

/// What it is told when it is opened, in this order; no line end is needed behind two letters.
const SET_UP: [&str; 6] = ["??", "UM", "OJ", "OU", "F2", "BZ"];
/// Between two commands: it answers each within a few of these.
const APART: Duration = Duration::from_millis(100);
/// An answer to the set-up comes no later than this.
const SET_UP_WITHIN: Duration = Duration::from_secs(3);
/// Steps of its speed at 10 000 samples a second and 1024 of them, m/s.
const STEP: f64 = 0.0607;
/// Fastest believed, m/s: ten times what the fastest of the family measure at their usual setting.
const FASTEST: f64 = 350.0;

/// How the radar is mounted and listened to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Between its beam and the way, radians; below a right angle.
    pub angle: f64,
    /// One standard deviation of it, radians.
    pub angle_uncertainty: f64,
    /// What a plain number is told in; JSON says it itself.
    pub unit: Unit,
    /// A zero means that what it looks at stands: right for one that looks at the ground or at a wheel. Otherwise it
    /// means that it sees nothing.
    pub zero_is_standing: bool,
    /// Also report the direction: 1 towards it, -1 away.
    pub direction: bool,
    /// Report period; a slower radar is reported as it comes.
    pub report: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
    /// Set it up when it is opened. Off for a replay.
    pub set_up: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            angle: 0.0,
            angle_uncertainty: 0.0,
            unit: Unit::default(),
            zero_is_standing: true,
            direction: false,
            report: Duration::from_millis(100),
            timeout: Duration::from_secs(1),
            set_up: true,
        }
    }
}

/// A radar on a serial line.
#[derive(Debug)]
pub struct Radar {
    options: Options,
    channels: Vec<ChannelSpec>,
    lines: Lines,
    noise: Noise,
    said: Said,
    /// The newest speed, and the newest line of any kind.
    heard: Option<BootNs>,
    spoke: Option<BootNs>,
    /// Commands said, and when the next is due.
    told: usize,
    next: Option<BootNs>,
    counters: Counters,
}

/// A report, or an answer to a command.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    speed: Option<Number<'a>>,
    #[serde(borrow)]
    direction: Option<Word<'a>>,
    #[serde(borrow)]
    unit: Option<Word<'a>>,
}

/// Borrowed from the line. Serde borrows through a type of its own, not through an `Option<Cow>`.
#[derive(Deserialize)]
#[serde(transparent)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Number<'a> {
    Plain(f64),
    #[serde(borrow)]
    Quoted(Cow<'a, str>),
}

/// A speed as it is told: positive towards the radar.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Speed(f64),
    Answer,
}

impl Radar {
    /// One that has heard nothing. Channel 0 is speed; then direction, when asked for.
    pub fn new(options: Options) -> Self {
        let channel = |quantity, resolution_nano| ChannelSpec { quantity, resolution_nano, period: options.report };
        let mut channels = vec![channel(Quantity::Speed, 1_000_000)];
        if options.direction {
            channels.push(channel(Quantity::Direction, 1_000_000_000));
        }
        Self {
            options,
            channels,
            lines: Lines::default(),
            noise: Noise::default(),
            said: Said::new(options.report),
            heard: None,
            spoke: None,
            told: 0,
            next: None,
            counters: Counters::default(),
        }
    }

    fn line(&mut self, at: BootNs, told: Option<Told>, out: &mut Vec<Reading>) {
        let Some(told) = told else {
            self.counters.rejected += 1;
            return;
        };
        self.noise.made_sense();
        self.spoke = Some(at);
        let Told::Speed(speed) = told else { return };
        self.counters.inputs += 1;
        self.heard = Some(at);
        if speed == 0.0 && !self.options.zero_is_standing {
            return self.say_nothing(at, NoData::NoTarget, out);
        }
        if speed.abs() > FASTEST {
            return self.say_nothing(at, NoData::OutOfRange, out);
        }
        if !self.said.passes(at, Ok(())) {
            return;
        }
        // v = v_measured / cos(angle); du/v = tan(angle) d(angle), and half a step evenly.
        let (cosine, tangent) = (self.options.angle.cos(), self.options.angle.tan());
        let value = speed.abs() / cosine;
        let step = STEP / 12f64.sqrt() / cosine;
        let uncertainty = step.hypot(value * tangent * self.options.angle_uncertainty);
        let good = |value, uncertainty| Ok(Value { value, uncertainty, quality: Quality::Good });
        out.push(Reading { channel: 0, t: at, value: good(value, uncertainty) });
        if self.options.direction {
            let way = if speed == 0.0 { 0.0 } else { speed.signum() };
            out.push(Reading { channel: 1, t: at, value: good(way, 0.0) });
        }
    }

    fn say_nothing(&mut self, t: BootNs, reason: NoData, out: &mut Vec<Reading>) {
        if self.said.passes(t, Err(reason)) {
            out.extend((0..self.channels.len()).map(|channel| Reading { channel, t, value: Err(reason) }));
        }
    }
}

/// What a line says, with plain numbers in `unit`; `None` when it is nothing a radar says.
fn parse(text: &str, unit: Unit) -> Option<Told> {
    let text = text.trim();
    if text.starts_with('{') {
        let said: Line<'_> = serde_json::from_str(text).ok()?;
        let Some(speed) = said.speed else { return Some(Told::Answer) };
        let number = match speed {
            Number::Plain(number) => number,
            Number::Quoted(text) => number(&text)?,
        };
        let factor = said.unit.map_or(Some(unit.factor), |word| factor(&word.0))?;
        let away = said.direction.is_some_and(|word| word.0 == "outbound");
        let speed = if away { -number.abs() } else { number };
        return Some(Told::Speed(speed * factor));
    }
    // The speed stands last, behind time and magnitude.
    let last = text.rsplit(',').next()?;
    number(last).map(|speed| Told::Speed(speed * unit.factor))
}

/// A number as the radar writes it. `f64`'s own parser would also take `inf`, `NaN` and exponents.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let good = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if good && digits.len() <= 12 { text.parse().ok() } else { None }
}

/// The units of a report, as its own words.
fn factor(word: &str) -> Option<f64> {
    Some(match word {
        "mps" | "m" => 1.0,
        "cmps" | "cm" => 0.01,
        "kmph" | "km" => KMH,
        "mph" => 0.447_04,
        "fps" | "ft" => 0.304_8,
        _ => return None,
    })
}

impl ByteSensor for Radar {
    fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>) {
        self.noise.heard(bytes.len());
        let unit = self.options.unit;
        for &byte in bytes {
            match self.lines.push(t, byte) {
                None => {}
                Some(Ended::Refused) => self.counters.rejected += 1,
                Some(Ended::Line { at, text }) => {
                    let told = parse(text, unit);
                    self.line(at, told, out);
                }
            }
        }
    }

    fn ask(&mut self, now: BootNs, out: &mut Vec<u8>) {
        let due = self.next.is_none_or(|next| now >= next);
        let Some(command) = SET_UP.get(self.told).filter(|_| self.options.set_up && due) else { return };
        out.extend_from_slice(command.as_bytes());
        self.told += 1;
        self.next = Some(now + if self.told == SET_UP.len() { SET_UP_WITHIN } else { APART });
    }

    fn wakes(&self) -> Option<BootNs> {
        (self.options.set_up && self.told < SET_UP.len()).then(|| self.next.unwrap_or(BootNs(0)))
    }
}

impl Sensor for Radar {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says that nothing is heard, when nothing is: no target while it is silent but was there, silence before.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        let quiet = self.heard.is_none_or(|last| now.since(last) > self.options.timeout);
        match self.spoke {
            None => self.say_nothing(now, NoData::Silent, out),
            Some(_) if quiet => self.say_nothing(now, NoData::NoTarget, out),
            Some(_) => {}
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn trouble(&self) -> Option<String> {
        let noise = self.noise.trouble("a radar's report", "19200 on the UART; USB takes any");
        let unanswered = self.spoke.is_none() && self.told == SET_UP.len();
        noise.or_else(|| {
            unanswered.then(|| {
                "the radar does not answer its set-up commands: is it on, and are both directions of the line wired?".into()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn hear(radar: &mut Radar, ms: u64, text: &str) -> Vec<Result<f64, NoData>> {
        let mut out = Vec::new();
        radar.on_bytes(BootNs(ms * MS), format!("{text}\r\n").as_bytes(), &mut out);
        out.iter().map(|reading| reading.value.map(|value| value.value)).collect()
    }

    fn with_direction() -> Radar {
        Radar::new(Options { direction: true, report: Duration::from_nanos(1), ..Options::default() })
    }

    #[test]
    fn every_form_of_a_report_is_read() {
        let mut radar = with_direction();
        assert_eq!(hear(&mut radar, 1, "-3.6"), [Ok(3.6), Ok(-1.0)]);
        assert_eq!(hear(&mut radar, 2, "137.429,3.6"), [Ok(3.6), Ok(1.0)]);
        let json = r#"{"speed":0.58, "direction":"inbound", "time":105, "tick":135}"#;
        assert_eq!(hear(&mut radar, 3, json), [Ok(0.58), Ok(1.0)]);
        assert_eq!(hear(&mut radar, 4, r#"{"speed": 152.3, "magnitude": 1847}"#), [Ok(152.3), Ok(1.0)]);
        assert_eq!(hear(&mut radar, 5, r#"{"speed":"3.6","direction":"outbound","unit":"mps"}"#), [Ok(3.6), Ok(-1.0)]);
        assert_eq!(hear(&mut radar, 6, r#"{"unit":"kmph","speed":"36.0"}"#), [Ok(10.0), Ok(1.0)]);
        assert_eq!(hear(&mut radar, 7, "0.0"), [Ok(0.0), Ok(0.0)]);
    }

    #[test]
    fn answers_to_commands_are_no_speeds_and_rubbish_is_counted() {
        let mut radar = with_direction();
        for answer in [r#"{"Units":"meters-per-second"}"#, r#"{"Product":"OPS243"}"#, r#"{"OutputFeature":"J"}"#] {
            assert!(hear(&mut radar, 1, answer).is_empty(), "{answer}");
        }
        for rubbish in
            ["{\"speed\":}", "inf", "1e5", "three", "{\"speed\":\"NaN\"}", "{\"speed\":1,\"unit\":\"knots\"}"]
        {
            assert!(hear(&mut radar, 1, rubbish).is_empty(), "{rubbish}");
        }
        assert_eq!((radar.counters().inputs, radar.counters().rejected), (0, 6));
    }

    #[test]
    fn an_angle_is_divided_out_and_costs_certainty() {
        let (angle, degree) = (45f64.to_radians(), 1f64.to_radians());
        let mut radar = Radar::new(Options { angle, angle_uncertainty: degree, ..Options::default() });
        let mut out = Vec::new();
        radar.on_bytes(BootNs(1), b"10.00\n", &mut out);
        let value = out[0].value.unwrap();
        assert!((value.value - 14.142_135_6).abs() < 1e-6);
        // 1.75 % of it, and half a step.
        assert!((value.uncertainty - 0.2481).abs() < 1e-3, "{value:?}");
    }

    #[test]
    fn it_is_set_up_once_and_told_when_it_does_not_answer() {
        let mut radar = Radar::new(Options::default());
        let (mut said, mut ms) = (String::new(), 0);
        while ms < 5000 {
            let mut out = Vec::new();
            radar.ask(BootNs(ms * MS), &mut out);
            said += std::str::from_utf8(&out).unwrap();
            ms += 10;
        }
        assert_eq!(said, "??UMOJOUF2BZ");
        assert!(radar.trouble().unwrap().contains("does not answer its set-up"));
        hear(&mut radar, 5000, r#"{"Units":"meters-per-second"}"#);
        assert_eq!(radar.trouble(), None);
        let mut replayed = Radar::new(Options { set_up: false, ..Options::default() });
        let mut out = Vec::new();
        replayed.ask(BootNs(1), &mut out);
        assert!(out.is_empty() && replayed.wakes().is_none());
    }

    #[test]
    fn silence_of_a_radar_that_is_there_is_no_target_and_no_zero() {
        let mut radar = Radar::new(Options { zero_is_standing: false, ..Options::default() });
        let tick = |radar: &mut Radar, ms: u64| {
            let mut out = Vec::new();
            radar.tick(BootNs(ms * MS), &mut out);
            out.first().map(|reading| reading.value.map(|value| value.value))
        };
        assert_eq!(tick(&mut radar, 100), Some(Err(NoData::Silent)));
        assert_eq!(hear(&mut radar, 500, "3.6"), [Ok(3.6)]);
        assert_eq!(tick(&mut radar, 1400), None);
        assert_eq!(tick(&mut radar, 1600), Some(Err(NoData::NoTarget)));
        assert_eq!(hear(&mut radar, 1700, "0.00"), [Err(NoData::NoTarget)]);
    }
}
