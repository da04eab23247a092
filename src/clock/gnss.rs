//! UTC out of what a satellite receiver says, once it can be believed, and whose word counts beside the kernel's.
//!
//! A receiver's word is believed when its date is possible and its time has gone on as boot time has for a few seconds: one
//! that has just been switched on may tell the time of its own battery-backed clock, or be off by leap seconds it has not
//! heard of, and then jumps. What was believed before a jump holds until what came after it is believed in its turn.
//!
//! A sentence names the instant it is true for, but comes some 50 to 200 ms later, and nobody knows how much: the bound has
//! room for more. A synchronised kernel knows better and goes before.

use std::{collections::VecDeque, time::Duration};

use super::{
    BootNs,
    utc::{CRYSTAL_PPB, ClockSample, Fix, FixKeeper, KernelSync, TimeSource, Why, grown},
};

/// 2026-01-01: no word is from before this was written. Move it on with a release.
const EARLIEST_NS: i64 = 1_767_225_600_000_000_000;
/// 1024 weeks. The week is told in ten bits: a receiver that does not know in which round it lives tells a date that is so
/// much too early, so of a window as long as that only one round is right.
const ROUND_NS: i64 = 1024 * 7 * 86_400 * 1_000_000_000;
/// Words that go on together for at least so long, and at least so many of them, are believed.
const CONFIRMED_OVER: Duration = Duration::from_secs(3);
const CONFIRMED_BY: usize = 3;
/// Words whose times differ by no more than this go on together: the delay of sentences varies, and readers are held up.
/// A leap second is more.
const TOGETHER_NS: u64 = 500_000_000;
/// Words of which the middle one counts: one that was held up does not move it.
const WORDS: usize = 15;
/// From the instant a sentence is true for to its first byte it is at most so long.
const DELAY_NS: u64 = 300_000_000;
/// The word of a receiver that fell silent holds for so long.
const HOLDS: Duration = Duration::from_secs(3600);
/// And the middle word moves by so much without that anybody's clock was stepped.
const MIDDLE_NS: u64 = 50_000_000;

/// A date that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the receiver tells the year {year}, which cannot be: its count of weeks has come round, and only newer firmware of \
     its maker mends that. Its time is not used; its speeds are not concerned"
)]
pub struct Implausible {
    /// The year told, to half a day at its turn.
    pub year: i64,
}

/// What a receiver has said.
#[derive(Debug, Default)]
struct Receiver {
    /// Boot time and UTC less boot time of words that go on together, in order.
    words: VecDeque<(BootNs, i64)>,
    /// When the first of them was true.
    since: Option<BootNs>,
    /// What is believed: UTC less boot time, and when that was last so.
    believed: Option<(i64, BootNs)>,
}

impl Receiver {
    fn hear(&mut self, boot: BootNs, utc_ns: i64) -> Result<(), Implausible> {
        if self.words.back().is_some_and(|(last, _)| boot <= *last) {
            return Ok(());
        }
        if !(EARLIEST_NS..EARLIEST_NS + ROUND_NS).contains(&utc_ns) {
            self.begin_anew();
            return Err(Implausible { year: 1970 + utc_ns.div_euclid(31_556_952_000_000_000) });
        }
        let offset = utc_ns.saturating_sub_unsigned(boot.0);
        if self.middle().is_some_and(|middle| middle.abs_diff(offset) > TOGETHER_NS) {
            self.begin_anew();
        }
        if self.words.len() == WORDS {
            self.words.pop_front();
        }
        self.words.push_back((boot, offset));
        let since = *self.since.get_or_insert(boot);
        if self.words.len() >= CONFIRMED_BY && boot.since(since) >= CONFIRMED_OVER {
            self.believed = self.middle().map(|middle| (middle, boot));
        }
        Ok(())
    }

    fn begin_anew(&mut self) {
        self.words.clear();
        self.since = None;
    }

    fn middle(&self) -> Option<i64> {
        let mut offsets: Vec<i64> = self.words.iter().map(|(_, offset)| *offset).collect();
        offsets.sort_unstable();
        offsets.get(offsets.len() / 2).copied()
    }

    /// UTC now by what is believed. A receiver that has long said nothing no longer vouches.
    fn sample(&self, now: BootNs) -> Option<ClockSample> {
        let (offset, at) = self.believed.filter(|(_, at)| now.since(*at) < HOLDS)?;
        let bound = DELAY_NS.saturating_add(grown(now.since(at), CRYSTAL_PPB));
        let sync = KernelSync { synchronised: true, max_error_ns: bound, estimated_error_ns: bound, slewing_ns: 0 };
        Some(ClockSample { boot: now, utc_ns: offset.saturating_add_unsigned(now.0), bracket_ns: MIDDLE_NS, sync })
    }
}

