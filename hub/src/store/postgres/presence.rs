//! Who was connected when, in PostgreSQL.

use std::collections::{BTreeSet, VecDeque};

use tokio_postgres::Row;

use super::{name, read::Reader, session::Session, text};
use crate::store::{
    StoreError, Work,
    presence::{
        MAX_PRESENCE_ROWS, PresenceChange, PresenceKey, PresenceQuery, PresenceRow, PresenceSeen, ReadPresence,
    },
    rows::DAY_NS,
    unword, word,
};

/// Rows dropped in one transaction.
const STEP: i64 = 10_000;

pub(super) fn put(session: &mut Session, work: &[Work]) -> Result<(), StoreError> {
    let all = work.iter().filter_map(|work| if let Work::Presence(notes) = work { Some(notes) } else { None });
    let (mut changes, mut seen) = (VecDeque::new(), Vec::new());
    for notes in all {
        changes.extend(&notes.changes);
        seen.extend(&notes.seen);
    }
    let any = !changes.is_empty();
    // Of each thing one change at a time: a statement sees the rows as they were before it.
    while !changes.is_empty() {
        let (mut now, mut later, mut met) = (Vec::new(), VecDeque::new(), BTreeSet::new());
        for change in changes {
            match met.insert(&change.key) {
                true => now.push(change),
                false => later.push_back(change),
            }
        }
        put_changes(session, &now)?;
        changes = later;
    }
    put_seen(session, &seen)?;
    if any {
        session.execute(
            "DELETE FROM presence WHERE until_ns IS NOT NULL AND id <= (SELECT max(id) FROM presence) - $1",
            &[&MAX_PRESENCE_ROWS],
        )?;
    }
    Ok(())
}

/// Kinds, gateways and names.
fn keys<'a>(keys: impl Iterator<Item = &'a PresenceKey>) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (mut kinds, mut gateways, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        kinds.push(word(&key.kind));
        gateways.push(name(&key.gateway));
        names.push(name(&key.id));
    }
    (kinds, gateways, names)
}

/// Ends what was so before, unless it is so already.
fn put_changes(session: &mut Session, changes: &[&PresenceChange]) -> Result<(), StoreError> {
    let (kinds, gateways, names) = keys(changes.iter().map(|change| &change.key));
    let states: Vec<&str> = changes.iter().map(|change| change.state.as_str()).collect();
    let reasons: Vec<String> = changes.iter().map(|change| text(&change.reason)).collect();
    let since: Vec<i64> = changes.iter().map(|change| change.since_ns).collect();
    let seen: Vec<Option<i64>> = changes.iter().map(|change| change.seen_ns).collect();
    let beats: Vec<Option<i64>> = changes.iter().map(|change| change.beat_ns).collect();
    // A clock that was set back must not make a stretch end before it began.
    session.execute(
        "UPDATE presence SET until_ns = greatest(presence.since_ns, new.since)
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
            AS new (k, g, n, s, r, since)
         WHERE kind = k AND gateway = g AND name = n AND until_ns IS NULL AND (state, reason) <> (s, r)",
        &[&kinds, &gateways, &names, &states, &reasons, &since],
    )?;
    session.execute(
        "INSERT INTO presence (kind, gateway, name, state, reason, since_ns, seen_ns, beat_ns)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
            $8::bigint[])
         ON CONFLICT (kind, gateway, name) WHERE until_ns IS NULL DO NOTHING",
        &[&kinds, &gateways, &names, &states, &reasons, &since, &seen, &beats],
    )?;
    Ok(())
}

fn put_seen(session: &mut Session, all: &[&PresenceSeen]) -> Result<(), StoreError> {
    if all.is_empty() {
        return Ok(());
    }
    let (kinds, gateways, names) = keys(all.iter().map(|seen| &seen.key));
    let seen: Vec<i64> = all.iter().map(|seen| seen.seen_ns).collect();
    let beats: Vec<Option<i64>> = all.iter().map(|seen| seen.beat_ns).collect();
    session.execute(
        "UPDATE presence SET seen_ns = seen, beat_ns = beat
         FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS new (k, g, n, seen, beat)
         WHERE kind = k AND gateway = g AND name = n AND until_ns IS NULL",
        &[&kinds, &gateways, &names, &seen, &beats],
    )?;
    Ok(())
}

