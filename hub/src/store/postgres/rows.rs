//! The tables of PostgreSQL as history and rollups want them.

use std::{collections::HashMap, sync::Arc};

use speedwell_wire::{ClockFix, GatewayId, Manifest, Quantity};
use tokio_postgres::{Row, types::Type};

use super::{name, schema::LOCK_ROLLUPS, session::Session};
use crate::store::{
    Point, StoreError, gateway,
    rollup::{Bucket, Level, SETTLE_AFTER_NS, floor, rank, worst_of},
    rows::{ChunkRow, MAX_FIXES, Mark, Part, Rows, RowsMut, Series},
    unword, word,
};

const SECOND_NS: i64 = 1_000_000_000;

pub(super) fn clock_fix(row: &Row, first: usize) -> Result<ClockFix, StoreError> {
    Ok(ClockFix {
        boot: row.get::<_, i64>(first) as u32,
        boot_ns: row.get::<_, i64>(first + 1) as u64,
        utc_ns: row.get(first + 2),
        uncertainty_ns: row.get::<_, i64>(first + 3) as u64,
        rate_ppb: row.get(first + 4),
        source: unword(row.get(first + 5))?,
    })
}

/// A row of `rollups` from its `start` on.
fn bucket(row: &Row) -> Bucket {
    let start_ns = row.get::<_, i64>(0).saturating_mul(SECOND_NS);
    let at = |column| start_ns.saturating_add(row.get(column));
    Bucket {
        start_ns,
        count: row.get::<_, i64>(1) as u64,
        untrusted: row.get::<_, i64>(2) as u64,
        min: row.get(3),
        max: row.get(4),
        sum: row.get(5),
        first: (at(6), row.get(7)),
        last: (at(8), row.get(9)),
        area: row.get(10),
        bridged_ns: row.get(11),
        worst: worst_of(row.get(12)),
    }
}

impl Rows for Session {
    fn parts(&mut self, gateway: &GatewayId) -> Result<Vec<Part>, StoreError> {
        let rows = self.query(
            "SELECT parts.log, boot, day, t_min, t_max, widest, first_seq, last_seq, ledger.log
             FROM parts JOIN ledger ON ledger.id = parts.log WHERE gateway = $1 ORDER BY parts.log, boot, day",
            &[&gateway.as_str()],
        )?;
        let part = |row: &Row| Part {
            log: row.get(0),
            boot: row.get::<_, i64>(1) as u32,
            day: row.get(2),
            t_min: row.get(3),
            t_max: row.get(4),
            widest: row.get(5),
            seqs: (row.get(6), row.get(7)),
            name: row.get(8),
        };
        Ok(rows.iter().map(part).collect())
    }

    fn fixes(&mut self, boots: &[(i64, u32)]) -> Result<Vec<Vec<ClockFix>>, StoreError> {
        if boots.is_empty() {
            return Ok(Vec::new());
        }
        let (logs, numbers): (Vec<i64>, Vec<i64>) = boots.iter().map(|(log, boot)| (*log, i64::from(*boot))).unzip();
        let rows = self.query(
            "SELECT asked.log, found.* FROM unnest($1::bigint[], $2::bigint[]) AS asked (log, boot),
             LATERAL (
                SELECT boot, boot_ns, utc_ns, uncertainty_ns, rate_ppb, source FROM clock_fixes
                WHERE log = asked.log AND boot = asked.boot ORDER BY boot_ns, seq LIMIT $3
             ) AS found",
            &[&logs, &numbers, &(MAX_FIXES as i64)],
        )?;
        let mut all: HashMap<(i64, u32), Vec<ClockFix>> = HashMap::new();
        for row in &rows {
            let fix = clock_fix(row, 1)?;
            all.entry((row.get(0), fix.boot)).or_default().push(fix);
        }
        Ok(boots.iter().map(|boot| all.remove(boot).unwrap_or_default()).collect())
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
        let rows = self.query(
            "SELECT manifest, t_min, seq, block, t_max FROM chunks
             WHERE day = $1 AND log = $2 AND boot = $3 AND (t_min, seq) > ($4, $5) AND t_min BETWEEN $6 AND $7
                AND t_max >= $8 ORDER BY t_min, seq LIMIT $9",
            &[&part.day, &part.log, &i64::from(part.boot), &after.0, &after.1, &first, &to, &from, &(most as i64)],
        )?;
        let chunk = |row: &Row| {
            let (manifest, t_min, seq) = (row.get(0), row.get(1), row.get(2));
            ChunkRow { manifest, t_min, seq, block: row.get(3), t_max: row.get(4) }
        };
        Ok(rows.iter().map(chunk).collect())
    }

