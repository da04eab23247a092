//! What the disk log and its memory twin have in common: the writer thread drives either.

use std::{collections::BTreeMap, ops::Range, time::Instant};

use speedwell_wire::{LogId, Manifest, ManifestHash, Record, Seq};

use super::{error::Confirmed, stats::Stats};

/// One entry read back from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence number, or the first of those it stands for.
    pub first: Seq,
    /// How many sequence numbers it stands for: more than one only for a loss.
    pub span: u64,
    /// The record, encoded.
    pub bytes: Vec<u8>,
}

/// Why a store did not do it.
#[derive(Debug)]
pub(super) enum StoreError {
    /// A record does not fit a chunk.
    TooLarge { index: usize, bytes: usize, max: usize },
    /// Full, and the newest are the ones to go.
    Full { records: usize },
    /// The store cannot go on.
    Failed(String),
}

/// A durable log. All calls come from one thread.
pub(super) trait Store: Send {
    fn log_id(&self) -> LogId;
    /// Appends encoded records; they are durable after [`Store::flush`]. Flushes by itself at `FLUSH_BYTES`.
    fn append(&mut self, records: &[(Record, Vec<u8>)]) -> Result<Range<Seq>, StoreError>;
    /// Makes all that was appended durable; the last durable number comes back.
    fn flush(&mut self) -> Result<Seq, StoreError>;
    /// Bytes appended and not durable yet.
    fn outstanding(&self) -> usize;
    /// Since when the oldest of those waits, where the store keeps that itself because a confirmation may free it.
    fn waiting_since(&self) -> Option<Instant> {
        None
    }
    /// Durable entries from `seq` on, or from the oldest that is there: at least one when there is one, and no more
    /// than `max_bytes` otherwise.
    fn read_from(&mut self, seq: Seq, max_bytes: usize) -> Result<Vec<Stored>, StoreError>;
    /// The far end has stored everything up to `seq`, inclusive.
    fn confirm_thru(&mut self, seq: Seq) -> Result<Confirmed, StoreError>;
    /// Keeps a manifest.
    fn keep_manifest(&mut self, hash: ManifestHash, manifest: &Manifest) -> Result<(), StoreError>;
    /// The manifests kept.
    fn manifests(&self) -> BTreeMap<ManifestHash, Manifest>;
    /// What needs doing from time to time; called at least every few seconds.
    fn tick(&mut self) -> Result<(), StoreError>;
    fn stats(&self) -> Stats;
    /// Words for events that came up since the last call.
    fn take_notices(&mut self) -> Vec<String>;
    /// Whether entries were read that are not confirmed: they may be at the far end under their numbers in this log.
    fn in_doubt(&self) -> bool {
        false
    }
    /// The log goes on elsewhere, because this store failed: notes that, where it can still be written.
    fn leave(&mut self) {}
    /// What was noted at that is settled.
    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Takes the records that are not durable out of a store that failed, so that another can have them; out of one in
    /// memory, those that were never read.
    fn take_outstanding(&mut self) -> Vec<(Record, Vec<u8>)>;
    /// Flushes and writes down what is only in memory.
    fn close(&mut self) -> Result<(), StoreError>;
}
