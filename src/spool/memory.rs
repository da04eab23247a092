//! The log without a disk: the model that the disk log is tested against, and the last resort when the disk fails.
//!
//! Same interface, same sequence numbers, same losses. What it holds is gone with the process, and its log has a name
//! of its own.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use speedwell_wire::{LogId, LossReason, Manifest, ManifestHash, Record, Seq, record};

use super::{
    chunk,
    error::Confirmed,
    stats::{Place, Stats},
    store::{Store, StoreError, Stored},
    tally::Tally,
};

/// What a record costs beyond its bytes: the queue's slot and the allocation.
const RECORD_OVERHEAD: usize = 96;
/// Manifests kept in memory: a run has as many as it has configurations.
const MANIFESTS_MAX: usize = 64;

pub(super) struct Memory {
    log: LogId,
    bytes_max: usize,
    bytes: usize,
    records: VecDeque<(Record, Vec<u8>)>,
    /// Sequence number of `records[0]`.
    first: Seq,
    durable: Seq,
    confirmed: Seq,
    /// Last number that was read.
    handed: Seq,
    /// What was shed: up to `first - 1`.
    dropped: Option<(Seq, Tally)>,
    manifests: BTreeMap<ManifestHash, Manifest>,
    stats: Stats,
}

impl Memory {
    pub(super) fn new(log: LogId, bytes_max: u64) -> Self {
        Self {
            log,
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            bytes: 0,
            records: VecDeque::new(),
            first: 1,
            durable: 0,
            confirmed: 0,
            handed: 0,
            dropped: None,
            manifests: BTreeMap::new(),
            stats: Stats::default(),
        }
    }

    /// Takes over the manifests of a store that failed.
    pub(super) fn adopt(&mut self, manifests: BTreeMap<ManifestHash, Manifest>) {
        self.manifests = manifests;
    }

    fn last(&self) -> Seq {
        self.first + self.records.len() as u64 - 1
    }

    fn drop_oldest(&mut self) {
        let Some((record, bytes)) = self.records.pop_front() else { return };
        self.bytes -= bytes.len() + RECORD_OVERHEAD;
        if self.first > self.confirmed {
            let (_, tally) = self.dropped.get_or_insert((self.first, Tally::default()));
            tally.count(&record, &self.manifests);
            self.stats.lost_records += 1;
        }
        self.first += 1;
    }
}

impl Store for Memory {
    fn log_id(&self) -> LogId {
        self.log
    }

    fn append(&mut self, records: &[(Record, Vec<u8>)]) -> Result<Range<Seq>, StoreError> {
        chunk::check_sizes(records)?;
        let start = self.last() + 1;
        for (record, bytes) in records {
            self.bytes += bytes.len() + RECORD_OVERHEAD;
            self.stats.payload_bytes += bytes.len() as u64;
            self.records.push_back((record.clone(), bytes.clone()));
            while self.bytes > self.bytes_max && self.records.len() > 1 {
                self.drop_oldest();
            }
        }
        Ok(start..self.last() + 1)
    }

    fn flush(&mut self) -> Result<Seq, StoreError> {
        self.durable = self.last();
        self.stats.flushes += 1;
        Ok(self.durable)
    }

    fn outstanding(&self) -> usize {
        let undurable = usize::try_from(self.last() - self.durable).unwrap_or(usize::MAX).min(self.records.len());
        self.records.range(self.records.len() - undurable..).map(|(_, bytes)| bytes.len()).sum()
    }

    fn read_from(&mut self, seq: Seq, max_bytes: usize) -> Result<Vec<Stored>, StoreError> {
        let mut seq = seq.max(self.stats().oldest_seq);
        let (mut found, mut size) = (Vec::new(), 0);
        while seq <= self.durable {
            let stored = match &self.dropped {
                Some((_, tally)) if seq < self.first => {
                    let span = self.first - seq;
                    let loss = tally.loss(LossReason::SpoolFullOldest, span);
                    Stored { first: seq, span, bytes: record::encode(&loss) }
                }
                _ => {
                    let at = usize::try_from(seq - self.first).unwrap_or(usize::MAX);
                    let Some((_, bytes)) = self.records.get(at) else { break };
                    Stored { first: seq, span: 1, bytes: bytes.clone() }
                }
            };
            size += stored.bytes.len();
            if size > max_bytes && !found.is_empty() {
                break;
            }
            seq += stored.span;
            found.push(stored);
        }
        self.handed = self.handed.max(seq - 1);
        Ok(found)
    }

