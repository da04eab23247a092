//! Speed of a drive or an encoder on a CANopen bus (CiA 301; CiA 402 for drives, CiA 406 for encoders).
//!
//! ```text
//! asked (SDO upload)  600+node   40 index(2, low first) sub 00 00 00 00
//!                     580+node   43 index sub d0 d1 d2 d3    four bytes; 4B two; 4F one; 47 three
//!                     580+node   80 index sub code(4)        refused
//! told (TPDO)         180+node.. the mapped bytes
//! heartbeat           700+node   state: 00 booting, 04 stopped, 05 operational, 7F pre-operational
//! ```
//! A drive whose heartbeat says that it is not operational has no value, whatever its process data say.

use std::time::Duration;

use embedded_can::{Frame as _, StandardId};
use speedwell_wire::{NoData, Quality};

use super::{
    ChannelSpec, Counters, Frame, FrameSensor, Reading, Sensor, TimedFrame, Value,
    field::{Field, Form, Order},
    said::Said,
    unit::Unit,
};
use crate::clock::BootNs;

/// Highest node number.
pub const NODE_MAX: u8 = 127;
/// Upload request, and the command's high bits of its answer.
const UPLOAD: u8 = 0x40;
const UPLOADED: u8 = 0x43;
const ABORTED: u8 = 0x80;
/// The state in which process data are valid.
const OPERATIONAL: u8 = 0x05;

/// Where the number comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// An entry of the object dictionary, asked for.
    Sdo {
        /// Index, as 606C for a drive's velocity.
        index: u16,
        /// Sub-index.
        sub: u8,
        /// Whether it is a signed number.
        signed: bool,
    },
    /// Process data the node sends by itself.
    Tpdo {
        /// Their identifier: 180, 280, 380 or 480 and the node's number, unless it was set otherwise.
        cob_id: u16,
        /// Where in them.
        field: Field,
    },
}

/// What to listen to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The node, 1 to [`NODE_MAX`].
    pub node: u8,
    /// Where the number comes from.
    pub source: Source,
    /// Of the unit, a step.
    pub scale: f64,
    /// Of the unit, at 0.
    pub offset: f64,
    /// What it is told in.
    pub unit: Unit,
    /// Report period; an SDO is asked for as often.
    pub report: Duration,
    /// Time for an answer.
    pub answer_within: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
    /// Ask. Off for a replay, where the answers come unasked.
    pub ask: bool,
}

/// A node on a bus.
#[derive(Debug)]
pub struct CanOpen {
    options: Options,
    channels: [ChannelSpec; 1],
    said: Said,
    heard: Option<BootNs>,
    /// The state its heartbeat told last, if one was heard.
    state: Option<u8>,
    due: Option<BootNs>,
    out_until: Option<BootNs>,
    abort: Option<u32>,
    counters: Counters,
}

impl CanOpen {
    /// One that has heard nothing.
    pub fn new(options: Options) -> Self {
        let (quantity, period) = (options.unit.quantity, options.report);
        let resolution_nano = options.unit.resolution_nano(options.scale, options.offset);
        // What is asked for is passed on as it comes.
        let pace = if matches!(options.source, Source::Sdo { .. }) { Duration::ZERO } else { period };
        Self {
            channels: [ChannelSpec { quantity, resolution_nano, period }],
            said: Said::new(pace),
            heard: None,
            state: None,
            due: None,
            out_until: None,
            abort: None,
            counters: Counters::default(),
            options,
        }
    }

    /// Identifiers that matter: the number's, and the heartbeat's.
    pub fn identifiers(options: &Options) -> [u16; 2] {
        let node = u16::from(options.node & NODE_MAX);
        let number = match options.source {
            Source::Sdo { .. } => 0x580 + node,
            Source::Tpdo { cob_id, .. } => cob_id,
        };
        [number, 0x700 + node]
    }

    fn say(&mut self, t: BootNs, value: Result<f64, NoData>, out: &mut Vec<Reading>) {
        if !self.said.passes(t, value.map(|_| ())) {
            return;
        }
        let Options { unit, scale, offset, .. } = self.options;
        let value = value.map(|number| Value {
            value: unit.si(number * scale + offset),
            // Half a step, evenly. What the drive's own sensor is worth is not told on the bus.
            uncertainty: unit.si(scale).abs() / 12f64.sqrt(),
            quality: Quality::Good,
        });
        out.push(Reading { channel: 0, t, value });
    }

