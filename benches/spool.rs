//! What the spool costs: durable ingest, reading back, disk, memory, opening again.
//!
//! The payload is 20 channels at 10 Hz, a record a second: 200 samples. Prints the lines of a table.
#![allow(missing_docs)]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use speedwell::spool::{Options, Spool};
use speedwell_wire::{
    Channel, Manifest, Quality, Quantity, Record, Samples,
    block::{self, Column, Sample, Uncertainty},
    record,
};

const CHANNELS: u16 = 20;
const SAMPLES: u64 = 10;
const SAMPLES_PER_RECORD: u64 = CHANNELS as u64 * SAMPLES;
const MILLION: u64 = 1_000_000;
const MIB: f64 = 1048576.0;

/// 20 speeds at 10 Hz, in 100 us and 1 mm/s.
fn manifest() -> Manifest {
    let channel = |id| Channel {
        id,
        sensor: format!("wheel-{id}"),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    Manifest { channels: (0..CHANNELS).map(channel).collect() }
}

/// A second of a vehicle that drives, with stamps that jitter and speeds with some noise.
fn make_record(second: u64, manifest: &Manifest, rng: &mut fastrand::Rng) -> Record {
    let mut sample = |n: u64| Sample {
        tick: second * 10_000 + n * 1000 + rng.u64(0..7),
        value: 15_000 + (second % 100) as i64 * 50 + rng.i64(-16..16),
        uncertainty: Uncertainty(30),
        quality: Quality::Good,
    };
    let mut column = |channel| Column { channel, samples: (0..SAMPLES).map(&mut sample).collect() };
    let columns: Vec<_> = (0..CHANNELS).map(&mut column).collect();
    Record::Samples(Samples { manifest: manifest.hash(), boot: 1, block: block::encode(&columns, manifest) })
}

/// Wall clock and processor of this process.
struct Meter(Instant, Duration);

impl Meter {
    fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    fn seconds(&self) -> (f64, f64) {
        (self.0.elapsed().as_secs_f64(), (cpu() - self.1).as_secs_f64())
    }
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A number that the kernel tells of this process.
fn of_self(file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

fn rss_mib() -> f64 {
    of_self("status", "VmRSS:") / 1024.0
}

fn options(dir: &Path) -> Options {
    Options { keep_free: 0, ..Options::new(dir) }
}

/// Disk the spool takes beyond its ballast.
fn disk(spool: &Spool) -> f64 {
    spool.stats().disk_bytes as f64 - 8.0 * MIB
}

fn row(what: &str, figure: String, target: &str) {
    println!("| spool: {what} | {figure} | {target} |");
}

async fn append(spool: &Spool, records: u64, pool: &[Record]) {
    for n in 0..records / 10 {
        let at = (n as usize * 10) % pool.len();
        spool.append(pool[at..at + 10].to_vec()).await.expect("appends");
    }
    spool.flush().await.expect("flushes");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if let Ok(work) = std::env::var(CHILD) {
        return runtime.block_on(child(&work));
    }
    memory();
    runtime.block_on(async {
        let pool = pool();
        println!("({} bytes a record of {SAMPLES_PER_RECORD} samples)", record::encode(&pool[0]).len());
        ingest(&pool).await;
        trickle(&pool).await;
    });
}

/// What a process of its own does with the spool in a directory, and how much memory that takes: see [`memory`].
const CHILD: &str = "SPEEDWELL_BENCH_CHILD";

/// Memory with nothing, a million and ten million samples behind, and opening a million again after a close and after a
/// kill; each in a process of its own, for what one has freed another would find.
fn memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let told = |what: &str, name: &str| {
        let program = std::env::current_exe().expect("a path");
        let output = std::process::Command::new(program).env(CHILD, format!("{what} {}", at(name).display())).output();
        let output = output.expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    row("RSS, empty", told("append 0", "none"), "10 MiB");
    row("RSS, a million samples behind", told("append 1", "million"), "14 MiB");
    row("RSS, ten million samples behind", told("append 10", "ten"), "14 MiB");
    for (name, behind) in [("million", "a million"), ("ten", "ten million")] {
        // The child is gone without closing: what it left is what a kill leaves.
        row(&format!("opening {behind} samples, killed"), told("open", name), "20 ms, 14 MiB");
        row(&format!("opening {behind} samples, closed"), told("open", name), "20 ms, 14 MiB");
    }
}

/// The child: `append MILLIONS DIR` and is gone, or `open DIR` and closes.
async fn child(work: &str) {
    let words: Vec<_> = work.split(' ').collect();
    let took = match words[..] {
        ["append", millions, dir] => {
            let (spool, _) = Spool::open(options(Path::new(dir))).expect("opens");
            let records = millions.parse::<u64>().expect("a number") * MILLION / SAMPLES_PER_RECORD;
            append(&spool, records, &pool()).await;
            println!("{}", rss());
            std::process::exit(0);
        }
        ["open", dir] => {
            let (spool, opened) = Spool::open(options(Path::new(dir))).expect("opens");
            println!("{:.0} ms, {}", opened.took.as_secs_f64() * 1e3, rss());
            spool.close().await
        }
        _ => panic!("{work}"),
    };
    took.expect("closes");
}

fn rss() -> String {
    format!("{:.1} MiB, at most {:.1}", rss_mib(), of_self("status", "VmHWM:") / 1024.0)
}

fn pool() -> Vec<Record> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..200).map(|n| make_record(n, &manifest(), &mut rng)).collect()
}

async fn ingest(pool: &[Record]) {
    let millions = 8;
    let records = millions * MILLION / SAMPLES_PER_RECORD;
    let dir = tempfile::tempdir().expect("a directory");
    let (spool, _) = Spool::open(options(dir.path())).expect("opens");
    let meter = Meter::start();
    append(&spool, records, pool).await;
    let (wall, used) = meter.seconds();
    let rates = (millions as f64 / wall, records as f64 / wall);
    row("durable ingest", format!("{:.2} M samples/s, {:.0} records/s", rates.0, rates.1), "1 M samples/s");
    row("durable ingest, processor", format!("{:.3} s per million samples", used / millions as f64), "");
    let stats = spool.stats();
    row("longest flush", format!("{:.1} ms of {} flushes", stats.flush_max.as_secs_f64() * 1e3, stats.flushes), "");
    let ratio = disk(&spool) / stats.payload_bytes as f64;
    row(
        "disk per byte of records, backlog",
        format!("{ratio:.2}, {:.2} B/sample", disk(&spool) / millions as f64 / 1e6),
        "2",
    );
    read_back(&spool, records, millions as f64).await;
    let meter = Meter::start();
    spool.confirm_thru(records).await.expect("confirms");
    let figure = format!("{:.0} ms, {:.1} MiB left on disk", meter.seconds().0 * 1e3, disk(&spool) / MIB);
    row("freeing all of it", figure, "");
}

async fn read_back(spool: &Spool, records: u64, millions: f64) {
    let (meter, mut next, mut read) = (Meter::start(), 1, 0);
    loop {
        let some = spool.read_from(next, 128 << 10).await.expect("reads");
        let Some(last) = some.last() else { break };
        next = last.first + last.span;
        read += some.len() as u64;
    }
    assert_eq!(read, records);
    let (wall, used) = meter.seconds();
    let figure = format!("{:.2} M samples/s, {:.3} s of processor per million", millions / wall, used / millions);
    row("read back", figure, "0.5 M samples/s");
}

/// As a gateway does it: a record a second, a flush each, without the waiting, until the third generation begins.
async fn trickle(pool: &[Record]) {
    let dir = tempfile::tempdir().expect("a directory");
    let (spool, _) = Spool::open(options(dir.path())).expect("opens");
    let (meter, before) = (Meter::start(), of_self("io", "write_bytes:"));
    let mut flushes = 0;
    while spool.stats().generations < 3 {
        spool.append(vec![pool[flushes % pool.len()].clone()]).await.expect("appends");
        spool.flush().await.expect("flushes");
        flushes += 1;
    }
    let payload = spool.stats().payload_bytes as f64;
    let written = of_self("io", "write_bytes:") - before;
    row("disk per byte of records, a record a flush", format!("{:.2}", disk(&spool) / payload), "2");
    let figure = format!("{:.1}, {:.1} KiB a flush", written / payload, written / flushes as f64 / 1024.0);
    row("written per byte of records, a record a flush", figure, "");
    row("processor of a flush", format!("{:.3} ms", meter.seconds().1 * 1e3 / flushes as f64), "");
}
