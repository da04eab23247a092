//! What is committed, into SQLite.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use speedwell_wire::{Manifest, ManifestHash, Seq, frame};

use super::{fleet::Fleet, int, presence, readings, rows::Tables, word};
use crate::store::{
    Chunk, ClockMap, Committed, Done, Item, Latest, MAX_REJECTED_BYTES, MAX_REJECTED_ROWS, Prepared, PreparedBatch,
    Rejected, StoreError, Work, fleet,
    judge::{Arrived, Clocks, Judged, Marks, judge},
    rows::{DAY_NS, Rows},
};

/// Channel lists whose numbers are remembered.
const MAX_LISTS: usize = 10_000;

/// What is remembered between transactions to spare looking it up. Forgotten when one fails.
#[derive(Default)]
pub(super) struct Memory {
    clocks: Clocks,
    lists: HashMap<ManifestHash, i64>,
}

/// A transaction that takes work.
pub(super) struct Writing<'a> {
    pub(super) tx: &'a Connection,
    pub(super) memory: &'a mut Memory,
    pub(super) marks: Marks,
    /// The last time of arrival.
    touched_ns: i64,
}

impl Memory {
    pub(super) fn forget(&mut self) {
        self.clocks.forget();
        self.lists.clear();
    }
}

impl<'a> Writing<'a> {
    pub(super) fn new(tx: &'a Connection, memory: &'a mut Memory) -> Self {
        Self { tx, memory, marks: Marks::default(), touched_ns: 0 }
    }

    pub(super) fn apply(&mut self, work: &Work) -> Result<Done, StoreError> {
        match work {
            Work::Batch(batch) => self.batch(batch).map(Done::Batch),
            Work::Manifest(manifest) => put_manifest(self.tx, manifest).map(|()| Done::Kept),
            Work::Rejected(rejected) => put_rejected(self.tx, rejected).map(|()| Done::Kept),
            Work::Readings(given) => {
                self.touched_ns = self.touched_ns.max(given.received_ns);
                readings::put(self.tx, given, &mut self.marks).map(Done::Readings)
            }
            Work::Fleet(change) => fleet::apply(&mut Fleet(self.tx), change).map(Done::Fleet),
            Work::Presence(notes) => presence::put(self.tx, notes).map(|()| Done::Kept),
        }
    }

    /// Writes down where rollups are behind now.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        for ((gateway, from), to) in &self.marks.0 {
            self.tx
                .prepare_cached(
                    "INSERT INTO marks VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                        to_ns = max(to_ns, excluded.to_ns), touched_ns = excluded.touched_ns",
                )?
                .execute(params![gateway.as_str(), from, to, self.touched_ns])?;
        }
        Ok(())
    }

    fn batch(&mut self, batch: &PreparedBatch) -> Result<Committed, StoreError> {
        self.touched_ns = self.touched_ns.max(batch.received_ns);
        let (log, thru) = ledger_of(self.tx, batch)?;
        let Judged { mut committed, taken, newest, boots } = judge(batch, thru);
        if let Some(gap) = &committed.gap {
            self.tx.prepare_cached("INSERT INTO gaps VALUES (?, ?, ?, ?)")?.execute(params![
                log,
                int(*gap.start()),
                int(*gap.end()),
                batch.received_ns
            ])?;
        }
        let clocks = self.memory.clocks.of(log, thru);
        for (boot, arrived) in &boots {
            let clock = match clocks.entry(*boot) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(new) => {
                    let fixes = Tables(self.tx).fixes(&[(log, *boot)])?.pop().unwrap_or_default();
                    new.insert(ClockMap::new(fixes))
                }
            };
            let before = if arrived.fixes.is_empty() { None } else { stored_times(self.tx, log, *boot)? };
            self.marks.arrived(&batch.gateway, clock, arrived, before);
            put_part(self.tx, log, *boot, batch.received_ns, arrived)?;
        }
        for entry in taken {
            match &entry.item {
                Item::Chunk(chunk) => put_chunk(self.tx, &mut self.memory.lists, log, entry, chunk)?,
                _ => put_entry(self.tx, log, batch, entry)?,
            }
        }
        self.tx.prepare_cached("UPDATE ledger SET thru = ?, received_ns = ? WHERE id = ?")?.execute(params![
            int(committed.thru),
            batch.received_ns,
            log
        ])?;
        for (boot, new) in newest {
            let utc_ns = clocks.get(&boot).and_then(|clock| clock.utc(new.t_ns)).map(|(utc, _)| utc);
            let latest = Latest { gateway: batch.gateway.clone(), log: batch.log, boot, newest: new, utc_ns };
            if put_latest(self.tx, log, &latest)? {
                committed.newest.push(latest);
            }
        }
        self.memory.clocks.moved(log, committed.thru, &boots);
        Ok(committed)
    }
}

/// First and last boot time of what is stored of a boot.
fn stored_times(tx: &Connection, log: i64, boot: u32) -> Result<Option<(u64, u64)>, StoreError> {
    let sql = "SELECT min(t_min), max(t_max) FROM parts WHERE log = ? AND boot = ?";
    let found = tx
        .prepare_cached(sql)?
        .query_row(params![log, boot], |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?)))?;
    Ok(found.map(|(from, to)| (from as u64, to as u64)))
}

