//! Values a car's control units give when they are asked: OBD-II, SAE J1979 service 01, over ISO 15765-4.
//!
//! ```text
//! question   7DF or 7E0..7E7, or 18DB33F1 or 18DAxxF1   02 01 PID 55 55 55 55 55
//! answer     question's own id + 8, or 18DAF1xx         0L 41 PID data                  L: length, in a single frame
//! refusal                                               03 7F 01 code                   code 78: wait for it
//! ```
//! One question is out at a time; the next goes when it is answered or its time is over, and no sooner than a twentieth
//! of a second after the last. Where several units answer, the one with the lowest identifier is listened to, as long as
//! it is heard: they are never mixed. Padding and answers that nobody asked for are passed over.

use std::time::Duration;

use embedded_can::{ExtendedId, Frame as _, Id, StandardId};
use speedwell_wire::{NoData, Quality, Quantity};

use super::{
    ChannelSpec, Counters, Frame, FrameSensor, Reading, Sensor, TimedFrame, Value,
    said::Said,
    unit::{self, Unit},
};
use crate::clock::BootNs;

/// Service 01: current data.
const SERVICE: u8 = 0x01;
/// An answer is the service with this bit.
const ANSWER: u8 = 0x41;
const REFUSAL: u8 = 0x7F;
/// Refusal: the answer will come, later.
const PENDING: u8 = 0x78;
/// What ISO 15765-4 lets a unit take for an answer it has announced (P2*).
const PENDING_WITHIN: Duration = Duration::from_secs(5);
/// Least time between two questions: more than 20 a second disturb some vehicles' own traffic.
const APART: Duration = Duration::from_millis(50);
/// What fills a question up to eight bytes.
const PADDING: u8 = 0x55;
/// Most parameters of a sensor.
pub const PIDS_MAX: usize = 16;

/// A parameter, and how its bytes are a number: `value = raw * scale + offset`, high byte first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pid {
    /// Its number.
    pub pid: u8,
    /// Bytes of its value, 1 to 4.
    pub bytes: u8,
    /// Of the unit, a step.
    pub scale: f64,
    /// Of the unit, at 0.
    pub offset: f64,
    /// What it is told in.
    pub unit: Unit,
}

impl Pid {
    /// 0D: vehicle speed, whole km/h.
    pub const SPEED: Pid = Pid {
        pid: 0x0D,
        bytes: 1,
        scale: 1.0,
        offset: 0.0,
        unit: Unit { word: "km/h", quantity: Quantity::Speed, factor: unit::KMH },
    };
    /// 0C: engine speed, quarters of a turn a minute.
    pub const ENGINE_SPEED: Pid = Pid {
        pid: 0x0C,
        bytes: 2,
        scale: 0.25,
        offset: 0.0,
        unit: Unit { word: "rpm", quantity: Quantity::RotationalSpeed, factor: 1.0 },
    };

    fn value(&self, data: &[u8]) -> Option<f64> {
        let bytes = data.get(..usize::from(self.bytes))?;
        let raw = bytes.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
        Some(self.unit.si(raw as f64 * self.scale + self.offset))
    }

    /// Half a step, evenly: step/sqrt(12), 0.29 km/h for the vehicle's speed.
    fn uncertainty(&self) -> f64 {
        self.unit.si(self.scale).abs() / 12f64.sqrt()
    }
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every unit: 7DF, or 18DB33F1.
    All,
    /// One of them: 7E0 to 7E7 by its number 0 to 7; with 29-bit identifiers by its address.
    One(u8),
}

/// How the vehicle is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What for, one channel each; at most [`PIDS_MAX`].
    pub pids: Vec<Pid>,
    /// 29-bit identifiers instead of 11-bit ones.
    pub extended: bool,
    /// Who.
    pub target: Target,
    /// How often each is asked for.
    pub report: Duration,
    /// Time for an answer (P2): 50 ms by the standard; slow gateways take longer.
    pub answer_within: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
    /// Ask. Off for a replay, where the answers come unasked.
    pub ask: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pids: vec![Pid::SPEED],
            extended: false,
            target: Target::All,
            report: Duration::from_millis(500),
            answer_within: Duration::from_millis(100),
            timeout: Duration::from_millis(2000),
            ask: true,
        }
    }
}

