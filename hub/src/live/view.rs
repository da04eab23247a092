//! What is shown of a gateway and of a channel.

use serde::Serialize;
use speedwell_wire::{GatewayId, NoData, Quality, Quantity, message::Health};
use utoipa::ToSchema;

use super::described;
use crate::store::Standing;

/// Whether a gateway can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// It says so, and has been heard within 150 s, two and a half beats of its status.
    Online,
    /// It said goodbye, or the broker says that its connection broke.
    Offline,
    /// It is connected by what was last said, but nothing has come for longer than that.
    Silent,
    /// Only stored records are known of it.
    Unknown,
}

/// How gateways are, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By [`Connection`], in its order.
    pub(super) connections: [u64; 4],
    /// Records that they said they have and that are not stored.
    pub behind: u64,
}

impl Totals {
    /// How many are connected how.
    pub fn by_connection(&self) -> [(&'static str, u64); 4] {
        let [online, offline, silent, unknown] = self.connections;
        [("online", online), ("offline", offline), ("silent", silent), ("unknown", unknown)]
    }
}

/// All that is shown of a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GatewayView {
    /// Its name.
    #[schema(value_type = String)]
    pub id: GatewayId,
    /// Whether it can be heard.
    pub connection: Connection,
    /// For how long it has been so, ms; absent when it was so before the hub started.
    pub connection_age_ms: Option<u64>,
    /// Since something of it was last heard, ms.
    pub heard_age_ms: Option<u64>,
    /// Version of its agent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What it says of itself.
    #[schema(value_type = Option<described::Health>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What is stored of it.
    pub stored: Standing,
    /// Why the database refuses the batch that comes next in its log; absent when it takes what comes. The gateway keeps the
    /// batch and what follows it, and sends them again and again.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Its channels, by sensor and quantity.
    pub channels: Vec<ChannelView>,
}

/// All that is shown of a channel: a value, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChannelView {
    /// The sensor's name.
    pub sensor: String,
    /// What is measured.
    #[schema(value_type = String)]
    pub quantity: Quantity,
    /// Its unit.
    pub unit: &'static str,
    /// The value in that unit.
    pub value: Option<f64>,
    /// One standard uncertainty in that unit.
    pub uncertainty: Option<f64>,
    /// How far the value can be trusted.
    #[schema(value_type = Option<String>)]
    pub quality: Option<Quality>,
    /// Why there is no value.
    #[schema(value_type = Option<String>)]
    pub no_data: Option<NoData>,
    /// Since the value was measured, or since when there is none, ms; absent when no clock tells.
    pub age_ms: Option<u64>,
}
