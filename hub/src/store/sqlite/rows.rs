//! The tables of SQLite as history and rollups want them.

use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension, Row, params};
use speedwell_wire::{ClockFix, GatewayId, Manifest, Quantity};

use super::{clock_fix, gateway, manifest, unword, word};
use crate::store::{
    Point, StoreError,
    rollup::{Bucket, Level, SETTLE_AFTER_NS, floor, rank, worst_of},
    rows::{ChunkRow, MAX_FIXES, Mark, Part, Rows, RowsMut, Series},
};

const SECOND_NS: i64 = Duration::from_secs(1).as_nanos() as i64;

/// What [`bucket`] reads.
const BUCKET: &str =
    "start, count, untrusted, min, max, sum, first_after, first, last_after, last, area, bridged_ns, worst";

fn bucket(row: &Row<'_>) -> rusqlite::Result<Bucket> {
    let start_ns = row.get::<_, i64>(0)?.saturating_mul(SECOND_NS);
    let (count, untrusted) = (row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64);
    let at = |column| Ok::<_, rusqlite::Error>(start_ns.saturating_add(row.get(column)?));
    let (first, last) = ((at(6)?, row.get(7)?), (at(8)?, row.get(9)?));
    let (min, max, sum, area) = (row.get(3)?, row.get(4)?, row.get(5)?, row.get(10)?);
    let (bridged_ns, worst) = (row.get(11)?, worst_of(row.get(12)?));
    Ok(Bucket { start_ns, count, untrusted, min, max, sum, first, last, area, bridged_ns, worst })
}

/// A connection inside a transaction.
pub(super) struct Tables<'a>(pub(super) &'a Connection);