    fn number(&mut self, t: BootNs, number: Option<f64>, out: &mut Vec<Reading>) {
        self.counters.inputs += 1;
        let Some(number) = number else {
            self.counters.rejected += 1;
            return;
        };
        self.heard = Some(t);
        let operational = self.state.is_none_or(|state| state == OPERATIONAL);
        self.say(t, if operational { Ok(number) } else { Err(NoData::NotAvailable) }, out);
    }

    fn uploaded(&mut self, t: BootNs, data: &[u8], out: &mut Vec<Reading>) {
        let Source::Sdo { index, sub, signed } = self.options.source else { return };
        let &[command, low, high, of_sub, ref rest @ ..] = data else { return };
        if u16::from_le_bytes([low, high]) != index || of_sub != sub {
            return;
        }
        self.out_until = None;
        if command == ABORTED {
            self.counters.inputs += 1;
            self.counters.rejected += 1;
            let code = <[u8; 4]>::try_from(rest).map_or(0, u32::from_le_bytes);
            self.abort = Some(code);
            return self.say(t, Err(NoData::NotAvailable), out);
        }
        // Expedited, with its size told: bits 2 and 3 are the bytes left unused.
        if command & !0x0C != UPLOADED {
            self.counters.rejected += 1;
            return;
        }
        self.abort = None;
        let bytes = 4 - u16::from(command >> 2 & 3);
        let form = if signed { Form::Signed } else { Form::Unsigned };
        let number = Field::new(0, bytes * 8, Order::Intel, form).ok().and_then(|field| field.value(rest));
        self.number(t, number, out);
    }
}

impl FrameSensor for CanOpen {
    fn on_frame(&mut self, timed: &TimedFrame<Frame>, out: &mut Vec<Reading>) {
        let frame = &timed.frame;
        if frame.is_extended() || frame.is_remote_frame() {
            return;
        }
        let id = frame.raw_id() as u16;
        let [number, heartbeat] = Self::identifiers(&self.options);
        if id == heartbeat {
            // A state of one byte; its highest bit toggles in the older node guarding.
            if let &[state] = frame.data() {
                self.state = Some(state & 0x7F);
                if state & 0x7F != OPERATIONAL {
                    self.say(timed.t, Err(NoData::NotAvailable), out);
                }
            }
            return;
        }
        if id != number {
            return;
        }
        match self.options.source {
            Source::Sdo { .. } => self.uploaded(timed.t, frame.data(), out),
            Source::Tpdo { field, .. } => self.number(timed.t, field.value(frame.data()), out),
        }
    }

    fn ask(&mut self, now: BootNs) -> Option<Frame> {
        let Source::Sdo { index, sub, .. } = self.options.source else { return None };
        let waits = self.out_until.is_some_and(|until| now < until);
        if !self.options.ask || waits || self.due.is_some_and(|due| now < due) {
            return None;
        }
        self.due = Some(now + self.options.report);
        self.out_until = Some(now + self.options.answer_within);
        let [low, high] = index.to_le_bytes();
        let id = StandardId::new(0x600 + u16::from(self.options.node & NODE_MAX))?;
        Frame::new(id, &[UPLOAD, low, high, sub, 0, 0, 0, 0])
    }

    fn wakes(&self) -> Option<BootNs> {
        let asks = self.options.ask && matches!(self.options.source, Source::Sdo { .. });
        asks.then(|| self.due.unwrap_or(BootNs(0)).max(self.out_until.unwrap_or(BootNs(0))))
    }
}

impl Sensor for CanOpen {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says that nothing is heard, when nothing is; values are said as they come.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        match self.heard {
            _ if self.abort.is_some() => self.say(now, Err(NoData::NotAvailable), out),
            None => self.say(now, Err(NoData::Silent), out),
            Some(last) if now.since(last) > self.options.timeout => self.say(now, Err(NoData::Stale), out),
            Some(_) => {}
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn trouble(&self) -> Option<String> {
        let node = self.options.node;
        if let (Some(code), Source::Sdo { index, sub, .. }) = (self.abort, self.options.source) {
            let why = meaning(code);
            return Some(format!("node {node} refuses object {index:04X}:{sub:02X}: {why} (code {code:08X})"));
        }
        let state = match self.state? {
            OPERATIONAL => return None,
            0x00 => "is booting",
            0x04 => "is stopped",
            0x7F => "is pre-operational",
            _ => "is in a state of its own",
        };
        Some(format!("node {node} {state}: its master has to set it operational (NMT 01)"))
    }
}

/// What an abort code means (CiA 301, table 22), and what to do.
fn meaning(code: u32) -> &'static str {
    match code {
        0x0504_0000 => "the transfer took too long",
        0x0504_0001 => "it does not know the command",
        0x0601_0000 | 0x0601_0001 => "it cannot be read; take another object of its EDS file",
        0x0602_0000 => "there is no such object; see its EDS file for the right index",
        0x0609_0011 => "there is no such sub-index; see its EDS file",
        0x0606_0000 => "its hardware failed",
        0x0800_0000 => "it gives no reason",
        0x0800_0020..=0x0800_0022 => "it cannot tell it in its present state",
        _ => "see the device's documentation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn frame(text: &str) -> Frame {
        let (id, data) = text.split_once('#').unwrap();
        let bytes: Vec<u8> =
            (0..data.len()).step_by(2).map(|i| u8::from_str_radix(&data[i..i + 2], 16).unwrap()).collect();
        Frame::new(StandardId::new(u16::from_str_radix(id, 16).unwrap()).unwrap(), &bytes).unwrap()
    }

