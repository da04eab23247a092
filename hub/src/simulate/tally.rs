//! What all simulated gateways have done, in numbers.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::gateway::Made;

/// Counted as it happens.
#[derive(Debug, Default)]
pub struct Tally {
    /// Gateways connected now.
    pub connected: AtomicU64,
    /// Records made.
    pub made: AtomicU64,
    /// Samples in them.
    pub samples: AtomicU64,
    /// Records with samples.
    pub blocks: AtomicU64,
    /// Records that the hub has confirmed.
    pub confirmed: AtomicU64,
    /// Records sent more than once.
    pub resent: AtomicU64,
    /// Batches sent.
    pub batches: AtomicU64,
    /// Batches that were sent twice on purpose.
    pub doubled: AtomicU64,
    /// Connections cut on purpose.
    pub cuts: AtomicU64,
    /// Connections that were lost or did not come about.
    pub failures: AtomicU64,
    /// Boots after the first.
    pub reboots: AtomicU64,
    /// Cards replaced.
    pub cards: AtomicU64,
    /// Steps of clocks.
    pub steps: AtomicU64,
    /// Samples shed because a log was full, and declared lost.
    pub shed: AtomicU64,
    /// Times that the hub said it has less than before.
    pub went_back: AtomicU64,
    /// The most that a gateway was behind what it should have made by then, ms.
    pub late_ms: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// Adds.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Tally {
    /// A counter's number.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Records that the hub has not confirmed yet.
    pub fn behind(&self) -> u64 {
        Self::get(&self.made).saturating_sub(Self::get(&self.confirmed))
    }

    /// Why a connection was last lost, if one was.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn lost(&self, why: String) {
        add(&self.failures, 1);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Adds what a gateway has made since.
    pub(super) fn made(&self, before: &Made, now: &Made) {
        add(&self.made, now.records - before.records);
        add(&self.samples, now.samples - before.samples);
        add(&self.blocks, now.blocks - before.blocks);
        add(&self.reboots, now.reboots - before.reboots);
        add(&self.cards, now.cards - before.cards);
        add(&self.steps, now.steps - before.steps);
    }
}
