//! The JSON twin of a batch, for people and foreign backends.

use alloc::string::String;

use crate::{Batch, Manifest, ManifestHash};

/// Why a batch does not become JSON, or JSON no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Later.
    #[error("not yet")]
    Later,
}

/// The batch as JSON.
pub fn batch_to_json<'m>(
    _batch: &Batch,
    _manifest_of: impl Fn(ManifestHash) -> Option<&'m Manifest>,
    _utc: impl Fn(u32, u64) -> Option<i64>,
) -> Result<String, JsonError> {
    Err(JsonError::Later)
}

/// The batch out of its JSON.
pub fn batch_from_json<'m>(
    _text: &str,
    _manifest_of: impl Fn(ManifestHash) -> Option<&'m Manifest>,
) -> Result<Batch, JsonError> {
    Err(JsonError::Later)
}
