//! Consecutive records on their way to the hub.

use alloc::{borrow::Cow, vec::Vec};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    id::{GatewayId, LogId, Seq},
    record::Record,
};

/// Consecutive records of one log.
///
/// In postcard `oldest_seq` is told as how far it lies before `first_seq` (wrapping), which is nothing as long as the
/// gateway keeps up.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What stands before the entries: gateway, log, first_seq, first_seq - oldest_seq.
pub(crate) type Head<'b> = (Cow<'b, GatewayId>, LogId, Seq, u64);

/// The head of a batch. There is no JSON of it: the twin of a batch is in [`crate::json`].
pub(crate) fn head(gateway: &GatewayId, log: LogId, oldest_seq: Seq, first_seq: Seq) -> Head<'_> {
    (Cow::Borrowed(gateway), log, first_seq, first_seq.wrapping_sub(oldest_seq))
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        (head(&self.gateway, self.log, self.oldest_seq, self.first_seq), &self.entries).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let ((gateway, log, first_seq, behind), entries) = <(Head<'_>, Vec<Entry>)>::deserialize(d)?;
        let (gateway, oldest_seq) = (gateway.into_owned(), first_seq.wrapping_sub(behind));
        Ok(Self { gateway, log, oldest_seq, first_seq, entries })
    }
}

/// A record and how many sequence numbers it stands for: more than one for merged samples and for a loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How many consecutive sequence numbers; at least 1.
    pub span: u64,
    /// The record.
    pub record: Record,
}
