//! The smaller messages: confirmation, live values, status.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::{
    id::{GatewayId, LogId, ManifestHash, Seq},
    record::{ClockSource, NoData, Quality},
};

/// The hub has stored the log up to `thru`, inclusive. Always JSON, retained; repeating it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// Of which log.
    pub log: LogId,
    /// The last record stored; 0 when none is.
    pub thru: Seq,
}

/// The newest value of each channel, once a second, QoS 0: a long backlog never delays what a person watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// The channel list the values are read with.
    pub manifest: ManifestHash,
    /// Number of the boot.
    pub boot: u32,
    /// CLOCK_BOOTTIME ns when this was sent, so that a receiver can tell each value's age without trusting any clock.
    pub now_ns: u64,
    /// The values, one a channel.
    pub values: Vec<LiveValue>,
}

/// A channel's newest value, or why there is none. Its JSON is told in [`crate::json`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveValue {
    /// Channel number.
    pub channel: u16,
    /// When it was measured, or since when there is none, CLOCK_BOOTTIME ns.
    pub t_ns: u64,
    /// The value in the quantity's unit with its uncertainty (one standard deviation; NaN when unknown) and quality, or
    /// the reason.
    pub value: Result<(f64, f32, Quality), NoData>,
}

/// Birth, heartbeat and last will. Always JSON, retained, so that any MQTT tool can read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Whose.
    pub gateway: GatewayId,
    /// False in the last will and in a graceful goodbye.
    pub online: bool,
    /// Version of the agent.
    #[serde(default)]
    pub version: String,
    /// Health, absent in the last will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// How the gateway is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Health {
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// Number of the boot.
    pub boot: u32,
    /// The log now written.
    pub log: LogId,
    /// Last record kept.
    pub last_seq: Seq,
    /// Last record confirmed.
    pub confirmed_seq: Seq,
    /// Bytes the spool takes on disk.
    pub spool_bytes: u64,
    /// Samples lost since the agent started, by declared loss.
    pub lost_samples: u64,
    /// Who vouches for the clock.
    pub clock: ClockSource,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// The state of each sensor.
    pub sensors: Vec<SensorHealth>,
}

/// How one sensor is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SensorHealth {
    /// Its name in the configuration.
    pub name: String,
    /// What is wrong, if something is.
    pub trouble: Option<NoData>,
    /// In words, what and what to do; empty when well.
    #[serde(default)]
    pub detail: String,
    /// Inputs taken since start: edges, frames or sentences.
    pub inputs: u64,
    /// Inputs lost, as far as that can be seen.
    pub lost: u64,
    /// Inputs rejected as impossible or broken.
    pub rejected: u64,
}
