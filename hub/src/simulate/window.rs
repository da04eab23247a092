//! What was sent and is not confirmed, and when to go back. Pure; the rules are in docs/replication.md.
//!
//! Simpler than a gateway's: there is no pace of the line to be found, and the wait begins when a batch goes out.

use std::time::{Duration, Instant};

use speedwell_wire::Seq;

/// Bytes that may be out.
const WINDOW: usize = 64 * 1024;
/// The first and the longest wait for a confirmation.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// A hub that says the same again has dropped what followed: so long is waited for another word.
const STALL: Duration = Duration::from_secs(2);

/// The window of one connection after the other.
#[derive(Debug)]
pub(super) struct Window {
    /// What goes out next.
    pub(super) next: Seq,
    /// The highest that ever went out, so that what goes again is known.
    ever: Seq,
    bytes: usize,
    flights: std::collections::VecDeque<(Seq, usize)>,
    since: Instant,
    patience: Duration,
    stalled: Option<Instant>,
}

impl Window {
    /// Nothing is out.
    pub(super) fn new(now: Instant) -> Self {
        let flights = std::collections::VecDeque::new();
        Self { next: 1, ever: 0, bytes: 0, flights, since: now, patience: PATIENCE.0, stalled: None }
    }

    /// Whether another batch may go.
    pub(super) fn open(&self) -> bool {
        self.bytes < WINDOW
    }

    /// A batch went out. Gives how many of its records had gone out before.
    pub(super) fn sent(&mut self, first: Seq, next: Seq, bytes: usize, now: Instant) -> u64 {
        if self.flights.is_empty() {
            self.since = now;
        }
        self.flights.push_back((next, bytes));
        self.bytes += bytes;
        self.next = next;
        let again = (self.ever + 1).min(next).saturating_sub(first);
        self.ever = self.ever.max(next - 1);
        again
    }

    /// The hub has all up to this, and that is news.
    pub(super) fn advance(&mut self, thru: Seq, now: Instant) {
        while self.flights.front().is_some_and(|(next, _)| *next <= thru + 1) {
            self.bytes -= self.flights.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        (self.since, self.patience, self.stalled) = (now, PATIENCE.0, None);
        if thru >= self.next {
            self.go_back(thru + 1, now);
        }
    }

    /// The hub said what it had said before.
    pub(super) fn repeated(&mut self, now: Instant) {
        if !self.flights.is_empty() {
            self.stalled.get_or_insert(now);
        }
    }

    /// Goes on from here: a new connection, a hub that was restored, a new log.
    pub(super) fn go_back(&mut self, to: Seq, now: Instant) {
        self.flights.clear();
        (self.bytes, self.next, self.since, self.stalled) = (0, to, now, None);
    }

    /// Another log: its numbers begin anew.
    pub(super) fn begin(&mut self, now: Instant) {
        self.ever = 0;
        self.go_back(1, now);
    }

    /// Whether to go back now to the first that is not confirmed.
    pub(super) fn overdue(&mut self, now: Instant) -> bool {
        if self.flights.is_empty() {
            return false;
        }
        let stalled = self.stalled.is_some_and(|at| now.duration_since(at) > STALL);
        let silent = now.duration_since(self.since) > self.patience;
        if silent {
            self.patience = (self.patience * 2).min(PATIENCE.1);
        }
        stalled || silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_confirmed_goes_out_again_after_a_wait_that_grows_and_counts_as_sent_again() {
        let now = Instant::now();
        let mut window = Window::new(now);
        assert_eq!(window.sent(1, 11, 40_000, now), 0);
        assert!(window.open());
        assert_eq!(window.sent(11, 21, 40_000, now), 0);
        assert!(!window.open());
        window.advance(10, now);
        assert!(window.open() && !window.overdue(now + Duration::from_secs(9)));
        assert!(window.overdue(now + Duration::from_secs(11)));
        window.go_back(11, now + Duration::from_secs(11));
        assert_eq!(window.sent(11, 31, 1, now + Duration::from_secs(11)), 10);
        assert!(!window.overdue(now + Duration::from_secs(30)), "the wait has doubled");
        window.repeated(now + Duration::from_secs(12));
        assert!(window.overdue(now + Duration::from_secs(15)), "a hub that repeats itself has dropped something");
        window.advance(30, now);
        assert!(!window.overdue(now + Duration::from_secs(1_000)), "nothing is out");
        assert_eq!(window.next, 31);
    }
}
