//! What a gateway keeps: the records of its log.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{frame, id::ManifestHash};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A block of samples of many channels over about a second.
    Samples(Samples),
    /// Something that happened.
    Event(Event),
    /// A mapping of boot time to UTC.
    Clock(ClockFix),
    /// Records or samples that had to be shed.
    Loss(Loss),
}

/// The postcard bytes of a record: what the spool keeps and what [`crate::frame::BatchBuilder`] takes.
pub fn encode(record: &Record) -> Vec<u8> {
    frame::body(record)
}

/// The record out of its postcard bytes; nothing may follow it.
pub fn decode(bytes: &[u8]) -> Result<Record, BadRecord> {
    match postcard::take_from_bytes(bytes) {
        Ok((record, [])) => Ok(record),
        Ok((_, rest)) => Err(BadRecord::Rest(rest.len())),
        Err(error) => Err(BadRecord::Postcard(error)),
    }
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The bytes are not one of the records known here.
    #[error("not a record: {0}")]
    Postcard(postcard::Error),
    /// A record, and more.
    #[error("{0} bytes after the record")]
    Rest(usize),
}

/// A block of samples. The columns are inside `block`; see [`crate::block`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// The manifest the channel numbers and integers are read with.
    pub manifest: ManifestHash,
    /// Number of the boot the times belong to.
    pub boot: u32,
    /// The columns, encoded by [`crate::block::encode`].
    pub block: Vec<u8>,
}

/// How far a sample can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// Measured; the uncertainty holds.
    #[default]
    Good,
    /// Not measured but bounded or extrapolated from what was, as between the last pulse and a confirmed stop.
    Estimated,
    /// Measured, but input was lost, repaired or rejected in its window.
    Degraded,
    /// A confirmed standstill: the value is zero because nothing moves, not because nothing is heard.
    Stopped,
}

impl Quality {
    /// The word for it, as it stands in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Quality::Good => "good",
            Quality::Estimated => "estimated",
            Quality::Degraded => "degraded",
            Quality::Stopped => "stopped",
        }
    }
}

/// Why there is no value. Never a silent zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoData {
    /// Nothing has been heard since the sensor was opened.
    Silent,
    /// Something was heard once, too long ago to still be said.
    Stale,
    /// The far end says that it has no value (J1939 0xFF, an empty field).
    NotAvailable,
    /// The far end says that its sensor is in error (J1939 0xFE).
    SensorError,
    /// A satellite receiver without a fix.
    NoFix,
    /// The sensor could not be opened or stopped working.
    Fault,
    /// A value outside what the sensor can measure.
    OutOfRange,
    /// The sensor works and sees nothing to measure, as a radar with no target before it.
    NoTarget,
}

impl NoData {
    /// The word for it, as it stands in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            NoData::Silent => "silent",
            NoData::Stale => "stale",
            NoData::NotAvailable => "not-available",
            NoData::SensorError => "sensor-error",
            NoData::NoFix => "no-fix",
            NoData::Fault => "fault",
            NoData::OutOfRange => "out-of-range",
            NoData::NoTarget => "no-target",
        }
    }
}

/// Something that happened, with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Number of the boot `t_ns` belongs to.
    pub boot: u32,
    /// When, CLOCK_BOOTTIME ns.
    pub t_ns: u64,
    /// The sensor concerned, if it concerns one.
    pub sensor: Option<String>,
    /// What.
    pub kind: EventKind,
    /// Particulars in words for a person; what is beyond [`Event::MAX_DETAIL`] bytes is cut off on decoding.
    #[serde(deserialize_with = "short")]
    pub detail: String,
}

/// Words no longer than [`Event::MAX_DETAIL`]. They are cut, not refused: a refused record would hold up its log.
fn short<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    String::deserialize(d).map(cut)
}

/// The detail of an event, no longer than it may be.
pub(crate) fn cut(mut detail: String) -> String {
    while detail.len() > Event::MAX_DETAIL {
        detail.pop();
    }
    detail
}

impl Event {
    /// Longest detail, in bytes: a message from a library must not fill the log.
    pub const MAX_DETAIL: usize = 512;
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The agent started; detail says version, boot id and how the last run ended.
    Started,
    /// The agent stopped on request.
    Stopped,
    /// A sensor failed or went silent; detail gives the named reason.
    SensorFault,
    /// A sensor is well again.
    SensorRecovered,
    /// Real time was stepped; detail says by how much.
    ClockStep,
    /// The spool found damage or changed the place it writes to.
    Spool,
    /// No confirmation came for a while; detail names the records.
    Unconfirmed,
    /// The configuration in force changed.
    Configuration,
    /// A tooth of a wheel lies where it did not use to; detail names it.
    ToothDamaged,
    /// The numbers a sensor's values are made with changed, or should.
    Calibration,
    /// Sensors of one speed contradict each other; detail says which and by how much.
    Disagreement,
}

