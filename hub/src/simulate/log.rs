//! A gateway's log: records with consecutive numbers, until the hub has them. Pure.
//!
//! What is kept is bounded. When it is full the newest go, and once there is room a loss says how many samples went: a
//! gateway told `when-full = "newest"` does the same.

use std::collections::VecDeque;

use speedwell_wire::{GatewayId, LogId, Loss, LossReason, Record, Seq, frame::BatchBuilder, record};

/// Bytes of records that are kept, for each gateway: some twenty minutes at 10 Hz.
pub(super) const LIMIT: usize = 256 * 1024;
/// Bytes of a batch.
const MAX_BATCH: usize = 16 * 1024;

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    /// Its name.
    pub(super) id: LogId,
    first: Seq,
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
    shed: Option<Loss>,
    shed_samples: u64,
}

/// A batch on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Its first record.
    pub(super) first: Seq,
    /// The record after its last.
    pub(super) next: Seq,
    /// The frame.
    pub(super) payload: Vec<u8>,
}

impl Log {
    /// An empty log.
    pub(super) fn new(id: LogId) -> Self {
        Self { id, first: 1, kept: VecDeque::new(), bytes: 0, shed: None, shed_samples: 0 }
    }

    /// The number of the last record.
    pub(super) fn last(&self) -> Seq {
        self.first + self.kept.len() as u64 - 1
    }

    /// The last that was freed.
    pub(super) fn confirmed(&self) -> Seq {
        self.first - 1
    }

    /// Records kept.
    pub(super) fn kept(&self) -> u64 {
        self.kept.len() as u64
    }

    /// Bytes of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Samples shed so far.
    pub(super) fn shed_samples(&self) -> u64 {
        self.shed_samples
    }

    /// Adds a record, if there is room; otherwise its `samples`, the last of them at `at`, are shed. Gives whether it was added.
    pub(super) fn append(&mut self, made: &Record, samples: u64, at: (u32, u64)) -> bool {
        let bytes = record::encode(made);
        if self.shed.is_none() && self.bytes + bytes.len() <= LIMIT {
            self.push(bytes);
            return true;
        }
        let shed = self.shed.get_or_insert(Loss {
            reason: LossReason::SpoolFullNewest,
            records: 0,
            samples: 0,
            from: Some(at),
            until: Some(at),
        });
        shed.samples += samples;
        shed.until = Some(at);
        self.shed_samples += samples;
        false
    }

    fn push(&mut self, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        self.kept.push_back(bytes);
    }

    /// Frees what the hub has. Gives how many records that were.
    pub(super) fn free(&mut self, thru: Seq) -> u64 {
        let mut freed = 0;
        while self.first <= thru {
            let Some(bytes) = self.kept.pop_front() else { break };
            self.bytes -= bytes.len();
            self.first += 1;
            freed += 1;
        }
        freed
    }

    /// Writes down what was shed, now that there is room again. Gives whether there was something.
    pub(super) fn tell_shed(&mut self) -> bool {
        let told = self.shed.take().map(|loss| self.push(record::encode(&Record::Loss(loss))));
        told.is_some()
    }

    /// A batch from this record on, if there is one.
    pub(super) fn batch(&self, gateway: &GatewayId, from: Seq) -> Option<Sent> {
        let at = usize::try_from(from.checked_sub(self.first)?).ok()?;
        let mut batch = BatchBuilder::new(gateway, self.id, self.first, from);
        for record in self.kept.range(at.min(self.kept.len())..) {
            if !batch.is_empty() && batch.len() + record.len() > MAX_BATCH {
                break;
            }
            batch.push_encoded(1, record);
        }
        let next = from + batch.span();
        (!batch.is_empty()).then(|| Sent { first: from, next, payload: batch.finish() })
    }
}

#[cfg(test)]
mod tests {
    use speedwell_wire::{Batch, Event, EventKind, frame};

    use super::*;

    fn event(n: u64) -> Record {
        let detail = "x".repeat(500);
        Record::Event(Event { boot: 1, t_ns: n, sensor: None, kind: EventKind::Spool, detail })
    }

    #[test]
    fn a_full_log_sheds_the_newest_and_tells_so_once_there_is_room() {
        let (mut log, id) = (Log::new(LogId(1)), GatewayId::new("g").unwrap());
        let kept = (0..1_000).filter(|&n| log.append(&event(n), 10, (1, n))).count() as u64;
        assert!(kept < 600 && log.bytes() <= LIMIT && log.last() == kept);
        assert_eq!(log.shed_samples(), (1_000 - kept) * 10);
        assert_eq!(log.free(kept - 1), kept - 1);
        assert!(!log.append(&event(9), 10, (1, 1_000)), "what was shed is told first");
        assert!(log.tell_shed() && !log.tell_shed() && log.append(&event(9), 10, (1, 9)));
        let batch: Batch = frame::decode(&log.batch(&id, kept).unwrap().payload).unwrap();
        assert_eq!((batch.oldest_seq, batch.first_seq, batch.entries.len()), (kept, kept, 3));
        let Record::Loss(loss) = &batch.entries[1].record else { panic!("a loss") };
        assert_eq!((loss.samples, loss.from, loss.until), ((1_001 - kept) * 10, Some((1, kept)), Some((1, 1_000))));
        assert_eq!(log.batch(&id, kept + 3), None);
        assert_eq!(log.batch(&id, kept - 1), None, "freed");
    }
}
