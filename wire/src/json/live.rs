//! Live values in JSON: each names its sensor and unit, so that any MQTT tool shows something a person can read.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::JsonError;
use crate::{Live, LiveValue, Manifest, ManifestHash, NoData, Quality, Quantity};

#[derive(Serialize)]
struct LiveJson {
    manifest: ManifestHash,
    boot: u32,
    now_ns: u64,
    values: Vec<ValueJson>,
}

/// Either value, uncertainty and quality are there, or `no_data`. Names, unit and age are derived and not read back.
#[derive(Serialize, Deserialize)]
struct ValueJson {
    channel: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sensor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quantity: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    t_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    age_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncertainty: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quality: Option<Quality>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_data: Option<NoData>,
}

impl ValueJson {
    fn of(live: &LiveValue) -> Self {
        // JSON has no word for what is no number.
        let said = match live.value {
            Ok((value, _, _)) if !value.is_finite() => Err(NoData::OutOfRange),
            said => said,
        };
        Self {
            channel: live.channel,
            sensor: None,
            quantity: None,
            unit: None,
            t_ns: live.t_ns,
            age_s: None,
            value: said.ok().map(|(value, _, _)| value),
            uncertainty: said.ok().map(|(_, uncertainty, _)| uncertainty).filter(|u| u.is_finite()),
            quality: said.ok().map(|(_, _, quality)| quality),
            no_data: said.err(),
        }
    }

    fn named(mut self, now_ns: u64, manifest: Option<&Manifest>) -> Self {
        let channel = manifest.and_then(|manifest| manifest.channel(self.channel));
        self.sensor = channel.map(|c| c.sensor.clone());
        self.quantity = channel.map(|c| c.quantity);
        self.unit = channel.map(|c| c.quantity.unit().to_string());
        // In whole ms: nobody watches closer.
        self.age_s = Some((now_ns.saturating_sub(self.t_ns) / 1_000_000) as f64 / 1e3);
        self
    }

    fn into_value(self) -> Result<LiveValue, &'static str> {
        let value = match (self.value, self.quality, self.no_data) {
            (Some(value), Some(quality), None) => Ok((value, self.uncertainty.unwrap_or(f32::NAN), quality)),
            (None, None, Some(reason)) => Err(reason),
            _ => return Err("neither a value with its quality nor no_data, or both"),
        };
        Ok(LiveValue { channel: self.channel, t_ns: self.t_ns, value })
    }
}

/// Live values as JSON. Without their manifest the names and units are left out. [`crate::frame::decode_any`] reads it.
pub fn live_to_json(live: &Live, manifest: Option<&Manifest>) -> Result<String, JsonError> {
    let values = live.values.iter().map(|value| ValueJson::of(value).named(live.now_ns, manifest)).collect();
    let twin = LiveJson { manifest: live.manifest, boot: live.boot, now_ns: live.now_ns, values };
    serde_json::to_string(&twin).map_err(super::syntax)
}

impl Serialize for LiveValue {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            ValueJson::of(self).serialize(s)
        } else {
            (self.channel, self.t_ns, self.value).serialize(s)
        }
    }
}

impl<'de> Deserialize<'de> for LiveValue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return ValueJson::deserialize(d)?.into_value().map_err(D::Error::custom);
        }
        let (channel, t_ns, value) = Deserialize::deserialize(d)?;
        Ok(Self { channel, t_ns, value })
    }
}
