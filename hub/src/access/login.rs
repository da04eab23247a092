//! Names and passwords.

use std::{net::IpAddr, sync::PoisonError, time::Instant};

use tokio::task::spawn_blocking;

use super::*;

/// Why somebody does not get what he asked of the book.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Not in the book, or not to be.
    #[error(transparent)]
    Book(#[from] BookError),
    /// What was asked cannot be read; what is wanted.
    #[error("{0}")]
    Asked(String),
    /// It is not told which of the two it is.
    #[error("the name or the password is wrong")]
    Wrong,
    /// Too often wrong.
    #[error("too many wrong passwords; try again in {} s", .0.as_secs() + 1)]
    Wait(Duration),
    /// Others log in.
    #[error("too many are logging in; try again in a moment")]
    Busy,
    /// The hub stops.
    #[error("the hub is stopping")]
    Stopping,
}

/// A session begun.
#[derive(Debug)]
pub struct Login {
    /// Whose, in small letters.
    pub user: String,
    /// What for.
    pub role: Role,
    /// What is to be sent with each request. It is told here and never again.
    pub token: String,
    /// When it ends if it is not used, seconds of UTC.
    pub until_s: i64,
}

impl Access {
    /// Begins a session for whoever knows the password.
    pub async fn login(&self, name: &str, password: String, from: IpAddr) -> Result<Login, AccessError> {
        let user = self.verified(name, password, from).await?;
        let (inner, by) = (self.0.clone(), By { who: format!("user {user}"), origin: from.to_string() });
        let begun = spawn_blocking(move || {
            let token = token::session().map_err(BookError::from)?;
            let hash = token::hash(&token).unwrap_or_default();
            let mut book = inner.book();
            // Removed in between, then.
            let role = book.begin_session(&by, &user, &hash)?.ok_or(AccessError::Wrong)?;
            inner.reload(&mut book)?;
            Ok(Login { user, role, token, until_s: now_s().saturating_add(inner.idle_s()) })
        });
        begun.await.map_err(|_| AccessError::Stopping)?
    }

    /// Ends the session of whoever asks, if it is one.
    pub async fn logout(&self, who: &Who) -> Result<(), AccessError> {
        let Some(hash) = who.user().and(who.pass()).map(|pass| pass.hash) else { return Ok(()) };
        let by = who.by();
        self.change(move |book| book.end_session(&by, &hash)).await
    }

    /// Gives a person who knows his password another one. His sessions end.
    pub async fn change_password(&self, who: &Who, old: String, new: String) -> Result<(), AccessError> {
        let user = self.verified(who.user().unwrap_or_default(), old, who.from()).await?;
        self.set_password(who.by(), user, new).await
    }

    /// Gives somebody a password. His sessions end.
    pub async fn set_password(&self, by: By, user: String, password: String) -> Result<(), AccessError> {
        self.change_user(by, user, None, Some(password)).await
    }

    /// Gives somebody another role, another password, or both; both or neither when one cannot be. One administrator has
    /// to be left.
    pub async fn change_user(
        &self,
        by: By,
        user: String,
        role: Option<Role>,
        password: Option<String>,
    ) -> Result<(), AccessError> {
        let hash = match password {
            Some(password) => Some(self.hashed(&user, password).await?),
            None => None,
        };
        let changed = self.change(move |book| {
            role.map_or(Ok(()), |role| book.set_role(&by, &user, role, true))?;
            hash.map_or(Ok(()), |hash| book.set_hashed(&by, &user, &hash))
        });
        changed.await
    }

    /// Lets somebody in from now on.
    pub async fn add_user(&self, by: By, name: String, role: Role, password: String) -> Result<(), AccessError> {
        let name = book::checked_name(&name)?;
        let hash = self.hashed(&name, password).await?;
        self.change(move |book| book.add_hashed(&by, &name, role, &hash)).await
    }

    /// The user of this name and password.
    async fn verified(&self, name: &str, password: String, from: IpAddr) -> Result<String, AccessError> {
        // What cannot be a name waits like one that nobody has, and costs as much.
        let user = book::checked_name(name).unwrap_or_default();
        // First, since who is sent away has not tried.
        let _waiting = self.0.waiting.try_acquire().map_err(|_| AccessError::Busy)?;
        self.attempts(|attempts| attempts.begin(&user, from, Instant::now())).map_err(AccessError::Wait)?;
        let _working = self.0.passwords.acquire().await.map_err(|_| AccessError::Stopping)?;
        let inner = self.0.clone();
        let verified = spawn_blocking(move || {
            let kept = inner.book().password(&user)?;
            if password::verify(kept.as_deref(), &password) {
                return Ok(user);
            }
            let known = kept.is_some().then_some(user.as_str());
            tracing::warn!(user = known.unwrap_or("unknown"), %from, "a login was refused");
            inner.book().refuse_login(&from.to_string(), known)?;
            Err(AccessError::Wrong)
        });
        let user = verified.await.map_err(|_| AccessError::Stopping)??;
        self.attempts(|attempts| attempts.right(&user, from));
        Ok(user)
    }

    async fn hashed(&self, user: &str, password: String) -> Result<String, AccessError> {
        password::check(user, &password).map_err(BookError::from)?;
        let _waiting = self.0.waiting.try_acquire().map_err(|_| AccessError::Busy)?;
        let _working = self.0.passwords.acquire().await.map_err(|_| AccessError::Stopping)?;
        let hashed = spawn_blocking(move || password::hash(&password));
        Ok(hashed.await.map_err(|_| AccessError::Stopping)?.map_err(BookError::from)?)
    }

    fn attempts<T>(&self, act: impl FnOnce(&mut attempts::Attempts) -> T) -> T {
        act(&mut self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
