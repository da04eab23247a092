//! Who did what, when, and from where.

use rusqlite::{Connection, params};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Book, BookError, By, now_s};

/// Notes of one answer.
pub const MAX_AUDIT_PAGE: usize = 1000;
/// What is told of one change.
const MAX_DETAIL: usize = 500;
/// Notes are kept for a year,
const KEPT_S: i64 = 366 * 86_400;
/// but no more than a million, some 200 MB,
const MAX_NOTES: i64 = 1_000_000;
/// and of refused logins no more than these: whoever guesses passwords must not push out what else was noted.
const MAX_REFUSED: i64 = 50_000;

/// One change, or one refused login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Note {
    /// Counts up.
    pub id: i64,
    /// When, RFC 3339.
    pub at: String,
    /// A user, a key, the command line.
    pub who: String,
    /// An address, or `this machine`.
    pub origin: String,
    /// One word, as `user-added`.
    pub what: String,
    /// In words.
    pub detail: String,
}

/// Notes, the newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Of this page.
    pub notes: Vec<Note>,
    /// What to pass as `after` for older ones; `null` when there are none.
    pub next: Option<i64>,
}

impl Book {
    /// What happened, the newest first, before the note `after` of the page before.
    pub fn audit(&self, after: Option<i64>, limit: usize) -> Result<AuditPage, BookError> {
        let limit = limit.clamp(1, MAX_AUDIT_PAGE);
        let asked = "SELECT id, at_s, who, origin, what, detail FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
        let mut query = self.db.prepare_cached(asked)?;
        let rows = query.query_map(params![after.unwrap_or(i64::MAX), limit as u32], |row| {
            Ok(Note {
                id: row.get(0)?,
                at: utc(row.get(1)?),
                who: row.get(2)?,
                origin: row.get(3)?,
                what: row.get(4)?,
                detail: row.get(5)?,
            })
        })?;
        let notes = rows.collect::<Result<Vec<_>, _>>()?;
        let next = notes.last().filter(|_| notes.len() == limit).map(|last| last.id);
        Ok(AuditPage { notes, next })
    }

    /// Notes a change that is kept elsewhere.
    pub fn note(&mut self, by: &By, what: &str, detail: &str) -> Result<(), BookError> {
        write(&self.db, by, what, detail)
    }

    /// Lets go of what is old, and of what is too much.
    pub fn trim(&mut self) -> Result<(), BookError> {
        self.trim_to(now_s() - KEPT_S, MAX_NOTES, MAX_REFUSED)
    }

    fn trim_to(&mut self, from_s: i64, most: i64, most_refused: i64) -> Result<(), BookError> {
        self.db.execute("DELETE FROM audit WHERE at_s < ?1", [from_s])?;
        self.db.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?1", [most])?;
        self.db.execute(
            "DELETE FROM audit WHERE what = 'login-refused' AND id <=
             (SELECT id FROM audit WHERE what = 'login-refused' ORDER BY id DESC LIMIT 1 OFFSET ?1)",
            [most_refused],
        )?;
        Ok(())
    }
}

pub(super) fn write(db: &Connection, by: &By, what: &str, detail: &str) -> Result<(), BookError> {
    let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect::<String>();
    let query = "INSERT INTO audit (at_s, who, origin, what, detail) VALUES (?1, ?2, ?3, ?4, ?5)";
    let with = params![now_s(), short(&by.who), short(&by.origin), short(what), short(detail)];
    db.prepare_cached(query)?.execute(with)?;
    Ok(())
}

/// RFC 3339.
pub(super) fn utc(s: i64) -> String {
    jiff::Timestamp::from_second(s).map(|t| t.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_page_by_page_and_what_is_too_much_is_let_go() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = Book::open(&directory.path().join("a")).unwrap();
        let by = By::command_line();
        for n in 0..20 {
            book.note(&by, "vehicle-changed", &format!("truck-{n}\n")).unwrap();
            book.refuse_login("203.0.113.7", None).unwrap();
        }
        let first = book.audit(None, 15).unwrap();
        assert_eq!((first.notes.len(), first.notes[1].detail.as_str()), (15, "truck-19"));
        let second = book.audit(first.next, 1000).unwrap();
        assert_eq!((second.notes.len(), second.next), (25, None));
        assert!(second.notes[0].id < first.notes[14].id);
        book.trim_to(0, 30, 5).unwrap();
        let left = book.audit(None, 1000).unwrap().notes;
        assert_eq!(left.iter().filter(|note| note.what == "login-refused").count(), 5);
        assert_eq!(left.len(), 20);
        book.trim_to(i64::MAX, 30, 5).unwrap();
        assert!(book.audit(None, 10).unwrap().notes.is_empty());
    }
}
