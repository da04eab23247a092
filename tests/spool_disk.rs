//! The spool on a real disk: what it keeps, what it frees, what it refuses.

mod spool_support;

use std::{fs, time::Duration};

use speedwell::spool::{Confirmed, MAX_RECORD, OpenError, Options, Spool, SpoolError, WhenFull};
use speedwell_wire::{LossReason, Record};
use spool_support::*;

#[tokio::test]
async fn what_was_flushed_is_read_back_in_order_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, opened) = open(dir.path());
    assert!(opened.created);
    assert_eq!((opened.oldest_seq, opened.last_seq, opened.confirmed_seq), (1, 0, 0));
    fill(&spool, 500, 100).await;
    assert_eq!(spool.flush().await.unwrap(), 500);
    let log = spool.log_id();
    drop(spool);

    let (spool, opened) = open(dir.path());
    assert!(!opened.created);
    assert_eq!((opened.log, opened.last_seq, opened.findings.len()), (log, 500, 0), "{:?}", opened.findings);
    let (records, lost) = account(&read_all(&spool, 1).await);
    assert_eq!((records, lost), ((1..=500).collect(), 0));
    fill(&spool, 501, 100).await;
}

#[tokio::test]
async fn only_durable_records_are_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    fill(&spool, 3, 50).await;
    assert_eq!(read_all(&spool, 1).await.len(), 0);
    assert_eq!(*spool.durable().borrow(), 0);
    spool.flush().await.unwrap();
    assert_eq!(read_all(&spool, 1).await.len(), 3);
    assert_eq!(*spool.durable().borrow(), 3);
}

#[tokio::test]
async fn a_record_is_durable_when_commit_every_has_passed_without_anybody_asking() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { commit_every: Duration::from_millis(50), ..options(dir.path()) };
    let (spool, _) = Spool::open(options).unwrap();
    let mut durable = spool.durable();
    fill(&spool, 2, 50).await;
    tokio::time::timeout(Duration::from_secs(5), durable.wait_for(|seq| *seq == 2)).await.unwrap().unwrap();
    assert_eq!(spool.stats().flushes, 1, "both in one flush");
}

#[tokio::test]
async fn a_read_keeps_to_its_bytes_but_gives_one_record_at_least() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    fill(&spool, 100, 200).await;
    spool.flush().await.unwrap();
    let some = spool.read_from(10, 1000).await.unwrap();
    assert_eq!(some[0].first, 10);
    assert!(some.len() == 4 && some.iter().map(|entry| entry.bytes.len()).sum::<usize>() <= 1000);
    assert_eq!(spool.read_from(10, 1).await.unwrap().len(), 1);
    assert_eq!(spool.read_from(101, 1000).await.unwrap(), []);
}

#[tokio::test]
async fn a_record_that_fits_no_chunk_is_refused_and_nothing_of_its_append_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    let refused = spool.append(vec![record(1, 100), record(2, MAX_RECORD + 1)]).await;
    assert!(matches!(refused, Err(SpoolError::TooLarge { index: 1, max: MAX_RECORD, .. })), "{refused:?}");
    let largest = MAX_RECORD - 20;
    assert_eq!(spool.append(vec![record(1, largest)]).await.unwrap(), 1..2);
    spool.flush().await.unwrap();
    assert_eq!(number(&spool.read_from(1, 1).await.unwrap()[0]), 1);
}

#[tokio::test]
async fn a_confirmation_is_inclusive_idempotent_and_bounded_by_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    fill(&spool, 10, 50).await;
    assert_eq!(spool.confirm_thru(5).await.unwrap(), Confirmed::BeyondEnd { last: 0 });
    spool.flush().await.unwrap();
    assert_eq!(spool.confirm_thru(5).await.unwrap(), Confirmed::Moved);
    assert_eq!(spool.confirm_thru(5).await.unwrap(), Confirmed::Known);
    assert_eq!(spool.confirm_thru(3).await.unwrap(), Confirmed::Known);
    assert_eq!(spool.confirm_thru(11).await.unwrap(), Confirmed::BeyondEnd { last: 10 });
    assert_eq!(spool.stats().confirmed_seq, 5);
    spool.close().await.unwrap();
    assert_eq!(spool.flush().await, Err(SpoolError::Closed));
    drop(spool);
    let (_spool, opened) = open(dir.path());
    assert_eq!(opened.confirmed_seq, 5, "the cursor outlives a close");
}

