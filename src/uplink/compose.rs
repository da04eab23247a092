//! Records become batches.
//!
//! In postcard the records' own bytes are taken as they are. While far behind, runs of samples records are merged into
//! wider blocks first: the columns compress better, and there is less around them. A record that fits no packet is
//! replaced by a loss that stands for the same numbers, so that it holds up nothing behind it.

use std::collections::BTreeMap;

use speedwell_wire::{
    Batch, Entry, GatewayId, Live, LogId, Loss, LossReason, Manifest, ManifestHash, Record, Samples, Seq, block,
    frame::{self, BatchBuilder},
    json, record,
};

use super::{Encoding, Options, Stored, UtcOf, session::Sent};

/// Samples records that are merged into one: about as many seconds.
const MERGE: usize = 10;

/// From so many records behind, runs are merged: a minute, so that a reconnect after a tunnel is no backlog.
pub const MERGE_BEHIND: u64 = 60;

/// Version, CRC-32C and room for the count of entries to grow.
const FRAME_SLACK: usize = 16;

/// Where a batch comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The log.
    pub log: LogId,
    /// Its oldest record still kept.
    pub oldest: Seq,
    /// The first record wanted.
    pub from: Seq,
    /// Whether to merge runs of samples.
    pub merge: bool,
}

/// A batch ready to go.
#[derive(Clone, Debug)]
pub struct Composed {
    /// The bytes.
    pub payload: Vec<u8>,
    /// What they stand for.
    pub sent: Sent,
    /// First and last number of each entry that fits no packet or cannot be told: a loss stands in for it.
    pub set_aside: Vec<(Seq, Seq)>,
}

/// Makes batches.
pub struct Composer {
    gateway: GatewayId,
    encoding: Encoding,
    /// What the options allow, and what the broker of this connection does.
    max_packet: usize,
    max_payload: usize,
    utc: UtcOf,
}

/// An entry on its way into a batch.
#[derive(Clone, Debug)]
struct Piece {
    first: Seq,
    span: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn next(&self) -> Seq {
        self.first.saturating_add(self.span)
    }
}

/// The manifest that an encoded record is read with, if it is samples. The variant's number and the hash are the first
/// that postcard writes; a full decode would copy the block.
pub fn manifest_of(record: &[u8]) -> Option<ManifestHash> {
    let ((variant, hash), _) = postcard::take_from_bytes::<(u32, ManifestHash)>(record).ok()?;
    (variant == 0).then_some(hash)
}

impl Composer {
    /// A composer for the gateway and encoding of `options`.
    pub fn new(options: &Options, utc: UtcOf) -> Self {
        let (gateway, encoding) = (options.gateway.clone(), options.encoding);
        Self { gateway, encoding, max_packet: options.max_packet, max_payload: options.max_packet, utc }
    }

    /// Makes no larger batches than this from now on, where the broker has told its limit.
    pub fn limit(&mut self, max_payload: Option<usize>) {
        self.max_payload = max_payload.map_or(self.max_packet, |limit| limit.min(self.max_packet));
    }

    /// The bytes of any small message in the gateway's encoding.
    pub fn message<T: serde::Serialize>(&self, message: &T) -> Vec<u8> {
        match self.encoding {
            Encoding::Postcard => frame::encode(message),
            // Serialising our own plain structs into memory cannot fail; an empty message is dropped by any receiver.
            Encoding::Json => serde_json::to_vec(message).unwrap_or_default(),
        }
    }

    /// Live values in the gateway's encoding. JSON names sensors and units as far as their manifest is known.
    pub fn live(&self, live: &Live, manifest: impl Fn(ManifestHash) -> Option<Manifest>) -> Vec<u8> {
        match self.encoding {
            Encoding::Postcard => frame::encode(live),
            Encoding::Json => {
                json::live_to_json(live, manifest(live.manifest).as_ref()).unwrap_or_default().into_bytes()
            }
        }
    }

