//! How long to wait before a sensor is opened again.

use std::time::Duration;

/// First wait. A plug that is pushed back in is seen within about this time.
const FIRST: Duration = Duration::from_secs(1);

/// Longest wait: a sensor mended in the yard speaks before the technician has put the tools away.
const LONGEST: Duration = Duration::from_secs(30);

/// A sensor that ran this long was well: the next wait is the first again.
const STABLE: Duration = Duration::from_secs(10);

/// Full-jitter exponential backoff.
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { ceiling: FIRST }
    }

    /// The wait after a sensor failed that had run for `ran`: at random up to a ceiling that doubles, so that many
    /// sensors behind one bad hub do not all come back at once.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.ceiling = FIRST;
        }
        let wait = FIRST / 4 + self.ceiling.mul_f64(fastrand::f64());
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_over_after_a_stable_while() {
        let mut backoff = Backoff::new();
        for _ in 0..20 {
            assert!(backoff.after(Duration::ZERO) <= LONGEST + FIRST);
        }
        assert_eq!(backoff.ceiling, LONGEST);
        assert!(backoff.after(STABLE) <= FIRST * 2);
    }
}
