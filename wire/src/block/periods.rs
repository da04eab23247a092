//! What the encoder is told of the schedule of each channel.

use super::Manifest;

/// Gives the report period of channels, so that times are coded against a schedule. It is a hint: a wrong one costs
/// bytes, never truth.
pub trait Periods {
    /// The period of a channel in 1/1024 of its tick; 0 when there is none.
    fn period(&self, channel: u16) -> u64;
}

/// Fractions of a tick that a period is told in: a period of 333.33 ms in ticks of 100 us must not drift off the
/// schedule within a block of some hundred samples.
pub(super) const PARTS: u64 = 1024;

impl Periods for Manifest {
    fn period(&self, channel: u16) -> u64 {
        let Some(channel) = self.channel(channel) else { return 0 };
        let tick = u128::from(channel.tick_ns.max(1));
        let parts = (u128::from(channel.period_ns) * u128::from(PARTS) + tick / 2) / tick;
        u64::try_from(parts).unwrap_or(0)
    }
}

/// No schedule is known.
impl Periods for () {
    fn period(&self, _: u16) -> u64 {
        0
    }
}
