//! Keys of programs.

use rusqlite::params;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Book, BookError, By, audit::utc, checked_name, count, now_s, one};
use crate::access::{Scope, Scopes, token};

/// A key for each of more gateways than one hub has.
pub const MAX_KEYS: usize = 10_000;

/// A program's key, without what it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Key {
    /// How it begins, and what it is revoked by.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When made, RFC 3339.
    pub made: String,
    /// By whom.
    pub made_by: String,
    /// When it ends, if ever.
    pub expires: Option<String>,
    /// When last used, to the minute.
    pub last_used: Option<String>,
}

/// A key that is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// What it allows.
    pub scopes: Scopes,
    /// When it ends, seconds of UTC.
    pub until_s: Option<i64>,
}

impl Book {
    /// All, by name.
    pub fn keys(&self) -> Result<Vec<Key>, BookError> {
        let asked = "SELECT id, name, scopes, made_s, made_by, until_s, seen_s FROM keys ORDER BY name";
        let mut query = self.db.prepare_cached(asked)?;
        let rows = query.query_map([], |row| {
            let scopes: String = row.get(2)?;
            Ok(Key {
                id: row.get(0)?,
                name: row.get(1)?,
                scopes: Scopes::parse(&scopes).list(),
                made: utc(row.get(3)?),
                made_by: row.get(4)?,
                expires: row.get::<_, Option<i64>>(5)?.map(utc),
                last_used: row.get::<_, Option<i64>>(6)?.map(utc),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Makes one. Gives its id and the key itself, which nobody will see again.
    pub fn add_key(&mut self, by: &By, new: &NewKey) -> Result<(String, String), BookError> {
        let (name, now) = (checked_name(&new.name)?, now_s());
        if new.scopes == Scopes::default() {
            return Err(BookError::Key("a key without a scope allows nothing: name read, ingest or admin".into()));
        }
        if let Some(until) = new.until_s.filter(|until| *until <= now) {
            return Err(BookError::Key(format!("the key would have ended already, at {}", utc(until))));
        }
        let (id, key) = token::key()?;
        let hash = token::hash(&key).unwrap_or_default();
        self.change(by, |tx| {
            if one::<i64>(tx, "SELECT 1 FROM keys WHERE name = ?1", [&name])?.is_some() {
                return Err(BookError::Taken("key", name.clone()));
            }
            if count(tx, "SELECT count(*) FROM keys")? >= MAX_KEYS {
                return Err(BookError::Full("keys", MAX_KEYS));
            }
            tx.execute(
                "INSERT INTO keys (id, name, hash, scopes, made_s, made_by, until_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![id, name, hash, new.scopes.to_string(), now, by.who, new.until_s],
            )?;
            let until = new.until_s.map_or_else(|| "without end".into(), |until| format!("until {}", utc(until)));
            Ok(((), "key-added", format!("{id} {name:?} for {}, {until}", new.scopes)))
        })?;
        Ok((id, key))
    }

    /// Ends one at once, by its id or its name. Gives its id.
    pub fn revoke_key(&mut self, by: &By, which: &str) -> Result<String, BookError> {
        self.change(by, |tx| {
            let found = "SELECT id FROM keys WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC";
            let id: String =
                one(tx, found, [which])?.ok_or_else(|| BookError::Unknown("key", which.chars().take(64).collect()))?;
            let name: Option<String> = one(tx, "SELECT name FROM keys WHERE id = ?1", [&id])?;
            tx.execute("DELETE FROM keys WHERE id = ?1", [&id])?;
            let detail = format!("{id} {:?}", name.unwrap_or_default());
            Ok((id, "key-revoked", detail))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_listed_without_its_secret_and_is_nowhere_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = Book::open(&directory.path().join("a")).unwrap();
        let by = By::command_line();
        let new =
            |name: &str, scopes: &str, until_s| NewKey { name: name.into(), scopes: Scopes::parse(scopes), until_s };
        let (id, key) = book.add_key(&by, &new("trackers", "ingest", None)).unwrap();
        assert!(matches!(book.add_key(&by, &new("trackers", "read", None)), Err(BookError::Taken(..))));
        assert!(matches!(book.add_key(&by, &new("b", "", None)), Err(BookError::Key(_))));
        assert!(matches!(book.add_key(&by, &new("b", "read", Some(1))), Err(BookError::Key(_))));
        let told = format!("{:?} {:?}", book.keys().unwrap(), book.audit(None, 10).unwrap());
        assert!(told.contains(&id) && !told.contains(&key), "{told}");
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let secret = key.rsplit('_').next().unwrap().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        }
        assert_eq!(book.revoke_key(&by, "trackers").unwrap(), id);
        assert!(matches!(book.revoke_key(&by, &id), Err(BookError::Unknown(..))));
    }
}
