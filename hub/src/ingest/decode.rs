//! Payloads become work for the store. Pure but for the channel lists it remembers.

use std::{collections::HashMap, sync::Arc};

use speedwell_wire::{
    Batch, Entry, GatewayId, Live, LogId, Manifest, ManifestHash, Record, Samples, Seq, Status, block, frame, json,
    topic::{self, Kind},
};

use crate::{
    ledger::MAX_SEQ,
    store::{Chunk, Item, MAX_REJECTED_BYTES, Newest, Prepared, PreparedBatch, Rejected, Work},
};

/// Channel lists remembered. A gateway has a handful over its life.
pub const MAX_MANIFESTS: usize = 100_000;
/// Channels of all lists together: some 100 MB. What a gateway invents must not take all memory.
pub const MAX_ALL_CHANNELS: usize = 1_000_000;
/// Channels of one list.
pub const MAX_CHANNELS: usize = 4096;
/// Largest status message: the health of some hundred sensors. It is kept in memory and told to all who watch.
pub const MAX_STATUS: usize = 64 * 1024;
/// Longest name of a sensor, bytes; a gateway allows itself fewer.
pub const MAX_NAME: usize = 128;

/// What a JSON batch says before its entries.
#[derive(serde::Deserialize)]
struct Head {
    gateway: GatewayId,
    log: LogId,
    oldest_seq: Seq,
    first_seq: Seq,
}

/// The channel lists seen.
#[derive(Default)]
pub struct Decoder {
    prefix: String,
    manifests: HashMap<ManifestHash, Arc<Manifest>>,
    /// Of all of them together.
    channels: usize,
}

/// What a message is.
#[derive(Debug)]
pub enum Message {
    /// To be stored; `unknown` names the channel list for want of which a batch was cut short.
    Store {
        /// What.
        work: Work,
        /// See above.
        unknown: Option<ManifestHash>,
    },
    /// To be shown.
    Live(GatewayId, Live, Arc<Manifest>),
    /// To be shown.
    Status(Status),
    /// To be passed over: a live message that cannot be read or whose channel list is not known yet; a retained one
    /// that was cleared.
    Ignore,
}

