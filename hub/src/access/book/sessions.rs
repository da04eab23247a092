//! Sessions, and what of sessions and keys is known in memory.

use rusqlite::{TransactionBehavior, params};

use super::{Book, BookError, By, audit, count, now_s};
use crate::access::{Role, Scopes, token::Hash};

/// Of all users; the one that was used least recently makes room.
pub const MAX_SESSIONS: usize = 10_000;
/// Of one user: a phone, a desk, a wall, and what was never logged out of.
const MAX_OF_USER: usize = 50;

/// A session or a key, as it is known in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassRow {
    /// A person's.
    Session {
        /// Whose.
        user: String,
        /// What for.
        role: Role,
        /// When made.
        made_s: i64,
        /// When last used.
        seen_s: i64,
    },
    /// A program's.
    Key {
        /// What it is listed by.
        id: String,
        /// What it is called.
        name: String,
        /// What for.
        scopes: Scopes,
        /// When it ends.
        until_s: Option<i64>,
        /// When last used.
        seen_s: i64,
    },
}

impl Book {
    /// Begins a session. Gives whose it is now, unless the user was removed meanwhile.
    pub fn begin_session(&mut self, by: &By, user: &str, hash: &Hash) -> Result<Option<Role>, BookError> {
        let now = now_s();
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let role = super::one::<String>(&tx, "SELECT role FROM users WHERE name = ?1", [user])?;
        let Some(role) = role.and_then(|role| Role::of(&role)) else { return Ok(None) };
        tx.execute(
            "INSERT INTO sessions (hash, user, made_s, seen_s) VALUES (?1, ?2, ?3, ?3)",
            params![hash, user, now],
        )?;
        tx.execute("UPDATE users SET login_s = ?2 WHERE name = ?1", params![user, now])?;
        tx.execute(
            "DELETE FROM sessions WHERE hash IN
             (SELECT hash FROM sessions WHERE user = ?1 ORDER BY seen_s DESC, rowid DESC LIMIT -1 OFFSET ?2)",
            params![user, MAX_OF_USER as u32],
        )?;
        if count(&tx, "SELECT count(*) FROM sessions")? > MAX_SESSIONS {
            tx.execute("DELETE FROM sessions WHERE hash = (SELECT hash FROM sessions ORDER BY seen_s LIMIT 1)", [])?;
        }
        audit::write(&tx, by, "login", user)?;
        tx.commit()?;
        Ok(Some(role))
    }

    /// Ends one.
    pub fn end_session(&mut self, by: &By, hash: &Hash) -> Result<(), BookError> {
        self.change(by, |tx| {
            tx.execute("DELETE FROM sessions WHERE hash = ?1", [hash])?;
            Ok(((), "logout", String::new()))
        })
    }

    /// Says that somebody could not log in. Whom he gave himself out for is told when there is such a user: what else
    /// is typed there may be a password.
    pub fn refuse_login(&mut self, origin: &str, user: Option<&str>) -> Result<(), BookError> {
        let by = By { who: "nobody".into(), origin: origin.into() };
        self.change(&by, |_| Ok(((), "login-refused", user.unwrap_or("an unknown name").to_owned())))
    }

    /// Everything that lets somebody in now. Sessions not used since `idle_from_s` or made before `made_from_s` are
    /// removed.
    pub fn passes(&mut self, idle_from_s: i64, made_from_s: i64) -> Result<Vec<(Hash, PassRow)>, BookError> {
        let ended = "DELETE FROM sessions WHERE seen_s < ?1 OR made_s < ?2";
        self.db.execute(ended, [idle_from_s, made_from_s])?;
        let asked = "SELECT s.hash, s.user, u.role, s.made_s, s.seen_s FROM sessions s JOIN users u ON u.name = s.user";
        let mut query = self.db.prepare_cached(asked)?;
        let sessions = query.query_map([], |row| {
            let role: String = row.get(2)?;
            let role = Role::of(&role).unwrap_or(Role::Viewer);
            Ok((row.get(0)?, PassRow::Session { user: row.get(1)?, role, made_s: row.get(3)?, seen_s: row.get(4)? }))
        })?;
        let mut all = sessions.collect::<Result<Vec<_>, _>>()?;
        let mut query = self.db.prepare_cached("SELECT hash, id, name, scopes, until_s, seen_s FROM keys")?;
        let keys = query.query_map([], |row| {
            let scopes: String = row.get(3)?;
            let key = PassRow::Key {
                id: row.get(1)?,
                name: row.get(2)?,
                scopes: Scopes::parse(&scopes),
                until_s: row.get(4)?,
                seen_s: row.get::<_, Option<i64>>(5)?.unwrap_or_default(),
            };
            Ok((row.get(0)?, key))
        })?;
        for key in keys {
            all.push(key?);
        }
        Ok(all)
    }

    /// Writes when sessions and keys were last used.
    pub fn seen(&mut self, seen: &[(Hash, i64)]) -> Result<(), BookError> {
        let tx = self.db.transaction()?;
        for (hash, at_s) in seen {
            for query in [
                "UPDATE sessions SET seen_s = max(seen_s, ?2) WHERE hash = ?1",
                "UPDATE keys SET seen_s = max(coalesce(seen_s, 0), ?2) WHERE hash = ?1",
            ] {
                tx.prepare_cached(query)?.execute(params![hash, at_s])?;
            }
        }
        Ok(tx.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_oldest_session_makes_room_and_removing_the_user_ends_all() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = Book::open(&directory.path().join("a")).unwrap();
        let by = By::command_line();
        book.add_user(&by, "anna", Role::Admin, "correct horse battery").unwrap();
        for n in 0..60u8 {
            assert_eq!(book.begin_session(&by, "anna", &[n; 32]).unwrap(), Some(Role::Admin));
        }
        let left = book.passes(0, 0).unwrap();
        assert_eq!(left.len(), MAX_OF_USER);
        assert!(!left.iter().any(|(hash, _)| *hash == [0; 32]) && left.iter().any(|(hash, _)| *hash == [59; 32]));
        book.remove_user(&by, "anna", false).unwrap();
        assert!(book.passes(0, 0).unwrap().is_empty());
        assert_eq!(book.begin_session(&by, "anna", &[0; 32]).unwrap(), None);
    }
}
