//! A disk that fails for a while: the log goes on in memory, comes back when the disk works again, and no record is lost by
//! it, nor comes twice; and where the process ends meanwhile, that is told.

mod spool_support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use speedwell::spool::{Confirmed, Options, Spool};
use speedwell_wire::{LossReason, Record};
use spool_support::*;

/// A small file system of the test's own; `None`, with a word printed, where that is not permitted.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(dir.path()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: mounting a tmpfs is not permitted here");
            return None;
        }
        Some(Self(dir))
    }

    fn spool(&self) -> PathBuf {
        self.0.path().join("spool")
    }

    /// Takes all the room there is, also what the spool gave up.
    fn fill(&self) {
        let filler = self.0.path().join("filler");
        let mut file = fs::File::options().create(true).append(true).open(filler).unwrap();
        for size in [1 << 16, 4096] {
            while std::io::Write::write_all(&mut file, &vec![0xA5; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _left_behind = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn lasting(dir: &Path) -> Options {
    Options { max_size: 32 << 20, fallback_to_memory: true, ..options(dir) }
}

/// Appends big records, numbered on from `last`, until the disk has failed and some more are in memory.
async fn until_memory(spool: &Spool, mount: &Mount, mut last: u64) -> u64 {
    let mut in_memory = 0;
    while in_memory < 30 {
        last += 1;
        assert!(last < 1_000, "the disk never failed");
        mount.fill();
        spool.append(vec![record(last, 4000)]).await.unwrap();
        spool.flush().await.unwrap();
        in_memory += u64::from(spool.in_memory_only());
    }
    last
}

async fn until_told(spool: &Spool, words: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let notices = spool.take_notices();
        if notices.iter().any(|notice| notice.contains(words)) {
            return;
        }
        assert!(Instant::now() < until, "not told: {words}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_log_that_went_to_memory_comes_back_and_every_record_is_read_once() {
    let Some(mount) = Mount::new() else { return };
    let (spool, _) = Spool::open(lasting(&mount.spool())).unwrap();
    let on_disk = spool.log_id();
    runtime().block_on(async {
        fill(&spool, 200, 250).await;
        spool.flush().await.unwrap();
        // Fifty are read and confirmed, fifty more are on their way when the disk fails.
        let mut read: Vec<u64> = spool.read_from(1, 50 * 300).await.unwrap().iter().take(50).map(number).collect();
        assert_eq!(spool.confirm_thru(50).await.unwrap(), Confirmed::Moved);
        let mut last = until_memory(&spool, &mount, 200).await;
        let in_memory = spool.log_id();
        assert_ne!(in_memory, on_disk);

        let handed = spool.read_from(1, 40_000).await.unwrap();
        assert!((5..20).contains(&handed.len()), "{} were read", handed.len());
        mount.free();
        until_told(&spool, "the log goes on there").await;
        last += 1;
        spool.append(vec![record(last, 250)]).await.unwrap();
        spool.flush().await.unwrap();

        assert_eq!(spool.log_id(), in_memory, "what is in doubt is settled under the name it was read by");
        let doubtful = read_all(&spool, 1).await;
        assert!(doubtful == handed, "nothing but that, and the same again");
        read.extend(handed.iter().map(number));
        spool.confirm_thru(handed.last().unwrap().first).await.unwrap();
        assert_eq!(spool.log_id(), on_disk);
        assert!(!spool.in_memory_only());

        let rest = read_all(&spool, spool.stats().confirmed_seq + 1).await;
        read.extend(rest.iter().map(number));
        read.sort_unstable();
        assert_eq!(read, (1..=last).collect::<Vec<_>>());
        spool.close().await.unwrap();
    });
    let (_, opened) = Spool::open(lasting(&mount.spool())).unwrap();
    assert_eq!((opened.log, opened.findings), (on_disk, Vec::<String>::new()));
}

#[test]
fn a_stop_takes_what_is_in_memory_back_to_a_disk_that_works_again() {
    let Some(mount) = Mount::new() else { return };
    let (spool, _) = Spool::open(lasting(&mount.spool())).unwrap();
    let last = runtime().block_on(async {
        fill(&spool, 200, 250).await;
        spool.flush().await.unwrap();
        let last = until_memory(&spool, &mount, 200).await;
        mount.free();
        spool.close().await.unwrap();
        last
    });
    let (spool, opened) = Spool::open(lasting(&mount.spool())).unwrap();
    assert_eq!(opened.findings, Vec::<String>::new());
    let read: Vec<u64> = runtime().block_on(read_all(&spool, 1)).iter().map(number).collect();
    assert_eq!(read, (1..=last).collect::<Vec<_>>());
}

#[test]
fn a_kill_while_the_log_is_in_memory_is_told_by_a_loss_once() {
    let Some(mount) = Mount::new() else { return };
    let (spool, _) = Spool::open(lasting(&mount.spool())).unwrap();
    runtime().block_on(async {
        fill(&spool, 200, 250).await;
        spool.flush().await.unwrap();
        until_memory(&spool, &mount, 200).await;
    });
    // What a kill leaves is what is on the disk now.
    let killed = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").arg(mount.spool()).arg(killed.path()).status().unwrap();
    assert!(copied.success());
    mount.free();
    let open_killed = || Spool::open(lasting(&killed.path().join("spool"))).unwrap();

    let (spool, opened) = open_killed();
    assert!(opened.findings.iter().any(|finding| finding.contains("a loss stands for it")), "{:?}", opened.findings);
    runtime().block_on(async {
        let entries = read_all(&spool, 1).await;
        let (loss, records) = entries.split_last().unwrap();
        let numbers: Vec<u64> = records.iter().map(number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert!(numbers.len() >= 200);
        let Record::Loss(loss) = decode(loss) else { panic!("no loss at the end") };
        let first_lost = (1, (numbers.len() as u64 + 1) * 1_000_000_000);
        assert_eq!((loss.reason, loss.records, loss.from), (LossReason::DiskFailed, 0, Some(first_lost)));
        spool.close().await.unwrap();
    });
    drop(spool);
    let (_, opened) = open_killed();
    assert_eq!(opened.findings, Vec::<String>::new(), "once is enough");
}
