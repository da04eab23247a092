//! A copy of a database that is in use, and its way back.
//!
//! In      a database; a copy of one.
//! Out     a file that was checked and is on disk, under its name only when it is whole.
//! Keeps   nothing.
//!
//! The copy is of one moment: a reading transaction is held from first page to last. Without it SQLite's backup would begin
//! again whenever the hub commits, and never end on a busy one. The price is that the hub's write-ahead log grows until the
//! copy is done.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use super::{
    BUSY_TIMEOUT,
    lock::{Lock, Share, beside},
    schema,
};
use crate::store::StoreError;

/// Pages copied between two words about it: 4 MiB.
const PAGES: i32 = 1024;

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Pages copied, of so many.
    Copied {
        /// So far.
        done: u64,
        /// In all.
        of: u64,
    },
    /// All are there, and are looked through.
    Checking,
}

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Of the copy.
    pub bytes: u64,
}

/// What was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The copy's form.
    pub form: i64,
    /// Where the database went that was there.
    pub aside: Option<PathBuf>,
}

/// What is wrong. Nothing that was there before was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// To be copied, or to be restored from.
    #[error("{0}: there is no such file")]
    Missing(PathBuf),
    /// Where the copy should go.
    #[error("{0}: is there already; name another file, or a directory")]
    Exists(PathBuf),
    /// A hub runs on it, or another restore.
    #[error("{0}: a hub uses it; stop it first (systemctl stop speedwell-hub)")]
    InUse(PathBuf),
    /// The file is no database, or not a whole one.
    #[error("{path}: damaged: {found}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What SQLite found first.
        found: String,
    },
    /// A database of something else.
    #[error("{path}: no database of a hub")]
    NotOurs {
        /// Which.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error("{path}: has form {found}, this program knows up to {known}: restore it with the program that wrote it")]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its form.
        found: i64,
        /// The newest known.
        known: i64,
    },
    /// The file system said no.
    #[error("{path}: cannot be written: {source}")]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite said no.
    #[error("{path}: {source}")]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// Where copies of files that belong together go: their names differ in their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(PathBuf);

impl Target {
    /// A file, or one in a directory that is there, named by the time.
    pub fn new(to: &Path, now: &str) -> Result<Self, BackupError> {
        let slash = to.as_os_str().as_encoded_bytes().ends_with(b"/");
        if slash {
            fs::create_dir_all(to).map_err(|source| BackupError::Write { path: to.into(), source })?;
        }
        Ok(Self(if slash || to.is_dir() { to.join(format!("speedwell-hub-{now}.sqlite")) } else { to.to_path_buf() }))
    }

    /// The one that `backup` made.
    pub fn of(from: &Path) -> Self {
        Self(from.to_path_buf())
    }

    /// The file with this end.
    pub fn file(&self, suffix: &str) -> PathBuf {
        beside(&self.0, suffix)
    }
}

/// Copies a database to a file that is not there yet.
pub fn backup(from: &Path, to: &Path, mut told: impl FnMut(Progress)) -> Result<Copied, BackupError> {
    if !from.is_file() {
        return Err(BackupError::Missing(from.into()));
    }
    if to.exists() {
        return Err(BackupError::Exists(to.into()));
    }
    let part = Part::new(to);
    copy(from, &part.0, &mut told)?;
    told(Progress::Checking);
    let checked = check(&part.0, false)?;
    part.becomes(to)?;
    Ok(checked)
}

/// Whether a copy can be restored, told by its head: the whole of it is checked once it is copied.
pub fn look(from: &Path) -> Result<i64, BackupError> {
    if !from.is_file() {
        return Err(BackupError::Missing(from.into()));
    }
    let db = open(from)?;
    let form = form(&db, from)?;
    Ok(form)
}

