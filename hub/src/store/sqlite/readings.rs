//! Readings that came one by one, into SQLite.

use std::collections::{HashMap, hash_map::Entry};

use rusqlite::{Connection, OptionalExtension, params};
use speedwell_wire::{GatewayId, Quantity};

use super::{rows::Tables, unword, word};
use crate::store::{
    KEEP_KEYS_NS, Latest, MAX_KEYS, Quality, Reading, Readings, ReadingsDone, StoreError, judge::Marks, latest_of,
    rows::RowsMut,
};

/// What a piece of work brought of a series.
struct Series<'a> {
    id: i64,
    /// Readings that were not there.
    stored: u32,
    /// The newest of them.
    newest: Option<&'a Reading>,
}

pub(super) fn put(tx: &Connection, readings: &Readings, marks: &mut Marks) -> Result<ReadingsDone, StoreError> {
    if let Some(done) = answered(tx, readings)? {
        return Ok(done);
    }
    let mut done = ReadingsDone::default();
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO readings VALUES (?, ?, ?, ?, ?)")?;
    let mut quality = (Quality::Good, word(&Quality::Good));
    // What is of a series is asked and told once, however many of its readings came.
    let mut series: HashMap<(&GatewayId, &str, Quantity), Series<'_>> = HashMap::new();
    // A value that is no number has no place: SQLite would take it for none, and refuse all that came with it.
    for reading in readings.items.iter().filter(|reading| reading.value.is_finite()) {
        let series = match series.entry((&reading.device, &reading.sensor, reading.quantity)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let id = Tables(tx).series_id(&reading.device, &reading.sensor, reading.quantity)?;
                new.insert(Series { id, stored: 0, newest: None })
            }
        };
        if quality.0 != reading.quality {
            quality = (reading.quality, word(&reading.quality));
        }
        let uncertainty = reading.uncertainty.filter(|u| u.is_finite());
        let new = insert.execute(params![series.id, reading.utc_ns, reading.value, uncertainty, quality.1])?;
        if new == 0 {
            done.duplicates += 1;
            continue;
        }
        done.add(&reading.device);
        marks.add(&reading.device, reading.utc_ns, reading.utc_ns);
        series.stored += 1;
        if series.newest.is_none_or(|newest| newest.utc_ns < reading.utc_ns) {
            series.newest = Some(reading);
        }
    }
    for Series { id, stored, newest } in series.into_values() {
        let Some(newest) = newest else { continue };
        let newer = tx
            .prepare_cached(
                "UPDATE series SET readings = readings + ?3, newest_ns = max(coalesce(newest_ns, ?2), ?2)
                 WHERE id = ?1 RETURNING newest_ns = ?2",
            )?
            .query_row(params![id, newest.utc_ns, stored], |row| row.get::<_, bool>(0))?;
        if newer {
            done.newest.push(latest_of(newest));
        }
    }
    remember(tx, readings, &done)?;
    Ok(done)
}

/// What was answered to this request before, if it was.
fn answered(tx: &Connection, readings: &Readings) -> Result<Option<ReadingsDone>, StoreError> {
    let Some(key) = &readings.key else { return Ok(None) };
    let since = readings.received_ns.saturating_sub(KEEP_KEYS_NS);
    tx.prepare_cached("DELETE FROM request_keys WHERE answered_ns < ?")?.execute([since])?;
    let found = tx
        .prepare_cached("SELECT digest, stored, duplicates FROM request_keys WHERE source = ? AND key = ?")?
        .query_row(params![readings.source, key], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, u32>(1)?, row.get::<_, u32>(2)?))
        })
        .optional()?;
    Ok(found.map(|(digest, stored, duplicates)| match digest == readings.digest {
        true => ReadingsDone { stored, duplicates, repeated: true, ..ReadingsDone::default() },
        false => ReadingsDone { conflict: true, ..ReadingsDone::default() },
    }))
}

fn remember(tx: &Connection, readings: &Readings, done: &ReadingsDone) -> Result<(), StoreError> {
    let Some(key) = &readings.key else { return Ok(()) };
    tx.prepare_cached(
        "INSERT INTO request_keys (source, key, digest, answered_ns, stored, duplicates) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        readings.source,
        key,
        readings.digest.as_slice(),
        readings.received_ns,
        done.stored,
        done.duplicates
    ])?;
    let oldest = tx.last_insert_rowid() - i64::from(MAX_KEYS);
    tx.prepare_cached("DELETE FROM request_keys WHERE id <= ?")?.execute([oldest])?;
    Ok(())
}

/// The newest reading of every series.
pub(super) fn latest(db: &Connection) -> Result<Vec<Latest>, StoreError> {
    let mut rows = db.prepare(
        "SELECT gateway, sensor, quantity, utc_ns, value, uncertainty, quality
         FROM series JOIN readings ON series = id AND utc_ns = newest_ns",
    )?;
    let mut rows = rows.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(latest_of(&Reading {
            device: super::gateway(row.get(0)?)?,
            sensor: row.get(1)?,
            quantity: unword(&row.get::<_, String>(2)?)?,
            utc_ns: row.get(3)?,
            value: row.get(4)?,
            uncertainty: row.get(5)?,
            quality: unword::<Quality>(&row.get::<_, String>(6)?)?,
        }));
    }
    Ok(all)
}
