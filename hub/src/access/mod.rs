//! Who may do what.
//!
//! In      tokens and keys, names and passwords, and from which address; changes of who may what.
//! Out     a [`Who`] for whoever is known, and what a route asks of him ([`rules`]); refusals that say what lacks.
//! Keeps   the [`book`] on disk; in memory every session and key that lets somebody in, so that a request costs a hash
//!         and a look into a table: at most [`book::MAX_SESSIONS`] and [`book::MAX_KEYS`].
//! Imports `config` (`[access]`).
//!
//! A hub with neither users nor keys asks nobody and serves its own machine only. With the first of them it asks, at
//! once, and does not cease to while it runs. A revocation made through the hub takes effect before it is answered, and
//! one made by the command line within [`LOOK_EVERY`]; streams that are open end with their next beat.
//! Nothing secret is told in logs, errors or the audit.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::interval,
};

mod attempts;
pub mod book;
mod login;
mod password;
mod peers;
mod rate;
pub mod rules;
mod token;
mod who;
mod words;

pub use book::{Book, BookError, By, NewKey, now_s};
pub use login::{AccessError, Login};
pub use password::{MIN_CHARS, PasswordError};
pub use peers::{Network, client, trusted};
pub use who::{Via, Who};
pub use words::{Need, Role, Scope, Scopes};

use crate::config;
use attempts::Attempts;
use rate::{Rate, Strangers};
use token::Hash;
use who::Pass;

/// How soon what the command line wrote is seen.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When a session or key was last used is written so seldom.
const SEEN_WITHIN_S: i64 = 60;
/// How often old notes are let go, in looks.
const TRIM_EVERY: u64 = 3600;
/// Passwords looked at at once: each takes 19 MiB and a core for a while.
const PASSWORDS: usize = 2;
/// Those that wait for it; one more is told to come later.
const PASSWORDS_WAITING: usize = 32;

/// Users, keys and sessions of a running hub.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    book: Mutex<Book>,
    known: RwLock<HashMap<Hash, Arc<Pass>>>,
    on: Arc<AtomicBool>,
    options: config::Access,
    rate: Rate,
    strangers: Strangers,
    began: Instant,
    attempts: Mutex<Attempts>,
    passwords: Semaphore,
    waiting: Semaphore,
}

/// Where changes are noted; see [`Audit::note`].
#[derive(Clone)]
pub struct Audit(Access);

impl Access {
    /// Opens the book, or makes it.
    pub fn open(path: &Path, options: config::Access) -> Result<Access, BookError> {
        let (book, began) = (Book::open(path)?, Instant::now());
        let strangers = Rate::per_second(options.stranger_requests_per_second.get());
        let access = Access(Arc::new(Inner {
            on: Arc::new(AtomicBool::new(options.required)),
            rate: Rate::per_second(options.requests_per_second.get()),
            strangers: Strangers::new(strangers, began),
            began,
            known: RwLock::default(),
            attempts: Mutex::default(),
            passwords: Semaphore::new(PASSWORDS),
            waiting: Semaphore::new(PASSWORDS_WAITING),
            book: Mutex::new(book),
            options,
        }));
        access.0.reload(&mut access.0.book())?;
        Ok(access)
    }

