//! One device, and the number it is asked for.

use std::time::Duration;

use speedwell_wire::{NoData, Quality};

use super::frame::Question;
use crate::{
    clock::BootNs,
    sensor::{ChannelSpec, Counters, Reading, Sensor, Value, noise::Noise, said::Said, unit::Unit},
};

/// Longest wait before a slave that does not answer is asked again.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Doublings up to there, whatever the report period.
const DOUBLINGS: u32 = 16;

/// Which registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Function 03.
    Holding,
    /// Function 04.
    Input,
}

impl Table {
    pub(super) fn function(self) -> u8 {
        match self {
            Table::Holding => 3,
            Table::Input => 4,
        }
    }

    pub(super) fn of(function: u8) -> Option<Self> {
        match function {
            3 => Some(Table::Holding),
            4 => Some(Table::Input),
            _ => None,
        }
    }
}

/// What the registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One register, a natural number.
    U16,
    /// One register, two's complement.
    I16,
    /// Two registers, a natural number.
    U32,
    /// Two registers, two's complement.
    I32,
    /// Two registers, IEEE 754.
    F32,
}

impl Format {
    pub(super) fn registers(self) -> u8 {
        match self {
            Format::U16 | Format::I16 => 1,
            Format::U32 | Format::I32 | Format::F32 => 2,
        }
    }
}

/// How the bytes of two registers lie on the line, A being the highest of the number. Of one register only whether its
/// bytes are swapped counts (`BADC`, `DCBA`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// High register first, high byte first: as Modbus is meant.
    #[default]
    Abcd,
    /// Low register first.
    Cdab,
    /// High register first, each with its low byte first.
    Badc,
    /// Low byte first throughout.
    Dcba,
}

/// What is asked for, and what it means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The device, 1 to 247.
    pub slave: u8,
    /// Which registers.
    pub table: Table,
    /// The first of them, from 0.
    pub register: u16,
    /// What they hold.
    pub format: Format,
    /// How their bytes lie.
    pub order: Order,
    /// A number, as its bits, that says that there is none: 7FFF, 8000, FFFFFFFF.
    pub invalid: Option<u32>,
    /// Of the unit, a step.
    pub scale: f64,
    /// Of the unit, at 0.
    pub offset: f64,
    /// What it is told in.
    pub unit: Unit,
    /// How often it is asked for.
    pub report: Duration,
    /// Time for the first byte of an answer.
    pub answer_within: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
}

/// A device that is not to be asked before a time, because its answer to the question before may still come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hush {
    pub(super) slave: u8,
    pub(super) until: BootNs,
}

/// A device on the line.
#[derive(Debug)]
pub struct Slave {
    pub(super) options: Options,
    channels: [ChannelSpec; 1],
    said: Said,
    /// When it last answered or refused.
    heard: Option<BootNs>,
    pub(super) due: BootNs,
    /// Questions in a row without an answer.
    unanswered: u32,
    /// The code of the refusal, where that was the last it said.
    refusal: Option<u8>,
    /// How long after the question an answer came, where that was too late.
    late: Option<Duration>,
    /// Nothing can be asked, because the line has no pause.
    pub(super) never_quiet: bool,
    pub(super) noise: Noise,
    counters: Counters,
}

impl Slave {
    pub(super) fn new(options: Options) -> Self {
        let step = if options.format == Format::F32 { 0.0 } else { options.scale };
        let resolution_nano = match step {
            // A floating-point number has no step.
            0.0 => options.unit.resolution_nano(1.0, 0.5),
            step => options.unit.resolution_nano(step, options.offset),
        };
        Self {
            channels: [ChannelSpec { quantity: options.unit.quantity, resolution_nano, period: options.report }],
            said: Said::new(Duration::ZERO),
            heard: None,
            due: BootNs(0),
            unanswered: 0,
            refusal: None,
            late: None,
            never_quiet: false,
            noise: Noise::default(),
            counters: Counters::default(),
            options,
        }
    }

    pub(super) fn question(&self) -> Question {
        let Options { slave, table, register, format, .. } = self.options;
        Question { slave, table, register, count: format.registers() }
    }

    /// It was asked: it is its turn again after a report period, counted from when it was due.
    pub(super) fn asked(&mut self, now: BootNs) {
        let next = self.due + self.options.report;
        self.due = if next > now { next } else { now + self.options.report };
    }

    /// It did not answer.
    pub(super) fn passed_over(&mut self, now: BootNs) {
        self.unanswered = (self.unanswered + 1).min(DOUBLINGS);
        if self.unanswered > 1 {
            self.due = now + (self.options.report * (1 << (self.unanswered - 1))).min(WAIT_MAX);
        }
    }

    /// It is left alone, when it is that device.
    pub(super) fn hush(&mut self, hush: Hush) {
        if hush.slave == self.options.slave {
            self.due = self.due.max(hush.until);
        }
    }

