//! The store on SQLite. Nothing outside of this folder knows `rusqlite`.
//!
//! WAL, so that readers never wait for the writer. `synchronous=FULL`, because what was confirmed is deleted at the
//! gateway: with NORMAL a power cut may take the last commits back, with FULL each commit is on disk when it returns.
//! The price, one fsync a commit, is shared by all that goes into it (see [`super::writer`]).

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use speedwell_wire::{ClockFix, Manifest, frame};

use super::{Done, Migrated, Read, Store, StoreError, Work, gateway, int, log_id, rollup, unword, word};
use lock::{Lock, MODE, Share, belongs, directory};

pub mod backup;
mod fleet;
mod keep;
mod lists;
mod lock;
mod presence;
mod read;
mod readings;
mod rows;
mod schema;
mod write;

/// Another process may hold the lock for a moment: a backup, a person with the `sqlite3` tool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements kept prepared; there are some twenty.
const STATEMENTS: usize = 64;

/// The store on SQLite.
pub struct Sqlite {
    db: Connection,
    path: PathBuf,
    /// Which file that is: its device and its number there.
    file: (u64, u64),
    /// So that nobody puts another in its place meanwhile.
    _lock: Lock,
    memory: write::Memory,
    /// Days that samples are kept; for ever when none is told.
    keep_days: Option<u32>,
}

impl Sqlite {
    /// Opens the database, or makes it, and brings it to the newest form.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::locked(path, Share::Hubs)?.0)
    }

    /// Brings the database to the newest form, while no hub uses it.
    pub fn migrate(path: &Path) -> Result<Migrated, StoreError> {
        Ok(Self::locked(path, Share::Alone)?.1)
    }

    fn locked(path: &Path, share: Share) -> Result<(Self, Migrated), StoreError> {
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::create_dir_all(directory)
                .map_err(|source| StoreError::Directory { path: directory.to_path_buf(), source })?;
        }
        let lock = Lock::take(path, share)?;
        let made = !path.exists();
        if made {
            // Where people drive is nobody's but the hub's and its group's. What cannot be made is told by the next line.
            let _ = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path);
        }
        let mut db = Connection::open(path)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        schema::ours(&db)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "cache_size", -32_000)?; // 32 MB
        let migrated = schema::migrate(&mut db)?;
        if made {
            belongs(path, directory(path));
        }
        let file = identity(path).ok_or_else(|| StoreError::Elsewhere { path: path.to_path_buf() })?;
        let (path, memory) = (path.to_path_buf(), write::Memory::default());
        Ok((Self { db, path, file, _lock: lock, memory, keep_days: None }, migrated))
    }

    /// Drops samples so many days after they arrived.
    pub fn keep_days(self, keep_days: Option<u32>) -> Self {
        Self { keep_days, ..self }
    }
}

/// Device and number of the file at this path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Sqlite {
    fn transaction<T>(
        &mut self,
        act: impl FnOnce(&Connection, &mut write::Memory) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = act(&tx, &mut self.memory)?;
        tx.commit()?;
        Ok(done)
    }
}

impl Store for Sqlite {
    fn commit(&mut self, work: &[Work]) -> Result<Vec<Done>, StoreError> {
        let done = self.transaction(|tx, memory| {
            let mut writing = write::Writing::new(tx, memory);
            let done = work.iter().map(|work| writing.apply(work)).collect::<Result<_, _>>()?;
            writing.finish()?;
            Ok(done)
        });
        if done.is_err() {
            self.memory.forget();
        }
        let done = done?;
        // A file that was moved, deleted or put another in the place of takes every commit as before; nobody would ever
        // find again what is in it.
        if identity(&self.path) != Some(self.file) {
            return Err(StoreError::Elsewhere { path: self.path.clone() });
        }
        Ok(done)
    }

    fn tend(&mut self, now_ns: i64) -> Result<bool, StoreError> {
        let keep = self.keep_days;
        let dropped =
            self.transaction(|tx, _| Ok(keep::drop_old(tx, keep, now_ns)? | presence::drop_old(tx, keep, now_ns)?))?;
        let settled = self.transaction(|tx, _| rollup::settle(&mut rows::Tables(tx), now_ns))?;
        Ok(dropped || settled)
    }

    fn reader(&self) -> Arc<dyn Read> {
        Arc::new(read::Reader { path: self.path.clone() })
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        use rusqlite::Error as E;
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::NotADatabase) => StoreError::Foreign,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked,
            Some(
                ErrorCode::TooBig
                | ErrorCode::TypeMismatch
                | ErrorCode::ConstraintViolation
                | ErrorCode::ParameterOutOfRange,
            ) => StoreError::Refused(error.to_string()),
            _ => match error {
                // What has no form in SQLite, and a row of its own that is not there or not what was written.
                E::ToSqlConversionFailure(_)
                | E::FromSqlConversionFailure(..)
                | E::InvalidColumnType(..)
                | E::IntegralValueOutOfRange(..)
                | E::Utf8Error(..)
                | E::NulError(_)
                | E::QueryReturnedNoRows => StoreError::Refused(error.to_string()),
                _ => StoreError::Database(Box::new(error)),
            },
        }
    }
}

pub(super) fn manifest(body: &[u8]) -> Result<Manifest, StoreError> {
    frame::decode(body).map_err(|e| StoreError::Content(format!("a manifest that is none: {e}")))
}

/// A row of `clock_fixes`: boot, boot_ns, utc_ns, uncertainty_ns, rate_ppb, source.
pub(super) fn clock_fix(row: &rusqlite::Row<'_>) -> Result<ClockFix, StoreError> {
    Ok(ClockFix {
        boot: row.get(0)?,
        boot_ns: row.get::<_, i64>(1)? as u64,
        utc_ns: row.get(2)?,
        uncertainty_ns: row.get::<_, i64>(3)? as u64,
        rate_ppb: row.get(4)?,
        source: unword(&row.get::<_, String>(5)?)?,
    })
}