    /// Whether anybody is asked who he is.
    pub fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Acquire)
    }

    /// Whether there is a user or a key.
    pub fn anybody(&self) -> Result<bool, BookError> {
        self.0.book().anybody()
    }

    /// Whoever holds this token or key, if it lets him in now.
    pub fn resolve(&self, token: &str) -> Option<Who> {
        let hash = token::hash(token)?;
        let pass = self.0.known.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()?;
        pass.used(now_s()).then(|| Who::known(pass))
    }

    /// Whoever comes without one, on a hub that asks nobody.
    pub fn anyone(&self) -> Option<Who> {
        (!self.is_on()).then(|| Who::open(self.0.on.clone()))
    }

    /// Counts a request of somebody known, or says how long to wait.
    pub fn take(&self, who: &Who) -> Result<(), Duration> {
        let Some(pass) = who.pass() else { return Ok(()) };
        let now_ns = u64::try_from(self.0.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        pass.bucket.take(self.0.rate, now_ns)
    }

    /// Counts a request of somebody who is not known, or says how long to wait.
    pub fn take_stranger(&self, from: IpAddr) -> Result<(), Duration> {
        if self.is_on() { self.0.strangers.take(from) } else { Ok(()) }
    }

    /// Where others note what they changed.
    pub fn audit(&self) -> Audit {
        Audit(self.clone())
    }

    /// Asks the book.
    pub async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Book) -> Result<T, BookError> + Send + 'static,
    ) -> Result<T, AccessError> {
        let inner = self.0.clone();
        let told = spawn_blocking(move || ask(&mut inner.book()));
        Ok(told.await.map_err(|_| AccessError::Stopping)??)
    }

    /// Changes the book. The change holds for everybody when this returns.
    pub async fn change<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Book) -> Result<T, BookError> + Send + 'static,
    ) -> Result<T, AccessError> {
        let inner = self.0.clone();
        let done = spawn_blocking(move || {
            let mut book = inner.book();
            let done = act(&mut book);
            // Even a change that failed half way is looked at.
            inner.reload(&mut book)?;
            done
        });
        Ok(done.await.map_err(|_| AccessError::Stopping)??)
    }

    /// Looks after the book until told to stop: what others wrote, when passes were used, what is old.
    pub async fn look_after(self, mut stop: watch::Receiver<bool>) {
        let mut every = interval(LOOK_EVERY);
        let mut seen = None;
        for n in 0u64.. {
            let stopped = tokio::select! {
                _ = every.tick() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            let inner = self.0.clone();
            let looked = spawn_blocking(move || inner.look(seen, n, stopped)).await;
            match looked {
                Ok(Ok(version)) => seen = Some(version),
                Ok(Err(error)) => tracing::error!(%error, "users and keys cannot be looked after"),
                Err(_) => return,
            }
            if stopped {
                return;
            }
        }
    }
}

impl Audit {
    /// Notes that somebody changed something; `what` is one word, as `vehicle-changed`, and `detail` says which, without
    /// anything secret. A note that cannot be written is in the hub's log instead.
    pub async fn note(&self, who: &Who, what: &str, detail: &str) {
        let (by, what, detail) = (who.by(), what.to_owned(), detail.to_owned());
        let inner = self.0.0.clone();
        let noted = spawn_blocking(move || {
            inner.book().note(&by, &what, &detail).map_err(|error| tracing::error!(%error, who = by.who, what, detail))
        });
        // It was told already, or the hub is stopping.
        let _ = noted.await;
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_s(&self) -> i64 {
        self.options.session_idle_s.get().into()
    }

    fn longest_s(&self) -> i64 {
        self.options.session_longest_s.get().into()
    }

    /// Knows what the book says, no more and no less.
    fn reload(&self, book: &mut Book) -> Result<(), BookError> {
        let now = now_s();
        // What was used since it was last written counts too.
        self.write_seen(book, 0)?;
        let rows = book.passes(now - self.idle_s(), now - self.longest_s())?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = HashMap::with_capacity(rows.len());
        for (hash, row) in rows {
            let pass = match known.remove(&hash) {
                Some(pass) if pass.is(&row) => pass,
                other => {
                    // Whoever has another role now asks anew.
                    other.inspect(|pass| pass.revoke());
                    Arc::new(Pass::new(hash, row, self.idle_s(), self.longest_s()))
                }
            };
            new.insert(hash, pass);
        }
        known.values().for_each(|gone| gone.revoke());
        *known = new;
        drop(known);
        if book.anybody()? && !self.on.swap(true, Ordering::AcqRel) {
            tracing::info!("there is a user or a key: from now on everybody is asked who he is");
        }
        Ok(())
    }

    fn write_seen(&self, book: &mut Book, within_s: i64) -> Result<(), BookError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let late: Vec<(Arc<Pass>, i64)> =
            known.values().filter_map(|pass| Some((pass.clone(), pass.unwritten(within_s)?))).collect();
        drop(known);
        if !late.is_empty() {
            book.seen(&late.iter().map(|(pass, seen)| (pass.hash, *seen)).collect::<Vec<_>>())?;
            late.iter().for_each(|(pass, seen)| pass.written(*seen));
        }
        Ok(())
    }