#[tokio::test]
async fn a_generation_goes_whole_once_it_is_confirmed_and_an_idle_spool_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    fill(&spool, 60_000, 250).await;
    spool.flush().await.unwrap();
    let full = spool.stats();
    assert!(full.generations >= 3, "{full:?}");
    let (records, lost) = account(&read_all(&spool, 1).await);
    assert_eq!((records.len(), lost), (60_000, 0));

    spool.confirm_thru(30_000).await.unwrap();
    let half = spool.stats();
    assert!(half.generations < full.generations && half.oldest_seq > 1 && half.oldest_seq <= 30_001, "{half:?}");
    spool.confirm_thru(60_000).await.unwrap();
    let empty = spool.stats();
    assert_eq!((empty.generations, empty.oldest_seq), (1, 60_001));
    assert!(empty.disk_bytes < full.disk_bytes / 4, "{} of {}", empty.disk_bytes, full.disk_bytes);
    assert_eq!(generations(dir.path()).len(), 1);
    drop(spool);
    let (spool, opened) = open(dir.path());
    assert_eq!((opened.last_seq, opened.confirmed_seq, opened.findings.len()), (60_000, 60_000, 0));
    fill(&spool, 60_001, 50).await;
}

#[tokio::test]
async fn when_full_the_oldest_go_and_one_loss_stands_in_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_size: Options::MIN_MAX_SIZE, ..options(dir.path()) };
    let (spool, _) = Spool::open(options.clone()).unwrap();
    for last in (1000..=60_000).step_by(1000) {
        fill(&spool, last, 250).await;
        let used = spool.stats().disk_bytes;
        assert!(used <= options.max_size, "{used} bytes at {last}");
    }
    spool.flush().await.unwrap();
    let stats = spool.stats();
    assert!(stats.lost_records > 10_000, "{stats:?}");
    assert!(spool.take_notices().iter().any(|notice| notice.contains("dropped")));
    for reopened in [false, true] {
        let spool = if reopened { Spool::open(options.clone()).unwrap().0 } else { spool.clone() };
        let entries = read_all(&spool, 1).await;
        let Record::Loss(loss) = decode(&entries[0]) else { panic!("{:?}", decode(&entries[0])) };
        assert_eq!(loss.reason, LossReason::SpoolFullOldest);
        assert_eq!((entries[0].first, entries[0].span, loss.records), (1, stats.lost_records, stats.lost_records));
        assert_eq!(loss.from, Some((1, 1_000_000_000)));
        assert_eq!(loss.until, Some((1, loss.records * 1_000_000_000)));
        let (records, lost) = account(&entries);
        assert_eq!((records.len() as u64 + lost, records.last().copied()), (60_000, Some(60_000)));
        let inside = spool.read_from(100, 1).await.unwrap();
        assert_eq!((inside[0].first, inside[0].span), (100, loss.records - 99), "a loss can be entered anywhere");
        if !reopened {
            spool.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_confirmation_inside_a_loss_takes_its_front_away() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_size: Options::MIN_MAX_SIZE, ..options(dir.path()) };
    let (spool, _) = Spool::open(options).unwrap();
    fill(&spool, 60_000, 250).await;
    spool.flush().await.unwrap();
    let dropped = spool.stats().lost_records;
    spool.confirm_thru(99).await.unwrap();
    assert_eq!(spool.stats().oldest_seq, 100);
    let entries = read_all(&spool, 1).await;
    assert_eq!((entries[0].first, entries[0].span), (100, dropped - 99));
    spool.confirm_thru(dropped).await.unwrap();
    assert_eq!(spool.stats().oldest_seq, dropped + 1);
    assert_eq!(number(&spool.read_from(1, 1).await.unwrap()[0]), dropped + 1);
}

#[tokio::test]
async fn with_drop_newest_new_records_are_refused_and_told_of_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_size: Options::MIN_MAX_SIZE, when_full: WhenFull::DropNewest, ..options(dir.path()) };
    let (spool, _) = Spool::open(options.clone()).unwrap();
    let mut kept = 0;
    let refused = loop {
        match spool.append((kept + 1..=kept + 50).map(|n| record(n, 250)).collect()).await {
            Ok(range) => kept = range.end - 1,
            Err(error) => break error,
        }
        assert!(spool.stats().disk_bytes <= options.max_size);
    };
    assert_eq!(refused, SpoolError::Full { records: 50 });
    spool.flush().await.unwrap();
    let (records, lost) = account(&read_all(&spool, 1).await);
    assert_eq!((records, lost), ((1..=kept).collect(), 0), "nothing old was touched");

    spool.confirm_thru(kept).await.unwrap();
    assert_eq!(spool.append(vec![record(kept + 2, 250)]).await.unwrap(), kept + 2..kept + 3);
    spool.flush().await.unwrap();
    let told = spool.read_from(kept + 1, 1).await.unwrap();
    let Record::Loss(loss) = decode(&told[0]) else { panic!("{told:?}") };
    assert_eq!((loss.reason, loss.records, told[0].span), (LossReason::SpoolFullNewest, 0, 1));
    assert_eq!(loss.from, Some((1, (kept + 1) * 1_000_000_000)));
}

