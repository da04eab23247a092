//! Thins a stream of readings to the report period.

use std::time::Duration;

use crate::clock::BootNs;

/// Lets one reading a period through, by its own time. A stream that comes at the report period itself passes whole,
/// although its times jitter, because a reading may be a quarter of a period early; a faster one is thinned to the
/// period on average.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    period: Duration,
    due: Option<BootNs>,
}

impl Pace {
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, due: None }
    }

    /// A reading of time `t` has passed whatever the pace: the next is due a period after it.
    pub(crate) fn begin(&mut self, t: BootNs) {
        self.due = Some(t + self.period);
    }

    /// Whether a reading of time `t` passes.
    pub(crate) fn passes(&mut self, t: BootNs) -> bool {
        let due = self.due.unwrap_or(t);
        if t + self.period / 4 < due {
            return false;
        }
        let late = t.since(due) > self.period;
        self.due = Some(if late { t } else { due } + self.period);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(period_ms: u64, times_us: impl Iterator<Item = u64>) -> usize {
        let mut pace = Pace::new(Duration::from_millis(period_ms));
        times_us.filter(|&t| pace.passes(BootNs(t * 1000))).count()
    }

    #[test]
    fn a_jittering_stream_at_the_report_period_passes_whole() {
        assert_eq!(passed(100, (0..1000).map(|i| i * 100_000 + (i * 7919) % 20_000)), 1000);
    }

    #[test]
    fn a_faster_stream_is_thinned_to_the_period_on_average() {
        for interval in [10_000, 20_000, 33_000] {
            let count = passed(100, (0..100_000_000 / interval).map(|i| i * interval));
            assert!((999..=1001).contains(&count), "{interval} {count}");
        }
    }

    #[test]
    fn a_slower_stream_passes_whole_also_after_a_pause() {
        assert_eq!(passed(100, (0..100).map(|i| i * 1_000_000 + 5_000_000 * (i / 10))), 100);
    }
}
