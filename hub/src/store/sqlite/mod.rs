//! The store on SQLite. This folder and `history` are the only files that know `rusqlite`.
//!
//! WAL, so that readers never wait for the writer. `synchronous=FULL`, because what was confirmed is deleted at the
//! gateway: with NORMAL a power cut may take the last commits back, with FULL each commit is on disk when it returns.
//! The price, one fsync a commit, is shared by all that goes into it (see [`super::writer`]).

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Serialize, de::DeserializeOwned};
use speedwell_wire::{ClockFix, GatewayId, LogId, Manifest, Seq, frame};

use super::{
    Chunk, Committed, Counts, Done, History, HistoryQuery, Item, Latest, LedgerRow, MAX_REJECTED_BYTES,
    MAX_REJECTED_ROWS, Newest, Prepared, PreparedBatch, Read, Rejected, Standing, Store, StoreError, Work, gateway_of,
    history, merge_latest,
};
use crate::ledger::{Ledger, Verdict};

mod readings;
mod schema;

/// Another process may hold the lock for a moment: a backup, a person with the `sqlite3` tool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements kept prepared; there are some twenty.
const STATEMENTS: usize = 64;

/// The store on SQLite.
pub struct Sqlite {
    db: Connection,
    path: PathBuf,
    /// Which file that is: its device and its number there.
    file: (u64, u64),
}

/// Opens a connection a call: that costs some 100 us and leaves nothing to be shared.
struct Reader {
    path: PathBuf,
}

impl Sqlite {
    /// Opens the database, or makes it, and brings it to the newest form.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::create_dir_all(directory)
                .map_err(|source| StoreError::Directory { path: directory.to_path_buf(), source })?;
        }
        let mut db = Connection::open(path)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "cache_size", -32_000)?; // 32 MB
        schema::migrate(&mut db)?;
        let file = identity(path).ok_or_else(|| StoreError::Elsewhere { path: path.to_path_buf() })?;
        Ok(Self { db, path: path.to_path_buf(), file })
    }
}

/// Device and number of the file at this path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Store for Sqlite {
    fn commit(&mut self, work: &[Work]) -> Result<Vec<Done>, StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work.iter().map(|work| apply(&tx, work)).collect::<Result<_, _>>()?;
        tx.commit()?;
        // A file that was moved, deleted or put another in the place of takes every commit as before; nobody would ever
        // find again what is in it.
        if identity(&self.path) != Some(self.file) {
            return Err(StoreError::Elsewhere { path: self.path.clone() });
        }
        Ok(done)
    }

    fn reader(&self) -> Arc<dyn Read> {
        Arc::new(Reader { path: self.path.clone() })
    }
}

fn apply(tx: &Transaction<'_>, work: &Work) -> Result<Done, StoreError> {
    match work {
        Work::Batch(batch) => put_batch(tx, batch).map(Done::Batch),
        Work::Manifest(manifest) => put_manifest(tx, manifest).map(|()| Done::Kept),
        Work::Rejected(rejected) => put_rejected(tx, rejected).map(|()| Done::Kept),
        Work::Readings(given) => readings::put(tx, given).map(Done::Readings),
    }
}

