//! Several records' samples in one block: a backlog costs less in wide blocks.

use alloc::vec::Vec;

use super::{BlockError, Column, Periods, decode::each, encode};
use crate::record::Samples;

/// Why records were not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// There were none.
    #[error("no records to merge")]
    None,
    /// They are read with different manifests or belong to different boots.
    #[error("record {0} has another manifest or boot than the first")]
    Different(usize),
    /// One cannot be read; send it as it is.
    #[error("record {0} cannot be read: {1}")]
    Block(usize, BlockError),
}

/// One samples record with the samples of all, in order. They must share manifest and boot.
pub fn merge(records: &[&Samples]) -> Result<Samples, MergeError> {
    let first = records.first().ok_or(MergeError::None)?;
    let mut all = Merged::default();
    for (i, record) in records.iter().enumerate() {
        if (record.manifest, record.boot) != (first.manifest, first.boot) {
            return Err(MergeError::Different(i));
        }
        each(&record.block, |column, period| all.take(column, period)).map_err(|e| MergeError::Block(i, e))?;
    }
    Ok(Samples { manifest: first.manifest, boot: first.boot, block: encode(&all.columns, &all) })
}

/// Columns in ascending order of channel, and the periods they were told with.
#[derive(Default)]
struct Merged {
    columns: Vec<Column>,
    periods: Vec<u64>,
}

impl Merged {
    fn take(&mut self, column: Column, period: u64) {
        match self.columns.binary_search_by_key(&column.channel, |c| c.channel) {
            Ok(at) => self.columns[at].samples.extend(column.samples),
            Err(at) => {
                self.columns.insert(at, column);
                self.periods.insert(at, period);
            }
        }
    }
}

impl Periods for Merged {
    fn period(&self, channel: u16) -> u64 {
        let at = self.columns.binary_search_by_key(&channel, |c| c.channel).ok();
        at.and_then(|at| self.periods.get(at)).copied().unwrap_or(0)
    }
}
