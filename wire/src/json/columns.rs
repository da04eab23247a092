//! Columns of a block in JSON.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

use super::{JsonError, rfc3339};
use crate::{
    Channel, Manifest, ManifestHash, Quality, Quantity,
    block::{Column, Sample, Uncertainty},
};

/// Largest integer that is told as a decimal number: a float has 53 bits, and three are left for readers that round.
const EXACT: u64 = 1 << 50;

#[derive(Serialize, Deserialize)]
pub(super) struct ColumnJson {
    channel: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sensor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quantity: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(default)]
    time: Option<Vec<Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_s: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticks: Option<Vec<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<i64>>,
    uncertainty: Many<Option<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncertainty_code: Option<Vec<u8>>,
    quality: Many<Quality>,
}

/// One a sample, or one for all.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Many<T> {
    Each(Vec<T>),
    All(T),
}

impl<T: Copy + PartialEq> Many<T> {
    fn of(each: Vec<T>) -> Self {
        match each.first() {
            Some(&first) if each.iter().all(|&one| one == first) => Many::All(first),
            _ => Many::Each(each),
        }
    }

    fn get(&self, i: usize) -> Option<T> {
        match self {
            Many::Each(each) => each.get(i).copied(),
            Many::All(one) => Some(*one),
        }
    }
}

impl ColumnJson {
    pub(super) fn of(column: &Column, manifest: Option<&Manifest>, utc: &impl Fn(u64) -> Option<i64>) -> Self {
        let channel = manifest.and_then(|manifest| manifest.channel(column.channel));
        let samples = &column.samples[..];
        let usable = channel.filter(|c| c.tick_ns > 0 && c.resolution_nano > 0);
        let timed = usable.filter(|_| samples.iter().all(|s| s.tick < EXACT));
        let valued = usable.filter(|_| samples.iter().all(|s| s.value.unsigned_abs() < EXACT));
        let time = |c: &Channel| samples.iter().map(|s| utc(c.t_ns(s.tick)).and_then(rfc3339)).collect::<Vec<_>>();
        let codes = || samples.iter().map(|s| s.uncertainty.0).collect();
        Self {
            channel: column.channel,
            sensor: channel.map(|c| c.sensor.clone()),
            quantity: channel.map(|c| c.quantity),
            unit: channel.map(|c| c.quantity.unit().to_string()),
            time: usable.map(time).filter(|times| times.iter().any(Option::is_some)),
            boot_s: timed.map(|c| samples.iter().map(|s| seconds(c, s.tick)).collect()),
            ticks: timed.is_none().then(|| samples.iter().map(|s| s.tick).collect()),
            value: valued.map(|c| samples.iter().map(|s| c.value(s.value)).collect()),
            steps: valued.is_none().then(|| samples.iter().map(|s| s.value).collect()),
            uncertainty: Many::of(
                samples.iter().map(|s| usable.and_then(|c| s.uncertainty.in_unit(c.resolution()))).collect(),
            ),
            uncertainty_code: usable.is_none().then(codes),
            quality: Many::of(samples.iter().map(|s| s.quality).collect()),
        }
    }

    pub(super) fn into_column(self, hash: ManifestHash, manifest: Option<&Manifest>) -> Result<Column, JsonError> {
        let known = || {
            let manifest = manifest.ok_or(JsonError::Manifest(hash))?;
            manifest.channel(self.channel).ok_or(JsonError::Channel(self.channel))
        };
        let lengths = || JsonError::Lengths(self.channel);
        let ticks = match (&self.ticks, &self.boot_s) {
            (Some(ticks), _) => ticks.clone(),
            (None, Some(times)) => {
                let channel = known()?;
                times.iter().map(|&t| tick(channel, t)).collect()
            }
            (None, None) => return Err(lengths()),
        };
        let values = match (&self.steps, &self.value) {
            (Some(steps), _) => steps.clone(),
            (None, Some(values)) => {
                let channel = known()?;
                values.iter().map(|&value| channel.quantise(value)).collect()
            }
            (None, None) => return Err(lengths()),
        };
        let uncertainty = |i: usize| match &self.uncertainty_code {
            Some(codes) => codes.get(i).map(|&code| Uncertainty(code)).ok_or_else(lengths),
            None => match self.uncertainty.get(i).ok_or_else(lengths)? {
                Some(u) => Ok(Uncertainty::of(u, known()?.resolution())),
                None => Ok(Uncertainty::UNKNOWN),
            },
        };
        if ticks.len() != values.len() {
            return Err(lengths());
        }
        let sample = |(i, (tick, value))| {
            let quality = self.quality.get(i).ok_or_else(lengths)?;
            Ok(Sample { tick, value, uncertainty: uncertainty(i)?, quality })
        };
        let samples = ticks.into_iter().zip(values).enumerate().map(sample).collect::<Result<_, _>>()?;
        Ok(Column { channel: self.channel, samples })
    }
}

/// CLOCK_BOOTTIME in s.
fn seconds(channel: &Channel, tick: u64) -> f64 {
    (u128::from(tick) * u128::from(channel.tick_ns)) as f64 / 1e9
}

/// The tick nearest to a time in s.
fn tick(channel: &Channel, seconds: f64) -> u64 {
    (seconds * 1e9 / f64::from(channel.tick_ns.max(1)) + 0.5) as u64
}
