//! Entries of a batch in JSON.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

use super::{JsonError, columns::ColumnJson, rfc3339};
use crate::{
    ClockFix, ClockSource, Entry, Event, EventKind, Loss, LossReason, Manifest, ManifestHash, Record, Samples,
    block::{self, BlockError},
    record,
};

/// Exactly one of the four is there.
#[derive(Serialize, Deserialize)]
pub(super) struct EntryJson {
    span: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    samples: Option<SamplesJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<EventJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock: Option<ClockJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss: Option<LossJson>,
}

#[derive(Serialize, Deserialize)]
struct SamplesJson {
    manifest: ManifestHash,
    boot: u32,
    channels: Vec<ColumnJson>,
}

#[derive(Serialize, Deserialize)]
struct EventJson {
    #[serde(flatten)]
    at: Instant,
    sensor: Option<String>,
    kind: EventKind,
    detail: String,
}

#[derive(Serialize, Deserialize)]
struct Instant {
    boot: u32,
    /// Whole ns, so that it comes back exactly.
    boot_ns: u64,
    #[serde(default)]
    time: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ClockJson {
    boot: u32,
    boot_ns: u64,
    utc_ns: i64,
    #[serde(default)]
    time: Option<String>,
    uncertainty_ns: u64,
    rate_ppb: i32,
    source: ClockSource,
}

#[derive(Serialize, Deserialize)]
struct LossJson {
    reason: LossReason,
    records: u64,
    samples: u64,
    from: Option<Instant>,
    until: Option<Instant>,
}

impl EntryJson {
    pub(super) fn of<'m>(
        entry: &Entry,
        manifest_of: &impl Fn(ManifestHash) -> Option<&'m Manifest>,
        utc: &impl Fn(u32, u64) -> Option<i64>,
    ) -> Result<Self, BlockError> {
        let instant = |boot, boot_ns| Instant { boot, boot_ns, time: utc(boot, boot_ns).and_then(rfc3339) };
        let mut twin = Self { span: entry.span, samples: None, event: None, clock: None, loss: None };
        match &entry.record {
            Record::Samples(samples) => {
                let manifest = manifest_of(samples.manifest);
                let utc = |t_ns| utc(samples.boot, t_ns);
                let columns = block::decode(&samples.block)?;
                let channels = columns.iter().map(|column| ColumnJson::of(column, manifest, &utc)).collect();
                twin.samples = Some(SamplesJson { manifest: samples.manifest, boot: samples.boot, channels });
            }
            Record::Event(event) => {
                twin.event = Some(EventJson {
                    at: instant(event.boot, event.t_ns),
                    sensor: event.sensor.clone(),
                    kind: event.kind,
                    detail: event.detail.clone(),
                });
            }
            Record::Clock(fix) => {
                twin.clock = Some(ClockJson {
                    boot: fix.boot,
                    boot_ns: fix.boot_ns,
                    utc_ns: fix.utc_ns,
                    time: rfc3339(fix.utc_ns),
                    uncertainty_ns: fix.uncertainty_ns,
                    rate_ppb: fix.rate_ppb,
                    source: fix.source,
                });
            }
            Record::Loss(loss) => {
                twin.loss = Some(LossJson {
                    reason: loss.reason,
                    records: loss.records,
                    samples: loss.samples,
                    from: loss.from.map(|(boot, t_ns)| instant(boot, t_ns)),
                    until: loss.until.map(|(boot, t_ns)| instant(boot, t_ns)),
                });
            }
        }
        Ok(twin)
    }

    pub(super) fn into_entry<'m>(
        self,
        place: usize,
        manifest_of: &impl Fn(ManifestHash) -> Option<&'m Manifest>,
    ) -> Result<Entry, JsonError> {
        let record = match (self.samples, self.event, self.clock, self.loss) {
            (Some(samples), None, None, None) => Record::Samples(samples.into_samples(manifest_of)?),
            (None, Some(event), None, None) => Record::Event(Event {
                boot: event.at.boot,
                t_ns: event.at.boot_ns,
                sensor: event.sensor,
                kind: event.kind,
                detail: record::cut(event.detail),
            }),
            (None, None, Some(fix), None) => Record::Clock(ClockFix {
                boot: fix.boot,
                boot_ns: fix.boot_ns,
                utc_ns: fix.utc_ns,
                uncertainty_ns: fix.uncertainty_ns,
                rate_ppb: fix.rate_ppb,
                source: fix.source,
            }),
            (None, None, None, Some(loss)) => Record::Loss(Loss {
                reason: loss.reason,
                records: loss.records,
                samples: loss.samples,
                from: loss.from.map(|at| (at.boot, at.boot_ns)),
                until: loss.until.map(|at| (at.boot, at.boot_ns)),
            }),
            _ => return Err(JsonError::Entry(place)),
        };
        Ok(Entry { span: self.span, record })
    }
}

impl SamplesJson {
    fn into_samples<'m>(
        self,
        manifest_of: &impl Fn(ManifestHash) -> Option<&'m Manifest>,
    ) -> Result<Samples, JsonError> {
        let manifest = manifest_of(self.manifest);
        let columns = self.channels.into_iter().map(|column| column.into_column(self.manifest, manifest));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let block = match manifest {
            Some(manifest) => block::encode(&columns, manifest),
            None => block::encode(&columns, &()),
        };
        Ok(Samples { manifest: self.manifest, boot: self.boot, block })
    }
}
