//! What a technician can set, and what the limits are.

use std::{path::PathBuf, time::Duration};

use super::error::OpenError;

/// How the spool is to be kept. [`Options::new`] gives the values that the configuration's defaults promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The spool's directory. Created when its parent is there.
    pub directory: PathBuf,
    /// Most bytes on disk, everything counted (`st_blocks`); at least [`Options::MIN_MAX_SIZE`].
    pub max_size: u64,
    /// The spool does not grow while the disk has less than this left, except to its smallest room of two generations.
    pub keep_free: u64,
    /// A record is durable at most this long after it was appended. This is what a power cut can take.
    pub commit_every: Duration,
    /// Keeps records in memory for up to this long and writes only what is not confirmed by then. It takes the place
    /// of `commit_every`: this is what a power cut can take then. `None` writes everything.
    pub lazy: Option<Duration>,
    /// Records that are not confirmed when they are this old are given up, at the latest an eighth of it later. Told by
    /// the log's own times: a clock that is wrong makes nothing older. `None` keeps them.
    pub max_age: Option<Duration>,
    /// What gives way when there is no room.
    pub when_full: WhenFull,
    /// Whether to go on in memory when the disk fails while running. A disk that cannot be used at start is refused:
    /// somebody is there then who can mend it.
    pub fallback_to_memory: bool,
    /// Most bytes the memory twin holds.
    pub memory_max: u64,
}

/// What gives way when the spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest generation goes, and one loss record stands in its place.
    #[default]
    DropOldest,
    /// New records are refused and counted; a loss record says so once there is room again.
    DropNewest,
    /// Old generations are thinned to one sample a second of each channel; when all are, the oldest goes.
    Thin,
}

impl Options {
    /// Four generations of a megabyte: below this a drop would take most of what is kept.
    pub const MIN_MAX_SIZE: u64 = 8 << 20;

    /// The defaults, in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_size: 2 << 30,
            keep_free: 256 << 20,
            commit_every: Duration::from_secs(1),
            lazy: None,
            max_age: None,
            when_full: WhenFull::DropOldest,
            fallback_to_memory: false,
            memory_max: 8 << 20,
        }
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        if self.max_size < Self::MIN_MAX_SIZE {
            return Err(OpenError::TooSmall { max_size: self.max_size, least: Self::MIN_MAX_SIZE });
        }
        Ok(())
    }

    /// Payload bytes after which a generation is closed. What sled costs at its opening grows with the one it opens; a
    /// smaller spool gets smaller generations, so that a drop takes at most an eighth of it.
    pub(super) fn generation_bytes(&self) -> u64 {
        (self.max_size / 16).clamp(256 << 10, 2 << 20)
    }

    /// Disk space held back, to be able to work when the disk is full: opening a sled database writes.
    pub(super) fn ballast_bytes(&self) -> u64 {
        (self.max_size / 16).clamp(1 << 20, 8 << 20)
    }
}
