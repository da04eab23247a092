//! The bytes of the spool's format 1, as they were when it was frozen: every later version has to open them. If this
//! fails, the code is wrong: do not change what lies in `tests/spool_format_1`.

mod spool_support;

use std::{fs, os::unix::fs::FileExt, path::Path, time::Duration};

use speedwell::spool::{OpenError, Options, Reader, Spool};
use speedwell_wire::{
    Channel, ClockFix, ClockSource, Manifest, Quality, Quantity, Record, Samples,
    block::{self, Column, Sample, Uncertainty},
    frame::crc32c,
};
use spool_support::*;

const LOG: &str = "714584a9f2e987aa";
const RECORDS: u64 = 40;
const CONFIRMED: u64 = 3;

fn frozen() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spool_format_1")
}

/// A copy, for opening a spool writes.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&frozen(), dir.path());
    dir
}

fn manifest() -> Manifest {
    let channel = Channel {
        id: 0,
        sensor: "front-wheel".into(),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    Manifest { channels: vec![channel] }
}

/// What is in it: a clock fix, samples, and events an hour apart.
fn written(seq: u64) -> Record {
    let utc_ns = 1_767_225_600_000_000_000;
    match seq {
        1 => Record::Clock(ClockFix {
            boot: 1,
            boot_ns: 5_000_000_000,
            utc_ns,
            uncertainty_ns: 1_000_000,
            rate_ppb: -300,
            source: ClockSource::Ntp,
        }),
        2 => {
            let sample = |n: u64| Sample {
                tick: 60_000 + n * 1000,
                value: 12_345 + n as i64,
                uncertainty: Uncertainty(30),
                quality: Quality::Good,
            };
            let columns = [Column { channel: 0, samples: (0..10).map(sample).collect() }];
            Record::Samples(Samples {
                manifest: manifest().hash(),
                boot: 1,
                block: block::encode(&columns, &manifest()),
            })
        }
        n => record(n * 3600, 60),
    }
}

/// Not a test: how it was made, and how that of another format is to be made, in a directory that is not there yet.
#[tokio::test]
#[ignore = "makes the bytes anew; they are frozen"]
async fn how_the_bytes_were_made() {
    let target = std::env::var_os("SPEEDWELL_MAKE_FORMAT").expect("SPEEDWELL_MAKE_FORMAT names the directory");
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_age: Some(Duration::from_secs(100 * 3600)), ..options(dir.path()) };
    let (spool, _) = Spool::open(options).unwrap();
    spool.keep_manifest(&manifest()).await.unwrap();
    for seq in 1..=RECORDS {
        spool.append(vec![written(seq)]).await.unwrap();
        spool.flush().await.unwrap();
    }
    spool.confirm_thru(CONFIRMED).await.unwrap();
    assert!(generations(dir.path()).len() > 2);
    // As a power cut leaves it, the room held back taken out.
    copy_dir(dir.path(), target.as_ref());
    for name in ["ballast", "lock"] {
        fs::remove_file(Path::new(&target).join(name)).unwrap();
    }
}

#[tokio::test]
async fn a_spool_of_format_1_is_opened_read_and_carried_on() {
    let dir = copy();
    let (spool, opened) = open(dir.path());
    assert_eq!((opened.log.to_string().as_str(), opened.created, opened.last_seq), (LOG, false, RECORDS));
    assert_eq!(opened.findings, Vec::<String>::new());
    assert_eq!(spool.manifest(manifest().hash()), Some(manifest()));
    let entries = read_all(&spool, 1).await;
    let numbers: Vec<_> = entries.iter().map(|entry| (entry.first, entry.span)).collect();
    assert_eq!(numbers, (1..=RECORDS).map(|seq| (seq, 1)).collect::<Vec<_>>());
    for entry in entries {
        assert_eq!(decode(&entry), written(entry.first));
    }
    assert_eq!(spool.append(vec![record(1, 60)]).await.unwrap(), RECORDS + 1..RECORDS + 2);
    spool.flush().await.unwrap();
    spool.confirm_thru(RECORDS + 1).await.unwrap();
    spool.close().await.unwrap();
}

#[test]
fn a_spool_of_format_1_is_read_without_opening_it() {
    let reader = Reader::open(&frozen()).unwrap();
    assert_eq!(reader.log().map(|log| log.to_string()).as_deref(), Some(LOG));
    assert_eq!((reader.problems(), reader.generations().len()), (&[][..], 3));
    let mut next = 1;
    reader.each(1, |entry| {
        assert_eq!((entry.first, decode(&entry)), (next, written(next)));
        next += 1;
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(next, RECORDS + 1);
}

/// The marks ended earlier once: what came to their end must not be missed.
#[tokio::test]
async fn a_page_of_marks_without_what_came_later_is_taken_as_it_is() {
    let dir = copy();
    let file = fs::OpenOptions::new().read(true).write(true).open(dir.path().join("marks")).unwrap();
    let mut shortened = 0;
    for slot in [0, 4096] {
        let mut bytes = [0; 4096];
        file.read_exact_at(&mut bytes, slot).unwrap();
        let length = u16::from_le_bytes([bytes[0], bytes[1]]);
        if length == 0 {
            continue;
        }
        // The last two bytes say that nothing went for its age, and that no numbers are lent.
        assert_eq!(bytes[length as usize..][..2], [0, 0]);
        let mut old = (length - 2).to_le_bytes().to_vec();
        old.extend_from_slice(&bytes[2..length as usize]);
        old.extend_from_slice(&crc32c(&old).to_le_bytes());
        old.resize(4096, 0);
        file.write_all_at(&old, slot).unwrap();
        shortened += 1;
    }
    assert!(shortened > 0);
    let (spool, opened) = open(dir.path());
    assert_eq!((opened.last_seq, opened.findings), (RECORDS, Vec::new()));
    assert_eq!(read_all(&spool, 1).await.len() as u64, RECORDS);
}

#[test]
fn whichever_copy_of_the_name_tells_of_a_newer_format_it_is_refused_with_what_to_do_and_nothing_changes() {
    for name in ["meta", "meta-copy"] {
        let dir = copy();
        let mut meta = b"speedwell-spool 2\nname 0123\n".to_vec();
        meta.extend_from_slice(&crc32c(&meta).to_le_bytes());
        fs::write(dir.path().join(name), &meta).unwrap();
        let before = everything(dir.path());
        let error = Spool::open(options(dir.path())).unwrap_err();
        assert!(matches!(error, OpenError::FutureVersion { found: 2, known: 1, .. }), "{name}: {error}");
        assert!(error.to_string().contains("Install the newer speedwell again"), "{error}");
        let _written_to_say_who = fs::remove_file(dir.path().join("lock"));
        assert!(everything(dir.path()) == before, "{name}: something was changed");
    }
}

/// All files below a directory, with their bytes.
fn everything(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(everything(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}
