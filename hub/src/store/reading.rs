//! Single readings, of whoever is no gateway of ours.

use std::collections::BTreeMap;

use speedwell_wire::{GatewayId, LogId, Quality, Quantity};

use super::{Latest, Newest};

/// Readings of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Readings {
    /// Who gave them: the scope of `key`.
    pub source: String,
    /// The giver's name for this request: the same again stores nothing and gets the first answer.
    pub key: Option<String>,
    /// SHA-256 of the request, so that one key for two requests is seen.
    pub digest: [u8; 32],
    /// When it arrived, UTC ns.
    pub received_ns: i64,
    /// The readings. One whose value is no number is passed over.
    pub items: Vec<Reading>,
}

/// One reading. Device, sensor, quantity and time are its name: the same again is a duplicate, and the first stays.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Whose.
    pub device: GatewayId,
    /// The sensor's name.
    pub sensor: String,
    /// What is measured.
    pub quantity: Quantity,
    /// When, UTC ns, as the giver told it.
    pub utc_ns: i64,
    /// In the quantity's unit.
    pub value: f64,
    /// One standard uncertainty in that unit, when known.
    pub uncertainty: Option<f64>,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// A reading as the newest of its series.
pub(super) fn latest_of(reading: &Reading) -> Latest {
    let Reading { device, sensor, quantity, utc_ns, value, uncertainty, quality } = reading.clone();
    let newest = Newest { sensor, quantity, t_ns: utc_ns.max(0) as u64, value, uncertainty, quality };
    Latest { gateway: device, log: LogId(0), boot: 0, newest, utc_ns: Some(utc_ns) }
}

/// Adds the newest readings to the newest samples; of one channel in both, the later in UTC stays.
pub(super) fn merge_latest(mut all: Vec<Latest>, readings: Vec<Latest>) -> Vec<Latest> {
    let channel = |l: &Latest| (l.gateway.clone(), l.newest.sensor.clone(), l.newest.quantity);
    // A search for each would have a hub that knows ten thousand devices take a minute to start.
    let places: BTreeMap<_, usize> = all.iter().enumerate().map(|(at, latest)| (channel(latest), at)).collect();
    for reading in readings {
        match places.get(&channel(&reading)).and_then(|&at| all.get_mut(at)) {
            Some(old) if old.utc_ns <= reading.utc_ns => *old = reading,
            Some(_) => {}
            // A channel has one newest reading, so none of those that follow is of this one.
            None => all.push(reading),
        }
    }
    all
}

/// What became of [`Readings`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadingsDone {
    /// Readings stored.
    pub stored: u32,
    /// Readings that were stored before.
    pub duplicates: u32,
    /// This key was answered before; the numbers are those of the first answer.
    pub repeated: bool,
    /// This key was used for another request: nothing was stored.
    pub conflict: bool,
    /// How many of each device were stored.
    pub devices: BTreeMap<GatewayId, u32>,
    /// The newest values that these brought.
    pub newest: Vec<Latest>,
}

impl ReadingsDone {
    /// One more is stored.
    pub(super) fn add(&mut self, device: &GatewayId) {
        self.stored += 1;
        match self.devices.get_mut(device) {
            Some(n) => *n += 1,
            None => drop(self.devices.insert(device.clone(), 1)),
        }
    }
}
