//! How the wire's words and numbers stand in a database.

use serde::{Serialize, de::DeserializeOwned};
use speedwell_wire::{GatewayId, LogId};

use super::StoreError;

/// Databases' integers have a sign; what does not fit was refused before it came here.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The kebab-case word of one of the wire's enums.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The enum of a word.
pub(super) fn unword<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_value(text.into()).map_err(|e| StoreError::Content(format!("the word {text:?}: {e}")))
}

pub(super) fn log_id(text: String) -> Result<LogId, StoreError> {
    text.parse().map_err(|_| StoreError::Content(format!("log {text:?}")))
}

pub(super) fn gateway(name: String) -> Result<GatewayId, StoreError> {
    GatewayId::new(name).map_err(|e| StoreError::Content(e.to_string()))
}