/// Why a payload cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPayload {
    /// Not a topic of ours.
    #[error("no topic of a gateway")]
    Topic,
    /// No frame.
    #[error("{0}")]
    Frame(#[from] frame::FrameError),
    /// No JSON twin of a batch.
    #[error("{0}")]
    Json(#[from] json::JsonError),
    /// Neither.
    #[error("neither a frame nor UTF-8")]
    Text,
    /// Another gateway's.
    #[error("says it is of gateway {0:?}")]
    Foreign(String),
    /// The sequence numbers cannot be.
    #[error("sequence numbers that cannot be: first {first}, oldest {oldest}")]
    Numbers {
        /// Of the batch.
        first: Seq,
        /// Of the batch.
        oldest: Seq,
    },
    /// The topic names another hash.
    #[error("manifest is {0}, its topic says otherwise")]
    Hash(ManifestHash),
    /// More than [`MAX_CHANNELS`], [`MAX_ALL_CHANNELS`] or [`MAX_MANIFESTS`].
    #[error("more channels or manifests than are allowed")]
    TooMany,
    /// Longer than [`MAX_STATUS`].
    #[error("a status message of {0} bytes, allowed are {MAX_STATUS}")]
    LongStatus(usize),
    /// Longer than [`MAX_NAME`].
    #[error("a sensor's name is longer than {MAX_NAME} bytes")]
    LongName,
}

impl Decoder {
    /// A decoder that knows these lists.
    pub fn new(prefix: &str, known: Vec<Manifest>) -> Self {
        let channels = known.iter().map(|m| m.channels.len()).sum();
        let manifests = known.into_iter().map(|m| (m.hash(), Arc::new(m))).collect();
        Self { prefix: prefix.into(), manifests, channels }
    }

    /// A message, or a payload to set aside. A live message is never stored, so neither is one that cannot be read:
    /// once a second it would push what is worth looking at out of the table. An empty payload is how a retained message
    /// is cleared.
    pub fn read(&mut self, topic: &str, payload: &[u8], received_ns: i64) -> Message {
        let cleared = payload.is_empty();
        self.try_read(topic, payload, received_ns).unwrap_or_else(|why| {
            match topic::parse(&self.prefix, topic) {
                Some((_, Kind::Live)) => return Message::Ignore,
                Some((_, Kind::Status | Kind::Manifest(_))) if cleared => return Message::Ignore,
                _ => {}
            }
            let source = topic.strip_prefix(&self.prefix).unwrap_or(topic).trim_start_matches('/');
            let bytes = payload[..payload.len().min(MAX_REJECTED_BYTES)].to_vec();
            let rejected = Rejected { source: source.into(), received_ns, reason: why.to_string(), bytes };
            Message::Store { work: Work::Rejected(rejected), unknown: None }
        })
    }

    fn try_read(&mut self, topic: &str, payload: &[u8], received_ns: i64) -> Result<Message, BadPayload> {
        let (gateway, kind) = topic::parse(&self.prefix, topic).ok_or(BadPayload::Topic)?;
        match kind {
            Kind::Log => self.batch(&gateway, payload, received_ns),
            Kind::Manifest(hash) => self.manifest(hash, payload),
            Kind::Live => {
                let live: Live = frame::decode_any(payload)?;
                let manifest = self.manifests.get(&live.manifest).cloned();
                Ok(manifest.map_or(Message::Ignore, |manifest| Message::Live(gateway, live, manifest)))
            }
            Kind::Status if payload.len() > MAX_STATUS => Err(BadPayload::LongStatus(payload.len())),
            Kind::Status => {
                let status: Status = frame::decode_any(payload)?;
                let own = status.gateway == gateway;
                own.then_some(Message::Status(status.clone()))
                    .ok_or_else(|| BadPayload::Foreign(status.gateway.to_string()))
            }
            Kind::Confirm | Kind::Command | Kind::Reply => Err(BadPayload::Topic),
        }
    }

    fn manifest(&mut self, hash: ManifestHash, payload: &[u8]) -> Result<Message, BadPayload> {
        let manifest: Manifest = frame::decode_any(payload)?;
        let found = manifest.hash();
        if found != hash {
            return Err(BadPayload::Hash(found));
        }
        let new = if self.manifests.contains_key(&hash) { 0 } else { manifest.channels.len() };
        let full = new > 0 && (self.manifests.len() >= MAX_MANIFESTS || self.channels + new > MAX_ALL_CHANNELS);
        if full || manifest.channels.len() > MAX_CHANNELS {
            return Err(BadPayload::TooMany);
        }
        if manifest.channels.iter().any(|channel| channel.sensor.len() > MAX_NAME) {
            return Err(BadPayload::LongName);
        }
        self.channels += new;
        let manifest = self.manifests.entry(hash).or_insert_with(|| Arc::new(manifest));
        Ok(Message::Store { work: Work::Manifest(manifest.clone()), unknown: None })
    }

    fn batch(&self, gateway: &GatewayId, payload: &[u8], received_ns: i64) -> Result<Message, BadPayload> {
        let (batch, unread) = match frame::is_json(payload) {
            true => self.json_batch(payload)?,
            false => (frame::decode::<Batch>(payload)?, None),
        };
        if batch.gateway != *gateway {
            return Err(BadPayload::Foreign(batch.gateway.to_string()));
        }
        let (first, oldest) = (batch.first_seq, batch.oldest_seq);
        let bad = BadPayload::Numbers { first, oldest };
        let span = batch.entries.iter().try_fold(0u64, |sum, e| sum.checked_add(e.span).filter(|_| e.span > 0));
        let last = span.and_then(|span| first.checked_add(span));
        if first == 0 || oldest > first || last.is_none_or(|last| last > MAX_SEQ) {
            return Err(bad);
        }
        let (entries, unknown) = self.prepare(first, batch.entries);
        let (gateway, log) = (batch.gateway, batch.log);
        let work = PreparedBatch { gateway, log, oldest_seq: oldest, first_seq: first, received_ns, entries };
        Ok(Message::Store { work: Work::Batch(work), unknown: unread.or(unknown) })
    }

    /// The JSON twin of a batch. Its decimal numbers cannot be read without the channel list: when that is not known,
    /// the batch is given without entries, so that the gateway is told where it stands and sends it again.
    fn json_batch(&self, payload: &[u8]) -> Result<(Batch, Option<ManifestHash>), BadPayload> {
        let text = str::from_utf8(payload).map_err(|_| BadPayload::Text)?;
        let known = |hash: ManifestHash| self.manifests.get(&hash).map(|m| &**m);
        match json::batch_from_json(text, known) {
            Ok(batch) => Ok((batch, None)),
            Err(json::JsonError::Manifest(hash)) => {
                let Head { gateway, log, oldest_seq, first_seq } = frame::decode_any(payload)?;
                Ok((Batch { gateway, log, oldest_seq, first_seq, entries: Vec::new() }, Some(hash)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The entries up to the first whose channel list is not known: what follows it could not follow on.
    fn prepare(&self, first: Seq, entries: Vec<Entry>) -> (Vec<Prepared>, Option<ManifestHash>) {
        let mut seq = first;
        let mut prepared = Vec::with_capacity(entries.len());
        for Entry { span, record } in entries {
            let item = match record {
                Record::Event(event) => Item::Event(event),
                Record::Clock(fix) => Item::Clock(fix),
                Record::Loss(loss) => Item::Loss(loss),
                Record::Samples(samples) => match self.manifests.get(&samples.manifest) {
                    Some(manifest) => chunk(samples, manifest),
                    None => return (prepared, Some(samples.manifest)),
                },
            };
            prepared.push(Prepared { seq, span, item });
            seq += span;
        }
        (prepared, None)
    }
}

/// A block that can be read back, or one to set aside: the log has to go on, and the next hub may know better.
fn chunk(samples: Samples, manifest: &Manifest) -> Item {
    let unreadable = |reason: &str, bytes| Item::Unreadable { reason: format!("samples: {reason}"), bytes };
    let columns = match block::decode(&samples.block) {
        Ok(columns) => columns,
        Err(error) => return unreadable(&error.to_string(), samples.block),
    };
    let (mut from, mut until, mut count, mut newest) = (u64::MAX, 0, 0u64, Vec::new());
    for column in &columns {
        let Some(channel) = manifest.channel(column.channel) else {
            return unreadable(&format!("channel {} is not in the manifest", column.channel), samples.block);
        };
        count += column.samples.len() as u64;
        for sample in &column.samples {
            let t = channel.t_ns(sample.tick);
            (from, until) = (from.min(t), until.max(t));
        }
        let last = column.samples.iter().max_by_key(|sample| sample.tick);
        newest.extend(last.map(|sample| Newest {
            sensor: channel.sensor.clone(),
            quantity: channel.quantity,
            t_ns: channel.t_ns(sample.tick),
            value: channel.value(sample.value),
            uncertainty: sample.uncertainty.in_unit(channel.resolution()),
            quality: sample.quality,
        }));
    }
    if from > until || until > i64::MAX as u64 {
        return unreadable("no sample, or a time beyond what a boot can last", samples.block);
    }
    let Samples { manifest, boot, block } = samples;
    let samples = u32::try_from(count).unwrap_or(u32::MAX);
    Item::Chunk(Chunk { manifest, boot, time: from..=until, samples, newest, block })
}
