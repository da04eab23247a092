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
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use super::{
    BUSY_TIMEOUT,
    lock::{Lock, Share, belongs, beside, directory},
    schema,
};
use crate::{access::book, config::Config, store::StoreError};

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

/// A SQLite file of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Where it is.
    pub path: PathBuf,
    /// What its copy's name ends in, so that copies of files that belong together stand side by side.
    pub suffix: &'static str,
    /// A table that only it has.
    pub table: &'static str,
    /// The form that this program writes.
    pub newest: i64,
    /// Whether there is no hub without it. What is not needed is put back only where there is none: users that were removed
    /// and keys that were revoked since do not come back with a copy.
    pub needed: bool,
}

/// The SQLite files that a configuration names. With PostgreSQL the store is none of them.
pub fn files(config: &Config) -> Vec<Database> {
    let path = config.store.path.clone();
    let store = Database { path, suffix: "", table: "ledger", newest: schema::NEWEST, needed: true };
    let path = config.access_path();
    let access = Database { path, suffix: ".access", table: "users", newest: book::FORM, needed: false };
    config.store.url.is_none().then_some(store).into_iter().chain([access]).collect()
}

/// What was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// From where.
    pub from: PathBuf,
    /// To where.
    pub to: PathBuf,
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
    #[error(
        "{0}: is there already; a backup goes to another file or into a directory, a restore wants --replace, and keeps it aside"
    )]
    Exists(PathBuf),
    /// Another backup writes there.
    #[error("{0}: another backup to it is under way; wait for that one, or name another file")]
    UnderWay(PathBuf),
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

/// Copies a database to a file that is not there yet. Gives the copy's bytes.
pub fn backup(from: &Path, to: &Path, mut told: impl FnMut(Progress)) -> Result<u64, BackupError> {
    if !from.is_file() {
        return Err(BackupError::Missing(from.into()));
    }
    if to.exists() {
        return Err(BackupError::Exists(to.into()));
    }
    let part = Part::new(to, from)?;
    copy(from, &part.path, &mut told)?;
    told(Progress::Checking);
    let bytes = check(&part.path)?;
    part.becomes(to)?;
    Ok(bytes)
}

/// Puts copies in the place of databases that nobody uses. What is there is kept aside, its name ended by the time; without
/// `replace` it is an error that something is there. All are copied and checked before the first is put in place.
pub fn restore(all: &[Database], from: &Target, replace: bool, now: &str) -> Result<Vec<Restored>, BackupError> {
    let wanted =
        |database: &&Database| database.needed || from.file(database.suffix).exists() && !database.path.exists();
    let all: Vec<&Database> = all.iter().filter(wanted).collect();
    for database in &all {
        form(&open(&from.file(database.suffix))?, &from.file(database.suffix), database)?;
        if !replace && database.path.exists() {
            return Err(BackupError::Exists(database.path.clone()));
        }
    }
    let alone = |database: &&Database| {
        Lock::take(&database.path, Share::Alone).map_err(|error| match error {
            StoreError::InUse { path } => BackupError::InUse(path),
            source => BackupError::Database { path: database.path.clone(), source },
        })
    };
    let _locks = all.iter().map(alone).collect::<Result<Vec<_>, _>>()?;
    let mut parts = Vec::new();
    for database in all {
        let from = from.file(database.suffix);
        let part = Part::new(&database.path, &from)?;
        copy(&from, &part.path, &mut |_| {})?;
        check(&part.path)?;
        let form = form(&open(&part.path)?, &part.path, database)?;
        parts.push((database, from, part, form));
    }
    let mut restored = Vec::new();
    for (database, from, part, form) in parts {
        let to = database.path.clone();
        let aside = to.exists().then(|| free(&to, &format!(".before-{now}")));
        belongs(&part.path, if aside.is_some() { &to } else { directory(&to) });
        if let Some(aside) = &aside {
            put_aside(&to, aside)?;
        }
        part.becomes(&to)?;
        restored.push(Restored { from, to, form, aside });
    }
    Ok(restored)
}

/// A name that nothing has: the end may be there from a restore within the same second.
fn free(path: &Path, end: &str) -> PathBuf {
    let more = (2..u32::MAX).map(|n| beside(path, &format!("{end}-{n}")));
    std::iter::once(beside(path, end)).chain(more).find(|path| !path.exists()).unwrap_or_else(|| beside(path, end))
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
struct Part {
    path: PathBuf,
    /// Locked for as long as it is written: what another run has left is told from what it is writing.
    _file: File,
}

impl Part {
    /// An empty one. Whoever may not read the database may not read its copy, nor the beginning of it.
    fn new(of: &Path, like: &Path) -> Result<Self, BackupError> {
        let path = beside(of, ".part");
        if let Ok(left) = File::open(&path) {
            if matches!(left.try_lock(), Err(TryLockError::WouldBlock)) {
                return Err(BackupError::UnderWay(of.into()));
            }
            // Of a run that was killed.
            let _ = fs::remove_file(&path);
        }
        let make = || {
            let like = fs::metadata(like)?;
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.set_permissions(like.permissions())?;
            // A file system without locks is no reason to make no copy.
            let _ = file.try_lock();
            Ok::<_, io::Error>(file)
        };
        match make() {
            Ok(file) => Ok(Self { path, _file: file }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::UnderWay(of.into())),
            Err(source) => Err(BackupError::Write { path, source }),
        }
    }

    fn becomes(self, path: &Path) -> Result<(), BackupError> {
        let failed = |source| BackupError::Write { path: path.into(), source };
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&self.path, path).map_err(failed)?;
        File::open(directory(path)).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        for end in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&self.path, end));
        }
    }
}

