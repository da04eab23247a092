//! Takes what gateways and programs say, has it stored, then confirms.
//!
//! In      messages of all gateways and of foreign feeds, from `mqtt`; readings over TCP, and over HTTP from `api`.
//! Out     work for the store; after its commit, confirmations, acknowledgements and answers; live values to `live`.
//! Keeps   the channel lists seen; nothing that would be missed.
//! Imports `store`, `live`, `presence` (to tell it who was heard), `wire`.
//!
//! A message is acknowledged to the broker after what it brought is committed, or set aside, and never before. Any
//! payload ends in one of four ways: stored, known already, dropped for the gateway to send again, or set aside in
//! the table `rejected`. None of them blocks the next.
//!
//! All doors share the one thread that writes, through `gate`: what gateways confirm by goes first.

pub mod decode;
pub mod documents;
pub mod feeds;
mod field;
mod foreign;
pub mod gate;
pub mod mqtt;
pub mod names;
pub mod readings;
mod session;
mod share;
pub mod tcp;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpStream, sync::watch};

use crate::store::Refused;

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
    /// Single readings stored.
    pub readings: AtomicU64,
    /// Single readings that were stored before.
    pub readings_again: AtomicU64,
    /// Requests that were told to come again because too much waits, or the store does not work.
    pub turned_away: AtomicU64,
    /// Pieces of work that the database refused for what is in them.
    pub refused_by_store: AtomicU64,
}

/// Until the hub is to stop. Cancel-safe.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A client that went without a word, its machine off or its line cut, acknowledges nothing more. The kernel would send
/// again for a quarter of an hour or longer before it says so; it is to give up after this.
pub(crate) fn let_go_after(stream: &TcpStream, lost: Duration) {
    #[cfg(target_os = "linux")]
    {
        let ms = u32::try_from(lost.as_millis()).unwrap_or(u32::MAX);
        // A kernel that knows no such option only holds it longer.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, ms);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, lost);
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// A piece of work that the database does not take has come to its end.
    pub(crate) fn refused(&self, Refused { work, why }: &Refused) {
        Self::add(&self.refused_by_store, 1);
        let (what, of) = work.told();
        tracing::error!(what, of, why, "not stored, and everything else goes on");
    }

    /// Why the broker is not connected, if something is known.
    pub fn trouble(&self) -> Option<String> {
        self.broker_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_trouble(&self, why: Option<String>) {
        *self.broker_trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// All of them by name.
    pub fn list(self: &Arc<Self>) -> [(&'static str, u64); 13] {
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
            ("readings", get(&self.readings)),
            ("readings_again", get(&self.readings_again)),
            ("turned_away", get(&self.turned_away)),
            ("refused_by_store", get(&self.refused_by_store)),
        ]
    }
}
