//! What the tests of the spool share.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::path::{Path, PathBuf};

use speedwell::spool::{Opened, Options, Spool, Stored};
use speedwell_wire::{Event, EventKind, Record, Seq};

/// A record that says its own number, padded to some size.
pub fn record(n: u64, size: usize) -> Record {
    let detail = format!("{n:012}{}", "x".repeat(size.saturating_sub(12)));
    Record::Event(Event { boot: 1, t_ns: n * 1_000_000_000, sensor: None, kind: EventKind::Started, detail })
}

/// The number that a record of [`record`] says.
pub fn number(stored: &Stored) -> u64 {
    match decode(stored) {
        Record::Event(event) => event.detail[..12].parse().expect("a number"),
        other => panic!("not one of ours: {other:?}"),
    }
}

pub fn decode(stored: &Stored) -> Record {
    speedwell_wire::record::decode(&stored.bytes).expect("what was stored can be decoded")
}

/// Options for a small spool that never commits by itself.
pub fn options(dir: &Path) -> Options {
    Options {
        max_size: 64 << 20,
        keep_free: 0,
        commit_every: std::time::Duration::from_secs(3600),
        ..Options::new(dir)
    }
}

pub fn open(dir: &Path) -> (Spool, Opened) {
    Spool::open(options(dir)).expect("opens")
}

/// Appends records that say their own numbers, up to `last`.
pub async fn fill(spool: &Spool, last: Seq, size: usize) {
    let mut next = spool.stats().last_seq + 1;
    while next <= last {
        let end = (next + 63).min(last);
        let appended = spool.append((next..=end).map(|n| record(n, size)).collect()).await.expect("appends");
        assert_eq!(appended, next..end + 1);
        next = end + 1;
    }
}

/// Everything from `seq` on.
pub async fn read_all(spool: &Spool, mut seq: Seq) -> Vec<Stored> {
    let mut all = Vec::new();
    loop {
        let some = spool.read_from(seq, 64 << 10).await.expect("reads");
        let Some(last) = some.last() else { return all };
        seq = last.first + last.span;
        all.extend(some);
    }
}

/// Asserts that entries are in order and without holes, and gives (records, numbers lost).
pub fn account(entries: &[Stored]) -> (Vec<Seq>, u64) {
    let (mut next, mut records, mut lost) = (entries.first().map_or(0, |entry| entry.first), Vec::new(), 0);
    for entry in entries {
        assert_eq!(entry.first, next, "a hole, or one twice");
        next += entry.span;
        match decode(entry) {
            Record::Loss(loss) => {
                assert_eq!(loss.records, entry.span);
                lost += entry.span;
            }
            _ => {
                assert_eq!(number(entry), entry.first, "a record under another's number");
                records.push(entry.first);
            }
        }
    }
    (records, lost)
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("mkdir");
    for entry in std::fs::read_dir(from).expect("reads") {
        let entry = entry.expect("entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copies");
        }
    }
}

/// The generations' directories, oldest first.
pub fn generations(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .expect("reads")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.len() == 16) && path.extension().is_none())
        .collect();
    found.sort();
    found
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