/// The kernel's clock and a receiver's word, and the fixes worth recording of whichever counts.
#[derive(Debug)]
pub struct Timekeeper {
    kernel: FixKeeper,
    receiver: Receiver,
    by_receiver: FixKeeper,
    /// Whose word the last fix was.
    counts: TimeSource,
}

impl Default for Timekeeper {
    fn default() -> Self {
        Self {
            kernel: FixKeeper::new(),
            receiver: Receiver::default(),
            by_receiver: FixKeeper::of(TimeSource::Gnss),
            counts: TimeSource::Untrusted,
        }
    }
}

impl Timekeeper {
    /// One that has seen and heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hears what UTC a receiver with a fix tells for a boot time. The same word again is none.
    pub fn hear(&mut self, boot: BootNs, utc_ns: i64) -> Result<(), Implausible> {
        self.receiver.hear(boot, utc_ns)
    }

    /// Takes a look at the kernel's clocks; gives the fix to record, if there is one.
    pub fn take(&mut self, sample: ClockSample) -> Option<(Fix, Why)> {
        let by_kernel = self.kernel.take(sample);
        let synchronised = self.kernel.in_force().is_some_and(|fix| fix.source == TimeSource::Ntp);
        let by_receiver = self.receiver.sample(sample.boot).filter(|_| !synchronised);
        let before = std::mem::replace(
            &mut self.counts,
            match by_receiver {
                Some(_) => TimeSource::Gnss,
                None if synchronised => TimeSource::Ntp,
                None => TimeSource::Untrusted,
            },
        );
        if let Some(told) = by_receiver {
            let fix = self.by_receiver.take(told);
            return fix.map(|(fix, why)| (fix, if before == TimeSource::Gnss { why } else { Why::Trust }));
        }
        if before != TimeSource::Gnss {
            return by_kernel;
        }
        self.by_receiver = FixKeeper::of(TimeSource::Gnss);
        // What the kernel says has to be said now, whether or not that is new.
        let now = || self.kernel.in_force().map(|fix| Fix { boot: sample.boot, utc_ns: sample.utc_ns, ..*fix });
        by_kernel.map(|(fix, _)| fix).or_else(now).map(|fix| (fix, Why::Trust))
    }

