//! Who was connected when, in SQLite.

use rusqlite::{Connection, Row, params};

use super::{read::Reader, unword, word};
use crate::store::{
    StoreError,
    presence::{
        MAX_PRESENCE_ROWS, PresenceChange, PresenceKey, PresenceNotes, PresenceQuery, PresenceRow, ReadPresence,
    },
    rows::DAY_NS,
};

const ROWS: &str = "SELECT id, kind, gateway, name, state, since_ns, until_ns, reason, seen_ns, beat_ns FROM presence";
/// Rows dropped in one transaction: some milliseconds.
const STEP: i64 = 1_000;

pub(super) fn put(tx: &Connection, notes: &PresenceNotes) -> Result<(), StoreError> {
    for change in &notes.changes {
        put_change(tx, change)?;
    }
    for seen in &notes.seen {
        let PresenceKey { kind, gateway, id } = &seen.key;
        tx.prepare_cached(
            "UPDATE presence SET seen_ns = ?4, beat_ns = ?5
             WHERE kind = ?1 AND gateway = ?2 AND name = ?3 AND until_ns IS NULL",
        )?
        .execute(params![word(kind), gateway, id, seen.seen_ns, seen.beat_ns])?;
    }
    if !notes.changes.is_empty() {
        let sql = "DELETE FROM presence WHERE id <= (SELECT max(id) FROM presence) - ? AND until_ns IS NOT NULL";
        tx.prepare_cached(sql)?.execute([MAX_PRESENCE_ROWS])?;
    }
    Ok(())
}

/// Ends what was so before, unless it is so already.
fn put_change(tx: &Connection, change: &PresenceChange) -> Result<(), StoreError> {
    let PresenceChange { key: PresenceKey { kind, gateway, id }, state, since_ns, reason, seen_ns, beat_ns } = change;
    let kind = word(kind);
    // A clock that was set back must not make a stretch end before it began.
    tx.prepare_cached(
        "UPDATE presence SET until_ns = max(since_ns, ?4)
         WHERE kind = ?1 AND gateway = ?2 AND name = ?3 AND until_ns IS NULL AND (state, reason) <> (?5, ?6)",
    )?
    .execute(params![kind, gateway, id, since_ns, state, reason])?;
    tx.prepare_cached(
        "INSERT INTO presence (kind, gateway, name, state, since_ns, reason, seen_ns, beat_ns)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, gateway, name) WHERE until_ns IS NULL DO NOTHING",
    )?
    .execute(params![kind, gateway, id, state, since_ns, reason, seen_ns, beat_ns])?;
    Ok(())
}

/// Drops what ended more than so many days ago. Says whether there may be more.
pub(super) fn drop_old(tx: &Connection, keep_days: Option<u32>, now_ns: i64) -> Result<bool, StoreError> {
    let Some(days) = keep_days else { return Ok(false) };
    let before = (now_ns.div_euclid(DAY_NS) - i64::from(days)).saturating_mul(DAY_NS);
    let dropped = tx
        .prepare_cached(
            "DELETE FROM presence WHERE id IN
                (SELECT id FROM presence WHERE until_ns IS NOT NULL AND until_ns < ? LIMIT ?)",
        )?
        .execute([before, STEP])?;
    Ok(dropped as i64 == STEP)
}

fn row(row: &Row<'_>) -> Result<PresenceRow, StoreError> {
    let kind = unword(&row.get::<_, String>(1)?)?;
    let key = PresenceKey { kind, gateway: row.get(2)?, id: row.get(3)? };
    let (state, since_ns, reason) = (row.get(4)?, row.get(5)?, row.get(7)?);
    let began = PresenceChange { key, state, since_ns, reason, seen_ns: row.get(8)?, beat_ns: row.get(9)? };
    Ok(PresenceRow { row: row.get(0)?, began, until_ns: row.get(6)? })
}

fn all(mut rows: rusqlite::Rows<'_>) -> Result<Vec<PresenceRow>, StoreError> {
    let mut all = Vec::new();
    while let Some(next) = rows.next()? {
        all.push(row(next)?);
    }
    Ok(all)
}

impl ReadPresence for Reader {
    fn presence_now(&self, after: Option<&PresenceKey>, limit: usize) -> Result<Vec<PresenceRow>, StoreError> {
        let db = self.open()?;
        let (kind, gateway, id) = after.map_or_else(Default::default, |key| (word(&key.kind), &*key.gateway, &*key.id));
        let sql = format!(
            "{ROWS} WHERE until_ns IS NULL AND (kind, gateway, name) > (?, ?, ?) ORDER BY kind, gateway, name LIMIT ?"
        );
        let mut rows = db.prepare(&sql)?;
        all(rows.query(params![kind, gateway, id, limit as i64])?)
    }

    fn presence_history(&self, query: &PresenceQuery) -> Result<Vec<PresenceRow>, StoreError> {
        let db = self.open()?;
        let PresenceQuery { of, from_ns, to_ns, after, limit } = query;
        let (since, number) = after.unwrap_or((i64::MIN, i64::MIN));
        let limit = *limit as i64;
        let Some(PresenceKey { kind, gateway, id }) = of else {
            let sql = format!(
                "{ROWS} WHERE since_ns BETWEEN ? AND ? AND (since_ns, id) > (?, ?) ORDER BY since_ns, id LIMIT ?"
            );
            let mut rows = db.prepare(&sql)?;
            return all(rows.query([*from_ns, *to_ns, since, number, limit])?);
        };
        // The stretches of one thing follow on each other: the first that matters is the last that began by `from`.
        let sql = format!(
            "{ROWS} WHERE kind = ?1 AND gateway = ?2 AND name = ?3 AND since_ns <= ?5
                AND since_ns >= coalesce((SELECT max(since_ns) FROM presence
                    WHERE kind = ?1 AND gateway = ?2 AND name = ?3 AND since_ns <= ?4), ?4)
                AND (until_ns IS NULL OR until_ns >= ?4) AND (since_ns, id) > (?6, ?7)
             ORDER BY since_ns, id LIMIT ?8"
        );
        let mut rows = db.prepare(&sql)?;
        all(rows.query(params![word(kind), gateway, id, from_ns, to_ns, since, number, limit])?)
    }
}