fn put_batch(tx: &Transaction<'_>, batch: &PreparedBatch) -> Result<Committed, StoreError> {
    let (id, thru) = ledger_of(tx, batch)?;
    let mut ledger = Ledger { thru };
    let gap = ledger.pass_over(batch.first_seq, batch.oldest_seq);
    if let Some(gap) = &gap {
        tx.prepare_cached("INSERT INTO gaps VALUES (?, ?, ?, ?)")?.execute(params![
            id,
            int(*gap.start()),
            int(*gap.end()),
            batch.received_ns
        ])?;
    }
    let (mut stored, mut duplicates, mut dropped) = (0, 0, 0);
    let (mut lost_samples, mut rejected) = (0u64, 0);
    let mut newest = Vec::new();
    for entry in &batch.entries {
        match ledger.judge(entry.seq, entry.span) {
            Verdict::Duplicate => duplicates += 1,
            Verdict::Drop => dropped += 1,
            Verdict::Take => {
                stored += 1;
                put_entry(tx, id, batch, entry)?;
                match &entry.item {
                    Item::Chunk(chunk) => keep_newest(&mut newest, chunk),
                    Item::Loss(loss) => lost_samples = lost_samples.saturating_add(loss.samples),
                    Item::Unreadable { .. } => rejected += 1,
                    Item::Event(_) | Item::Clock(_) => {}
                }
            }
        }
    }
    tx.prepare_cached("UPDATE ledger SET thru = ?, received_ns = ? WHERE id = ?")?.execute(params![
        int(ledger.thru),
        batch.received_ns,
        id
    ])?;
    let newest = put_latest(tx, id, batch, newest)?;
    let (gateway, log, thru) = (batch.gateway.clone(), batch.log, ledger.thru);
    Ok(Committed { gateway, log, thru, stored, duplicates, dropped, gap, lost_samples, rejected, newest })
}

