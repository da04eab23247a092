//! Boot time to UTC and back, by the clock fixes of one boot. Pure.
//!
//! A time is mapped by the last fix at or before it, or by the first after it when there is none before: a gateway that
//! learns the time an hour after it started still gets that hour placed. A fix that nobody vouches for counts only in a
//! boot that has no other: a board without a battery-backed clock starts in some other year, and says so.

use speedwell_wire::{ClockFix, ClockSource};

/// The clock fixes of one boot, in order of boot time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClockMap(Vec<ClockFix>);

/// A stretch of boot time that one fix maps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// First boot time, ns.
    pub from: u64,
    /// Last boot time, ns, inclusive.
    pub to: u64,
    /// The fix.
    pub fix: ClockFix,
}

impl ClockMap {
    /// Fixes of one boot in any order.
    pub fn new(mut fixes: Vec<ClockFix>) -> Self {
        let trusted = |fix: &ClockFix| fix.source != ClockSource::Untrusted;
        if fixes.iter().any(trusted) {
            fixes.retain(trusted);
        }
        fixes.sort_by_key(|fix| fix.boot_ns);
        Self(fixes)
    }

    /// Whether somebody vouches for the times of this boot.
    pub fn is_trusted(&self) -> bool {
        self.0.first().is_some_and(|fix| fix.source != ClockSource::Untrusted)
    }

    /// UTC ns of a boot time, and who vouches for it.
    pub fn utc(&self, t_ns: u64) -> Option<(i64, ClockSource)> {
        let after = self.0.partition_point(|fix| fix.boot_ns <= t_ns);
        let fix = self.0.get(after.saturating_sub(1))?;
        Some((to_utc(fix, t_ns), fix.source))
    }

    /// The stretches that a range of UTC falls into, cut to it, in order of boot time.
    pub fn stretches(&self, from_ns: i64, to_ns: i64) -> Vec<Stretch> {
        let whole = self.0.iter().enumerate().map(|(i, fix)| Stretch {
            from: if i == 0 { 0 } else { fix.boot_ns },
            to: self.0.get(i + 1).map_or(u64::MAX, |next| next.boot_ns.saturating_sub(1)),
            fix: *fix,
        });
        let cut = |s: Stretch| Stretch {
            from: s.from.max(to_boot(&s.fix, from_ns, -1)),
            to: s.to.min(to_boot(&s.fix, to_ns, 1)),
            fix: s.fix,
        };
        whole.map(cut).filter(|s| s.from <= s.to && to_utc(&s.fix, s.to) >= from_ns).collect()
    }
}

/// `utc(t) = utc_ns + (t - boot_ns) * (1 + rate_ppb / 1e9)`
pub fn to_utc(fix: &ClockFix, t_ns: u64) -> i64 {
    let since = i128::from(t_ns) - i128::from(fix.boot_ns);
    let utc = i128::from(fix.utc_ns) + since + since * i128::from(fix.rate_ppb) / 1_000_000_000;
    utc.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// The inverse, widened by `slack` ns for the rounding of the two divisions; a query checks each sample's UTC anyway.
fn to_boot(fix: &ClockFix, utc_ns: i64, slack: i128) -> u64 {
    let since = i128::from(utc_ns) - i128::from(fix.utc_ns);
    let boot = since * 1_000_000_000 / (1_000_000_000 + i128::from(fix.rate_ppb)).max(1);
    (i128::from(fix.boot_ns) + boot + slack).clamp(0, u64::MAX.into()) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fix(boot_ns: u64, utc_ns: i64, rate_ppb: i32) -> ClockFix {
        ClockFix { boot: 1, boot_ns, utc_ns, uncertainty_ns: 0, rate_ppb, source: ClockSource::Ntp }
    }

    #[test]
    fn a_time_before_the_first_fix_is_placed_by_it() {
        let map = ClockMap::new(vec![fix(1_000, 50_000, 0)]);
        assert_eq!(map.utc(400), Some((49_400, ClockSource::Ntp)));
        assert_eq!(ClockMap::default().utc(400), None);
    }

    #[test]
    fn a_time_after_a_step_is_placed_by_the_fix_that_told_it() {
        let map = ClockMap::new(vec![fix(2_000, 900_000, 0), fix(1_000, 50_000, 0)]);
        assert_eq!(map.utc(1_999).unwrap().0, 50_999);
        assert_eq!(map.utc(2_000).unwrap().0, 900_000);
    }

    #[test]
    fn a_clock_nobody_vouches_for_places_only_what_no_other_fix_of_the_boot_can_place() {
        let early = ClockFix { source: ClockSource::Untrusted, ..fix(0, 5, 0) };
        let map = ClockMap::new(vec![early, fix(1_000, 50_000, 0)]);
        assert_eq!(map.utc(400), Some((49_400, ClockSource::Ntp)));
        assert_eq!(map.stretches(49_000, 49_500).len(), 1);
        assert_eq!(ClockMap::new(vec![early]).utc(400), Some((405, ClockSource::Untrusted)));
    }

    #[test]
    fn the_rate_counts() {
        assert_eq!(to_utc(&fix(0, 0, 20_000), 3_600_000_000_000), 3_600_072_000_000);
    }

    proptest! {
        #[test]
        fn a_time_is_in_a_stretch_exactly_when_its_utc_is_in_the_range(
            rate in -200_000i32..200_000, boot_ns in 0u64..1 << 50, utc_ns in 0i64..1 << 60, t in 0u64..1 << 51, w in 0i64..1 << 40
        ) {
            let map = ClockMap::new(vec![fix(boot_ns, utc_ns, rate)]);
            let (utc, _) = map.utc(t).unwrap();
            let found = |from, to| map.stretches(from, to).iter().any(|s| (s.from..=s.to).contains(&t));
            prop_assert!(found(utc, utc));
            prop_assert!(found(utc - w, utc + w));
            prop_assert!(!found(utc + 10, utc + 10 + w));
        }
    }
}