    /// How long until the next look is due.
    pub fn sample_after(&self) -> Duration {
        self.kernel.sample_after()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    /// 2026-11-25 15:00:00.
    const NOW: i64 = 1_795_618_800 * S as i64;

    /// What the kernel says at a second of the boot: a clock that nobody set, or one that is synchronised.
    fn kernel(second: u64, synchronised: bool) -> ClockSample {
        let sync = KernelSync { synchronised, max_error_ns: 1_000_000, estimated_error_ns: 1_000_000, slewing_ns: 0 };
        let utc_ns = if synchronised { NOW } else { 0 } + (second * S) as i64;
        ClockSample {
            boot: BootNs(second * S),
            utc_ns,
            bracket_ns: 100,
            sync: if synchronised { sync } else { KernelSync::NONE },
        }
    }

    /// Runs over these seconds: the receiver is `off` ns and says nothing where that is `None`. The fixes.
    fn run(
        keeper: &mut Timekeeper,
        seconds: std::ops::Range<u64>,
        synchronised: bool,
        off: impl Fn(u64) -> Option<i64>,
    ) -> Vec<(u64, Fix, Why)> {
        let mut fixes = Vec::new();
        for second in seconds {
            if let Some(off) = off(second) {
                // Sentences come with their jitter, a tenth of a second before the look.
                let jitter = (second as i64 * 7919 % 41 - 20) * 1_000_000;
                let boot = BootNs(second * S - S / 10);
                keeper.hear(boot, NOW + boot.0 as i64 + off + jitter).expect("possible");
            }
            fixes.extend(keeper.take(kernel(second, synchronised)).map(|(fix, why)| (second, fix, why)));
        }
        fixes
    }

    fn sources(fixes: &[(u64, Fix, Why)]) -> Vec<(u64, TimeSource)> {
        fixes.iter().map(|(second, fix, _)| (*second, fix.source)).collect()
    }

    #[test]
    fn a_receiver_vouches_after_some_seconds_that_agree_where_nobody_else_does() {
        let mut keeper = Timekeeper::new();
        let fixes = run(&mut keeper, 1..7300, false, |_| Some(0));
        assert_eq!(sources(&fixes)[..2], [(1, TimeSource::Untrusted), (4, TimeSource::Gnss)]);
        assert_eq!(fixes.len(), 14, "and every ten minutes: {fixes:?}");
        for (_, fix, _) in &fixes[1..] {
            let wrong = fix.utc_ns.abs_diff(NOW + fix.boot.0 as i64);
            assert!(wrong <= fix.uncertainty_ns && fix.rate_ppb == 0, "{fix:?}");
            assert!((300_000_000..500_000_000).contains(&fix.uncertainty_ns), "{fix:?}");
        }
    }

    #[test]
    fn one_word_alone_or_words_that_do_not_go_on_together_never_vouch() {
        let mut keeper = Timekeeper::new();
        let fixes = run(&mut keeper, 1..100, false, |second| (second == 5).then_some(0));
        assert_eq!(sources(&fixes), [(1, TimeSource::Untrusted)]);
        let mut keeper = Timekeeper::new();
        let fixes = run(&mut keeper, 1..100, false, |second| Some(second as i64 % 2 * 3_600_000_000_000));
        assert_eq!(sources(&fixes), [(1, TimeSource::Untrusted)]);
        let mut keeper = Timekeeper::new();
        for second in 1..100 {
            // The same word again and again, as of a receiver that lost its fix.
            keeper.hear(BootNs(S / 2), NOW).expect("possible");
            assert!(keeper.take(kernel(second, false)).is_none_or(|(fix, _)| fix.source == TimeSource::Untrusted));
        }
    }

    #[test]
    fn a_synchronised_kernel_goes_before_and_the_receiver_steps_in_when_it_no_longer_is() {
        let mut keeper = Timekeeper::new();
        let mut fixes = run(&mut keeper, 1..100, true, |_| Some(0));
        fixes.extend(run(&mut keeper, 100..200, false, |_| Some(0)));
        fixes.extend(run(&mut keeper, 200..300, true, |_| Some(0)));
        assert_eq!(
            sources(&fixes),
            [(1, TimeSource::Ntp), (100, TimeSource::Gnss), (200, TimeSource::Ntp)],
            "and nothing in between"
        );
    }

    #[test]
    fn a_receiver_that_fell_silent_vouches_for_an_hour_more_and_no_longer() {
        let mut keeper = Timekeeper::new();
        let fixes = run(&mut keeper, 1..7200, false, |second| (second < 1000).then_some(0));
        let told = sources(&fixes);
        let (second, _) = *told[1..].iter().find(|(_, source)| *source == TimeSource::Untrusted).expect("some");
        assert!((4590..4610).contains(&second), "{second}");
    }

    #[test]
    fn a_step_of_the_receiver_is_told_once_it_has_lasted_and_a_word_that_was_held_up_is_not() {
        let mut keeper = Timekeeper::new();
        // It hears of eighteen leap seconds a minute after it began; a word comes late now and then.
        let leaps = |second: u64| if second < 60 { 18 * S as i64 } else { 0 };
        let late = |second: u64| if second.is_multiple_of(10) { -300_000_000 } else { 0 };
        let fixes = run(&mut keeper, 1..200, false, |second| Some(leaps(second) + late(second)));
        let whys: Vec<(u64, Why)> = fixes.iter().map(|(second, _, why)| (*second, *why)).collect();
        assert_eq!(whys.len(), 3, "{whys:?}");
        let (second, Why::Step(by)) = whys[2] else { panic!("{whys:?}") };
        assert!((62..66).contains(&second) && (by + 18 * S as i64).unsigned_abs() < 100_000_000, "{whys:?}");
    }

    #[test]
    fn a_date_of_another_round_of_weeks_is_refused_with_its_year() {
        let mut keeper = Timekeeper::new();
        let told = |utc_ns| Timekeeper::new().hear(BootNs(1), utc_ns).map_err(|refused| refused.year);
        assert_eq!(told(NOW), Ok(()));
        assert_eq!(told(NOW - ROUND_NS), Err(2007));
        assert_eq!(told(EARLIEST_NS - 30 * 86_400 * S as i64), Err(2025));
        assert_eq!(told(NOW + ROUND_NS), Err(2046));
        assert_eq!(told(0), Err(1970));
        for second in 1..100u64 {
            let boot = BootNs(second * S);
            assert!(keeper.hear(boot, NOW - ROUND_NS + boot.0 as i64).is_err());
            assert!(keeper.take(kernel(second, false)).is_none_or(|(fix, _)| fix.source == TimeSource::Untrusted));
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_said_whenever_does_no_harm(words in proptest::collection::vec((0u64.., 0i64..), 0..50)) {
            let mut keeper = Timekeeper::new();
            for (boot, utc_ns) in words {
                let _ = keeper.hear(BootNs(boot), utc_ns);
                let _ = keeper.take(ClockSample { boot: BootNs(boot), utc_ns, bracket_ns: 0, sync: KernelSync::NONE });
            }
        }
    }
}
