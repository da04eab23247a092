//! `speedwell decode`: what it prints of every kind of frame, and what it says of what is none.
//!
//! Where python3 is there, `scripts/decode.py`, written from docs/wire.md, has to read the same.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use speedwell_wire::{
    Batch, Channel, ClockFix, ClockSource, Entry, Event, EventKind, GatewayId, Live, LiveValue, LogId, Loss,
    LossReason, Manifest, NoData, Quality, Quantity, Record, Samples,
    block::{self, Column, Sample, Uncertainty},
    frame,
};

const FINE: i32 = 0;
const BAD_DATA: i32 = 65;
const NO_INPUT: i32 = 66;

fn decode(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speedwell"));
    let command = command.arg("decode").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    child.stdin.take().expect("piped").write_all(input).expect("written");
    child.wait_with_output().expect("it ends")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kept(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, bytes).expect("written");
    path
}

fn manifest() -> Manifest {
    let channel = |id: u16| Channel {
        id,
        sensor: format!("wheel-{id}"),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    Manifest { channels: (0..40).map(channel).collect() }
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// A column as a seed will have it: on a schedule, with holes, free or wild; moving, parked or leaping.
fn column(channel: u16, seed: u64) -> Column {
    let mut state = seed;
    let mut below = |n: u64| random(&mut state) % n;
    let (kind, motion, slope) = (below(4), below(4), below(400) as i64 - 200);
    let (mut tick, mut value) = (600_000 + u64::from(channel) * 50, below(30_000) as i64);
    let mut samples = Vec::new();
    for _ in 0..1 + below(40) {
        tick = match kind {
            0 => tick + 1000,
            1 => tick + 1000 + if below(10) == 0 { 1000 * below(90) } else { 0 },
            2 => tick + below(5000),
            _ => below(u64::MAX),
        };
        value = match motion {
            0 => 0,
            1 => -77,
            2 => value + slope + below(20) as i64,
            _ => below(u64::MAX) as i64,
        };
        let jitter = if kind < 2 { below(7) } else { 0 };
        let quality = [Quality::Good, Quality::Estimated, Quality::Degraded, Quality::Stopped];
        samples.push(Sample {
            tick: tick.wrapping_add(jitter),
            value,
            uncertainty: Uncertainty(if seed.is_multiple_of(3) { below(256) as u8 } else { 21 }),
            quality: quality[if seed.is_multiple_of(5) { below(4) as usize } else { 0 }],
        });
    }
    Column { channel, samples }
}

fn samples(seed: u64) -> Record {
    let (manifest, mut state) = (manifest(), seed);
    let mut columns: Vec<Column> = Vec::new();
    for channel in 0..random(&mut state) % 12 {
        let copied = columns.last().filter(|_| random(&mut state).is_multiple_of(3)).cloned();
        let of_seed = || column(channel as u16, random(&mut state.clone()));
        columns.push(copied.map_or_else(of_seed, |last| Column { channel: channel as u16, ..last }));
        state = state.wrapping_add(1);
    }
    Record::Samples(Samples { manifest: manifest.hash(), boot: 3, block: block::encode(&columns, &manifest) })
}

/// Two channels a sensor, measured at the same times.
fn turns() -> Record {
    let column = |c: u16| {
        let sample = |i: u64| Sample {
            tick: 9_000 + i * 1000 + u64::from(c / 2) * 50,
            value: i as i64 * 7,
            uncertainty: Uncertainty(30 + 9 * (c as u8 % 2)),
            quality: Quality::Good,
        };
        Column { channel: c, samples: (0..10).map(sample).collect() }
    };
    let (manifest, columns) = (manifest(), (0..8).map(column).collect::<Vec<_>>());
    Record::Samples(Samples { manifest: manifest.hash(), boot: 3, block: block::encode(&columns, &manifest) })
}

fn batch(records: impl IntoIterator<Item = Record>) -> Batch {
    let entries = records.into_iter().map(|record| Entry { span: 1, record }).collect();
    let gateway = GatewayId::new("truck-7").expect("a good name");
    Batch { gateway, log: LogId(0x0123_4567_89ab_cdef), oldest_seq: 7, first_seq: 300, entries }
}

fn others() -> [Record; 3] {
    let event = Event {
        boot: 3,
        t_ns: 60_000_000_000,
        sensor: Some("gnss".into()),
        kind: EventKind::SensorFault,
        detail: "no fix, behind the hill Ä".into(),
    };
    let fix = ClockFix {
        boot: 3,
        boot_ns: 61_000_000_000,
        utc_ns: 1_767_225_600_000_000_000,
        uncertainty_ns: 500_000,
        rate_ppb: -1200,
        source: ClockSource::Ntp,
    };
    let loss =
        Loss { reason: LossReason::SpoolFullOldest, records: 40, samples: 8000, from: Some((2, 5)), until: None };
    [Record::Event(event), Record::Clock(fix), Record::Loss(loss)]
}

fn live() -> Live {
    let value = |channel, value| LiveValue { channel, t_ns: 59_900_000_000, value };
    let values = vec![value(0, Ok((12.346, 0.005, Quality::Degraded))), value(1, Err(NoData::Stale))];
    Live { manifest: manifest().hash(), boot: 3, now_ns: 60_000_000_000, values }
}

#[test]
fn a_batch_is_shown_with_the_names_of_its_manifest_and_times_of_its_clock() {
    let there = tempfile::tempdir().expect("a directory");
    let list = kept(there.path(), "manifest.bin", &frame::encode(&manifest()));
    let wheel = Column { channel: 4, samples: column(4, 8).samples[..1].to_vec() };
    let block = block::encode(&[wheel], &manifest());
    let samples = Record::Samples(Samples { manifest: manifest().hash(), boot: 3, block });
    let frame = frame::encode(&batch([others()[1].clone(), samples]));
    let shown = decode(&["--manifest", list.to_str().expect("UTF-8")], &frame);
    assert_eq!((shown.status.code(), err(&shown)), (Some(FINE), String::new()));
    for words in [r#""sensor":"wheel-4""#, r#""unit":"m/s""#, r#""time":["2025-12-31T23:59:59."#, r#""oldest_seq":7"#] {
        assert!(out(&shown).contains(words), "{words} in {}", out(&shown));
    }
    // Without the manifest: the integers of the block.
    let raw = decode(&[], &frame);
    assert_eq!(raw.status.code(), Some(FINE));
    assert!(out(&raw).contains(r#""steps":["#) && !out(&raw).contains("wheel-4"), "{}", out(&raw));
}

#[test]
fn lines_of_hex_are_frames_and_a_bad_one_stops_no_other() {
    let mut bent = frame::encode(&batch(others()));
    *bent.last_mut().expect("bytes") ^= 1;
    let lines = [frame::encode(&manifest()), bent, frame::encode(&live())].map(|frame| hex(&frame)).join("\n");
    let shown = decode(&[], lines.as_bytes());
    assert_eq!(shown.status.code(), Some(BAD_DATA));
    let text = out(&shown);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[1].contains(r#""sensor":"wheel-1","quantity":"speed","unit":"m/s""#), "{text}");
    assert!(lines[1].contains(r#""no_data":"stale""#), "{text}");
    assert!(err(&shown).contains("-: frame 2: check sum is"), "{}", err(&shown));
}

#[test]
fn what_is_no_frame_is_named_with_its_file_and_a_missing_file_is_another_code() {
    let there = tempfile::tempdir().expect("a directory");
    let text = kept(there.path(), "notes.txt", b"no frame");
    let shown = decode(&[text.to_str().expect("UTF-8")], b"");
    assert_eq!(shown.status.code(), Some(BAD_DATA));
    assert!(err(&shown).contains("notes.txt: frame 1: frame version 110 is unknown"), "{}", err(&shown));
    assert_eq!(decode(&["/no/such/frame"], b"").status.code(), Some(NO_INPUT));
    let newer = frame::encode(&9u8);
    assert_eq!(decode(&[], &newer).status.code(), Some(BAD_DATA));
}

/// What is derived or not shown by the other program is left out.
fn plain(mut value: Value) -> Value {
    match &mut value {
        Value::Array(each) => each.iter_mut().for_each(|one| *one = plain(one.take())),
        Value::Object(fields) => {
            for derived in ["time", "age_s"] {
                fields.remove(derived);
            }
            fields.values_mut().for_each(|one| *one = plain(one.take()));
        }
        _ => {}
    }
    value
}

#[test]
fn a_decoder_written_from_the_page_reads_the_same() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/decode.py");
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("no python3 here: the page's decoder is not tried");
        return;
    }
    let there = tempfile::tempdir().expect("a directory");
    let vectors = (1..150).map(samples).chain([turns()]).chain(others());
    for (kind, frame) in [
        ("manifest", frame::encode(&manifest())),
        ("live", frame::encode(&live())),
        ("batch", frame::encode(&batch(vectors))),
    ] {
        let file = kept(there.path(), kind, &frame);
        let theirs = Command::new("python3").arg(&script).arg(kind).arg(&file).output().expect("python3 runs");
        assert!(theirs.status.success(), "{kind}: {}", err(&theirs));
        let ours = decode(&[file.to_str().expect("UTF-8")], b"");
        assert_eq!(ours.status.code(), Some(FINE), "{}", err(&ours));
        let read = |output: &Output| plain(serde_json::from_slice(&output.stdout).expect("JSON"));
        let (theirs, ours) = (read(&theirs), read(&ours));
        let (Some(a), Some(b)) = (theirs["entries"].as_array(), ours["entries"].as_array()) else {
            assert_eq!(theirs, ours, "{kind}");
            continue;
        };
        for (i, (theirs, ours)) in a.iter().zip(b).enumerate() {
            assert_eq!(theirs, ours, "entry {i}");
        }
        assert_eq!(theirs, ours);
    }
}
