//! Damage of every kind: the spool opens all the same, loses no more than what is gone, and says so.

mod spool_support;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

use speedwell_wire::{LossReason, Record};
use spool_support::*;

/// Flips a bit of the byte at `at`.
fn flip(file: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// A closed spool with some generations and `last` records.
async fn filled(dir: &Path, last: u64) {
    let (spool, _) = open(dir);
    fill(&spool, last, 250).await;
    spool.close().await.unwrap();
}

/// Opens a damaged spool, reads everything, appends, and reopens: what is there must not change any more.
async fn use_damaged(dir: &Path, last: u64, case: &str) -> (u64, Vec<String>) {
    let (spool, opened) = open(dir);
    let mut findings = opened.findings;
    let entries = read_all(&spool, 1).await;
    let (records, lost) = account(&entries);
    assert_eq!(records.len() as u64 + lost, last, "{case}: every number is accounted for");
    for entry in &entries {
        if let Record::Loss(loss) = decode(entry) {
            assert_eq!(loss.reason, LossReason::Damaged, "{case}");
        }
    }
    findings.extend(spool.take_notices());
    assert!(lost == 0 || !findings.is_empty(), "{case}: a loss nobody was told of");
    fill(&spool, last + 10, 250).await;
    spool.flush().await.unwrap();
    spool.close().await.unwrap();
    let (spool, opened) = open(dir);
    assert_eq!(opened.last_seq, last + 10, "{case}");
    let (again, lost_again) = account(&read_all(&spool, 1).await);
    assert_eq!((again.len(), lost_again), (records.len() + 10, lost), "{case}: reading again gives the same");
    (lost, findings)
}

#[tokio::test]
async fn one_flipped_bit_anywhere_loses_some_records_at_most_and_never_the_start() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path(), 6_000).await;
    let length = fs::metadata(generations(whole.path())[0].join("db")).unwrap().len();
    let mut most = 0;
    for n in 0..12 {
        let at = (length - 1) * n / 11;
        let dir = tempfile::tempdir().unwrap();
        copy_dir(whole.path(), dir.path());
        flip(&generations(dir.path())[0].join("db"), at);
        let (lost, findings) = use_damaged(dir.path(), 6_000, &format!("bit flipped at {at}")).await;
        println!("bit flipped at {at} of {length}: {lost} records lost; {findings:?}");
        most = most.max(lost);
    }
    assert!(most <= 200, "{most} records lost to one bit");
}

#[tokio::test]
async fn a_flipped_bit_in_a_sealed_generation_is_met_when_it_is_read() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path(), 40_000).await;
    let files = generations(whole.path());
    assert!(files.len() >= 3);
    let length = fs::metadata(files[0].join("chunks")).unwrap().len();
    for n in 1..4 {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(whole.path(), dir.path());
        flip(&generations(dir.path())[0].join("chunks"), length * n / 5);
        let (lost, findings) = use_damaged(dir.path(), 40_000, &format!("sealed, flipped at {n}/5")).await;
        assert!(0 < lost && lost <= 40, "{lost}: one chunk and no more");
        println!("sealed, bit flipped at {n}/5: {lost} lost; {findings:?}");
    }
}

#[tokio::test]
async fn a_file_cut_short_loses_what_was_behind_the_cut_and_no_number_is_used_again() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path(), 6_000).await;
    let length = fs::metadata(generations(whole.path())[0].join("db")).unwrap().len();
    for cut in [0, 1, length / 4, length / 2, length - 700_000, length - 5000, length - 1] {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(whole.path(), dir.path());
        let file = OpenOptions::new().write(true).open(generations(dir.path())[0].join("db")).unwrap();
        file.set_len(cut).unwrap();
        drop(file);
        let (lost, _) = use_damaged(dir.path(), 6_000, &format!("cut at {cut}")).await;
        println!("cut at {cut} of {length}: {lost} records lost");
    }
}

#[tokio::test]
async fn a_database_that_is_gone_or_empty_or_foreign_is_a_loss_and_nothing_worse() {
    for what in ["gone", "empty conf", "foreign", "directory gone", "bad snapshot"] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 1_000).await;
        let generation = generations(dir.path())[0].clone();
        match what {
            "gone" => fs::remove_file(generation.join("db")).unwrap(),
            "empty conf" => fs::write(generation.join("conf"), "").unwrap(),
            "foreign" => fs::write(generation.join("db"), vec![0xA5; 1 << 20]).unwrap(),
            "bad snapshot" => {
                for entry in fs::read_dir(&generation).unwrap().flatten() {
                    if entry.file_name().to_string_lossy().starts_with("snap.") {
                        fs::write(entry.path(), "damaged").unwrap();
                    }
                }
                fs::write(generation.join("snap.00000000000000FF"), "damaged").unwrap();
            }
            _ => fs::remove_dir_all(&generation).unwrap(),
        }
        let (lost, findings) = use_damaged(dir.path(), 1_000, what).await;
        println!("{what}: {lost} lost; {findings:?}");
        assert!(lost == 0 || what != "bad snapshot");
    }
}

#[tokio::test]
async fn damaged_marks_and_one_damaged_name_lose_nothing() {
    for name in ["marks", "meta", "meta-copy"] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 1_000).await;
        let log = open(dir.path()).1.log;
        fs::write(dir.path().join(name), "damaged").unwrap();
        let (spool, opened) = open(dir.path());
        assert_eq!((opened.log, opened.last_seq), (log, 1_000), "{name}");
        assert_eq!(account(&read_all(&spool, 1).await).0.len(), 1_000, "{name}");
    }
}

#[tokio::test]
async fn two_damaged_names_make_a_new_log_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1_000).await;
    let log = open(dir.path()).1.log;
    fs::write(dir.path().join("meta"), "damaged").unwrap();
    fs::write(dir.path().join("meta-copy"), "").unwrap();
    let (spool, opened) = open(dir.path());
    assert_ne!(opened.log, log);
    assert!(opened.findings[0].contains("new name"), "{:?}", opened.findings);
    assert_eq!(account(&read_all(&spool, 1).await).0.len(), 1_000);
}

#[tokio::test]
async fn the_end_that_is_cut_off_after_a_crash_is_a_loss_and_its_numbers_are_never_given_to_others() {
    for part in [0, 1, 2, 3] {
        let (running, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (spool, _) = open(running.path());
        // Two flushes within the time in which the marks are not synced.
        for last in [10, 20] {
            fill(&spool, last, 250).await;
            spool.flush().await.unwrap();
        }
        copy_dir(running.path(), crashed.path());
        let db = generations(crashed.path())[0].join("db");
        let file = OpenOptions::new().write(true).open(&db).unwrap();
        file.set_len(file.metadata().unwrap().len() * part / 4).unwrap();
        let (spool, opened) = open(crashed.path());
        assert!(!opened.findings.is_empty(), "cut at {part}/4: nobody was told");
        assert!(opened.last_seq >= 20, "cut at {part}/4: record {} would be another's", opened.last_seq + 1);
        let (kept, lost) = account(&read_all(&spool, 1).await);
        assert_eq!(kept.len() as u64 + lost, opened.last_seq, "cut at {part}/4: every number is accounted for");
    }
}
