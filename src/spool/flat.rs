//! A sealed generation: its chunks one after the other in a plain file.
//!
//! While a generation is written it is a sled database; once it is full nothing will change in it any more, so its
//! records move into as few chunks as they fit, in a file that takes half to a third of the disk, that is read without
//! opening a database (which writes, and so fails on a full disk), and of which a damaged chunk costs no other.

use std::{collections::BTreeMap, fs::File, io, io::Write, os::unix::fs::FileExt, path::Path};

use speedwell_wire::Seq;

use super::{
    chunk::{Builder, Chunk, Whole},
    generation::{At, Walked},
    salvage::{Found, chunks_of},
};

/// An open sealed generation.
pub(super) struct Flat {
    file: File,
    /// Where the whole chunks are.
    index: BTreeMap<Seq, Found>,
}

impl Flat {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let index = chunks_of(&file)?;
        Ok(Self { file, index })
    }

    /// Number of the last record.
    pub(super) fn last(&self) -> Option<Seq> {
        self.index.last_key_value().map(|(_, found)| found.last)
    }

    /// What there is from a number on. Each chunk was read and checked when this was opened.
    pub(super) fn walk(&self, mut next: Seq) -> Walked {
        let mut walked = Walked::default();
        for (first, found) in &self.index {
            // Two that overlap are of two epochs; what the first has counts.
            if found.last < next {
                continue;
            }
            walked.holes |= *first > next;
            walked.last = Some(found.last);
            walked.bytes += found.len as u64;
            next = found.last + 1;
        }
        walked
    }

    /// What lies at `seq`. What cannot be read is a hole.
    pub(super) fn at(&self, seq: Seq) -> At {
        if let Some((_, found)) = self.index.range(..=seq).next_back()
            && seq <= found.last
            && let Some(chunk) = self.read(found)
        {
            return At::Chunk(chunk);
        }
        let behind = self.index.range(seq.saturating_add(1)..);
        At::Hole(behind.filter(|(_, found)| self.read(found).is_some()).map(|(first, _)| *first).next())
    }

    fn read(&self, found: &Found) -> Option<Whole> {
        let mut bytes = vec![0; found.len];
        self.file.read_exact_at(&mut bytes, found.offset).ok()?;
        Whole::of(bytes)
    }
}

/// Writes a sealed generation's file.
pub(super) struct FlatWriter {
    file: File,
    builder: Builder,
    first: Seq,
    next: Seq,
    epoch: u32,
}

impl FlatWriter {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, builder: Builder::new(), first: 0, next: 0, epoch: 0 })
    }

    /// Takes a chunk's records in.
    pub(super) fn take(&mut self, chunk: &Chunk<'_>) -> io::Result<()> {
        let mut records = (chunk.first..).zip(chunk.records());
        records.try_for_each(|(seq, record)| self.take_record(seq, chunk.epoch, record))
    }

    /// Takes the record of a number in.
    pub(super) fn take_record(&mut self, seq: Seq, epoch: u32, record: &[u8]) -> io::Result<()> {
        if seq != self.next {
            self.finish_chunk(seq)?;
        }
        self.epoch = self.epoch.max(epoch);
        if !self.builder.push(record) {
            self.finish_chunk(self.next)?;
            let _fits_an_empty_chunk = self.builder.push(record);
        }
        self.next += 1;
        Ok(())
    }

    fn finish_chunk(&mut self, next: Seq) -> io::Result<()> {
        if !self.builder.is_empty() {
            let bytes = self.builder.finish(self.first, self.epoch);
            self.file.write_all(&bytes)?;
        }
        (self.first, self.next) = (next, next);
        Ok(())
    }

    /// Writes what is left and syncs the file.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.finish_chunk(self.next)?;
        self.file.sync_all()
    }
}
