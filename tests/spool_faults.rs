//! Disks that fail under a running spool, by a real kernel: writes and reads that come back with errors, a file system
//! that is turned read-only. Each is an ext4 of its own on a loop device; where that is not permitted the tests say so.

mod spool_support;

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use speedwell::spool::{OpenError, Options, Spool};
use speedwell_wire::{LossReason, Record};
use spool_support::*;

const IMAGE: u64 = 64 << 20;

fn run(program: &str, arguments: &[&str]) -> bool {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done =
        Command::new(program).args(arguments).env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

/// A disk: an image in a file system in memory that is as large as the image needs, until somebody takes the room.
/// Blocks that were never written have no room of their own then, and writing them fails.
struct Failing {
    room: tempfile::TempDir,
}

impl Failing {
    /// `None`, with a word, where mounting is not permitted.
    fn new() -> Option<Self> {
        let room = tempfile::tempdir().unwrap();
        let disk = Self { room };
        let size = format!("size={}", 2 * IMAGE);
        if !run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", disk.text("").as_str()]) {
            println!("skipped: mounting is not permitted here");
            return None;
        }
        File::create(disk.image()).unwrap().set_len(IMAGE).unwrap();
        fs::create_dir(disk.mounted()).unwrap();
        // Without a journal a write that fails is an error for who wrote, and nothing more.
        if !run("mkfs.ext4", &["-q", "-F", "-O", "^has_journal", &disk.text("image")]) || !disk.mount() {
            println!("skipped: there is no mkfs.ext4, or no loop device");
            return None;
        }
        Some(disk)
    }

    fn text(&self, name: &str) -> String {
        self.room.path().join(name).display().to_string()
    }

    fn image(&self) -> PathBuf {
        self.room.path().join("image")
    }

    fn mounted(&self) -> PathBuf {
        self.room.path().join("mounted")
    }

    fn spool(&self) -> PathBuf {
        self.mounted().join("spool")
    }

    fn mount(&self) -> bool {
        // A loop device takes a write that was cut short for done: a block at a time, each is written or is not.
        run("mount", &["-o", "loop,errors=continue", &self.text("image"), &self.text("mounted")])
            && fs::write(format!("/sys/block/{}/queue/max_sectors_kb", self.device()), "4").is_ok()
    }

    /// Name of the loop device.
    fn device(&self) -> String {
        let said = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(self.mounted()).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        said.trim().trim_start_matches("/dev/").to_owned()
    }

    /// What was only in the page cache is gone then: what is read is what is on the disk.
    fn mount_again(&self) {
        assert!(run("umount", &[&self.text("mounted")]), "still in use");
        assert!(self.mount());
    }

    /// Writes to blocks that had not been written fail from now on.
    fn fail_writes(&self) {
        let filler = File::create(self.room.path().join("filler")).unwrap();
        for size in [1 << 20, 1 << 16, 4096] {
            while std::io::Write::write_all(&mut &filler, &vec![0xA5; size]).is_ok() {}
        }
    }

    fn mend(&self) {
        fs::remove_file(self.room.path().join("filler")).unwrap();
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _not_mounted = run("umount", &["-l", &self.text("mounted")]);
        let _not_mounted = run("umount", &["-l", &self.text("")]);
    }
}

/// Whether the system really gives an error.
fn writing_fails(dir: &Path) -> bool {
    let path = dir.join("probe");
    let failed = File::create(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &[0x5A; 1 << 20]).and_then(|()| file.sync_all()))
        .is_err();
    let _stays = fs::remove_file(path);
    failed
}

#[test]
fn a_disk_that_stays_bad_is_left_for_memory_and_what_was_durable_is_there_when_it_is_mended() {
    let Some(disk) = Failing::new() else { return };
    let options = Options { fallback_to_memory: true, ..options(&disk.spool()) };
    let (spool, _) = Spool::open(options).unwrap();
    let on_disk = spool.log_id();
    runtime().block_on(async {
        fill(&spool, 2_000, 250).await;
        assert_eq!(spool.flush().await.unwrap(), 2_000);
        disk.fail_writes();
        let mut taken = 2_000;
        while !spool.in_memory_only() {
            assert!(taken < 4_000, "the disk never failed");
            taken += 1;
            spool.append(vec![record(taken, 4000)]).await.unwrap();
            spool.flush().await.unwrap();
        }
        assert_ne!(spool.log_id(), on_disk);
        let notices = spool.take_notices();
        assert!(notices.iter().any(|notice| notice.contains("memory only")), "{notices:?}");
        let last = read_all(&spool, 1).await.last().map(number);
        assert_eq!(last, Some(taken), "the log goes on in memory");
        spool.close().await.unwrap();
    });
    disk.mend();
    disk.mount_again();
    let (spool, opened) = open(&disk.spool());
    assert_eq!(opened.log, on_disk);
    let mut entries = runtime().block_on(read_all(&spool, 1));
    let Some(Record::Loss(told)) = entries.pop().map(|last| decode(&last)) else {
        panic!("nothing is told of the memory")
    };
    assert_eq!(told.reason, LossReason::DiskFailed);
    let (records, _) = account(&entries);
    assert_eq!(records[..2_000], (1..=2_000).collect::<Vec<_>>());
}

