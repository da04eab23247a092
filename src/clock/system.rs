//! The kernel's clocks.

use rustix::time::{ClockId, clock_gettime};

use super::{BootNs, Clock, ClockSample, KernelSync};

/// Reads of the offset of which the narrowest counts: an interrupt between two clock reads widens one, hardly five.
const READS: usize = 5;

/// And one narrower than this is as good as another.
const NARROW_NS: u64 = 20_000;

/// `STA_UNSYNC` of adjtimex(2): nobody disciplines the clock. `STA_NANO`: the offset is in ns and not in us.
const STA_UNSYNC: i32 = 0x40;
const STA_NANO: i32 = 0x2000;

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

    /// The narrowest of a few reads, or the first that is narrow: a reader that is interrupted in between says little.
    pub fn narrow() -> Bracket {
        let mut narrowest = Bracket::read();
        for _ in 1..READS {
            if narrowest.width_ns() < NARROW_NS {
                break;
            }
            narrowest = [narrowest, Bracket::read()].into_iter().min_by_key(Bracket::width_ns).unwrap_or(narrowest);
        }
        narrowest
    }

    /// How far apart boot time was read.
    pub fn width_ns(&self) -> u64 {
        self.after.0.saturating_sub(self.before.0)
    }

    /// Boot time when real time was read, to half the width.
    pub fn middle(&self) -> BootNs {
        BootNs(self.before.0 + self.width_ns() / 2)
    }

    /// Real time less boot time, ns.
    pub fn offset(&self) -> i64 {
        self.real_ns.saturating_sub_unsigned(self.middle().0)
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
        #[allow(clippy::useless_conversion)]
        slewing_ns: i64::from(timex.offset).unsigned_abs() * if timex.status & STA_NANO == 0 { 1000 } else { 1 },
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
}
