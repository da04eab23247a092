//! The spool in a process of its own: killed, watched by strace, short of room and short of rights.

mod spool_support;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use speedwell::spool::{Options, Spool};
use spool_support::*;

const CHILD_DIR: &str = "SPEEDWELL_TEST_SPOOL";
const CHILD_FLUSHES: &str = "SPEEDWELL_TEST_FLUSHES";

/// Not a test of its own: what a power-cut simulator runs on each image of a disk. Prints first, last and count of the
/// records that can be read, and how many findings there were.
#[test]
fn child_that_checks_what_is_there() {
    let Some(dir) = std::env::var_os("SPEEDWELL_TEST_CHECK") else { return };
    let (spool, opened) = Spool::open(Options { max_size: 256 << 20, ..options(Path::new(&dir)) }).unwrap();
    let (records, lost) = runtime().block_on(async { account(&read_all(&spool, 1).await) });
    let ends = (records.first().copied().unwrap_or(0), records.last().copied().unwrap_or(0), records.len());
    println!("\nCHECK Ok(Ok(Some(({},{},{})))) lost={lost} findings={:?}", ends.0, ends.1, ends.2, opened.findings);
}

/// Not a test of its own: what the other tests run in a process of its own. Prints `F first last` after each flush.
#[test]
fn child_that_appends_and_flushes() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let flushes: u64 = std::env::var(CHILD_FLUSHES).map_or(u64::MAX, |n| n.parse().unwrap());
    let max_size = std::env::var("SPEEDWELL_TEST_MAX_SIZE").map_or(8 << 20, |bytes| bytes.parse().unwrap());
    let opened = Spool::open(Options { max_size, ..options(Path::new(&dir)) });
    let (spool, opened) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            println!("E {error}");
            return;
        }
    };
    println!("O {} {}", opened.last_seq, opened.findings.len());
    runtime().block_on(async {
        for n in 0..flushes {
            let last = spool.stats().last_seq + 1 + n % 40;
            fill(&spool, last, 40 + (n as usize * 37) % 900).await;
            let durable = spool.flush().await.unwrap();
            println!("F 1 {durable}");
            if n % 50 == 49 {
                spool.confirm_thru(durable - 20).await.unwrap();
            }
        }
    });
}

fn child(dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_that_appends_and_flushes", "--nocapture"]).env(CHILD_DIR, dir);
    command.stdout(Stdio::piped());
    command
}

/// The last number that the child said is durable.
fn kill_after(mut child: Child, time: Duration) -> u64 {
    let lines = BufReader::new(child.stdout.take().unwrap());
    let killer = std::thread::spawn(move || {
        std::thread::sleep(time);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    // A line that the kill cut short promised nothing.
    let said = |line: String| line.split("F 1 ").nth(1).and_then(|seq| seq.trim().parse().ok());
    let mut text = String::new();
    std::io::Read::read_to_string(&mut { lines }, &mut text).unwrap();
    killer.join().unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| said(line.to_owned())).next_back().unwrap_or(0)
}

#[test]
fn killing_the_process_loses_nothing_that_was_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..12 {
        let promised = kill_after(child(dir.path()).spawn().unwrap(), Duration::from_millis(40 + 53 * round));
        let (spool, opened) = open(dir.path());
        assert!(opened.last_seq >= promised.max(last), "{} found, {promised} promised, {last} before", opened.last_seq);
        assert_eq!(opened.findings, Vec::<String>::new());
        last = opened.last_seq;
        runtime().block_on(async {
            let (records, lost) = account(&read_all(&spool, 1).await);
            assert_eq!((lost, records.last().copied().unwrap_or(0)), (0, last));
            spool.close().await.unwrap();
        });
    }
    assert!(last > 100, "the children came to {last} only");
    println!("12 kills, {last} records, none lost");
}

/// What strace saw of the files named `db`: whether the last write of each was synced before each promise.
#[derive(Default)]
struct Watch {
    dirty: HashMap<String, u64>,
    unfinished: HashMap<String, (bool, String)>,
    promises: u64,
    syncs: u64,
    faults: Vec<String>,
}

impl Watch {
    fn see(&mut self, number: usize, line: &str) {
        let Some((pid, call)) = line.split_once(' ') else { return };
        let call = call.trim_start();
        if call.contains("sync_file_range") {
            self.faults.push(format!("line {number}: sync_file_range reached the kernel"));
        } else if call.starts_with("write(1") && call.contains("\"F 1 ") {
            self.promises += 1;
            for (file, at) in &self.dirty {
                self.faults.push(format!("line {number}: promised, but {file} was written at {at} and not synced"));
            }
        } else if call.starts_with("pwrite64(") || call.starts_with("fsync(") || call.starts_with("fdatasync(") {
            let Some(file) = call.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(file, _)| file)
            else {
                return;
            };
            let sync = !call.starts_with("pwrite64(");
            if !file.ends_with("/db") {
                return;
            }
            if call.contains("<unfinished") {
                self.unfinished.insert(pid.to_owned(), (sync, file.to_owned()));
            } else {
                self.done(number, sync, file.to_owned(), call.trim_end().ends_with("= 0"));
            }
            // A write counts from where it begins: it may have done its work when a sync comes.
            if !sync {
                self.dirty.insert(file.to_owned(), number as u64);
            }
        } else if call.starts_with("<... ")
            && let Some((sync, file)) = self.unfinished.remove(pid)
        {
            self.done(number, sync, file, call.trim_end().ends_with("= 0"));
        }
    }

    fn done(&mut self, number: usize, sync: bool, file: String, well: bool) {
        if sync && well {
            self.syncs += 1;
            self.dirty.remove(&file);
        } else if !sync {
            self.dirty.insert(file, number as u64);
        }
    }
}

