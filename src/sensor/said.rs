//! What a sensor that speaks by itself passes on: a reading a period, and each change between a value and a reason.

use std::time::Duration;

use speedwell_wire::NoData;

use super::pace::Pace;
use crate::clock::BootNs;

/// Decides which readings pass. Times given out only grow: a reading that is not later than the last one is not passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pace: Pace,
    kind: Option<Result<(), NoData>>,
    last: Option<BootNs>,
}

impl Said {
    pub(crate) fn new(period: Duration) -> Self {
        Self { pace: Pace::new(period), kind: None, last: None }
    }

    /// Whether a reading of this time and kind passes.
    pub(crate) fn passes(&mut self, t: BootNs, kind: Result<(), NoData>) -> bool {
        let changed = self.kind != Some(kind);
        let passes = self.pace.passes(t);
        if !(passes || changed) || self.last.is_some_and(|last| t <= last) {
            return false;
        }
        (self.kind, self.last) = (Some(kind), Some(t));
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
        assert!(!said.passes(at(1200), Ok(())), "no later than the last one");
        assert!(said.passes(at(1201), Ok(())));
    }
}