    fn manifest(&mut self, id: i64) -> Result<Arc<Manifest>, StoreError> {
        self.list(id)
    }

    fn series(&mut self, gateway: &GatewayId) -> Result<Vec<Series>, StoreError> {
        let rows = self.query(
            "SELECT id, sensor, quantity, readings > 0 FROM series WHERE gateway = $1 ORDER BY id",
            &[&gateway.as_str()],
        )?;
        let series = |row: &Row| {
            Ok(Series { id: row.get(0), sensor: row.get(1), quantity: unword(row.get(2))?, read: row.get(3) })
        };
        rows.iter().map(series).collect()
    }

    fn readings(&mut self, series: i64, (from, to): (i64, i64), most: usize) -> Result<Vec<Point>, StoreError> {
        let rows = self.query(
            "SELECT utc_ns, value, uncertainty, quality FROM readings
             WHERE series = $1 AND utc_ns BETWEEN $2 AND $3 ORDER BY utc_ns LIMIT $4",
            &[&series, &from, &to, &(most as i64)],
        )?;
        let point = |row: &Row| {
            Ok(Point { utc_ns: row.get(0), value: row.get(1), uncertainty: row.get(2), quality: unword(row.get(3))? })
        };
        rows.iter().map(point).collect()
    }

    fn marks(&mut self, gateway: &GatewayId, (from, to): (i64, i64)) -> Result<Vec<(i64, i64)>, StoreError> {
        let rows = self.query(
            "SELECT from_ns, to_ns FROM marks WHERE gateway = $1 AND from_ns < $2 AND to_ns > $3 ORDER BY from_ns",
            &[&gateway.as_str(), &to, &from],
        )?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    fn rollups(
        &mut self,
        series: i64,
        level: Level,
        (from, to): (i64, i64),
        most: usize,
    ) -> Result<Vec<Bucket>, StoreError> {
        let (from, to) = (floor(from, SECOND_NS) / SECOND_NS, floor(to, SECOND_NS) / SECOND_NS);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.query(
            "SELECT start, count, untrusted, min, max, sum, first_after, first, last_after, last, area, bridged_ns, worst
             FROM rollups WHERE series = $1 AND level = $2 AND start >= $3 AND start < $4 ORDER BY start LIMIT $5",
            &[&series, &level.number(), &from, &to, &most],
        )?;
        Ok(rows.iter().map(bucket).collect())
    }
}

impl RowsMut for Session {
    fn due_mark(&mut self, now_ns: i64) -> Result<Option<Mark>, StoreError> {
        let rows = self.query(
            "SELECT gateway, from_ns, to_ns FROM marks WHERE touched_ns < $1 ORDER BY touched_ns LIMIT 1
             FOR UPDATE SKIP LOCKED",
            &[&now_ns.saturating_sub(SETTLE_AFTER_NS)],
        )?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mark = Mark { gateway: gateway(row.get(0))?, from_ns: row.get(1), to_ns: row.get(2) };
        // One hub a gateway: another may have read the samples earlier and write what it made of them later. Who holds one
        // does not wait for another's.
        let sql = "SELECT pg_try_advisory_xact_lock($1, hashtext($2))";
        let free = self.query(sql, &[&LOCK_ROLLUPS, &mark.gateway.as_str()])?;
        if !free.first().is_some_and(|row| row.get(0)) {
            return Ok(None);
        }
        Ok(Some(mark))
    }

    fn settled(&mut self, mark: &Mark, upto: i64) -> Result<(), StoreError> {
        let name = mark.gateway.as_str();
        if upto < mark.to_ns {
            // The rest may begin where another mark does.
            self.execute(
                "INSERT INTO marks SELECT gateway, $3, to_ns, touched_ns FROM marks WHERE gateway = $1 AND from_ns = $2
                 ON CONFLICT (gateway, from_ns) DO UPDATE SET to_ns = greatest(marks.to_ns, excluded.to_ns)",
                &[&name, &mark.from_ns, &upto],
            )?;
        }
        self.execute("DELETE FROM marks WHERE gateway = $1 AND from_ns = $2", &[&name, &mark.from_ns])?;
        Ok(())
    }

