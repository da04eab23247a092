//! Bytes and time a sample: 20 speed sensors at 10 Hz, values of 1 mm/s, stamps with 300 us of jitter.
//!
//! The trace is the one of `trace`. `SPEEDWELL_TRACE=file.csv` takes another: one line a sample, `sensor,time in us,mm/s`,
//! each sensor's in order.

mod trace;

use std::{hint::black_box, time::Instant};

use speedwell_wire::{
    Batch, Channel, Entry, GatewayId, LogId, Manifest, Quality, Quantity, Record, Samples,
    block::{self, Column, Sample, Uncertainty},
    frame, json,
};
use trace::{HZ, Trace, made, read};

fn manifest(sensors: usize, tick_us: u64) -> Manifest {
    let channel = |id| Channel {
        id,
        sensor: format!("wheel-{id}"),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: (tick_us * 1000) as u32,
        period_ns: 1_000_000_000 / HZ as u64,
        calibration: 0,
    };
    Manifest { channels: (0..sensors as u16).map(channel).collect() }
}

/// A second's columns each.
fn seconds(trace: &Trace, tick_us: u64) -> Vec<Vec<Column>> {
    let steps = trace.iter().map(Vec::len).min().unwrap_or(0);
    let sample = |&(t, value): &(u64, i64)| Sample {
        tick: (t + tick_us / 2) / tick_us,
        value,
        uncertainty: Uncertainty::of(0.005, 0.001),
        quality: Quality::Good,
    };
    let column = |channel: usize, from: usize| Column {
        channel: channel as u16,
        samples: trace[channel][from..from + HZ].iter().map(sample).collect(),
    };
    (0..steps / HZ).map(|s| (0..trace.len()).map(|channel| column(channel, s * HZ)).collect()).collect()
}

/// Bytes of everything that goes up, in batches of so many records.
fn batches(records: &[Samples], merged: usize) -> Vec<Batch> {
    let gateway = GatewayId::new("truck-07").expect("a good name");
    let batch = |(i, group): (usize, &[Samples])| {
        let first_seq = 100_000 + (i * merged) as u64;
        let samples = block::merge(&group.iter().collect::<Vec<_>>()).expect("of one manifest");
        let samples = if merged == 1 { group[0].clone() } else { samples };
        let entries = vec![Entry { span: group.len() as u64, record: Record::Samples(samples) }];
        Batch { gateway: gateway.clone(), log: LogId(0x0123_4567_89ab_cdef), oldest_seq: first_seq, first_seq, entries }
    };
    records.chunks_exact(merged).enumerate().map(batch).collect()
}

fn table(name: &str, trace: &Trace) {
    for (tick_us, targets) in [(100, ["2.0", "1.4"]), (1, ["2.6", "2.2"])] {
        let manifest = manifest(trace.len(), tick_us);
        let seconds = seconds(trace, tick_us);
        let samples = (seconds.len() * trace.len() * HZ) as f64;
        let started = Instant::now();
        let blocks: Vec<Vec<u8>> = seconds.iter().map(|columns| block::encode(columns, &manifest)).collect();
        let encoding = started.elapsed();
        let started = Instant::now();
        for block in &blocks {
            black_box(block::decode(black_box(block)).expect("own block"));
        }
        let decoding = started.elapsed();
        let hash = manifest.hash();
        let records: Vec<Samples> =
            blocks.into_iter().map(|block| Samples { manifest: hash, boot: 12, block }).collect();
        for (merged, what, target) in
            [(1, "1 s batches", targets[0]), (10, "backlog, 10 s", targets[1]), (60, "backlog, 60 s", targets[1])]
        {
            let bytes: usize = batches(&records, merged).iter().map(|batch| frame::encode(batch).len()).sum();
            let covered = samples * (records.len() / merged * merged) as f64 / records.len() as f64;
            let figure = bytes as f64 / covered;
            println!("| wire, {name}, {tick_us} us, {what} | {figure:.3} B/sample | {target} |");
        }
        let ns = |time: std::time::Duration| time.as_nanos() as f64 / samples;
        println!("| wire, {name}, {tick_us} us, encode 1 s blocks | {:.0} ns/sample | 100 |", ns(encoding));
        println!("| wire, {name}, {tick_us} us, decode 1 s blocks | {:.0} ns/sample | 60 |", ns(decoding));
        let first = &batches(&records[..1], 1)[0];
        if let Ok(text) = json::batch_to_json(first, |_| Some(&manifest), |_, _| None) {
            let figure = text.len() as f64 / (trace.len() * HZ) as f64;
            println!("| wire, {name}, {tick_us} us, JSON twin, 1 s | {figure:.1} B/sample | |");
        }
    }
}

fn main() {
    println!("| what | figure | target |");
    table("made trace", &made());
    match std::env::var("SPEEDWELL_TRACE") {
        Ok(path) => table("given trace", &read(&path)),
        Err(_) => eprintln!("no SPEEDWELL_TRACE given: the made trace only"),
    }
    println!("| peers: mosquitto bridge, uplink, ThingsBoard (1 s batches) | 59 to 99 B/sample | |");
    println!("| pcodec, 1 us, batches of 1 / 10 / 60 s | 3.07 / 2.32 / 2.14 B/sample | |");
}
