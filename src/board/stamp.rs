//! The kernel's clocks on CLOCK_BOOTTIME.
//!
//! GPIO edges are stamped in CLOCK_MONOTONIC, CAN frames in CLOCK_REALTIME; every reading is in CLOCK_BOOTTIME.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::clock::BootNs;

/// A frame's stamp may be this much older than its reading; a greater difference is a step of the clock between the two.
const REALTIME_AGE_NS_MAX: i128 = 1_000_000_000;

/// The offset of CLOCK_MONOTONIC grows only while the machine sleeps: reading it again each second is often enough.
const OFFSET_AGE_MAX: Duration = Duration::from_secs(1);

/// CLOCK_BOOTTIME now.
pub(crate) fn boot_now() -> BootNs {
    BootNs(nanoseconds(clock_gettime(ClockId::Boottime)).max(0) as u64)
}

fn nanoseconds(t: Timespec) -> i128 {
    i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec)
}

/// CLOCK_BOOTTIME minus CLOCK_MONOTONIC: the time slept since boot.
#[derive(Debug)]
pub(crate) struct MonotonicOffset {
    slept_ns: u64,
    read_at: BootNs,
}

impl MonotonicOffset {
    pub(crate) fn read() -> Self {
        // Monotonic is read first: the difference is too large by the time between the two calls, never negative.
        let monotonic = nanoseconds(clock_gettime(ClockId::Monotonic));
        let boot = boot_now();
        let slept_ns = (i128::from(boot.0) - monotonic).max(0) as u64;
        // Below a millisecond it is the time between the calls: a machine does not sleep so short.
        Self { slept_ns: if slept_ns < 1_000_000 { 0 } else { slept_ns }, read_at: boot }
    }

    /// Reads it again when it is older than a second.
    pub(crate) fn refresh(&mut self, now: BootNs) {
        if now.since(self.read_at) > OFFSET_AGE_MAX {
            *self = Self::read();
        }
    }

    /// A CLOCK_MONOTONIC stamp on CLOCK_BOOTTIME.
    pub(crate) fn boot_of(&self, monotonic_ns: u64) -> BootNs {
        BootNs(monotonic_ns.saturating_add(self.slept_ns))
    }
}

/// A CLOCK_REALTIME stamp on CLOCK_BOOTTIME, right after it was received; and whether the stamp could be used.
///
/// Where the clock was stepped between stamp and reading, the time of reading is the better one.
pub(crate) fn boot_of_realtime(stamp_ns: i128) -> (BootNs, bool) {
    let before = boot_now();
    let realtime = nanoseconds(clock_gettime(ClockId::Realtime));
    let after = boot_now();
    let middle = before.0 + (after.0 - before.0.min(after.0)) / 2;
    age_applied(middle, realtime - stamp_ns).map_or((before, false), |t| (t, true))
}

fn age_applied(now_ns: u64, age_ns: i128) -> Option<BootNs> {
    let age_ns = (0..=REALTIME_AGE_NS_MAX).contains(&age_ns).then_some(age_ns as u64)?;
    Some(BootNs(now_ns.saturating_sub(age_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monotonic_stamp_of_now_is_boot_time_of_now() {
        let offset = MonotonicOffset::read();
        let monotonic = nanoseconds(clock_gettime(ClockId::Monotonic)) as u64;
        let difference = boot_now().since(offset.boot_of(monotonic));
        assert!(difference < Duration::from_millis(100), "{difference:?}");
    }

    #[test]
    fn a_realtime_stamp_keeps_its_age() {
        let realtime = nanoseconds(clock_gettime(ClockId::Realtime));
        let (t, kept) = boot_of_realtime(realtime - 50_000_000);
        let age = boot_now().since(t);
        assert!(kept && age >= Duration::from_millis(50) && age < Duration::from_millis(150), "{age:?}");
    }

    #[test]
    fn a_clock_stepped_between_stamp_and_reading_falls_back_to_the_time_of_reading() {
        let realtime = nanoseconds(clock_gettime(ClockId::Realtime));
        for stepped in [realtime + 3_600_000_000_000, realtime - 3_600_000_000_000] {
            let (t, kept) = boot_of_realtime(stepped);
            assert!(!kept && boot_now().since(t) < Duration::from_millis(100));
        }
    }

    #[test]
    fn an_age_is_taken_off_up_to_a_second() {
        assert_eq!(age_applied(5_000_000_000, 1_000_000_000), Some(BootNs(4_000_000_000)));
        assert_eq!(age_applied(5_000_000_000, 1_000_000_001), None);
        assert_eq!(age_applied(5_000_000_000, -1), None);
    }
}
