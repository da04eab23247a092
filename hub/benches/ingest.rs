//! Samples/s into SQLite and PostgreSQL through decoder, writer thread and store, with and without rollups brought up to
//! date, and bytes on disk a sample.
//!
//! 20 channels at 10 Hz, as batches of ten one-second records from 50 gateways; every batch is committed durably. Encoding
//! is done before the clock starts. Then the same through a mosquitto into a hub process of its own, for its memory.
//! `cargo bench -p speedwell-hub --bench ingest -- SECONDS_PER_GATEWAY`

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use speedwell_hub::{
    ingest::decode::{Decoder, Message},
    store::{HistoryQuery, Level, Postgres, RollupQuery, Sqlite, Store, Work, writer},
};
use speedwell_wire::{
    Batch, Channel, ClockFix, ClockSource, Entry, GatewayId, LogId, Manifest, Quality, Quantity, Record, Samples,
    block, frame,
};

const GATEWAYS: u64 = 50;
const CHANNELS: u16 = 20;
const RATE_HZ: u64 = 10;
const RECORDS_A_BATCH: u64 = 10;
const SECONDS: u64 = 300;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(SECONDS);
    let manifest = manifest();
    let batches = batches(&manifest, seconds, GATEWAYS);
    let samples = GATEWAYS * (seconds - 1) * u64::from(CHANNELS) * RATE_HZ;
    let wire: usize = batches.iter().map(|(_, bytes)| bytes.len()).sum();
    let n = samples as f64;
    println!("| on the wire, {CHANNELS} channels at {RATE_HZ} Hz | {:.2} B/sample | |", wire as f64 / n);

    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("hub.sqlite");
    let open = || -> Box<dyn Store> { Box::new(Sqlite::open(&path).expect("a database")) };
    ingest("SQLite", open, &manifest, &batches, samples, || {
        checkpoint(&path);
        fs::metadata(&path).expect("the database").len()
    });

    let cluster = rig::postgres::Cluster::start(&["shared_buffers = '256MB'", "max_wal_size = '4GB'"]);
    let url = cluster.database();
    let open = || -> Box<dyn Store> { Box::new(Postgres::open(&url, None, None).expect("a database")) };
    ingest("PostgreSQL", open, &manifest, &batches, samples, || cluster.size(&url));

    a_day(&manifest);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (idle, after) = runtime.block_on(memory(&batches, seconds));
    println!("| hub memory, resident, idle | {idle:.1} MiB | |");
    println!("| hub memory, resident, after {:.1} M samples of {GATEWAYS} gateways | {after:.1} MiB | |", n / 1e6);
}

/// All batches through decoder and writer; then what is left of the rollups; then what a day's page asks for.
fn ingest(
    name: &str,
    open: impl Fn() -> Box<dyn Store>,
    manifest: &Manifest,
    batches: &[(String, Vec<u8>)],
    samples: u64,
    size: impl Fn() -> u64,
) {
    let store = open();
    let reader = store.reader();
    let empty = size();
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let mut writer = writer::start::<()>(store).expect("a thread");
    let (work, total) = (writer.work, batches.len() + 1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            work.blocking_send((Work::Manifest(Arc::new(manifest.clone())), ())).expect("the writer runs");
            let mut decoder = Decoder::new(rig::PREFIX, vec![manifest.clone()]);
            for (topic, bytes) in batches {
                let now = utc_ns();
                let Message::Store { work: item, unknown: None } = decoder.read(topic, bytes, now) else {
                    panic!("a batch")
                };
                work.blocking_send((item, ())).expect("the writer runs");
            }
        });
        (0..total).for_each(|_| drop(writer.done.blocking_recv().expect("an answer")));
    });
    writer.thread.join().expect("the writer ends").expect("without an error");
    let (took, spent) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    assert_eq!(reader.counts().expect("counts").samples, samples, "every sample is stored");
    let stored = size();

    let mut store = open();
    let later = utc_ns() + 3_600_000_000_000;
    let (cpu, began) = (cpu_seconds(), Instant::now());
    while store.tend(later).expect("rollups") {}
    let (settled, settling) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let summed = size();

    let n = samples as f64;
    let told = |what: &str, figure: String| println!("| {name}, {what} | {figure} | |");
    told("durable", format!("{:.0} samples/s", n / took));
    told("durable, rollups brought up to date", format!("{:.0} samples/s", n / (took + settled)));
    told("hub's CPU a million samples", format!("{:.2} s", spent / n * 1e6));
    told("hub's CPU a million samples for rollups", format!("{:.2} s", settling / n * 1e6));
    told("on disk", format!("{:.2} B/sample", stored.saturating_sub(empty) as f64 / n));
    told("on disk for rollups", format!("{:.2} B/sample", summed.saturating_sub(stored) as f64 / n));
    let gateway = GatewayId::new("gateway-7").expect("a good name");
    let (sensor, quantity) = ("sensor-3".to_owned(), Quantity::Speed);
    let (from_ns, to_ns) = (rig::BOOT_UTC_NS, rig::BOOT_UTC_NS + 24 * 3600 * 1_000_000_000);
    for level in [Level::Second, Level::Minute, Level::Hour] {
        let (gateway, sensor) = (gateway.clone(), sensor.clone());
        let bucket_s = level.seconds();
        let query = RollupQuery { gateway, sensor, quantity, bucket_s, from_ns, to_ns, limit: 100_000 };
        let began = Instant::now();
        let found = reader.rollup(&query).expect("an answer").buckets.len();
        told(
            &format!("range by the {level:?}, {found} buckets"),
            format!("{:.1} ms", began.elapsed().as_secs_f64() * 1e3),
        );
    }
    let query = HistoryQuery { gateway, sensor, quantity, from_ns, to_ns, limit: 100_000 };
    let began = Instant::now();
    let found = reader.history(&query).expect("an answer").points.len();
    told(&format!("range, all {found} samples"), format!("{:.1} ms", began.elapsed().as_secs_f64() * 1e3));
}

