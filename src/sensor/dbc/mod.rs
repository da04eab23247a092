//! A signal that a DBC file describes.
//!
//! The file names a message and a signal in it; the sensor takes the frames with the message's identifier and reads the
//! number, with nothing assumed about its range: a DBC file has no way to say "not available" (J1939's own way is the
//! driver [`super::j1939`]). Frames too short for the signal are refused. A counter that senders put into such messages,
//! where it is named, tells a sender that repeats itself from one that speaks: a counter that stands still for more than
//! [`STUCK_FRAMES`] frames makes the value stale.

mod file;
#[cfg(test)]
mod vectors;

use std::{sync::Arc, time::Duration};

use embedded_can::Frame as _;
use speedwell_wire::{NoData, Quality};

pub use file::{BadLine, Condition, DbcFile, MAX_FILE, MAX_MESSAGES, MAX_SIGNALS, Message, Signal};

use super::{
    ChannelSpec, Counters, Frame, FrameSensor, Reading, Sensor, TimedFrame, Value, field::Form, said::Said, unit::Unit,
};
use crate::clock::BootNs;

/// Frames with the same counter after which nobody is speaking any more.
pub const STUCK_FRAMES: u32 = 5;

/// Bits of a 29-bit identifier that say what a J1939 message is, whoever sends it.
const PGN_BITS: u32 = 0x03FF_FF00;

/// What to listen to.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The message.
    pub message: Arc<Message>,
    /// Index of the signal in it.
    pub signal: usize,
    /// Index of a counter in it.
    pub counter: Option<usize>,
    /// What the signal's value is told in.
    pub unit: Unit,
    /// Take the message whatever its priority and its sender, as on a J1939 bus. The first sender heard is listened to
    /// until it falls silent.
    pub any_sender: bool,
    /// Report period.
    pub report: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
}

/// A signal on a bus.
#[derive(Debug)]
pub struct Dbc {
    options: Options,
    channels: [ChannelSpec; 1],
    said: Said,
    heard: Option<(u32, BootNs)>,
    counter: Option<u64>,
    repeats: u32,
    counters: Counters,
}

impl Dbc {
    /// One that has heard nothing.
    pub fn new(options: Options) -> Self {
        let (step, offset) = options.message.signals.get(options.signal).map_or((1.0, 0.0), |s| match s.field.form() {
            // A floating-point number has no step.
            Form::Float => (0.0, 0.0),
            _ => (s.scale, s.offset),
        });
        let (quantity, period) = (options.unit.quantity, options.report);
        let resolution_nano = match step {
            0.0 => options.unit.resolution_nano(1.0, 0.5),
            step => options.unit.resolution_nano(step, offset),
        };
        Self {
            channels: [ChannelSpec { quantity, resolution_nano, period }],
            said: Said::new(period),
            heard: None,
            counter: None,
            repeats: 0,
            counters: Counters::default(),
            options,
        }
    }

    fn is_ours(&self, frame: &Frame, t: BootNs) -> bool {
        let (id, message) = (frame.raw_id(), &self.options.message);
        if frame.is_extended() != message.extended || frame.is_remote_frame() {
            return false;
        }
        if !(self.options.any_sender && message.extended) {
            return id == message.id;
        }
        let chosen = |(chosen, last)| id == chosen || t.since(last) > self.options.timeout;
        (id ^ message.id) & PGN_BITS == 0 && self.heard.is_none_or(chosen)
    }

    /// Whether the counter has stood still for too long.
    fn is_stuck(&mut self, payload: &[u8]) -> bool {
        let message = &self.options.message;
        let counter = self.options.counter.and_then(|at| message.signals.get(at)?.field.raw(payload));
        let Some(counter) = counter else { return false };
        self.repeats = if self.counter == Some(counter) { self.repeats.saturating_add(1) } else { 0 };
        self.counter = Some(counter);
        self.repeats > STUCK_FRAMES
    }

