//! The rules of `utc.rs` on a clock turned by hand.

use std::time::Duration;

use super::*;

const SECOND: u64 = 1_000_000_000;
const EPOCH: i64 = 1_700_000_000_000_000_000;

/// Real time as somebody sets, slews and vouches for it.
struct Hand {
    boot: u64,
    offset: i64,
    slew_ppb: i64,
    sync: KernelSync,
    keeper: FixKeeper,
    map: UtcMap,
    fixes: Vec<(Fix, Why)>,
}

const NTP: KernelSync =
    KernelSync { synchronised: true, max_error_ns: 20_000_000, estimated_error_ns: 500_000, slewing_ns: 0 };

impl Hand {
    fn new(sync: KernelSync) -> Hand {
        let mut hand = Hand {
            boot: 20 * SECOND,
            offset: EPOCH,
            slew_ppb: 0,
            sync,
            keeper: FixKeeper::new(),
            map: UtcMap::new(),
            fixes: Vec::new(),
        };
        hand.look();
        hand
    }

    fn look(&mut self) {
        let sample = ClockSample { boot: BootNs(self.boot), utc_ns: self.utc(), bracket_ns: 400, sync: self.sync };
        if let Some((fix, why)) = self.keeper.take(sample) {
            self.map.push(fix);
            self.fixes.push((fix, why));
        }
    }

    fn utc(&self) -> i64 {
        self.boot as i64 + self.offset
    }

    /// Lets the time pass, looking as often as the keeper wants.
    fn pass(&mut self, time: Duration) {
        let end = self.boot + time.as_nanos() as u64;
        while self.boot < end {
            let step = (self.keeper.sample_after().as_nanos() as u64).min(end - self.boot);
            self.boot += step;
            self.offset += step as i64 * self.slew_ppb / 1_000_000_000;
            self.look();
        }
    }

    fn whys(&mut self) -> Vec<Why> {
        self.fixes.drain(..).map(|(_, why)| why).collect()
    }
}

#[test]
fn a_steady_clock_is_told_once_and_then_every_ten_minutes() {
    let mut hand = Hand::new(NTP);
    assert_eq!(hand.whys(), [Why::First]);
    hand.pass(Duration::from_secs(590));
    assert_eq!(hand.whys(), []);
    hand.pass(Duration::from_secs(900));
    assert_eq!(hand.whys(), [Why::Regular, Why::Regular]);
}

#[test]
fn what_was_measured_before_the_first_sync_gets_its_utc_from_it() {
    let mut hand = Hand::new(KernelSync::NONE);
    hand.pass(Duration::from_secs(7200));
    assert_eq!(hand.map.utc(BootNs(hand.boot)), None);
    let three_days = 3 * 86_400 * SECOND as i64;
    hand.offset += three_days;
    hand.sync = NTP;
    hand.pass(Duration::from_secs(1));
    assert_eq!(hand.whys().pop(), Some(Why::Step(three_days)));
    let early = BootNs(30 * SECOND);
    let utc = hand.map.utc(early).unwrap();
    assert_eq!(utc.ns, early.0 as i64 + EPOCH + three_days);
    // 50 ppm of two hours: 360 ms.
    assert!((360_000_000..390_000_000).contains(&utc.uncertainty_ns), "{utc:?}");
}

#[test]
fn a_step_back_by_an_hour_ends_the_mapping_and_leaves_the_past_as_it_was() {
    let mut hand = Hand::new(NTP);
    hand.pass(Duration::from_secs(300));
    let (before, utc_before) = (BootNs(hand.boot), hand.utc());
    hand.offset -= 3600 * SECOND as i64;
    hand.pass(Duration::from_secs(16));
    assert_eq!(hand.whys(), [Why::First, Why::Step(-3600 * SECOND as i64)]);
    assert_eq!(hand.map.utc(before).unwrap().ns, utc_before);
    assert_eq!(hand.map.utc(BootNs(hand.boot)).unwrap().ns, hand.utc());
}

#[test]
fn a_leap_second_is_a_step() {
    let mut hand = Hand::new(NTP);
    hand.pass(Duration::from_secs(32));
    hand.offset -= SECOND as i64;
    hand.pass(Duration::from_secs(16));
    assert_eq!(hand.whys(), [Why::First, Why::Step(-(SECOND as i64))]);
}

#[test]
fn the_fastest_slew_is_never_a_step_and_the_error_stays_within_the_uncertainty() {
    for slew_ppb in [500_000, -500_000] {
        let mut hand = Hand::new(NTP);
        hand.slew_ppb = slew_ppb;
        for _ in 0..1000 {
            hand.pass(Duration::from_secs(4));
            let utc = hand.map.utc(BootNs(hand.boot)).unwrap();
            assert!(utc.ns.abs_diff(hand.utc()) <= utc.uncertainty_ns, "{} {utc:?}", hand.utc());
        }
        let whys = hand.whys();
        // One fix a look until the rate is known, then one because ten minutes are over.
        assert!(whys.len() > 4 && whys.len() < 90, "{}", whys.len());
        assert!(whys[1..].iter().all(|why| matches!(why, Why::Drift | Why::Regular)), "{whys:?}");
        assert_eq!(hand.keeper.in_force().map(|fix| i64::from(fix.rate_ppb)), Some(slew_ppb));
    }
}