/// A day of one gateway, as records and as a row a sample: what it takes, and what it takes to read a channel of it.
fn a_day(manifest: &Manifest) {
    let seconds = 24 * 3600;
    let batches = batches(manifest, seconds, 1);
    let samples = (seconds - 1) * u64::from(CHANNELS) * RATE_HZ;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("hub.sqlite");
    let mut store = Sqlite::open(&path).expect("a database");
    let reader = store.reader();
    let mut decoder = Decoder::new(rig::PREFIX, vec![manifest.clone()]);
    store.commit(&[Work::Manifest(Arc::new(manifest.clone()))]).expect("a commit");
    for some in batches.chunks(256) {
        let work = some.iter().map(|(topic, bytes)| match decoder.read(topic, bytes, 0) {
            Message::Store { work, .. } => work,
            _ => panic!("a batch"),
        });
        store.commit(&work.collect::<Vec<_>>()).expect("a commit");
    }
    while store.tend(3_600_000_000_000).expect("rollups") {}
    let gateway = GatewayId::new("gateway-0").expect("a good name");
    let (sensor, quantity) = ("sensor-3".to_owned(), Quantity::Speed);
    let (from_ns, to_ns) = (rig::BOOT_UTC_NS, rig::BOOT_UTC_NS + 24 * 3600 * 1_000_000_000);
    let told = |what: &str, figure: String| println!("| a day of one gateway, {what} | {figure} | |");
    for (level, hours) in [(Level::Second, 1), (Level::Minute, 24), (Level::Hour, 24)] {
        let (gateway, sensor, to_ns) = (gateway.clone(), sensor.clone(), from_ns + hours * 3600 * 1_000_000_000);
        let bucket_s = level.seconds();
        let query = RollupQuery { gateway, sensor, quantity, bucket_s, from_ns, to_ns, limit: 100_000 };
        let began = Instant::now();
        let found = reader.rollup(&query).expect("an answer").buckets.len();
        told(
            &format!("{hours} h by the {level:?}, {found} buckets"),
            format!("{:.1} ms", began.elapsed().as_secs_f64() * 1e3),
        );
    }
    let mut query = HistoryQuery { gateway, sensor, quantity, from_ns, to_ns, limit: 100_000 };
    let (mut found, began) = (0, Instant::now());
    loop {
        let piece = reader.history(&query).expect("an answer");
        found += piece.points.len();
        let Some(next) = piece.next_ns else { break };
        query.from_ns = next;
    }
    told(
        &format!("records: all {found} samples of a channel"),
        format!("{:.0} ms", began.elapsed().as_secs_f64() * 1e3),
    );

    let mut db = rusqlite::Connection::open(directory.path().join("rows.sqlite")).expect("a database");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE samples (series INTEGER, utc_ns INTEGER,
         value INTEGER, uncertainty INTEGER, quality INTEGER, PRIMARY KEY (series, utc_ns)) WITHOUT ROWID",
    )
    .expect("a table");
    let (cpu, began) = (cpu_seconds(), Instant::now());
    for some in (1..seconds).collect::<Vec<_>>().chunks(2_560) {
        let tx = db.transaction().expect("a transaction");
        for second in some {
            let Record::Samples(samples) = record(manifest, *second) else { panic!("samples") };
            let columns = block::decode(&samples.block).expect("a block");
            let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?)").expect("sql");
            for column in &columns {
                for s in &column.samples {
                    let utc_ns = rig::BOOT_UTC_NS + s.tick as i64 * 100_000;
                    let row = (i64::from(column.channel), utc_ns, s.value, s.uncertainty.0, s.quality as u8);
                    insert.execute(row).expect("a row");
                }
            }
        }
        tx.commit().expect("a commit");
    }
    let (took, spent) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    checkpoint(&directory.path().join("rows.sqlite"));
    let n = samples as f64;
    let disk = fs::metadata(directory.path().join("rows.sqlite")).expect("the database").len();
    told("rows: durable, encoding and decoding counted in", format!("{:.0} samples/s", n / took));
    told("rows: CPU a million samples, that counted in", format!("{:.2} s", spent / n * 1e6));
    told("rows: on disk", format!("{:.2} B/sample", disk as f64 / n));
    let began = Instant::now();
    let mut rows = db.prepare("SELECT utc_ns, value FROM samples WHERE series = 3 ORDER BY utc_ns").expect("sql");
    let found = rows.query_map([], |row| row.get::<_, i64>(1)).expect("rows").filter_map(Result::ok).count();
    told(&format!("rows: all {found} samples of a channel"), format!("{:.0} ms", began.elapsed().as_secs_f64() * 1e3));
}

