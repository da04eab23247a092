//! What is committed, into PostgreSQL. A statement a table and commit, whatever the number of batches: an answer of the
//! server takes longer than the work it does for a row.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use speedwell_wire::{GatewayId, LogId, ManifestHash, Seq, frame};
use tokio_postgres::types::{ToSql, Type};

use super::{fleet::Fleet, name, presence, readings, schema::make_chunks, session::Session, text};
use crate::store::{
    Chunk, ClockMap, Done, Item, Latest, MAX_REJECTED_BYTES, MAX_REJECTED_ROWS, Prepared, PreparedBatch, Quantity,
    Rejected, StoreError, Work, fleet, int,
    judge::{Chunks, Clocks, Judged, Marks, judge},
    rows::{DAY_NS, Rows},
    word,
};

/// What is remembered between transactions to spare looking it up. Forgotten when one fails.
#[derive(Default)]
pub(super) struct Memory {
    clocks: Clocks,
    lists: HashMap<ManifestHash, i64>,
    days: HashSet<i64>,
    pub(super) readings: readings::Memory,
}

/// Things remembered of each kind.
const MAX_REMEMBERED: usize = 100_000;

type Cell<'a> = &'a (dyn ToSql + Sync);
/// The channel of a newest value.
type Channel = (GatewayId, String, Quantity);

/// A batch on its way, with its place in the work.
struct Batch<'a> {
    place: usize,
    log: i64,
    batch: &'a PreparedBatch,
    judged: Judged<'a>,
}

impl Memory {
    pub(super) fn forget(&mut self) {
        self.clocks.forget();
        self.lists.clear();
        self.days.clear();
        self.readings.forget();
    }
}

/// Inside a transaction.
pub(super) fn apply(session: &mut Session, memory: &mut Memory, work: &[Work]) -> Result<Vec<Done>, StoreError> {
    let mut done: Vec<Done> = work.iter().map(|_| Done::Kept).collect();
    let mut marks = Marks::default();
    put_manifests(session, memory, work)?;
    let mut batches = judge_all(session, memory, work)?;
    put_batches(session, memory, &mut batches, &mut marks)?;
    put_rejected(session, work, &batches)?;
    for batch in batches {
        done[batch.place] = Done::Batch(batch.judged.committed);
    }
    readings::put(session, &mut memory.readings, work, &mut done, &mut marks)?;
    for (place, work) in work.iter().enumerate() {
        if let Work::Fleet(change) = work {
            done[place] = Done::Fleet(fleet::apply(&mut Fleet(session), change)?);
        }
    }
    presence::put(session, work)?;
    let arrived = work.iter().map(|work| match work {
        Work::Batch(batch) => batch.received_ns,
        Work::Readings(readings) => readings.received_ns,
        Work::Manifest(_) | Work::Rejected(_) | Work::Fleet(_) | Work::Presence(_) => 0,
    });
    put_marks(session, &marks, arrived.max().unwrap_or_default())?;
    Ok(done)
}

/// Writes down where rollups are behind.
pub(super) fn put_marks(session: &mut Session, marks: &Marks, touched_ns: i64) -> Result<(), StoreError> {
    if marks.0.is_empty() {
        return Ok(());
    }
    let (keys, ends): (Vec<(&str, i64)>, Vec<i64>) =
        marks.0.iter().map(|((gateway, from), to)| ((gateway.as_str(), *from), *to)).unzip();
    let (gateways, begins): (Vec<&str>, Vec<i64>) = keys.into_iter().unzip();
    session.execute(
        "INSERT INTO marks SELECT *, $4::bigint FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS new ORDER BY 1, 2
         ON CONFLICT (gateway, from_ns) DO UPDATE SET
            to_ns = greatest(marks.to_ns, excluded.to_ns), touched_ns = excluded.touched_ns",
        &[&gateways, &begins, &ends, &touched_ns],
    )?;
    Ok(())
}

