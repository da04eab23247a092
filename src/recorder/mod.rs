//! Readings become samples, samples become records.
//!
//! In      readings of every sensor, in the order each sensor says them.
//! Out     records of about a second for `spool`, the newest value of each channel for whoever watches.
//! Keeps   the samples of the record being filled, at most [`MAX_SAMPLES`], and the state of each channel.
//! Imports `estimator` (nothing of it yet), `sensor`, `clock`, the wire's words.
//!
//! A reading that has a value becomes a sample. One that has none becomes no sample: the hole in time is the record of
//! it, and the first such reading is told by an event that names the reason, as is the recovery.

pub mod fusion;
mod state;

use std::time::Duration;

use speedwell_wire::{
    Channel, Event, EventKind, Live, LiveValue, Loss, LossReason, Manifest, ManifestHash, NoData, Record, Samples,
    block::{self, Column, Sample, Uncertainty},
};

use crate::{
    clock::BootNs,
    sensor::{ChannelSpec, Reading, Value},
};
use state::SensorState;
pub use state::Trouble;

/// How long a record gathers samples, unless [`Recorder::gather_for`] says otherwise.
pub const RECORD_SPAN: Duration = Duration::from_secs(1);

/// Most samples in a record. 20 channels at 10 Hz make 200; the spool takes records of up to 8 KiB, and a sample of a
/// channel that jumps about costs 4 bytes.
pub const MAX_SAMPLES: usize = 2000;

/// Largest block handed to the spool, whose values end at 8 KiB; the rest is for the record's own head.
pub const MAX_BLOCK: usize = 7 * 1024;

/// The tick of sample times: a tenth of a millisecond is finer than any speed needs, and half the bits of a microsecond.
pub const TICK: Duration = Duration::from_micros(100);

/// A sensor, as the recorder has to know it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in the configuration.
    pub name: String,
    /// Its channels.
    pub channels: Vec<ChannelSpec>,
    /// Number of the calibration in force.
    pub calibration: u32,
}

/// Gathers readings into records.
pub struct Recorder {
    boot: u32,
    manifest: Manifest,
    hash: ManifestHash,
    /// First channel number of each sensor.
    first_channel: Vec<u16>,
    sensors: Vec<SensorState>,
    channels: Vec<ChannelState>,
    gathered: usize,
    since: Option<BootNs>,
    span: Duration,
    events: Vec<Event>,
    shed: u64,
}

/// A channel of the record being filled.
struct ChannelState {
    samples: Vec<Sample>,
    last_tick: Option<u64>,
    live: LiveValue,
}

impl Recorder {
    /// A recorder for these sensors in this boot. Channel numbers follow their order.
    pub fn new(sources: &[Source], boot: u32, now: BootNs) -> Self {
        let mut channels = Vec::new();
        let mut first_channel = Vec::new();
        for source in sources {
            first_channel.push(channels.len() as u16);
            for spec in &source.channels {
                channels.push(Channel {
                    id: channels.len() as u16,
                    sensor: source.name.clone(),
                    quantity: spec.quantity,
                    resolution_nano: spec.resolution_nano,
                    tick_ns: TICK.as_nanos() as u32,
                    period_ns: spec.period.as_nanos() as u64,
                    calibration: source.calibration,
                });
            }
        }
        let states = channels.iter().map(|channel| ChannelState {
            samples: Vec::new(),
            last_tick: None,
            live: LiveValue { channel: channel.id, t_ns: now.0, value: Err(NoData::Silent) },
        });
        let states = states.collect();
        let manifest = Manifest { channels };
        Self {
            boot,
            hash: manifest.hash(),
            manifest,
            first_channel,
            sensors: sources.iter().map(|source| SensorState::new(&source.name)).collect(),
            channels: states,
            gathered: 0,
            since: None,
            span: RECORD_SPAN,
            events: Vec::new(),
            shed: 0,
        }
    }

