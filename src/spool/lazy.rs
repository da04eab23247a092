//! The log on disk, spared: records stay in memory at first, and only what is not confirmed within a bound is written.
//!
//! While the hub answers, next to nothing is written: an SD card lives as long as the gateway. What a power cut can take
//! is what the hub has not confirmed of the time of the bound ([`super::Options::lazy`]). Numbers are handed out before
//! they are written; that none is given twice for it is `disk_log/lend.rs`'s.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    time::Instant,
};

use speedwell_wire::{LogId, LossReason, Manifest, ManifestHash, Record, Seq, record};

use super::{
    chunk,
    disk_log::{DiskLog, FLUSH_BYTES},
    error::Confirmed,
    stats::Stats,
    store::{Store, StoreError, Stored},
    tally::Tally,
};

/// A record in memory.
struct Held {
    record: Record,
    bytes: Vec<u8>,
    since: Instant,
}

pub(super) struct Lazy {
    disk: DiskLog,
    /// What is in no file yet; directly behind what the disk has. At most [`FLUSH_BYTES`] and one append.
    held: VecDeque<Held>,
    bytes: usize,
    /// Number of `held[0]`.
    first: Seq,
    /// Last number that was handed out.
    handed: Seq,
    /// Why writing in an append failed: that append was taken, the next call is refused.
    failed: Option<String>,
}

impl Lazy {
    pub(super) fn new(disk: DiskLog) -> Self {
        let first = disk.stats().last_seq + 1;
        Self { disk, held: VecDeque::new(), bytes: 0, first, handed: 0, failed: None }
    }

    fn last(&self) -> Seq {
        self.first + self.held.len() as u64 - 1
    }

    fn hold(&mut self, record: Record, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        self.held.push_back(Held { record, bytes, since: Instant::now() });
    }

    /// Lets go of what is held up to `seq`.
    fn let_go(&mut self, seq: Seq) {
        while self.first <= seq
            && let Some(held) = self.held.pop_front()
        {
            self.bytes -= held.bytes.len();
            self.first += 1;
        }
    }

    /// Writes all that is held.
    fn spill(&mut self) -> Result<(), StoreError> {
        let held = self.held.iter().map(|held| (held.record.clone(), held.bytes.clone()));
        let records: Vec<_> = held.collect();
        // The disk log takes all or none; what it took is its own from then on.
        self.disk.take(&records)?;
        self.let_go(self.last());
        self.disk.flush().map(|_| ())
    }
}

impl Store for Lazy {
    fn log_id(&self) -> LogId {
        self.disk.log_id()
    }

    fn append(&mut self, records: &[(Record, Vec<u8>)]) -> Result<Range<Seq>, StoreError> {
        chunk::check_sizes(records)?;
        if let Some(why) = self.failed.take() {
            return Err(StoreError::Failed(why));
        }
        if let Some(told) = self.disk.admit(records, self.bytes)? {
            let bytes = record::encode(&told);
            self.hold(told, bytes);
        }
        let start = self.last() + 1;
        self.disk.lend(self.last() + records.len() as u64)?;
        for (record, bytes) in records {
            self.hold(record.clone(), bytes.clone());
        }
        if self.bytes >= FLUSH_BYTES
            && let Err(StoreError::Failed(why)) = self.spill()
        {
            self.failed = Some(why);
        }
        Ok(start..start + records.len() as u64)
    }

    fn flush(&mut self) -> Result<Seq, StoreError> {
        self.spill()?;
        Ok(self.last())
    }

    fn outstanding(&self) -> usize {
        self.bytes + self.disk.outstanding()
    }

    fn waiting_since(&self) -> Option<Instant> {
        self.held.front().map(|held| held.since)
    }

    fn read_from(&mut self, seq: Seq, max_bytes: usize) -> Result<Vec<Stored>, StoreError> {
        let mut found = if seq < self.first { self.disk.read_from(seq, max_bytes)? } else { Vec::new() };
        let mut next = found.last().map_or(seq, |last| last.first + last.span).max(seq);
        if found.is_empty() {
            next = next.max(self.first);
        }
        let mut size: usize = found.iter().map(|stored| stored.bytes.len()).sum();
        while next >= self.first
            && let Some(held) = self.held.get(usize::try_from(next - self.first).unwrap_or(usize::MAX))
        {
            size += held.bytes.len();
            if size > max_bytes && !found.is_empty() {
                break;
            }
            found.push(Stored { first: next, span: 1, bytes: held.bytes.clone() });
            next += 1;
        }
        self.handed = self.handed.max(next - 1);
        Ok(found)
    }

    fn confirm_thru(&mut self, seq: Seq) -> Result<Confirmed, StoreError> {
        if seq > self.last() {
            return Ok(Confirmed::BeyondEnd { last: self.last() });
        }
        if seq < self.first {
            return self.disk.confirm_thru(seq);
        }
        self.let_go(seq);
        self.disk.pass(seq)?;
        Ok(Confirmed::Moved)
    }

    fn keep_manifest(&mut self, hash: ManifestHash, manifest: &Manifest) -> Result<(), StoreError> {
        self.disk.keep_manifest(hash, manifest)
    }

    fn manifests(&self) -> BTreeMap<ManifestHash, Manifest> {
        self.disk.manifests()
    }

    fn tick(&mut self) -> Result<(), StoreError> {
        self.disk.tick()
    }

    fn stats(&self) -> Stats {
        Stats { last_seq: self.last(), durable_seq: self.last(), ..self.disk.stats() }
    }

    fn take_notices(&mut self) -> Vec<String> {
        self.disk.take_notices()
    }

    fn leave(&mut self) {
        self.disk.leave();
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.disk.settle()
    }

    /// What was handed out has its number in this log, at the hub perhaps already: under another log's name it would be
    /// there twice. It is told as lost.
    fn take_outstanding(&mut self) -> Vec<(Record, Vec<u8>)> {
        let mut handed = Tally::default();
        let mut left = self.disk.take_outstanding();
        let mut seq = self.first - left.len() as u64;
        left.extend(self.held.drain(..).map(|held| (held.record, held.bytes)));
        left.retain(|(record, _)| {
            let gone = seq <= self.handed;
            if gone {
                handed.count(record, &BTreeMap::new());
            }
            seq += 1;
            !gone
        });
        if handed.records > 0 {
            let loss = handed.loss_without_numbers(LossReason::Damaged);
            left.insert(0, (loss.clone(), record::encode(&loss)));
        }
        left
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.spill()?;
        self.disk.close()
    }
}