fn put_part(tx: &Connection, log: i64, boot: u32, received_ns: i64, arrived: &Arrived) -> Result<(), StoreError> {
    let Some(new) = arrived.chunks else { return Ok(()) };
    tx.prepare_cached(
        "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
            t_min = min(t_min, excluded.t_min), t_max = max(t_max, excluded.t_max),
            widest = max(widest, excluded.widest), last_seq = excluded.last_seq,
            chunks = chunks + excluded.chunks, samples = samples + excluded.samples",
    )?
    .execute(params![
        log,
        boot,
        received_ns.div_euclid(DAY_NS),
        int(new.times.0),
        int(new.times.1),
        int(new.widest),
        int(new.seqs.0),
        int(new.seqs.1),
        int(new.chunks),
        int(new.samples)
    ])?;
    Ok(())
}

fn ledger_of(tx: &Connection, batch: &PreparedBatch) -> Result<(i64, Seq), StoreError> {
    let (gateway, log) = (batch.gateway.as_str(), batch.log.to_string());
    let found = tx
        .prepare_cached("SELECT id, thru FROM ledger WHERE gateway = ? AND log = ?")?
        .query_row(params![gateway, log], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as Seq)))
        .optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    tx.prepare_cached("INSERT INTO ledger (gateway, log, thru, received_ns) VALUES (?, ?, 0, ?)")?.execute(params![
        gateway,
        log,
        batch.received_ns
    ])?;
    Ok((tx.last_insert_rowid(), 0))
}

fn put_entry(tx: &Connection, log: i64, batch: &PreparedBatch, entry: &Prepared) -> Result<(), StoreError> {
    let seq = int(entry.seq);
    match &entry.item {
        Item::Chunk(_) => {}
        Item::Event(event) => {
            tx.prepare_cached("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute(params![
                log,
                seq,
                event.boot,
                int(event.t_ns),
                event.sensor,
                word(&event.kind),
                event.detail
            ])?;
        }
        Item::Clock(fix) => {
            tx.prepare_cached("INSERT INTO clock_fixes VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
                log,
                fix.boot,
                int(fix.boot_ns),
                seq,
                fix.utc_ns,
                int(fix.uncertainty_ns),
                fix.rate_ppb,
                word(&fix.source)
            ])?;
        }
        Item::Loss(loss) => {
            let (from, until) = (loss.from.unzip(), loss.until.unzip());
            tx.prepare_cached("INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
                log,
                seq,
                int(entry.span),
                word(&loss.reason),
                int(loss.records),
                int(loss.samples),
                from.0,
                from.1.map(int),
                until.0,
                until.1.map(int)
            ])?;
        }
        Item::Unreadable { reason, bytes } => {
            let source = format!("{}/log {} record {}", batch.gateway, batch.log, entry.seq);
            let (reason, bytes) = (reason.clone(), bytes.clone());
            put_rejected(tx, &Rejected { source, received_ns: batch.received_ns, reason, bytes })?;
        }
    }
    Ok(())
}

fn put_chunk(
    tx: &Connection,
    lists: &mut HashMap<ManifestHash, i64>,
    log: i64,
    entry: &Prepared,
    chunk: &Chunk,
) -> Result<(), StoreError> {
    let manifest = match lists.get(&chunk.manifest) {
        Some(known) => *known,
        None => {
            let id: i64 = tx
                .prepare_cached("SELECT id FROM manifests WHERE hash = ?")?
                .query_row([chunk.manifest.to_string()], |row| row.get(0))?;
            if lists.len() >= MAX_LISTS {
                lists.clear();
            }
            lists.insert(chunk.manifest, id);
            id
        }
    };
    tx.prepare_cached("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        log,
        chunk.boot,
        int(*chunk.time.start()),
        int(entry.seq),
        int(*chunk.time.end()),
        int(entry.span),
        manifest,
        chunk.samples,
        chunk.block
    ])?;
    Ok(())
}

/// Whether it is newer than what was there.
fn put_latest(tx: &Connection, log: i64, latest: &Latest) -> Result<bool, StoreError> {
    let new = &latest.newest;
    let changed = tx
        .prepare_cached(
            "INSERT INTO latest VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                log = excluded.log, boot = excluded.boot, t_ns = excluded.t_ns, utc_ns = excluded.utc_ns,
                value = excluded.value, uncertainty = excluded.uncertainty, quality = excluded.quality
             WHERE (excluded.log, excluded.boot, excluded.t_ns) > (log, boot, t_ns)",
        )?
        .execute(params![
            latest.gateway.as_str(),
            new.sensor,
            word(&new.quantity),
            log,
            latest.boot,
            int(new.t_ns),
            latest.utc_ns,
            new.value,
            new.uncertainty,
            word(&new.quality)
        ])?;
    Ok(changed > 0)
}

fn put_manifest(tx: &Connection, manifest: &Manifest) -> Result<(), StoreError> {
    tx.prepare_cached("INSERT OR IGNORE INTO manifests (hash, body) VALUES (?, ?)")?
        .execute(params![manifest.hash().to_string(), frame::encode(manifest)])?;
    Ok(())
}

fn put_rejected(tx: &Connection, rejected: &Rejected) -> Result<(), StoreError> {
    let bytes = &rejected.bytes[..rejected.bytes.len().min(MAX_REJECTED_BYTES)];
    tx.prepare_cached("INSERT INTO rejected (source, received_ns, reason, bytes) VALUES (?, ?, ?, ?)")?
        .execute(params![rejected.source, rejected.received_ns, rejected.reason, bytes])?;
    let oldest = tx.last_insert_rowid() - i64::from(MAX_REJECTED_ROWS);
    tx.prepare_cached("DELETE FROM rejected WHERE id <= ?")?.execute([oldest])?;
    Ok(())
}
