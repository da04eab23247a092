//! Counts what a loss record must be able to tell: records, samples, and the time they cover.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use speedwell_wire::{Loss, LossReason, Manifest, ManifestHash, Record, Samples, block};

/// What some records hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) samples: u64,
    pub(super) from: Option<(u32, u64)>,
    pub(super) until: Option<(u32, u64)>,
}

impl Tally {
    /// Counts one record in.
    pub(super) fn count(&mut self, record: &Record, manifests: &BTreeMap<ManifestHash, Manifest>) {
        self.records += 1;
        match record {
            Record::Samples(samples) => self.count_samples(samples, manifests.get(&samples.manifest)),
            Record::Event(event) => self.cover((event.boot, event.t_ns), (event.boot, event.t_ns)),
            Record::Clock(fix) => self.cover((fix.boot, fix.boot_ns), (fix.boot, fix.boot_ns)),
            Record::Loss(loss) => {
                self.samples = self.samples.saturating_add(loss.samples);
                if let (Some(from), Some(until)) = (loss.from, loss.until) {
                    self.cover(from, until);
                }
            }
        }
    }

    /// Counts in what another tally counted.
    pub(super) fn add(&mut self, other: &Tally) {
        self.records = self.records.saturating_add(other.records);
        self.samples = self.samples.saturating_add(other.samples);
        if let (Some(from), Some(until)) = (other.from, other.until) {
            self.cover(from, until);
        }
    }

    /// A block that cannot be decoded counts as a record without samples; one whose manifest is not kept, without times.
    fn count_samples(&mut self, samples: &Samples, manifest: Option<&Manifest>) {
        let Ok(columns) = block::decode(&samples.block) else { return };
        for column in &columns {
            self.samples += column.samples.len() as u64;
            let Some(channel) = manifest.and_then(|manifest| manifest.channel(column.channel)) else { continue };
            if let (Some(first), Some(last)) = (column.samples.first(), column.samples.last()) {
                self.cover((samples.boot, channel.t_ns(first.tick)), (samples.boot, channel.t_ns(last.tick)));
            }
        }
    }

    pub(super) fn cover(&mut self, from: (u32, u64), until: (u32, u64)) {
        self.from = Some(self.from.map_or(from, |known| known.min(from)));
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
    }

    /// What `records` of these hold, in proportion: which samples were in which record is gone with the data.
    pub(super) fn part(&self, records: u64) -> Tally {
        let part = u128::from(self.samples) * u128::from(records) / u128::from(self.records.max(1));
        let samples = if records >= self.records { self.samples } else { u64::try_from(part).unwrap_or(u64::MAX) };
        Tally { records, samples, from: self.from, until: self.until }
    }

    /// The loss record that stands in the place of `records` of these.
    pub(super) fn loss(&self, reason: LossReason, records: u64) -> Record {
        let Tally { records, samples, from, until } = self.part(records);
        Record::Loss(Loss { reason, records, samples, from, until })
    }

    /// The loss record for what followed on these, and for these.
    pub(super) fn loss_from_here_on(&self, reason: LossReason) -> Record {
        let Tally { samples, from, .. } = *self;
        Record::Loss(Loss { reason, records: 0, samples, from, until: None })
    }

    /// The loss record for samples that went without their numbers going with them.
    pub(super) fn loss_without_numbers(&self, reason: LossReason) -> Record {
        let Tally { samples, from, until, .. } = *self;
        Record::Loss(Loss { reason, records: 0, samples, from, until })
    }
}
