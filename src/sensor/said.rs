//! What a sensor that speaks by itself passes on: a reading a period, and each change between a value and a reason.

use std::time::Duration;

use speedwell_wire::NoData;

use super::pace::Pace;
use crate::clock::BootNs;

/// Decides which readings pass. Times of values only grow: one that is not later than the last value is not passed on.
///
/// A value may be earlier than a reason said before it: it is stamped with when its first byte came, and while the rest
/// of it was still coming, nothing had been heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pace: Pace,
    kind: Option<Result<(), NoData>>,
    /// Time of the last value.
    last: Option<BootNs>,
    /// Time of the last reason for none.
    last_reason: Option<BootNs>,
}

impl Said {
    pub(crate) fn new(period: Duration) -> Self {
        Self { pace: Pace::new(period), kind: None, last: None, last_reason: None }
    }

    /// Whether a reading of this time and kind passes.
    pub(crate) fn passes(&mut self, t: BootNs, kind: Result<(), NoData>) -> bool {
        let changed = self.kind != Some(kind);
        let passes = self.pace.passes(t);
        let not_before = if kind.is_ok() { self.last } else { self.last.max(self.last_reason) };
        if !(passes || changed) || not_before.is_some_and(|last| t <= last) {
            return false;
        }
        if !passes {
            // A change, ahead of the pace. Values that came with it, in one read, are as much later as they are: that a
            // reason was told meanwhile must not thin them out.
            self.pace.begin(t);
        }
        self.kind = Some(kind);
        *(if kind.is_ok() { &mut self.last } else { &mut self.last_reason }) = Some(t);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_passes_at_once_and_time_never_goes_back() {
        let mut said = Said::new(Duration::from_secs(1));
        let at = |ms: u64| BootNs(ms * 1_000_000);
        assert!(said.passes(at(1000), Ok(())));
        assert!(!said.passes(at(1100), Ok(())));
        assert!(said.passes(at(1200), Err(NoData::NoFix)));
        assert!(!said.passes(at(1200), Err(NoData::Stale)), "no later than the last one");
        assert!(said.passes(at(1201), Ok(())));
        assert!(said.passes(at(1300), Err(NoData::NoFix)));
        assert!(!said.passes(at(1201), Ok(())), "no later than the last value");
    }

    #[test]
    fn the_first_value_after_silence_passes_although_silence_was_told_while_it_was_still_coming() {
        let mut said = Said::new(Duration::from_millis(100));
        let at = |ms: u64| BootNs(ms * 1_000_000);
        assert!(said.passes(at(1000), Err(NoData::Silent)));
        assert!(said.passes(at(1100), Err(NoData::Silent)));
        assert!(said.passes(at(1060), Ok(())), "70 ms on the line at 9600 baud, complete at 1130");
    }

    #[test]
    fn values_that_were_read_together_after_silence_pass_one_and_all() {
        let mut said = Said::new(Duration::from_millis(10));
        let at = |ms: u64| BootNs(ms * 1_000_000);
        // Held up: silence is told at 1100, then three sentences are read that a line of 57,600 baud took 15 ms each for.
        assert!(said.passes(at(1100), Err(NoData::Silent)));
        assert!(said.passes(at(1060), Ok(())));
        assert!(said.passes(at(1075), Ok(())));
        assert!(said.passes(at(1090), Ok(())));
    }
}
