//! The tables, and how an older database becomes a newer one. Forward only.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::{Migrated, StoreError};

/// Each brings the database one form further; `user_version` counts them. Written ones are never changed.
const STEPS: [&str; 6] = [FIRST, TRUSTED, READINGS, ROLLUPS, WORST, FLEET];
/// The form this program writes, and the newest it reads.
pub(super) const NEWEST: i64 = STEPS.len() as i64;

/// ```text
/// ledger     one row a log of a gateway: thru is what the confirmation says
/// boots      one row a boot of a log: which boot times it has chunks of, and the widest chunk, for searching
/// chunks     one row a samples record, clustered by time, so that a range is one stretch of pages
/// ```
/// A new card starts a new log and counts its boots anew, so times belong to a boot of a log.
const FIRST: &str = "
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    log TEXT NOT NULL,
    thru INTEGER NOT NULL,
    received_ns INTEGER NOT NULL,
    UNIQUE (gateway, log)
) STRICT;
CREATE TABLE manifests (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE boots (
    log INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    t_min INTEGER NOT NULL,
    t_max INTEGER NOT NULL,
    widest INTEGER NOT NULL,
    PRIMARY KEY (log, boot)
) STRICT, WITHOUT ROWID;
CREATE TABLE chunks (
    log INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    t_min INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    t_max INTEGER NOT NULL,
    span INTEGER NOT NULL,
    manifest INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    block BLOB NOT NULL,
    PRIMARY KEY (log, boot, t_min, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    log INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    t_ns INTEGER NOT NULL,
    sensor TEXT,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE clock_fixes (
    log INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    boot_ns INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    utc_ns INTEGER NOT NULL,
    uncertainty_ns INTEGER NOT NULL,
    rate_ppb INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (log, boot, boot_ns, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE losses (
    log INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    span INTEGER NOT NULL,
    reason TEXT NOT NULL,
    records INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    from_boot INTEGER,
    from_ns INTEGER,
    until_boot INTEGER,
    until_ns INTEGER,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE gaps (
    log INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    received_ns INTEGER NOT NULL,
    PRIMARY KEY (log, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE latest (
    gateway TEXT NOT NULL,
    sensor TEXT NOT NULL,
    quantity TEXT NOT NULL,
    log INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    t_ns INTEGER NOT NULL,
    utc_ns INTEGER,
    value REAL NOT NULL,
    uncertainty REAL,
    quality TEXT NOT NULL,
    PRIMARY KEY (gateway, sensor, quantity)
) STRICT, WITHOUT ROWID;
CREATE TABLE rejected (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    received_ns INTEGER NOT NULL,
    reason TEXT NOT NULL,
    bytes BLOB NOT NULL
) STRICT;
";

/// Finds the fix that places a time without passing over a boot's worth of fixes that nobody vouches for.
const TRUSTED: &str = "
CREATE INDEX trusted_fixes ON clock_fixes (log, boot, boot_ns, seq) WHERE source <> 'untrusted';
";

/// ```text
/// series        one row a quantity of a sensor of a gateway or device
/// readings      one row a reading that came one by one, clustered by series and time
/// request_keys  what was answered to whom, so that a request that comes again is answered alike
/// ```
const READINGS: &str = "
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    sensor TEXT NOT NULL,
    quantity TEXT NOT NULL,
    readings INTEGER NOT NULL DEFAULT 0,
    newest_ns INTEGER,
    UNIQUE (gateway, sensor, quantity)
) STRICT;
CREATE TABLE readings (
    series INTEGER NOT NULL,
    utc_ns INTEGER NOT NULL,
    value REAL NOT NULL,
    uncertainty REAL,
    quality TEXT NOT NULL,
    PRIMARY KEY (series, utc_ns)
) STRICT, WITHOUT ROWID;
CREATE TABLE request_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    answered_ns INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    UNIQUE (source, key)
) STRICT;
CREATE INDEX request_keys_by_age ON request_keys (answered_ns);
";

/// ```text
/// parts    one row a boot of a log and a day of arrival, in the place of boots: what a range is searched by, what is
///          dropped when it is old, and the counts
/// marks    ranges of UTC in which rollups are behind, by gateway; touched_ns is when the last of it arrived
/// rollups  one row a bucket of a series; level is its length in seconds (60 or 3600), start its
///          beginning in seconds of UTC
/// ```
const ROLLUPS: &str = "
CREATE TABLE parts (
    log INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    day INTEGER NOT NULL,
    t_min INTEGER NOT NULL,
    t_max INTEGER NOT NULL,
    widest INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    PRIMARY KEY (log, boot, day)
) STRICT, WITHOUT ROWID;
INSERT INTO parts
    SELECT chunks.log, chunks.boot, received_ns / 86400000000000, min(chunks.t_min), max(chunks.t_max), widest,
        min(seq), max(seq), count(*), sum(samples)
    FROM chunks JOIN ledger ON ledger.id = chunks.log
        JOIN boots ON boots.log = chunks.log AND boots.boot = chunks.boot
    GROUP BY chunks.log, chunks.boot;
DROP TABLE boots;
CREATE INDEX parts_by_age ON parts (day);
CREATE TABLE marks (
    gateway TEXT NOT NULL,
    from_ns INTEGER NOT NULL,
    to_ns INTEGER NOT NULL,
    touched_ns INTEGER NOT NULL,
    PRIMARY KEY (gateway, from_ns)
) STRICT, WITHOUT ROWID;
CREATE INDEX marks_by_age ON marks (touched_ns);
CREATE TABLE rollups (
    series INTEGER NOT NULL,
    level INTEGER NOT NULL,
    start INTEGER NOT NULL,
    count INTEGER NOT NULL,
    untrusted INTEGER NOT NULL,
    min REAL NOT NULL,
    max REAL NOT NULL,
    sum REAL NOT NULL,
    first_after INTEGER NOT NULL,
    first REAL NOT NULL,
    last_after INTEGER NOT NULL,
    last REAL NOT NULL,
    area REAL NOT NULL,
    bridged_ns INTEGER NOT NULL,
    PRIMARY KEY (series, level, start)
) STRICT, WITHOUT ROWID;
-- All that is stored by now is yet to be summed up.
INSERT INTO marks SELECT DISTINCT gateway, -9223372020000000000, 9223372020000000000, 0 FROM ledger;
";

/// The worst quality in a bucket, ranked; none where the bucket was made before it was kept.
const WORST: &str = "ALTER TABLE rollups ADD COLUMN worst INTEGER;";

/// ```text
/// customers, vehicles  plate is what of a registration tells it from others
/// vehicle_gateways     a gateway is on one vehicle at a time
/// presence             one row a stretch of time in one state; the one without until_ns is how it is now
/// ```
const FLEET: &str = "
CREATE TABLE customers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE vehicles (
    id TEXT PRIMARY KEY,
    registration TEXT NOT NULL,
    plate TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    customer TEXT,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX vehicles_by_customer ON vehicles (customer);
CREATE TABLE vehicle_gateways (
    gateway TEXT PRIMARY KEY,
    vehicle TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX vehicle_gateways_by_vehicle ON vehicle_gateways (vehicle);
CREATE TABLE presence (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    gateway TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    since_ns INTEGER NOT NULL,
    until_ns INTEGER,
    reason TEXT NOT NULL,
    seen_ns INTEGER,
    beat_ns INTEGER
) STRICT;
CREATE UNIQUE INDEX presence_now ON presence (kind, gateway, name) WHERE until_ns IS NULL;
CREATE INDEX presence_by_name ON presence (kind, gateway, name, since_ns);
CREATE INDEX presence_by_time ON presence (since_ns);
CREATE INDEX presence_by_age ON presence (until_ns) WHERE until_ns IS NOT NULL;
";

/// Whether it is a hub's, or empty. Asked before anything is changed: what a mistaken path leads to stays as it is.
pub(super) fn ours(db: &Connection) -> Result<(), StoreError> {
    let tables = "SELECT count(*), coalesce(sum(name = 'ledger'), 0) FROM sqlite_schema WHERE type = 'table'";
    let (tables, ledgers): (i64, i64) = db.query_row(tables, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let form: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if tables > 0 && (ledgers == 0 || form <= 0) { Err(StoreError::Foreign) } else { Ok(()) }
}

/// Brings the database to the newest form.
pub(super) fn migrate(db: &mut Connection) -> Result<Migrated, StoreError> {
    let known = NEWEST;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for step in STEPS.iter().skip(found.max(0) as usize) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", known)?;
    tx.commit()?;
    Ok(Migrated { from: found, to: known })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_an_older_form_keeps_its_records_and_they_are_yet_to_be_summed_up() {
        let mut db = Connection::open_in_memory().unwrap();
        for step in &STEPS[..2] {
            db.execute_batch(step).unwrap();
        }
        db.execute_batch(
            "PRAGMA user_version = 2;
             INSERT INTO ledger VALUES (1, 'truck-7', '00000000000000a1', 9, 20000 * 86400000000000 + 5);
             INSERT INTO boots VALUES (1, 3, 100, 460, 60), (1, 4, 0, 50, 50);
             INSERT INTO chunks VALUES (1, 3, 100, 7, 160, 1, 1, 10, x'00'), (1, 3, 400, 8, 460, 1, 1, 20, x'00'),
                (1, 4, 0, 9, 50, 1, 1, 5, x'00');",
        )
        .unwrap();
        migrate(&mut db).unwrap();
        let parts: Vec<[i64; 9]> = db
            .prepare("SELECT boot, day, t_min, t_max, widest, first_seq, last_seq, chunks, samples FROM parts")
            .unwrap()
            .query_map([], |row| {
                let mut part = [0; 9];
                for (column, value) in part.iter_mut().enumerate() {
                    *value = row.get(column)?;
                }
                Ok(part)
            })
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(parts, [[3, 20000, 100, 460, 60, 7, 8, 2, 30], [4, 20000, 0, 50, 50, 9, 9, 1, 5]]);
        let mark = |what: &str| {
            db.query_row(&format!("SELECT {what} FROM marks WHERE gateway = 'truck-7'"), [], |row| row.get::<_, i64>(0))
        };
        assert!(mark("from_ns").unwrap() < -9_000_000_000_000_000_000 && mark("from_ns % 60000000000").unwrap() == 0);
        assert!(mark("to_ns").unwrap() > 9_000_000_000_000_000_000);
    }
}
