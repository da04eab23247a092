//! A channel's samples over a range of UTC, out of SQLite.

use std::collections::{HashMap, hash_map::Entry};

use rusqlite::{Connection, params};
use speedwell_wire::{Channel, ClockSource, Manifest, block};

use super::{
    ClockMap, History, HistoryQuery, MAX_CHUNKS, MAX_POINTS, Point, StoreError, Undated,
    clock::{Stretch, to_utc},
    sqlite::{clock_fix, manifest, unword, word},
};

/// Clock fixes of one boot that are looked at: one an hour for ten years.
const MAX_FIXES: i64 = 100_000;

/// A boot of a log that has samples.
#[derive(Clone)]
struct Boot {
    log: i64,
    name: String,
    boot: u32,
    t_min: i64,
    t_max: i64,
    widest: i64,
}

/// A question being answered. Boots and logs may overlap in UTC, so the earliest of all are kept as they are met.
struct Reading<'a> {
    db: &'a Connection,
    query: &'a HistoryQuery,
    limit: usize,
    manifests: HashMap<i64, Manifest>,
    /// The earliest so far, each with who vouches for its time; one more than the limit tells that there are more.
    points: Vec<(Point, Option<ClockSource>)>,
    /// Records still to be looked at.
    chunks: usize,
    /// From here on the answer is not complete.
    next: Option<i64>,
}

/// The clock fixes of a boot; with `around`, only those that may place this time.
pub(super) fn clock_map(db: &Connection, log: i64, boot: u32, around: Option<u64>) -> Result<ClockMap, StoreError> {
    const COLUMNS: &str = "SELECT boot, boot_ns, utc_ns, uncertainty_ns, rate_ppb, source FROM clock_fixes";
    let mut fixes = Vec::new();
    let mut take = |tail: &str, at: i64| -> Result<bool, StoreError> {
        let mut rows = db.prepare_cached(&format!("{COLUMNS} WHERE log = ? AND boot = ? AND {tail}"))?;
        let mut rows = rows.query(params![log, boot, at])?;
        while let Some(row) = rows.next()? {
            fixes.push(clock_fix(row)?);
        }
        Ok(!fixes.is_empty())
    };
    match around.map(|t| i64::try_from(t).unwrap_or(i64::MAX)) {
        None => take(&format!("boot_ns >= ? ORDER BY boot_ns, seq LIMIT {MAX_FIXES}"), 0).map(drop)?,
        Some(t) => {
            const BEFORE: &str = "boot_ns <= ? ORDER BY boot_ns DESC, seq DESC LIMIT 1";
            const AFTER: &str = "boot_ns > ? ORDER BY boot_ns, seq LIMIT 1";
            let trusted = |tail: &str| format!("source <> 'untrusted' AND {tail}");
            let _found = take(&trusted(BEFORE), t)? || take(&trusted(AFTER), t)? || take(BEFORE, t)? || take(AFTER, t)?;
        }
    }
    Ok(ClockMap::new(fixes))
}

pub(super) fn history(db: &Connection, query: &HistoryQuery) -> Result<History, StoreError> {
    let mut stretches = Vec::new();
    let dated = boots(db, query)?.into_iter().map(|boot| Ok((clock_map(db, boot.log, boot.boot, None)?, boot)));
    let dated = dated.collect::<Result<Vec<_>, StoreError>>()?;
    let undated = undated(&dated, query);
    for (clock, boot) in &dated {
        for stretch in clock.stretches(query.from_ns, query.to_ns) {
            if bound(stretch.from) <= boot.t_max && bound(stretch.to) >= boot.t_min {
                stretches.push((to_utc(&stretch.fix, stretch.from), boot.clone(), stretch));
            }
        }
    }
    stretches.sort_by_key(|(begins, ..)| *begins);
    let (limit, manifests) = (query.limit.min(MAX_POINTS), HashMap::new());
    let mut reading = Reading { db, query, limit, manifests, points: Vec::new(), chunks: MAX_CHUNKS, next: None };
    reading.readings()?;
    for (begins, boot, stretch) in &stretches {
        if reading.chunks == 0 {
            reading.cut(*begins);
            break;
        }
        reading.stretch(boot, stretch)?;
    }
    Ok(History { undated, ..reading.finish() })
}

/// The boots that nobody dated and that may lie in the range.
fn undated(boots: &[(ClockMap, Boot)], query: &HistoryQuery) -> Vec<Undated> {
    let utc = |(clock, _): &(ClockMap, Boot), t_ns: i64| clock.utc(t_ns.max(0) as u64).map(|(utc, _)| utc);
    let of = |(at, this): (usize, &(ClockMap, Boot))| {
        let (clock, boot) = this;
        let same_log = |other: &&(ClockMap, Boot)| other.1.log == boot.log && other.0.is_trusted();
        let before = boots[..at].iter().rev().find(same_log);
        let after = boots[at + 1..].iter().find(same_log);
        let found = Undated {
            log: boot.name.clone(),
            boot: boot.boot,
            after_ns: before.and_then(|before| utc(before, before.1.t_max)),
            // The boot itself began then: boot time counts from it.
            before_ns: after.and_then(|after| utc(after, 0)),
            told_ns: utc(this, boot.t_min).zip(utc(this, boot.t_max)),
        };
        let may = found.after_ns.is_none_or(|after| after <= query.to_ns)
            && found.before_ns.is_none_or(|before| before >= query.from_ns);
        (!clock.is_trusted() && may).then_some(found)
    };
    boots.iter().enumerate().filter_map(of).collect()
}

