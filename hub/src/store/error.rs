//! Why a store could not do something.

/// The store could not do it. Nothing of the call was kept, nothing of it was confirmed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room.
    #[error("the disk of the database is full: make room, and it goes on by itself")]
    Full,
    /// Another program writes.
    #[error("the database is locked by another program: it goes on by itself when that lets it go")]
    Locked,
    /// It takes nothing: a standby, or told to take nothing.
    #[error("the database is read-only: make it writable, or point `url` at the primary, and it goes on by itself")]
    ReadOnly,
    /// There is no server, or it does not answer.
    #[error("{database} cannot be reached: {why}; it goes on by itself when it can")]
    Unreachable {
        /// Where it should be, without a password.
        database: String,
        /// Why.
        why: String,
    },
    /// The database said no: the file is damaged, or the disk. The driver's own error.
    #[error("database: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It works, and does not take what it was given. Why, without what that was.
    #[error("the database refuses what is in it: {0}")]
    Refused(String),
    /// What is written no longer goes to where the database is looked for.
    #[error(
        "the database is no longer at {path}: put the file back, and it goes on by itself; if another is to be there, restart the hub"
    )]
    Elsewhere {
        /// Where it should be.
        path: std::path::PathBuf,
    },
    /// Something in the database is not what this program wrote.
    #[error("database holds {0}")]
    Content(String),
    /// It is something else's; nothing in it was changed.
    #[error(
        "the file is no database of a hub: name another in [store] path, or put a backup in its place (speedwell-hub restore \
         --replace)"
    )]
    Foreign,
    /// A newer program has written it.
    #[error("database has form {found}, this program knows up to {known}: it is older than the one that wrote it")]
    Newer {
        /// Its form.
        found: i64,
        /// The newest known.
        known: i64,
    },
    /// A hub uses it, or it is being restored.
    #[error("in use by another of our programs, a hub or a restore: stop that first")]
    InUse {
        /// The database.
        path: std::path::PathBuf,
    },
    /// The file that says who uses the database.
    #[error("{path}: cannot be locked: {source}; the hub needs to write in the directory of its database")]
    Lock {
        /// That file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The directory could not be made.
    #[error("cannot make {path}: {source}")]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether it lies in what was handed in, or in the rows that belong to it: the same again fails again, and anything
    /// else may well be taken. All else passes, or somebody has to see to it, and is worth waiting for.
    pub fn is_of_the_data(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Content(_))
    }
}