    /// Puts together as many of `stored` as fit one packet, at least one. `None` when nothing of it is wanted.
    pub fn compose(
        &self,
        origin: Origin,
        stored: Vec<Stored>,
        manifest: impl Fn(ManifestHash) -> Option<Manifest>,
    ) -> Option<Composed> {
        let mut pieces = wanted(stored, origin.from);
        let manifests = manifests(&pieces, manifest);
        if origin.merge && self.encoding == Encoding::Postcard {
            pieces = merge(pieces, self.max_payload / 2);
        }
        let mut set_aside = Vec::new();
        let mut count = pieces.len();
        while count > 0 {
            let why = match self.fit(origin, &pieces[..count], &manifests) {
                Ok((payload, taken)) => return Some(composed(payload, &pieces[..taken], set_aside)),
                Err(why) => why,
            };
            if count > 1 {
                count /= 2;
            } else if set_aside.is_empty() {
                set_aside.push((pieces[0].first, pieces[0].next() - 1));
                pieces[0].bytes = record::encode(&stand_in(why, &pieces[0], &manifests));
            } else {
                tracing::warn!(first = pieces[0].first, "not even a loss fits a packet: raise broker.max-packet");
                return None;
            }
        }
        None
    }

    /// The batch of `pieces` if it fits a packet, and how many of them are in it.
    fn fit(&self, origin: Origin, pieces: &[Piece], manifests: &Manifests) -> Result<(Vec<u8>, usize), LossReason> {
        let taken = match self.encoding {
            Encoding::Postcard => self.taken(pieces),
            Encoding::Json => pieces.len(),
        };
        let payload = self.encode(origin, &pieces[..taken], manifests)?;
        if payload.len() > self.max_payload {
            return Err(LossReason::TooLarge);
        }
        Ok((payload, taken))
    }

    /// How many pieces a frame has room for, at least one.
    fn taken(&self, pieces: &[Piece]) -> usize {
        let head = GatewayId::MAX_LEN + 4 * 10 + FRAME_SLACK;
        let sizes = pieces.iter().scan(head, |sum, piece| {
            // The span in front of the record takes at most 10 bytes.
            *sum += piece.bytes.len() + 10;
            Some(*sum)
        });
        sizes.take_while(|sum| *sum <= self.max_payload).count().max(1)
    }

    fn encode(&self, origin: Origin, pieces: &[Piece], manifests: &Manifests) -> Result<Vec<u8>, LossReason> {
        let first = pieces.first().map_or(origin.from, |p| p.first);
        if self.encoding == Encoding::Postcard {
            let mut builder = BatchBuilder::new(&self.gateway, origin.log, origin.oldest, first);
            for piece in pieces {
                builder.push_encoded(piece.span, &piece.bytes);
            }
            return Ok(builder.finish());
        }
        let entries = pieces.iter().map(|p| Entry { span: p.span, record: decoded(p) }).collect();
        let (gateway, log, oldest_seq) = (self.gateway.clone(), origin.log, origin.oldest);
        let batch = Batch { gateway, log, oldest_seq, first_seq: first, entries };
        let text = json::batch_to_json(&batch, |hash| manifests.get(&hash), |boot, t_ns| (self.utc)(boot, t_ns));
        text.map(String::into_bytes).map_err(|cause| {
            tracing::warn!(first, records = pieces.len(), %cause, "records cannot be told in JSON");
            LossReason::Damaged
        })
    }
}

/// The manifests of the records at hand.
type Manifests = BTreeMap<ManifestHash, Manifest>;

fn composed(payload: Vec<u8>, pieces: &[Piece], set_aside: Vec<(Seq, Seq)>) -> Composed {
    let first = pieces.first().map_or(0, |p| p.first);
    let next = pieces.last().map_or(first, Piece::next);
    let whole = pieces.iter().filter(|p| p.span > 1).map(|p| (p.first, p.next())).collect();
    Composed { sent: Sent { first, next, bytes: payload.len(), whole }, payload, set_aside }
}

