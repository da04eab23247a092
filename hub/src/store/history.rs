//! A channel's samples over a range of UTC, out of SQLite.

use std::collections::{HashMap, hash_map::Entry};

use rusqlite::{Connection, params};
use speedwell_wire::{Channel, ClockSource, Manifest, block};

use super::{
    ClockMap, History, HistoryQuery, MAX_POINTS, Point, StoreError,
    clock::{Stretch, to_utc},
    sqlite::{clock_fix, manifest},
};

/// A boot of a log that has samples.
struct Boot {
    log: i64,
    boot: u32,
    widest: i64,
}

/// The clock fixes of a boot; with `around`, only the one that places this time.
pub(super) fn clock_map(db: &Connection, log: i64, boot: u32, around: Option<u64>) -> Result<ClockMap, StoreError> {
    const COLUMNS: &str = "SELECT boot, boot_ns, utc_ns, uncertainty_ns, rate_ppb, source FROM clock_fixes";
    let mut fixes = Vec::new();
    let mut take = |tail: &str, at: i64| -> Result<(), StoreError> {
        let mut rows = db.prepare_cached(&format!("{COLUMNS} WHERE log = ? AND boot = ? AND {tail}"))?;
        let mut rows = rows.query(params![log, boot, at])?;
        while let Some(row) = rows.next()? {
            fixes.push(clock_fix(row)?);
        }
        Ok(())
    };
    match around.map(|t| i64::try_from(t).unwrap_or(i64::MAX)) {
        None => take("boot_ns >= ? ORDER BY boot_ns, seq", 0)?,
        Some(t) => {
            take("boot_ns <= ? ORDER BY boot_ns DESC, seq DESC LIMIT 1", t)?;
            take("boot_ns > ? ORDER BY boot_ns, seq LIMIT 1", t)?;
        }
    }
    Ok(ClockMap::new(fixes))
}

pub(super) fn history(db: &Connection, query: &HistoryQuery) -> Result<History, StoreError> {
    let mut found = History::default();
    let mut manifests = HashMap::new();
    for boot in boots(db, query)? {
        for stretch in clock_map(db, boot.log, boot.boot, None)?.stretches(query.from_ns, query.to_ns) {
            let before = found.points.len();
            read_stretch(db, query, &boot, &stretch, &mut manifests, &mut found.points)?;
            if found.points.len() > before {
                // One stretch nobody vouches for makes the whole answer one that nobody vouches for.
                let untrusted = found.clock == Some(ClockSource::Untrusted);
                found.clock = Some(if untrusted { ClockSource::Untrusted } else { stretch.fix.source });
            }
        }
    }
    found.points.sort_by_key(|p| p.utc_ns);
    let limit = query.limit.min(MAX_POINTS);
    found.truncated = found.points.len() > limit;
    found.points.truncate(limit);
    Ok(found)
}

fn boots(db: &Connection, query: &HistoryQuery) -> Result<Vec<Boot>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT boots.log, boot, widest FROM boots JOIN ledger ON ledger.id = boots.log
         WHERE gateway = ? ORDER BY boots.log, boot",
    )?;
    let boot = |row: &rusqlite::Row<'_>| Ok(Boot { log: row.get(0)?, boot: row.get(1)?, widest: row.get(2)? });
    Ok(rows.query_map([query.gateway.as_str()], boot)?.collect::<Result<_, _>>()?)
}

fn read_stretch(
    db: &Connection,
    query: &HistoryQuery,
    boot: &Boot,
    stretch: &Stretch,
    manifests: &mut HashMap<i64, Manifest>,
    points: &mut Vec<Point>,
) -> Result<(), StoreError> {
    let bound = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (from, to) = (bound(stretch.from), bound(stretch.to));
    let mut rows = db.prepare_cached(
        "SELECT manifest, block FROM chunks
         WHERE log = ? AND boot = ? AND t_min BETWEEN ? AND ? AND t_max >= ? ORDER BY t_min, seq",
    )?;
    let mut rows = rows.query(params![boot.log, boot.boot, from.saturating_sub(boot.widest), to, from])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let list = match manifests.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let body: Vec<u8> = db.query_row("SELECT body FROM manifests WHERE id = ?", [id], |row| row.get(0))?;
                new.insert(manifest(&body)?)
            }
        };
        let wanted = |c: &&Channel| c.sensor == query.sensor && c.quantity == query.quantity;
        let Some(channel) = list.channels.iter().find(wanted) else { continue };
        read_chunk(&row.get::<_, Vec<u8>>(1)?, channel, query, stretch, points)?;
        // One more than asked for tells that there are more.
        if points.len() > query.limit.min(MAX_POINTS) {
            break;
        }
    }
    Ok(())
}

fn read_chunk(
    bytes: &[u8],
    channel: &Channel,
    query: &HistoryQuery,
    stretch: &Stretch,
    points: &mut Vec<Point>,
) -> Result<(), StoreError> {
    let columns = block::decode(bytes).map_err(|e| StoreError::Content(format!("a block that is none: {e}")))?;
    let column = columns.iter().find(|c| c.channel == channel.id);
    for sample in column.into_iter().flat_map(|c| &c.samples) {
        let t_ns = channel.t_ns(sample.tick);
        let utc_ns = to_utc(&stretch.fix, t_ns);
        if (stretch.from..=stretch.to).contains(&t_ns) && (query.from_ns..=query.to_ns).contains(&utc_ns) {
            points.push(Point {
                utc_ns,
                value: channel.value(sample.value),
                uncertainty: sample.uncertainty.in_unit(channel.resolution()),
                quality: sample.quality,
            });
        }
    }
    Ok(())
}