    /// Goes on with other sensors. Gives what has gathered until now, which is read with the channels there were. A sensor
    /// that stays keeps its trouble; a channel that stays keeps its newest value, and takes none that is not later than
    /// its last.
    #[must_use]
    pub fn change(&mut self, sources: &[Source], now: BootNs) -> Vec<Record> {
        let gathered = self.due(now, true);
        let mut next = Recorder::new(sources, self.boot, now);
        next.span = self.span;
        for sensor in &mut next.sensors {
            if let Some(old) = self.sensors.iter_mut().find(|old| old.name() == sensor.name()) {
                std::mem::swap(sensor, old);
            }
        }
        for (channel, state) in next.manifest.channels.iter().zip(&mut next.channels) {
            let is_it = |old: &Channel| old.sensor == channel.sensor && old.quantity == channel.quantity;
            if let Some(old) = self.manifest.channels.iter().position(is_it) {
                let old = &self.channels[old];
                (state.last_tick, state.live.t_ns, state.live.value) = (old.last_tick, old.live.t_ns, old.live.value);
            }
        }
        *self = next;
        gathered
    }

    /// Cuts a record when this long has gone by since its first sample came.
    pub fn gather_for(&mut self, span: Duration) {
        self.span = span;
    }

    /// The channel list of every record this recorder makes.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Takes one reading of sensor number `sensor`. A reading not later than the channel's last is dropped: its
    /// time is what tells samples apart.
    pub fn take(&mut self, sensor: usize, reading: &Reading, now: BootNs) {
        let Some(&first) = self.first_channel.get(sensor) else { return };
        let index = usize::from(first) + reading.channel;
        let (Some(state), Some(channel)) = (self.channels.get_mut(index), self.manifest.channels.get(index)) else {
            return;
        };
        state.live.t_ns = reading.t.0;
        match reading.value {
            Ok(value) => {
                let tick = reading.t.0 / u64::from(channel.tick_ns);
                if state.last_tick.is_some_and(|last| tick <= last) {
                    return;
                }
                let sample = Sample {
                    tick,
                    value: channel.quantise(value.value),
                    uncertainty: Uncertainty::of(value.uncertainty, channel.resolution()),
                    quality: value.quality,
                };
                state.last_tick = Some(tick);
                state.live.value = Ok((channel.value(sample.value), value.uncertainty as f32, value.quality));
                if self.gathered >= MAX_SAMPLES {
                    self.shed += 1;
                } else {
                    state.samples.push(sample);
                    self.gathered += 1;
                    self.since.get_or_insert(now);
                }
            }
            Err(reason) => state.live.value = Err(reason),
        }
        let reason = reading.value.err();
        if let Some((kind, detail)) = self.sensors[sensor].on_reading(reading.channel, reason, now) {
            self.push_event(kind, Some(sensor), detail, now);
        }
    }

    /// Sensor number `sensor` could not be opened or stopped working; `detail` says why and what to do.
    pub fn fault(&mut self, sensor: usize, detail: &str, now: BootNs) {
        let (Some(&first), Some(state)) = (self.first_channel.get(sensor), self.sensors.get_mut(sensor)) else {
            return;
        };
        let event = state.on_fault(detail, now);
        let end = self.first_channel.get(sensor + 1).map_or(self.channels.len(), |&next| usize::from(next));
        for channel in &mut self.channels[usize::from(first)..end] {
            channel.live.value = Err(NoData::Fault);
            channel.live.t_ns = now.0;
        }
        if let Some((kind, detail)) = event {
            self.push_event(kind, Some(sensor), detail, now);
        }
    }

    /// The value of a sensor's first channel now, for who watches; it is newer than its samples and is not kept.
    pub fn show(&mut self, sensor: usize, t: BootNs, value: Result<Value, NoData>) {
        let Some(&first) = self.first_channel.get(sensor) else { return };
        let index = usize::from(first);
        if let (Some(state), Some(channel)) = (self.channels.get_mut(index), self.manifest.channels.get(index)) {
            state.live.t_ns = t.0;
            state.live.value = value
                .map(|value| (channel.value(channel.quantise(value.value)), value.uncertainty as f32, value.quality));
        }
    }

    /// Something a person should know of sensor number `sensor`.
    pub fn notice(&mut self, sensor: usize, kind: EventKind, detail: String, now: BootNs) {
        self.push_event(kind, Some(sensor), detail, now);
    }