fn put_manifests(session: &mut Session, memory: &mut Memory, work: &[Work]) -> Result<(), StoreError> {
    let mut new = BTreeMap::new();
    for work in work {
        if let Work::Manifest(manifest) = work {
            let hash = manifest.hash();
            if !memory.lists.contains_key(&hash) {
                new.entry(hash.to_string()).or_insert_with(|| frame::encode(&**manifest));
            }
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    let (hashes, bodies): (Vec<String>, Vec<Vec<u8>>) = new.into_iter().unzip();
    session.execute(
        "INSERT INTO manifests (hash, body) SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT DO NOTHING",
        &[&hashes, &bodies],
    )?;
    Ok(())
}

/// Locks the ledgers, so that of two hubs with the same batch one waits and then sees it stored; and holds every batch
/// against its own.
fn judge_all<'a>(session: &mut Session, memory: &mut Memory, work: &'a [Work]) -> Result<Vec<Batch<'a>>, StoreError> {
    let batches: Vec<(usize, &PreparedBatch)> = work
        .iter()
        .enumerate()
        .filter_map(|(place, work)| if let Work::Batch(batch) = work { Some((place, batch)) } else { None })
        .collect();
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let asked: BTreeSet<(&str, String)> =
        batches.iter().map(|(_, b)| (b.gateway.as_str(), b.log.to_string())).collect();
    let (gateways, logs): (Vec<&str>, Vec<String>) = asked.iter().cloned().unzip();
    let lock = "SELECT id, gateway, ledger.log, thru FROM ledger
        JOIN unnest($1::text[], $2::text[]) AS asked (g, l) ON gateway = g AND ledger.log = l
        ORDER BY id FOR UPDATE OF ledger";
    let mut rows = session.query(lock, &[&gateways, &logs])?;
    if rows.len() < asked.len() {
        session.execute(
            "INSERT INTO ledger (gateway, log, thru, received_ns)
             SELECT *, 0, 0 FROM unnest($1::text[], $2::text[]) ORDER BY 1, 2 ON CONFLICT DO NOTHING",
            &[&gateways, &logs],
        )?;
        rows = session.query(lock, &[&gateways, &logs])?;
    }
    let mut ledgers: HashMap<(String, String), (i64, Seq)> = HashMap::new();
    for row in &rows {
        let (id, thru) = (row.get(0), row.get::<_, i64>(3) as Seq);
        // What is remembered of it holds only if it stands where it stood.
        memory.clocks.of(id, thru);
        ledgers.insert((row.get(1), row.get(2)), (id, thru));
    }
    let mut judged = Vec::with_capacity(batches.len());
    for (place, batch) in batches {
        let key = (batch.gateway.to_string(), batch.log.to_string());
        let (log, thru) = ledgers.get_mut(&key).ok_or(StoreError::Locked)?;
        let this = judge(batch, *thru);
        *thru = this.committed.thru;
        judged.push(Batch { place, log: *log, batch, judged: this });
    }
    Ok(judged)
}

