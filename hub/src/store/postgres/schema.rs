//! The tables in PostgreSQL, their partitions by day, and how an older database becomes a newer one. Forward only.

use super::session::Session;
use crate::store::{Migrated, StoreError, rows::DAY_NS};

/// Each brings the database one form further; written ones are never changed.
const STEPS: [&str; 3] = [FIRST, WORST, FLEET];

/// Locks, held until a transaction ends, by which hubs of one database take turns. The numbers are arbitrary.
pub(super) const LOCK_TABLES: i64 = 0x5350_4545_4457_0001;
/// The first half of the lock of a gateway whose rollups are made anew.
pub(super) const LOCK_ROLLUPS: i32 = 0x5350_4545;

/// Days before and after today for which readings get a partition of their own. Others, of a device that thinks it is
/// 1970, are together in one.
const READING_DAYS: (i64, i64) = (31, 2);

/// As in SQLite, but for what a day's partition needs. `chunks` are by day of arrival, which only ever is today;
/// `readings` by day of measurement, since the day has to be part of what is unique.
const FIRST: &str = "
CREATE TABLE ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL,
    log text NOT NULL,
    thru bigint NOT NULL,
    received_ns bigint NOT NULL,
    UNIQUE (gateway, log)
);
CREATE TABLE manifests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash text NOT NULL UNIQUE,
    body bytea NOT NULL
);
CREATE TABLE parts (
    log bigint NOT NULL,
    boot bigint NOT NULL,
    day bigint NOT NULL,
    t_min bigint NOT NULL,
    t_max bigint NOT NULL,
    widest bigint NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    chunks bigint NOT NULL,
    samples bigint NOT NULL,
    PRIMARY KEY (log, boot, day)
);
CREATE INDEX parts_by_age ON parts (day);
CREATE TABLE chunks (
    day bigint NOT NULL,
    log bigint NOT NULL,
    boot bigint NOT NULL,
    t_min bigint NOT NULL,
    seq bigint NOT NULL,
    t_max bigint NOT NULL,
    span bigint NOT NULL,
    manifest bigint NOT NULL,
    samples bigint NOT NULL,
    block bytea NOT NULL,
    PRIMARY KEY (day, log, boot, t_min, seq)
) PARTITION BY RANGE (day);
-- It is compressed already.
ALTER TABLE chunks ALTER COLUMN block SET STORAGE EXTERNAL;
CREATE TABLE events (
    log bigint NOT NULL,
    seq bigint NOT NULL,
    boot bigint NOT NULL,
    t_ns bigint NOT NULL,
    sensor text,
    kind text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (log, seq)
);
CREATE TABLE clock_fixes (
    log bigint NOT NULL,
    boot bigint NOT NULL,
    boot_ns bigint NOT NULL,
    seq bigint NOT NULL,
    utc_ns bigint NOT NULL,
    uncertainty_ns bigint NOT NULL,
    rate_ppb integer NOT NULL,
    source text NOT NULL,
    PRIMARY KEY (log, boot, boot_ns, seq)
);
CREATE TABLE losses (
    log bigint NOT NULL,
    seq bigint NOT NULL,
    span bigint NOT NULL,
    reason text NOT NULL,
    records bigint NOT NULL,
    samples bigint NOT NULL,
    from_boot bigint,
    from_ns bigint,
    until_boot bigint,
    until_ns bigint,
    PRIMARY KEY (log, seq)
);
CREATE TABLE gaps (
    log bigint NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    received_ns bigint NOT NULL,
    PRIMARY KEY (log, first)
);
CREATE TABLE latest (
    gateway text NOT NULL,
    sensor text NOT NULL,
    quantity text NOT NULL,
    log bigint NOT NULL,
    boot bigint NOT NULL,
    t_ns bigint NOT NULL,
    utc_ns bigint,
    value double precision NOT NULL,
    uncertainty double precision,
    quality text NOT NULL,
    PRIMARY KEY (gateway, sensor, quantity)
);
CREATE TABLE rejected (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    received_ns bigint NOT NULL,
    reason text NOT NULL,
    bytes bytea NOT NULL
);
CREATE TABLE series (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL,
    sensor text NOT NULL,
    quantity text NOT NULL,
    readings bigint NOT NULL DEFAULT 0,
    newest_ns bigint,
    UNIQUE (gateway, sensor, quantity)
);
CREATE TABLE readings (
    series bigint NOT NULL,
    utc_ns bigint NOT NULL,
    value double precision NOT NULL,
    uncertainty double precision,
    quality text NOT NULL,
    PRIMARY KEY (series, utc_ns)
) PARTITION BY RANGE (utc_ns);
CREATE TABLE readings_other PARTITION OF readings DEFAULT;
CREATE TABLE request_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    key text NOT NULL,
    digest bytea NOT NULL,
    answered_ns bigint NOT NULL,
    stored bigint NOT NULL,
    duplicates bigint NOT NULL,
    UNIQUE (source, key)
);
CREATE INDEX request_keys_by_age ON request_keys (answered_ns);
CREATE TABLE marks (
    gateway text NOT NULL,
    from_ns bigint NOT NULL,
    to_ns bigint NOT NULL,
    touched_ns bigint NOT NULL,
    PRIMARY KEY (gateway, from_ns)
);
CREATE INDEX marks_by_age ON marks (touched_ns);
CREATE TABLE rollups (
    series bigint NOT NULL,
    level smallint NOT NULL,
    start bigint NOT NULL,
    count bigint NOT NULL,
    untrusted bigint NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    sum double precision NOT NULL,
    first_after bigint NOT NULL,
    first double precision NOT NULL,
    last_after bigint NOT NULL,
    last double precision NOT NULL,
    area double precision NOT NULL,
    bridged_ns bigint NOT NULL,
    PRIMARY KEY (series, level, start)
);
";

