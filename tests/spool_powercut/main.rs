//! Power cuts: a real spool works in a process whose writes, syncs and renames are traced; the trace is cut at random
//! places; what a disk could have kept by then is laid out, and has to be a spool that lost nothing it had promised.
//!
//! `scripts/powercut` runs it with more images, and shows that it can see.

#[path = "../spool_support/mod.rs"]
mod spool_support;

mod disk;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use disk::{Disk, Op};
use speedwell::spool::{Options, Spool};
use speedwell_wire::{LossReason, Record};
use spool_support::*;

const IMAGES: &str = "SPEEDWELL_POWERCUT_IMAGES";
const SEED: &str = "SPEEDWELL_POWERCUT_SEED";
const FLUSHES: &str = "SPEEDWELL_POWERCUT_FLUSHES";
const BLIND: &str = "SPEEDWELL_POWERCUT_BLIND";
const PAUSE: &str = "SPEEDWELL_POWERCUT_PAUSE";
const ROOT: &str = "POWERCUT_ROOT";
/// Every so many syncs fail. A handful of recoveries, each of which syncs some files itself.
const FAIL_EVERY: &str = "37";

fn number_of(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

fn cramped(dir: &Path) -> Options {
    Options { max_size: Options::MIN_MAX_SIZE, ..options(dir) }
}

/// Not a test of its own: the work that is traced. Says `F durable lost` after each flush, `C n` before a confirmation.
#[test]
fn child_that_works() {
    let Some(dir) = std::env::var_os(ROOT) else { return };
    let flushes = number_of(FLUSHES, 100);
    // Lines of the test harness must not share one with what is said here.
    println!();
    let (spool, _) = Spool::open(cramped(Path::new(&dir))).unwrap();
    runtime().block_on(async {
        for n in 0..flushes {
            let last = spool.stats().last_seq + 1 + n % 40;
            fill(&spool, last, 40 + (n as usize * 137) % 3000).await;
            let durable = spool.flush().await.unwrap();
            println!("F {durable} {}", spool.stats().lost_records);
            std::thread::sleep(Duration::from_millis(number_of(PAUSE, 0)));
            // In the second half the far end is away, so that the oldest have to go.
            if n < flushes / 2 && n % 30 == 29 {
                println!("C {}", durable - 20);
                spool.confirm_thru(durable - 20).await.unwrap();
            }
        }
    });
}

/// The shim; `None`, with a word, where there is no compiler for it.
fn shim(dir: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spool_powercut/shim.c");
    let shim = dir.join("shim.so");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(&shim).arg(source).status();
    if built.is_ok_and(|status| status.success()) {
        return Some(shim);
    }
    println!("skipped: there is no C compiler");
    None
}

/// What had been promised by some step.
#[derive(Clone, Copy, Default)]
struct Promise {
    durable: u64,
    confirmed: u64,
    /// Most that may have been dropped for want of room.
    lost: u64,
}

/// The promise at each step; what may be lost is what the next flush says.
fn promises(ops: &[Op<'_>]) -> Vec<Promise> {
    let mut promise = Promise::default();
    let mut all: Vec<_> = ops
        .iter()
        .map(|op| {
            let words = String::from_utf8_lossy(if op.op == b'A' { op.data } else { b"" }).into_owned();
            let numbers: Vec<u64> = words.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            match (words.chars().next(), numbers.as_slice()) {
                (Some('F'), [durable, lost]) => promise = Promise { durable: *durable, lost: *lost, ..promise },
                (Some('C'), [confirmed]) => promise.confirmed = *confirmed,
                _ => {}
            }
            promise
        })
        .collect();
    let mut lost = promise.lost;
    for (promise, op) in all.iter_mut().zip(ops).rev() {
        let said = promise.lost;
        promise.lost = lost;
        if op.op == b'A' && op.data.starts_with(b"F") {
            lost = said;
        }
    }
    all
}

/// What is wrong with a spool after a cut; nothing, if all is well.
fn wrong_after_cut(dir: &Path, promise: Promise) -> Result<(), String> {
    let (spool, opened) = Spool::open(cramped(dir)).map_err(|error| format!("does not open: {error}"))?;
    if opened.last_seq < promise.durable {
        return Err(format!("ends at {}, {} was flushed", opened.last_seq, promise.durable));
    }
    runtime().block_on(async {
        let mut next = opened.oldest_seq;
        let mut dropped = 0;
        if next > promise.confirmed + 1 {
            return Err(format!("begins at {next}, confirmed were {}", promise.confirmed));
        }
        for entry in read_all(&spool, next).await {
            if entry.first != next {
                return Err(format!("{} follows {next}", entry.first));
            }
            next += entry.span;
            match decode(&entry) {
                Record::Loss(loss) if loss.reason == LossReason::SpoolFullOldest => dropped += entry.span,
                Record::Loss(_) if entry.first > promise.durable || next - 1 <= promise.confirmed => {}
                Record::Loss(_) => return Err(format!("{}..{next} lost, {promise:?} was", entry.first)),
                _ if number(&entry) != entry.first => return Err(format!("another record is at {}", entry.first)),
                _ => {}
            }
        }
        if dropped > promise.lost {
            return Err(format!("{dropped} dropped, {} at most had to be", promise.lost));
        }
        let last = opened.last_seq + 5;
        fill(&spool, last, 100).await;
        spool.close().await.map_err(|error| error.to_string())?;
        let again = Spool::open(cramped(dir)).map_err(|error| format!("does not open again: {error}"))?.1;
        if again.last_seq == last { Ok(()) } else { Err(format!("ends at {} after {last}", again.last_seq)) }
    })
}

impl std::fmt::Debug for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} flushed, {} confirmed", self.durable, self.confirmed)
    }
}