/// What of `stored` lies at or after `from`. An entry that begins before is cut: only losses span several numbers, and
/// a part of a loss is a loss.
fn wanted(stored: Vec<Stored>, from: Seq) -> Vec<Piece> {
    let pieces = stored.into_iter().map(|s| Piece { first: s.first, span: s.span.max(1), bytes: s.bytes });
    let kept = pieces.filter(|piece| piece.next() > from);
    kept.map(|piece| {
        let first = piece.first.max(from);
        Piece { first, span: piece.next() - first, bytes: piece.bytes }
    })
    .collect()
}

/// A record that does not decode would make the whole batch unreadable; it is told as damaged.
fn decoded(piece: &Piece) -> Record {
    record::decode(&piece.bytes).unwrap_or_else(|_| Record::Loss(loss(LossReason::Damaged, piece.span)))
}

fn manifests(pieces: &[Piece], manifest: impl Fn(ManifestHash) -> Option<Manifest>) -> Manifests {
    let mut known = BTreeMap::new();
    for hash in pieces.iter().filter_map(|p| manifest_of(&p.bytes)) {
        if let (false, Some(found)) = (known.contains_key(&hash), manifest(hash)) {
            known.insert(hash, found);
        }
    }
    known
}

/// Merges runs of samples of the same manifest and boot, as long as their bytes together stay below `most`.
fn merge(pieces: Vec<Piece>, most: usize) -> Vec<Piece> {
    let mut out = Vec::with_capacity(pieces.len());
    let mut run: Vec<(Piece, Samples)> = Vec::new();
    for piece in pieces {
        let samples = match record::decode(&piece.bytes) {
            Ok(Record::Samples(samples)) if piece.span == 1 => Some(samples),
            _ => None,
        };
        let bytes: usize = run.iter().map(|(p, _)| p.bytes.len()).sum();
        let joins = run
            .last()
            .zip(samples.as_ref())
            .is_some_and(|((last, a), b)| last.next() == piece.first && a.manifest == b.manifest && a.boot == b.boot);
        if !joins || run.len() >= MERGE || bytes + piece.bytes.len() > most {
            close(&mut run, &mut out);
        }
        match samples {
            Some(samples) => run.push((piece, samples)),
            None => out.push(piece),
        }
    }
    close(&mut run, &mut out);
    out
}

/// Ends a run: one piece if its blocks can be merged, its pieces as they were otherwise.
fn close(run: &mut Vec<(Piece, Samples)>, out: &mut Vec<Piece>) {
    let merged = (run.len() > 1).then(|| block::merge(&run.iter().map(|(_, s)| s).collect::<Vec<_>>()));
    match merged {
        Some(Ok(samples)) => {
            let (first, span) = (run[0].0.first, run.iter().map(|(p, _)| p.span).sum());
            out.push(Piece { first, span, bytes: record::encode(&Record::Samples(samples)) });
            run.clear();
        }
        _ => out.extend(run.drain(..).map(|(piece, _)| piece)),
    }
}

fn loss(reason: LossReason, records: u64) -> Loss {
    Loss { reason, records, samples: 0, from: None, until: None }
}

/// The loss that stands in for a record: its samples counted and timed as far as it can be read.
fn stand_in(why: LossReason, piece: &Piece, manifests: &Manifests) -> Record {
    let mut loss = loss(why, piece.span);
    let Ok(Record::Samples(samples)) = record::decode(&piece.bytes) else { return Record::Loss(loss) };
    let Ok(columns) = block::decode(&samples.block) else { return Record::Loss(loss) };
    let tick_ns = |channel: u16| {
        let manifest = manifests.get(&samples.manifest)?;
        manifest.channels.iter().find(|c| c.id == channel).map(|c| u64::from(c.tick_ns))
    };
    let times = columns.iter().flat_map(|column| {
        let tick_ns = tick_ns(column.channel);
        column.samples.iter().filter_map(move |sample| sample.tick.checked_mul(tick_ns?))
    });
    let (first, last) = times.fold((u64::MAX, 0), |(lo, hi), t| (lo.min(t), hi.max(t)));
    loss.samples = columns.iter().map(|column| column.samples.len() as u64).sum();
    if first <= last {
        (loss.from, loss.until) = (Some((samples.boot, first)), Some((samples.boot, last)));
    }
    Record::Loss(loss)
}
