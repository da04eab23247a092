//! Readings that came one by one, into PostgreSQL: those of all requests of a commit together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use speedwell_wire::GatewayId;
use tokio_postgres::types::ToSql;

use super::{
    name,
    schema::{make_readings, reading_day},
    session::Session,
};
use crate::store::{
    Done, KEEP_KEYS_NS, MAX_KEYS, Quantity, Reading, Readings, ReadingsDone, StoreError, Work, judge::Marks, latest_of,
    word,
};

/// Series whose numbers are remembered.
const MAX_SERIES: usize = 100_000;

type SeriesName = (GatewayId, String, Quantity);

/// What is remembered between transactions.
#[derive(Default)]
pub(super) struct Memory {
    series: HashMap<SeriesName, i64>,
    days: HashSet<i64>,
}

impl Memory {
    pub(super) fn forget(&mut self) {
        self.series.clear();
        self.days.clear();
    }
}

/// What was answered to a key.
#[derive(Clone, Copy)]
struct Answer {
    digest: [u8; 32],
    stored: u32,
    duplicates: u32,
}

pub(super) fn put(
    session: &mut Session,
    memory: &mut Memory,
    work: &[Work],
    done: &mut [Done],
    marks: &mut Marks,
) -> Result<(), StoreError> {
    let given = work.iter().enumerate().filter_map(|(place, work)| match work {
        Work::Readings(readings) => Some((place, readings)),
        _ => None,
    });
    let all: Vec<(usize, &Readings)> = given.collect();
    let Some(now) = all.iter().map(|(_, readings)| readings.received_ns).max() else { return Ok(()) };
    let mut answers = answered(session, &all)?;

    // Who asks again, and who is asked for the first time in this commit.
    let mut first: HashMap<(&str, &str), usize> = HashMap::new();
    let mut fresh: Vec<(usize, &Readings)> = Vec::new();
    for (place, readings) in &all {
        let key = readings.key.as_deref().map(|key| (readings.source.as_str(), key));
        let known = key.is_some_and(|key| answers.contains_key(&owned(key)) || first.contains_key(&key));
        if let Some(key) = key.filter(|_| !known) {
            first.insert(key, *place);
        }
        if !known {
            fresh.push((*place, readings));
        }
    }
    let ids = series(session, memory, &fresh)?;
    let new = insert(session, memory, &fresh, &ids, now)?;
    let mut judged = judge(session, &fresh, &ids, new, marks)?;
    for (place, readings) in &fresh {
        let result = judged.remove(place).unwrap_or_default();
        if let Some(key) = &readings.key {
            let answer = Answer { digest: readings.digest, stored: result.stored, duplicates: result.duplicates };
            answers.insert(owned((&readings.source, key)), answer);
        }
        done[*place] = Done::Readings(result);
    }
    let fresh_places: HashSet<usize> = fresh.iter().map(|(place, _)| *place).collect();
    for (place, readings) in all.iter().filter(|(place, _)| !fresh_places.contains(place)) {
        let key = readings.key.as_deref().unwrap_or_default();
        let Some(answer) = answers.get(&owned((&readings.source, key))) else { continue };
        done[*place] = Done::Readings(match answer.digest == readings.digest {
            true => ReadingsDone {
                stored: answer.stored,
                duplicates: answer.duplicates,
                repeated: true,
                ..ReadingsDone::default()
            },
            false => ReadingsDone { conflict: true, ..ReadingsDone::default() },
        });
    }
    remember(session, &fresh, &answers)
}

fn owned((source, key): (&str, &str)) -> (String, String) {
    (name(source), name(key))
}