#[test]
fn trust_comes_below_a_second_of_error_and_goes_only_above_two() {
    let bound = |seconds: f64| KernelSync { max_error_ns: (seconds * 1e9) as u64, ..NTP };
    let mut hand = Hand::new(bound(1.5));
    hand.pass(Duration::from_secs(5));
    hand.sync = bound(0.9);
    hand.pass(Duration::from_secs(5));
    hand.sync = bound(1.5);
    hand.pass(Duration::from_secs(60));
    assert_eq!(hand.whys(), [Why::First, Why::Trust, Why::Worse]);
    hand.sync = bound(2.1);
    hand.pass(Duration::from_secs(60));
    assert_eq!(hand.whys(), [Why::Trust]);
    assert_eq!(hand.keeper.in_force().map(|fix| fix.source), Some(TimeSource::Untrusted));
    // What is trusted is still what the last trusted fix said.
    assert_eq!(hand.map.utc(BootNs(hand.boot)).unwrap().ns, hand.utc());
}

#[test]
fn a_clock_that_says_it_is_not_synchronised_is_never_used_however_small_its_error() {
    let mut hand = Hand::new(KernelSync { synchronised: false, max_error_ns: 0, estimated_error_ns: 0, slewing_ns: 0 });
    hand.pass(Duration::from_secs(100));
    assert_eq!(hand.map.utc(BootNs(hand.boot)), None);
}

#[test]
fn a_bound_that_grows_only_because_nobody_asked_the_time_grows_as_a_crystal_may_err_and_no_faster() {
    let mut hand = Hand::new(NTP);
    for polls in 0..4 {
        for _ in 0..64 {
            hand.pass(Duration::from_secs(16));
            // As the kernel has it: half a millisecond a second.
            hand.sync.max_error_ns += 8_000_000;
            let told = hand.map.utc(BootNs(hand.boot)).unwrap().uncertainty_ns;
            assert!((21_000_000..21_000_000 + 85_000_000).contains(&told), "{polls}: {told}");
        }
        hand.sync = NTP;
    }
    assert!(hand.whys()[1..].iter().all(|why| *why == Why::Regular));
    // An answer of a bad network is another matter.
    hand.sync.max_error_ns = 400_000_000;
    hand.pass(Duration::from_secs(16));
    assert_eq!(hand.whys(), [Why::Worse]);
    assert!(hand.map.utc(BootNs(hand.boot)).unwrap().uncertainty_ns >= 400_000_000);
}

#[test]
fn a_client_that_states_no_error_is_not_taken_for_one_that_makes_none_and_what_is_slewed_away_counts() {
    let timesyncd = KernelSync { synchronised: true, max_error_ns: 0, estimated_error_ns: 0, slewing_ns: 300_000_000 };
    let mut hand = Hand::new(timesyncd);
    let told = hand.map.utc(BootNs(hand.boot)).unwrap().uncertainty_ns;
    assert!((350_000_000..352_000_000).contains(&told), "{told}");
    hand.sync.slewing_ns = 0;
    hand.pass(Duration::from_secs(700));
    let told = hand.map.utc(BootNs(hand.boot)).unwrap().uncertainty_ns;
    assert!((50_000_000..60_000_000).contains(&told), "{told}");
}

#[test]
fn what_lies_before_the_oldest_fix_still_known_has_no_utc_when_there_were_others() {
    let mut map = UtcMap::new();
    let fix = |n: u64| Fix {
        boot: BootNs(n * SECOND),
        utc_ns: EPOCH,
        uncertainty_ns: 0,
        rate_ppb: 0,
        source: TimeSource::Ntp,
    };
    (1..=240).for_each(|n| map.push(fix(n)));
    assert!(map.utc(BootNs(0)).is_some());
    map.push(fix(241));
    assert_eq!((map.utc(BootNs(SECOND)), map.utc(BootNs(2 * SECOND)).is_some()), (None, true));
}

#[test]
fn any_numbers_do_no_harm() {
    let mut keeper = FixKeeper::new();
    let mut map = UtcMap::new();
    for boot in [0, 1, u64::MAX / 2, u64::MAX] {
        for utc_ns in [i64::MIN, -1, 0, i64::MAX] {
            let sync =
                KernelSync { synchronised: true, max_error_ns: 1, estimated_error_ns: u64::MAX, slewing_ns: u64::MAX };
            let sample = ClockSample { boot: BootNs(boot), utc_ns, bracket_ns: u64::MAX, sync };
            if let Some((fix, _)) = keeper.take(sample) {
                map.push(fix);
            }
            map.utc(BootNs(u64::MAX - boot));
        }
    }
}