    fn confirm_thru(&mut self, seq: Seq) -> Result<Confirmed, StoreError> {
        if seq > self.durable {
            return Ok(Confirmed::BeyondEnd { last: self.durable });
        }
        if seq <= self.confirmed {
            return Ok(Confirmed::Known);
        }
        self.confirmed = seq;
        while self.first <= seq && !self.records.is_empty() {
            self.drop_oldest();
        }
        self.dropped =
            self.dropped.take().filter(|_| seq + 1 < self.first).map(|(first, tally)| (first.max(seq + 1), tally));
        Ok(Confirmed::Moved)
    }

    fn keep_manifest(&mut self, hash: ManifestHash, manifest: &Manifest) -> Result<(), StoreError> {
        self.manifests.insert(hash, manifest.clone());
        while self.manifests.len() > MANIFESTS_MAX {
            self.manifests.pop_first();
        }
        Ok(())
    }

    fn manifests(&self) -> BTreeMap<ManifestHash, Manifest> {
        self.manifests.clone()
    }

    fn tick(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats {
            place: Place::Memory,
            last_seq: self.last(),
            durable_seq: self.durable,
            confirmed_seq: self.confirmed,
            oldest_seq: self.dropped.as_ref().map_or(self.first, |(first, _)| *first),
            disk_bytes: self.bytes as u64,
            ..self.stats.clone()
        }
    }

    fn take_notices(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn in_doubt(&self) -> bool {
        // What was shed and read may have grown since: all of it is told under this name.
        self.handed > self.confirmed || self.dropped.is_some()
    }

    fn take_outstanding(&mut self) -> Vec<(Record, Vec<u8>)> {
        let read = |first: Seq| first <= self.handed;
        let told = self.dropped.take_if(|(first, _)| !read(*first));
        let told = told.map(|(_, tally)| tally.loss_without_numbers(LossReason::SpoolFullOldest));
        let told = told.map(|loss| (loss.clone(), record::encode(&loss)));
        let stays = usize::try_from((self.handed + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let goes = self.records.split_off(stays.min(self.records.len()));
        self.bytes = self.records.iter().map(|(_, bytes)| bytes.len() + RECORD_OVERHEAD).sum();
        self.durable = self.last();
        told.into_iter().chain(goes).collect()
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.flush().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use speedwell_wire::{Event, EventKind};

    use super::*;

    fn event(n: u64) -> (Record, Vec<u8>) {
        let (kind, detail) = (EventKind::Spool, "x".repeat(200));
        let record = Record::Event(Event { boot: 1, t_ns: n, sensor: None, kind, detail });
        let bytes = record::encode(&record);
        (record, bytes)
    }

    #[test]
    fn what_was_shed_after_it_was_read_is_told_before_the_log_is_let_go() {
        let mut memory = Memory::new(LogId(7), 4096);
        let append = |memory: &mut Memory, n| memory.append(&(0..n).map(event).collect::<Vec<_>>()).unwrap();
        append(&mut memory, 20);
        memory.flush().unwrap();
        let read = memory.read_from(1, 1).unwrap();
        let handed = read[0].span;
        assert!(handed > 1, "a loss stands for what was shed");
        append(&mut memory, 10);
        memory.flush().unwrap();
        let goes = memory.take_outstanding();
        assert!(goes.iter().all(|(record, _)| !matches!(record, Record::Loss(_))), "it is told here, and not twice");

        memory.confirm_thru(handed).unwrap();
        assert!(memory.in_doubt());
        let rest = memory.read_from(handed + 1, 1 << 20).unwrap();
        assert_eq!((rest.len(), rest[0].first, rest[0].span), (1, handed + 1, 10));
        memory.confirm_thru(handed + 10).unwrap();
        assert!(!memory.in_doubt());
    }
}
