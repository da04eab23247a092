//! Boot time to UTC and back, by the clock fixes of one boot. Pure.
//!
//! A time is mapped by the last fix at or before it, or by the first after it when there is none before: a gateway that
//! learns the time an hour after it started still gets that hour placed. A fix that nobody vouches for counts only in a
//! boot that has no other: a board without a battery-backed clock starts in some other year, and says so.

use speedwell_wire::{ClockFix, ClockSource};

use super::rows::MAX_FIXES;

/// What an uncorrected crystal may be off, in 1e-9: how fast the bound of a fix grows with the distance from it.
const CRYSTAL_PPB: u64 = 50_000;

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

    /// With these fixes of the same boot, later in its log.
    pub fn with(&self, fixes: &[ClockFix]) -> Self {
        let mut new = Self::new(self.0.iter().chain(fixes).copied().collect());
        new.0.truncate(MAX_FIXES);
        new
    }

    /// Where in UTC a range of boot time lies, both ends inclusive, a piece a fix.
    pub fn places(&self, from: u64, to: u64) -> Vec<(i64, i64)> {
        let first = self.0.partition_point(|fix| fix.boot_ns <= from).saturating_sub(1);
        let last = self.0.partition_point(|fix| fix.boot_ns <= to).max(1).min(self.0.len());
        let piece = |i: usize| {
            let fix = &self.0[i];
            let begins = if i == first { from } else { fix.boot_ns };
            let ends = self.0.get(i + 1).filter(|_| i + 1 < last).map_or(to, |next| next.boot_ns.saturating_sub(1));
            let (a, b) = (to_utc(fix, begins), to_utc(fix, ends));
            (a.min(b), a.max(b))
        };
        (first..last).map(piece).collect()
    }

    /// Where in UTC the times of a range of boot time lie, or lay, that `new` places otherwise than this.
    pub fn moved(&self, new: &Self, from: u64, to: u64) -> Vec<(i64, i64)> {
        let mut cuts: Vec<u64> = self.0.iter().chain(&new.0).map(|fix| fix.boot_ns).collect();
        cuts.retain(|cut| (from..=to).contains(cut) && *cut > from);
        cuts.push(from);
        cuts.sort_unstable();
        cuts.dedup();
        let mut moved = Vec::new();
        for (i, &begins) in cuts.iter().enumerate() {
            let ends = cuts.get(i + 1).map_or(to, |next| next - 1);
            if self.fix(begins) != new.fix(begins) {
                moved.extend(self.places(begins, ends));
                moved.extend(new.places(begins, ends));
            }
        }
        moved
    }

    /// The fix that places a boot time.
    fn fix(&self, t_ns: u64) -> Option<&ClockFix> {
        self.0.get(self.0.partition_point(|fix| fix.boot_ns <= t_ns).saturating_sub(1))
    }

    /// Whether somebody vouches for the times of this boot.
    pub fn is_trusted(&self) -> bool {
        self.0.first().is_some_and(|fix| fix.source != ClockSource::Untrusted)
    }

    /// UTC ns of a boot time, and who vouches for it.
    pub fn utc(&self, t_ns: u64) -> Option<(i64, ClockSource)> {
        let fix = self.fix(t_ns)?;
        Some((to_utc(fix, t_ns), fix.source))
    }

    /// Bound on the error of [`ClockMap::utc`], ns, as good as the word of who vouches; `None` where nobody does.
    pub fn uncertainty(&self, t_ns: u64) -> Option<u64> {
        let fix = self.fix(t_ns)?;
        bound(fix, to_utc(fix, t_ns))
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

/// Bound on the error of a time that a fix places, ns; `None` where nobody vouches for it.
pub fn bound(fix: &ClockFix, utc_ns: i64) -> Option<u64> {
    let grown = u128::from(utc_ns.abs_diff(fix.utc_ns)) * u128::from(CRYSTAL_PPB) / 1_000_000_000;
    (fix.source != ClockSource::Untrusted).then(|| fix.uncertainty_ns.saturating_add(grown as u64))
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
    fn the_bound_grows_with_the_distance_either_way_and_nobody_bounds_what_nobody_vouches_for() {
        let hour = 3_600_000_000_000;
        let told = ClockFix { uncertainty_ns: 1_000_000, ..fix(2 * hour, 0, 0) };
        let map = ClockMap::new(vec![told]);
        assert_eq!(map.uncertainty(2 * hour), Some(1_000_000));
        assert_eq!(map.uncertainty(hour), Some(181_000_000));
        assert_eq!(map.uncertainty(3 * hour), Some(181_000_000));
        let nobody = ClockFix { source: ClockSource::Untrusted, ..told };
        assert_eq!(ClockMap::new(vec![nobody]).uncertainty(0), None);
        let far = ClockFix { uncertainty_ns: u64::MAX, utc_ns: i64::MIN, ..told };
        assert_eq!(ClockMap::new(vec![far]).uncertainty(u64::MAX), Some(u64::MAX));
    }

    #[test]
    fn the_rate_counts() {
        assert_eq!(to_utc(&fix(0, 0, 20_000), 3_600_000_000_000), 3_600_072_000_000);
    }

    proptest! {
        #[test]
        fn a_time_that_a_new_fix_places_elsewhere_is_told_where_it_was_and_where_it_is(
            old in prop::collection::vec((0u64..100, 0i64..1000, any::<bool>()), 0..5),
            new in prop::collection::vec((0u64..100, 0i64..1000, any::<bool>()), 1..3),
            (from, more) in (0u64..100, 0u64..100),
        ) {
            let fixes = |all: Vec<(u64, i64, bool)>| -> Vec<ClockFix> {
                let source = |good| if good { ClockSource::Ntp } else { ClockSource::Untrusted };
                all.into_iter().map(|(b, u, good)| ClockFix { source: source(good), ..fix(b, u, 0) }).collect()
            };
            let old = ClockMap::new(fixes(old));
            let new = old.with(&fixes(new));
            let to = from + more;
            let told = old.moved(&new, from, to);
            for t in from..=to {
                let (was, is) = (old.utc(t).map(|u| u.0), new.utc(t).map(|u| u.0));
                let within = |utc: Option<i64>| utc.is_none_or(|utc| told.iter().any(|(a, b)| (*a..=*b).contains(&utc)));
                prop_assert!(was == is || within(was) && within(is), "{t}: {was:?} {is:?} {told:?}");
                prop_assert!(is.is_none_or(|is| new.places(from, to).iter().any(|(a, b)| (*a..=*b).contains(&is))));
            }
        }

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
