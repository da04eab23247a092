//! The kernel's clocks.

use rustix::time::{ClockId, clock_gettime};

use super::{BootNs, Clock, ClockSample, KernelSync};

/// Reads of the offset of which the narrowest counts: an interrupt between two clock reads widens one, hardly five.
const READS: usize = 5;

/// Oldest a kernel stamp on a frame that was just received can be; older, or in the future, the clock was stepped
/// between the stamp and now.
const MAX_STAMP_AGE_NS: i64 = 1_000_000_000;

/// `STA_UNSYNC` of adjtimex(2): nobody disciplines the clock.
const STA_UNSYNC: i32 = 0x40;

/// The kernel's CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> BootNs {
        BootNs(read(ClockId::Boottime).max(0) as u64)
    }
}

impl SystemClock {
    /// What UTC is now, how well the two clocks could be read together, and what the kernel thinks of its UTC.
    pub fn sample(&self) -> ClockSample {
        let narrowest = (0..READS).map(|_| Bracket::read()).min_by_key(Bracket::width_ns).unwrap_or_else(Bracket::read);
        ClockSample {
            boot: narrowest.middle(),
            utc_ns: narrowest.real_ns,
            bracket_ns: narrowest.width_ns().div_ceil(2),
            sync: kernel_sync(),
        }
    }
}

/// CLOCK_REALTIME read between two reads of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bracket {
    /// Boot time before.
    pub before: BootNs,
    /// Real time, ns since 1970.
    pub real_ns: i64,
    /// Boot time after.
    pub after: BootNs,
}

impl Bracket {
    /// Reads the clocks.
    pub fn read() -> Bracket {
        let before = SystemClock.now();
        let real_ns = read(ClockId::Realtime);
        Bracket { before, real_ns, after: SystemClock.now() }
    }

    fn width_ns(&self) -> u64 {
        self.after.0.saturating_sub(self.before.0)
    }

    fn middle(&self) -> BootNs {
        BootNs(self.before.0 + self.width_ns() / 2)
    }

    /// Boot time of something the kernel stamped with real time a moment ago, as socketcan does:
    /// `t = (b1 + b2)/2 - (R - r)`. `Err` with the best that can be said, the time of this bracket, when the stamp
    /// lies in the future or more than a second back: the clock was stepped in between, and the stamp is worth nothing.
    pub fn boot_of(&self, stamp_real_ns: i64) -> Result<BootNs, BootNs> {
        match self.real_ns.checked_sub(stamp_real_ns) {
            Some(age @ 0..=MAX_STAMP_AGE_NS) => Ok(BootNs(self.middle().0.saturating_sub(age as u64))),
            _ => Err(self.before),
        }
    }
}

/// How far CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, with which GPIO events are stamped: the time spent suspended.
/// Read again each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonotonicOffset(pub u64);

impl MonotonicOffset {
    /// Reads the clocks. The narrowest of a few reads, so that an interrupt does not look like a suspend.
    pub fn read() -> MonotonicOffset {
        let once = || {
            let monotonic = read(ClockId::Monotonic);
            read(ClockId::Boottime).saturating_sub(monotonic).max(0) as u64
        };
        let least = (0..READS).map(|_| once()).min().unwrap_or(0);
        // Without a suspend the clocks are equal; what is read then is the time between the two reads.
        MonotonicOffset(if least < 1_000_000 { 0 } else { least })
    }

    /// Boot time of a monotonic stamp.
    pub fn boot_of(self, monotonic_ns: u64) -> BootNs {
        BootNs(monotonic_ns.saturating_add(self.0))
    }
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as i64)
}

/// What the kernel says of its clock: adjtimex(2), read only. Where it may not be asked, nobody vouches.
fn kernel_sync() -> KernelSync {
    // SAFETY: `timex` is integers only, for which all zeroes is a value; `modes` of 0 asks and changes nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `timex` of our own, which the call fills and does not keep.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return KernelSync::NONE;
    }
    let ns = |microseconds: i64| microseconds.max(0) as u64 * 1000;
    KernelSync {
        synchronised: timex.status & STA_UNSYNC == 0,
        // The width of the kernel's type differs between machines.
        #[allow(clippy::useless_conversion)]
        max_error_ns: ns(timex.maxerror.into()),
        #[allow(clippy::useless_conversion)]
        estimated_error_ns: ns(timex.esterror.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_of_five_reads_of_the_real_clocks_is_narrow() {
        let sample = SystemClock.sample();
        assert!(sample.bracket_ns < 1_000_000, "{sample:?}");
        assert!(sample.utc_ns > 1_600_000_000_000_000_000, "{sample:?}");
        assert!(SystemClock.now().since(sample.boot).as_secs() < 5);
    }

    #[test]
    fn a_monotonic_stamp_of_now_is_boot_time_now() {
        let offset = MonotonicOffset::read();
        let before = SystemClock.now();
        let stamp = offset.boot_of(read(ClockId::Monotonic) as u64);
        let after = SystemClock.now();
        let slack = std::time::Duration::from_millis(1);
        assert!(stamp + slack >= before && stamp <= after + slack, "{before:?} {stamp:?} {after:?} {offset:?}");
    }

    #[test]
    fn a_kernel_stamp_is_carried_over_by_its_age() {
        let bracket =
            Bracket { before: BootNs(5_000_000_000), real_ns: 1_700_000_000_000_000_000, after: BootNs(5_000_000_400) };
        let age = |ns: i64| bracket.boot_of(bracket.real_ns - ns);
        assert_eq!(age(0), Ok(BootNs(5_000_000_200)));
        assert_eq!(age(2_000_000), Ok(BootNs(4_998_000_200)));
        assert_eq!(age(1_000_000_000), Ok(BootNs(4_000_000_200)));
    }

    #[test]
    fn a_stamp_from_before_a_step_falls_back_to_the_time_of_reading() {
        let bracket =
            Bracket { before: BootNs(5_000_000_000), real_ns: 1_700_000_000_000_000_000, after: BootNs(5_000_000_400) };
        let three_days = 3 * 86_400 * 1_000_000_000;
        for stamp in
            [bracket.real_ns - three_days, bracket.real_ns + 3_600_000_000_000, bracket.real_ns + 1, i64::MIN, i64::MAX]
        {
            assert_eq!(bracket.boot_of(stamp), Err(bracket.before), "{stamp}");
        }
    }
}
