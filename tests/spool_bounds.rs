//! What the spool does when records are many, old, or better not written at all: thinning, age, `lazy`.

mod spool_support;

use std::{collections::BTreeMap, path::Path, time::Duration};

use speedwell::spool::{Confirmed, Options, Spool, WhenFull};
use speedwell_wire::{
    Channel, LossReason, Manifest, Quality, Quantity, Record, Samples,
    block::{self, Column, Sample, Uncertainty},
};
use spool_support::*;

const CHANNELS: u16 = 20;

fn manifest() -> Manifest {
    let channel = |id| Channel {
        id,
        sensor: format!("s{id}"),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    Manifest { channels: (0..CHANNELS).map(channel).collect() }
}

/// Ten samples of each channel in a second, with noise that no codec makes small, so that a spool is soon full.
fn second_of_samples(second: u64, manifest: &Manifest) -> Record {
    let sample = |n: u64| Sample {
        tick: second * 10_000 + 300 + n * 1000,
        value: fastrand::i64(-1_000_000_000..1_000_000_000),
        uncertainty: Uncertainty(3),
        quality: Quality::Good,
    };
    let columns: Vec<_> =
        (0..CHANNELS).map(|channel| Column { channel, samples: (0..10).map(sample).collect() }).collect();
    Record::Samples(Samples { manifest: manifest.hash(), boot: 7, block: block::encode(&columns, manifest) })
}

/// Samples kept by channel and second, and what the losses tell: samples thinned, records dropped.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    samples: u64,
    most_in_a_second: u64,
    thinned: u64,
    dropped: u64,
    numbers: u64,
}

async fn count(spool: &Spool) -> Counted {
    let mut counted = Counted::default();
    let mut seconds: BTreeMap<u64, u64> = BTreeMap::new();
    let mut next = 1;
    for entry in read_all(spool, 1).await {
        assert_eq!(entry.first, next, "a hole, or one twice");
        next += entry.span;
        match decode(&entry) {
            Record::Samples(samples) => {
                for column in block::decode(&samples.block).unwrap() {
                    counted.samples += column.samples.len() as u64;
                    for sample in column.samples.iter().filter(|_| column.channel == 0) {
                        *seconds.entry(sample.tick / 10_000).or_default() += 1;
                    }
                }
            }
            Record::Loss(loss) if loss.reason == LossReason::Thinned => {
                assert_eq!((entry.span, loss.records), (1, 0));
                counted.thinned += loss.samples;
            }
            Record::Loss(loss) => {
                assert_eq!((loss.reason, loss.records), (LossReason::SpoolFullOldest, entry.span));
                counted.dropped += loss.samples;
            }
            other => panic!("{other:?}"),
        }
    }
    counted.numbers = next - 1;
    counted.most_in_a_second = seconds.values().take(1000).copied().max().unwrap_or(0);
    counted
}

fn thinning(dir: &Path) -> Options {
    Options { max_size: Options::MIN_MAX_SIZE, when_full: WhenFull::Thin, ..options(dir) }
}

#[tokio::test]
async fn a_full_spool_is_thinned_before_anything_is_dropped_and_every_sample_is_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(thinning(dir.path())).unwrap();
    let manifest = manifest();
    spool.keep_manifest(&manifest).await.unwrap();
    let (mut records, mut thinned_only) = (0, 0);
    while spool.stats().lost_records == 0 {
        let some = (records..records + 50).map(|second| second_of_samples(second, &manifest)).collect();
        spool.append(some).await.unwrap();
        records += 50;
        assert!(spool.stats().disk_bytes <= Options::MIN_MAX_SIZE);
        if spool.stats().thinned_samples > 0 && spool.stats().lost_records == 0 {
            thinned_only = records;
        }
    }
    spool.flush().await.unwrap();
    let counted = count(&spool).await;
    println!("{records} records, {thinned_only} before the first was dropped: {counted:?}");
    assert_eq!(counted.numbers, records, "numbers stay");
    assert_eq!(counted.samples + counted.thinned + counted.dropped, records * 200, "every sample is there or told");
    assert_eq!(counted.most_in_a_second, 1, "one sample a second of a channel is left");
    assert!(thinned_only * 200 > 3 * counted.samples / 2, "thinning made room for more");
    spool.close().await.unwrap();
    let (spool, opened) = Spool::open(thinning(dir.path())).unwrap();
    assert_eq!(opened.findings, Vec::<String>::new());
    assert_eq!(count(&spool).await, counted, "the same after a restart");
}

#[tokio::test]
async fn what_was_handed_out_is_not_thinned_under_the_hands_of_who_sends_it() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(thinning(dir.path())).unwrap();
    let manifest = manifest();
    spool.keep_manifest(&manifest).await.unwrap();
    let add = async |from: u64| {
        spool.append((from..from + 50).map(|second| second_of_samples(second, &manifest)).collect()).await.unwrap();
    };
    for n in 0..8 {
        add(n * 50).await;
    }
    spool.flush().await.unwrap();
    let sent = spool.read_from(1, 64 << 10).await.unwrap();
    let mut n = 8;
    while spool.stats().thinned_samples == 0 {
        add(n * 50).await;
        n += 1;
    }
    let again = spool.read_from(1, 64 << 10).await.unwrap();
    assert_eq!(again[..sent.len()], sent[..]);
}

