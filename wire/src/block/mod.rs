//! How the columns of a samples record become bytes.

use alloc::vec::Vec;

use crate::{Manifest, Quality};

mod bits;
mod code;
mod decode;
mod encode;
mod merge;
mod periods;
mod predict;
mod uncertainty;

pub use decode::decode;
pub use encode::encode;
pub use merge::{MergeError, merge};
pub use periods::Periods;
pub use uncertainty::Uncertainty;

/// The samples of one channel in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Number of the channel in the manifest.
    pub channel: u16,
    /// In the order they were measured.
    pub samples: Vec<Sample>,
}

/// One measurement in the integers of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When: CLOCK_BOOTTIME ns = `tick` x the channel's `tick_ns`.
    pub tick: u64,
    /// What: value = `value` x the channel's resolution.
    pub value: i64,
    /// How sure: one standard uncertainty.
    pub uncertainty: Uncertainty,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// Why bytes are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The bytes end in the middle.
    #[error("block ends early, after {0} bytes")]
    Short(usize),
    /// A form of block that came after this code, or no block.
    #[error("block form {0} is unknown, known is {FORM}")]
    Form(u8),
    /// A column or a run claims no sample, or more than the rest of the block can hold.
    #[error("block claims {0} samples where so many cannot be")]
    Count(u64),
    /// A number that the encoder never writes.
    #[error("block has a number outside its range")]
    Number,
    /// More bytes than the columns take.
    #[error("{0} bytes after the last column of the block")]
    Rest(usize),
}

/// The form this code writes and reads.
const FORM: u8 = 1;

/// How the times of a column are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// They are those of the column before.
    #[default]
    Copy = 0,
    /// Against the schedule origin + i x period.
    Schedule = 1,
    /// Against a schedule that follows them slowly: their clock drifts against ours.
    Drift = 2,
    /// Against the time before, plus the period.
    Free = 3,
}

impl Mode {
    const ALL: [Mode; 4] = [Mode::Copy, Mode::Schedule, Mode::Drift, Mode::Free];

    /// Place in [`predict::TIME_GAINS`].
    fn gains(self) -> Option<usize> {
        (self as usize).checked_sub(1)
    }
}

/// What a column leaves for the next one to refer to.
#[derive(Clone, Copy, Debug, Default)]
struct Context {
    channel: u16,
    count: u64,
    mode: Mode,
    period: u64,
    uncertainty: Uncertainty,
    origin: u64,
    origin_step: u64,
    time_k: u32,
    value_k: u32,
    first_bits: u32,
    first_value: i64,
}

impl Context {
    /// All zero and `Copy`; the channel so that number 0 is the next.
    fn before_first() -> Self {
        Self { channel: u16::MAX, ..Self::default() }
    }

    /// Channels are often read one after the other: the next origin is as far from the last as that was from its last.
    fn expected_origin(&self) -> u64 {
        self.origin.wrapping_add(self.origin_step)
    }

    fn take_origin(&mut self, origin: u64) {
        // From nothing to the first origin is no step.
        self.origin_step = if self.origin == 0 { 0 } else { origin.wrapping_sub(self.origin) };
        self.origin = origin;
    }
}

/// Qualities by their two bits. A fifth would need a new form of block.
const QUALITIES: [Quality; 4] = [Quality::Good, Quality::Estimated, Quality::Degraded, Quality::Stopped];

fn quality_code(quality: Quality) -> u64 {
    QUALITIES.iter().position(|&q| q == quality).map_or(0, |at| at as u64)
}

/// The second value tells the whole trend, which is some times larger than what the predictor will miss later.
fn second_k(k: u32) -> u32 {
    k + 2
}

#[cfg(test)]
mod tests;