#[test]
fn an_append_in_the_middle_of_which_the_disk_fails_is_taken_once() {
    for lazy in [None, Some(Duration::from_secs(3600))] {
        let Some(disk) = Failing::new() else { return };
        let options = Options { fallback_to_memory: true, lazy, ..options(&disk.spool()) };
        let (spool, _) = Spool::open(options).unwrap();
        runtime().block_on(async {
            disk.fail_writes();
            let mut taken = 0;
            while !spool.in_memory_only() {
                assert!(taken < 10_000, "the disk never failed");
                // So much that it flushes by itself before it is all in.
                spool.append((taken + 1..=taken + 60).map(|n| record(n, 4000)).collect()).await.unwrap();
                taken += 60;
            }
            spool.flush().await.unwrap();
            let in_memory: Vec<_> = read_all(&spool, 1).await.iter().map(number).collect();
            let expected: Vec<_> = (in_memory[0]..=taken).collect();
            assert_eq!(in_memory, expected, "lazy {lazy:?}");
        });
    }
}

#[test]
fn a_file_system_that_the_kernel_turns_read_only_is_left_for_memory_refused_at_start_and_whole_once_writable() {
    let Some(disk) = Failing::new() else { return };
    assert!(run("mount", &["-o", "remount,errors=remount-ro", &disk.text("mounted")]));
    let options = Options { fallback_to_memory: true, ..options(&disk.spool()) };
    let (spool, _) = Spool::open(options.clone()).unwrap();
    let device = disk.device();
    runtime().block_on(async {
        fill(&spool, 1_000, 250).await;
        assert_eq!(spool.flush().await.unwrap(), 1_000);
        // What a kernel does to a card that begins to fail.
        if fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").is_err() {
            println!("skipped: this kernel takes no order to fail");
            return;
        }
        assert!(writing_fails(&disk.mounted()));
        spool.append(vec![record(1_001, 250)]).await.unwrap();
        spool.flush().await.unwrap();
        assert!(spool.in_memory_only(), "{:?}", spool.take_notices());
        assert_eq!(number(&spool.read_from(1, 1).await.unwrap()[0]), 1_001);
        spool.close().await.unwrap();
        let error = Spool::open(options.clone()).unwrap_err();
        assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
        assert!(error.to_string().contains("Remount it writable"), "{error}");

        disk.mount_again();
        let (spool, opened) = Spool::open(options).unwrap();
        assert_eq!(opened.findings, Vec::<String>::new());
        assert_eq!(account(&read_all(&spool, 1).await), ((1..=1_000).collect(), 0));
        fill(&spool, 1_010, 250).await;
        spool.flush().await.unwrap();
    });
}

#[test]
fn blocks_that_cannot_be_read_cost_the_chunks_on_them_and_no_more() {
    let Some(disk) = Failing::new() else { return };
    let (spool, _) = open(&disk.spool());
    runtime().block_on(async {
        fill(&spool, 60_000, 250).await;
        spool.close().await.unwrap();
    });
    drop(spool);
    disk.mount_again();
    // The image ends in the middle of a sealed generation now.
    let sealed = generations(&disk.spool())[0].join("chunks");
    let at = physical(&sealed, fs::metadata(&sealed).unwrap().len() / 2);
    let second = generations(&disk.spool())[1].file_name().unwrap().to_string_lossy().into_owned();
    let generation_end = u64::from_str_radix(&second, 16).unwrap() - 1;
    OpenOptions::new().write(true).open(disk.image()).unwrap().set_len(at).unwrap();
    let (spool, opened) = open(&disk.spool());
    runtime().block_on(async {
        let entries = read_all(&spool, 1).await;
        let (records, lost) = account(&entries);
        let notices = spool.take_notices();
        println!("{} read, {lost} lost; {:?} {notices:?}", records.len(), opened.findings);
        assert!(lost > 0, "everything could be read");
        assert_eq!(records.len() as u64 + lost, opened.last_seq);
        let whole = records.iter().zip(1..).take_while(|(seq, n)| **seq == *n).count() as u64;
        let half = generation_end / 2;
        assert!(whole > half - half / 8, "{whole} read of the {half} before the bad blocks");
        for entry in &entries {
            if let Record::Loss(loss) = decode(entry) {
                assert_eq!(loss.reason, LossReason::Damaged);
            }
        }
        assert!(!notices.is_empty() || !opened.findings.is_empty(), "nobody was told");
        let _disk_may_fail = spool.close().await;
    });
}

/// Where on the device a byte of a file is.
fn physical(file: &Path, at: u64) -> u64 {
    let told = Command::new("filefrag").args(["-v", "-b4096"]).arg(file).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    // 0:        0..     255:      34816..     35071:    256:             last,eof
    for line in told.lines() {
        let numbers: Vec<u64> =
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
        if let [_, from, to, physical, ..] = numbers[..]
            && line.contains("..")
            && (from..=to).contains(&(at / 4096))
        {
            return (physical + at / 4096 - from) * 4096;
        }
    }
    panic!("no place for byte {at}: {told}");
}
