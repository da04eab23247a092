//! A connection to PostgreSQL, for a thread that may wait.
//!
//! `tokio-postgres` on a runtime of its own, of one thread: its connection is driven while an answer is waited for. Each
//! wait has an end, so that a server that neither answers nor goes away holds nothing up for ever; after it the
//! connection is given up, since nobody knows what the server still does with it.

use std::{collections::HashMap, future::Future, pin::pin, sync::Arc, time::Duration};

use speedwell_wire::{Manifest, frame};
use tokio::{runtime::Runtime, time::timeout};
use tokio_postgres::{
    Client, Config, Row, Statement,
    binary_copy::BinaryCopyInWriter,
    error::SqlState,
    types::{ToSql, Type},
};

use super::tls::Tls;
use crate::store::StoreError;

/// Connecting, over all addresses of a name.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Any one answer. The server is told to give up earlier: after [`STATEMENT_WITHIN`].
const ANSWER_WITHIN: Duration = Duration::from_secs(45);
const STATEMENT_WITHIN: Duration = Duration::from_secs(30);
/// The one step whose length grows with what is stored: a day's partition of readings is attached once the server has
/// looked through all that lies in none. What is cut short there would be cut short again the next time, and readings of
/// that day would be taken by nobody.
const LONG_STEP: Duration = Duration::from_secs(15 * 60);
/// What every session is told. A confirmed record is on the server's disk, whatever the server's default is; a hub that
/// hangs lets go of its locks. Plans are kept, and those of a table that was empty when they were made would read all of
/// it when it no longer is: every question of a hub has an index.
const SETTINGS: &str = "SET synchronous_commit = on; SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = warning;
    SET enable_seqscan = off; SET TIME ZONE 'UTC'";

/// Classes of SQLSTATE that lie in what the server was given: data exception, integrity constraint violation, program
/// limit exceeded. Among them is the row that another hub has made at the same time; the next try finds it there.
const OF_THE_DATA: [&str; 3] = ["22", "23", "54"];
/// Letters of what the server says of that.
const MAX_SAID: usize = 300;

/// Parameters of a statement.
pub(super) type Given<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) struct Session {
    runtime: Own,
    client: Client,
    statements: HashMap<&'static str, Statement>,
    manifests: HashMap<i64, Arc<Manifest>>,
}

/// A runtime that may be dropped anywhere: a reader may go with a task of another.
struct Own(Option<Runtime>);

impl Own {
    fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        match &self.0 {
            Some(runtime) => runtime.block_on(what),
            None => unreachable!("it is only taken when it is dropped"),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How to connect.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// For messages: without a password.
    pub(super) shown: String,
}

impl Session {
    pub(super) fn connect(options: &Options) -> Result<Self, StoreError> {
        let unreachable = |why: String| StoreError::Unreachable { database: options.shown.clone(), why };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unreachable(format!("no runtime: {error}")))?;
        let runtime = Own(Some(runtime));
        // Nothing was handed in yet, so nothing is wrong with it.
        let not_yet = |error| match error {
            StoreError::Refused(why) => StoreError::Database(why.into()),
            other => other,
        };
        let connected = runtime.block_on(async {
            let found = timeout(CONNECT_WITHIN, options.config.connect(options.tls.clone())).await;
            let (client, connection) = match found {
                Ok(Ok(connected)) => connected,
                Ok(Err(error)) => return Err(told(error)),
                Err(_) => return Err(unreachable(format!("no answer within {CONNECT_WITHIN:?}"))),
            };
            // It ends with the connection; why it did is told by the next question.
            tokio::spawn(async { drop(connection.await) });
            Ok(client)
        });
        let client = connected.map_err(|error| match error {
            StoreError::Unreachable { why, .. } => unreachable(why),
            other => not_yet(other),
        })?;
        let mut session = Self { runtime, client, statements: HashMap::new(), manifests: HashMap::new() };
        let settings = format!("{SETTINGS}; SET statement_timeout = '{}s'", STATEMENT_WITHIN.as_secs());
        session.batch(&settings).map_err(not_yet)?;
        Ok(session)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.client.is_closed()
    }

    fn wait<T>(runtime: &Own, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, StoreError> {
        Self::wait_for(runtime, ANSWER_WITHIN, answer)
    }

    fn wait_for<T>(
        runtime: &Own,
        within: Duration,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        let answer = runtime.block_on(async { timeout(within, answer).await });
        answer
            .map_err(|_| StoreError::Unreachable {
                database: "the server".into(),
                why: format!("no answer within {within:?}"),
            })?
            .map_err(told)
    }

    fn statement(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let new = Self::wait(&self.runtime, self.client.prepare(sql))?;
        self.statements.insert(sql, new.clone());
        Ok(new)
    }

    pub(super) fn query(&mut self, sql: &'static str, given: Given<'_>) -> Result<Vec<Row>, StoreError> {
        let statement = self.statement(sql)?;
        Self::wait(&self.runtime, self.client.query(&statement, given))
    }

    pub(super) fn execute(&mut self, sql: &'static str, given: Given<'_>) -> Result<u64, StoreError> {
        let statement = self.statement(sql)?;
        Self::wait(&self.runtime, self.client.execute(&statement, given))
    }

    /// Statements without parameters.
    pub(super) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        Self::wait(&self.runtime, self.client.batch_execute(sql))
    }

