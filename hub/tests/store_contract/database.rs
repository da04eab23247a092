//! A database of either kind, empty, gone with the test.

use std::path::Path;

use speedwell_hub::store::{Postgres, Sqlite, Store, StoreError};

use crate::rig::postgres::Cluster;

pub enum Database {
    Sqlite(tempfile::TempDir),
    Postgres { cluster: &'static Cluster, url: String },
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub fn postgres() -> Self {
        let cluster = Cluster::shared();
        Self::Postgres { cluster, url: cluster.database() }
    }

    /// A path or an address.
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite(directory) => directory.path().join("made/on/the/way/hub.sqlite").display().to_string(),
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    pub fn open(&self) -> Box<dyn Store> {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<Box<dyn Store>, StoreError> {
        try_open(&self.place(), None)
    }

    pub fn keeping(&self, days: u32) -> Box<dyn Store> {
        try_open(&self.place(), Some(days)).unwrap()
    }

    /// What somebody else says to it.
    pub fn sql(&self, sqlite: &str, postgres: &str) {
        match self {
            Self::Sqlite(_) => rusqlite::Connection::open(self.place()).unwrap().execute_batch(sqlite).unwrap(),
            Self::Postgres { cluster, url } => _ = cluster.sql(url, postgres),
        }
    }
}

pub fn try_open(place: &str, days: Option<u32>) -> Result<Box<dyn Store>, StoreError> {
    match place.starts_with("postgres://") {
        true => Ok(Box::new(Postgres::open(place, None, None)?.keep_days(days))),
        false => Ok(Box::new(Sqlite::open(Path::new(place))?.keep_days(days))),
    }
}
