//! Who may do what, on disk: a SQLite file of its own, so that it is the same beside a PostgreSQL store, survives a store
//! that is restored from a copy, and can be kept from those who may read measurements.
//!
//! ```text
//! users      name, role, password as Argon2id
//! sessions   SHA-256 of a token, whose it is, when it was made and last used
//! keys       id, name, SHA-256, scopes, when it ends, when it was last used
//! audit      who did what, when, from where
//! ```
//! WAL with `synchronous=FULL`: a revocation that was told is on disk. Only this folder and the store's know `rusqlite`.
//! The command line and a running hub open the same file; [`Book::version`] tells the one that the other wrote.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use super::{password::PasswordError, token::NoRandomness};

mod audit;
mod keys;
mod sessions;
mod users;

pub use audit::{AuditPage, MAX_AUDIT_PAGE, Note};
pub use keys::{Key, MAX_KEYS, NewKey};
pub use sessions::{MAX_SESSIONS, PassRow};
pub use users::{MAX_USERS, User, checked_name};

/// The other of hub and command line may be writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Counts the form of the file; written steps are never changed.
const STEPS: [&str; 1] = [FIRST];
/// The form that this program writes, and the newest it reads.
pub const FORM: i64 = STEPS.len() as i64;

const FIRST: &str = "
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    made_s INTEGER NOT NULL,
    password_s INTEGER NOT NULL,
    login_s INTEGER
) STRICT;
CREATE TABLE sessions (
    hash BLOB PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    made_s INTEGER NOT NULL,
    seen_s INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_of_user ON sessions (user, seen_s);
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    made_s INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    until_s INTEGER,
    seen_s INTEGER
) STRICT;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_s INTEGER NOT NULL,
    who TEXT NOT NULL,
    origin TEXT NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX audit_at ON audit (at_s);
CREATE INDEX audit_refused ON audit (id) WHERE what = 'login-refused';
";

/// Why something is not in the book now.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The name cannot be one.
    #[error("{0:?} cannot be a name: wanted 1 to 64 of a-z 0-9 . _ - @, a letter or digit first")]
    Name(String),
    /// There is one of that name.
    #[error("there is a {0} of the name {1:?} already")]
    Taken(&'static str, String),
    /// There is none.
    #[error("there is no {0} {1:?}")]
    Unknown(&'static str, String),
    /// Nobody could give rights any more.
    #[error("{0:?} is the last administrator: make another one first")]
    LastAdministrator(String),
    /// A bound of the book.
    #[error("there are {1} {0} already, which is the most; remove some first")]
    Full(&'static str, usize),
    /// A key that allows nothing, or has ended before it began.
    #[error("{0}")]
    Key(String),
    /// The password is not taken.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Nothing secret can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The file cannot be made or read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read what is in it.
    #[error("{path}: others than its owner may read or write it; run: chmod 600 {path}")]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// A newer hub wrote it.
    #[error("{path}: written by a newer speedwell-hub (form {found}, this one knows {known}): update this one")]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its form.
        found: usize,
        /// The newest form known.
        known: usize,
    },
    /// SQLite failed.
    #[error("the file of users and keys: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Whoever changes something, for the audit.
#[derive(Clone, Debug)]
pub struct By {
    /// A user, a key, or the command line.
    pub who: String,
    /// An address, or `this machine`.
    pub origin: String,
}

impl By {
    /// Whoever has a shell on the hub's machine.
    pub fn command_line() -> By {
        let uid = rustix::process::getuid().as_raw();
        By { who: format!("command line (user id {uid})"), origin: "this machine".into() }
    }
}

/// The open file.
pub struct Book {
    db: Connection,
}

impl Book {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Book, BookError> {
        make(path)?;
        let mut db =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "foreign_keys", true)?;
        migrate(&mut db, path)?;
        Ok(Book { db })
    }

    /// Whether there is a user or a key. A key that has ended counts: a hub does not open because of that. A file that is
    /// not there has nobody in it, and none is made.
    pub fn has_anybody(path: &Path) -> Result<bool, BookError> {
        match path.try_exists() {
            Ok(false) => Ok(false),
            _ => Book::open(path)?.anybody(),
        }
    }

    /// See [`Book::has_anybody`].
    pub fn anybody(&self) -> Result<bool, BookError> {
        let asked = "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM keys)";
        Ok(self.db.prepare_cached(asked)?.query_row([], |row| row.get(0))?)
    }

    /// A number that is another one after somebody else wrote into the file.
    pub fn version(&self) -> Result<i64, BookError> {
        Ok(self.db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
    }

    /// What changes is written together with who changed it, or neither is.
    fn change<T>(
        &mut self,
        by: &By,
        act: impl FnOnce(&Transaction<'_>) -> Result<(T, &'static str, String), BookError>,
    ) -> Result<T, BookError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (done, what, detail) = act(&tx)?;
        audit::write(&tx, by, what, &detail)?;
        tx.commit()?;
        Ok(done)
    }
}

/// Seconds of UTC.
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Makes an empty file that nobody else may read. Made by root it goes to whom its directory belongs: that is the hub,
/// which could not open it otherwise.
fn make(path: &Path) -> Result<(), BookError> {
    let failed = |source| BookError::File { path: path.into(), source };
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) if rustix::process::geteuid().is_root() => {
            let owner = fs::metadata(directory).map_err(failed)?;
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid())).map_err(failed)
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
            if mode & 0o077 == 0 { Ok(()) } else { Err(BookError::Open { path: path.into() }) }
        }
        Err(error) => Err(failed(error)),
    }
}

fn migrate(db: &mut Connection, path: &Path) -> Result<(), BookError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: usize = tx.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    if found > STEPS.len() {
        return Err(BookError::Newer { path: path.into(), found, known: STEPS.len() });
    }
    for step in STEPS.iter().skip(found) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", STEPS.len() as u32)?;
    Ok(tx.commit()?)
}

/// The one value a query gives, if it gives one.
fn one<T: rusqlite::types::FromSql>(
    db: &Connection,
    query: &str,
    with: impl rusqlite::Params,
) -> Result<Option<T>, BookError> {
    Ok(db.prepare_cached(query)?.query_row(with, |row| row.get(0)).optional()?)
}

fn count(db: &Connection, query: &str) -> Result<usize, BookError> {
    Ok(one::<u32>(db, query, [])?.unwrap_or_default() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;

    #[test]
    fn the_file_is_its_owners_alone_and_one_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.sqlite");
        let mut book = Book::open(&path).unwrap();
        book.add_user(&By::command_line(), "anna", Role::Admin, "correct horse battery").unwrap();
        for file in fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
        drop(book);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let told = Book::open(&path).err().unwrap().to_string();
        assert!(told.contains("chmod 600"), "{told}");
    }

    #[test]
    fn a_file_of_a_newer_hub_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.sqlite");
        drop(Book::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Book::open(&path).err().unwrap(), BookError::Newer { found: 99, .. }));
    }

    #[test]
    fn what_somebody_else_writes_changes_the_version() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.sqlite");
        let (book, mut other) = (Book::open(&path).unwrap(), Book::open(&path).unwrap());
        let before = book.version().unwrap();
        assert_eq!(book.version().unwrap(), before);
        other.add_user(&By::command_line(), "anna", Role::Admin, "correct horse battery").unwrap();
        assert_ne!(book.version().unwrap(), before);
    }
}
