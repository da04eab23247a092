//! `speedwell spool` as a person runs it.

mod spool_support;

use std::{fs, path::Path, process::Command};

use speedwell::spool::Spool;
use speedwell_wire::{
    Channel, ClockFix, ClockSource, Manifest, Quality, Quantity, Record, Samples,
    block::{self, Column, Sample, Uncertainty},
};
use spool_support::*;

/// Exit code, standard output, standard error.
fn run(arguments: &[&str], dir: &Path) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_speedwell"))
        .args(["spool"])
        .args(arguments)
        .arg("--directory")
        .arg(dir)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A spool with a clock fix, an event, samples and many more events, in several generations.
async fn filled(dir: &Path) -> Spool {
    let (spool, _) = open(dir);
    let channel = Channel {
        id: 0,
        sensor: "front-wheel".into(),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    let manifest = Manifest { channels: vec![channel] };
    spool.keep_manifest(&manifest).await.unwrap();
    let fix = ClockFix {
        boot: 1,
        boot_ns: 1_000_000_000,
        utc_ns: 1_767_225_600_000_000_000,
        uncertainty_ns: 1000,
        rate_ppb: 0,
        source: ClockSource::Ntp,
    };
    let sample = |n: u64| Sample {
        tick: 20_000 + n * 1000,
        value: 12_345 + n as i64,
        uncertainty: Uncertainty(3),
        quality: Quality::Good,
    };
    let columns = [Column { channel: 0, samples: (0..2).map(sample).collect() }];
    let block = block::encode(&columns, &manifest);
    let samples = Samples { manifest: manifest.hash(), boot: 1, block };
    spool.append(vec![Record::Clock(fix), record(2, 12), Record::Samples(samples)]).await.unwrap();
    fill(&spool, 30_000, 250).await;
    spool.flush().await.unwrap();
    spool
}

/// What lies in a directory, byte for byte.
fn everything(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_spool_is_told_checked_and_exported_without_a_byte_of_it_changing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path()).await;
    spool.confirm_thru(1).await.unwrap();
    spool.close().await.unwrap();
    let before = everything(dir.path());

    let (code, out, err) = run(&["info"], dir.path());
    println!("{out}");
    assert_eq!((code, err.as_str()), (0, ""));
    for wanted in ["last record  30000\n", "confirmed    1\n", "unconfirmed  29999\n", "sealed", "database"] {
        assert!(out.contains(wanted), "{wanted} in\n{out}");
    }
    let (code, out, err) = run(&["verify"], dir.path());
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("30000 entries are whole; 0 records cannot be read\n"), "{out}");

    let (code, out, err) = run(&["export"], dir.path());
    assert_eq!((code, err.as_str()), (0, ""));
    let head: Vec<&str> = out.lines().take(5).collect();
    let u = Uncertainty(3).in_unit(0.001).unwrap();
    let wanted = [
        "seq,kind,boot,boot_ns,utc,sensor,what,value,unit,uncertainty,quality,detail".to_owned(),
        "1,clock,1,1000000000,2026-01-01T00:00:00Z,,ntp,,,,,\"uncertain by 1000 ns, rate 0 ppb\"".to_owned(),
        "2,event,1,2000000000,2026-01-01T00:00:01Z,,started,,,,,000000000002".to_owned(),
        format!("3,sample,1,2000000000,2026-01-01T00:00:01Z,front-wheel,speed,12.345,m/s,{u},good,"),
        format!("3,sample,1,2100000000,2026-01-01T00:00:01.1Z,front-wheel,speed,12.346,m/s,{u},good,"),
    ];
    assert_eq!(head, wanted);
    assert_eq!(out.lines().count(), 1 + 30_001);

    let (code, out, _) = run(&["export", "--format", "json", "--from", "3"], dir.path());
    assert_eq!((code, out.lines().count()), (0, 29_999));
    let wanted = format!(
        r#"{{"seq":3,"kind":"sample","boot":1,"boot_ns":2000000000,"utc":"2026-01-01T00:00:01Z","sensor":"front-wheel","what":"speed","value":12.345,"unit":"m/s","uncertainty":{u:e},"quality":"good"}}"#
    );
    assert_eq!(out.lines().next(), Some(wanted.as_str()));
    assert_eq!(everything(dir.path()), before, "nothing was written");
}

#[tokio::test]
async fn of_a_damaged_spool_what_can_be_read_is_exported_and_the_rest_is_told_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await.unwrap();
    let generations = generations(dir.path());
    let chunks = generations[0].join("chunks");
    let mut bytes = fs::read(&chunks).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&chunks, bytes).unwrap();
    fs::write(dir.path().join("meta"), "damaged").unwrap();

    let (code, out, err) = run(&["verify"], dir.path());
    assert_eq!(code, 65, "{out}");
    assert!(err.contains("cannot be read") && err.contains("meta, the log's name"), "{err}");
    let (code, out, err) = run(&["export"], dir.path());
    assert_eq!(code, 65);
    let losses: Vec<&str> = out.lines().filter(|line| line.contains(",loss,")).collect();
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert!(losses[0].contains("damaged") && out.lines().count() > 29_900, "{losses:?}");
    assert!(err.contains("records could not be read"), "{err}");

    let (code, out, err) = run(&["repair"], dir.path());
    println!("{out}");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("cannot be read: a loss stands in their place"), "{out}");
    assert!(out.contains("the log goes on with record 30001"), "{out}");
}

#[tokio::test]
async fn a_database_that_no_longer_opens_is_exported_from_its_raw_file() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await.unwrap();
    let newest = generations(dir.path()).pop().unwrap();
    fs::write(newest.join("conf"), "").unwrap();
    let (code, out, _) = run(&["export"], dir.path());
    assert_eq!((code, out.lines().count()), (0, 1 + 30_001));
}

#[tokio::test]
async fn what_is_in_use_is_left_alone_and_its_process_named() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(dir.path()).await;
    // Even when the number in the file is another's.
    fs::write(dir.path().join("lock"), "1").unwrap();
    let mine = format!("process {}", std::process::id());
    for what in ["verify", "export", "repair"] {
        let (code, out, err) = run(&[what], dir.path());
        assert_eq!((code, out.as_str()), (69, ""), "{what}: {err}");
        assert!(err.contains(&mine), "{what}: {err}");
    }
    let (code, out, err) = run(&["info"], dir.path());
    assert_eq!(code, 0);
    assert!(out.contains("last record") && err.contains(&mine), "{err}");
    drop(spool);
}

#[test]
fn where_there_is_no_spool_none_is_made_and_a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for what in ["info", "verify", "export", "repair"] {
        let (code, _, err) = run(&[what], dir.path());
        assert_eq!(code, 66, "{what}: {err}");
        assert_eq!(run(&[what], &dir.path().join("none")).0, 66);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    drop(open(dir.path()));
    let mut meta = b"speedwell-spool 2\nname 0123\n".to_vec();
    meta.extend_from_slice(&speedwell_wire::frame::crc32c(&meta).to_le_bytes());
    fs::write(dir.path().join("meta"), &meta).unwrap();
    let before = everything(dir.path());
    for what in ["info", "verify", "export", "repair"] {
        let (code, _, err) = run(&[what], dir.path());
        assert_eq!(code, 65, "{what}");
        assert!(err.contains("format 2, this speedwell knows up to 1"), "{err}");
    }
    assert_eq!(everything(dir.path()), before);
}