    /// Sensor number `sensor` tells in words what is wrong with it, until it tells `None`: they stand in the place of what
    /// the reasons of its readings mean in general.
    pub fn explain(&mut self, sensor: usize, words: Option<String>) {
        if let Some(state) = self.sensors.get_mut(sensor) {
            state.explain(words);
        }
    }

    /// Something happened that concerns no sensor.
    pub fn event(&mut self, kind: EventKind, detail: String, now: BootNs) {
        self.push_event(kind, None, detail, now);
    }

    /// `samples` samples were lost on the way here; the next record says so.
    pub fn shed(&mut self, samples: u64) {
        self.shed += samples;
    }

    /// The records that are due at `now`: events and losses at once, samples when a second of them has gathered or
    /// the record is full. With `all`, whatever there is.
    pub fn due(&mut self, now: BootNs, all: bool) -> Vec<Record> {
        let mut records: Vec<Record> = self.events.drain(..).map(Record::Event).collect();
        if self.shed > 0 {
            let at = Some((self.boot, now.0));
            let samples = std::mem::take(&mut self.shed);
            records.push(Record::Loss(Loss { reason: LossReason::Overrun, records: 0, samples, from: at, until: at }));
        }
        let full = self.gathered >= MAX_SAMPLES;
        let ripe = self.since.is_some_and(|since| now.since(since) >= self.span);
        if self.gathered > 0 && (all || full || ripe) {
            self.cut(&mut records);
        }
        records
    }

    /// Turns what has gathered into samples records, each small enough for the spool.
    fn cut(&mut self, records: &mut Vec<Record>) {
        let columns = self.manifest.channels.iter().zip(&mut self.channels);
        let columns = columns
            .filter(|(_, state)| !state.samples.is_empty())
            .map(|(channel, state)| Column { channel: channel.id, samples: std::mem::take(&mut state.samples) });
        let columns: Vec<Column> = columns.collect();
        self.gathered = 0;
        self.since = None;
        self.encode(columns, records);
    }

    fn encode(&mut self, columns: Vec<Column>, records: &mut Vec<Record>) {
        let block = block::encode(&columns, &self.manifest);
        let longest = columns.iter().map(|column| column.samples.len()).max().unwrap_or(0);
        if block.len() <= MAX_BLOCK || (longest <= 1 && columns.len() <= 1) {
            records.push(Record::Samples(Samples { manifest: self.hash, boot: self.boot, block }));
            return;
        }
        let (early, late) = halves(columns, longest);
        self.encode(early, records);
        self.encode(late, records);
    }

    /// The newest value of each channel.
    pub fn live(&self, now: BootNs) -> Live {
        let values = self.channels.iter().map(|channel| channel.live).collect();
        Live { manifest: self.hash, boot: self.boot, now_ns: now.0, values }
    }

    /// What is wrong with each sensor, in their order.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, Option<&Trouble>)> {
        self.sensors.iter().map(|sensor| (sensor.name(), sensor.trouble()))
    }

    fn push_event(&mut self, kind: EventKind, sensor: Option<usize>, mut detail: String, now: BootNs) {
        while detail.len() > Event::MAX_DETAIL {
            detail.pop();
        }
        let sensor = sensor.and_then(|sensor| self.sensors.get(sensor)).map(|state| state.name().to_owned());
        self.events.push(Event { boot: self.boot, t_ns: now.0, sensor, kind, detail });
    }
}

/// Splits by time where columns are long, by channel where they are not.
fn halves(mut columns: Vec<Column>, longest: usize) -> (Vec<Column>, Vec<Column>) {
    if longest <= 1 {
        let late = columns.split_off(columns.len() / 2);
        return (columns, late);
    }
    let mut late = Vec::new();
    for column in &mut columns {
        let rest = column.samples.split_off(column.samples.len().min(longest / 2));
        if !rest.is_empty() {
            late.push(Column { channel: column.channel, samples: rest });
        }
    }
    columns.retain(|column| !column.samples.is_empty());
    (columns, late)
}

#[cfg(test)]
mod tests;