    /// An answer came so long after the question, when it had been given up.
    pub(super) fn was_late(&mut self, after: Duration) {
        self.counters.rejected += 1;
        self.late = Some(after);
    }

    pub(super) fn refused(&mut self, t: BootNs, code: u8, out: &mut Vec<Reading>) {
        self.answered(t);
        self.counters.rejected += 1;
        self.refusal = Some(code);
        self.say(t, Err(NoData::NotAvailable), out);
    }

    pub(super) fn take(&mut self, t: BootNs, data: &[u8], out: &mut Vec<Reading>) {
        self.answered(t);
        self.refusal = None;
        let value = self.number(data).ok_or(NoData::NotAvailable).map(|number| {
            let Options { unit, scale, offset, format, .. } = self.options;
            // Half a step, evenly. Of a floating-point number nobody knows how it was rounded.
            let step = if format == Format::F32 { 0.0 } else { scale };
            let uncertainty = unit.si(step).abs() / 12f64.sqrt();
            Value { value: unit.si(number * scale + offset), uncertainty, quality: Quality::Good }
        });
        self.say(t, value, out);
    }

    fn answered(&mut self, t: BootNs) {
        self.counters.inputs += 1;
        self.heard = Some(t);
        self.unanswered = 0;
        self.late = None;
        self.noise.made_sense();
    }

    /// The number in an answer's data, where it is one.
    fn number(&self, data: &[u8]) -> Option<f64> {
        let raw = match (data, self.options.order) {
            (&[a, b], Order::Abcd | Order::Cdab) => u32::from_be_bytes([0, 0, a, b]),
            (&[a, b], Order::Badc | Order::Dcba) => u32::from_be_bytes([0, 0, b, a]),
            (&[a, b, c, d], Order::Abcd) => u32::from_be_bytes([a, b, c, d]),
            (&[a, b, c, d], Order::Cdab) => u32::from_be_bytes([c, d, a, b]),
            (&[a, b, c, d], Order::Badc) => u32::from_be_bytes([b, a, d, c]),
            (&[a, b, c, d], Order::Dcba) => u32::from_be_bytes([d, c, b, a]),
            _ => return None,
        };
        if self.options.invalid == Some(raw) {
            return None;
        }
        let number = match self.options.format {
            Format::U16 | Format::U32 => f64::from(raw),
            Format::I16 => f64::from(raw as u16 as i16),
            Format::I32 => f64::from(raw as i32),
            Format::F32 => f64::from(f32::from_bits(raw)),
        };
        number.is_finite().then_some(number)
    }

    fn say(&mut self, t: BootNs, value: Result<Value, NoData>, out: &mut Vec<Reading>) {
        if self.said.passes(t, value.map(|_| ())) {
            out.push(Reading { channel: 0, t, value });
        }
    }
}

impl Sensor for Slave {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says that it does not answer, when it does not; values are said as they come. What a device refused before it fell
    /// silent is no longer so.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        let quiet = self.heard.is_none_or(|last| now.since(last) > self.options.timeout);
        if quiet {
            self.refusal = None;
        }
        match self.heard {
            _ if quiet && self.never_quiet => self.say(now, Err(NoData::Fault), out),
            None => self.say(now, Err(NoData::Silent), out),
            Some(_) if quiet => self.say(now, Err(NoData::Stale), out),
            Some(_) if self.refusal.is_some() => self.say(now, Err(NoData::NotAvailable), out),
            Some(_) => {}
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn trouble(&self) -> Option<String> {
        let Options { slave, register, .. } = self.options;
        if let Some(code) = self.refusal {
            let why = meaning(code);
            return Some(format!("slave {slave} refuses register {register}: {why} (exception {code:02X})"));
        }
        if self.never_quiet {
            return Some(format!(
                "slave {slave} cannot be asked, because the line is never quiet: a second master on it, A and B swapped, \
                 no termination, or a wrong `baud`; only one master may ask on a line"
            ));
        }
        if self.unanswered == 0 {
            return None;
        }
        if let Some(late) = self.late {
            let (late, within) = (late.as_millis(), self.options.answer_within.as_millis());
            return Some(format!(
                "slave {slave} answered {late} ms after it was asked, and `answer-within` gives it {within} ms: raise that"
            ));
        }
        self.noise.trouble("an answer", "with `parity` and `stop-bits` as the device has them").or_else(|| {
            Some(format!(
                "slave {slave} does not answer: check its number, baud rate and parity, and that A and B are not swapped"
            ))
        })
    }
}

/// What an exception means (Modbus application protocol, 7), and what to do.
fn meaning(code: u8) -> &'static str {
    match code {
        0x01 => "it does not know this table; is it `holding` or `input`?",
        0x02 => "it has no such register; manuals count from 1 or from 40001, the line from 0",
        0x03 => "it does not give so many registers from there; is the format right?",
        0x04 => "it failed while it looked",
        0x05 | 0x06 => "it is busy: ask less often",
        0x0A | 0x0B => "the gateway before it cannot reach it",
        _ => "see the device's documentation",
    }
}
