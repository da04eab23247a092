//! Who uses a database, among our own programs.
//!
//! SQLite's locks tell who reads or writes at a moment; a hub that is between two commits holds none, and would go on
//! writing into a file that was taken away from under it. So whoever writes holds a lock on a file beside the database
//! as long as it lives: hubs share it, and what puts another file in the place of the database wants it alone. It is not
//! the database's own file that is locked, since closing that would drop SQLite's locks of this process too.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use crate::store::StoreError;

/// What is made may be read by the hub's user and its group. Whoever may open the lock may hold it, too.
pub(super) const MODE: u32 = 0o640;

/// A lock, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held open, not read")] File);

/// How many may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// All hubs.
    Hubs,
    /// One.
    Alone,
}

/// The path with more at its end.
pub(super) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(more);
    name.into()
}

/// The directory that a file is in.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives a file to the owner of another. What root makes with one of our commands, the hub's own user has to be able to
/// open; who is not root makes files that are his own, and may give away none.
pub(super) fn belongs(file: &Path, like: &Path) {
    if let Ok(like) = fs::metadata(like) {
        let _ = chown(file, Some(like.uid()), Some(like.gid()));
    }
}

impl Lock {
    /// Takes it, or says that another has it; waits for nobody.
    pub(super) fn take(database: &Path, share: Share) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Lock { path: beside(database, ".lock"), source };
        // Never deleted: another could then hold one on a file that is no longer there.
        let made = !beside(database, ".lock").exists();
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).open(beside(database, ".lock"));
        let file = file.map_err(failed)?;
        if made {
            belongs(&beside(database, ".lock"), directory(database));
        }
        let taken = match share {
            Share::Hubs => file.try_lock_shared(),
            Share::Alone => file.try_lock(),
        };
        match taken {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: database.to_path_buf() }),
            // A file system without locks is no reason not to store; two programs at once are then the operator's care.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(Self(file)),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
