//! Is each loop alive? Heartbeats of loops, and what systemd may be told of them.
//!
//! A loop bumps its [`Beat`] each turn, idle turns included: a loop with nothing to do still wakes once in a while
//! and says so. A loop that hangs on a disk or a lock no longer does. Systemd's watchdog is fed only while every loop
//! has moved within its own limit, so that an agent that runs but no longer records is started again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The pulse of one loop. Cloned into the loop.
#[derive(Clone, Debug, Default)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    /// The loop went round.
    pub fn bump(&self) {
        // Relaxed: only the change matters, no other memory hangs on it.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Watched {
    name: &'static str,
    limit: Duration,
    beat: Beat,
    seen: u64,
    at: Instant,
}

/// The pulses of all loops.
#[derive(Debug, Default)]
pub struct Vitals(Vec<Watched>);

impl Vitals {
    /// Watches a loop that goes round at least every `limit`, beginning now.
    pub fn watch(&mut self, name: &'static str, limit: Duration, now: Instant) -> Beat {
        let beat = Beat::default();
        self.0.push(Watched { name, limit, beat: beat.clone(), seen: 0, at: now });
        beat
    }

    /// The loops that have not moved within their limit, and for how long.
    pub fn stuck(&mut self, now: Instant) -> Vec<(&'static str, Duration)> {
        let mut stuck = Vec::new();
        for w in &mut self.0 {
            let count = w.beat.count();
            if count != w.seen {
                (w.seen, w.at) = (count, now);
            }
            let still = now.saturating_duration_since(w.at);
            if still > w.limit {
                stuck.push((w.name, still));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_loop_that_stops_going_round_is_named_and_one_that_goes_on_is_not() {
        let start = Instant::now();
        let mut vitals = Vitals::default();
        let recorder = vitals.watch("recorder", 10 * S, start);
        let _spool = vitals.watch("spool", 10 * S, start);
        assert_eq!(vitals.stuck(start + 10 * S), []);
        recorder.bump();
        assert_eq!(vitals.stuck(start + 11 * S), [("spool", 11 * S)]);
        assert_eq!(vitals.stuck(start + 22 * S), [("recorder", 11 * S), ("spool", 22 * S)]);
    }
}