    fn say(&mut self, t: BootNs, value: Result<Value, NoData>, out: &mut Vec<Reading>) {
        if self.said.passes(t, value.map(|_| ())) {
            out.push(Reading { channel: 0, t, value });
        }
    }
}

impl FrameSensor for Dbc {
    fn on_frame(&mut self, timed: &TimedFrame<Frame>, out: &mut Vec<Reading>) {
        if !self.is_ours(&timed.frame, timed.t) {
            return;
        }
        let (payload, signal) = (timed.frame.data(), self.options.signal);
        self.counters.inputs += 1;
        // A message whose multiplexor has another value says nothing of the signal, and says that its sender is there.
        if !self.options.message.is_there(signal, payload) {
            return;
        }
        let Some(value) = self.options.message.value(signal, payload) else {
            self.counters.rejected += 1;
            return;
        };
        if self.is_stuck(payload) {
            self.counters.rejected += 1;
            return self.say(timed.t, Err(NoData::Stale), out);
        }
        self.heard = Some((timed.frame.raw_id(), timed.t));
        let unit = self.options.unit;
        let of = &self.options.message.signals[signal];
        // Half a step, evenly. Of a floating-point number nobody knows how it was rounded.
        let step = if of.field.form() == Form::Float { 0.0 } else { of.scale };
        let uncertainty = unit.si(step).abs() / 12f64.sqrt();
        self.say(timed.t, Ok(Value { value: unit.si(value), uncertainty, quality: Quality::Good }), out);
    }
}

