//! What the uplink needs of a log, and the spool as one.

use std::future::Future;

use speedwell_wire::{LogId, Manifest, ManifestHash, Seq};
use tokio::sync::watch;

use crate::spool::{Confirmed, Spool};
pub use crate::spool::{SpoolError as LogError, Stored};

/// A durable log of consecutive records.
pub trait Log: Send + Sync + 'static {
    /// The log's name. It changes when a disk that failed was replaced by another place; numbers then start again.
    fn log(&self) -> watch::Receiver<LogId>;

    /// The oldest record still kept; one past the newest when there is none.
    fn oldest(&self) -> Seq;

    /// The last record that was confirmed, in this run or an earlier one.
    fn confirmed(&self) -> Seq;

    /// The newest durable record; 0 when there is none.
    fn durable(&self) -> watch::Receiver<Seq>;

    /// Durable records from `from` on, in order, about `max_bytes` of them but at least one when there is one.
    /// A `from` that was freed gives what follows it.
    fn read_from(&self, from: Seq, max_bytes: usize) -> impl Future<Output = Result<Vec<Stored>, LogError>> + Send;

    /// The far end has everything up to `thru`, inclusive.
    fn confirm_thru(&self, thru: Seq) -> impl Future<Output = Result<Confirmed, LogError>> + Send;

    /// The manifest of that hash, if the log keeps it.
    fn manifest(&self, hash: ManifestHash) -> Option<Manifest>;
}

impl Log for Spool {
    fn log(&self) -> watch::Receiver<LogId> {
        Spool::log(self)
    }

    fn oldest(&self) -> Seq {
        self.stats().oldest_seq
    }

    fn confirmed(&self) -> Seq {
        self.stats().confirmed_seq
    }

    fn durable(&self) -> watch::Receiver<Seq> {
        Spool::durable(self)
    }

    async fn read_from(&self, from: Seq, max_bytes: usize) -> Result<Vec<Stored>, LogError> {
        Spool::read_from(self, from, max_bytes).await
    }

    async fn confirm_thru(&self, thru: Seq) -> Result<Confirmed, LogError> {
        Spool::confirm_thru(self, thru).await
    }

    fn manifest(&self, hash: ManifestHash) -> Option<Manifest> {
        Spool::manifest(self, hash)
    }
}