/// Drops what ended more than so many days ago. Says whether there may be more.
pub(super) fn drop_old(session: &mut Session, keep_days: u32, now_ns: i64) -> Result<bool, StoreError> {
    let before = (now_ns.div_euclid(DAY_NS) - i64::from(keep_days)).saturating_mul(DAY_NS);
    let dropped = session.execute(
        "DELETE FROM presence WHERE id IN
            (SELECT id FROM presence WHERE until_ns IS NOT NULL AND until_ns < $1 ORDER BY until_ns LIMIT $2)",
        &[&before, &STEP],
    )?;
    Ok(dropped as i64 == STEP)
}

fn row(row: &Row) -> Result<PresenceRow, StoreError> {
    let key = PresenceKey { kind: unword(row.get(1))?, gateway: row.get(2), id: row.get(3) };
    let (state, since_ns, reason) = (row.get(4), row.get(5), row.get(7));
    let began = PresenceChange { key, state, since_ns, reason, seen_ns: row.get(8), beat_ns: row.get(9) };
    Ok(PresenceRow { row: row.get(0), began, until_ns: row.get(6) })
}

impl ReadPresence for Reader {
    fn presence_now(&self, after: Option<&PresenceKey>, limit: usize) -> Result<Vec<PresenceRow>, StoreError> {
        let after = after.map_or_else(Default::default, |key| (word(&key.kind), name(&key.gateway), name(&key.id)));
        self.ask(|db| {
            let rows = db.query(
                "SELECT id, kind, gateway, name, state, since_ns, until_ns, reason, seen_ns, beat_ns FROM presence
                 WHERE until_ns IS NULL AND (kind, gateway, name) > ($1, $2, $3)
                 ORDER BY kind, gateway, name LIMIT $4",
                &[&after.0, &after.1, &after.2, &(limit as i64)],
            )?;
            rows.iter().map(row).collect()
        })
    }

    fn presence_history(&self, query: &PresenceQuery) -> Result<Vec<PresenceRow>, StoreError> {
        let PresenceQuery { of, from_ns, to_ns, after, limit } = query;
        let (since, number) = after.unwrap_or((i64::MIN, i64::MIN));
        let limit = *limit as i64;
        let Some(key) = of else {
            return self.ask(|db| {
                let rows = db.query(
                    "SELECT id, kind, gateway, name, state, since_ns, until_ns, reason, seen_ns, beat_ns FROM presence
                     WHERE since_ns BETWEEN $1 AND $2 AND (since_ns, id) > ($3, $4) ORDER BY since_ns, id LIMIT $5",
                    &[from_ns, to_ns, &since, &number, &limit],
                )?;
                rows.iter().map(row).collect()
            });
        };
        let (kind, gateway, id) = (word(&key.kind), name(&key.gateway), name(&key.id));
        // The stretches of one thing follow on each other: the first that matters is the last that began by `from`.
        self.ask(|db| {
            let rows = db.query(
                "SELECT id, kind, gateway, name, state, since_ns, until_ns, reason, seen_ns, beat_ns FROM presence
                 WHERE kind = $1 AND gateway = $2 AND name = $3 AND since_ns <= $5
                    AND since_ns >= coalesce((SELECT max(since_ns) FROM presence
                        WHERE kind = $1 AND gateway = $2 AND name = $3 AND since_ns <= $4), $4)
                    AND (until_ns IS NULL OR until_ns >= $4) AND (since_ns, id) > ($6, $7)
                 ORDER BY since_ns, id LIMIT $8",
                &[&kind, &gateway, &id, from_ns, to_ns, &since, &number, &limit],
            )?;
            rows.iter().map(row).collect()
        })
    }
}
