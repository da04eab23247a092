//! What the spool tells of itself.

use std::time::Duration;

use speedwell_wire::{LogId, Seq};

use super::tally::Tally;

/// Where the records are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On disk.
    #[default]
    Disk,
    /// In memory only: the disk failed.
    Memory,
}

/// What was found when the spool was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The log's name.
    pub log: LogId,
    /// Whether the log was made just now.
    pub created: bool,
    /// Where records are kept.
    pub place: Place,
    /// The oldest record that is still there, or the next one to be written.
    pub oldest_seq: Seq,
    /// The last record; 0 when there never was one.
    pub last_seq: Seq,
    /// Confirmed up to here.
    pub confirmed_seq: Seq,
    /// Damage found and what was done about it, each a line for an event.
    pub findings: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// An earlier process left this log for memory and did not come back to it: what was known of that.
    pub(super) left: Option<Tally>,
}

impl Opened {
    pub(super) fn in_memory(log: LogId) -> Self {
        Self {
            log,
            created: true,
            place: Place::Memory,
            oldest_seq: 1,
            last_seq: 0,
            confirmed_seq: 0,
            findings: Vec::new(),
            took: Duration::ZERO,
            left: None,
        }
    }
}

/// How the spool is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Where records are kept.
    pub place: Place,
    /// Last record appended; 0 when there never was one.
    pub last_seq: Seq,
    /// Last record that a power cut cannot take, and that may be handed out; with [`super::Options::lazy`] the last
    /// one appended.
    pub durable_seq: Seq,
    /// Last record the far end has stored.
    pub confirmed_seq: Seq,
    /// Oldest record that can still be read, or the next one to be written.
    pub oldest_seq: Seq,
    /// Bytes on disk (`st_blocks`) of everything in the directory; in memory, bytes held.
    pub disk_bytes: u64,
    /// Generations on disk.
    pub generations: u32,
    /// Records shed or lost since the spool was opened.
    pub lost_records: u64,
    /// Samples that went when records were thinned, since the spool was opened.
    pub thinned_samples: u64,
    /// Flushes since the spool was opened.
    pub flushes: u64,
    /// Longest flush.
    pub flush_max: Duration,
    /// Last flush.
    pub flush_last: Duration,
    /// Record bytes written since the spool was opened, without framing.
    pub payload_bytes: u64,
}
