//! What can go wrong with the spool, and what a person can do about it.

use std::{io, path::PathBuf};

use speedwell_wire::Seq;

/// Why a spool cannot be opened. Nothing that was spooled is touched by any of these.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The user the agent runs as may not write there.
    #[error(
        "spool directory {path}: permission denied ({source}). Give it to the user that runs speedwell: chown it, or set spool.directory to a place it owns"
    )]
    Permission {
        /// What could not be written.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The file system is mounted read-only, which a kernel does to a card that fails.
    #[error(
        "spool directory {path}: the file system is read-only. Remount it writable; if the kernel did this, look at dmesg and replace the card"
    )]
    ReadOnly {
        /// What could not be written.
        path: PathBuf,
    },
    /// The directory does not exist and cannot be created.
    #[error(
        "spool directory {path}: cannot be created ({source}). Create its parent directory, or correct spool.directory"
    )]
    Create {
        /// What could not be created.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// There is no spool to read.
    #[error("{path}: no spool is there. Name the directory that has `meta` and `marks` in it")]
    NoSpool {
        /// The directory.
        path: PathBuf,
    },
    /// The path leads to something that is not a directory.
    #[error("spool directory {path}: is not a directory. Correct spool.directory, or move that file away")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// No room even after the ballast was given up.
    #[error("spool directory {path}: no space left on the device. Free some space; what is spooled is kept")]
    Full {
        /// The spool's directory.
        path: PathBuf,
    },
    /// Damage that could not be set aside. Damage that could be is only reported, in [`super::Opened::findings`].
    #[error(
        "spool directory {path}: damaged ({what}) and it could not be set aside. Move the directory away; `quarantine` and the generations in it can be salvaged later"
    )]
    Damaged {
        /// What is damaged.
        path: PathBuf,
        /// How, in words.
        what: String,
    },
    /// Another process has it open.
    #[error("spool directory {path}: in use by process {pid}. Stop that one first, or give each its own directory")]
    Locked {
        /// The spool's directory.
        path: PathBuf,
        /// The other process, 0 when it did not say.
        pid: u32,
    },
    /// Written by a newer speedwell.
    #[error(
        "spool directory {path}: format {found}, this speedwell knows up to {known}. Install the newer speedwell again, let it deliver its records, then go back"
    )]
    FutureVersion {
        /// The spool's directory.
        path: PathBuf,
        /// Format on disk.
        found: u32,
        /// Newest format known here.
        known: u32,
    },
    /// The size bound is too small to work in.
    #[error("spool.max-size {max_size} bytes: at least {least} bytes are needed")]
    TooSmall {
        /// As configured.
        max_size: u64,
        /// The least.
        least: u64,
    },
    /// The build is wrong: a flush would not reach the disk. See `docs/spool.md`, Syncing.
    #[error(
        "this build would not reach the disk: the answer to sync_file_range is not linked in, so sled would skip fsync. Use an official build; nothing was written"
    )]
    NotSyncing,
    /// Anything else the system said.
    #[error("spool {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl OpenError {
    /// Sorts what the system said about `path`.
    pub(super) fn from_io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission { path, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { path, source },
        }
    }
}

/// Why the spool did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// A record is larger than a chunk. Nothing of the call was appended: the caller splits it.
    #[error("record {index} of the append has {bytes} bytes, at most {max} can be spooled; split it")]
    TooLarge {
        /// Which of the records given.
        index: usize,
        /// Its encoded size.
        bytes: usize,
        /// The most.
        max: usize,
    },
    /// The spool is full and newest records are the ones to go. They are counted and a loss record will tell of them.
    #[error("the spool is full and when-full is drop-newest: {records} records refused, counted")]
    Full {
        /// How many records this call wanted to append.
        records: usize,
    },
    /// The disk failed and there is no fallback. What was durable stays on the disk for the next start.
    #[error("the spool's disk failed: {0}")]
    Disk(String),
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

/// What a confirmation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// Records up to here are freed.
    Moved,
    /// Nothing new: it was confirmed up to there, or further, before.
    Known,
    /// Refused: nothing that far was ever durable here. Somebody else writes under this log's name, or this disk has
    /// forgotten what it had kept.
    BeyondEnd {
        /// The last durable record.
        last: Seq,
    },
}