/// What was answered before to the keys of these requests, after those were forgotten whose time is over.
fn answered(
    session: &mut Session,
    all: &[(usize, &Readings)],
) -> Result<HashMap<(String, String), Answer>, StoreError> {
    let keyed = all.iter().filter_map(|(_, r)| r.key.as_deref().map(|key| (r, owned((&r.source, key)))));
    let asked: BTreeMap<(String, String), i64> = keyed.map(|(r, key)| (key, r.received_ns)).collect();
    let Some(now) = asked.values().max() else { return Ok(HashMap::new()) };
    let since = now.saturating_sub(KEEP_KEYS_NS);
    session.execute("DELETE FROM request_keys WHERE answered_ns < $1", &[&since])?;
    let (sources, keys): (Vec<&str>, Vec<&str>) = asked.keys().map(|(s, k)| (s.as_str(), k.as_str())).unzip();
    let rows = session.query(
        "SELECT source, key, digest, stored, duplicates FROM request_keys
         JOIN unnest($1::text[], $2::text[]) AS asked (s, k) ON source = s AND key = k",
        &[&sources, &keys],
    )?;
    let answer = |row: &tokio_postgres::Row| {
        let digest = <[u8; 32]>::try_from(row.get::<_, &[u8]>(2)).unwrap_or_default();
        let (stored, duplicates) = (row.get::<_, i64>(3) as u32, row.get::<_, i64>(4) as u32);
        ((row.get(0), row.get(1)), Answer { digest, stored, duplicates })
    };
    Ok(rows.iter().map(answer).collect())
}

/// Those of a request that have a value.
fn items(readings: &Readings) -> impl Iterator<Item = &Reading> {
    readings.items.iter().filter(|item| item.value.is_finite())
}

fn name_of(reading: &Reading) -> SeriesName {
    (reading.device.clone(), name(&reading.sensor), reading.quantity)
}

