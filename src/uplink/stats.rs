//! How the uplink is, for health and tests.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use speedwell_wire::Seq;

use super::fault::Fault;

/// Where the connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Not yet tried, or between two tries.
    #[default]
    Waiting,
    /// On its way.
    Connecting,
    /// Up.
    Connected,
    /// Stopped for good, after a goodbye.
    Stopped,
}

/// Counters since start.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Where the connection is.
    pub link: Link,
    /// Since when; `None` before the first try.
    pub since: Option<Instant>,
    /// Connections made.
    pub connections: u64,
    /// Last record confirmed.
    pub confirmed: Seq,
    /// Last durable record.
    pub durable: Seq,
    /// Batches sent, repeats included.
    pub batches: u64,
    /// Payload bytes of them.
    pub bytes: u64,
    /// Times the uplink went back to the first unconfirmed record within a connection.
    pub rewinds: u64,
    /// Records that fit no packet or could not be told, sent as a loss.
    pub set_aside: u64,
    /// Confirmations ignored: of another log, or beyond what was written.
    pub ignored_confirms: u64,
    /// The last thing that went wrong, cleared by a connection that holds.
    pub last_fault: Option<Fault>,
    /// Turns of the loop: grows as long as the uplink is alive.
    pub beats: u64,
}

impl Stats {
    /// Records kept and not yet confirmed.
    pub fn unconfirmed(&self) -> u64 {
        self.durable.saturating_sub(self.confirmed)
    }
}

/// A handle on the [`Stats`] of one uplink.
#[derive(Clone, Debug, Default)]
pub struct Observer(Arc<Mutex<Stats>>);

impl Observer {
    /// How the uplink is now.
    pub fn stats(&self) -> Stats {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the stats.
    pub(super) fn note(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The connection went somewhere else.
    pub(super) fn link(&self, link: Link) {
        self.note(|s| {
            s.link = link;
            s.since = Some(Instant::now());
        });
    }
}