    fn options(source: Source) -> Options {
        Options {
            node: 1,
            source,
            scale: 1.0,
            offset: 0.0,
            unit: Unit::named("rpm").unwrap(),
            report: Duration::from_millis(100),
            answer_within: Duration::from_millis(50),
            timeout: Duration::from_millis(500),
            ask: true,
        }
    }

    fn velocity() -> CanOpen {
        CanOpen::new(options(Source::Sdo { index: 0x606C, sub: 0, signed: true }))
    }

    fn hear(sensor: &mut CanOpen, ms: u64, text: &str) -> Option<Result<f64, NoData>> {
        let mut out = Vec::new();
        sensor.on_frame(&TimedFrame { t: BootNs(ms * MS), frame: frame(text) }, &mut out);
        out.first().map(|reading| reading.value.map(|value| value.value))
    }

    #[test]
    fn a_drive_is_asked_for_its_velocity_and_its_answers_are_numbers_of_their_size() {
        let mut sensor = velocity();
        let asked = sensor.ask(BootNs(MS)).unwrap();
        assert_eq!((asked.raw_id(), asked.data()), (0x601, &[0x40, 0x6C, 0x60, 0, 0, 0, 0, 0][..]));
        assert_eq!(sensor.ask(BootNs(2 * MS)), None, "one question at a time");
        assert_eq!(hear(&mut sensor, 3, "581#436C6000E8030000"), Some(Ok(1000.0)));
        assert_eq!(hear(&mut velocity(), 1, "581#436C600018FCFFFF"), Some(Ok(-1000.0)));
        assert_eq!(hear(&mut velocity(), 1, "581#4B6C600018FC0000"), Some(Ok(-1000.0)), "two bytes");
        assert_eq!(hear(&mut velocity(), 1, "581#4F6C6000FF000000"), Some(Ok(-1.0)), "one byte");
        assert_eq!(sensor.ask(BootNs(90 * MS)), None, "not yet");
        assert!(sensor.ask(BootNs(101 * MS)).is_some());
        for other in ["582#436C6000E8030000", "581#43646000E8030000", "581#436C6001E8030000", "581#416C6000", "581#"] {
            assert_eq!(hear(&mut velocity(), 1, other), None, "{other}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_code_and_the_remedy() {
        let mut sensor = velocity();
        assert_eq!(hear(&mut sensor, 1, "581#806C600000000206"), Some(Err(NoData::NotAvailable)));
        let told = sensor.trouble().unwrap();
        let wanted = "node 1 refuses object 606C:00: there is no such object; see its EDS file for the right index \
                      (code 06020000)";
        assert_eq!(told, wanted);
    }

    #[test]
    fn process_data_count_only_while_the_node_is_operational() {
        let field = Field::new(16, 16, Order::Intel, Form::Signed).unwrap();
        let mut sensor = CanOpen::new(options(Source::Tpdo { cob_id: 0x181, field }));
        assert_eq!(hear(&mut sensor, 1, "181#0000F6FF"), Some(Ok(-10.0)), "no heartbeat is heard: it is believed");
        assert_eq!(hear(&mut sensor, 200, "701#7F"), Some(Err(NoData::NotAvailable)));
        assert_eq!(hear(&mut sensor, 300, "181#00000A00"), Some(Err(NoData::NotAvailable)));
        assert!(sensor.trouble().unwrap().contains("pre-operational"));
        assert_eq!(hear(&mut sensor, 400, "701#05"), None);
        assert_eq!(hear(&mut sensor, 500, "181#00000A00"), Some(Ok(10.0)));
        assert_eq!(hear(&mut sensor, 700, "181#000A"), None, "too short");
        assert_eq!(sensor.counters().rejected, 1);
        assert_eq!(sensor.ask(BootNs(0)), None);
    }
}
