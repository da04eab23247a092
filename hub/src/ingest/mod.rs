//! Takes what gateways say, has it stored, then confirms.
//!
//! In      messages of all gateways, from `mqtt`.
//! Out     work for the store; after its commit, confirmations and acknowledgements; live values to `live`.
//! Keeps   the channel lists seen; nothing that would be missed.
//! Imports `store`, `live`, `wire`.
//!
//! A message is acknowledged to the broker after what it brought is committed, or set aside, and never before. Any
//! payload ends in one of four ways: stored, known already, dropped for the gateway to send again, or set aside in
//! the table `rejected`. None of them blocks the next.

pub mod decode;
pub mod mqtt;
mod session;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

pub(crate) use session::utc_ns;
pub use session::{Parts, StoreEnded, Ticket, run};

/// What was taken and what became of it, since start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Whether the broker is connected: 1 or 0.
    pub connected: AtomicU64,
    /// Why it is not, if something is known.
    pub broker_trouble: Mutex<Option<String>>,
    /// Connections lost, and attempts that came to nothing.
    pub failures: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
    /// Messages taken.
    pub messages: AtomicU64,
    /// Entries stored.
    pub stored: AtomicU64,
    /// Entries known already.
    pub duplicates: AtomicU64,
    /// Entries dropped because they left a hole, overlapped, or their manifest was not known.
    pub dropped: AtomicU64,
    /// Payloads set aside.
    pub rejected: AtomicU64,
    /// Live messages that could not be shown.
    pub live_unread: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Why the broker is not connected, if something is known.
    pub fn trouble(&self) -> Option<String> {
        self.broker_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_trouble(&self, why: Option<String>) {
        *self.broker_trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// All of them by name.
    pub fn list(self: &Arc<Self>) -> [(&'static str, u64); 9] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("connected", get(&self.connected)),
            ("connections", get(&self.connections)),
            ("failures", get(&self.failures)),
            ("messages", get(&self.messages)),
            ("stored", get(&self.stored)),
            ("duplicates", get(&self.duplicates)),
            ("dropped", get(&self.dropped)),
            ("rejected", get(&self.rejected)),
            ("live_unread", get(&self.live_unread)),
        ]
    }
}