    /// The same where they may take as long as [`LONG_STEP`], inside a transaction.
    pub(super) fn long_batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.batch(&format!("SET LOCAL statement_timeout = '{}s'", LONG_STEP.as_secs()))?;
        // The server gives up first here too.
        let within = LONG_STEP + (ANSWER_WITHIN - STATEMENT_WITHIN);
        Self::wait_for(&self.runtime, within, self.client.batch_execute(sql))?;
        self.batch(&format!("SET LOCAL statement_timeout = '{}s'", STATEMENT_WITHIN.as_secs()))
    }

    /// Rows in binary form, the fastest way in there is.
    pub(super) fn copy<'a, const N: usize>(
        &mut self,
        sql: &'static str,
        types: [Type; N],
        rows: impl IntoIterator<Item = [&'a (dyn ToSql + Sync); N]>,
    ) -> Result<(), StoreError> {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let client = &self.client;
        Self::wait(&self.runtime, async move {
            let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(sql).await?, &types));
            for row in rows {
                writer.as_mut().write(&row).await?;
            }
            writer.finish().await.map(drop)
        })
    }

    /// Does all of it in one transaction, or none of it.
    pub(super) fn transaction<T>(
        &mut self,
        begin: &str,
        act: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.batch(begin)?;
        let done = act(self).and_then(|done| self.batch("COMMIT").map(|()| done));
        if done.is_err() && !self.is_broken() {
            let _ = self.batch("ROLLBACK");
        }
        done
    }

    /// A channel list; they never change.
    pub(super) fn list(&mut self, id: i64) -> Result<Arc<Manifest>, StoreError> {
        if let Some(known) = self.manifests.get(&id) {
            return Ok(known.clone());
        }
        let rows = self.query("SELECT body FROM manifests WHERE id = $1", &[&id])?;
        let body: &[u8] = rows.first().map(|row| row.get(0)).unwrap_or_default();
        let bad = |e: &dyn std::fmt::Display| StoreError::Content(format!("a manifest that is none: {e}"));
        let list: Manifest = frame::decode(body).map_err(|e| bad(&e))?;
        if self.manifests.len() >= 1_000 {
            self.manifests.clear();
        }
        let list = Arc::new(list);
        self.manifests.insert(id, list.clone());
        Ok(list)
    }
}

/// Waits where waiting is allowed: a thread of an asynchronous runtime has to be left alone.
pub(super) fn apart<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    if tokio::runtime::Handle::try_current().is_err() {
        return act();
    }
    let ended = std::thread::scope(|scope| scope.spawn(act).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What the server said, as what it means for a hub.
fn told(error: tokio_postgres::Error) -> StoreError {
    let Some(db) = error.as_db_error() else {
        // Its own text says only what was tried; the reason is underneath.
        let mut why = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            why = format!("{why}: {cause}");
            source = cause.source();
        }
        // What it has no form for is refused before the server sees it; the library has no other word for that.
        let unfit = ["error serializing", "error encoding"].iter().any(|begins| why.starts_with(begins));
        return match unfit {
            true => StoreError::Refused(why),
            false => StoreError::Unreachable { database: "the server".into(), why },
        };
    };
    let code = db.code();
    let away = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    let in_use = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::QUERY_CANCELED,
        // Another hub was first; the next try sees what it wrote.
        SqlState::DUPLICATE_TABLE,
    ];
    match code {
        code if *code == SqlState::DISK_FULL => StoreError::Full,
        code if *code == SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::ReadOnly,
        code if in_use.contains(code) => StoreError::Locked,
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => StoreError::Database(
            format!("{}: the hub's user has to own the database, or to have CREATE on its schema", db.message()).into(),
        ),
        code if away.contains(code) => {
            StoreError::Unreachable { database: "the server".into(), why: db.message().into() }
        }
        // Its detail would tell the row.
        code if OF_THE_DATA.iter().any(|class| code.code().starts_with(class)) => {
            let said: String = db.message().chars().take(MAX_SAID).collect();
            StoreError::Refused(format!("{said} [SQLSTATE {}]", code.code()))
        }
        code => {
            let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
            StoreError::Database(format!("{}{detail} [SQLSTATE {}]", db.message(), code.code()).into())
        }
    }
}