fn open(path: &Path) -> Result<Connection, BackupError> {
    if !path.is_file() {
        return Err(BackupError::Missing(path.into()));
    }
    let failed = |e: rusqlite::Error| BackupError::Database { path: path.into(), source: e.into() };
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    Ok(db)
}

fn form(db: &Connection, path: &Path, of: &Database) -> Result<i64, BackupError> {
    let damaged = |e: rusqlite::Error| BackupError::Damaged { path: path.into(), found: e.to_string() };
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(damaged)?;
    let known = of.newest;
    let ours = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?";
    let ours: i64 = db.query_row(ours, [of.table], |row| row.get(0)).map_err(damaged)?;
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

/// Looks through all of a copy. Gives its bytes.
fn check(path: &Path) -> Result<u64, BackupError> {
    let damaged = |found: String| BackupError::Damaged { path: path.into(), found };
    let found: Result<String, _> = open(path)?.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    match found.map_err(|e| damaged(e.to_string()))? {
        found if found != "ok" => Err(damaged(found)),
        _ => Ok(fs::metadata(path).map_err(|source| BackupError::Write { path: path.into(), source })?.len()),
    }
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

    fn back(copy: &Path, path: &Path) -> Result<Restored, BackupError> {
        let store = Database { path: path.into(), suffix: "", table: "ledger", newest: schema::NEWEST, needed: true };
        restore(&[store], &Target::of(copy), true, "now").map(|mut all| all.remove(0))
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
            assert!(words < 100, "it begins anew with each commit");
            note(&path, "new");
        })
        .unwrap();
        assert!(words >= 3, "it came in one piece: {words}");
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
        assert!(matches!(back(&copy, &path), Err(BackupError::InUse(_))));
        assert_eq!(notes(&path), ["one", "two"]);
        // Killed: its write-ahead log stays beside the database.
        let wal = beside(&path, "-wal");
        let other = Connection::open(&path).unwrap();
        note(&path, "three");
        let (main, log) = (fs::read(&path).unwrap(), fs::read(&wal).unwrap());
        drop((hub, other));
        fs::write(&path, main).unwrap();
        fs::write(&wal, log).unwrap();
        let Restored { aside, .. } = back(&copy, &path).unwrap();
        assert_eq!(notes(&path), ["one"], "and nothing of the old log");
        assert_eq!(notes(&aside.unwrap()), ["one", "two", "three"]);
    }

    #[test]
    fn restores_within_one_second_each_keep_what_was_there() {
        let (directory, path) = temp();
        drop(Sqlite::open(&path).unwrap());
        let copy = directory.path().join("copy");
        backup(&path, &copy, |_| {}).unwrap();
        let kept: Vec<_> = ["one", "two", "three"]
            .map(|what| {
                note(&path, what);
                (what, back(&copy, &path).unwrap().aside.unwrap())
            })
            .into();
        for (what, aside) in kept {
            assert_eq!(notes(&aside), [what], "{}", aside.display());
        }
        assert_eq!(notes(&path), Vec::<String>::new());
    }

    #[test]
    fn two_backups_to_one_file_do_not_write_into_one_another_and_what_a_killed_one_left_is_in_nobodys_way() {
        let (directory, path) = temp();
        drop(Sqlite::open(&path).unwrap());
        let to = directory.path().join("copy");
        fs::write(beside(&to, ".part"), "of a run that was killed").unwrap();
        let mut looked = 0;
        let first = backup(&path, &to, |_| {
            looked += 1;
            let told = backup(&path, &to, |_| {}).unwrap_err();
            assert!(matches!(told, BackupError::UnderWay(_)), "{told}");
        });
        assert!(first.is_ok() && looked > 0);
        check(&to).unwrap();
        assert!(!beside(&to, ".part").exists());
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
            let error = back(&bad, &path).unwrap_err();
            assert!(matches!(error, BackupError::Damaged { .. } | BackupError::Database { .. }), "{error}");
        }
        let foreign = directory.path().join("foreign");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        assert!(matches!(back(&foreign, &path), Err(BackupError::NotOurs { .. })));
        Connection::open(&copy).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let told = back(&copy, &path).unwrap_err().to_string();
        assert!(told.contains("form 99") && told.contains("with the program that wrote it"), "{told}");
        assert_eq!(notes(&path), ["one"]);
    }

    #[test]
    fn files_that_belong_together_go_back_together_or_not_at_all() {
        let (directory, path) = temp();
        let other = directory.path().join("other.sqlite");
        drop(Sqlite::open(&path).unwrap());
        note(&path, "one");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE users (name); PRAGMA user_version = 3").unwrap();
        let needed = Database { path: path.clone(), suffix: "", table: "ledger", newest: schema::NEWEST, needed: true };
        let mut all =
            [needed.clone(), Database { path: other.clone(), suffix: ".access", table: "users", newest: 3, ..needed }];
        all[1].needed = false;
        let target = Target::new(&directory.path().join("copies/"), "now").unwrap();
        for database in &all {
            backup(&database.path, &target.file(database.suffix), |_| {}).unwrap();
        }
        note(&path, "two");
        all[1].newest = 2;
        fs::rename(&other, directory.path().join("gone")).unwrap();
        assert!(matches!(restore(&all, &target, true, "now"), Err(BackupError::Newer { .. })));
        assert_eq!(notes(&path), ["one", "two"], "the other could not be used, so neither was");
        all[1].newest = 3;
        assert_eq!(restore(&all, &target, true, "now").unwrap().len(), 2);
        assert_eq!(notes(&path), ["one"]);
        assert_eq!(restore(&all, &target, true, "again").unwrap().len(), 1, "what there is already stays as it is");
        fs::remove_file(target.file(".access")).unwrap();
        assert_eq!(restore(&all, &target, true, "later").unwrap().len(), 1, "what need not be there is left as it is");
    }
}
