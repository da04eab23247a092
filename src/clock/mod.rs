//! Time: what the gateway stamps with, and what UTC that is.
//!
//! In      the kernel's clocks; what a satellite receiver tells of UTC, from `sensor`.
//! Out     [`BootNs`] stamps for every room; [`Fix`]es that map them to UTC, with who vouches for them; the number of
//!         this boot.
//! Keeps   the number of the boot in the state directory; otherwise the last few minutes of the clock's behaviour.
//! Imports nothing of ours.
//!
//! Everything is stamped with CLOCK_BOOTTIME, which never steps, and never stamped again. UTC is a mapping beside it,
//! which may come later and apply to what was measured before: see [`FixKeeper`] for when a new one is made.
//!
//! The kernel's clocks are read in `system.rs` alone, and `steps.rs` hears when one is set; the rest takes numbers and can be turned by hand in a test.

mod boot;
mod gnss;
mod stamps;
mod steps;
mod system;
mod utc;
#[cfg(test)]
mod utc_tests;

use std::{io, path::PathBuf, time::Duration};

pub use boot::{BootId, BootNumber, Memory, boot_number};
pub use gnss::{Implausible, Timekeeper};
pub use stamps::StampClock;
pub use steps::Steps;
pub use system::{Bracket, MonotonicOffset, SystemClock};
pub use utc::{ClockSample, Fix, FixKeeper, KernelSync, TimeSource, Utc, UtcMap, Why};

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

/// Why the boot could not be told from others.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The kernel's boot id could not be read; nothing was written.
    #[error("cannot read the boot id from {path}: {cause}")]
    BootId {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The kernel's boot id is not one; nothing was written.
    #[error("{path} holds {text:?}, which is not a boot id")]
    NotABootId {
        /// Where it was read.
        path: PathBuf,
        /// What was read, cut to a line.
        text: String,
    },
    /// The boot's number could not be kept, so the next boot could get the same one. Whatever file was there is
    /// still there, old or new, whole.
    #[error("cannot keep the boot number in {path}: {cause}")]
    State {
        /// The file concerned.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}
