//! Consecutive records on their way to the hub.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::{
    id::{GatewayId, LogId, Seq},
    record::Record,
};

/// Consecutive records of one log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Whose.
    pub gateway: GatewayId,
    /// Of which log.
    pub log: LogId,
    /// The oldest record the gateway still has. What lies before it will never come: the hub may pass over it.
    pub oldest_seq: Seq,
    /// Sequence number of the first entry.
    pub first_seq: Seq,
    /// The records, in order, without holes.
    pub entries: Vec<Entry>,
}

/// A record and how many sequence numbers it stands for: more than one for merged samples and for a loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How many consecutive sequence numbers; at least 1.
    pub span: u64,
    /// The record.
    pub record: Record,
}