    /// One look. Gives the version that was looked at.
    fn look(&self, seen: Option<i64>, n: u64, last: bool) -> Result<i64, BookError> {
        let mut book = self.book();
        let version = book.version()?;
        if seen.is_some_and(|seen| seen != version) {
            self.reload(&mut book)?;
        }
        self.write_seen(&mut book, if last { 0 } else { SEEN_WITHIN_S })?;
        if n.is_multiple_of(TRIM_EVERY) {
            book.trim()?;
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const GOOD: &str = "correct horse battery";

    fn access(directory: &tempfile::TempDir) -> Access {
        Access::open(&directory.path().join("access.sqlite"), config::Access::default()).unwrap()
    }

    #[tokio::test]
    async fn the_first_user_closes_the_hub_and_taking_him_away_does_not_open_it() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(&directory);
        let anyone = access.anyone().unwrap();
        assert!(anyone.valid() && anyone.may(Need::Change) && !anyone.may(Need::Admin));
        access.add_user(By::command_line(), "Anna".into(), Role::Admin, GOOD.into()).await.unwrap();
        assert!(access.is_on() && access.anyone().is_none() && !anyone.valid());
        access.change(|book| book.remove_user(&By::command_line(), "anna", false)).await.unwrap();
        assert!(access.is_on());
    }

    #[tokio::test]
    async fn a_session_ends_with_logout_with_another_password_with_another_role_and_with_the_user() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(&directory);
        let by = By::command_line;
        access.add_user(by(), "anna".into(), Role::Viewer, GOOD.into()).await.unwrap();
        assert!(matches!(access.login("anna", "wrong".into(), HERE).await, Err(AccessError::Wrong)));
        assert!(matches!(access.login("bert", GOOD.into(), HERE).await, Err(AccessError::Wrong)));
        for end in 0..4 {
            let password = if end < 2 { GOOD } else { "another horse battery" };
            let login = access.login(" ANNA", password.into(), HERE).await.unwrap();
            let who = access.resolve(&login.token).unwrap();
            assert!(who.valid() && who.user() == Some("anna"));
            match end {
                0 => access.logout(&who).await.unwrap(),
                1 => {
                    let new = "another horse battery".to_owned();
                    assert!(access.change_password(&who, "wrong".into(), new.clone()).await.is_err());
                    access.change_password(&who, GOOD.into(), new).await.unwrap();
                }
                2 => {
                    access.change(move |book| book.set_role(&by(), "anna", Role::Operator, true)).await.unwrap();
                    assert!(!who.valid(), "it had another role");
                    assert!(access.resolve(&login.token).unwrap().may(Need::Change), "the token is the same");
                    continue;
                }
                _ => access.change(move |book| book.remove_user(&by(), "anna", false)).await.unwrap(),
            }
            assert!(!who.valid() && access.resolve(&login.token).is_none(), "{end}");
        }
    }

    #[tokio::test]
    async fn who_is_sent_away_because_others_log_in_has_not_tried_a_wrong_password() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(&directory);
        access.add_user(By::command_line(), "anna".into(), Role::Viewer, GOOD.into()).await.unwrap();
        let others = access.0.waiting.acquire_many(PASSWORDS_WAITING as u32).await.unwrap();
        for _ in 0..30 {
            assert!(matches!(access.login("anna", GOOD.into(), HERE).await, Err(AccessError::Busy)));
        }
        drop(others);
        access.login("anna", GOOD.into(), HERE).await.unwrap();
    }

    #[tokio::test]
    async fn a_role_does_not_change_when_the_password_that_came_with_it_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(&directory);
        let (by, user) = (By::command_line, || "anna".to_owned());
        access.add_user(by(), user(), Role::Viewer, GOOD.into()).await.unwrap();
        let role = async || access.ask(|book| book.users()).await.unwrap()[0].role;
        let both = |password: &str| access.change_user(by(), user(), Some(Role::Admin), Some(password.into()));
        assert!(both("short").await.is_err());
        assert_eq!(role().await, Role::Viewer);
        both("another horse battery").await.unwrap();
        assert_eq!(role().await, Role::Admin);
        // The last administrator stays one, and keeps his password.
        let no = access.change_user(by(), user(), Some(Role::Viewer), Some("a third horse battery".into())).await;
        assert!(no.is_err() && access.login("anna", "another horse battery".into(), HERE).await.is_ok());
    }

    #[tokio::test]
    async fn what_the_command_line_changes_is_seen_and_sessions_outlive_the_hub() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(&directory);
        access.add_user(By::command_line(), "anna".into(), Role::Viewer, GOOD.into()).await.unwrap();
        let login = access.login("anna", GOOD.into(), HERE).await.unwrap();
        drop(access);
        let access = self::access(&directory);
        let who = access.resolve(&login.token).unwrap();
        let (stop, stopped) = watch::channel(false);
        let looking = tokio::spawn(access.clone().look_after(stopped));
        let mut other = Book::open(&directory.path().join("access.sqlite")).unwrap();
        tokio::time::sleep(LOOK_EVERY / 2).await;
        other.remove_user(&By::command_line(), "anna", false).unwrap();
        for _ in 0..100 {
            if who.valid() {
                tokio::time::sleep(LOOK_EVERY / 5).await;
            }
        }
        assert!(!who.valid() && access.resolve(&login.token).is_none());
        stop.send_replace(true);
        looking.await.unwrap();
    }
}