fn utc_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    since.as_nanos() as i64
}

/// MiB of a hub process before and after it has taken all of it through a broker.
async fn memory(batches: &[(String, Vec<u8>)], seconds: u64) -> (f64, f64) {
    let broker = rig::Mosquitto::start();
    let (at, config) = (broker.directory.path(), broker.directory.path().join("hub.toml"));
    let lines = format!(
        "[broker]\nurl = \"{}\"\n[store]\npath = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"off\"\n",
        broker.url(),
        at.join("memory.sqlite").display()
    );
    fs::write(&config, lines).expect("a configuration");
    let mut hub = Command::new(env!("CARGO_BIN_EXE_speedwell-hub"))
        .args(["run", "--config"])
        .arg(&config)
        .spawn()
        .expect("the hub starts");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = resident_mib(hub.id());
    let gateway = rig::TestGateway::connect(&format!("gateway-{}", GATEWAYS - 1), broker.port).await;
    gateway.manifest(&manifest()).await;
    // A round of all gateways at a time: the broker keeps only so many for the hub.
    for (round, some) in batches.chunks(GATEWAYS as usize).enumerate() {
        for (topic, bytes) in some {
            gateway.publish(topic.clone(), false, bytes.clone()).await;
        }
        gateway.confirmed(((round as u64 + 1) * RECORDS_A_BATCH).min(seconds)).await;
    }
    let after = resident_mib(hub.id());
    let _ = hub.kill();
    let _ = hub.wait();
    (idle, after)
}

fn resident_mib(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the hub runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

fn manifest() -> Manifest {
    let channel = |id| Channel {
        id,
        sensor: format!("sensor-{id}"),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 1_000_000_000 / RATE_HZ,
        calibration: 0,
    };
    Manifest { channels: (0..CHANNELS).map(channel).collect() }
}

fn batches(manifest: &Manifest, seconds: u64, gateways: u64) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for first in (1..=seconds).step_by(RECORDS_A_BATCH as usize) {
        let records: Vec<Entry> = (first..(first + RECORDS_A_BATCH).min(seconds + 1))
            .map(|second| Entry { span: 1, record: record(manifest, second) })
            .collect();
        for g in 0..gateways {
            let gateway = GatewayId::new(format!("gateway-{g}")).expect("a good name");
            let topic = format!("{}/{gateway}/log", rig::PREFIX);
            let mut entries = records.clone();
            // The first batch tells the time, in the place of its first second.
            if first == 1 {
                entries[0].record = clock();
            }
            let batch = Batch { gateway, log: LogId(g), oldest_seq: 1, first_seq: first, entries };
            all.push((topic, frame::encode(&batch)));
        }
    }
    all
}

fn clock() -> Record {
    let (utc_ns, source) = (rig::BOOT_UTC_NS, ClockSource::Ntp);
    Record::Clock(ClockFix { boot: 1, boot_ns: 0, utc_ns, uncertainty_ns: 0, rate_ppb: 0, source })
}

/// A speed that drifts and trembles by some mm/s, with times that tremble by a tick: nothing a codec gets for free.
fn record(manifest: &Manifest, second: u64) -> Record {
    let ticks = 10_000 / RATE_HZ;
    let column = |channel: u16| {
        let mut random = fastrand::Rng::with_seed(second << 8 | u64::from(channel));
        let sample = |i: u64| {
            let at = second * RATE_HZ + i;
            let drift = (20_000.0 + 5_000.0 * (at as f64 / 200.0 + f64::from(channel)).sin()) as i64;
            block::Sample {
                tick: at * ticks + random.u64(0..2),
                value: drift + random.i64(-6..=6),
                uncertainty: block::Uncertainty(20),
                quality: Quality::Good,
            }
        };
        block::Column { channel, samples: (0..RATE_HZ).map(sample).collect() }
    };
    let columns: Vec<_> = (0..CHANNELS).map(column).collect();
    Record::Samples(Samples { manifest: manifest.hash(), boot: 1, block: block::encode(&columns, manifest) })
}

/// So that the size is that of the database, not of its log.
fn checkpoint(path: &Path) {
    let db = rusqlite::Connection::open(path).expect("the database");
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
