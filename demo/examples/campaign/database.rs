//! What a hub's database holds, read without the hub.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, Row};
use speedwell_wire::{ClockFix, Manifest, Quantity, block, frame};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A reading of a receiver as it is stored: the values of one time, which came from one sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Number of the log in this database, and of the record in the log.
    pub(crate) log: i64,
    pub(crate) seq: u64,
    pub(crate) boot: u32,
    pub(crate) sensor: String,
    /// Boot time.
    pub(crate) t_ns: u64,
    /// Each quantity in the steps of its channel, as often as it is there.
    pub(crate) values: Vec<(Quantity, i64)>,
}

/// Records that are said to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) log: i64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The gateway said so; otherwise the hub found that the gateway no longer had them.
    pub(crate) by_gateway: bool,
    pub(crate) samples: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) stored: Vec<Stored>,
    pub(crate) holes: Vec<Hole>,
    /// By log and boot.
    pub(crate) fixes: BTreeMap<(i64, u32), Vec<ClockFix>>,
    /// Payloads that were set aside, with their reasons.
    pub(crate) rejected: Vec<String>,
    /// By log: the last record stored.
    pub(crate) ledger: BTreeMap<i64, u64>,
}

/// Reads a database that a hub may be writing.
pub(crate) fn read(path: &Path) -> Result<Contents, Error> {
    let mut db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    db.busy_timeout(Duration::from_secs(5))?;
    // One moment of it.
    let db = db.transaction()?;
    let mut contents = Contents { stored: stored(&db)?, ..Contents::default() };
    let holes =
        "SELECT log, seq, seq + span - 1, 1, samples FROM losses UNION ALL SELECT log, first, last, 0, 0 FROM gaps";
    contents.holes = all(&db, holes, |row| {
        let (log, by_gateway) = (row.get(0)?, row.get(3)?);
        Ok(Hole { log, first: number(row, 1)?, last: number(row, 2)?, by_gateway, samples: number(row, 4)? })
    })?;
    let fixes =
        "SELECT log, boot, boot_ns, utc_ns, uncertainty_ns, rate_ppb, source FROM clock_fixes ORDER BY log, seq";
    for (log, fix) in all(&db, fixes, |row| Ok((row.get(0)?, fix(row)?)))? {
        contents.fixes.entry((log, fix.boot)).or_default().push(fix);
    }
    contents.rejected = all(&db, "SELECT source || ': ' || reason FROM rejected", |row| row.get(0))?;
    contents.ledger =
        all(&db, "SELECT id, thru FROM ledger", |row| Ok((row.get(0)?, number(row, 1)?)))?.into_iter().collect();
    Ok(contents)
}

fn all<T>(db: &Connection, sql: &str, each: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<Vec<T>> {
    db.prepare(sql)?.query_map([], each)?.collect()
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.max(0) as u64)
}

fn fix(row: &Row<'_>) -> rusqlite::Result<ClockFix> {
    let source: String = row.get(6)?;
    let source = serde_json::from_value(source.into())
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, Box::new(error)))?;
    Ok(ClockFix {
        boot: row.get(1)?,
        boot_ns: number(row, 2)?,
        utc_ns: row.get(3)?,
        uncertainty_ns: number(row, 4)?,
        rate_ppb: row.get(5)?,
        source,
    })
}

/// A row of `chunks`: log, record, boot, channel list, block.
type Row5 = (i64, u64, u32, i64, Vec<u8>);

fn stored(db: &Connection) -> Result<Vec<Stored>, Error> {
    let lists = all(db, "SELECT id, body FROM manifests", |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let mut manifests: BTreeMap<i64, Manifest> = BTreeMap::new();
    for (id, body) in lists {
        manifests.insert(id, frame::decode(&body)?);
    }
    let chunks: Vec<Row5> = all(db, "SELECT log, seq, boot, manifest, block FROM chunks ORDER BY log, seq", |row| {
        Ok((row.get(0)?, number(row, 1)?, row.get(2)?, row.get(3)?, row.get(4)?))
    })?;
    let mut stored = Vec::new();
    for (log, seq, boot, manifest, bytes) in chunks {
        let manifest = manifests.get(&manifest).ok_or("a chunk without its channel list")?;
        let mut record: BTreeMap<(u64, &str), Vec<(Quantity, i64)>> = BTreeMap::new();
        for column in block::decode(&bytes)? {
            let channel = manifest.channel(column.channel).ok_or("a column without a channel")?;
            for sample in &column.samples {
                let at = (channel.t_ns(sample.tick), channel.sensor.as_str());
                record.entry(at).or_default().push((channel.quantity, sample.value));
            }
        }
        stored.extend(record.into_iter().map(|((t_ns, sensor), values)| Stored {
            log,
            seq,
            boot,
            sensor: sensor.to_owned(),
            t_ns,
            values,
        }));
    }
    Ok(stored)
}
