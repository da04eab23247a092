//! How the columns of a samples record become bytes.

use alloc::vec::Vec;

use code::Mean;
use predict::Schedule;

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
    /// Against a schedule that moves to where they are.
    Schedule = 1,
    /// Against the time before, plus the period.
    Free = 2,
}

/// What the head of a column told.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    count: u64,
    mode: Mode,
    /// Of its last sample.
    uncertainty: Uncertainty,
}

/// What a column leaves for the next one to refer to.
#[derive(Clone, Copy, Debug)]
struct Context {
    channel: u16,
    head: Head,
    /// Of the column before the last: sensors often have two channels each, which take turns.
    head_before: Head,
    /// The first tick told in the block; all others are told against it.
    base: Option<u64>,
    /// In parts of a tick, as the next two.
    period: u64,
    /// Where the last schedule began, by all its times, relative to the base.
    origin: i64,
    /// How far the next is expected behind it.
    origin_step: i64,
    time_mean: Mean,
    value_k: u32,
    first_bits: u32,
    first_value: i64,
}

impl Context {
    /// The channel so that number 0 is the next; all else zero.
    fn before_first() -> Self {
        Self {
            channel: u16::MAX,
            head: Head::default(),
            head_before: Head::default(),
            base: None,
            period: 0,
            origin: 0,
            origin_step: 0,
            time_mean: Mean::of_k(0),
            value_k: 4,
            first_bits: 14,
            first_value: 0,
        }
    }

    /// Channels are often read one after the other: the next schedule begins as far behind the last as that behind its
    /// last.
    fn schedule(&self) -> Schedule {
        Schedule::expecting(self.origin.wrapping_add(self.origin_step), self.period, self.head.mode == Mode::Free)
    }

    /// Where a schedule was found to begin, and whether that was near what was expected.
    fn take_origin(&mut self, origin: i64, near: bool) {
        let step = origin.wrapping_sub(self.origin);
        self.origin_step = if near {
            // Half of the way: each origin is uncertain by a part of the jitter.
            self.origin_step.wrapping_add(step.wrapping_sub(self.origin_step) >> 1)
        } else {
            step
        };
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
