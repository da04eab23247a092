//! Drops what is older than it is to be kept, a bounded piece at a time.

use rusqlite::{Connection, OptionalExtension, params};

use super::{gateway, rows::Tables};
use crate::store::{
    ClockMap, StoreError,
    judge::Marks,
    rows::{DAY_NS, Rows},
};

/// Rows dropped in one transaction: some milliseconds.
const STEP: i64 = 1_000;

/// Drops records that arrived, and readings that were measured, more than so many days ago. Says whether there are more.
pub(super) fn drop_old(tx: &Connection, keep_days: Option<u32>, now_ns: i64) -> Result<bool, StoreError> {
    let Some(days) = keep_days else { return Ok(false) };
    let first_kept = now_ns.div_euclid(DAY_NS) - i64::from(days);
    let mut marks = Marks::default();
    let more = drop_records(tx, first_kept, &mut marks)? | drop_readings(tx, first_kept, &mut marks)?;
    // Touched long ago: there is nothing to wait for.
    for ((gateway, from), to) in &marks.0 {
        tx.prepare_cached(
            "INSERT INTO marks VALUES (?, ?, ?, 0) ON CONFLICT DO UPDATE SET to_ns = max(to_ns, excluded.to_ns)",
        )?
        .execute(params![gateway.as_str(), from, to])?;
    }
    Ok(more)
}

fn drop_records(tx: &Connection, first_kept: i64, marks: &mut Marks) -> Result<bool, StoreError> {
    let oldest = tx
        .prepare_cached(
            "SELECT parts.log, boot, day, t_min, t_max, first_seq, last_seq, gateway
             FROM parts JOIN ledger ON ledger.id = parts.log WHERE day < ? ORDER BY day LIMIT 1",
        )?
        .query_row([first_kept], |row| {
            let part: [i64; 7] =
                [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
            Ok((part, row.get::<_, String>(7)?))
        })
        .optional()?;
    let Some(([log, boot, day, t_min, t_max, first_seq, last_seq], name)) = oldest else { return Ok(false) };
    let clock = ClockMap::new(Tables(tx).fixes(&[(log, boot as u32)])?.pop().unwrap_or_default());
    let gateway = gateway(name)?;
    for (from, to) in clock.places(t_min.max(0) as u64, t_max.max(0) as u64) {
        marks.add(&gateway, from, to);
    }
    let mut rows = tx.prepare_cached(
        "DELETE FROM chunks WHERE (log, boot, t_min, seq) IN (
            SELECT log, boot, t_min, seq FROM chunks
            WHERE log = ? AND boot = ? AND t_min BETWEEN ? AND ? AND seq BETWEEN ? AND ? LIMIT ?)
         RETURNING samples",
    )?;
    let (mut chunks, mut samples) = (0i64, 0i64);
    let mut rows = rows.query(params![log, boot, t_min, t_max, first_seq, last_seq, STEP])?;
    while let Some(row) = rows.next()? {
        (chunks, samples) = (chunks + 1, samples + row.get::<_, i64>(0)?);
    }
    if chunks < STEP {
        tx.prepare_cached("DELETE FROM parts WHERE log = ? AND boot = ? AND day = ?")?.execute([log, boot, day])?;
    } else {
        let sql = "UPDATE parts SET chunks = chunks - ?, samples = samples - ? WHERE log = ? AND boot = ? AND day = ?";
        tx.prepare_cached(sql)?.execute([chunks, samples, log, boot, day])?;
    }
    Ok(true)
}

/// Series by series, since that is how they lie; the oldest of each is found at once.
fn drop_readings(tx: &Connection, first_kept: i64, marks: &mut Marks) -> Result<bool, StoreError> {
    let before = first_kept.saturating_mul(DAY_NS);
    let found = tx
        .prepare_cached(
            "SELECT id, gateway FROM series WHERE readings > 0
                AND (SELECT min(utc_ns) FROM readings WHERE series = id) < ? LIMIT 1",
        )?
        .query_row([before], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    let Some((series, name)) = found else { return Ok(false) };
    let gateway = gateway(name)?;
    let mut rows = tx.prepare_cached(
        "DELETE FROM readings WHERE series = ?1 AND utc_ns IN (
            SELECT utc_ns FROM readings WHERE series = ?1 AND utc_ns < ?2 ORDER BY utc_ns LIMIT ?3)
         RETURNING utc_ns",
    )?;
    let mut dropped = 0i64;
    let mut rows = rows.query(params![series, before, STEP])?;
    while let Some(row) = rows.next()? {
        let utc_ns = row.get(0)?;
        marks.add(&gateway, utc_ns, utc_ns);
        dropped += 1;
    }
    tx.prepare_cached(
        "UPDATE series SET readings = readings - ?2, newest_ns = (SELECT max(utc_ns) FROM readings WHERE series = ?1)
         WHERE id = ?1",
    )?
    .execute([series, dropped])?;
    Ok(true)
}
