//! People.

use rusqlite::{Connection, params};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Book, BookError, By, count, now_s, one};
use crate::access::{Role, password};

/// More people than look after any fleet.
pub const MAX_USERS: usize = 1000;
const MAX_NAME: usize = 64;

/// A person who may log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    /// Whom.
    pub name: String,
    /// What for.
    pub role: Role,
    /// When made, RFC 3339.
    pub made: String,
    /// When the password was set.
    pub password_set: String,
    /// When last logged in.
    pub last_login: Option<String>,
}

/// A name as it is kept: in small letters, so that nobody can be taken for another.
pub fn checked_name(name: &str) -> Result<String, BookError> {
    let small = name.trim().to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = (1..=MAX_NAME).contains(&small.len())
        && small.starts_with(allowed)
        && small.chars().all(|c| allowed(c) || "._-@".contains(c));
    // What is no name may be a password that got into the wrong field, so little of it is told.
    good.then_some(small).ok_or_else(|| BookError::Name(name.chars().take(16).collect()))
}

impl Book {
    /// Everybody, by name.
    pub fn users(&self) -> Result<Vec<User>, BookError> {
        let mut query = self.db.prepare("SELECT name, role, made_s, password_s, login_s FROM users ORDER BY name")?;
        let rows = query.query_map([], |row| {
            let role: String = row.get(1)?;
            Ok(User {
                name: row.get(0)?,
                role: Role::of(&role).unwrap_or(Role::Viewer),
                made: super::audit::utc(row.get(2)?),
                password_set: super::audit::utc(row.get(3)?),
                last_login: row.get::<_, Option<i64>>(4)?.map(super::audit::utc),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What is kept of a password.
    pub fn password(&self, name: &str) -> Result<Option<String>, BookError> {
        one(&self.db, "SELECT password FROM users WHERE name = ?1", [name])
    }

    /// Lets somebody in.
    pub fn add_user(&mut self, by: &By, name: &str, role: Role, password: &str) -> Result<(), BookError> {
        let name = checked_name(name)?;
        password::check(&name, password)?;
        self.add_hashed(by, &name, role, &password::hash(password)?)
    }

    /// The same, when the password was checked and hashed elsewhere.
    pub(crate) fn add_hashed(&mut self, by: &By, name: &str, role: Role, hash: &str) -> Result<(), BookError> {
        self.change(by, |tx| {
            if exists(tx, name)? {
                return Err(BookError::Taken("user", name.into()));
            }
            if count(tx, "SELECT count(*) FROM users")? >= MAX_USERS {
                return Err(BookError::Full("users", MAX_USERS));
            }
            let now = now_s();
            tx.execute(
                "INSERT INTO users (name, role, password, made_s, password_s) VALUES (?1, ?2, ?3, ?4, ?4)",
                params![name, role.name(), hash, now],
            )?;
            Ok(((), "user-added", format!("{name} as {role}")))
        })
    }

    /// Gives another password, and ends what was begun with the old one.
    pub fn set_password(&mut self, by: &By, name: &str, password: &str) -> Result<(), BookError> {
        let name = checked_name(name)?;
        password::check(&name, password)?;
        self.set_hashed(by, &name, &password::hash(password)?)
    }

    pub(crate) fn set_hashed(&mut self, by: &By, name: &str, hash: &str) -> Result<(), BookError> {
        self.change(by, |tx| {
            let changed = tx.execute(
                "UPDATE users SET password = ?2, password_s = ?3 WHERE name = ?1",
                params![name, hash, now_s()],
            )?;
            known(changed, name)?;
            let ended = tx.execute("DELETE FROM sessions WHERE user = ?1", [name])?;
            Ok(((), "password-changed", format!("{name}; {ended} sessions ended")))
        })
    }

    /// Gives another role. `keep_one`: one administrator has to be left.
    pub fn set_role(&mut self, by: &By, name: &str, role: Role, keep_one: bool) -> Result<(), BookError> {
        let name = checked_name(name)?;
        self.change(by, |tx| {
            if keep_one && role != Role::Admin {
                not_last(tx, &name)?;
            }
            known(tx.execute("UPDATE users SET role = ?2 WHERE name = ?1", params![name, role.name()])?, &name)?;
            Ok(((), "role-changed", format!("{name} to {role}")))
        })
    }

    /// Lets somebody in no more, at once.
    pub fn remove_user(&mut self, by: &By, name: &str, keep_one: bool) -> Result<(), BookError> {
        let name = checked_name(name)?;
        self.change(by, |tx| {
            if keep_one {
                not_last(tx, &name)?;
            }
            known(tx.execute("DELETE FROM users WHERE name = ?1", [&name])?, &name)?;
            Ok(((), "user-removed", name.clone()))
        })
    }
}

fn exists(db: &Connection, name: &str) -> Result<bool, BookError> {
    Ok(one::<i64>(db, "SELECT 1 FROM users WHERE name = ?1", [name])?.is_some())
}

fn known(changed: usize, name: &str) -> Result<(), BookError> {
    if changed == 0 { Err(BookError::Unknown("user", name.into())) } else { Ok(()) }
}

fn not_last(db: &Connection, name: &str) -> Result<(), BookError> {
    let last = "SELECT 1 WHERE (SELECT group_concat(name, ' ') FROM users WHERE role = 'admin') = ?1";
    match one::<i64>(db, last, [name])? {
        Some(_) => Err(BookError::LastAdministrator(name.into())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_in_small_letters_and_what_is_none_is_not_told_whole() {
        assert_eq!(checked_name(" Anna.B@fleet ").unwrap(), "anna.b@fleet");
        for bad in ["", "-anna", "anna b", "änna", &"a".repeat(65)] {
            assert!(checked_name(bad).is_err(), "{bad}");
        }
        let told = checked_name("my secret passphrase is long").unwrap_err().to_string();
        assert!(!told.contains("passphrase"), "{told}");
    }

    #[test]
    fn the_last_administrator_stays_one_unless_the_command_line_says_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = Book::open(&directory.path().join("a")).unwrap();
        let by = By::command_line();
        book.add_user(&by, "anna", Role::Admin, "correct horse battery").unwrap();
        book.add_user(&by, "bert", Role::Viewer, "correct horse battery").unwrap();
        assert!(matches!(book.remove_user(&by, "anna", true), Err(BookError::LastAdministrator(_))));
        assert!(matches!(book.set_role(&by, "anna", Role::Viewer, true), Err(BookError::LastAdministrator(_))));
        assert!(matches!(book.remove_user(&by, "carl", true), Err(BookError::Unknown(..))));
        book.set_role(&by, "bert", Role::Admin, true).unwrap();
        book.remove_user(&by, "anna", true).unwrap();
        book.remove_user(&by, "bert", false).unwrap();
        assert!(book.users().unwrap().is_empty() && !book.anybody().unwrap());
    }
}
