//! What the channels of a gateway are.
//!
//! A manifest is kept beside the log, published retained under its hash, and sent before any batch that is read with it.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{frame, id::ManifestHash};

/// The channels a gateway reports, in ascending order of id. Ids are stable only within a manifest.
///
/// What is decoded has passed [`Manifest::check`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Manifest {
    /// The channels.
    pub channels: Vec<Channel>,
}

/// One stream of numbers from one sensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Number of the channel in blocks that are read with this manifest.
    pub id: u16,
    /// The sensor's name in the gateway's configuration.
    pub sensor: String,
    /// What is measured; fixes the unit.
    pub quantity: Quantity,
    /// One step of a value, in 1e-9 of the quantity's unit: 1 mm/s is 1_000_000.
    pub resolution_nano: u64,
    /// One tick of a time, in ns.
    pub tick_ns: u32,
    /// Report period in ns; 0 when samples come as they please.
    pub period_ns: u64,
    /// Number of the calibration the values were made with; 0 when there is none.
    pub calibration: u32,
}

/// A manifest as it came.
#[derive(Deserialize)]
struct Unchecked {
    channels: Vec<Channel>,
}

impl TryFrom<Unchecked> for Manifest {
    type Error = BadManifest;
    fn try_from(Unchecked { channels }: Unchecked) -> Result<Self, BadManifest> {
        let manifest = Self { channels };
        manifest.check().map(|()| manifest)
    }
}

/// What is wrong with a list of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// More than [`Manifest::MAX_CHANNELS`].
    #[error("{0} channels, at most {max} are taken", max = Manifest::MAX_CHANNELS)]
    TooMany(usize),
    /// A number that is not above the one before: which of two a sample belongs to could not be told.
    #[error("channel {0} does not come after the channel before it")]
    Order(u16),
    /// A tick or a step of nothing: all times or values would be the same.
    #[error("channel {0} has a tick or a resolution of 0")]
    Zero(u16),
    /// No name, or one longer than [`Channel::MAX_SENSOR`].
    #[error("channel {0} has a sensor name of {1} bytes, allowed are 1 to {max}", max = Channel::MAX_SENSOR)]
    Name(u16, usize),
}

impl Manifest {
    /// Most channels of a gateway: 500 sensors of 8. A hub holds the lists of all its gateways in memory.
    pub const MAX_CHANNELS: usize = 4096;

    /// Whether blocks can be read with this list.
    pub fn check(&self) -> Result<(), BadManifest> {
        if self.channels.len() > Self::MAX_CHANNELS {
            return Err(BadManifest::TooMany(self.channels.len()));
        }
        let mut last = None;
        for channel in &self.channels {
            if last >= Some(channel.id) {
                return Err(BadManifest::Order(channel.id));
            }
            if channel.tick_ns == 0 || channel.resolution_nano == 0 {
                return Err(BadManifest::Zero(channel.id));
            }
            if !(1..=Channel::MAX_SENSOR).contains(&channel.sensor.len()) {
                return Err(BadManifest::Name(channel.id, channel.sensor.len()));
            }
            last = Some(channel.id);
        }
        Ok(())
    }

    /// The name of this list: the first 8 bytes of the SHA-256 of its postcard bytes.
    pub fn hash(&self) -> ManifestHash {
        let digest = Sha256::digest(frame::body(self));
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        ManifestHash(first)
    }

    /// The channel with this number.
    pub fn channel(&self, id: u16) -> Option<&Channel> {
        // Ids ascend, so that a channel is found fast; a list that breaks the rule is searched through.
        match self.channels.binary_search_by_key(&id, |c| c.id) {
            Ok(at) => self.channels.get(at),
            Err(_) => self.channels.iter().find(|c| c.id == id),
        }
    }
}

/// Parts of a unit that [`Channel::resolution_nano`] counts.
const NANO: f64 = 1e9;

impl Channel {
    /// Longest name of a sensor, in bytes.
    pub const MAX_SENSOR: usize = 64;

    /// One step of a value, in the quantity's unit.
    pub fn resolution(&self) -> f64 {
        self.resolution_nano as f64 / NANO
    }

    /// The nearest step to a value in the quantity's unit. Beyond the integers' range it is the nearest there is.
    pub fn quantise(&self, value: f64) -> i64 {
        let steps = value / self.resolution();
        // Halves go away from zero; `as` takes what is too large to the end of the range and NaN to 0.
        (steps + if steps < 0.0 { -0.5 } else { 0.5 }) as i64
    }

    /// A step as a value in the quantity's unit.
    pub fn value(&self, steps: i64) -> f64 {
        // Dividing by steps a unit is right to the last digit (12.346 stays 12.346) where they are whole.
        if self.resolution_nano != 0 && 1_000_000_000 % self.resolution_nano == 0 {
            steps as f64 / (1_000_000_000 / self.resolution_nano) as f64
        } else {
            steps as f64 * self.resolution_nano as f64 / NANO
        }
    }

    /// The tick nearest to a time, CLOCK_BOOTTIME ns.
    pub fn tick(&self, t_ns: u64) -> u64 {
        let tick_ns = u64::from(self.tick_ns.max(1));
        t_ns / tick_ns + u64::from(t_ns % tick_ns >= tick_ns.div_ceil(2))
    }

    /// The time of a tick, CLOCK_BOOTTIME ns; the last ns there is where it would be beyond.
    pub fn t_ns(&self, tick: u64) -> u64 {
        tick.saturating_mul(u64::from(self.tick_ns))
    }
}

/// What a channel measures. The unit of each is fixed, see [`Quantity::unit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// m/s
    Speed,
    /// rpm
    RotationalSpeed,
    /// m
    Distance,
    /// degrees, north positive
    Latitude,
    /// degrees, east positive
    Longitude,
    /// degrees clockwise from true north
    Course,
    /// m above mean sea level
    Altitude,
    /// m/s²
    Acceleration,
    /// a plain count
    Count,
    /// 1 forward, -1 backward, 0 not known
    Direction,
    /// degrees, 0 up to 360
    Angle,
    /// inputs known lost since the sensor was opened
    Lost,
    /// inputs suspected lost since then
    Suspected,
    /// inputs put back since then
    Repaired,
    /// inputs refused since then
    Rejected,
}

impl Quantity {
    /// The word for it, as it stands in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Quantity::Speed => "speed",
            Quantity::RotationalSpeed => "rotational-speed",
            Quantity::Distance => "distance",
            Quantity::Latitude => "latitude",
            Quantity::Longitude => "longitude",
            Quantity::Course => "course",
            Quantity::Altitude => "altitude",
            Quantity::Acceleration => "acceleration",
            Quantity::Count => "count",
            Quantity::Direction => "direction",
            Quantity::Angle => "angle",
            Quantity::Lost => "lost",
            Quantity::Suspected => "suspected",
            Quantity::Repaired => "repaired",
            Quantity::Rejected => "rejected",
        }
    }

    /// The unit, as it is written behind a number.
    pub fn unit(self) -> &'static str {
        match self {
            Quantity::Speed => "m/s",
            Quantity::RotationalSpeed => "rpm",
            Quantity::Distance | Quantity::Altitude => "m",
            Quantity::Latitude | Quantity::Longitude | Quantity::Course | Quantity::Angle => "deg",
            Quantity::Acceleration => "m/s2",
            Quantity::Count
            | Quantity::Direction
            | Quantity::Lost
            | Quantity::Suspected
            | Quantity::Repaired
            | Quantity::Rejected => "1",
        }
    }
}
