//! What was connected when, and why not: one row a stretch of time in one state.
//!
//! Of each thing at most one row is open: its `until` comes with the next change.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StoreError;

/// Ended stretches kept; the oldest make room. Some 150 bytes each.
pub const MAX_PRESENCE_ROWS: i64 = 2_000_000;
/// Longest reason kept, bytes.
pub const MAX_REASON: usize = 512;

/// What has a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PresenceKind {
    /// A gateway, or another device that sends readings.
    Gateway,
    /// A hub itself.
    Hub,
    /// A sensor of a gateway.
    Sensor,
    /// A vehicle.
    Vehicle,
}

/// What has the state: its kind, the gateway of a sensor (empty otherwise), its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PresenceKey {
    /// See above.
    pub kind: PresenceKind,
    /// See above.
    pub gateway: String,
    /// See above.
    pub id: String,
}

/// From here on it is so.
#[derive(Clone, Debug, PartialEq)]
pub struct PresenceChange {
    /// Of what.
    pub key: PresenceKey,
    /// In a word.
    pub state: String,
    /// Since when, UTC ns.
    pub since_ns: i64,
    /// Why, in words.
    pub reason: String,
    /// When something was last heard of it, UTC ns.
    pub seen_ns: Option<i64>,
    /// How often it usually speaks, ns, if that was learned.
    pub beat_ns: Option<i64>,
}

/// When something was last heard of what is still in the same state.
#[derive(Clone, Debug, PartialEq)]
pub struct PresenceSeen {
    /// Of what.
    pub key: PresenceKey,
    /// UTC ns.
    pub seen_ns: i64,
    /// How often it usually speaks, ns, if that was learned.
    pub beat_ns: Option<i64>,
}

/// To be written in one go. Who writes the same a second time, or a second hub that saw the same, changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PresenceNotes {
    /// In the order they happened.
    pub changes: Vec<PresenceChange>,
    /// After these.
    pub seen: Vec<PresenceSeen>,
}

/// A stretch of time in one state.
#[derive(Clone, Debug, PartialEq)]
pub struct PresenceRow {
    /// Its number.
    pub row: i64,
    /// What began it.
    pub began: PresenceChange,
    /// When it ended, UTC ns; not yet when it is not there.
    pub until_ns: Option<i64>,
}

/// Stretches that reach into a range of UTC, both ends inclusive, in order of their beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct PresenceQuery {
    /// Of one thing; without it, of all, and then those that began in the range.
    pub of: Option<PresenceKey>,
    /// UTC ns.
    pub from_ns: i64,
    /// UTC ns.
    pub to_ns: i64,
    /// After this one: its beginning and its number.
    pub after: Option<(i64, i64)>,
    /// At most so many.
    pub limit: usize,
}

/// Reads what was connected when. Calls block.
pub trait ReadPresence {
    /// How things stood when last something was written, those with a key after this one.
    fn presence_now(&self, after: Option<&PresenceKey>, limit: usize) -> Result<Vec<PresenceRow>, StoreError>;

    /// How they stood before.
    fn presence_history(&self, query: &PresenceQuery) -> Result<Vec<PresenceRow>, StoreError>;
}