    fn postponed(&mut self, mark: &Mark, touched_ns: i64) -> Result<(), StoreError> {
        let sql = "UPDATE marks SET touched_ns = $3 WHERE gateway = $1 AND from_ns = $2";
        self.execute(sql, &[&mark.gateway.as_str(), &mark.from_ns, &touched_ns])?;
        Ok(())
    }

    fn minutes(
        &mut self,
        gateway: &GatewayId,
        (from, to): (i64, i64),
        most: usize,
    ) -> Result<Vec<(i64, Bucket)>, StoreError> {
        let (from, to) = (floor(from, SECOND_NS) / SECOND_NS, floor(to, SECOND_NS) / SECOND_NS);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.query(
            "SELECT start, count, untrusted, min, max, sum, first_after, first, last_after, last, area, bridged_ns,
                worst, series
             FROM rollups WHERE series = ANY (ARRAY(SELECT id FROM series WHERE gateway = $1))
                AND level = 60 AND start >= $2 AND start < $3 ORDER BY start, series LIMIT $4",
            &[&gateway.as_str(), &from, &to, &most],
        )?;
        Ok(rows.iter().map(|row| (row.get(13), bucket(row))).collect())
    }

    fn series_id(&mut self, gateway: &GatewayId, sensor: &str, quantity: Quantity) -> Result<i64, StoreError> {
        let (sensor, quantity) = (name(sensor), word(&quantity));
        let given: super::session::Given<'_> = &[&gateway.as_str(), &sensor, &quantity];
        let find = "SELECT id FROM series WHERE gateway = $1 AND sensor = $2 AND quantity = $3";
        if let Some(row) = self.query(find, given)?.first() {
            return Ok(row.get(0));
        }
        let insert = "INSERT INTO series (gateway, sensor, quantity) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        self.execute(insert, given)?;
        let rows = self.query(find, given)?;
        rows.first().map(|row| row.get(0)).ok_or(StoreError::Locked)
    }

    fn replace_rollups(
        &mut self,
        gateway: &GatewayId,
        level: Level,
        (from, to): (i64, i64),
        buckets: &[(i64, Bucket)],
    ) -> Result<(), StoreError> {
        let (from, to) = (floor(from, SECOND_NS) / SECOND_NS, floor(to, SECOND_NS) / SECOND_NS);
        self.execute(
            "DELETE FROM rollups WHERE series = ANY (ARRAY(SELECT id FROM series WHERE gateway = $1))
             AND level = $2 AND start >= $3 AND start < $4",
            &[&gateway.as_str(), &level.number(), &from, &to],
        )?;
        type Numbers = (i64, i64, i64, i64, i64, Option<i16>);
        let number = level.number();
        let numbers = |b: &Bucket| -> Numbers {
            let (first, last) = (b.first.0 - b.start_ns, b.last.0 - b.start_ns);
            (b.start_ns / SECOND_NS, b.count as i64, b.untrusted as i64, first, last, b.worst.map(rank))
        };
        let numbers: Vec<Numbers> = buckets.iter().map(|(_, b)| numbers(b)).collect();
        let (i, f) = (Type::INT8, Type::FLOAT8);
        let types = [
            i.clone(),
            Type::INT2,
            i.clone(),
            i.clone(),
            i.clone(),
            f.clone(),
            f.clone(),
            f.clone(),
            i.clone(),
            f.clone(),
            i.clone(),
            f.clone(),
            f,
            i,
            Type::INT2,
        ];
        self.copy(
            "COPY rollups FROM STDIN (FORMAT binary)",
            types,
            buckets.iter().zip(&numbers).map(|((series, b), n)| -> [&(dyn tokio_postgres::types::ToSql + Sync); 15] {
                [
                    series,
                    &number,
                    &n.0,
                    &n.1,
                    &n.2,
                    &b.min,
                    &b.max,
                    &b.sum,
                    &n.3,
                    &b.first.1,
                    &n.4,
                    &b.last.1,
                    &b.area,
                    &b.bridged_ns,
                    &n.5,
                ]
            }),
        )
    }
}
