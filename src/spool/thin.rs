//! Thinning: a sealed generation is written anew with one sample a second of each channel.
//!
//! Every record keeps its number and its manifest, and every sample that stays is one that was measured: nothing is
//! averaged. What went is told by a loss in the generation itself, so that it is told exactly when it is true, whatever
//! a power cut does. The loss needs a number: the last two neighbouring samples records that fit one record become one,
//! under the first of their numbers, and the loss takes the second. Of a generation without such a pair nothing goes.
//!
//! Thinning what was thinned changes nothing: no second of a channel has two samples left.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use speedwell_wire::{LossReason, Manifest, ManifestHash, Record, Samples, Seq, block, record};

use super::{
    chunk::MAX_RECORD,
    disk::DiskError,
    files,
    flat::FlatWriter,
    generation::{FLAT, Generation, SALVAGED, Summary},
    home::Home,
    tally::Tally,
};

/// A file that says that the generation was thinned.
pub(super) const THINNED: &str = "thinned";
/// Of each channel one sample stays in so much time.
const KEEP_EVERY_NS: u64 = 1_000_000_000;

/// What thinning did.
pub(super) struct Thinned {
    /// Samples that went.
    pub(super) gone: u64,
    /// What the generation holds now.
    pub(super) tally: Option<Tally>,
}

impl Generation {
    /// Whether the generation that begins with `first` was thinned.
    pub(super) fn is_thinned(home: &Home, first: Seq) -> bool {
        home.generation(first).join(THINNED).exists()
    }

    /// Thins the records from `from` on in a sealed generation that ends with `last`, and closes it. `None` where
    /// nothing can go.
    pub(super) fn thin(
        self,
        from: Seq,
        last: Seq,
        manifests: &BTreeMap<ManifestHash, Manifest>,
    ) -> Result<Option<Thinned>, DiskError> {
        let mut plan = Plan::default();
        let mut thinner = Thinner::new(from, manifests);
        self.each_chunk(self.first, |chunk, _| {
            for (seq, bytes) in (chunk.first..).zip(chunk.records()) {
                plan.see(seq, thinner.thin(seq, bytes));
            }
        })?;
        let Some(pair) = plan.pair.filter(|_| thinner.gone.samples > 0) else { return Ok(None) };
        let loss = thinner.gone.loss_without_numbers(LossReason::Thinned);
        let new = self.path.with_extension("new");
        let written = self.write_thinned(&new, Thinner::new(from, manifests), &pair, &record::encode(&loss), last);
        let path = self.path.clone();
        self.shut();
        let tally = written.inspect_err(|_| drop(fs::remove_dir_all(&new)))?;
        files::replace_dir(&path, &new)?;
        Ok(Some(Thinned { gone: thinner.gone.samples, tally: Some(tally) }))
    }

    fn write_thinned(
        &self,
        new: &Path,
        mut thinner: Thinner<'_>,
        pair: &Pair,
        loss: &[u8],
        last: Seq,
    ) -> Result<Tally, DiskError> {
        if new.exists() {
            fs::remove_dir_all(new)?;
        }
        fs::create_dir(new)?;
        let mut writer = FlatWriter::create(&new.join(FLAT))?;
        let (mut wrote, mut tally) = (Ok(()), Tally::default());
        self.each_chunk(self.first, |chunk, _| {
            for (seq, bytes) in (chunk.first..).zip(chunk.records()) {
                let thinned = thinner.thin(seq, bytes).map(|samples| record::encode(&Record::Samples(samples)));
                let bytes = match thinned.as_deref() {
                    _ if seq == pair.first => &pair.merged,
                    _ if seq == pair.first + 1 => loss,
                    Some(thinned) => thinned,
                    None => bytes,
                };
                if let Ok(record) = record::decode(bytes) {
                    tally.count(&record, thinner.manifests);
                }
                if wrote.is_ok() {
                    wrote = writer.take_record(seq, chunk.epoch, bytes);
                }
            }
        })?;
        wrote?;
        writer.finish()?;
        Summary { last, tally: Some(tally.clone()) }.write(new)?;
        if self.path.join(SALVAGED).exists() {
            fs::copy(self.path.join(SALVAGED), new.join(SALVAGED))?;
        }
        files::write_whole(&new.join(THINNED), b"one sample a second of each channel")?;
        Ok(tally)
    }
}

/// Thins records one after the other.
struct Thinner<'m> {
    from: Seq,
    manifests: &'m BTreeMap<ManifestHash, Manifest>,
    /// The last second of which a sample of the channel was kept.
    kept: HashMap<(ManifestHash, u32, u16), u64>,
    /// What went.
    gone: Tally,
}

impl<'m> Thinner<'m> {
    fn new(from: Seq, manifests: &'m BTreeMap<ManifestHash, Manifest>) -> Self {
        Self { from, manifests, kept: HashMap::new(), gone: Tally::default() }
    }

    /// The samples that stay of a record. `None` for a record that stays as it is: no samples, confirmed already, or
    /// not to be read.
    fn thin(&mut self, seq: Seq, bytes: &[u8]) -> Option<Samples> {
        if seq < self.from {
            return None;
        }
        let Ok(Record::Samples(samples)) = record::decode(bytes) else { return None };
        let manifest = self.manifests.get(&samples.manifest)?;
        let mut columns = block::decode(&samples.block).ok()?;
        if columns.iter().any(|column| manifest.channel(column.channel).is_none()) {
            return None;
        }
        for column in &mut columns {
            let Some(channel) = manifest.channel(column.channel) else { continue };
            let last = self.kept.entry((samples.manifest, samples.boot, column.channel)).or_insert(u64::MAX);
            column.samples.retain(|sample| {
                let t_ns = channel.t_ns(sample.tick);
                let second = t_ns / KEEP_EVERY_NS;
                let keeps = std::mem::replace(last, second) != second;
                if !keeps {
                    self.gone.samples += 1;
                    self.gone.cover((samples.boot, t_ns), (samples.boot, t_ns));
                }
                keeps
            });
        }
        let block = block::encode(&columns, manifest);
        Some(Samples { block, ..samples })
    }
}

/// Two records that become one.
struct Pair {
    first: Seq,
    merged: Vec<u8>,
}

/// Looks for the pair that makes room for the loss.
#[derive(Default)]
struct Plan {
    before: Option<(Seq, Samples)>,
    pair: Option<Pair>,
}

impl Plan {
    fn see(&mut self, seq: Seq, samples: Option<Samples>) {
        let before = self.before.take();
        if let (Some((first, one)), Some(two)) = (&before, &samples)
            && first + 1 == seq
            && let Ok(merged) = block::merge(&[one, two])
        {
            let merged = record::encode(&Record::Samples(merged));
            if merged.len() <= MAX_RECORD {
                self.pair = Some(Pair { first: *first, merged });
            }
        }
        self.before = samples.map(|samples| (seq, samples));
    }
}