impl Sensor for Dbc {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says that nothing is heard, when nothing is; values are said as they come.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        match self.heard {
            None => self.say(now, Err(NoData::Silent), out),
            Some((_, last)) if now.since(last) > self.options.timeout => self.say(now, Err(NoData::Stale), out),
            Some(_) => {}
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn trouble(&self) -> Option<String> {
        (self.repeats > STUCK_FRAMES).then(|| {
            let name = self.options.counter.and_then(|at| self.options.message.signals.get(at)).map(|s| &s.name);
            let name = name.map_or("counter", String::as_str);
            format!(
                "the counter {name} of {} stands still: the sender repeats an old message",
                self.options.message.name
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use embedded_can::{ExtendedId, StandardId};

    use super::*;

    const MS: u64 = 1_000_000;
    const FILE: &str = "BO_ 464 WHEEL_SPEEDS: 8 VSA\n SG_ FL : 7|15@0+ (0.01,0) [0|250] \"kph\" EON\n \
                        SG_ FR : 8|15@0+ (0.01,0) [0|250] \"kph\" EON\n SG_ COUNTER : 61|2@0+ (1,0) [0|3] \"\" EON\n\
                        BO_ 2566844926 CCVS1: 8 X\n SG_ Speed : 8|16@1+ (0.00390625,0) [0|250] \"km/h\" X\n\
                        BO_ 768 CHASSIS: 64 X\n SG_ Far : 480|16@1+ (0.01,0) [0|600] \"km/h\" X\n \
                        SG_ FarHigh : 503|16@0+ (0.01,0) [0|600] \"km/h\" X\n";

    fn sensor(message: &str, signal: &str, any_sender: bool) -> Dbc {
        let file = DbcFile::parse(FILE.as_bytes());
        let message = Arc::new(file.message(message).unwrap().clone());
        Dbc::new(Options {
            signal: message.signal(signal).unwrap(),
            counter: message.signal("COUNTER"),
            message,
            unit: Unit::named("km/h").unwrap(),
            any_sender,
            report: Duration::from_millis(10),
            timeout: Duration::from_millis(300),
        })
    }

    fn hear(sensor: &mut Dbc, ms: u64, id: u32, data: &[u8]) -> Option<Result<f64, NoData>> {
        let frame = match id {
            0..=0x7FF => Frame::new(StandardId::new(id as u16).unwrap(), data),
            _ => Frame::new(ExtendedId::new(id).unwrap(), data),
        };
        let mut out = Vec::new();
        sensor.on_frame(&TimedFrame { t: BootNs(ms * MS), frame: frame.unwrap() }, &mut out);
        out.first().map(|reading| reading.value.map(|v| (v.value * 3.6 * 1e9).round() / 1e9))
    }

    #[test]
    fn a_wheel_of_a_real_car_is_read() {
        let mut fl = sensor("WHEEL_SPEEDS", "FL", false);
        let data = [0x01, 0xF8, 0x04, 0x34, 0x07, 0x78, 0x10, 0x6A];
        assert_eq!(hear(&mut fl, 1, 0x1D0, &data), Some(Ok(2.52)));
        assert_eq!(hear(&mut sensor("WHEEL_SPEEDS", "FR", false), 1, 0x1D0, &data), Some(Ok(2.69)));
        assert_eq!(hear(&mut fl, 100, 0x1D1, &data), None);
        assert_eq!(hear(&mut fl, 100, 0x1D0, &data[..1]), None, "too short");
        assert_eq!((fl.counters().inputs, fl.counters().rejected), (2, 1));
    }

    #[test]
    fn a_signal_beyond_the_eighth_byte_comes_with_a_can_fd_frame() {
        let mut data = [0u8; 64];
        (data[60], data[61]) = (0x10, 0x27);
        (data[62], data[63]) = (0x27, 0x10);
        let say = |signal, len| {
            let frame = Frame::new_fd(StandardId::new(0x300).unwrap(), &data[..len]).unwrap();
            let (mut sensor, mut out) = (sensor("CHASSIS", signal, false), Vec::new());
            sensor.on_frame(&TimedFrame { t: BootNs(1), frame }, &mut out);
            (out.first().map(|reading| (reading.value.unwrap().value * 3.6).round()), sensor.counters().rejected)
        };
        assert_eq!(say("Far", 64), (Some(100.0), 0));
        assert_eq!(say("FarHigh", 64), (Some(100.0), 0));
        assert_eq!(say("Far", 48), (None, 1), "too short for it");
    }

    #[test]
    fn a_counter_that_stands_still_makes_it_stale_and_is_told() {
        let mut fl = sensor("WHEEL_SPEEDS", "FL", false);
        let data = |counter: u8| [0x01, 0xF8, 0, 0, 0, 0, 0, counter << 4];
        let said: Vec<_> = (0..8).map(|k| hear(&mut fl, 100 * (k + 1), 0x1D0, &data(1))).collect();
        assert_eq!(said[5], Some(Ok(2.52)));
        assert_eq!(said[6], Some(Err(NoData::Stale)));
        assert!(fl.trouble().unwrap().starts_with("the counter COUNTER of WHEEL_SPEEDS stands still"));
        assert_eq!(hear(&mut fl, 1000, 0x1D0, &data(2)), Some(Ok(2.52)));
        assert_eq!(fl.trouble(), None);
    }

    #[test]
    fn a_truck_s_message_is_taken_from_whoever_sends_it_but_only_from_one() {
        let data = [0xFF, 0x00, 0x80, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        let mut any = sensor("CCVS1", "Speed", true);
        assert_eq!(hear(&mut any, 1, 0x0CFE_F100, &data), Some(Ok(128.0)));
        assert_eq!(hear(&mut any, 100, 0x18FE_F147, &data), None, "another sender");
        assert_eq!(hear(&mut any, 500, 0x18FE_F147, &data), Some(Ok(128.0)), "the first fell silent");
        let mut exact = sensor("CCVS1", "Speed", false);
        assert_eq!(hear(&mut exact, 1, 0x0CFE_F100, &data), None);
        assert_eq!(hear(&mut exact, 2, 0x18FE_F1FE, &data), Some(Ok(128.0)));
    }
}