#[test]
fn every_promised_flush_was_synced_and_sync_file_range_never_reaches_the_kernel() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let child = child(&dir.path().join("spool"));
    let status = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=pwrite64,write,fsync,fdatasync,sync_file_range", "-o"])
        .arg(&trace)
        .arg(child.get_program())
        .args(child.get_args())
        .envs(child.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .env(CHILD_FLUSHES, "60")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    if !status.success() {
        println!("skipped: strace may not trace here ({status})");
        return;
    }
    let mut watch = Watch::default();
    let lines = BufReader::new(std::fs::File::open(&trace).unwrap()).lines();
    lines.enumerate().for_each(|(number, line)| watch.see(number, &line.unwrap()));
    assert_eq!(watch.faults, Vec::<String>::new());
    assert_eq!(watch.promises, 60);
    assert!(watch.syncs >= 60, "{} syncs of the databases for 60 flushes", watch.syncs);
}

/// A small file system of the test's own; `None`, with a word printed, where that is not permitted.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0777");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: mounting a tmpfs is not permitted here");
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _left_behind = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Takes all the room that is left.
fn fill_disk(dir: &Path) {
    let mut file = std::fs::File::create(dir.join("filler")).unwrap();
    for size in [1 << 16, 4096] {
        while std::io::Write::write_all(&mut file, &vec![0xA5; size]).is_ok() {}
    }
}

#[test]
fn a_small_disk_is_used_to_its_end_and_the_oldest_give_way() {
    let Some(mount) = Mount::new("40m") else { return };
    let options = Options { max_size: 64 << 20, ..options(&mount.path().join("spool")) };
    let (spool, _) = Spool::open(options).unwrap();
    runtime().block_on(async {
        fill(&spool, 160_000, 250).await;
        spool.flush().await.unwrap();
        let entries = read_all(&spool, 1).await;
        let (records, lost) = account(&entries);
        assert_eq!(records.len() as u64 + lost, 160_000);
        assert!(lost > 0 && records.len() > 20_000, "{lost} lost, {} kept", records.len());
        println!("40 MiB disk: {} of 160000 records kept; {:?}", records.len(), spool.stats());
    });
}

#[test]
fn a_disk_that_others_fill_takes_the_ballast_and_then_the_oldest_and_never_stops_the_spool() {
    let Some(mount) = Mount::new("64m") else { return };
    let options = Options { max_size: 32 << 20, ..options(&mount.path().join("spool")) };
    let (spool, _) = Spool::open(options.clone()).unwrap();
    runtime().block_on(async {
        fill(&spool, 20_000, 250).await;
        spool.flush().await.unwrap();
        fill_disk(mount.path());
        fill(&spool, 60_000, 250).await;
        assert_eq!(spool.flush().await.unwrap(), 60_000);
        let (records, lost) = account(&read_all(&spool, 1).await);
        assert_eq!((records.len() as u64 + lost, records.last().copied()), (60_000, Some(60_000)));
        println!("filled disk: {} records kept, {lost} lost; {:?}", records.len(), spool.take_notices());
        spool.close().await.unwrap();

        std::fs::remove_file(mount.path().join("filler")).unwrap();
        fill_disk(mount.path());
        let (spool, opened) = Spool::open(options).unwrap();
        assert_eq!(opened.last_seq, 60_000, "{:?}", opened.findings);
        fill(&spool, 60_100, 250).await;
        assert_eq!(spool.flush().await.unwrap(), 60_100);
        let (again, _) = account(&read_all(&spool, 1).await);
        assert_eq!(again.last().copied(), Some(60_100));
    });
}

#[test]
fn a_file_system_that_refuses_new_files_makes_the_oldest_give_way() {
    // Room in bytes but none for names: what the spool asks before writing says yes, and the system says no.
    let Some(mount) = Mount::new("64m,nr_inodes=60") else { return };
    let options = Options { max_size: 32 << 20, ..options(&mount.path().join("spool")) };
    let (spool, _) = Spool::open(options).unwrap();
    runtime().block_on(fill(&spool, 20_000, 250));
    for n in 0.. {
        if std::fs::write(mount.path().join(format!("file{n}")), "").is_err() {
            std::fs::remove_file(mount.path().join(format!("file{}", n - 1))).unwrap();
            std::fs::remove_file(mount.path().join(format!("file{}", n - 2))).unwrap();
            break;
        }
    }
    runtime().block_on(async {
        fill(&spool, 40_000, 250).await;
        assert_eq!(spool.flush().await.unwrap(), 40_000);
        let (records, lost) = account(&read_all(&spool, 1).await);
        let notices = spool.take_notices();
        assert_eq!((records.len() as u64 + lost, records.last().copied()), (40_000, Some(40_000)));
        assert!(notices.iter().any(|notice| notice.contains("disk is full")), "{notices:?}");
    });
}

#[test]
fn a_read_only_file_system_is_named_as_such() {
    let Some(mount) = Mount::new("8m") else { return };
    mount.make_read_only();
    let error = Spool::open(options(&mount.path().join("spool"))).unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[test]
fn a_directory_of_another_user_is_named_with_its_remedy() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    let Ok(output) = child(&dir.path().join("spool")).uid(65534).gid(65534).output() else {
        println!("skipped: the user cannot be changed here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.contains("E spool") && !output.status.success() {
        println!("skipped: the other user cannot run the test");
        return;
    }
    assert!(said.contains("permission denied") && said.contains("chown"), "{said}");
}
