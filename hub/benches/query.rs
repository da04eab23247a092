//! What questions cost: a day of one channel at 10 Hz, a year of its sums, the newest values of a thousand gateways, an
//! export; on SQLite and on PostgreSQL where there is one. 50th and 99th percentile of the time of day, from the call to the
//! answer's JSON where it is told so.
//!
//! The store is filled as a hub fills it; all but a day of the year's sums are written into the table of sums as the hub
//! makes them, since a year of samples at 10 Hz would be 315 million.
//! `cargo bench -p speedwell-hub --bench query`, with `--features parquet` that export too

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::{path::Path, sync::Arc, time::Instant};

use rig::{BOOT_UTC_NS, id, postgres::Cluster};
use speedwell_hub::{
    BrokerUrl, Config, Hub,
    ingest::decode::{Decoder, Message},
    store::{
        ChannelsQuery, DrawQuery, HistoryQuery, Postgres, Read, Reading, Readings, RollupQuery, SamplesQuery, Sqlite,
        Store, Work,
    },
};
use speedwell_wire::{Batch, Entry, Manifest, Quality, Quantity, Record, Samples, block, frame};

const S: i64 = 1_000_000_000;
const DAY_S: u64 = 86_400;
const RECORDS_A_BATCH: u64 = 60;
/// Gateways whose newest values are asked for, with a channel each.
const GATEWAYS: usize = 1_000;
const DAY: (i64, i64) = (BOOT_UTC_NS, BOOT_UTC_NS + 86_400 * S - 1);
const YEAR: (i64, i64) = (BOOT_UTC_NS - 364 * 86_400 * S, BOOT_UTC_NS + 86_400 * S - 1);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("hub.sqlite");
    let mut sqlite: Box<dyn Store> = Box::new(Sqlite::open(&path).expect("a database"));
    fill(&mut sqlite, |sql| {
        rusqlite::Connection::open(&path).expect("the database").execute_batch(sql).expect("sql");
    });
    measure("SQLite", &*sqlite.reader());
    drop(sqlite);
    runtime.block_on(over_http("SQLite", |config| config.store.path = path.clone()));

    if !Path::new("/usr/lib/postgresql").exists() {
        println!("| PostgreSQL | not installed here | |");
        return;
    }
    let cluster = Cluster::start(&["shared_buffers = '256MB'", "max_wal_size = '4GB'"]);
    let url = cluster.database();
    let mut postgres: Box<dyn Store> = Box::new(Postgres::open(&url, None, None).expect("a database"));
    fill(&mut postgres, |sql| {
        cluster.sql(&url, sql);
    });
    cluster.sql(&url, "ANALYZE");
    measure("PostgreSQL", &*postgres.reader());
    drop(postgres);
    let url = url.clone();
    runtime.block_on(over_http("PostgreSQL", |config| config.store.url = Some(url.try_into().expect("an address"))));
}

