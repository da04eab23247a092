//! How long to wait before the next try.
//!
//! Full jitter: the wait is uniform between nothing and a bound that doubles, so that a thousand gateways that lost
//! their broker in the same second do not come back in the same second. The bound falls back only after a connection
//! that held for a stable while: a broker that accepts and kicks must not be hammered.

use std::time::Duration;

/// The wait between connections.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    bound: Duration,
}

impl Backoff {
    /// Waits of at most `base` at first, at most `cap` at last.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, bound: base }
    }

    /// The next wait. `random` is uniform in 0..1.
    pub fn next(&mut self, random: f64) -> Duration {
        let wait = self.bound.mul_f64(random.clamp(0.0, 1.0));
        self.bound = (self.bound * 2).min(self.cap);
        wait
    }

    /// A connection held for the stable while.
    pub fn reset(&mut self) {
        self.bound = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_bound_doubles_to_the_cap_and_falls_back_only_on_reset() {
        let mut backoff = Backoff::new(S, 60 * S);
        let bounds: Vec<u64> = (0..8).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next(1.0), S);
    }

    #[test]
    fn the_wait_may_be_nothing_at_all() {
        assert_eq!(Backoff::new(S, 60 * S).next(0.0), Duration::ZERO);
    }
}
