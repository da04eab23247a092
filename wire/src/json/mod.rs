//! The JSON twins of a batch and of live values, for people and foreign backends: names, units, decimal numbers, RFC 3339 times.
//!
//! ```text
//! {"gateway": "truck-7", "log": "0123456789abcdef", "oldest_seq": 1, "first_seq": 5, "entries": [
//!   {"span": 1, "samples": {"manifest": "...", "boot": 3, "channels": [
//!     {"channel": 0, "sensor": "front-wheel", "quantity": "speed", "unit": "m/s",
//!      "time": ["2026-01-01T00:00:00.1Z", ...], "boot_s": [60.1, ...], "value": [12.346, ...],
//!      "uncertainty": 0.005, "quality": "good"}]}},
//!   {"span": 1, "event": {...}}, {"span": 1, "clock": {...}}, {"span": 40, "loss": {...}}]}
//! ```
//! - `time` is null where the boot's time has not been mapped to UTC; it is derived, and not read back.
//! - `uncertainty` and `quality` are one for all samples where they are the same for all, otherwise one a sample;
//!   an uncertainty of null is unknown.
//! - Without the manifest, or where a decimal number would not come back exactly (beyond 2^50 steps), `ticks` and
//!   `steps` stand for `boot_s` and `value`, and `uncertainty_code` for `uncertainty`: the integers of the block.
//!
//! Live values:
//! ```text
//! {"manifest": "...", "boot": 3, "now_ns": 60000000000, "values": [
//!   {"channel": 0, "sensor": "front-wheel", "quantity": "speed", "unit": "m/s", "t_ns": 59900000000, "age_s": 0.1,
//!    "value": 12.346, "uncertainty": 0.005, "quality": "good"},
//!   {"channel": 1, ..., "no_data": "stale"}]}
//! ```
//! - `sensor`, `quantity`, `unit` and `age_s` are derived, and not read back; `uncertainty` is left out when unknown.
//!
//! Read back it is the same batch, column for column; the bytes of a block are the encoder's choice.

use alloc::{string::String, vec::Vec};

use crate::{
    Batch, Entry, Manifest, ManifestHash,
    block::BlockError,
    frame::MAX_JSON,
    id::{GatewayId, LogId, Seq},
};

mod columns;
mod entries;
mod live;
#[cfg(test)]
mod tests;

use entries::EntryJson;
pub use live::live_to_json;

/// Why a batch does not become JSON, or JSON no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The block of an entry cannot be read.
    #[error("entry {entry}: {error}")]
    Block {
        /// Place in the batch, from 0.
        entry: usize,
        /// What is wrong with it.
        error: BlockError,
    },
    /// Longer than [`MAX_JSON`]; not looked into.
    #[error("{0} bytes of JSON are too long, allowed are {MAX_JSON}")]
    TooLong(usize),
    /// Not the JSON of a batch.
    #[error("line {line}, column {column}: not the JSON of a batch")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Decimal numbers cannot be read without the manifest.
    #[error("manifest {0} is not known")]
    Manifest(ManifestHash),
    /// The manifest has no such channel.
    #[error("channel {0} is not in the manifest")]
    Channel(u16),
    /// The lists of a channel are not all of the same length, or one is missing.
    #[error("channel {0}: lists of different lengths")]
    Lengths(u16),
    /// An entry is none of samples, event, clock and loss, or more than one of them.
    #[error("entry {0} is not exactly one of samples, event, clock, loss")]
    Entry(usize),
}

#[derive(serde::Serialize, serde::Deserialize)]
struct BatchJson {
    gateway: GatewayId,
    log: LogId,
    oldest_seq: Seq,
    first_seq: Seq,
    entries: Vec<EntryJson>,
}

/// The batch as JSON. `utc` maps boot and CLOCK_BOOTTIME ns to UTC ns where the mapping is known.
pub fn batch_to_json<'m>(
    batch: &Batch,
    manifest_of: impl Fn(ManifestHash) -> Option<&'m Manifest>,
    utc: impl Fn(u32, u64) -> Option<i64>,
) -> Result<String, JsonError> {
    let entry = |(i, entry): (usize, &Entry)| {
        EntryJson::of(entry, &manifest_of, &utc).map_err(|error| JsonError::Block { entry: i, error })
    };
    let twin = BatchJson {
        gateway: batch.gateway.clone(),
        log: batch.log,
        oldest_seq: batch.oldest_seq,
        first_seq: batch.first_seq,
        entries: batch.entries.iter().enumerate().map(entry).collect::<Result<_, _>>()?,
    };
    serde_json::to_string(&twin).map_err(syntax)
}

/// The batch out of its JSON.
pub fn batch_from_json<'m>(
    text: &str,
    manifest_of: impl Fn(ManifestHash) -> Option<&'m Manifest>,
) -> Result<Batch, JsonError> {
    if text.len() > MAX_JSON {
        return Err(JsonError::TooLong(text.len()));
    }
    let twin: BatchJson = serde_json::from_str(text).map_err(syntax)?;
    let entries = twin.entries.into_iter().enumerate().map(|(i, entry)| entry.into_entry(i, &manifest_of));
    Ok(Batch {
        gateway: twin.gateway,
        log: twin.log,
        oldest_seq: twin.oldest_seq,
        first_seq: twin.first_seq,
        entries: entries.collect::<Result<_, _>>()?,
    })
}

fn syntax(error: serde_json::Error) -> JsonError {
    JsonError::Syntax { line: error.line(), column: error.column() }
}

/// RFC 3339, in as many digits as it takes.
fn rfc3339(utc_ns: i64) -> Option<String> {
    use alloc::string::ToString;
    jiff::Timestamp::from_nanosecond(i128::from(utc_ns)).ok().map(|t| t.to_string())
}