fn ledger_of(tx: &Transaction<'_>, batch: &PreparedBatch) -> Result<(i64, Seq), StoreError> {
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

fn put_entry(tx: &Transaction<'_>, log: i64, batch: &PreparedBatch, entry: &Prepared) -> Result<(), StoreError> {
    let seq = int(entry.seq);
    match &entry.item {
        Item::Chunk(chunk) => put_chunk(tx, log, entry, chunk)?,
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

fn put_chunk(tx: &Transaction<'_>, log: i64, entry: &Prepared, chunk: &Chunk) -> Result<(), StoreError> {
    let (t_min, t_max) = (int(*chunk.time.start()), int(*chunk.time.end()));
    let manifest: i64 = tx
        .prepare_cached("SELECT id FROM manifests WHERE hash = ?")?
        .query_row([chunk.manifest.to_string()], |row| row.get(0))?;
    tx.prepare_cached("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        log,
        chunk.boot,
        t_min,
        int(entry.seq),
        t_max,
        int(entry.span),
        manifest,
        chunk.samples,
        chunk.block
    ])?;
    tx.prepare_cached(
        "INSERT INTO boots VALUES (?1, ?2, ?3, ?4, ?4 - ?3) ON CONFLICT DO UPDATE SET
            t_min = min(t_min, excluded.t_min), t_max = max(t_max, excluded.t_max),
            widest = max(widest, excluded.widest)",
    )?
    .execute(params![log, chunk.boot, t_min, t_max])?;
    Ok(())
}

/// The newest of each channel of all chunks of a batch, so that `latest` is written once a channel.
fn keep_newest(all: &mut Vec<(u32, Newest)>, chunk: &Chunk) {
    for new in &chunk.newest {
        match all.iter_mut().find(|(_, old)| old.sensor == new.sensor && old.quantity == new.quantity) {
            Some((boot, old)) if (*boot, old.t_ns) <= (chunk.boot, new.t_ns) => {
                (*boot, *old) = (chunk.boot, new.clone())
            }
            Some(_) => {}
            None => all.push((chunk.boot, new.clone())),
        }
    }
}

fn put_latest(
    tx: &Transaction<'_>,
    log: i64,
    batch: &PreparedBatch,
    newest: Vec<(u32, Newest)>,
) -> Result<Vec<Latest>, StoreError> {
    let mut clocks: Vec<(u32, super::ClockMap)> = Vec::new();
    let mut kept = Vec::new();
    for (boot, new) in newest {
        if !clocks.iter().any(|(b, _)| *b == boot) {
            // One fix is enough here: the last before the newest sample.
            clocks.push((boot, history::clock_map(tx, log, boot, Some(new.t_ns))?));
        }
        let utc_ns = clocks.iter().find(|(b, _)| *b == boot).and_then(|(_, map)| map.utc(new.t_ns)).map(|(utc, _)| utc);
        let changed = tx
            .prepare_cached(
                "INSERT INTO latest VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                    log = excluded.log, boot = excluded.boot, t_ns = excluded.t_ns, utc_ns = excluded.utc_ns,
                    value = excluded.value, uncertainty = excluded.uncertainty, quality = excluded.quality
                 WHERE (excluded.log, excluded.boot, excluded.t_ns) > (log, boot, t_ns)",
            )?
            .execute(params![
                batch.gateway.as_str(),
                new.sensor,
                word(&new.quantity),
                log,
                boot,
                int(new.t_ns),
                utc_ns,
                new.value,
                new.uncertainty,
                word(&new.quality)
            ])?;
        if changed > 0 {
            kept.push(Latest { gateway: batch.gateway.clone(), log: batch.log, boot, newest: new, utc_ns });
        }
    }
    Ok(kept)
}

fn put_manifest(tx: &Transaction<'_>, manifest: &Manifest) -> Result<(), StoreError> {
    tx.prepare_cached("INSERT OR IGNORE INTO manifests (hash, body) VALUES (?, ?)")?
        .execute(params![manifest.hash().to_string(), frame::encode(manifest)])?;
    Ok(())
}

fn put_rejected(tx: &Transaction<'_>, rejected: &Rejected) -> Result<(), StoreError> {
    let bytes = &rejected.bytes[..rejected.bytes.len().min(MAX_REJECTED_BYTES)];
    tx.prepare_cached("INSERT INTO rejected (source, received_ns, reason, bytes) VALUES (?, ?, ?, ?)")?
        .execute(params![rejected.source, rejected.received_ns, rejected.reason, bytes])?;
    let oldest = tx.last_insert_rowid() - i64::from(MAX_REJECTED_ROWS);
    tx.prepare_cached("DELETE FROM rejected WHERE id <= ?")?.execute([oldest])?;
    Ok(())
}

impl Reader {
    fn open(&self) -> Result<Connection, StoreError> {
        let db = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        Ok(db)
    }
}

impl Read for Reader {
    fn manifests(&self) -> Result<Vec<Manifest>, StoreError> {
        let db = self.open()?;
        let mut rows = db.prepare("SELECT body FROM manifests ORDER BY id")?;
        let bodies = rows.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        bodies.map(|body| manifest(&body?)).collect()
    }

    fn latest(&self) -> Result<Vec<Latest>, StoreError> {
        let db = self.open()?;
        let mut rows = db.prepare(
            "SELECT latest.gateway, sensor, quantity, boot, t_ns, utc_ns, value, uncertainty, quality, ledger.log
             FROM latest JOIN ledger ON ledger.id = latest.log",
        )?;
        let mut rows = rows.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(Latest {
                gateway: gateway(row.get(0)?)?,
                log: log_id(row.get(9)?)?,
                boot: row.get(3)?,
                utc_ns: row.get(5)?,
                newest: Newest {
                    sensor: row.get(1)?,
                    quantity: unword(&row.get::<_, String>(2)?)?,
                    t_ns: row.get::<_, i64>(4)? as u64,
                    value: row.get(6)?,
                    uncertainty: row.get(7)?,
                    quality: unword(&row.get::<_, String>(8)?)?,
                },
            });
        }
        Ok(merge_latest(all, readings::latest(&db)?))
    }

    fn history(&self, query: &HistoryQuery) -> Result<History, StoreError> {
        history::history(&self.open()?, query)
    }

    fn standings(&self) -> Result<Vec<(GatewayId, Standing)>, StoreError> {
        let mut all: BTreeMap<GatewayId, (i64, Standing)> = BTreeMap::new();
        for LedgerRow { gateway, log, thru, received_ns } in self.ledgers()? {
            let (newest, standing) = all.entry(gateway).or_insert((i64::MIN, Standing::default()));
            if received_ns >= *newest {
                (*newest, standing.log, standing.thru) = (received_ns, Some(log), thru);
            }
        }
        let db = self.open()?;
        // total() and not sum(): a sum that does not fit is an error, and a gateway can say any number.
        let gaps =
            "SELECT gateway, count(*), total(last - first + 1) FROM gaps JOIN ledger ON id = gaps.log GROUP BY 1";
        let losses = "SELECT gateway, 0, total(samples) FROM losses JOIN ledger ON id = losses.log GROUP BY 1";
        let rejected = "SELECT source, count(*), 0.0 FROM rejected GROUP BY 1";
        let readings = "SELECT gateway, sum(readings), 0.0 FROM series WHERE readings > 0 GROUP BY 1";
        for (sql, what) in [(gaps, 0), (losses, 1), (rejected, 2), (readings, 3)] {
            let mut rows = db.prepare(sql)?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let (source, count, total): (String, i64, f64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                // What was set aside may have come on any topic.
                let Ok(gateway) = GatewayId::new(gateway_of(&source)) else { continue };
                let (_, standing) = all.entry(gateway).or_default();
                match what {
                    0 => (standing.gaps, standing.missing_records) = (count as u64, total as u64),
                    1 => standing.lost_samples = total as u64,
                    3 => standing.readings = count as u64,
                    _ => standing.rejected += count as u64,
                }
            }
        }
        Ok(all.into_iter().map(|(gateway, (_, standing))| (gateway, standing)).collect())
    }

    fn ledgers(&self) -> Result<Vec<LedgerRow>, StoreError> {
        let db = self.open()?;
        let mut rows = db.prepare("SELECT gateway, log, thru, received_ns FROM ledger ORDER BY id")?;
        let mut rows = rows.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let log = log_id(row.get(1)?)?;
            let thru = row.get::<_, i64>(2)? as Seq;
            all.push(LedgerRow { gateway: gateway(row.get(0)?)?, log, thru, received_ns: row.get(3)? });
        }
        Ok(all)
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let db = self.open()?;
        let count = |what: &str| db.query_row(&format!("SELECT {what}"), [], |row| row.get::<_, i64>(0));
        Ok(Counts {
            chunks: count("count(*) FROM chunks")? as u64,
            samples: count("coalesce(sum(samples), 0) FROM chunks")? as u64,
            events: count("count(*) FROM events")? as u64,
            clock_fixes: count("count(*) FROM clock_fixes")? as u64,
            losses: count("count(*) FROM losses")? as u64,
            gaps: count("count(*) FROM gaps")? as u64,
            rejected: count("count(*) FROM rejected")? as u64,
            readings: count("coalesce(sum(readings), 0) FROM series")? as u64,
        })
    }
}