/// A parameter's own state.
#[derive(Debug)]
struct Asked {
    pid: Pid,
    due: Option<BootNs>,
    said: Said,
    /// The unit listened to, and when it was last heard.
    heard: Option<(u32, BootNs)>,
    /// Since when, if ever, it has been refused.
    refused: bool,
}

/// A question that is out.
#[derive(Clone, Copy, Debug)]
struct Question {
    index: usize,
    until: BootNs,
}

/// The vehicle being asked.
#[derive(Debug)]
pub struct Obd2 {
    options: Options,
    channels: Vec<ChannelSpec>,
    asked: Vec<Asked>,
    out: Option<Question>,
    last_question: Option<BootNs>,
    refusal: Option<(u8, u8)>,
    counters: Counters,
}

impl Obd2 {
    /// One that has asked nothing. Channels are the parameters, in their order.
    pub fn new(mut options: Options) -> Self {
        options.pids.truncate(PIDS_MAX);
        let channel = |pid: &Pid| ChannelSpec {
            quantity: pid.unit.quantity,
            resolution_nano: pid.unit.resolution_nano(pid.scale, pid.offset),
            period: options.report,
        };
        let asked = |pid: &Pid| Asked {
            pid: *pid,
            due: None,
            // Each answer is worth passing on: they come no faster than they are asked for.
            said: Said::new(Duration::ZERO),
            heard: None,
            refused: false,
        };
        Self {
            channels: options.pids.iter().map(channel).collect(),
            asked: options.pids.iter().map(asked).collect(),
            out: None,
            last_question: None,
            refusal: None,
            counters: Counters::default(),
            options,
        }
    }

    /// The parameter that waits longest for its turn, if one is due.
    fn next_due(&self, now: BootNs) -> Option<usize> {
        let due = |asked: &Asked| asked.due.unwrap_or(BootNs(0));
        let (index, asked) = self.asked.iter().enumerate().min_by_key(|(_, asked)| due(asked))?;
        (due(asked) <= now).then_some(index)
    }

    fn question(&self, pid: u8) -> Option<Frame> {
        let data = [2, SERVICE, pid, PADDING, PADDING, PADDING, PADDING, PADDING];
        let id: Id = match (self.options.extended, self.options.target) {
            (false, Target::All) => StandardId::new(0x7DF)?.into(),
            (false, Target::One(unit)) => StandardId::new(0x7E0 + u16::from(unit & 7))?.into(),
            (true, Target::All) => ExtendedId::new(0x18DB_33F1)?.into(),
            (true, Target::One(unit)) => ExtendedId::new(0x18DA_00F1 | u32::from(unit) << 8)?.into(),
        };
        Frame::new(id, &data)
    }

    /// Whether an identifier is one that answers have.
    fn answers(&self, frame: &Frame) -> bool {
        let id = frame.raw_id();
        match (self.options.extended, frame.is_extended()) {
            (false, false) => match self.options.target {
                Target::All => (0x7E8..=0x7EF).contains(&id),
                Target::One(unit) => id == 0x7E8 + u32::from(unit & 7),
            },
            (true, true) => match self.options.target {
                Target::All => id & 0x1FFF_FF00 == 0x18DA_F100,
                Target::One(unit) => id == 0x18DA_F100 | u32::from(unit),
            },
            _ => false,
        }
    }

    fn answered(&mut self, t: BootNs, id: u32, pid: u8, data: &[u8], out: &mut Vec<Reading>) {
        let Some(index) = self.asked.iter().position(|asked| asked.pid.pid == pid) else { return };
        let (timeout, asked) = (self.options.timeout, &mut self.asked[index]);
        // The lowest identifier that is still heard.
        if asked.heard.is_some_and(|(chosen, last)| id > chosen && t.since(last) <= timeout) {
            return;
        }
        if self.out.is_some_and(|question| question.index == index) {
            self.out = None;
        }
        self.counters.inputs += 1;
        let Some(value) = asked.pid.value(data) else {
            self.counters.rejected += 1;
            return;
        };
        asked.heard = Some((id, t));
        asked.refused = false;
        if self.refusal.is_some_and(|(refused, _)| refused == pid) {
            self.refusal = None;
        }
        if asked.said.passes(t, Ok(())) {
            let value = Value { value, uncertainty: asked.pid.uncertainty(), quality: Quality::Good };
            out.push(Reading { channel: index, t, value: Ok(value) });
        }
    }

