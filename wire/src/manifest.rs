//! What the channels of a gateway are.
//!
//! A manifest is kept beside the log, published retained under its hash, and sent before any batch that is read with it.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// The channels a gateway reports, in ascending order of id. Ids are stable only within a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl Quantity {
    /// The unit, as it is written behind a number.
    pub fn unit(self) -> &'static str {
        match self {
            Quantity::Speed => "m/s",
            Quantity::RotationalSpeed => "rpm",
            Quantity::Distance | Quantity::Altitude => "m",
            Quantity::Latitude | Quantity::Longitude | Quantity::Course => "deg",
            Quantity::Acceleration => "m/s2",
            Quantity::Count => "1",
        }
    }
}