impl Rows for Tables<'_> {
    fn parts(&mut self, gateway: &GatewayId) -> Result<Vec<Part>, StoreError> {
        let mut rows = self.0.prepare_cached(
            "SELECT parts.log, boot, day, t_min, t_max, widest, first_seq, last_seq, ledger.log
             FROM parts JOIN ledger ON ledger.id = parts.log WHERE gateway = ? ORDER BY parts.log, boot, day",
        )?;
        let part = |row: &Row<'_>| {
            let (log, boot, day, t_min, t_max) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
            let (widest, seqs, name) = (row.get(5)?, (row.get(6)?, row.get(7)?), row.get(8)?);
            Ok(Part { log, name, boot, day, t_min, t_max, widest, seqs })
        };
        Ok(rows.query_map([gateway.as_str()], part)?.collect::<Result<_, _>>()?)
    }

    fn fixes(&mut self, boots: &[(i64, u32)]) -> Result<Vec<Vec<ClockFix>>, StoreError> {
        let mut rows = self.0.prepare_cached(&format!(
            "SELECT boot, boot_ns, utc_ns, uncertainty_ns, rate_ppb, source FROM clock_fixes
             WHERE log = ? AND boot = ? ORDER BY boot_ns, seq LIMIT {MAX_FIXES}"
        ))?;
        let mut all = Vec::with_capacity(boots.len());
        for (log, boot) in boots {
            let mut rows = rows.query(params![log, boot])?;
            let mut fixes = Vec::new();
            while let Some(row) = rows.next()? {
                fixes.push(clock_fix(row)?);
            }
            all.push(fixes);
        }
        Ok(all)
    }

    fn chunks(
        &mut self,
        part: &Part,
        (from, to): (i64, i64),
        after: Option<(i64, i64)>,
        most: usize,
    ) -> Result<Vec<ChunkRow>, StoreError> {
        let first = from.saturating_sub(part.widest);
        let after = after.unwrap_or((first, i64::MIN));
        let mut rows = self.0.prepare_cached(
            "SELECT manifest, t_min, seq, block, t_max FROM chunks
             WHERE log = ? AND boot = ? AND (t_min, seq) > (?, ?) AND t_min BETWEEN ? AND ? AND t_max >= ?
                AND seq BETWEEN ? AND ? ORDER BY t_min, seq LIMIT ?",
        )?;
        let (log, boot, seqs) = (part.log, part.boot, part.seqs);
        let given = params![log, boot, after.0, after.1, first, to, from, seqs.0, seqs.1, most as i64];
        let chunk = |row: &Row<'_>| {
            let (manifest, t_min, seq) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(ChunkRow { manifest, t_min, seq, block: row.get(3)?, t_max: row.get(4)? })
        };
        Ok(rows.query_map(given, chunk)?.collect::<Result<_, _>>()?)
    }

    fn manifest(&mut self, id: i64) -> Result<Arc<Manifest>, StoreError> {
        let sql = "SELECT body FROM manifests WHERE id = ?";
        let body: Vec<u8> = self.0.prepare_cached(sql)?.query_row([id], |row| row.get(0))?;
        Ok(Arc::new(manifest(&body)?))
    }

    fn series(&mut self, gateway: &GatewayId) -> Result<Vec<Series>, StoreError> {
        let mut rows = self
            .0
            .prepare_cached("SELECT id, sensor, quantity, readings > 0 FROM series WHERE gateway = ? ORDER BY id")?;
        let mut rows = rows.query([gateway.as_str()])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let quantity = unword(row.get_ref(2)?.as_str().unwrap_or_default())?;
            all.push(Series { id: row.get(0)?, sensor: row.get(1)?, quantity, read: row.get(3)? });
        }
        Ok(all)
    }

    fn readings(&mut self, series: i64, (from, to): (i64, i64), most: usize) -> Result<Vec<Point>, StoreError> {
        let mut rows = self.0.prepare_cached(
            "SELECT utc_ns, value, uncertainty, quality FROM readings
             WHERE series = ? AND utc_ns BETWEEN ? AND ? ORDER BY utc_ns LIMIT ?",
        )?;
        let mut rows = rows.query(params![series, from, to, most as i64])?;
        let mut points = Vec::new();
        while let Some(row) = rows.next()? {
            let quality = unword(row.get_ref(3)?.as_str().unwrap_or_default())?;
            points.push(Point { utc_ns: row.get(0)?, value: row.get(1)?, uncertainty: row.get(2)?, quality });
        }
        Ok(points)
    }

    fn marks(&mut self, gateway: &GatewayId, (from, to): (i64, i64)) -> Result<Vec<(i64, i64)>, StoreError> {
        let sql = "SELECT from_ns, to_ns FROM marks WHERE gateway = ? AND from_ns < ? AND to_ns > ? ORDER BY from_ns";
        let mut rows = self.0.prepare_cached(sql)?;
        let found = rows.query_map(params![gateway.as_str(), to, from], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn rollups(
        &mut self,
        series: i64,
        level: Level,
        (from, to): (i64, i64),
        most: usize,
    ) -> Result<Vec<Bucket>, StoreError> {
        let mut rows = self.0.prepare_cached(&format!(
            "SELECT {BUCKET} FROM rollups
             WHERE series = ? AND level = ? AND start >= ? AND start < ? ORDER BY start LIMIT ?"
        ))?;
        let (from, to) = (floor(from, SECOND_NS) / SECOND_NS, floor(to, SECOND_NS) / SECOND_NS);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let found = rows.query_map(params![series, level.number(), from, to, most], bucket)?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

impl RowsMut for Tables<'_> {
    fn due_mark(&mut self, now_ns: i64) -> Result<Option<Mark>, StoreError> {
        let sql = "SELECT gateway, from_ns, to_ns FROM marks WHERE touched_ns < ? ORDER BY touched_ns LIMIT 1";
        let mut rows = self.0.prepare_cached(sql)?;
        let mark = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?));
        let found = rows.query_row([now_ns.saturating_sub(SETTLE_AFTER_NS)], mark).optional()?;
        found.map(|(name, from_ns, to_ns)| Ok(Mark { gateway: gateway(name)?, from_ns, to_ns })).transpose()
    }

    fn settled(&mut self, mark: &Mark, upto: i64) -> Result<(), StoreError> {
        let key = params![mark.gateway.as_str(), mark.from_ns];
        if upto >= mark.to_ns {
            self.0.prepare_cached("DELETE FROM marks WHERE gateway = ? AND from_ns = ?")?.execute(key)?;
            return Ok(());
        }
        // The rest may begin where another mark does.
        self.0
            .prepare_cached(
                "INSERT INTO marks SELECT gateway, ?3, to_ns, touched_ns FROM marks WHERE gateway = ?1 AND from_ns = ?2
                 ON CONFLICT DO UPDATE SET to_ns = max(to_ns, excluded.to_ns)",
            )?
            .execute(params![mark.gateway.as_str(), mark.from_ns, upto])?;
        self.0.prepare_cached("DELETE FROM marks WHERE gateway = ? AND from_ns = ?")?.execute(key)?;
        Ok(())
    }

    fn postponed(&mut self, mark: &Mark, touched_ns: i64) -> Result<(), StoreError> {
        self.0
            .prepare_cached("UPDATE marks SET touched_ns = ?3 WHERE gateway = ?1 AND from_ns = ?2")?
            .execute(params![mark.gateway.as_str(), mark.from_ns, touched_ns])?;
        Ok(())
    }

    fn minutes(
        &mut self,
        gateway: &GatewayId,
        (from, to): (i64, i64),
        most: usize,
    ) -> Result<Vec<(i64, Bucket)>, StoreError> {
        let mut rows = self.0.prepare_cached(&format!(
            "SELECT {BUCKET}, series FROM rollups WHERE series IN (SELECT id FROM series WHERE gateway = ?)
                AND level = 60 AND start >= ? AND start < ? ORDER BY start, series LIMIT ?"
        ))?;
        let (from, to) = (floor(from, SECOND_NS) / SECOND_NS, floor(to, SECOND_NS) / SECOND_NS);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let found =
            rows.query_map(params![gateway.as_str(), from, to, most], |row| Ok((row.get(13)?, bucket(row)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn series_id(&mut self, gateway: &GatewayId, sensor: &str, quantity: Quantity) -> Result<i64, StoreError> {
        let key = params![gateway.as_str(), sensor, word(&quantity)];
        let found = self
            .0
            .prepare_cached("SELECT id FROM series WHERE gateway = ? AND sensor = ? AND quantity = ?")?
            .query_row(key, |row| row.get(0))
            .optional()?;
        if let Some(id) = found {
            return Ok(id);
        }
        self.0.prepare_cached("INSERT INTO series (gateway, sensor, quantity) VALUES (?, ?, ?)")?.execute(key)?;
        Ok(self.0.last_insert_rowid())
    }

    fn replace_rollups(
        &mut self,
        gateway: &GatewayId,
        level: Level,
        (from, to): (i64, i64),
        buckets: &[(i64, Bucket)],
    ) -> Result<(), StoreError> {
        let (from, to) = (floor(from, SECOND_NS) / SECOND_NS, floor(to, SECOND_NS) / SECOND_NS);
        self.0
            .prepare_cached(
                "DELETE FROM rollups WHERE series IN (SELECT id FROM series WHERE gateway = ?)
                 AND level = ? AND start >= ? AND start < ?",
            )?
            .execute(params![gateway.as_str(), level.number(), from, to])?;
        let mut insert =
            self.0.prepare_cached("INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
        for (series, b) in buckets {
            insert.execute(params![
                series,
                level.number(),
                b.start_ns / SECOND_NS,
                b.count as i64,
                b.untrusted as i64,
                b.min,
                b.max,
                b.sum,
                b.first.0 - b.start_ns,
                b.first.1,
                b.last.0 - b.start_ns,
                b.last.1,
                b.area,
                b.bridged_ns,
                b.worst.map(rank)
            ])?;
        }
        Ok(())
    }
}
