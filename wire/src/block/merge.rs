//! Several records' samples in one block: a backlog costs less in wide blocks.

use alloc::vec::Vec;

use super::{BlockError, Column, decode, encode};
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
    let mut all: Vec<Column> = Vec::new();
    for (i, record) in records.iter().enumerate() {
        if (record.manifest, record.boot) != (first.manifest, first.boot) {
            return Err(MergeError::Different(i));
        }
        for column in decode(&record.block).map_err(|e| MergeError::Block(i, e))? {
            match all.binary_search_by_key(&column.channel, |c| c.channel) {
                Ok(at) => all[at].samples.extend(column.samples),
                Err(at) => all.insert(at, column),
            }
        }
    }
    Ok(Samples { manifest: first.manifest, boot: first.boot, block: encode(&all, &()) })
}
