//! Where each message travels.
//!
//! ```text
//! {prefix}/{gateway}/log                batches            gateway -> hub
//! {prefix}/{gateway}/manifest/{hash}    channel lists      gateway -> hub, retained
//! {prefix}/{gateway}/live               newest values      gateway -> hub
//! {prefix}/{gateway}/status             birth and health   gateway -> hub, retained, last will
//! {prefix}/{gateway}/confirm            stored up to       hub -> gateway, retained
//! {prefix}/{gateway}/command, /reply    later
//! ```
//! The prefix is the operator's, [`DEFAULT_PREFIX`] unless configured, and may have levels of its own.

use alloc::{format, string::String};

use crate::id::{GatewayId, ManifestHash};

/// The prefix where none is configured.
pub const DEFAULT_PREFIX: &str = "speedwell/v1";

/// The topics of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    base: String,
}

/// What a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Batches.
    Log,
    /// The manifest of this hash.
    Manifest(ManifestHash),
    /// Newest values.
    Live,
    /// Birth, heartbeat, last will.
    Status,
    /// What the hub has stored.
    Confirm,
    /// From the hub.
    Command,
    /// To a command.
    Reply,
}

impl Topics {
    /// The topics of a gateway under a prefix.
    pub fn new(prefix: &str, gateway: &GatewayId) -> Self {
        Self { base: format!("{prefix}/{gateway}") }
    }

    /// Batches.
    pub fn log(&self) -> String {
        self.under("log")
    }

    /// A channel list.
    pub fn manifest(&self, hash: ManifestHash) -> String {
        format!("{}/manifest/{hash}", self.base)
    }

    /// Newest values.
    pub fn live(&self) -> String {
        self.under("live")
    }

    /// Birth, heartbeat, last will.
    pub fn status(&self) -> String {
        self.under("status")
    }

    /// What the hub has stored.
    pub fn confirm(&self) -> String {
        self.under("confirm")
    }

    /// From the hub.
    pub fn command(&self) -> String {
        self.under("command")
    }

    /// To a command.
    pub fn reply(&self) -> String {
        self.under("reply")
    }

    fn under(&self, last: &str) -> String {
        format!("{}/{last}", self.base)
    }
}

/// Whose topic it is and what it carries; `None` for a topic that is not ours.
pub fn parse(prefix: &str, topic: &str) -> Option<(GatewayId, Kind)> {
    let rest = topic.strip_prefix(prefix)?.strip_prefix('/')?;
    let (gateway, kind) = rest.split_once('/')?;
    let kind = match kind {
        "log" => Kind::Log,
        "live" => Kind::Live,
        "status" => Kind::Status,
        "confirm" => Kind::Confirm,
        "command" => Kind::Command,
        "reply" => Kind::Reply,
        other => Kind::Manifest(parse_hash(other.strip_prefix("manifest/")?)?),
    };
    Some((GatewayId::new(gateway).ok()?, kind))
}

/// Exactly as [`Topics::manifest`] writes it: one topic a manifest, so that a retained one can be replaced.
fn parse_hash(text: &str) -> Option<ManifestHash> {
    text.parse().ok().filter(|hash: &ManifestHash| format!("{hash}") == text)
}

/// What a hub subscribes to for all gateways: log, manifest, live, status.
pub fn hub_filters(prefix: &str) -> [String; 4] {
    [log_filter(prefix), format!("{prefix}/+/manifest/+"), format!("{prefix}/+/live"), format!("{prefix}/+/status")]
}

/// The batches of all gateways.
pub fn log_filter(prefix: &str) -> String {
    format!("{prefix}/+/log")
}