/// SQLite's integers have a sign; what does not fit was refused before it came here.
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The kebab-case word of one of the wire's enums.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The enum of a word.
pub(super) fn unword<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_value(text.into()).map_err(|e| StoreError::Content(format!("the word {text:?}: {e}")))
}

fn log_id(text: String) -> Result<LogId, StoreError> {
    text.parse().map_err(|_| StoreError::Content(format!("log {text:?}")))
}

fn gateway(name: String) -> Result<GatewayId, StoreError> {
    GatewayId::new(name).map_err(|e| StoreError::Content(e.to_string()))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked,
            _ => StoreError::Database(Box::new(error)),
        }
    }
}

pub(super) fn manifest(body: &[u8]) -> Result<Manifest, StoreError> {
    frame::decode(body).map_err(|e| StoreError::Content(format!("a manifest that is none: {e}")))
}

/// A row of `clock_fixes`: boot, boot_ns, utc_ns, uncertainty_ns, rate_ppb, source.
pub(super) fn clock_fix(row: &rusqlite::Row<'_>) -> Result<ClockFix, StoreError> {
    Ok(ClockFix {
        boot: row.get(0)?,
        boot_ns: row.get::<_, i64>(1)? as u64,
        utc_ns: row.get(2)?,
        uncertainty_ns: row.get::<_, i64>(3)? as u64,
        rate_ppb: row.get(4)?,
        source: unword(&row.get::<_, String>(5)?)?,
    })
}