fn put_batches(
    session: &mut Session,
    memory: &mut Memory,
    batches: &mut [Batch<'_>],
    marks: &mut Marks,
) -> Result<(), StoreError> {
    if batches.is_empty() {
        return Ok(());
    }
    let mut clocks = clocks(session, memory, batches)?;
    let mut parts: BTreeMap<(i64, u32, i64), Chunks> = BTreeMap::new();
    let mut stored: HashMap<(i64, u32), Option<(u64, u64)>> = HashMap::new();
    for Batch { log, batch, judged, .. } in &*batches {
        for (boot, arrived) in &judged.boots {
            let key = (*log, *boot);
            if !arrived.fixes.is_empty() && !stored.contains_key(&key) {
                stored.insert(key, stored_times(session, key)?);
            }
            // Of the boot as it was before this commit, and of what came before in it.
            let before = stored.get(&key).copied().flatten();
            let earlier = parts.range((*log, *boot, i64::MIN)..=(*log, *boot, i64::MAX)).map(|(_, part)| part.times);
            let before = before.into_iter().chain(earlier).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            marks.arrived(&batch.gateway, clocks.entry(key).or_default(), arrived, before);
            if let Some(new) = arrived.chunks {
                let part = (*log, *boot, batch.received_ns.div_euclid(DAY_NS));
                parts.entry(part).and_modify(|part| part.add(&new)).or_insert(new);
            }
        }
    }
    put_parts(session, &parts)?;
    for day in parts.keys().map(|(_, _, day)| *day).collect::<BTreeSet<_>>() {
        if memory.days.len() > 1_000 {
            memory.days.clear();
        }
        if memory.days.insert(day) {
            make_chunks(session, day)?;
        }
    }
    put_chunks(session, memory, batches)?;
    put_entries(session, batches)?;
    put_latest(session, batches, &clocks)?;

    let mut ledgers: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for Batch { log, batch, judged, .. } in &*batches {
        ledgers.insert(*log, (int(judged.committed.thru), batch.received_ns));
    }
    let (ids, (thrus, received)): (Vec<i64>, (Vec<i64>, Vec<i64>)) = ledgers.iter().map(|(id, to)| (*id, *to)).unzip();
    session.execute(
        "UPDATE ledger SET thru = new.thru, received_ns = new.received_ns
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS new (id, thru, received_ns) WHERE ledger.id = new.id",
        &[&ids, &thrus, &received],
    )?;
    remember(memory, batches, clocks);
    Ok(())
}

/// The clocks of all boots that batches are about, as they are before this commit.
fn clocks(
    session: &mut Session,
    memory: &mut Memory,
    batches: &[Batch<'_>],
) -> Result<HashMap<(i64, u32), ClockMap>, StoreError> {
    let mut found = HashMap::new();
    let mut missing = BTreeSet::new();
    for Batch { log, judged, .. } in batches {
        for boot in judged.boots.keys() {
            match memory.clocks.known(*log, *boot) {
                Some(clock) => _ = found.insert((*log, *boot), clock.clone()),
                None => _ = missing.insert((*log, *boot)),
            }
        }
    }
    let missing: Vec<_> = missing.into_iter().collect();
    let fixes = session.fixes(&missing)?;
    found.extend(missing.into_iter().zip(fixes.into_iter().map(ClockMap::new)));
    Ok(found)
}

/// What holds once this commit has come to be.
fn remember(memory: &mut Memory, batches: &[Batch<'_>], clocks: HashMap<(i64, u32), ClockMap>) {
    for Batch { log, judged, .. } in batches {
        memory.clocks.moved(*log, judged.committed.thru, &judged.boots);
    }
    for ((log, boot), clock) in clocks {
        memory.clocks.remember(log, boot, clock);
    }
}

fn stored_times(session: &mut Session, (log, boot): (i64, u32)) -> Result<Option<(u64, u64)>, StoreError> {
    let sql = "SELECT min(t_min), max(t_max) FROM parts WHERE log = $1 AND boot = $2";
    let rows = session.query(sql, &[&log, &i64::from(boot)])?;
    let times = |row: &tokio_postgres::Row| row.get::<_, Option<i64>>(0).zip(row.get::<_, Option<i64>>(1));
    Ok(rows.first().and_then(times).map(|(from, to)| (from as u64, to as u64)))
}

fn put_parts(session: &mut Session, parts: &BTreeMap<(i64, u32, i64), Chunks>) -> Result<(), StoreError> {
    if parts.is_empty() {
        return Ok(());
    }
    let mut columns: [Vec<i64>; 10] = Default::default();
    for ((log, boot, day), new) in parts {
        let row = [
            *log,
            i64::from(*boot),
            *day,
            int(new.times.0),
            int(new.times.1),
            int(new.widest),
            int(new.seqs.0),
            int(new.seqs.1),
            int(new.chunks),
            int(new.samples),
        ];
        columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }
    let given: Vec<Cell<'_>> = columns.iter().map(|column| column as Cell<'_>).collect();
    session.execute(
        "INSERT INTO parts SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
            $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
         ON CONFLICT (log, boot, day) DO UPDATE SET
            t_min = least(parts.t_min, excluded.t_min), t_max = greatest(parts.t_max, excluded.t_max),
            widest = greatest(parts.widest, excluded.widest), last_seq = excluded.last_seq,
            chunks = parts.chunks + excluded.chunks, samples = parts.samples + excluded.samples",
        &given,
    )?;
    Ok(())
}

fn put_chunks(session: &mut Session, memory: &mut Memory, batches: &[Batch<'_>]) -> Result<(), StoreError> {
    let mut rows: Vec<([i64; 9], &[u8])> = Vec::new();
    for Batch { log, batch, judged, .. } in batches {
        let day = batch.received_ns.div_euclid(DAY_NS);
        for Prepared { seq, span, item } in &judged.taken {
            let Item::Chunk(chunk) = item else { continue };
            let Chunk { boot, time, samples, block, .. } = chunk;
            let list = list(session, memory, chunk.manifest)?;
            let (from, to) = (int(*time.start()), int(*time.end()));
            let row = [day, *log, (*boot).into(), from, int(*seq), to, int(*span), list, (*samples).into()];
            rows.push((row, block));
        }
    }
    let i = || Type::INT8;
    session.copy(
        "COPY chunks FROM STDIN (FORMAT binary)",
        [i(), i(), i(), i(), i(), i(), i(), i(), i(), Type::BYTEA],
        rows.iter().map(|(n, block)| -> [Cell<'_>; 10] {
            [&n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7], &n[8], block]
        }),
    )
}

fn list(session: &mut Session, memory: &mut Memory, hash: ManifestHash) -> Result<i64, StoreError> {
    if let Some(known) = memory.lists.get(&hash) {
        return Ok(*known);
    }
    let rows = session.query("SELECT id FROM manifests WHERE hash = $1", &[&hash.to_string()])?;
    let id = rows.first().map(|row| row.get(0));
    let id: i64 = id.ok_or_else(|| StoreError::Content(format!("no manifest {hash}, which a batch is read with")))?;
    if memory.lists.len() >= MAX_REMEMBERED {
        memory.lists.clear();
    }
    memory.lists.insert(hash, id);
    Ok(id)
}

/// Gaps, events, clock fixes and losses.
fn put_entries(session: &mut Session, batches: &[Batch<'_>]) -> Result<(), StoreError> {
    let mut gaps: Vec<[i64; 4]> = Vec::new();
    let (mut events, mut fixes, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    for Batch { log, batch, judged, .. } in batches {
        let gap = judged.committed.gap.iter();
        gaps.extend(gap.map(|gap| [*log, int(*gap.start()), int(*gap.end()), batch.received_ns]));
        for Prepared { seq, span, item } in &judged.taken {
            match item {
                Item::Event(e) => {
                    let sensor = e.sensor.as_deref().map(text);
                    let numbers = [*log, int(*seq), i64::from(e.boot), int(e.t_ns)];
                    events.push((numbers, sensor, word(&e.kind), text(&e.detail)));
                }
                Item::Clock(f) => {
                    let numbers = [*log, f.boot.into(), int(f.boot_ns), int(*seq), f.utc_ns, int(f.uncertainty_ns)];
                    fixes.push((numbers, f.rate_ppb, word(&f.source)));
                }
                Item::Loss(l) => {
                    let numbers = [*log, int(*seq), int(*span), int(l.records), int(l.samples)];
                    let (from, until) = (l.from.unzip(), l.until.unzip());
                    let ends = [from.0.map(i64::from), from.1.map(int), until.0.map(i64::from), until.1.map(int)];
                    losses.push((numbers, word(&l.reason), ends));
                }
                Item::Chunk(_) | Item::Unreadable { .. } => {}
            }
        }
    }
    let (i, t) = (|| Type::INT8, || Type::TEXT);
    session.copy(
        "COPY gaps FROM STDIN (FORMAT binary)",
        [i(), i(), i(), i()],
        gaps.iter().map(|n| -> [Cell<'_>; 4] { [&n[0], &n[1], &n[2], &n[3]] }),
    )?;
    session.copy(
        "COPY events FROM STDIN (FORMAT binary)",
        [i(), i(), i(), i(), t(), t(), t()],
        events
            .iter()
            .map(|(n, sensor, kind, detail)| -> [Cell<'_>; 7] { [&n[0], &n[1], &n[2], &n[3], sensor, kind, detail] }),
    )?;
    session.copy(
        "COPY clock_fixes FROM STDIN (FORMAT binary)",
        [i(), i(), i(), i(), i(), i(), Type::INT4, t()],
        fixes
            .iter()
            .map(|(n, rate, source)| -> [Cell<'_>; 8] { [&n[0], &n[1], &n[2], &n[3], &n[4], &n[5], rate, source] }),
    )?;
    session.copy(
        "COPY losses FROM STDIN (FORMAT binary)",
        [i(), i(), i(), t(), i(), i(), i(), i(), i(), i()],
        losses.iter().map(|(n, reason, ends)| -> [Cell<'_>; 10] {
            [&n[0], &n[1], &n[2], reason, &n[3], &n[4], &ends[0], &ends[1], &ends[2], &ends[3]]
        }),
    )
}

/// The newest value of each channel, held against what is there, batch by batch, as if they had come alone.
fn put_latest(
    session: &mut Session,
    batches: &mut [Batch<'_>],
    clocks: &HashMap<(i64, u32), ClockMap>,
) -> Result<(), StoreError> {
    let mut channels: BTreeMap<Channel, Option<(i64, u32, u64)>> = BTreeMap::new();
    for Batch { batch, judged, .. } in &*batches {
        for (_, new) in &judged.newest {
            channels.insert((batch.gateway.clone(), name(&new.sensor), new.quantity), None);
        }
    }
    if channels.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = channels.keys().map(|(_, _, quantity)| word(quantity)).collect();
    let gateways: Vec<&str> = channels.keys().map(|(gateway, ..)| gateway.as_str()).collect();
    let sensors: Vec<&str> = channels.keys().map(|(_, sensor, _)| sensor.as_str()).collect();
    let rows = session.query(
        "SELECT n, log, boot, t_ns FROM latest
         JOIN unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (g, s, q, n)
            ON gateway = g AND sensor = s AND quantity = q",
        &[&gateways, &sensors, &words],
    )?;
    let there: HashMap<i64, (i64, u32, u64)> = rows
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get::<_, i64>(2) as u32, row.get::<_, i64>(3) as u64)))
        .collect();
    channels.values_mut().enumerate().for_each(|(n, known)| *known = there.get(&(n as i64 + 1)).copied());

    let mut changed: BTreeMap<Channel, (i64, Latest)> = BTreeMap::new();
    for Batch { log, batch, judged, .. } in batches {
        for (boot, new) in std::mem::take(&mut judged.newest) {
            let channel = (batch.gateway.clone(), name(&new.sensor), new.quantity);
            let at = (*log, boot, new.t_ns);
            let Some(known) = channels.get_mut(&channel).filter(|known| known.is_none_or(|known| known < at)) else {
                continue;
            };
            *known = Some(at);
            let utc_ns = clocks.get(&(*log, boot)).and_then(|clock| clock.utc(new.t_ns)).map(|(utc, _)| utc);
            let latest = Latest { gateway: batch.gateway.clone(), log: batch.log, boot, newest: new, utc_ns };
            judged.committed.newest.push(latest.clone());
            changed.insert(channel, (*log, latest));
        }
    }
    write_latest(session, &changed)
}

fn write_latest(session: &mut Session, changed: &BTreeMap<Channel, (i64, Latest)>) -> Result<(), StoreError> {
    if changed.is_empty() {
        return Ok(());
    }
    let gateways: Vec<&str> = changed.keys().map(|(gateway, ..)| gateway.as_str()).collect();
    let sensors: Vec<&str> = changed.keys().map(|(_, sensor, _)| sensor.as_str()).collect();
    let words: Vec<String> = changed.keys().map(|(_, _, quantity)| word(quantity)).collect();
    let logs: Vec<i64> = changed.values().map(|(log, _)| *log).collect();
    let all = || changed.values().map(|(_, latest)| latest);
    let boots: Vec<i64> = all().map(|l| l.boot.into()).collect();
    let times: Vec<i64> = all().map(|l| int(l.newest.t_ns)).collect();
    let utc: Vec<Option<i64>> = all().map(|l| l.utc_ns).collect();
    let values: Vec<f64> = all().map(|l| l.newest.value).collect();
    let uncertainties: Vec<Option<f64>> = all().map(|l| l.newest.uncertainty).collect();
    let qualities: Vec<String> = all().map(|l| word(&l.newest.quality)).collect();
    session.execute(
        "INSERT INTO latest SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[],
            $6::bigint[], $7::bigint[], $8::float8[], $9::float8[], $10::text[]) ORDER BY 1, 2, 3
         ON CONFLICT (gateway, sensor, quantity) DO UPDATE SET
            log = excluded.log, boot = excluded.boot, t_ns = excluded.t_ns, utc_ns = excluded.utc_ns,
            value = excluded.value, uncertainty = excluded.uncertainty, quality = excluded.quality
         WHERE (excluded.log, excluded.boot, excluded.t_ns) > (latest.log, latest.boot, latest.t_ns)",
        &[&gateways, &sensors, &words, &logs, &boots, &times, &utc, &values, &uncertainties, &qualities],
    )?;
    Ok(())
}

/// Payloads that could not be used, and samples that could not be read.
fn put_rejected(session: &mut Session, work: &[Work], batches: &[Batch<'_>]) -> Result<(), StoreError> {
    let mut rows: Vec<(String, i64, String, &[u8])> = Vec::new();
    for work in work {
        if let Work::Rejected(Rejected { source, received_ns, reason, bytes }) = work {
            rows.push((text(source), *received_ns, text(reason), bytes));
        }
    }
    for Batch { batch, judged, .. } in batches {
        for Prepared { seq, item, .. } in &judged.taken {
            if let Item::Unreadable { reason, bytes } = item {
                let source = unreadable(&batch.gateway, batch.log, *seq);
                rows.push((source, batch.received_ns, text(reason), bytes));
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    rows.iter_mut().for_each(|row| row.3 = &row.3[..row.3.len().min(MAX_REJECTED_BYTES)]);
    session.copy(
        "COPY rejected (source, received_ns, reason, bytes) FROM STDIN (FORMAT binary)",
        [Type::TEXT, Type::INT8, Type::TEXT, Type::BYTEA],
        rows.iter().map(|(source, at, reason, bytes)| -> [Cell<'_>; 4] { [source, at, reason, bytes] }),
    )?;
    session.execute(
        "DELETE FROM rejected WHERE id <= (SELECT max(id) FROM rejected) - $1",
        &[&i64::from(MAX_REJECTED_ROWS)],
    )?;
    Ok(())
}

fn unreadable(gateway: &GatewayId, log: LogId, seq: Seq) -> String {
    format!("{gateway}/log {log} record {seq}")
}