impl EventKind {
    /// The word for it, as it stands in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Started => "started",
            EventKind::Stopped => "stopped",
            EventKind::SensorFault => "sensor-fault",
            EventKind::SensorRecovered => "sensor-recovered",
            EventKind::ClockStep => "clock-step",
            EventKind::Spool => "spool",
            EventKind::Unconfirmed => "unconfirmed",
            EventKind::Configuration => "configuration",
            EventKind::ToothDamaged => "tooth-damaged",
            EventKind::Calibration => "calibration",
            EventKind::Disagreement => "disagreement",
        }
    }
}

/// Where a clock fix comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockSource {
    /// Nobody vouches for the clock: shown, never believed.
    Untrusted,
    /// The kernel says it is synchronised.
    Ntp,
    /// A satellite receiver.
    Gnss,
    /// A battery-backed clock that was set by us.
    Rtc,
}

impl ClockSource {
    /// The word for it, as it stands in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            ClockSource::Untrusted => "untrusted",
            ClockSource::Ntp => "ntp",
            ClockSource::Gnss => "gnss",
            ClockSource::Rtc => "rtc",
        }
    }
}

/// A mapping of boot time to UTC: `utc(t) = utc_ns + (t - boot_ns) * (1 + rate_ppb / 1e9)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockFix {
    /// Number of the boot.
    pub boot: u32,
    /// CLOCK_BOOTTIME ns at which the mapping was taken.
    pub boot_ns: u64,
    /// UTC at that instant, ns since 1970.
    pub utc_ns: i64,
    /// Bound on the error of `utc_ns`, ns, as good as the word of who vouches. Of other times it is larger by 50 ppm of the
    /// distance, which an uncorrected crystal does not exceed.
    pub uncertainty_ns: u64,
    /// How much faster UTC runs than boot time, in 1e-9.
    pub rate_ppb: i32,
    /// Who vouches for it.
    pub source: ClockSource,
}

/// A hole, declared. In the place of shed records it has their sequence numbers (see [`crate::batch::Entry::span`]);
/// samples shed before they got a sequence number are told by a loss record with a number of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Why.
    pub reason: LossReason,
    /// Records shed; 0 when the samples never became a record.
    pub records: u64,
    /// Samples shed, as far as they could be counted.
    pub samples: u64,
    /// The boot and the first and last boot time (ns) of what was shed, where known.
    pub from: Option<(u32, u64)>,
    /// See `from`.
    pub until: Option<(u32, u64)>,
}

/// Why something was shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossReason {
    /// The spool was full and the oldest records had to go.
    SpoolFullOldest,
    /// The spool was full and the newest records were refused.
    SpoolFullNewest,
    /// Records could not be read back from the disk.
    Damaged,
    /// A sensor produced faster than the agent could keep.
    Overrun,
    /// A record too large for the broker or the hub was set aside.
    TooLarge,
    /// Records older than the spool is told to keep went.
    TooOld,
    /// The spool was full: old records were thinned to one value a second of each channel. The samples told are those
    /// that went.
    Thinned,
    /// The disk failed, and what was kept in memory from `from` on went with the process before it reached another
    /// place. The samples told are those that were known when the disk was left.
    DiskFailed,
}

impl LossReason {
    /// The word for it, as it stands in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            LossReason::SpoolFullOldest => "spool-full-oldest",
            LossReason::SpoolFullNewest => "spool-full-newest",
            LossReason::Damaged => "damaged",
            LossReason::Overrun => "overrun",
            LossReason::TooLarge => "too-large",
            LossReason::TooOld => "too-old",
            LossReason::DiskFailed => "disk-failed",
            LossReason::Thinned => "thinned",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json_form() {
        let json = |value: &dyn Fn() -> serde_json::Result<alloc::string::String>| value().expect("a plain word");
        for quality in [Quality::Good, Quality::Estimated, Quality::Degraded, Quality::Stopped] {
            assert_eq!(json(&|| serde_json::to_string(&quality)), alloc::format!("{:?}", quality.name()));
        }
        for reason in [
            NoData::Silent,
            NoData::NotAvailable,
            NoData::SensorError,
            NoData::NoFix,
            NoData::OutOfRange,
            NoData::NoTarget,
        ] {
            assert_eq!(json(&|| serde_json::to_string(&reason)), alloc::format!("{:?}", reason.name()));
        }
        for reason in [LossReason::SpoolFullOldest, LossReason::TooLarge, LossReason::TooOld, LossReason::Thinned] {
            assert_eq!(json(&|| serde_json::to_string(&reason)), alloc::format!("{:?}", reason.name()));
        }
        for kind in [EventKind::SensorFault, EventKind::ClockStep, EventKind::Unconfirmed, EventKind::ToothDamaged] {
            assert_eq!(json(&|| serde_json::to_string(&kind)), alloc::format!("{:?}", kind.name()));
        }
        assert_eq!(
            json(&|| serde_json::to_string(&ClockSource::Untrusted)),
            alloc::format!("{:?}", ClockSource::Untrusted.name())
        );
    }
}