/// Puts a copy in the place of a database that nobody uses. What is there is kept aside, its name ended by the time.
pub fn restore(from: &Path, to: &Path, now: &str) -> Result<Restored, BackupError> {
    let form = look(from)?;
    let _alone = Lock::take(to, Share::Alone).map_err(|error| match error {
        StoreError::InUse { path } => BackupError::InUse(path),
        source => BackupError::Database { path: to.into(), source },
    })?;
    let part = Part::new(to);
    copy(from, &part.0, &mut |_| {})?;
    check(&part.0, true)?;
    let aside = to.exists().then(|| beside(to, &format!(".before-{now}")));
    if let Some(aside) = &aside {
        put_aside(to, aside)?;
    }
    part.becomes(to)?;
    Ok(Restored { form, aside })
}

/// Gives the database a second name. Whatever happens, one of both is there under the first: a hub that found none would
/// begin an empty one.
fn put_aside(at: &Path, aside: &Path) -> Result<(), BackupError> {
    // A write-ahead log that is left beside another database would be taken for that one's. It goes into the database; one
    // that cannot, because the database is damaged, goes aside with it.
    if let Ok(db) = Connection::open_with_flags(at, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        let _ = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
    for end in ["-wal", "-shm"] {
        let left = beside(at, end);
        if left.exists() {
            fs::rename(&left, beside(aside, end)).map_err(|source| BackupError::Write { path: left, source })?;
        }
    }
    fs::hard_link(at, aside).map_err(|source| BackupError::Write { path: aside.into(), source })
}

/// A file that is not whole yet. It goes when it does not become one.
struct Part(PathBuf);

impl Part {
    fn new(of: &Path) -> Self {
        let part = Self(beside(of, ".part"));
        // Of a run that was killed.
        let _ = fs::remove_file(&part.0);
        part
    }

    fn becomes(self, path: &Path) -> Result<(), BackupError> {
        let failed = |source| BackupError::Write { path: path.into(), source };
        File::open(&self.0).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&self.0, path).map_err(failed)?;
        let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        for end in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&self.0, end));
        }
    }
}

fn open(path: &Path) -> Result<Connection, BackupError> {
    let failed = |e: rusqlite::Error| BackupError::Database { path: path.into(), source: e.into() };
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    Ok(db)
}

fn form(db: &Connection, path: &Path) -> Result<i64, BackupError> {
    let damaged = |e: rusqlite::Error| BackupError::Damaged { path: path.into(), found: e.to_string() };
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(damaged)?;
    let known = schema::NEWEST;
    let ledger = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'ledger'";
    let ours: i64 = db.query_row(ledger, [], |row| row.get(0)).map_err(damaged)?;
    match found > known {
        _ if ours == 0 => Err(BackupError::NotOurs { path: path.into() }),
        true => Err(BackupError::Newer { path: path.into(), found, known }),
        false => Ok(found),
    }
}

fn copy(from: &Path, to: &Path, told: &mut impl FnMut(Progress)) -> Result<(), BackupError> {
    let source = open(from)?;
    let of_source = |e: rusqlite::Error| BackupError::Database { path: from.into(), source: e.into() };
    let of_copy = |e: rusqlite::Error| BackupError::Database { path: to.into(), source: e.into() };
    // The one moment; reading something is what begins it.
    source.execute_batch("BEGIN").map_err(of_source)?;
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(of_source)?;
    let mut copy = Connection::open(to).map_err(of_copy)?;
    let steps = Backup::new(&source, &mut copy).map_err(of_copy)?;
    loop {
        let step = steps.step(PAGES).map_err(of_copy)?;
        let pages = steps.progress();
        let (all, left) = (u64::try_from(pages.pagecount).unwrap_or(0), u64::try_from(pages.remaining).unwrap_or(0));
        told(Progress::Copied { done: all.saturating_sub(left), of: all });
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            // Another holds it for a moment.
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    drop(steps);
    // A file by itself, without a write-ahead log beside it; a hub goes back to one when it opens it.
    let _: String = copy.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).map_err(of_copy)?;
    Ok(())
}