/// A day of samples, a year of sums, a thousand gateways.
fn fill(store: &mut Box<dyn Store>, sql: impl Fn(&str)) {
    let began = Instant::now();
    let manifest = rig::manifest();
    let mut decoder = Decoder::new(rig::PREFIX, vec![manifest.clone()]);
    store.commit(&[Work::Manifest(Arc::new(manifest.clone()))]).expect("a commit");
    let topic = format!("{}/truck-7/log", rig::PREFIX);
    let firsts: Vec<u64> = (0..=DAY_S).step_by(RECORDS_A_BATCH as usize).collect();
    for some in firsts.chunks(64) {
        let work = some.iter().map(|first| {
            let record = |seq: u64| if seq == 0 { rig::fix() } else { record(&manifest, seq - 1) };
            let seqs = *first..(*first + RECORDS_A_BATCH).min(DAY_S + 1);
            let entries = seqs.map(|seq| Entry { span: 1, record: record(seq) }).collect();
            let batch = Batch { gateway: id("truck-7"), log: rig::LOG, oldest_seq: 1, first_seq: first + 1, entries };
            match decoder.read(&topic, &frame::encode(&batch), 0) {
                Message::Store { work, .. } => work,
                _ => panic!("a batch"),
            }
        });
        store.commit(&work.collect::<Vec<_>>()).expect("a commit");
    }
    let reading = |n: usize| Reading {
        device: id(&format!("gateway-{n}")),
        sensor: "front-wheel".into(),
        quantity: Quantity::Speed,
        utc_ns: BOOT_UTC_NS + n as i64,
        value: n as f64,
        uncertainty: None,
        quality: Quality::Good,
    };
    let items = (0..GATEWAYS).map(reading).collect();
    let given = Readings { source: "x".into(), key: None, digest: [0; 32], received_ns: 0, items };
    store.commit(&[Work::Readings(given)]).expect("a commit");
    while store.tend(3_600 * S).expect("sums") {}
    // The sums of the day stand for those of every day before it.
    sql("WITH days AS (SELECT start / 86400 AS n FROM rollups WHERE level = 3600 AND count > 1000 LIMIT 1)
         INSERT INTO rollups SELECT series, level, start - 86400 * day, count, untrusted, min, max, sum, first_after,
            first, last_after, last, area, bridged_ns, worst FROM rollups, days,
            (WITH RECURSIVE n (day) AS (SELECT 1 UNION ALL SELECT day + 1 FROM n WHERE day < 364) SELECT day FROM n) AS past
         WHERE count > 500");
    eprintln!("filled in {:.0} s", began.elapsed().as_secs_f64());
}

/// A speed that drifts and trembles by some mm/s, with times that tremble by a tick.
fn record(manifest: &Manifest, second: u64) -> Record {
    let mut random = fastrand::Rng::with_seed(second);
    let sample = |i: u64| block::Sample {
        tick: second * 10_000 + i * 1_000 + random.u64(0..2),
        value: (20_000.0 + 5_000.0 * ((second * 10 + i) as f64 / 2_000.0).sin()) as i64 + random.i64(-6..=6),
        uncertainty: block::Uncertainty(20),
        quality: Quality::Good,
    };
    let column = block::Column { channel: 1, samples: (0..10).map(sample).collect() };
    Record::Samples(Samples { manifest: manifest.hash(), boot: 1, block: block::encode(&[column], manifest) })
}

fn told(name: &str, what: &str, figure: String, target: &str) {
    println!("| {name}, {what} | {figure} | {target} |");
}

/// Median and 99th percentile of so many, after one that is not counted.
fn timed(times: usize, mut ask: impl FnMut() -> usize) -> (String, usize) {
    let found = ask();
    let mut all: Vec<f64> = (0..times)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(ask(), found);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() as f64 * share) as usize).min(all.len() - 1)];
    (format!("{:.1} / {:.1} ms", at(0.5), at(0.99)), found)
}

fn measure(name: &str, reader: &dyn Read) {
    let gateway = || id("truck-7");
    let (sensor, quantity) = (|| "front-wheel".to_owned(), Quantity::Speed);
    for ((from_ns, to_ns), what) in [(DAY, "a day"), (YEAR, "a year")] {
        let query = DrawQuery { gateway: gateway(), sensor: sensor(), quantity, from_ns, to_ns, points: 2_000 };
        let mut samples = 0;
        let (figure, marks) = timed(200, || {
            let drawing = reader.draw(&query).expect("an answer");
            samples = drawing.samples;
            drawing.marks.len()
        });
        let target = if what == "a day" { "100 ms" } else { "" };
        told(name, &format!("{what} of {samples} samples by {marks} points"), figure, target);
    }
    for (range, bucket_s, what, target) in [
        (DAY, 60, "a day by the minute", ""),
        (YEAR, 3_600, "a year by the hour", "50 ms"),
        (YEAR, 86_400, "a year by the day", ""),
    ] {
        let (from_ns, to_ns) = range;
        let query =
            RollupQuery { gateway: gateway(), sensor: sensor(), quantity, bucket_s, from_ns, to_ns, limit: 100_000 };
        let (figure, found) = timed(200, || reader.rollup(&query).expect("an answer").buckets.len());
        told(name, &format!("{what}, {found} buckets"), figure, target);
    }
    let (from_ns, to_ns) = (DAY.0, DAY.0 + 600 * S - 1);
    let ten = HistoryQuery { gateway: gateway(), sensor: sensor(), quantity, from_ns, to_ns, limit: 100_000 };
    let (figure, found) = timed(200, || reader.history(&ten).expect("an answer").points.len());
    told(name, &format!("ten minutes, all {found} samples"), figure, "");
    let (sensors, quantities) = (vec![sensor()], vec![quantity]);
    let day =
        SamplesQuery { gateway: gateway(), sensors, quantities, from_ns: DAY.0, to_ns: DAY.1, skip: 0, limit: 100_000 };
    let (figure, found) = timed(5, || {
        let (mut query, mut found) = (day.clone(), 0);
        loop {
            let page = reader.samples(&query).expect("an answer");
            found += page.samples.len();
            match page.next {
                Some((from_ns, skip)) => (query.from_ns, query.skip) = (from_ns, skip),
                None => return found,
            }
        }
    });
    told(name, &format!("a day, all {found} samples in pages of 100,000"), figure, "");
    let newest = ChannelsQuery { limit: 1_000, ..ChannelsQuery::default() };
    let (figure, found) = timed(200, || reader.channels(&newest).expect("an answer").channels.len());
    told(name, &format!("newest values of {found} gateways"), figure, "");
    let one = ChannelsQuery { gateway: Some(id("gateway-500")), ..newest };
    let (figure, _) = timed(200, || reader.channels(&one).expect("an answer").channels.len());
    told(name, "newest value of one gateway", figure, "");
}

