//! The one door to sled: a generation's chunks in a database of their own.
//!
//! sled 0.34 is kept to what it was found to do well: one thread writes and flushes at least every 128 KiB (beyond that
//! its own threads can wait for each other for ever), values stay small (see [`super::chunk`]), nothing is removed one
//! by one (it never gives room back: generations go whole), its timer is off, and every panic is caught, for that is how
//! it tells of damage.

use std::{
    fs::{self, File},
    io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use speedwell_wire::Seq;

use super::files;

/// A value may have a 64th of it: see [`super::chunk::MAX_CHUNK`].
const SEGMENT: usize = 512 << 10;
/// What sled may keep of what it has read. Its default is a gigabyte.
const CACHE: u64 = 256 << 10;
/// A database that was just closed keeps its lock until sled's threads have let go of the file.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) enum DiskError {
    /// The file system is full.
    NoSpace,
    /// The system refuses; the data are not known to be damaged.
    Io(io::Error),
    /// The data cannot be read.
    Damaged(String),
}

pub(super) struct Disk {
    db: sled::Db,
}

impl Disk {
    /// Opens the database in `path`, or makes it, and makes sure that what it found is on disk.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE)
            .segment_size(SEGMENT)
            .mode(sled::Mode::LowSpace)
            .flush_every_ms(None);
        let mut tries = 0;
        let db = loop {
            match guard(|| config.clone().open()) {
                Err(DiskError::Io(error)) if tries < LOCK_TRIES && is_lock(&error) => {
                    tries += 1;
                    std::thread::sleep(LOCK_WAIT);
                }
                Err(error) => return Err(error),
                Ok(db) => break db,
            }
        };
        sync_files(path).map_err(sort_io)?;
        Ok(Self { db })
    }

    pub(super) fn insert(&self, first: Seq, chunk: &[u8]) -> Result<(), DiskError> {
        guard(|| self.db.insert(first.to_be_bytes(), chunk).map(|_| ()))
    }

    /// Returns when everything inserted is on disk.
    pub(super) fn flush(&self) -> Result<(), DiskError> {
        guard(|| self.db.flush().map(|_| ()))
    }

    /// Key and value of the last chunk that begins at or before `seq`.
    pub(super) fn at_or_before(&self, seq: Seq) -> Result<Option<(Seq, Vec<u8>)>, DiskError> {
        guard(|| self.db.range(..=seq.to_be_bytes()).next_back().transpose().map(|found| found.map(entry)))
    }

    /// Key and value of the first chunk that begins after `seq`.
    pub(super) fn after(&self, seq: Seq) -> Result<Option<(Seq, Vec<u8>)>, DiskError> {
        let from = (Bound::Excluded(seq.to_be_bytes()), Bound::Unbounded);
        guard(|| self.db.range::<[u8; 8], _>(from).next().transpose().map(|found| found.map(entry)))
    }
}

/// sled writes a last time when it is dropped, and may panic at that.
pub(super) fn close(disk: Disk) {
    let _panicked = catch_unwind(AssertUnwindSafe(|| drop(disk)));
}

/// Files that stand between a database that will not open and one that might: sled makes them anew.
pub(super) fn remove_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path())?;
        }
    }
    files::sync_dir(path)
}

/// The file that holds the chunks.
pub(super) fn raw_file(path: &Path) -> PathBuf {
    path.join("db")
}

fn entry((key, value): (sled::IVec, sled::IVec)) -> (Seq, Vec<u8>) {
    // A key of another length is not ours; 0 is no number, so such an entry never matches its chunk.
    let key = <[u8; 8]>::try_from(key.as_ref()).map_or(0, Seq::from_be_bytes);
    (key, value.to_vec())
}

fn guard<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, DiskError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(sled::Error::Io(error))) => Err(sort_io(error)),
        Ok(Err(error)) => Err(DiskError::Damaged(error.to_string())),
        Err(panic) => Err(DiskError::Damaged(super::words_of(&*panic))),
    }
}

/// sled passes errors on as their words, so the kind is looked for in both.
pub(super) fn sort_io(error: io::Error) -> DiskError {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let words = error.to_string();
    match error.kind() {
        StorageFull | QuotaExceeded => DiskError::NoSpace,
        _ if words.contains("code: 28") || words.contains("os error 28") => DiskError::NoSpace,
        PermissionDenied | ReadOnlyFilesystem => DiskError::Io(error),
        _ if is_lock(&error) => DiskError::Io(error),
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => DiskError::Io(error),
        _ => DiskError::Damaged(words),
    }
}

fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// sled never syncs its directories, nor what it found in its files.
fn sync_files(path: &Path) -> io::Result<()> {
    for name in ["conf", "db"] {
        File::open(path.join(name))?.sync_all()?;
    }
    files::sync_dir(path)?;
    files::sync_name(path)
}