    fn refused(&mut self, t: BootNs, id: u32, code: u8, out: &mut Vec<Reading>) {
        // Whose question it was is not told: it is the one that is out.
        let Some(question) = self.out else { return };
        if code == PENDING {
            self.out = Some(Question { until: t + PENDING_WITHIN, ..question });
            return;
        }
        self.counters.inputs += 1;
        self.counters.rejected += 1;
        let asked = &mut self.asked[question.index];
        // Another unit may have answered this very question: one that does not know the parameter says so too.
        if asked.heard.is_none_or(|(chosen, last)| id == chosen || t.since(last) > self.options.timeout) {
            self.out = None;
            asked.refused = true;
            self.refusal = Some((asked.pid.pid, code));
            if asked.said.passes(t, Err(NoData::NotAvailable)) {
                out.push(Reading { channel: question.index, t, value: Err(NoData::NotAvailable) });
            }
        }
    }
}

impl FrameSensor for Obd2 {
    fn on_frame(&mut self, timed: &TimedFrame<Frame>, out: &mut Vec<Reading>) {
        let frame = &timed.frame;
        if frame.is_remote_frame() || !self.answers(frame) {
            return;
        }
        // A single frame: a length from 1 to 7 in the first byte, and at least so many behind it.
        let data = frame.data();
        let Some((&length, rest)) = data.split_first() else { return };
        let Some(message) = rest.get(..usize::from(length)).filter(|m| length <= 7 && m.len() >= 3) else { return };
        match *message {
            [ANSWER, pid, ..] => self.answered(timed.t, frame.raw_id(), pid, &message[2..], out),
            [REFUSAL, SERVICE, code, ..] => self.refused(timed.t, frame.raw_id(), code, out),
            _ => {}
        }
    }

    fn ask(&mut self, now: BootNs) -> Option<Frame> {
        if !self.options.ask {
            return None;
        }
        if self.out.is_some_and(|question| now < question.until) {
            return None;
        }
        self.out = None;
        if self.last_question.is_some_and(|last| now.since(last) < APART) {
            return None;
        }
        let index = self.next_due(now)?;
        let frame = self.question(self.asked[index].pid.pid)?;
        self.asked[index].due = Some(now + self.options.report.max(APART));
        self.last_question = Some(now);
        self.out = Some(Question { index, until: now + self.options.answer_within });
        Some(frame)
    }

    fn wakes(&self) -> Option<BootNs> {
        if !self.options.ask {
            return None;
        }
        let free = match (self.out, self.last_question) {
            (Some(question), _) => question.until,
            (None, Some(last)) => last + APART,
            (None, None) => BootNs(0),
        };
        let due = self.asked.iter().map(|asked| asked.due.unwrap_or(BootNs(0))).min()?;
        Some(free.max(due))
    }
}

impl Sensor for Obd2 {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says what is not heard; values are said as they come.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        for (channel, asked) in self.asked.iter_mut().enumerate() {
            let reason = match asked.heard {
                _ if asked.refused => NoData::NotAvailable,
                None => NoData::Silent,
                Some((_, last)) if now.since(last) > self.options.timeout => NoData::Stale,
                Some(_) => continue,
            };
            if asked.said.passes(now, Err(reason)) {
                out.push(Reading { channel, t: now, value: Err(reason) });
            }
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn trouble(&self) -> Option<String> {
        let (pid, code) = self.refusal?;
        Some(format!("the vehicle refuses PID {pid:02X}: {} (code {code:02X})", meaning(code)))
    }
}

/// What a refusal means (ISO 14229-1, negative response codes), and what to do.
fn meaning(code: u8) -> &'static str {
    match code {
        0x10 => "it gives no reason",
        0x11 => "it does not know service 01; is this vehicle an OBD-II one?",
        0x12 => "it does not have this value: take another PID, or ask another unit",
        0x13 => "it finds the question malformed; are 11-bit and 29-bit identifiers mixed up?",
        0x14 => "the answer is too long for one frame: take a PID with a shorter one",
        0x21 => "it is busy: ask less often",
        0x22 => "conditions are not right; is the ignition on?",
        0x31 => "the value is out of its range: take another PID",
        0x33..=0x36 => "access is locked; a gateway in the vehicle keeps testers out",
        _ => "see the vehicle's own documentation",
    }
}

#[cfg(test)]
mod tests;