#[test]
fn whatever_a_power_cut_leaves_opens_and_has_everything_that_was_flushed() {
    cut_the_power("0");
}

#[test]
fn what_is_flushed_after_a_sync_that_failed_is_there_after_a_power_cut_too() {
    cut_the_power(FAIL_EVERY);
}

/// Lets the child work with the shim loaded.
fn trace_of(shim: &Path, root: &Path, trace: &Path, more: &[(&str, &str)]) -> Vec<u8> {
    let worked = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_works", "--nocapture", "--test-threads=1"])
        .env("LD_PRELOAD", shim)
        .env(ROOT, root)
        .env("POWERCUT_TRACE", trace)
        .envs(more.iter().copied())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(worked.success(), "the work itself failed");
    fs::read(trace).unwrap()
}

/// A disk that keeps nothing that was not synced, and whose last written blocks the cut damages.
#[test]
fn damage_to_the_end_that_comes_with_a_power_cut_is_told_and_its_numbers_are_never_given_to_others() {
    if std::env::var_os(ROOT).is_some() {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let Some(shim) = shim(room.path()) else { return };
    let (root, trace) = (room.path().join("spool"), room.path().join("trace"));
    // A flush a second, as agents do it.
    let trace = trace_of(&shim, &root, &trace, &[(FLUSHES, "5"), (PAUSE, "1000")]);
    let ops = disk::parse(&trace);
    let promises = promises(&ops);
    let (mut disk, mut looked_at) = (Disk::new(&root), 0);
    for (op, promise) in ops.iter().zip(promises) {
        disk.step(op);
        if op.op != b'A' || promise.durable < 3 {
            continue;
        }
        for cut in [1, 40, 100] {
            let image = tempfile::tempdir().unwrap();
            disk.synced_image(image.path());
            let db = generations(image.path())[0].join("db");
            let file = fs::OpenOptions::new().write(true).open(&db).unwrap();
            let length = written(&fs::read(&db).unwrap());
            file.set_len(length - cut).unwrap();
            let (spool, opened) = open(image.path());
            assert!(opened.last_seq >= promise.durable, "record {} is another's", opened.last_seq + 1);
            let (records, lost) = runtime().block_on(async { account(&read_all(&spool, 1).await) });
            assert!(!records.contains(&promise.durable) && lost > 0, "nothing was damaged");
            assert!(opened.findings.iter().any(|finding| finding.contains("may have been lost")), "nobody is told");
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 12, "four flushes");
}

/// How far a file has anything but zeros.
fn written(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

/// Works, cuts, looks at what is left. `fail_every`: how many syncs to one that fails, or 0.
fn cut_the_power(fail_every: &str) {
    if std::env::var_os(ROOT).is_some() {
        return;
    }
    let (images, seed) = (number_of(IMAGES, 20), number_of(SEED, 1));
    let room = tempfile::tempdir().unwrap();
    let Some(shim) = shim(room.path()) else { return };
    let (root, trace) = (room.path().join("spool"), room.path().join("trace"));
    let trace = trace_of(&shim, &root, &trace, &[("POWERCUT_FAIL_EVERY", fail_every)]);
    let ops = disk::parse(&trace);
    let promises = promises(&ops);
    let [syncs, failed] = [b'S', b'E'].map(|kind| ops.iter().filter(|op| op.op == kind).count());
    assert_eq!(failed == 0, fail_every == "0", "{failed} syncs failed");
    println!(
        "{} steps, {} MiB, {syncs} syncs, {failed} that failed, {} flushed",
        ops.len(),
        trace.len() >> 20,
        promises[ops.len() - 1].durable
    );
    let mut dice = fastrand::Rng::with_seed(seed);
    // Every other cut comes right behind a rename, for what is moved out of the way is most easily lost there.
    let renames: Vec<usize> = (1..).zip(&ops).filter(|(_, op)| op.op == b'R').map(|(step, _)| step).collect();
    let mut cuts: Vec<usize> = (0..images)
        .map(|image| if image % 2 == 0 { dice.usize(1..ops.len()) } else { renames[dice.usize(..renames.len())] })
        .collect();
    cuts.sort_unstable();
    let (mut disk, mut done, mut faults) = (Disk::new(&root), 0, Vec::new());
    for cut in cuts {
        ops[done..cut].iter().for_each(|op| disk.step(op));
        done = cut;
        let image = tempfile::tempdir().unwrap();
        disk.image(image.path(), &mut dice);
        if let Err(wrong) = wrong_after_cut(image.path(), promises[cut - 1]) {
            faults.push(format!("cut after step {cut}: {wrong}"));
        }
    }
    faults.iter().take(10).for_each(|fault| println!("{fault}"));
    println!("{images} images (seed {seed}): {} whole, {} not", images - faults.len() as u64, faults.len());
    if std::env::var_os(BLIND).is_some() {
        assert!(!faults.is_empty(), "without the answer to sync_file_range nothing was lost: this test cannot see");
    } else {
        assert_eq!(faults, Vec::<String>::new());
    }
}