/// All that comes, on a connection of its own.
async fn get(at: std::net::SocketAddr, path: &str) -> Vec<u8> {
    let mut stream = tokio::net::TcpStream::connect(at).await.expect("the hub listens");
    let ask = format!("GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, ask.as_bytes()).await.expect("it takes it");
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.expect("all of it");
    answer
}

/// The same from a hub that listens, to the last byte; and exports.
async fn over_http(name: &str, store: impl FnOnce(&mut Config)) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = BrokerUrl::plain("127.0.0.1:1".parse().expect("an address"));
    let mut config = Config::new(broker, directory.path().join("hub.sqlite"));
    config.http.listen.set_port(0);
    store(&mut config);
    let hub = Hub::start(config).await.expect("the hub starts");
    let time = |ns: i64| jiff::Timestamp::from_nanosecond(ns.into()).expect("a time").to_string();
    let channel = "gateway=truck-7&sensor=front-wheel&quantity=speed";
    let (day, year) =
        (format!("from={}&to={}", time(DAY.0), time(DAY.1)), format!("from={}&to={}", time(YEAR.0), time(YEAR.1)));
    for (what, path, target) in [
        ("a day by 2,000 points", format!("/api/v1/history?{channel}&{day}&max-points=2000"), "100 ms"),
        ("a year by the hour", format!("/api/v1/rollup?{channel}&{year}&bucket=1h"), "50 ms"),
        ("newest values of 1,000 gateways", "/api/v1/latest".to_owned(), ""),
        ("a day's first 100,000 samples", format!("/api/v1/history?{channel}&{day}"), ""),
    ] {
        let mut all = Vec::new();
        let mut bytes = 0;
        for _ in 0..40 {
            let began = Instant::now();
            let answer = get(hub.http, &path).await;
            all.push(began.elapsed().as_secs_f64() * 1e3);
            assert!(answer.starts_with(b"HTTP/1.1 200"));
            bytes = answer.len();
        }
        all.sort_by(f64::total_cmp);
        told(
            name,
            &format!("over HTTP, {what}, {} kB", bytes / 1000),
            format!("{:.1} / {:.1} ms", all[20], all[39]),
            target,
        );
    }
    let formats = ["csv", "jsonl"].into_iter().chain(cfg!(feature = "parquet").then_some("parquet"));
    for format in formats {
        let began = Instant::now();
        let mut stream = tokio::net::TcpStream::connect(hub.http).await.expect("the hub listens");
        let ask = format!(
            "GET /api/v1/export?format={format}&gateway=truck-7&{day} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
        );
        tokio::io::AsyncWriteExt::write_all(&mut stream, ask.as_bytes()).await.expect("it takes it");
        let bytes = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.expect("all of it");
        let rows = DAY_S as f64 * 10.0;
        let took = began.elapsed().as_secs_f64();
        told(
            name,
            &format!("export of a day as {format}, {:.0} MB", bytes as f64 / 1e6),
            format!("{:.0} rows/s, {:.1} bytes a row", rows / took, bytes as f64 / rows),
            "",
        );
    }
    hub.stop().await.expect("it stops");
}