#[tokio::test]
async fn a_second_opening_is_refused_and_names_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (_spool, _) = open(dir.path());
    let error = Spool::open(options(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::Locked { pid, .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
}

#[tokio::test]
async fn a_format_from_the_future_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let mut meta = b"speedwell-spool 2\nname 0123\n".to_vec();
    meta.extend_from_slice(&speedwell_wire::frame::crc32c(&meta).to_le_bytes());
    fs::write(dir.path().join("meta"), &meta).unwrap();
    let error = Spool::open(options(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::FutureVersion { found: 2, known: 1, .. }), "{error}");
    assert_eq!(fs::read(dir.path().join("meta")).unwrap(), meta);
}

#[test]
fn a_directory_that_cannot_be_is_told_apart_from_one_that_may_not_be() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Spool::open(options(&file)).unwrap_err(), OpenError::NotADirectory { .. }));
    let under = Spool::open(options(&file.join("spool"))).unwrap_err();
    assert!(matches!(under, OpenError::NotADirectory { .. } | OpenError::Create { .. }), "{under:?}");
    let nowhere = Spool::open(options("/proc/no-such/spool".as_ref())).unwrap_err();
    assert!(matches!(nowhere, OpenError::Create { .. }), "{nowhere:?}");
    let small = Options { max_size: 1000, ..options(dir.path()) };
    assert!(matches!(Spool::open(small).unwrap_err(), OpenError::TooSmall { .. }));
}

#[tokio::test]
async fn manifests_outlive_the_process() {
    use speedwell_wire::{Channel, Manifest, Quantity};
    let dir = tempfile::tempdir().unwrap();
    let channel = Channel {
        id: 1,
        sensor: "front-wheel".into(),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    let manifest = Manifest { channels: vec![channel] };
    let (spool, _) = open(dir.path());
    let hash = spool.keep_manifest(&manifest).await.unwrap();
    assert_eq!(hash, manifest.hash());
    drop(spool);
    let (spool, _) = open(dir.path());
    assert_eq!(spool.manifest(hash), Some(manifest));
}

#[tokio::test]
async fn a_loss_counts_the_samples_that_went_and_knows_their_times() {
    use speedwell_wire::{
        Channel, Manifest, Quality, Quantity, Samples,
        block::{self, Column, Sample, Uncertainty},
    };
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_size: Options::MIN_MAX_SIZE, ..options(dir.path()) };
    let (spool, _) = Spool::open(options).unwrap();
    let channels = (0..20).map(|id| Channel {
        id,
        sensor: format!("s{id}"),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    });
    let manifest = Manifest { channels: channels.collect() };
    let hash = spool.keep_manifest(&manifest).await.unwrap();
    let records = 8_000u64;
    for second in 0..records {
        let samples = |id: u16| {
            let sample = |n: u64| Sample {
                tick: second * 10_000 + n * 1000 + u64::from(id),
                // Noise that no codec makes small, so that the spool is soon full.
                value: fastrand::i64(i64::MIN / 8..i64::MAX / 8),
                uncertainty: Uncertainty(3),
                quality: Quality::Good,
            };
            (0..10).map(sample).collect()
        };
        let columns: Vec<_> = (0..20).map(|channel| Column { channel, samples: samples(channel) }).collect();
        let block = block::encode(&columns, &manifest);
        spool.append(vec![Record::Samples(Samples { manifest: hash, boot: 7, block })]).await.unwrap();
    }
    spool.flush().await.unwrap();
    let entries = read_all(&spool, 1).await;
    let Record::Loss(loss) = decode(&entries[0]) else { panic!("the spool never was full: {:?}", spool.stats()) };
    assert_eq!(loss.records + entries.len() as u64 - 1, records);
    assert_eq!(loss.samples, loss.records * 200);
    assert_eq!((loss.from, loss.until), (Some((7, 0)), Some((7, loss.records * 1_000_000_000 - 98_100_000))));
}
