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

const NTP: KernelSync = KernelSync { synchronised: true, max_error_ns: 20_000_000, estimated_error_ns: 500_000 };

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
fn a_steady_clock_is_told_once_and_then_hourly() {
    let mut hand = Hand::new(NTP);
    assert_eq!(hand.whys(), [Why::First]);
    hand.pass(Duration::from_secs(3500));
    assert_eq!(hand.whys(), []);
    hand.pass(Duration::from_secs(7300));
    assert_eq!(hand.whys(), [Why::Hourly, Why::Hourly]);
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
    hand.pass(Duration::from_secs(600));
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
        // One fix a look until the rate is known, then one because the hour is over.
        assert!(whys.len() > 4 && whys.len() < 90, "{}", whys.len());
        assert!(whys[1..].iter().all(|why| matches!(why, Why::Drift | Why::Hourly)), "{whys:?}");
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
    assert_eq!(hand.whys(), [Why::First, Why::Trust]);
    hand.sync = bound(2.1);
    hand.pass(Duration::from_secs(60));
    assert_eq!(hand.whys(), [Why::Trust]);
    assert_eq!(hand.keeper.in_force().map(|fix| fix.source), Some(TimeSource::Untrusted));
    // What is trusted is still what the last trusted fix said.
    assert_eq!(hand.map.utc(BootNs(hand.boot)).unwrap().ns, hand.utc());
}

#[test]
fn a_clock_that_says_it_is_not_synchronised_is_never_used_however_small_its_error() {
    let mut hand = Hand::new(KernelSync { synchronised: false, max_error_ns: 0, estimated_error_ns: 0 });
    hand.pass(Duration::from_secs(100));
    assert_eq!(hand.map.utc(BootNs(hand.boot)), None);
}

#[test]
fn any_numbers_do_no_harm() {
    let mut keeper = FixKeeper::new();
    let mut map = UtcMap::new();
    for boot in [0, 1, u64::MAX / 2, u64::MAX] {
        for utc_ns in [i64::MIN, -1, 0, i64::MAX] {
            let sync = KernelSync { synchronised: true, max_error_ns: 1, estimated_error_ns: u64::MAX };
            let sample = ClockSample { boot: BootNs(boot), utc_ns, bracket_ns: u64::MAX, sync };
            if let Some((fix, _)) = keeper.take(sample) {
                map.push(fix);
            }
            map.utc(BootNs(u64::MAX - boot));
        }
    }
}