/// The numbers of all series, made where there are none.
fn series(
    session: &mut Session,
    memory: &mut Memory,
    fresh: &[(usize, &Readings)],
) -> Result<HashMap<SeriesName, i64>, StoreError> {
    let mut found = HashMap::new();
    let mut missing: BTreeMap<SeriesName, String> = BTreeMap::new();
    for item in fresh.iter().flat_map(|(_, readings)| items(readings)) {
        let name = name_of(item);
        match memory.series.get(&name) {
            Some(id) => _ = found.insert(name, *id),
            None => _ = missing.insert(name, word(&item.quantity)),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let devices: Vec<&str> = missing.keys().map(|(device, ..)| device.as_str()).collect();
    let sensors: Vec<&str> = missing.keys().map(|(_, sensor, _)| sensor.as_str()).collect();
    let words: Vec<&str> = missing.values().map(String::as_str).collect();
    let given: super::session::Given<'_> = &[&devices, &sensors, &words];
    let find = "SELECT n, id FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (g, s, q, n)
        JOIN series ON gateway = g AND sensor = s AND quantity = q";
    let mut rows = session.query(find, given)?;
    if rows.len() < missing.len() {
        session.execute(
            "INSERT INTO series (gateway, sensor, quantity) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
             ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING",
            given,
        )?;
        rows = session.query(find, given)?;
    }
    let names: Vec<&SeriesName> = missing.keys().collect();
    if memory.series.len() + rows.len() > MAX_SERIES {
        memory.series.clear();
    }
    for row in &rows {
        let name = names[(row.get::<_, i64>(0) - 1) as usize];
        found.insert(name.clone(), row.get(1));
        memory.series.insert(name.clone(), row.get(1));
    }
    Ok(found)
}

/// Stores what is not there yet; gives the names of what was not.
fn insert(
    session: &mut Session,
    memory: &mut Memory,
    fresh: &[(usize, &Readings)],
    ids: &HashMap<SeriesName, i64>,
    now: i64,
) -> Result<HashSet<(i64, i64)>, StoreError> {
    // The first of those with one name stays.
    let mut all: BTreeMap<(i64, i64), &Reading> = BTreeMap::new();
    for item in fresh.iter().flat_map(|(_, readings)| items(readings)) {
        let id = ids.get(&name_of(item)).ok_or(StoreError::Locked)?;
        all.entry((*id, item.utc_ns)).or_insert(item);
    }
    if all.is_empty() {
        return Ok(HashSet::new());
    }
    let days: BTreeSet<i64> = all.values().filter_map(|item| reading_day(item.utc_ns, now)).collect();
    for day in days {
        if memory.days.len() > 1_000 {
            memory.days.clear();
        }
        if memory.days.insert(day) {
            make_readings(session, day)?;
        }
    }
    let (series, times): (Vec<i64>, Vec<i64>) = all.keys().copied().unzip();
    let values: Vec<f64> = all.values().map(|item| item.value).collect();
    let known = |item: &&Reading| item.uncertainty.filter(|u| u.is_finite());
    let uncertainties: Vec<Option<f64>> = all.values().map(known).collect();
    let qualities: Vec<String> = all.values().map(|item| word(&item.quality)).collect();
    let rows = session.query(
        "INSERT INTO readings
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::float8[], $4::float8[], $5::text[]) ORDER BY 1, 2
         ON CONFLICT DO NOTHING RETURNING series, utc_ns",
        &[&series, &times, &values, &uncertainties, &qualities],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What became of each request, as if they had come one after the other.
fn judge(
    session: &mut Session,
    fresh: &[(usize, &Readings)],
    ids: &HashMap<SeriesName, i64>,
    mut new: HashSet<(i64, i64)>,
    marks: &mut Marks,
) -> Result<HashMap<usize, ReadingsDone>, StoreError> {
    let touched: Vec<i64> = new.iter().map(|(series, _)| *series).collect::<BTreeSet<_>>().into_iter().collect();
    let mut newest: BTreeMap<i64, (Option<i64>, i64)> = BTreeMap::new();
    if !touched.is_empty() {
        let lock = "SELECT id, newest_ns FROM series WHERE id = ANY($1) ORDER BY id FOR UPDATE";
        let rows = session.query(lock, &[&touched])?;
        newest.extend(rows.iter().map(|row| (row.get::<_, i64>(0), (row.get(1), 0))));
    }
    let mut all = HashMap::new();
    for (place, readings) in fresh {
        let mut done = ReadingsDone::default();
        let mut brought: Vec<(i64, &Reading)> = Vec::new();
        for item in items(readings) {
            let Some(&id) = ids.get(&name_of(item)) else { continue };
            if !new.remove(&(id, item.utc_ns)) {
                done.duplicates += 1;
                continue;
            }
            done.add(&item.device);
            marks.add(&item.device, item.utc_ns, item.utc_ns);
            let (known, added) = newest.entry(id).or_default();
            *added += 1;
            if known.is_none_or(|known| known <= item.utc_ns) {
                *known = Some(item.utc_ns);
                brought.retain(|(other, _)| *other != id);
                brought.push((id, item));
            }
        }
        done.newest = brought.into_iter().map(|(_, item)| latest_of(item)).collect();
        all.insert(*place, done);
    }
    let (ids, counts): (Vec<i64>, Vec<(Option<i64>, i64)>) = newest.into_iter().unzip();
    let (times, added): (Vec<Option<i64>>, Vec<i64>) = counts.into_iter().unzip();
    if !ids.is_empty() {
        session.execute(
            "UPDATE series SET readings = readings + added, newest_ns = at
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS new (n, at, added) WHERE id = n",
            &[&ids, &times, &added],
        )?;
    }
    Ok(all)
}

fn remember(
    session: &mut Session,
    fresh: &[(usize, &Readings)],
    answers: &HashMap<(String, String), Answer>,
) -> Result<(), StoreError> {
    let (mut sources, mut keys, mut digests) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers: [Vec<i64>; 3] = Default::default();
    for (_, readings) in fresh {
        let Some(key) = &readings.key else { continue };
        let Some(answer) = answers.get(&owned((&readings.source, key))) else { continue };
        sources.push(name(&readings.source));
        keys.push(name(key));
        digests.push(answer.digest.to_vec());
        let row = [readings.received_ns, answer.stored.into(), answer.duplicates.into()];
        numbers.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }
    if keys.is_empty() {
        return Ok(());
    }
    let given: [&(dyn ToSql + Sync); 6] = [&sources, &keys, &digests, &numbers[0], &numbers[1], &numbers[2]];
    session.execute(
        "INSERT INTO request_keys (source, key, digest, answered_ns, stored, duplicates)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[])",
        &given,
    )?;
    session.execute(
        "DELETE FROM request_keys WHERE id <= (SELECT max(id) FROM request_keys) - $1",
        &[&i64::from(MAX_KEYS)],
    )?;
    Ok(())
}
