//! How the columns of a samples record become bytes.

use alloc::vec::Vec;

pub use periods::Periods;
pub use uncertainty::Uncertainty;

use crate::{Manifest, Quality};

mod merge;
mod periods;
mod uncertainty;

pub use merge::{MergeError, merge};

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
    /// The bytes end in the middle, or claim more samples than they can hold.
    #[error("block ends early: {0} bytes")]
    Short(usize),
    /// Later forms of the block.
    #[error("block form {0} is unknown")]
    Form(u8),
}

type Row = (u64, i64, u8, Quality);

/// The columns as bytes. Columns without samples are left out.
pub fn encode(columns: &[Column], _periods: &impl Periods) -> Vec<u8> {
    let rows: Vec<(u16, Vec<Row>)> = columns
        .iter()
        .filter(|column| !column.samples.is_empty())
        .map(|c| (c.channel, c.samples.iter().map(|s| (s.tick, s.value, s.uncertainty.0, s.quality)).collect()))
        .collect();
    crate::frame::body(&rows)
}

/// The columns out of their bytes.
pub fn decode(block: &[u8]) -> Result<Vec<Column>, BlockError> {
    let rows: Vec<(u16, Vec<Row>)> = postcard::from_bytes(block).map_err(|_| BlockError::Short(block.len()))?;
    let sample = |(tick, value, u, quality)| Sample { tick, value, uncertainty: Uncertainty(u), quality };
    Ok(rows.into_iter().map(|(channel, r)| Column { channel, samples: r.into_iter().map(sample).collect() }).collect())
}
