//! The store on PostgreSQL, 15 or later. Nothing outside of this folder knows `tokio_postgres`.
//!
//! The same tables as in SQLite; `chunks` and `readings` in partitions a day, so that a day is dropped as fast as a file
//! is. Several hubs may share a database: each ledger row is locked while its log is written.

use std::{borrow::Cow, path::Path, sync::Arc};

use tokio_postgres::{Config, config::Host, config::SslMode};

use super::{Done, Migrated, Read, Store, StoreError, Work, rollup, rows::DAY_NS};

mod fleet;
mod keep;
mod lists;
mod presence;
mod read;
mod readings;
mod rows;
mod schema;
mod session;
mod tls;
mod write;

use session::{Options, Session, apart};

/// Longest text that is part of a key: PostgreSQL's indexes end at some 2,700 bytes.
const MAX_NAME: usize = 600;

/// The store on PostgreSQL.
pub struct Postgres {
    options: Options,
    session: Option<Session>,
    memory: write::Memory,
    /// Days that samples are kept; for ever when none is told.
    keep_days: Option<u32>,
    /// The day up to which partitions are made.
    made: Option<i64>,
}

impl Postgres {
    /// Connects, and brings the database to the newest form. Without a certificate file the public ones vouch for the
    /// server.
    pub fn open(url: &str, password: Option<&str>, ca_file: Option<&Path>) -> Result<Self, StoreError> {
        let options = options(url, password, ca_file)?;
        Ok(apart(|| Self::connect(options))?.0)
    }

    /// Brings the database to the newest form.
    pub fn migrate(url: &str, password: Option<&str>, ca_file: Option<&Path>) -> Result<Migrated, StoreError> {
        let options = options(url, password, ca_file)?;
        Ok(apart(|| Self::connect(options))?.1)
    }

    fn connect(options: Options) -> Result<(Self, Migrated), StoreError> {
        let mut session = Session::connect(&options)?;
        let server = session.query(
            "SELECT current_setting('server_version_num')::int, current_setting('fsync'), current_setting('server_encoding')",
            &[],
        )?;
        let (number, fsync, encoding): (i32, &str, &str) =
            server.first().map_or((0, "", ""), |row| (row.get(0), row.get(1), row.get(2)));
        if number < 150_000 {
            let found = number / 10_000;
            return Err(StoreError::Content(format!("PostgreSQL {found}, this program needs 15 or later")));
        }
        // One name that such a database has no letters for would hold up all that comes after it.
        if encoding != "UTF8" {
            return Err(StoreError::Content(format!(
                "text in {encoding}, this program needs UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0 makes one"
            )));
        }
        if fsync != "on" {
            tracing::warn!("the server runs with fsync off: a power cut can take what was confirmed to gateways");
        }
        let migrated = schema::migrate(&mut session)?;
        let (session, memory) = (Some(session), write::Memory::default());
        Ok((Self { options, session, memory, keep_days: None, made: None }, migrated))
    }

    /// Drops samples so many days after they arrived.
    pub fn keep_days(self, keep_days: Option<u32>) -> Self {
        Self { keep_days, ..self }
    }

    fn transaction<T>(
        &mut self,
        act: impl FnOnce(&mut Session, &mut write::Memory) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut session = match self.session.take().filter(|session| !session.is_broken()) {
            Some(session) => session,
            None => {
                self.memory.forget();
                Session::connect(&self.options)?
            }
        };
        let memory = &mut self.memory;
        let done = session.transaction("BEGIN", |session| act(session, memory));
        if done.is_err() {
            self.memory.forget();
        }
        // Who does not answer is not asked again on the same line.
        if !session.is_broken() && !matches!(done, Err(StoreError::Unreachable { .. })) {
            self.session = Some(session);
        }
        done.map_err(|error| match error {
            StoreError::Unreachable { why, .. } => {
                StoreError::Unreachable { database: self.options.shown.clone(), why }
            }
            other => other,
        })
    }
}

impl Store for Postgres {
    fn commit(&mut self, work: &[Work]) -> Result<Vec<Done>, StoreError> {
        self.transaction(|session, memory| write::apply(session, memory, work))
    }

    fn tend(&mut self, now_ns: i64) -> Result<bool, StoreError> {
        let today = now_ns.div_euclid(DAY_NS);
        if self.made.is_none_or(|made| made < today) {
            self.transaction(|session, _| keep::make_ahead(session, now_ns))?;
            self.made = Some(today);
        }
        let keep = self.keep_days;
        let dropped = match keep {
            Some(days) => self.transaction(|session, memory| {
                let ended = presence::drop_old(session, days, now_ns)?;
                let dropped = keep::drop_old(session, days, now_ns)?;
                if dropped {
                    // Partitions that were known to be there may be gone.
                    memory.forget();
                }
                Ok(dropped || ended)
            })?,
            None => false,
        };
        let settled = self.transaction(|session, _| rollup::settle(session, now_ns))?;
        Ok(dropped || settled)
    }

    fn reader(&self) -> Arc<dyn Read> {
        Arc::new(read::Reader::new(self.options.clone()))
    }
}

/// How to connect, out of what an operator wrote.
fn options(url: &str, password: Option<&str>, ca_file: Option<&Path>) -> Result<Options, StoreError> {
    let wrong = |why: String| StoreError::Content(why);
    // rustls verifies certificate and name always, which is what others call verify-full.
    let plain = url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let mut config: Config = plain.parse().map_err(|error| {
        wrong(format!("an address that cannot be used: {error}; wanted postgres://USER@HOST[:PORT]/DATABASE"))
    })?;
    if let Some(password) = password {
        config.password(password);
    }
    config.application_name("speedwell-hub");
    let near = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        Host::Unix(_) => true,
    };
    // What leaves the machine is encrypted, unless the operator says otherwise in so many words.
    let said = url.contains("sslmode=");
    if !said && !config.get_hosts().iter().all(near) {
        config.ssl_mode(SslMode::Require);
    }
    let tls = crate::ingest::mqtt::tls(ca_file).map_err(|error| wrong(error.to_string()))?;
    Ok(Options { config, tls: tls::Tls(Arc::new(tls)), shown: shown(url) })
}

/// The address for messages: whatever somebody put into it, no password is told.
fn shown(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return "the database".into() };
    match rest.rsplit_once('@') {
        Some((user, place)) => format!("{scheme}://{}@{place}", user.split(':').next().unwrap_or_default()),
        None => url.into(),
    }
}

/// PostgreSQL's texts cannot hold a zero byte, which a gateway may well send; one must not hold up all others.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A text that is part of a key, or is looked for among keys.
fn name(long: &str) -> String {
    let mut end = long.len().min(MAX_NAME);
    while !long.is_char_boundary(end) {
        end -= 1;
    }
    match Cow::from(&long[..end]) {
        short if short.contains('\0') => text(&short),
        short => short.into_owned(),
    }
}