fn boots(db: &Connection, query: &HistoryQuery) -> Result<Vec<Boot>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT boots.log, boot, t_min, t_max, widest, ledger.log FROM boots JOIN ledger ON ledger.id = boots.log
         WHERE gateway = ? ORDER BY boots.log, boot",
    )?;
    let boot = |row: &rusqlite::Row<'_>| {
        let (log, boot, t_min, t_max) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(Boot { log, boot, t_min, t_max, widest: row.get(4)?, name: row.get(5)? })
    };
    Ok(rows.query_map([query.gateway.as_str()], boot)?.collect::<Result<_, _>>()?)
}

fn bound(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Reading<'_> {
    /// The earliest that came one by one; one more than the limit tells that there are more.
    fn readings(&mut self) -> Result<(), StoreError> {
        let mut rows = self.db.prepare_cached(
            "SELECT utc_ns, value, uncertainty, quality FROM readings
             JOIN series ON id = series AND gateway = ? AND sensor = ? AND quantity = ?
             WHERE utc_ns BETWEEN ? AND ? ORDER BY utc_ns LIMIT ?",
        )?;
        let HistoryQuery { gateway, sensor, quantity, from_ns, to_ns, .. } = self.query;
        let most = self.limit as i64 + 1;
        let mut rows = rows.query(params![gateway.as_str(), sensor, word(quantity), from_ns, to_ns, most])?;
        while let Some(row) = rows.next()? {
            let quality = unword(&row.get::<_, String>(3)?)?;
            let point = Point { utc_ns: row.get(0)?, value: row.get(1)?, uncertainty: row.get(2)?, quality };
            self.points.push((point, None));
        }
        self.prune();
        Ok(())
    }

    fn stretch(&mut self, boot: &Boot, stretch: &Stretch) -> Result<(), StoreError> {
        let (from, to) = (bound(stretch.from), bound(stretch.to));
        let mut rows = self.db.prepare_cached(
            "SELECT manifest, block, t_min FROM chunks
             WHERE log = ? AND boot = ? AND t_min BETWEEN ? AND ? AND t_max >= ? ORDER BY t_min, seq",
        )?;
        let mut rows = rows.query(params![boot.log, boot.boot, from.saturating_sub(boot.widest), to, from])?;
        while let Some(row) = rows.next()? {
            let begins = to_utc(&stretch.fix, row.get::<_, i64>(2)?.max(0) as u64);
            if self.chunks == 0 {
                self.cut(begins);
            }
            // Chunks come in order of their first time: nothing after this one lies before what is kept.
            if self.next.is_some_and(|next| begins >= next) {
                break;
            }
            self.chunks -= 1;
            self.chunk(row.get(0)?, &row.get::<_, Vec<u8>>(1)?, stretch)?;
            self.prune();
        }
        Ok(())
    }

    fn chunk(&mut self, list: i64, bytes: &[u8], stretch: &Stretch) -> Result<(), StoreError> {
        let list = match self.manifests.entry(list) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let sql = "SELECT body FROM manifests WHERE id = ?";
                let body: Vec<u8> = self.db.prepare_cached(sql)?.query_row([*new.key()], |row| row.get(0))?;
                new.insert(manifest(&body)?)
            }
        };
        let wanted = |c: &&Channel| c.sensor == self.query.sensor && c.quantity == self.query.quantity;
        let Some(channel) = list.channels.iter().find(wanted) else { return Ok(()) };
        let columns = block::decode(bytes).map_err(|e| StoreError::Content(format!("a block that is none: {e}")))?;
        let column = columns.iter().find(|c| c.channel == channel.id);
        for sample in column.into_iter().flat_map(|c| &c.samples) {
            let t_ns = channel.t_ns(sample.tick);
            let utc_ns = to_utc(&stretch.fix, t_ns);
            let asked = (self.query.from_ns..=self.query.to_ns).contains(&utc_ns);
            if asked && (stretch.from..=stretch.to).contains(&t_ns) && self.next.is_none_or(|next| utc_ns <= next) {
                let value = channel.value(sample.value);
                let uncertainty = sample.uncertainty.in_unit(channel.resolution());
                self.points
                    .push((Point { utc_ns, value, uncertainty, quality: sample.quality }, Some(stretch.fix.source)));
            }
        }
        Ok(())
    }

    /// Keeps the earliest, and one more.
    fn prune(&mut self) {
        if self.points.len() > self.limit {
            self.points.sort_by_key(|(point, _)| point.utc_ns);
            self.points.truncate(self.limit + 1);
            if let Some((first_left_out, _)) = self.points.last() {
                self.cut(first_left_out.utc_ns);
            }
        }
    }

    fn cut(&mut self, at: i64) {
        // Never before what was asked for, or asking on from there would not get on.
        let at = at.max(self.query.from_ns);
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    fn finish(mut self) -> History {
        self.points.sort_by_key(|(point, _)| point.utc_ns);
        self.points.truncate(self.limit);
        if let Some(next) = self.next {
            // As many of the same instant as there is room for; asking on from there gives them again.
            self.points.retain(|(point, _)| point.utc_ns <= next);
        }
        // One that nobody vouches for makes the whole answer one that nobody vouches for.
        let untrusted = self.points.iter().any(|(_, source)| *source == Some(ClockSource::Untrusted));
        let last = self.points.iter().rev().find_map(|(_, source)| *source);
        let clock = if untrusted { Some(ClockSource::Untrusted) } else { last };
        let points = self.points.into_iter().map(|(point, _)| point).collect();
        History { points, truncated: self.next.is_some(), next_ns: self.next, clock, undated: Vec::new() }
    }
}
