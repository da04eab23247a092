//! What a sensor says, out of what it sends.
//!
//! In      edges, CAN frames and serial bytes with the boot time they came at, from `board` or a recording.
//! Out     [`Reading`]s: a value with its uncertainty and quality, or a named reason why there is none.
//! Keeps   a few bytes of state a sensor; reads no clock, opens no file: the same bytes give the same readings.
//! Imports `clock`, the wire's words. No Linux in here.

pub mod canopen;
pub mod dbc;
pub mod field;
pub mod frame;
pub mod hall;
pub mod j1939;
pub mod line;
mod lines;
pub mod modbus;
pub mod nmea;
mod noise;
pub mod obd2;
mod pace;
pub mod radar;
mod said;
pub mod shaft;
pub mod ubx;
pub mod unit;

pub use frame::Frame;
pub(crate) use pace::Pace;

use std::time::Duration;

use speedwell_wire::{EventKind, NoData, Quality, Quantity};

use crate::clock::BootNs;

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// In the unit of the channel's quantity.
    pub value: f64,
    /// One standard deviation, same unit; NaN never, 0 where nothing is known.
    pub uncertainty: f64,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// What a sensor says of one of its channels at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Index into the sensor's [`Sensor::channels`].
    pub channel: usize,
    /// The time the value is true for; for a pulse sensor inside the window, not at its end.
    pub t: BootNs,
    /// The value, or why there is none.
    pub value: Result<Value, NoData>,
}

/// A channel of a sensor, as it will stand in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSpec {
    /// What is measured.
    pub quantity: Quantity,
    /// One step of a value in 1e-9 of the unit.
    pub resolution_nano: u64,
    /// Report period.
    pub period: Duration,
}

/// Counters every sensor keeps; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Edges, frames or sentences taken.
    pub inputs: u64,
    /// Known lost on the way: kernel overflow, merged interrupts.
    pub lost: u64,
    /// Suspected lost: a hole the phase has to confirm.
    pub suspected: u64,
    /// Put back by the estimator.
    pub repaired: u64,
    /// Refused as impossible, damaged or badly formed.
    pub rejected: u64,
}

/// What a sensor has to tell beside its readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub kind: EventKind,
    /// Particulars in words for a person.
    pub detail: String,
}

/// What all sensors have in common. The way in differs: edges, frames, bytes.
pub trait Sensor {
    /// The channels, fixed for the sensor's life.
    fn channels(&self) -> &[ChannelSpec];
    /// Says what there is to say at `now`; called at least once a report period, also when nothing came in.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>);
    /// What was taken, lost and refused so far.
    fn counters(&self) -> Counters;
    /// The first channel's value at `now`, for alarms and displays; `None` for a sensor that has nothing newer than its
    /// readings.
    fn live(&self, _now: BootNs) -> Option<Result<Value, NoData>> {
        None
    }
    /// Something a person should know of that no reading says, if there is news; asked for until there is none.
    fn notice(&mut self) -> Option<Notice> {
        None
    }
    /// UTC as a satellite receiver with a fix told it last, in ns since 1970, and the boot time it stands for.
    fn utc(&self) -> Option<(BootNs, i64)> {
        None
    }
    /// What is worth keeping over a restart, as bytes that only [`Sensor::remember`] reads.
    fn memory(&self) -> Option<Vec<u8>> {
        None
    }
    /// Goes on from what [`Sensor::memory`] gave before the restart. False when the bytes are not this sensor's or are
    /// damaged; nothing is changed then.
    fn remember(&mut self, _bytes: &[u8]) -> bool {
        false
    }
    /// What is wrong now, in words for who has to mend it, where the reason of the readings does not tell it all: a
    /// refusal's code, bytes that make no sense.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// A sensor that is fed with the edges of its lines.
pub trait EdgeSensor: Sensor {
    /// Takes an edge; what it means is said at the next tick.
    fn on_edge(&mut self, edge: &Edge);
}

/// A sensor that is fed with the frames of a CAN bus; one that has to be asked sends frames too.
pub trait FrameSensor: Sensor {
    /// Takes a frame, any frame of the bus, and says what it tells.
    fn on_frame(&mut self, frame: &TimedFrame<Frame>, out: &mut Vec<Reading>);
    /// The frame to send at `now`, if there is one; called again until there is none.
    fn ask(&mut self, _now: BootNs) -> Option<Frame> {
        None
    }
    /// When [`FrameSensor::ask`] or a tick is to be called again, if that is before the next tick.
    fn wakes(&self) -> Option<BootNs> {
        None
    }
}

/// A sensor that is fed with the bytes of a serial line; one that has to be asked or set up sends bytes too.
pub trait ByteSensor: Sensor {
    /// Takes bytes as they come, however they are cut, and says what they tell; `t` is when the first of them arrived.
    fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>);
    /// Puts into `out` what is to be sent at `now`, if anything.
    fn ask(&mut self, _now: BootNs, _out: &mut Vec<u8>) {}
    /// When [`ByteSensor::ask`] or a tick is to be called again, if that is before the next tick.
    fn wakes(&self) -> Option<BootNs> {
        None
    }
}

/// Which way the level went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EdgeKind {
    /// Low to high.
    Rising,
    /// High to low.
    Falling,
}

/// Who put the time on an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StampSource {
    /// The kernel, in the interrupt.
    Interrupt,
    /// This program, when it saw the level change.
    Polled,
    /// A recording or a simulation.
    Recorded,
}

/// One edge, stamped by whoever saw it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// When, CLOCK_BOOTTIME.
    pub t: BootNs,
    /// Index of the line in its capture.
    pub line: usize,
    /// Which way.
    pub kind: EdgeKind,
    /// The request's sequence number, counted in the interrupt where there are two lines or more; 0 when unknown.
    pub seqno: u32,
    /// The line's sequence number; 0 when unknown.
    pub line_seqno: u32,
}

/// Where edges come from: gpiocdev on Linux, a polled pin, a recording, a simulation, a timer capture on a controller.
pub trait EdgeCapture: Send {
    /// Why edges stopped coming; ends the capture.
    type Error: std::error::Error + Send + Sync + 'static;
    /// Waits at most `timeout` and appends what came, in order, to `edges` without allocating when it has room.
    fn next_batch(&mut self, timeout: Duration, edges: &mut Vec<Edge>) -> Result<(), Self::Error>;
    /// Interrupts of the lines since the capture was opened, where somebody else counts them too: a third count beside the
    /// events and their sequence numbers. `None` where nobody does.
    fn interrupts(&mut self) -> Option<u64> {
        None
    }
    /// Who stamps.
    fn stamp_source(&self) -> StampSource;
    /// The highest edge rate, Hz, that is worth believing; `None` when the kernel's stamps set no such limit.
    fn trusted_rate_hz(&self) -> Option<f64>;
}

/// A CAN frame with its time: embedded-can carries none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedFrame<F> {
    /// When it was received, CLOCK_BOOTTIME.
    pub t: BootNs,
    /// The frame.
    pub frame: F,
}
