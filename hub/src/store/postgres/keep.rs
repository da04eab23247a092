//! Makes the partitions of coming days, and drops those whose time is over.

use super::{
    schema::{LOCK_TABLES, make_chunks, make_readings, partition},
    session::Session,
};
use crate::store::{
    ClockMap, StoreError, gateway,
    judge::Marks,
    rows::{DAY_NS, Rows},
};

/// Rows of readings outside of the days' partitions that are dropped in one transaction.
const STEP: i64 = 10_000;

/// Today's and the next two days' partitions, so that no commit has to wait for one to be made.
pub(super) fn make_ahead(session: &mut Session, now_ns: i64) -> Result<(), StoreError> {
    let today = now_ns.div_euclid(DAY_NS);
    for day in today..=today + 2 {
        make_chunks(session, day)?;
        make_readings(session, day)?;
    }
    Ok(())
}

/// Drops the oldest day that is older than it is to be kept. Says whether there was one.
pub(super) fn drop_old(session: &mut Session, keep_days: u32, now_ns: i64) -> Result<bool, StoreError> {
    let first_kept = now_ns.div_euclid(DAY_NS) - i64::from(keep_days);
    session.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK_TABLES])?;
    let mut marks = Marks::default();
    let more = drop_records(session, first_kept, &mut marks)? | drop_readings(session, first_kept, &mut marks)?;
    // Touched long ago: there is nothing to wait for.
    super::write::put_marks(session, &marks, 0)?;
    Ok(more)
}

fn drop_records(session: &mut Session, first_kept: i64, marks: &mut Marks) -> Result<bool, StoreError> {
    let oldest = session.query("SELECT min(day) FROM parts WHERE day < $1", &[&first_kept])?;
    let Some(day) = oldest.first().and_then(|row| row.get::<_, Option<i64>>(0)) else {
        // Those of days on which nothing came go too.
        return match oldest_partition(session, "chunks", first_kept)? {
            Some(table) => session.batch(&format!("DROP TABLE {table}")).map(|()| true),
            None => Ok(false),
        };
    };
    let rows = session.query(
        "DELETE FROM parts USING ledger WHERE ledger.id = parts.log AND day = $1
         RETURNING parts.log, boot, t_min, t_max, gateway",
        &[&day],
    )?;
    let boots: Vec<(i64, u32)> = rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1) as u32)).collect();
    let clocks = session.fixes(&boots)?;
    for (row, fixes) in rows.iter().zip(clocks) {
        let (t_min, t_max): (i64, i64) = (row.get(2), row.get(3));
        let gateway = gateway(row.get(4))?;
        for (from, to) in ClockMap::new(fixes).places(t_min.max(0) as u64, t_max.max(0) as u64) {
            marks.add(&gateway, from, to);
        }
    }
    session.batch(&format!("DROP TABLE IF EXISTS {}", partition("chunks", day)))?;
    Ok(true)
}

/// The oldest partition of a table that lies before a day.
fn oldest_partition(session: &mut Session, table: &str, first_kept: i64) -> Result<Option<String>, StoreError> {
    // Their names are in order of their days, and `other` comes after all of them.
    let found = session.query(
        "SELECT relname::text FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
         WHERE inhparent = $1::text::regclass AND relname < $2 ORDER BY 1 LIMIT 1",
        &[&table, &partition(table, first_kept)],
    )?;
    Ok(found.first().map(|row| row.get(0)))
}

fn drop_readings(session: &mut Session, first_kept: i64, marks: &mut Marks) -> Result<bool, StoreError> {
    let before = first_kept.saturating_mul(DAY_NS);
    let counted = match &oldest_partition(session, "readings", first_kept)? {
        Some(table) => {
            session.batch(&format!(
                "CREATE TEMPORARY TABLE dropped ON COMMIT DROP AS
                 SELECT series, count(*) AS n, min(utc_ns) AS first, max(utc_ns) AS last FROM {table} GROUP BY 1;
                 DROP TABLE {table}"
            ))?;
            true
        }
        None => {
            session.batch(&format!(
                "CREATE TEMPORARY TABLE dropped ON COMMIT DROP AS
                 WITH gone AS (DELETE FROM readings_other WHERE (series, utc_ns) IN (
                    SELECT series, utc_ns FROM readings_other WHERE utc_ns < {before} LIMIT {STEP})
                    RETURNING series, utc_ns)
                 SELECT series, count(*) AS n, min(utc_ns) AS first, max(utc_ns) AS last FROM gone GROUP BY 1"
            ))?;
            false
        }
    };
    let rows = session.query(
        "UPDATE series SET readings = readings - n,
            newest_ns = (SELECT max(utc_ns) FROM readings WHERE readings.series = id)
         FROM dropped WHERE dropped.series = id RETURNING gateway, first, last",
        &[],
    )?;
    for row in &rows {
        marks.add(&gateway(row.get(0))?, row.get(1), row.get(2));
    }
    Ok(counted || !rows.is_empty())
}
