//! Time: what the gateway stamps with, and what UTC that is.
//!
//! In      the kernel's clocks.
//! Out     [`BootNs`] stamps for every room; [`Fix`]es that map them to UTC, with who vouches for them.
//! Keeps   nothing but the last fix.
//! Imports nothing of ours.

use std::time::Duration;

/// CLOCK_BOOTTIME in nanoseconds: runs through suspend, never steps, starts again at each boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootNs(pub u64);

impl BootNs {
    /// Time since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: BootNs) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for BootNs {
    type Output = BootNs;
    fn add(self, d: Duration) -> BootNs {
        BootNs(self.0.saturating_add(d.as_nanos().min(u128::from(u64::MAX)) as u64))
    }
}

/// The clock, as a room sees it: a replay and a test bring their own.
pub trait Clock: Send + Sync {
    /// Boot time now.
    fn now(&self) -> BootNs;
}
