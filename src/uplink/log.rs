//! What the uplink needs of a log. The spool supplies it.

use std::future::Future;

use speedwell_wire::{LogId, Manifest, ManifestHash, Seq};
use tokio::sync::watch;

/// A record as the log keeps it, and the numbers it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its first sequence number.
    pub first: Seq,
    /// How many consecutive numbers: more than 1 only for a loss.
    pub span: u64,
    /// The record, encoded by the wire.
    pub bytes: Vec<u8>,
}

impl Stored {
    /// The number after its last.
    pub fn next(&self) -> Seq {
        self.first.saturating_add(self.span)
    }
}

/// The log could not be read or told; the uplink waits a little and asks again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log: {0}")]
pub struct LogError(pub String);

/// A durable log of consecutive records.
pub trait Log: Send + Sync + 'static {
    /// The log's name.
    fn log_id(&self) -> LogId;

    /// The oldest record still kept; one past the newest when there is none.
    fn oldest(&self) -> Seq;

    /// The newest durable record; 0 when there is none. Only ever grows.
    fn durable(&self) -> watch::Receiver<Seq>;

    /// Durable records from `from` on, in order, about `max_bytes` of them but at least one when there is one.
    /// A `from` that was freed gives what follows it.
    fn read_from(&self, from: Seq, max_bytes: usize) -> impl Future<Output = Result<Vec<Stored>, LogError>> + Send;

    /// The far end has everything up to `thru`, inclusive.
    fn confirm_thru(&self, thru: Seq) -> impl Future<Output = Result<(), LogError>> + Send;

    /// The manifest of that hash, if the log keeps it.
    fn manifest(&self, hash: ManifestHash) -> Option<Manifest>;
}