#[tokio::test]
async fn records_that_are_too_old_are_given_up_and_told_so_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let hour = 3600;
    let options = Options { max_age: Some(Duration::from_secs(8 * hour)), ..options(dir.path()) };
    let (spool, _) = Spool::open(options.clone()).unwrap();
    // A record a second, as `record` makes them; a flush each quarter of an hour.
    for quarter in 1..=80 {
        fill(&spool, quarter * 900, 12).await;
        spool.flush().await.unwrap();
    }
    let entries = read_all(&spool, 1).await;
    let Record::Loss(loss) = decode(&entries[0]) else { panic!("nothing was given up") };
    assert_eq!((loss.reason, loss.records), (LossReason::TooOld, entries[0].span));
    let (records, lost) = account(&entries);
    let newest = 80 * 900;
    assert_eq!(records.len() as u64 + lost, newest);
    let oldest = newest - records[0];
    assert!((8 * hour - 900..=9 * hour + 1800).contains(&oldest), "the oldest is {oldest} s old");
    spool.close().await.unwrap();
    let (spool, opened) = Spool::open(options).unwrap();
    assert_eq!(opened.findings, Vec::<String>::new());
    assert_eq!(read_all(&spool, 1).await, entries, "the same after a restart");
}

fn lazily(dir: &Path) -> Options {
    Options { lazy: Some(Duration::from_secs(3600)), ..options(dir) }
}

/// Bytes of the generations' files.
fn written(dir: &Path) -> usize {
    generations(dir).iter().map(|dir| std::fs::read(dir.join("db")).map_or(0, |db| db.len())).sum()
}

#[tokio::test]
async fn what_is_confirmed_in_time_is_never_written_and_its_numbers_are_never_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(lazily(dir.path())).unwrap();
    let before = written(dir.path());
    for last in (100..=20_000).step_by(100) {
        fill(&spool, last, 100).await;
        let read = spool.read_from(last - 99, 1 << 20).await.unwrap();
        assert_eq!((read.len(), read[0].first), (100, last - 99), "handed out at once");
        assert_eq!(spool.confirm_thru(last).await.unwrap(), Confirmed::Moved);
    }
    assert_eq!(spool.stats().flushes, 0);
    assert_eq!(written(dir.path()), before, "2 MB went by and none of it was written");
    fill(&spool, 20_010, 100).await;
    assert_eq!(spool.read_from(20_001, 1 << 20).await.unwrap().len(), 10);

    // The power goes: what was in memory is lost, told, and its numbers are used up.
    let cut = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), cut.path());
    let (after, opened) = Spool::open(options(cut.path())).unwrap();
    assert!(opened.last_seq >= 20_010, "{opened:?}");
    assert!(opened.findings[0].contains("may have been lost with the memory"), "{:?}", opened.findings);
    // What is known to be confirmed may be older than it was; the hub says the rest.
    after.confirm_thru(20_000).await.unwrap();
    let (records, lost) = account(&read_all(&after, 20_001).await);
    assert_eq!((records.len() as u64, lost), (0, opened.last_seq - 20_000));
    fill(&after, opened.last_seq + 5, 50).await;

    // Told to stop, everything is written and nothing is lost.
    spool.close().await.unwrap();
    let (again, opened) = Spool::open(lazily(dir.path())).unwrap();
    assert_eq!((opened.last_seq, opened.findings.len()), (20_010, 0), "{:?}", opened.findings);
    let (records, lost) = account(&read_all(&again, 20_001).await);
    assert_eq!((records, lost), ((20_001..=20_010).collect(), 0));
}

#[tokio::test]
async fn an_outage_is_written_and_after_it_memory_is_enough_again() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(lazily(dir.path())).unwrap();
    let mut last = 0;
    for round in 0..6 {
        fill(&spool, last + 100, 100).await;
        spool.confirm_thru(last + 90).await.unwrap();
        fill(&spool, last + 3000, 100).await;
        last += 3000;
        if round % 2 == 0 {
            spool.flush().await.unwrap();
            let cut = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), cut.path());
            let (after, _) = Spool::open(lazily(cut.path())).unwrap();
            let (records, _) = account(&read_all(&after, last - 2909).await);
            assert_eq!(records, (last - 2909..=last).collect::<Vec<_>>(), "flushed is safe");
        }
        let (records, lost) = account(&read_all(&spool, last - 2909).await);
        assert_eq!((records, lost), ((last - 2909..=last).collect(), 0), "from the disk and from memory, in order");
        spool.confirm_thru(last).await.unwrap();
    }
    spool.close().await.unwrap();
    let (_, opened) = Spool::open(lazily(dir.path())).unwrap();
    assert_eq!((opened.last_seq, opened.confirmed_seq, opened.findings.len()), (18_000, 18_000, 0), "{opened:?}");
}

#[tokio::test]
async fn lazy_writes_by_itself_what_is_not_confirmed_within_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(Options { lazy: Some(Duration::from_millis(50)), ..options(dir.path()) }).unwrap();
    fill(&spool, 10, 100).await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while spool.stats().flushes == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let cut = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), cut.path());
    let (after, _) = Spool::open(options(cut.path())).unwrap();
    assert_eq!(account(&read_all(&after, 1).await).0, (1..=10).collect::<Vec<_>>());
}