/// As in SQLite.
const WORST: &str = "ALTER TABLE rollups ADD COLUMN worst smallint;";

/// As in SQLite. Texts are compared byte by byte, so that pages follow on each other alike in both.
const FLEET: &str = "
CREATE TABLE customers (
    id text COLLATE \"C\" PRIMARY KEY,
    name text NOT NULL,
    address text NOT NULL,
    version bigint NOT NULL
);
CREATE TABLE vehicles (
    id text COLLATE \"C\" PRIMARY KEY,
    registration text NOT NULL,
    plate text NOT NULL UNIQUE,
    name text NOT NULL,
    customer text COLLATE \"C\" REFERENCES customers,
    version bigint NOT NULL
);
CREATE INDEX vehicles_by_customer ON vehicles (customer);
CREATE TABLE vehicle_gateways (
    gateway text COLLATE \"C\" PRIMARY KEY,
    vehicle text COLLATE \"C\" NOT NULL REFERENCES vehicles
);
CREATE INDEX vehicle_gateways_by_vehicle ON vehicle_gateways (vehicle);
CREATE TABLE presence (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE \"C\" NOT NULL,
    gateway text COLLATE \"C\" NOT NULL,
    name text COLLATE \"C\" NOT NULL,
    state text NOT NULL,
    since_ns bigint NOT NULL,
    until_ns bigint,
    reason text NOT NULL,
    seen_ns bigint,
    beat_ns bigint
);
CREATE UNIQUE INDEX presence_now ON presence (kind, gateway, name) WHERE until_ns IS NULL;
CREATE INDEX presence_by_name ON presence (kind, gateway, name, since_ns);
CREATE INDEX presence_by_time ON presence (since_ns);
CREATE INDEX presence_by_age ON presence (until_ns) WHERE until_ns IS NOT NULL;
";

/// Brings the database to the newest form.
pub(super) fn migrate(session: &mut Session) -> Result<Migrated, StoreError> {
    let known = STEPS.len() as i64;
    session.transaction("BEGIN", |session| {
        session.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK_TABLES])?;
        session.batch("CREATE TABLE IF NOT EXISTS speedwell_form (form bigint NOT NULL)")?;
        let rows = session.query("SELECT form FROM speedwell_form", &[])?;
        let found: i64 = rows.first().map_or(0, |row| row.get(0));
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        for step in STEPS.iter().skip(found.max(0) as usize) {
            session.batch(step)?;
        }
        if found < known {
            session.batch(&format!("DELETE FROM speedwell_form; INSERT INTO speedwell_form VALUES ({known})"))?;
        }
        Ok(Migrated { from: found, to: known })
    })
}

/// The partition of a day: `chunks_2026_11_25`.
pub(super) fn partition(table: &str, day: i64) -> String {
    let date =
        jiff::civil::Date::constant(1970, 1, 1).checked_add(jiff::Span::new().days(day.clamp(-4_000_000, 2_900_000)));
    match date {
        Ok(date) => format!("{table}_{:04}_{:02}_{:02}", date.year(), date.month(), date.day()),
        Err(_) => format!("{table}_day_{}", day.unsigned_abs()),
    }
}

/// The day whose partition of readings a time falls into, when it is one that has its own.
pub(super) fn reading_day(utc_ns: i64, now_ns: i64) -> Option<i64> {
    let (day, today) = (utc_ns.div_euclid(DAY_NS), now_ns.div_euclid(DAY_NS));
    (today - READING_DAYS.0..=today + READING_DAYS.1).contains(&day).then_some(day)
}

/// Makes the partition of a day of arrival.
pub(super) fn make_chunks(session: &mut Session, day: i64) -> Result<(), StoreError> {
    let (name, next) = (partition("chunks", day), day + 1);
    if is_there(session, &name)? {
        return Ok(());
    }
    session.batch(&format!("CREATE TABLE {name} PARTITION OF chunks FOR VALUES FROM ({day}) TO ({next})"))
}

/// Makes the partition of a day of measurement, and moves into it what has come for that day before there was one.
pub(super) fn make_readings(session: &mut Session, day: i64) -> Result<(), StoreError> {
    let name = partition("readings", day);
    if is_there(session, &name)? {
        return Ok(());
    }
    let (from, to) = (day.saturating_mul(DAY_NS), (day + 1).saturating_mul(DAY_NS));
    session.long_batch(&format!(
        "LOCK TABLE readings IN SHARE ROW EXCLUSIVE MODE;
         CREATE TABLE {name} (LIKE readings INCLUDING ALL);
         WITH moved AS (DELETE FROM readings_other WHERE utc_ns >= {from} AND utc_ns < {to} RETURNING *)
            INSERT INTO {name} SELECT * FROM moved;
         ALTER TABLE readings ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"
    ))
}

/// Takes the lock first: another hub may be making it.
fn is_there(session: &mut Session, name: &str) -> Result<bool, StoreError> {
    session.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK_TABLES])?;
    let rows = session.query("SELECT to_regclass($1) IS NOT NULL", &[&name])?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
