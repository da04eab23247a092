//! Real time that is set, slewed and given a leap second by a real kernel.
//!
//! Runs where RIG_GPIOSIM says that this is the rig's own machine (`scripts/rig-pins` runs it as root with one thread):
//! nobody's clock but its own is touched. Elsewhere it says that it was skipped.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use speedwell::clock::{ClockSample, FixKeeper, Steps, SystemClock, TimeSource, UtcMap, Why};

fn in_the_rig() -> bool {
    let there = std::env::var_os("RIG_GPIOSIM").is_some();
    if !there {
        println!("skipped: RIG_GPIOSIM is not set");
    }
    there
}

/// Sets real time.
fn set(seconds: i64) {
    clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 }).unwrap();
}

fn real_s() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// Tells the kernel that somebody vouches for its clock, and whether the coming midnight (UTC) has a leap second.
fn vouch(leap: bool) {
    // SAFETY: `timex` is integers only, for which all zeroes is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    timex.status = libc::STA_PLL | if leap { libc::STA_INS } else { 0 };
    (timex.maxerror, timex.esterror) = (1000, 500);
    // SAFETY: the pointer is to a live `timex` of our own.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    assert!(state >= 0, "{}", std::io::Error::last_os_error());
}

/// Waits for a step, and how long that took.
async fn stepped(steps: &Steps, within: Duration) -> Option<Duration> {
    let began = Instant::now();
    tokio::time::timeout(within, steps.stepped()).await.ok().map(|()| began.elapsed())
}

/// Looks at the clocks as the agent does.
fn look(keeper: &mut FixKeeper, map: &mut UtcMap) -> (ClockSample, Option<Why>) {
    let sample = SystemClock.sample();
    let fix = keeper.take(sample);
    if let Some((fix, _)) = fix {
        map.push(fix);
    }
    (sample, fix.map(|(_, why)| why))
}

#[tokio::test]
async fn a_clock_that_is_set_is_heard_of_at_once_and_one_that_is_left_alone_is_not() {
    if !in_the_rig() {
        return;
    }
    let steps = Steps::listen();
    assert_eq!(stepped(&steps, Duration::from_millis(500)).await, None);
    for by in [3 * 86_400, -3600, 1] {
        set(real_s() + by);
        let took = stepped(&steps, Duration::from_secs(10)).await.expect("a step is heard");
        println!("{by:+} s heard after {took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(stepped(&steps, Duration::from_millis(200)).await, None, "each is told once");
    }
}

#[tokio::test]
async fn what_begins_in_1970_is_trusted_by_nobody_and_placed_once_the_clock_is_vouched_for() {
    if !in_the_rig() {
        return;
    }
    set(1000);
    let (mut keeper, mut map, steps) = (FixKeeper::new(), UtcMap::new(), Steps::listen());
    let (early, why) = look(&mut keeper, &mut map);
    assert_eq!(why, Some(Why::First));
    assert_eq!(keeper.in_force().map(|fix| fix.source), Some(TimeSource::Untrusted), "setting it is no vouching");
    assert_eq!(map.utc(early.boot), None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let now = 1_790_000_000;
    set(now);
    assert!(stepped(&steps, Duration::from_secs(10)).await.is_some());
    let (_, why) = look(&mut keeper, &mut map);
    assert!(matches!(why, Some(Why::Step(by)) if by > 1_700_000_000_000_000_000), "{why:?}");
    assert_eq!(map.utc(early.boot), None);
    vouch(false);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (late, why) = look(&mut keeper, &mut map);
    assert_eq!(why, Some(Why::Trust));
    // Placed a second and a bit before the clock was set, not in 1970.
    let placed = map.utc(early.boot).expect("placed").ns;
    let since = (late.boot.0 - early.boot.0) as i64;
    assert!((late.utc_ns - since - placed).abs() < 1_000_000, "{placed}");
}

#[tokio::test]
async fn a_leap_second_is_heard_of_as_it_happens_and_every_instant_before_and_after_has_its_own_utc() {
    if !in_the_rig() {
        return;
    }
    // Three seconds before the midnight of a day that ends with 23:59:60.
    let midnight = 1_798_761_600;
    set(midnight - 3);
    vouch(true);
    let (mut keeper, mut map, steps) = (FixKeeper::new(), UtcMap::new(), Steps::listen());
    let (before, _) = look(&mut keeper, &mut map);
    let took = stepped(&steps, Duration::from_secs(20)).await.expect("a leap second is a step");
    let (after, why) = look(&mut keeper, &mut map);
    println!("heard {took:?} after 23:59:57: {why:?}");
    assert!(matches!(why, Some(Why::Step(by)) if (by + 1_000_000_000).abs() < 5_000_000), "{why:?}");
    // Between two looks there is one second more than real time tells.
    let (told, passed) = (after.utc_ns - before.utc_ns, (after.boot.0 - before.boot.0) as i64);
    assert!((passed - told - 1_000_000_000).abs() < 5_000_000, "{passed} ns passed, {told} are told");
    for look in [before, after] {
        let placed = map.utc(look.boot).expect("placed");
        assert!(placed.ns.abs_diff(look.utc_ns) <= placed.uncertainty_ns, "{placed:?}");
    }
    // The kernel inserts it at midnight: less than the second itself may have gone by until it was heard of.
    assert!(after.utc_ns < (midnight + 1) * 1_000_000_000, "{}", after.utc_ns);
    vouch(false);
}