/// Looks through all of a copy.
fn check(path: &Path, ours: bool) -> Result<Copied, BackupError> {
    let db = open(path)?;
    let damaged = |found: String| BackupError::Damaged { path: path.into(), found };
    let found: String = db
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|e: rusqlite::Error| damaged(e.to_string()))?;
    if found != "ok" {
        return Err(damaged(found));
    }
    if ours {
        form(&db, path)?;
    }
    let bytes = fs::metadata(path).map_err(|source| BackupError::Write { path: path.into(), source })?.len();
    Ok(Copied { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::Sqlite;

    fn temp() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hub.sqlite");
        (directory, path)
    }

    fn note(path: &Path, what: &str) {
        let db = Connection::open(path).unwrap();
        db.execute("INSERT INTO rejected (source, received_ns, reason, bytes) VALUES (?, 0, '', x'')", [what]).unwrap();
    }

    fn notes(path: &Path) -> Vec<String> {
        let db = Connection::open(path).unwrap();
        let mut rows = db.prepare("SELECT source FROM rejected ORDER BY id").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_copy_is_of_the_moment_it_began_though_others_write_meanwhile() {
        let (directory, path) = temp();
        drop(Sqlite::open(&path).unwrap());
        let db = Connection::open(&path).unwrap();
        let fill = "INSERT INTO rejected (source, received_ns, reason, bytes) VALUES ('old', 0, '', zeroblob(60000))";
        (0..200).for_each(|_| _ = db.execute(fill, []).unwrap());
        let to = directory.path().join("copy");
        let mut words = 0;
        backup(&path, &to, |_| {
            words += 1;
            note(&path, "new");
        })
        .unwrap();
        assert!((3..100).contains(&words), "it neither began anew with each commit nor came in one piece: {words}");
        assert_eq!(notes(&to), vec!["old"; 200]);
        assert_eq!(notes(&path).len(), 200 + words);
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("part")), "{left:?}");
    }

    #[test]
    fn a_database_is_not_replaced_while_a_hub_holds_it_and_what_was_there_is_kept_whole() {
        let (directory, path) = temp();
        let hub = Sqlite::open(&path).unwrap();
        note(&path, "one");
        let copy = directory.path().join("copy");
        backup(&path, &copy, |_| {}).unwrap();
        note(&path, "two");
        assert!(matches!(restore(&copy, &path, "now"), Err(BackupError::InUse(_))));
        assert_eq!(notes(&path), ["one", "two"]);
        // Killed: its write-ahead log stays beside the database.
        let wal = beside(&path, "-wal");
        let other = Connection::open(&path).unwrap();
        note(&path, "three");
        let (main, log) = (fs::read(&path).unwrap(), fs::read(&wal).unwrap());
        drop((hub, other));
        fs::write(&path, main).unwrap();
        fs::write(&wal, log).unwrap();
        let Restored { aside, .. } = restore(&copy, &path, "now").unwrap();
        assert_eq!(notes(&path), ["one"], "and nothing of the old log");
        assert_eq!(notes(&aside.unwrap()), ["one", "two", "three"]);
    }

    #[test]
    fn a_damaged_copy_a_foreign_and_a_newer_one_are_refused_and_the_database_stays() {
        let (directory, path) = temp();
        drop(Sqlite::open(&path).unwrap());
        note(&path, "one");
        let copy = directory.path().join("copy");
        backup(&path, &copy, |_| {}).unwrap();
        assert!(matches!(backup(&path, &copy, |_| {}), Err(BackupError::Exists(_))));
        let bytes = fs::read(&copy).unwrap();
        let mut wrong = bytes.clone();
        wrong.iter_mut().skip(8192).for_each(|byte| *byte ^= 0x55);
        let bad = directory.path().join("bad");
        for content in [wrong, b"no database at all, but long enough to be one".repeat(200)] {
            fs::write(&bad, content).unwrap();
            let error = restore(&bad, &path, "now").unwrap_err();
            assert!(matches!(error, BackupError::Damaged { .. } | BackupError::Database { .. }), "{error}");
        }
        let foreign = directory.path().join("foreign");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        assert!(matches!(restore(&foreign, &path, "now"), Err(BackupError::NotOurs { .. })));
        Connection::open(&copy).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let told = restore(&copy, &path, "now").unwrap_err().to_string();
        assert!(told.contains("form 99") && told.contains("with the program that wrote it"), "{told}");
        assert_eq!(notes(&path), ["one"]);
    }
}
